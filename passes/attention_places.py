"""Where a region stands in the program: after all that it reads, and before all that reads it."""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.ir import Block, Operation, SSAValue
from xdsl.traits import Pure

from tilewright.ir import tw

from .attention_forms import NotAttention, describe


def put_in_place(
    region: tw.FusedOp, results: Mapping[SSAValue, SSAValue], inside: set[Operation], block: Block
) -> None:
    """Put `region` into `block`, its `results` in the place of values that the ops `inside` compute.

    It stands where the last of these stood. What read one of them before that is moved behind it. Raises NotAttention,
    with nothing changed, where that cannot be: the region reads what is computed from its results, or another call's
    turn would change.
    """
    order = {op: number for number, op in enumerate(block.ops)}
    last = max((value.owner for value in results if isinstance(value.owner, Operation)), key=order.__getitem__)
    late: set[Operation] = set()
    stack = list(results)
    while stack:
        for use in stack.pop().uses:
            reader = _top_level(use.operation, block)
            if reader not in inside and reader not in late and order[reader] < order[last]:
                late.add(reader)
                stack += reader.results
    for op in [value.owner for value in region.inputs() if isinstance(value.owner, Operation)]:
        if op in late:
            raise NotAttention(f"{describe(op)} is computed from what would be one kernel with it", op)
    for op in late:
        if not op.has_trait(Pure):
            raise NotAttention(f"{describe(op)} would be called in another order", op)
    block.insert_op_before(region, last)
    for op in sorted(late, key=order.__getitem__):
        op.detach()
        block.insert_op_before(op, last)
    for old, new in results.items():
        old.replace_uses_with_if(new, lambda use: _top_level(use.operation, block) is not region)


def _top_level(op: Operation, block: Block) -> Operation:
    while op.parent_block() is not block:
        op = op.parent_op()  # type: ignore[assignment]
    return op
