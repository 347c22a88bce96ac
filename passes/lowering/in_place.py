"""Arguments that get new values: which of these a kernel may write straight into the argument's memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from xdsl.ir import Block, BlockArgument, Operation, SSAValue

from tilewright.ir import tile, tw
from tilewright.ir.expr import free_symbols

from ..fusion_graph import PLAIN_VIEWS

_MAY_BE_VIEWS = (*PLAIN_VIEWS, tw.AtenOp)
"""Ops whose results may be memory of their operands."""


def in_place_results(
    terminator: tw.ReturnOp, positions: Sequence[int], given: Collection[int] = ()
) -> dict[SSAValue, BlockArgument]:
    """Results of regions that may be written into the argument that they are the new value of.

    All that reads the old value runs before the region, or is the region itself (whose kernel is looked at when it is
    there: `overwrites_what_it_reads`); and nothing but the argument is to be the new value's memory. `given` are the
    return's operands that are updated arguments themselves.
    """
    block = terminator.parent_block()
    assert block is not None
    order = {op: i for i, op in enumerate(block.ops)}
    first = len(terminator.args) - len(positions)
    found: dict[SSAValue, BlockArgument] = {}
    for place, position in enumerate(positions, first):
        value, argument = terminator.args[place], block.args[position]
        if not isinstance(value.owner, tw.FusedOp):
            continue
        home = order[value.owner]
        readers = _readers(argument, block)
        other = [i for user, i in _readers(value, block) if user is terminator and i != place and i not in given]
        if not other and all(order[user] <= home for user, _ in readers):
            found[value] = argument
    return found


def _readers(value: SSAValue, block: Block) -> Iterable[tuple[Operation, int]]:
    """The ops of the block that read memory of `value`, also through views, with the operand's number."""
    stack, seen = [value], {value}
    while stack:
        for use in list(stack.pop().uses):
            user = use.operation
            while user.parent_block() is not block:
                parent = user.parent_op()
                assert parent is not None
                user = parent
            yield user, use.index
            if isinstance(user, _MAY_BE_VIEWS):
                aliases = [r for r in user.results if r not in seen]
                seen.update(aliases)
                stack += aliases


def overwrites_what_it_reads(kernel: tile.KernelOp, ref: SSAValue) -> bool:
    """Whether the kernel may read an element through `ref`, which it also writes, after that element is written.

    It does not where one store writes each element once, where every load reads the element that is stored at the same
    point of the same loops, and where all loads come before the store.
    """
    loads: list[tile.LoadOp] = []
    store: tile.StoreOp | None = None
    for op in kernel.walk():
        if isinstance(op, tile.UpdateOp) and op.ref is ref:
            return True
        if isinstance(op, tile.StoreOp) and op.ref is ref:
            if store is not None:
                return True
            store = op
        if isinstance(op, tile.LoadOp) and op.ref is ref:
            if store is not None:
                return True
            loads.append(op)
    if store is None or any(load.offset != store.offset for load in loads):
        return True
    return bool(_axes_around(store) - free_symbols(store.offset.data[0]))


def _axes_around(op: Operation) -> set[str]:
    """The axes of the loops around an op that run more than once."""
    found: set[str] = set()
    parent = op.parent_op()
    while isinstance(parent, tile.ForOp):
        if parent.trip_count != 1:
            found.add(parent.axis.data)
        parent = parent.parent_op()
    return found
