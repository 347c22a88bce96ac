"""Divide by the sum of a softmax once a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import OpResult, SSAValue

from tilewright.ir import tw

from .base import Pass, PassContext, register


@register
@dataclass(frozen=True)
class SoftmaxDivision(Pass):
    """Turn quotients by the sum of a softmax into products with its reciprocal.

    Before::

        %e = tw.map "exp" (x - max x)        %t = tw.reduce "sum" %e        %y = tw.map "div" %e, %t

    after::

        %r = tw.map "reciprocal" %t          %y = tw.map "mul" %e, %r

    A division takes as long as a dozen products, and for rows in cache it is most of a softmax. The sum lies between 1
    and the length of a row, or is NaN, so its reciprocal neither overflows nor vanishes; a result is rounded once more.
    Halves are left alone: the reciprocal would be rounded to a half.
    """

    name: ClassVar[str] = "softmax-division"
    numerics: ClassVar[str] = "reassociates"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        changed = 0
        functions = [op for op in module.body.block.ops if isinstance(op, FuncOp)]
        for op in [op for function in functions for op in function.body.block.ops]:
            if not isinstance(op, tw.MapOp) or op.fn.data != "div" or not _is_softmax_sum(op.args[1]):
                continue
            reciprocal = tw.MapOp.make("reciprocal", [op.args[1]])
            product = tw.MapOp.make("mul", [op.args[0], reciprocal.result])
            block = op.parent_block()
            assert block is not None
            for new in (reciprocal, product):
                new.location = op.location
                block.insert_op_before(new, op)
            product.result.name_hint = op.result.name_hint
            op.result.replace_all_uses_with(product.result)
            op.detach()
            op.erase()
            changed += 1
        context.statistics[self.name] = {"changed": changed}


def _is_softmax_sum(value: SSAValue) -> bool:
    """Whether `value` sums ``exp(x - max x)`` along the dims of the maximum, which makes one of the terms 1."""
    match value.owner:
        case tw.ReduceOp(fn=StringAttr(data="sum"), source=OpResult(op=tw.MapOp(fn=StringAttr(data="exp")) as powers)):
            pass
        case _:
            return False
    shifted = powers.args[0].owner
    if not isinstance(shifted, tw.MapOp) or shifted.fn.data != "sub":
        return False
    x, top = shifted.args[0], shifted.args[1].owner
    return (
        isinstance(top, tw.ReduceOp) and top.fn.data == "max" and top.source is x and top.dims == value.owner.dims
        and tw.tensor_type(value).dtype in ("f32", "f64")
    )
