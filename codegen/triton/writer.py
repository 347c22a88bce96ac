"""What the Triton printer writes with: lines, names, and over which blocks each value varies."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Sequence

from xdsl.ir import Operation, SSAValue

from tilewright.ir.errors import UnsupportedTargetError
from tilewright.ir.expr import IntExpr, Ranges, free_symbols
from tilewright.ir.tile import (
    AllocOp,
    ForOp,
    IndexOp,
    KernelOp,
    ReduceOp,
    YieldOp,
    index_expressions,
)

from ..writer import KernelWriter, by_sign, signed_terms
from .expressions import SAFE, TritonExpressions, largest
from .functions import constant_text

RESERVED = frozenset([*keyword.kwlist, "tl", "tw", "triton", "libdevice", "range", "float", "program", "failed_ptr"])

Dims = frozenset[int]
SCALAR: Dims = frozenset()


class Writer(KernelWriter):
    """Lines of one kernel. Each loop with a knob is a dim of its blocks: a value that varies over some of them is a
    block with as many dims as the kernel has, those that it does not vary over of size 1; one that varies over none is
    a scalar.
    """

    indent, comment, reserved = "    ", "#", RESERVED
    constant_text = constant_text

    def __init__(self, kernel: KernelOp):
        super().__init__(kernel, taken=[*kernel.knobs, kernel.sym_name.data])
        self.knob_of_dim: dict[int, str] = {}
        self.dims_of_name: dict[str, Dims] = {}  # of axes and computed positions
        self.varies: dict[SSAValue, Dims] = {}
        self._find_dims(kernel.body.block.ops, 0)
        self.rank = len(self.knob_of_dim)
        self.masks: dict[int, str] = {}  # by dim: what tells the elements that exist, where not all do
        self.wide = self._wide_names()  # axes of which int32 is too narrow

    # -- what is known before printing

    def _find_dims(self, ops: Iterable[Operation], depth: int) -> None:
        for op in ops:
            if isinstance(op, ForOp):
                blocked = op.knob is not None
                if op.knob is not None:
                    known = self.knob_of_dim.setdefault(depth, op.knob.data)
                    if known != op.knob.data:
                        raise UnsupportedTargetError(f"blocks of {known} and of {op.knob.data} in one place")
                own = frozenset([depth]) if blocked else SCALAR
                self.dims_of_name[op.axis.data] = own
                self._find_dims(op.body.block.ops, depth + blocked)
                for output, value in zip(op.outputs, op.yielded):
                    self.varies[output] = self.varies[value] - own
            elif isinstance(op, AllocOp):
                raise UnsupportedTargetError("scratch memory")
            elif not isinstance(op, YieldOp):
                dims = self.dims_of(*index_expressions(op))
                for operand in op.operands:
                    dims |= self.varies.get(operand, SCALAR)
                if isinstance(op, ReduceOp):
                    dims -= frozenset().union(*(self.dims_of_name[axis] for axis in op.axis_names))
                if isinstance(op, IndexOp):
                    self.dims_of_name[op.label.data] = dims
                for result in op.results:
                    self.varies[result] = dims

    def _wide_names(self) -> set[str]:
        """The axes whose positions int32 does not hold. Sizes are int64, and so is what is computed with them."""
        bounds: dict[str, int | None] = {}
        for op in self.kernel.body.walk():
            if isinstance(op, (ForOp, IndexOp)):
                extent = op.extent.data[0]
                name = op.axis if isinstance(op, ForOp) else op.label
                bounds[name.data] = extent if isinstance(extent, int) else None
        wide = {name for name, bound in bounds.items() if bound is None or bound >= SAFE}
        for op in self.kernel.body.walk():
            for expr in index_expressions(op):
                terms = [(term, largest(term, bounds)) for term, _ in signed_terms(expr)]
                known = [(term, bound) for term, bound in terms if bound is not None]
                if sum(bound for _, bound in known) >= SAFE:
                    wide.update(*(free_symbols(term) for term, _ in known))
        return wide

    def dims_of(self, *exprs: IntExpr) -> Dims:
        names = {name for expr in exprs for name in free_symbols(expr)}
        return frozenset().union(*(self.dims_of_name.get(name, SCALAR) for name in names))

    # -- texts

    def declare(self, value: SSAValue, expression: str) -> None:
        name = self.new_name(value)
        self.emit(f"{name} = {expression}")
        self.texts[value] = name

    def index(self, expr: IntExpr) -> str:
        return TritonExpressions(Ranges(self.extents), self.symbols).text(expr, 0)

    def conditions(self, exprs: Sequence[IntExpr]) -> str:
        """That all of `exprs` are >= 0."""
        texts = [self.condition(e) for e in exprs]
        return texts[0] if len(texts) == 1 else " & ".join(f"({text})" for text in texts)

    def condition(self, expr: IntExpr) -> str:
        """That `expr` is >= 0; `i < 6` reads better than `5 - i >= 0`."""
        positive, negative = by_sign(expr)
        if not isinstance(negative, int):
            return f"{self.index(negative)} < {self.index(positive + 1)}"
        return f"{self.index(positive)} >= {negative}"

    def shape(self, dims: Dims) -> str:
        """The shape of blocks that vary over `dims`."""
        parts = [self.knob_of_dim[d] if d in dims else "1" for d in range(self.rank)]
        return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"

    def placed(self, dim: int) -> str:
        """The subscript that gives a row of numbers its dim among the kernel's."""
        if self.rank == 1:
            return ""
        return f"[{', '.join(':' if d == dim else 'None' for d in range(self.rank))}]"

    def mask(self, dims: Dims, conditions: Sequence[str] = ()) -> str:
        """What tells the elements of a block that exist and meet the conditions; empty where all do."""
        return " & ".join([*(self.masks[d] for d in sorted(dims & self.masks.keys())), *conditions])
