"""Import rules of matrix products, convolution and attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from xdsl.ir import SSAValue

from tilewright.ir.expr import IntExpr, product

from .call import Call, Operand, dtype_of, is_half, shape_of
from .elementwise import scaled
from .fallback import LIBRARY
from .table import imports, refuse_if

aten = torch.ops.aten


@imports(aten.mm.default, aten.bmm.default)
def matmul(call: Call, a: SSAValue, b: SSAValue) -> SSAValue:
    return call.build.matmul(a, b)


@imports(aten.addmm.default, aten.baddbmm.default)
def addmm(
    call: Call, bias: SSAValue, a: SSAValue, b: SSAValue, beta: Operand = 1, alpha: Operand = 1
) -> SSAValue:
    """``beta * bias + alpha * (a @ b)``, rounded once; with beta 0 the bias is not read, NaN or not."""
    refuse_if(dtype_of(bias) != dtype_of(a), "a bias of another dtype")
    refuse_if(not isinstance(beta, (int, float)) or not isinstance(alpha, (int, float)), "a symbolic factor")
    if alpha == 1 and beta == 1:
        return call.build.matmul(a, b, bias)
    if alpha == 1 and beta == 0:
        return call.build.matmul(a, b)
    refuse_if(is_half(a), "a scaled matrix product of halves, which rounds once")
    result = call.build.matmul(a, b)
    if alpha != 1:
        result = call.map("mul", result, alpha)
    if beta == 0:
        return result
    return call.map("add", bias if beta == 1 else call.map("mul", bias, beta), result)


@imports(aten.linear.default)
def linear(call: Call, x: SSAValue, weight: SSAValue, bias: SSAValue | None = None) -> SSAValue:
    refuse_if(len(shape_of(weight)) != 2, "a vector as weight")
    build = call.build
    rows = build.reshape(x, [product(shape_of(x)[:-1]), shape_of(x)[-1]])
    return call.reshape(build.matmul(rows, build.permute(weight, [1, 0]), bias))


@imports(aten.mv.default)
def mv(call: Call, a: SSAValue, x: SSAValue) -> SSAValue:
    return call.reshape(call.build.matmul(a, call.build.reshape(x, [*shape_of(x), 1])))


@imports(aten.dot.default)
def dot(call: Call, a: SSAValue, b: SSAValue) -> SSAValue:
    row = call.build.reshape(a, [1, *shape_of(a)])
    return call.reshape(call.build.matmul(row, call.build.reshape(b, [*shape_of(b), 1])))


@imports(aten.addbmm.default)
def addbmm(
    call: Call, bias: SSAValue, a: SSAValue, b: SSAValue, beta: Operand = 1, alpha: Operand = 1
) -> SSAValue:
    """``beta * bias + alpha * sum(a[i] @ b[i])``: the batches stand side by side in one product."""
    build = call.build
    batch, rows, inner = shape_of(a)
    wide = build.reshape(build.permute(a, [1, 0, 2]), [rows, batch * inner])
    return addmm(call, bias, wide, build.reshape(b, [batch * inner, shape_of(b)[2]]), beta, alpha)


@imports(aten.addr.default)
def addr(call: Call, x: SSAValue, a: SSAValue, b: SSAValue, beta: Operand = 1, alpha: Operand = 1) -> SSAValue:
    """``beta * x + alpha * outer(a, b)``; with beta 0 `x` is not read, NaN or not."""
    refuse_if(call.dtype == "bool", "addr of bool")
    build = call.build
    column = build.reshape(call.wide(a), [*shape_of(a), 1])
    outer = build.map("mul", scaled(call, column, alpha), call.wide(b))
    return call.narrow(outer if beta == 0 else build.map("add", scaled(call, x, beta), outer))


@imports(aten._trilinear.default)
def trilinear(
    call: Call, a: SSAValue, b: SSAValue, c: SSAValue, expand_a: Sequence[int], expand_b: Sequence[int],
    expand_c: Sequence[int], dims: Sequence[int], unroll_dim: int = 1,
) -> SSAValue:
    """The sum over `dims` of the product of three tensors, into each of which dims of size 1 are put first."""
    build = call.build

    def expanded(x: SSAValue, places: Sequence[int]) -> SSAValue:
        shape = list(shape_of(x))
        for place in sorted(places):
            shape.insert(place, 1)
        return call.wide(build.reshape(x, shape))

    pair = build.map("mul", expanded(a, expand_a), expanded(b, expand_b))
    terms = build.map("mul", pair, expanded(c, expand_c))
    return call.reshape(call.narrow(build.reduce("sum", terms, sorted(dims)) if dims else terms))


@imports(aten.convolution.default)
def convolution(
    call: Call, x: SSAValue, weight: SSAValue, bias: SSAValue | None, stride: Sequence[IntExpr],
    padding: Sequence[IntExpr], dilation: Sequence[IntExpr], transposed: bool, output_padding: Sequence[IntExpr],
    groups: int,
) -> SSAValue:
    refuse_if(not call.is_float, "convolution of integers")
    operands = [x, weight] if bias is None else [x, weight, bias]
    refuse_if(len({dtype_of(v) for v in operands}) != 1, "convolution of several dtypes")
    return call.build.conv(
        operands, call.type_of(0), stride=stride, padding=padding, dilation=dilation, transposed=transposed,
        output_padding=output_padding, groups=groups, strides=call.strides(),
    )


@imports(aten._scaled_dot_product_flash_attention_for_cpu.default)
def attention(
    call: Call, q: SSAValue, k: SSAValue, v: SSAValue, dropout: float = 0.0, causal: bool = False,
    attn_mask: SSAValue | None = None, scale: float | None = None, **_: Any,
) -> list[SSAValue | None]:
    refuse_if(call.used(1), LIBRARY)
    return [scaled_dot_product(call, q, k, v, attn_mask, dropout, causal, scale), None]


@imports(aten.scaled_dot_product_attention.default)
def attention_composite(
    call: Call, q: SSAValue, k: SSAValue, v: SSAValue, attn_mask: SSAValue | None = None, dropout: float = 0.0,
    causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> SSAValue:
    refuse_if(enable_gqa, "attention with grouped heads")
    return scaled_dot_product(call, q, k, v, attn_mask, dropout, causal, scale)


def scaled_dot_product(
    call: Call, q: SSAValue, k: SSAValue, v: SSAValue, mask: SSAValue | None, dropout: float, causal: bool,
    scale: float | None,
) -> SSAValue:
    refuse_if(dropout != 0, "dropout in attention")
    refuse_if(not shape_of(q)[:-2] == shape_of(k)[:-2] == shape_of(v)[:-2], "batch dims of q, k and v differ")
    refuse_if(mask is not None and dtype_of(mask) != dtype_of(q), "a mask of another dtype")
    operands = [q, k, v] if mask is None else [q, k, v, mask]
    return call.build.attention(operands, scale=scale, causal=causal, strides=call.strides())
