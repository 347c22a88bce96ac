"""Take the bias out of a matrix product where the next kernel adds it for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw

from .base import Pass, PassContext, register
from .fusion_graph import COMPUTE_OPS, PLAIN_VIEWS


@register
@dataclass(frozen=True)
class SplitBias(Pass):
    """Turn a product with bias into a product and an addition, where only kernels of ours read the result.

    Before::

        %y = tw.matmul %a, %b, %bias : ...        %z = tw.map "tanh" %y : ...

    after::

        %p = tw.matmul %a, %b : ...    %y = tw.map "add" %p, %bias : ...    %z = tw.map "tanh" %y : ...

    The library would write the bias to memory and read it back; a kernel that reads the product anyway adds it in a
    register. Only in f32 and f64: a half would be rounded twice.
    """

    name: ClassVar[str] = "split-bias"
    numerics: ClassVar[str] = "reassociates"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        split = 0
        for op in list(module.walk()):
            if not isinstance(op, tw.MatmulOp) or op.bias is None:
                continue
            if tw.tensor_type(op.result).dtype not in ("f32", "f64") or not _read_by_kernels(op.result):
                continue
            product = tw.MatmulOp.make(op.args[0], op.args[1])
            added = tw.MapOp.make("add", [product.result, op.bias])
            block = op.parent_block()
            assert block is not None
            for new in (product, added):
                new.location = op.location
                new.results[0].name_hint = op.result.name_hint
                block.insert_op_before(new, op)
            op.result.replace_all_uses_with(added.result)
            op.detach()
            op.erase()
            split += 1
        context.statistics[self.name] = {"split": split}


def _read_by_kernels(value: SSAValue) -> bool:
    """Whether every reader, behind views, is an op that becomes part of a kernel."""
    users: list[Operation] = [use.operation for use in value.uses]
    for user in users:
        if isinstance(user, PLAIN_VIEWS):
            if not _read_by_kernels(user.results[0]):
                return False
        elif not isinstance(user, COMPUTE_OPS):
            return False
    return bool(users)
