"""Calls that stay in ATen: `tw.aten` with the arguments as text, the layout of the results, and the reason."""

from __future__ import annotations

from typing import Any

import torch
from torch._ops import OpOverload
from xdsl.ir import SSAValue

from tilewright.ir.builder import Builder
from tilewright.ir.calls import Operand, Tagged, encode
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.errors import UnsupportedGraphError
from tilewright.ir.expr import IntExpr
from tilewright.ir.types import TensorType

from .symbols import dtype_name

aten = torch.ops.aten

NO_RULE = "not in the import table"

_POOLING = "pooling is not imported yet"
_SCATTER = "scatter is not imported yet"
REASONS: dict[OpOverload, str] = {
    aten.max_pool2d_with_indices.default: _POOLING,
    aten.avg_pool2d.default: _POOLING,
    aten.avg_pool3d.default: _POOLING,
    aten._adaptive_avg_pool2d.default: _POOLING,
    aten._adaptive_avg_pool3d.default: _POOLING,
    aten.adaptive_max_pool2d.default: _POOLING,
    aten.index_put.default: _SCATTER,
    aten.scatter.src: _SCATTER,
    aten.scatter.value: _SCATTER,
    aten.scatter_add.default: _SCATTER,
    aten.sort.default: "sorting is not imported yet",
    aten.sort.stable: "sorting is not imported yet",
    aten.topk.default: "sorting is not imported yet",
}
"""Why overloads that a reader may look for have no rule."""


def reason_without_rule(overload: OpOverload) -> str:
    """Why an overload without a rule is left to ATen."""
    if overload in REASONS:
        return REASONS[overload]
    if torch.Tag.nondeterministic_seeded in overload.tags:
        return "random"
    return NO_RULE


def reason_by_dtype(types: list[TensorType]) -> str | None:
    """Why a call on these types is left to ATen whatever the op, or None."""
    for type in types:
        row = DTYPES[type.dtype]
        if row.kind == "complex":
            return "complex dtype"
        if row.is_float and row.itemsize == 1:
            return "8-bit float dtype"
    return None


def aten_call(
    build: Builder,
    overload: OpOverload,
    args: list[Any],
    kwargs: dict[str, Any],
    types: list[TensorType],
    strides: list[tuple[IntExpr, ...]],
    reason: str,
) -> list[SSAValue]:
    """Insert the opaque call. Raises UnsupportedGraphError for an argument that has no text."""
    operands: list[SSAValue] = []

    def described(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [described(v) for v in value]
        if isinstance(value, SSAValue):
            operands.append(value)
            return Operand(len(operands) - 1)
        if isinstance(value, torch.dtype):
            return Tagged("dtype", dtype_name(value))
        if isinstance(value, torch.device):
            return Tagged("device", str(value))
        if isinstance(value, (torch.layout, torch.memory_format)):
            return Tagged(type(value).__name__, str(value).removeprefix("torch."))
        return value

    try:
        text = encode(described(args), {name: described(value) for name, value in kwargs.items()})
    except TypeError as error:
        raise UnsupportedGraphError(f"{overload}: {error}") from None
    return build.aten(str(overload), operands, text, types, strides, reason)
