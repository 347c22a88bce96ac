"""What a kernel of attention computes beside its products, and where in memory the operands of these lie."""

from __future__ import annotations

from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.expr import Ranges, free_symbols

from .attention_forms import COLUMN, INNER, KEY, QUERY, VIEWS, Place
from .lowering.indexing import Index, broadcast_index
from .lowering.loops import coefficient
from .lowering.walk import view_index


class Absorber:
    """Takes ops of `block` into `ops`, those of a kernel."""

    def __init__(self, block: Block | None, ranges: Ranges, ops: dict[Operation, None]):
        self.block, self.ranges, self.taken = block, ranges, ops
        self.seen: set[Place] = set()

    def absorb(self, value: SSAValue, index: Index) -> None:
        """Take in what does not depend on the scores, where it would be as large as they are, or costs nothing.

        What varies with the key or the query alone is small, and computed once, before.
        """
        op = value.owner
        if not isinstance(op, Operation) or op.parent_block() is not self.block or (value, index) in self.seen:
            return
        self.seen.add((value, index))
        if isinstance(op, (tw.ConstantOp, tw.IotaOp, tw.SizeOp)):
            self.taken[op] = None
        elif isinstance(op, VIEWS):
            source = view_index(op, index, self.ranges)
            if is_linear(source, (QUERY, KEY)):
                self.taken[op] = None
                self.absorb(op.source, source)
        elif isinstance(op, tw.MapOp):
            whole = {QUERY, KEY} <= frozenset[str]().union(*map(free_symbols, index))
            if whole or self.made_of_positions(op):
                self.taken[op] = None
                for a in op.args:
                    self.absorb(a, broadcast_index(index, tw.tensor_type(a).shape))
        elif isinstance(op, tw.MatmulOp):
            self.product_inside(op, index)

    def product_inside(self, op: tw.MatmulOp, index: Index) -> None:
        """What becomes of a product among what is absorbed: here it stays outside."""

    def made_of_positions(self, op: Operation) -> bool:
        if isinstance(op, (tw.ConstantOp, tw.IotaOp, tw.SizeOp)):
            return True
        inside = isinstance(op, (tw.MapOp, *VIEWS)) and op.parent_block() is self.block
        return inside and all(isinstance(a.owner, Operation) and self.made_of_positions(a.owner) for a in op.operands)

    def without_views(self, place: Place) -> Place:
        """The element behind views, wherever in memory it lies."""
        value, index = place
        while isinstance(value.owner, VIEWS) and value.owner.parent_block() is self.block:
            op = value.owner
            value, index = op.source, view_index(op, index, self.ranges)
        return value, index

    def behind_views(self, value: SSAValue, index: Index) -> Place:
        """The tensor behind views, as far as its elements lie at steps of constant length."""
        names = (QUERY, KEY, COLUMN, INNER)
        while isinstance(value.owner, VIEWS) and value.owner.parent_block() is self.block:
            source = view_index(value.owner, index, self.ranges)
            if not is_linear(source, names):
                break
            self.taken[value.owner] = None
            value, index = value.owner.source, source
        return value, index


def is_linear(index: Index, names: tuple[str, ...]) -> bool:
    """Whether a position grows by constant steps along each of the names."""
    steps = [coefficient(i, name) for i in index for name in names]
    return all(step is not None and not free_symbols(step) & set(names) for step in steps)
