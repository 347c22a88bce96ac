"""Recognise attention by data flow: two products with exponentials over keys between them, in whatever spelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block

from tilewright.ir import tw
from tilewright.ir.text import file_lines

from .attention_forms import Attention, NotAttention
from .attention_gradient import Gradient, find_gradient
from .attention_masks import visible_keys
from .attention_places import put_in_place
from .attention_search import TooFar, candidates, find_attention
from .base import Pass, PassContext, Remark, register
from .fusion_graph import erase_dead
from .fusion_regions import clone
from .lowering.attention import KEY_BLOCK, QUERY_BLOCK, computed_scores
from .lowering.names import region_location
from .lowering.walk import Walk


@register
@dataclass(frozen=True)
class AttentionPass(Pass):
    """Put attention into a region of its own, which becomes one kernel that never holds all the scores.

    Before::

        %s = tw.matmul %q, %k    %m = tw.reduce "max" %s    %d = tw.map "sub" %s, %m    %e = tw.map "exp" %d
        %t = tw.reduce "sum" %e  %p = tw.map "div" %e, %t   %r = tw.matmul %p, %v

    after::

        %r = tw.fused {kind = "attention"} : T { %s = tw.matmul %q, %k  ...  %r = tw.matmul %p, %v  tw.yield %r }

    The region holds the model's own ops, which are its meaning; `lower` finds in them what this pass found
    (`attention_forms.py`), and computes it block by block. Masks and biases that are made of positions, or would be as
    large as the scores, are computed inside. What looks like attention and is not is a remark that names the op in the
    way. For CPUs.
    """

    name: ClassVar[str] = "attention"
    numerics: ClassVar[str] = "exact"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        found = 0
        if context.target.kind != "cpu":
            return  # the kernel is a CPU's
        for function in module.body.block.ops:
            if isinstance(function, FuncOp):
                block = function.body.block
                # Gradients first: what makes their scores again may itself be attention, of a checkpoint.
                for group in (self.group_gradient, self.group):
                    products = [op for op in block.ops if isinstance(op, tw.MatmulOp)]
                    grouped = sum(group(op, block, context) for op in products if op.parent_block() is block)
                    if grouped:
                        erase_dead(block)
                    found += grouped
        context.statistics[self.name] = {"found": found}

    def group(self, values: tw.MatmulOp, block: Block, context: PassContext) -> bool:
        """Make a region of the attention that ends in `values`, if it is one."""
        reason: NotAttention | None = None
        for side, products in candidates(values):
            for scores in products:
                try:
                    found = find_attention(values, scores, side)
                except TooFar:
                    continue
                except NotAttention as error:
                    reason = reason or error
                    continue
                region = make_region("attention", found, block)
                try:
                    replace(found, region, block)
                except NotAttention as error:
                    reason = reason or error
                    continue
                self.report(context, "applied", summary(found), file_lines(region.location))
                return True
        if reason is not None:
            at = reason.op if reason.op is not None else values
            self.report(context, "rejected", str(reason), file_lines(region_location([at, values])))
        return False

    def group_gradient(self, scores: tw.MatmulOp, block: Block, context: PassContext) -> bool:
        """Make a region of the gradients of the attention that begins with `scores`, if they are that."""
        region: tw.FusedOp | None = None
        try:
            found = find_gradient(scores)
            if found is None:
                return False
            region = make_region("attention_gradient", found, block)
            replace(found, region, block)
        except NotAttention as error:
            at = error.op if error.op is not None else scores
            self.report(context, "rejected", str(error), file_lines(region_location([at, scores])))
            return False
        self.report(context, "applied", f"gradients: {summary(found)}", file_lines(region.location))
        return True

    def report(self, context: PassContext, kind: str, message: str, lines: list[str]) -> None:
        context.remark(lambda: Remark(self.name, kind, message, tuple(lines)))


def summary(found: Attention | Gradient) -> str:
    """What the report says of it: sizes, the mask that was derived, and what of the scores is skipped."""
    text = f"{found.queries} queries, {found.keys} keys in blocks of {QUERY_BLOCK} and {KEY_BLOCK}"
    walk = Walk(found.region(), found.domain)
    bounds = visible_keys(found, walk) if isinstance(found, Attention) else found.visible(walk)[0]
    if not bounds.lower and not bounds.upper:
        return text
    text += f"; a query sees {bounds}, other blocks are skipped"
    if isinstance(found.queries, int) and isinstance(found.keys, int):
        share = computed_scores(bounds, found.queries, found.keys) / (found.queries * found.keys)
        text += f": {share:.0%} of the scores are computed"
    return text


def make_region(kind: str, found: Attention | Gradient, block: Block) -> tw.FusedOp:
    """The region of what was found, not yet in the program."""
    ops = found.region()
    results = [value for value, _ in found.results]
    values = {operand: operand for op in ops for operand in op.operands}
    body = Block()
    for op in ops:
        body.add_op(clone(op, values))
    body.add_op(tw.YieldOp.create(operands=[values[result] for result in results]))
    region = tw.FusedOp.make(kind, "reassociates", body, [result.type for result in results])
    region.location = region_location(ops)
    for output, result in zip(region.outputs, results):
        output.name_hint = result.name_hint
    return region


def replace(found: Attention | Gradient, region: tw.FusedOp, block: Block) -> None:
    """Put the region in the place of what it computes. Raises NotAttention where that cannot be."""
    results = {value: output for (value, _), output in zip(found.results, region.outputs)}
    put_in_place(region, results, set(found.ops), block)
