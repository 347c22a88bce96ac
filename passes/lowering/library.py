"""The calls of the library that convolutions, attention and products become, with weights as they are or packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.ir import calls, tw
from tilewright.ir.target import Target

PACKED_DTYPES: dict[str, tuple[str, ...]] = {"avx512": ("f32", "bf16"), "avx2": ("f32",)}
"""By instruction set, the dtypes of weights that oneDNN packs."""
MOST_ROWS, LEAST_WEIGHT = 128, 1 << 19
"""Packing a product's weight in each call takes a part of it that falls with the rows: products of more rows stay as
they are, and those of weights of fewer elements, as a packed call takes some 12 microseconds more."""


def plain_call(op: tw.ConvOp | tw.AttentionOp) -> tuple[str, str]:
    """Target and arguments, as text, of the call that gives the op's result in memory of its own."""
    operand = calls.Operand
    if isinstance(op, tw.ConvOp):
        bias = operand(2) if len(op.args) == 3 else None
        arguments = [
            operand(0), operand(1), bias, list(op.stride.data), list(op.padding.data), list(op.dilation.data),
            op.transposed.data, list(op.output_padding.data), op.groups.data[0],
        ]
        return "aten.convolution.default", calls.encode(arguments, {})
    keywords = {
        "attn_mask": operand(3) if len(op.args) == 4 else None, "is_causal": op.causal.data,
        "scale": op.scale.data if op.scale is not None else None,
    }
    return "aten.scaled_dot_product_attention.default", calls.encode([operand(0), operand(1), operand(2)], keywords)


@dataclass(frozen=True)
class PackedCall:
    """`pack` gives the packed weight, `call` takes it in the weight's place: targets with their arguments as text.

    `transposed`: the library wants the weight as [N, K], not as [K, N].
    """

    pack: tuple[str, str]
    call: tuple[str, str]
    transposed: bool


def packed_call(op: tw.MatmulOp | tw.ConvOp, target: Target) -> PackedCall | None:
    """How `op` runs on a packed weight, or None where the library has no such call: for other ranks and dtypes, sizes
    that only the call knows, no elements, transposed convolutions, and products for which it would not pay.

    oneDNN could apply a `relu` to its results on the way, but makes a NaN zero: that stays with kernels of ours."""
    types = [tw.tensor_type(operand) for operand in op.args]
    if types[0].dtype not in PACKED_DTYPES.get(target.isa, ()):
        return None
    if not all(isinstance(dim, int) and dim > 0 for type in types for dim in type.shape):
        return None
    bias = calls.Operand(2) if len(types) == 3 else None
    packing: list[Any]
    if isinstance(op, tw.MatmulOp):
        rows, weight = types[0].shape[0], types[1].numel
        if types[0].rank != 2 or (bias is not None and types[2].rank != 1):
            return None
        if rows > MOST_ROWS or weight < LEAST_WEIGHT:  # type: ignore[operator]
            return None
        name, packing, window = "linear", [types[0].shape[0]], []
    else:
        if types[0].rank != 4 or op.transposed.data:
            return None
        window = [list(op.padding.data), list(op.stride.data), list(op.dilation.data), op.groups.data[0]]
        name, packing = "convolution", [*window, list(types[0].shape)]
    arguments = [calls.Operand(0), calls.Operand(1), bias, *window, "none", [], ""]
    return PackedCall(
        (f"mkldnn._reorder_{name}_weight.default", calls.encode([calls.Operand(0), *packing], {})),
        (f"mkldnn._{name}_pointwise.default", calls.encode(arguments, {})),
        transposed=isinstance(op, tw.MatmulOp),
    )
