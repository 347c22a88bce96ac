"""The estimated work of a loop nest, which decides whether waking threads pays."""

from __future__ import annotations

from xdsl.ir import Operation

from tilewright.ir.expr import IntExpr, substitute
from tilewright.ir.scalars import SCALARS
from tilewright.ir.tile import ForOp, LoadOp, MapOp, StoreOp, UpdateOp

# A load or a store, in units of one addition in a vector lane (about 0.016 ns): 4 bytes from the second-level cache.
MEMORY_COST = 4


def work(op: Operation, outer: dict[str, IntExpr] | None = None) -> IntExpr:
    """Elements times scalar cost, over the kernel's sizes. Extents that depend on an axis count at its upper end."""
    outer = outer or {}
    if isinstance(op, ForOp):
        extent = substitute(op.trip_count, outer)
        inside = {**outer, op.axis.data: extent}
        total: IntExpr = 0
        for inner in op.body.block.ops:
            total = total + work(inner, inside)
        return extent * total
    if isinstance(op, MapOp):
        return SCALARS[op.fn.data].cost
    return MEMORY_COST if isinstance(op, (LoadOp, StoreOp, UpdateOp)) else 0
