"""CSE: what is computed twice is computed once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation
from xdsl.rewriter import Rewriter
from xdsl.traits import Pure

from tilewright.ir import tw
from tilewright.ir.patterns import SWAPPABLE, function_of
from tilewright.ir.text import fuse_locations

from .base import Pass, PassContext, register

# ATen calls that give the same result for the same operands: functional, without random numbers, and expensive enough
# to be worth a line. All others may have effects.
PURE_ATEN = frozenset(
    {
        "aten.mm.default", "aten.bmm.default", "aten.addmm.default", "aten.baddbmm.default",
        "aten.sort.default", "aten.sort.stable", "aten.topk.default", "aten.cumsum.default",
        "aten.convolution.default", "aten.native_layer_norm.default",
    }
)  # fmt: skip


@register
@dataclass(frozen=True)
class CommonSubexpressionElimination(Pass):
    """Merge ops of one block that have the same operands, properties and types.

    before::

        %a = tw.map "mul" %x, %y : (!tw.tensor<[4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        %b = tw.map "mul" %y, %x : (!tw.tensor<[4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        tw.return %a, %b : !tw.tensor<[4], f32>, !tw.tensor<[4], f32>

    after::

        %a = tw.map "mul" %x, %y : (!tw.tensor<[4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        tw.return %a, %a : !tw.tensor<[4], f32>, !tw.tensor<[4], f32>
    """

    name: ClassVar[str] = "cse"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        context.statistics[self.name] = {"merged": sum(_merge(b) for r in module.regions for b in r.blocks)}


def _merge(block: Block) -> int:
    seen: dict[Hashable, Operation] = {}
    merged = 0
    op = block.first_op
    while op is not None:
        following = op.next_op
        merged += sum(_merge(inner) for region in op.regions for inner in region.blocks)
        if _is_repeatable(op):
            first = seen.setdefault(_key(op), op)
            if first is not op:
                first.location = fuse_locations([first.location, op.location])
                for kept, dropped in zip(first.results, op.results):
                    dropped.replace_all_uses_with(kept)
                Rewriter.erase_op(op)
                merged += 1
        op = following
    return merged


def _is_repeatable(op: Operation) -> bool:
    if op.regions or not op.results:
        return False
    return op.has_trait(Pure) or (isinstance(op, tw.AtenOp) and op.target.data in PURE_ATEN)


def _key(op: Operation) -> Hashable:
    operands = [id(o) for o in op.operands]
    if isinstance(op, tw.MapOp) and function_of(op) in SWAPPABLE:
        operands.sort()
    return (
        type(op),
        tuple(operands),
        tuple(sorted(op.properties.items(), key=_name)),
        tuple(sorted(op.attributes.items(), key=_name)),
        tuple(r.type for r in op.results),
    )


def _name(item: tuple[str, object]) -> str:
    return item[0]
