"""Products of blocks: the one op of `tile` whose operands are more than an element."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import BoolAttr
from xdsl.ir import BlockArgument, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from ..dtypes import compute_dtype
from ..expr import IntExpr
from ..types import DimsAttr, RefType, dims_text
from .base import TileOp, parse_dims, parse_value, value_dtype


@irdl_op_definition
class DotOp(TileOp):
    """`tile.dot %c[off] strides [ldc] += %a[off] strides [am, ak] x %b[off] strides [bk, bn] in [M, N, K]`.

    The ``[M, N]`` block of scratch at `c`, whose rows lie `ldc` apart and have room for whole vectors, becomes
    (``=``), or gains (``+=``), the product of the blocks ``[M, K]`` at `a` and ``[K, N]`` at `b`. Products are added up
    in `c`'s dtype, in any order; halves are widened.
    """

    name = "tile.dot"
    c = operand_def(RefType)
    a = operand_def(RefType)
    b = operand_def(RefType)
    offsets = prop_def(DimsAttr)
    strides = prop_def(DimsAttr)
    shape = prop_def(DimsAttr)
    accumulate = prop_def(BoolAttr)

    @staticmethod
    def make(
        c: SSAValue, a: SSAValue, b: SSAValue, offsets: Sequence[IntExpr], strides: Sequence[IntExpr],
        shape: Sequence[IntExpr], accumulate: bool,
    ) -> DotOp:
        """`offsets` are those of c, a and b; `strides` are c's, a's two, and b's two; `shape` is M, N, K."""
        return DotOp.create(operands=[c, a, b], properties={
            "offsets": DimsAttr(offsets), "strides": DimsAttr(strides), "shape": DimsAttr(shape),
            "accumulate": BoolAttr.from_bool(accumulate),
        })

    @property
    def adds(self) -> bool:
        return bool(self.accumulate.value.data)

    def print(self, printer: Printer) -> None:
        strides = self.strides.data
        between = (" += " if self.adds else " = ", " x ", "")
        for ref, offset, steps, text in zip(
            self.operands, self.offsets.data, (strides[:1], strides[1:3], strides[3:]), between
        ):
            printer.print_string(" " if ref is self.operands[0] else "")
            printer.print_ssa_value(ref)
            printer.print_string(f"{dims_text([offset])} strides {dims_text(steps)}{text}")
        printer.print_string(f" in {dims_text(self.shape.data)}")

    @classmethod
    def parse(cls, parser: Parser) -> DotOp:
        refs: list[SSAValue] = []
        offsets: list[IntExpr] = []
        strides: list[IntExpr] = []
        accumulate = False
        for position in range(3):
            refs.append(parse_value(parser))
            offsets += parse_dims(parser).data
            parser.parse_keyword("strides")
            strides += parse_dims(parser).data
            if position == 0:
                accumulate = parser.parse_optional_punctuation("+") is not None
                parser.parse_punctuation("=")
            elif position == 1:
                parser.parse_keyword("x")
        parser.parse_keyword("in")
        c, a, b = refs
        return cls.make(c, a, b, offsets, strides, parse_dims(parser).data, accumulate)

    def verify_(self) -> None:
        if (len(self.offsets.data), len(self.strides.data), len(self.shape.data)) != (3, 5, 3):
            raise VerifyException("a dot has three offsets, five strides and three sizes")
        c = value_dtype(self.c)
        if isinstance(self.c, BlockArgument) or compute_dtype(c) != c:
            raise VerifyException("a dot writes to scratch of a dtype that is computed in")
        if any(compute_dtype(value_dtype(x)) != c for x in (self.a, self.b)):
            raise VerifyException("the operands of a dot differ in the dtype they are computed in")
