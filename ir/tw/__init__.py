"""The `tw` dialect: a graph of tensors. Few ops, open tables.

Semantics shared by all ops:

* Shapes of `tw.map` operands broadcast as in numpy. All operands have one dtype (`where` takes a bool first; `cast`
  converts). Halves compute in f32 and the result is rounded once.
* `tw.reduce` and `tw.scan` keep the reduced dims (size 1), so that results broadcast back without a reshape. Halves
  accumulate in f32.
* View ops take their target shape from the result type.
* Memory layout is not a matter of this level. Where it enters or leaves it is an attribute: `arg_strides` and
  `result_strides` of the function, `strides` of results of opaque calls.
"""

from __future__ import annotations

from xdsl.ir import Dialect, Operation

from ..types import DimsAttr, ScalarAttr, TensorType
from .base import TwOp, ViewOp, tensor_type
from .indexed import SCATTERS, GatherOp, ScatterOp, indexed_shape
from .library import AtenOp, AttentionOp, ConvOp, MatmulOp
from .structure import FusedOp, ReturnOp, YieldOp
from .values import ConstantOp, IotaOp, MapOp, ReduceOp, ScanOp, SeedOp, SizeOp
from .views import BroadcastOp, ConcatOp, PadOp, PermuteOp, ReshapeOp, SliceOp

VIEW_OPS: tuple[type[Operation], ...] = (ReshapeOp, PermuteOp, SliceOp, BroadcastOp, PadOp)

Tw = Dialect(
    "tw",
    [
        ConstantOp, IotaOp, SizeOp, SeedOp, MapOp, ReduceOp, ScanOp, ReshapeOp, PermuteOp, SliceOp, BroadcastOp, PadOp,
        ConcatOp, GatherOp, ScatterOp, MatmulOp, ConvOp, AttentionOp, AtenOp, YieldOp, FusedOp, ReturnOp,
    ],
    [TensorType, DimsAttr, ScalarAttr],
)

__all__ = [
    "SCATTERS",
    "VIEW_OPS",
    "AtenOp",
    "AttentionOp",
    "BroadcastOp",
    "ConcatOp",
    "ConstantOp",
    "ConvOp",
    "DimsAttr",
    "FusedOp",
    "GatherOp",
    "IotaOp",
    "MapOp",
    "MatmulOp",
    "PadOp",
    "PermuteOp",
    "ReduceOp",
    "ReshapeOp",
    "ReturnOp",
    "ScalarAttr",
    "ScanOp",
    "ScatterOp",
    "SeedOp",
    "SizeOp",
    "SliceOp",
    "TensorType",
    "Tw",
    "TwOp",
    "ViewOp",
    "YieldOp",
    "indexed_shape",
    "tensor_type",
]
