"""The `tile` dialect: one kernel as a loop nest over named axes.

A value is one element at the current point of the enclosing loops (so which axes it varies over is plain from where it
stands). A printer for CPUs writes the loops as they are; one for GPUs gives a block to each axis. Positions in memory
are integer expressions over the names in scope: the axes of the enclosing loops, the kernel's sizes, and names that
`tile.index` gives to computed positions.

Values have compute dtypes: loading a half gives an f32 when the result says so, storing rounds once.
"""

from __future__ import annotations

from xdsl.ir import Dialect

from ..types import RefType, ValueType
from .base import TileOp, value_dtype
from .loops import LOOP_KINDS, ForOp, KernelOp, ReduceOp, ScanOp, YieldOp, index_expressions
from .memory import UPDATES, AllocOp, LoadOp, StoreOp, UpdateOp
from .products import DotOp
from .values import CondOp, ConstantOp, ExprOp, IndexOp, MapOp

Tile = Dialect(
    "tile",
    [
        KernelOp, ForOp, YieldOp, LoadOp, StoreOp, UpdateOp, AllocOp, ConstantOp, ExprOp, CondOp, IndexOp, MapOp,
        ScanOp, DotOp, ReduceOp,
    ],
    [RefType, ValueType],
)

__all__ = [
    "LOOP_KINDS",
    "UPDATES",
    "AllocOp",
    "CondOp",
    "ConstantOp",
    "DotOp",
    "ExprOp",
    "ForOp",
    "IndexOp",
    "KernelOp",
    "LoadOp",
    "MapOp",
    "ReduceOp",
    "RefType",
    "ScanOp",
    "StoreOp",
    "Tile",
    "TileOp",
    "UpdateOp",
    "ValueType",
    "YieldOp",
    "index_expressions",
    "value_dtype",
]
