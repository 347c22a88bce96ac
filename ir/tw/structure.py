"""Regions and functions: what they give."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import irdl_op_definition, prop_def, region_def, traits_def, var_operand_def, var_result_def
from xdsl.traits import IsTerminator, Pure

from ..types import TensorType
from .base import TwOp, require


@irdl_op_definition
class YieldOp(TwOp):
    """`tw.yield %a, %b : A, B`: what a fused region gives."""

    name = "tw.yield"
    args = var_operand_def(TensorType)
    traits = traits_def(IsTerminator())
    assembly_format = "($args^ `:` type($args))? attr-dict"


@irdl_op_definition
class FusedOp(TwOp):
    """`%r = tw.fused {kind, numerics} : T { ... tw.yield }`: what will run as one kernel. Uses outer values directly.

    Inside, intermediate halves may stay in f32 (`numerics = "widens"`).
    """

    name = "tw.fused"
    kind = prop_def(StringAttr)
    numerics = prop_def(StringAttr)
    outputs = var_result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($outputs) $body"

    @staticmethod
    def make(kind: str, numerics: str, body: Block, result_types: Sequence[Attribute]) -> FusedOp:
        return FusedOp.create(
            properties={"kind": StringAttr(kind), "numerics": StringAttr(numerics)},
            result_types=result_types,
            regions=[Region(body)],
        )

    @property
    def terminator(self) -> YieldOp:
        last = self.body.block.last_op
        assert isinstance(last, YieldOp)
        return last

    def inputs(self) -> list[SSAValue]:
        """The outer values used inside, each once, in order of first use."""
        inside: set[SSAValue] = set()
        found: dict[SSAValue, None] = {}
        for op in self.body.block.ops:
            inside.update(op.results)
            for operand in op.operands:
                if operand not in inside:
                    found[operand] = None
        return list(found)

    def verify_(self) -> None:
        last = self.body.block.last_op
        require(isinstance(last, YieldOp), "a fused region ends in tw.yield")
        assert last is not None
        require(
            [o.type for o in last.operands] == [r.type for r in self.outputs], "tw.yield and the results differ"
        )


@irdl_op_definition
class ReturnOp(TwOp):
    """`tw.return %a, %b : A, B`: what a function gives."""

    name = "tw.return"
    args = var_operand_def(TensorType)
    traits = traits_def(IsTerminator())
    assembly_format = "($args^ `:` type($args))? attr-dict"
