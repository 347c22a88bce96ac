"""The estimated work of a loop nest, which decides whether waking threads pays."""

from __future__ import annotations

from xdsl.ir import Operation

from tilewright.ir.dtypes import itemsize
from tilewright.ir.expr import IntExpr, free_symbols, product, substitute
from tilewright.ir.scalars import SCALARS
from tilewright.ir.tile import DotOp, ForOp, KernelOp, LoadOp, MapOp, StoreOp, UpdateOp, value_dtype

# A load or a store, in units of one addition in a vector lane (about 0.016 ns): 4 bytes from the second-level cache.
MEMORY_COST = 4


def work(op: Operation, outer: dict[str, IntExpr] | None = None) -> IntExpr:
    """Elements times scalar cost, over the kernel's sizes. Extents that depend on an axis count at its upper end.

    The last block of an axis that is walked in blocks may be short: where numbers are known the first one counts too.
    """
    outer = outer or {}
    if isinstance(op, ForOp):
        extent = _largest(op.trip_count, outer)
        inside = {**outer, op.axis.data: extent}
        total: IntExpr = 0
        for inner in op.body.block.ops:
            total = total + work(inner, inside)
        return extent * total
    if isinstance(op, DotOp):
        return 2 * product(_largest(size, outer) for size in op.shape.data)
    if isinstance(op, MapOp):
        return SCALARS[op.fn.data].cost
    return MEMORY_COST if isinstance(op, (LoadOp, StoreOp, UpdateOp)) else 0


def bytes_written(kernel: KernelOp, position: int) -> IntExpr:
    """Bytes that the kernel's first store to pointer `position` writes, over the kernel's sizes; 0 where it has none
    whose loops' extents the sizes give."""
    ref = kernel.args[position]
    store = next((op for op in kernel.walk() if isinstance(op, StoreOp) and op.ref is ref), None)
    if store is None:
        return 0
    names = free_symbols(store.offset.data[0])
    total: IntExpr = itemsize(value_dtype(ref))
    loop = store.parent_op()
    while isinstance(loop, ForOp):
        if loop.axis.data in names:
            total = total * loop.trip_count
        loop = loop.parent_op()
    return total if free_symbols(total) <= set(kernel.size_names) else 0


def _largest(extent: IntExpr, outer: dict[str, IntExpr]) -> IntExpr:
    last, first = substitute(extent, outer), substitute(extent, dict.fromkeys(outer, 0))
    return max(last, first) if isinstance(last, int) and isinstance(first, int) else last
