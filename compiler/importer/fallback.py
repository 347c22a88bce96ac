"""Calls that stay in ATen: `tw.aten` with the arguments as text, the layout of the results, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
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
DRAWS = "draws from torch's generator"

LIBRARY = "library"
"""The reason of calls that stay ATen's on purpose, as matrix products do: no fallback, and counted as none."""

REASONS: dict[OpOverload, str] = {
    aten.convolution_backward.default: LIBRARY,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default: LIBRARY,
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
        return DRAWS
    return NO_RULE


MOVES: frozenset[OpOverload] = frozenset([
    aten._to_copy.default, torch.ops.prims.convert_element_type.default, aten.clone.default, aten.alias.default,
    aten.detach.default, aten.view.default, aten._unsafe_view.default, aten.reshape.default,
    aten._reshape_alias.default, aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims,
    aten.t.default, aten.transpose.int, aten.permute.default, aten.expand.default, aten.slice.Tensor, aten.select.int,
    aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int, aten.cat.default,
])
"""Calls that store, convert and move elements. Eager has no others for 8-bit floats, or few."""


def reason_by_dtype(overload: OpOverload, types: list[TensorType]) -> str | None:
    """Why a call on these types is left to ATen, or None."""
    for type in types:
        row = DTYPES[type.dtype]
        if row.kind == "complex":
            return "complex dtype"
        if row.is_float and row.itemsize == 1 and overload not in MOVES:
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
    strided: Sequence[int] = (),
) -> list[SSAValue]:
    """Insert the opaque call; `strided` are the operands that need not be row-major.

    Raises UnsupportedGraphError for an argument that has no text.
    """
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
    return build.aten(str(overload), operands, text, types, strides, reason, strided)
