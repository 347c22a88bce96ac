"""Import rules of the gradients of layer, group and batch norm: sums in f32 for halves, rounded once.

With the normalised input ``n = (x - mean) * factor`` and ``g = grad * weight``, over the m elements that share a mean::

    grad_x = factor * (g - sum(g) / m - n * sum(g * n) / m)
    grad_weight = sum(grad * n)
    grad_bias = sum(grad)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from xdsl.ir import SSAValue

from tilewright.ir.dtypes import compute_dtype
from tilewright.ir.expr import IntExpr, product

from .call import Call, dtype_of, shape_of
from .normalization import per_channel, reciprocal_deviation
from .table import imports, refuse

aten = torch.ops.aten


def through_statistics(
    call: Call, grad: SSAValue, normal: SSAValue, factor: SSAValue, axes: Sequence[int]
) -> SSAValue:
    """The gradient of the input, from that of ``normal``, where mean and deviation depend on the input too."""
    build = call.build
    if not axes:
        return build.map("mul", grad, call.value(0, dtype_of(grad)))
    count = call.count(grad, axes, dtype_of(grad))
    shift = build.map("div", build.reduce("sum", grad, axes), count)
    slope = build.map("div", build.reduce("sum", build.map("mul", grad, normal), axes), count)
    inner = build.map("sub", build.map("sub", grad, shift), build.map("mul", normal, slope))
    return build.map("mul", factor, inner)


def parameter_gradients(
    call: Call, grad: SSAValue, normal: SSAValue, axes: Sequence[int], mask: Sequence[bool]
) -> list[SSAValue | None]:
    """Those of weight and bias, results 1 and 2: sums over `axes`."""
    products = [(1, lambda: call.build.map("mul", grad, normal)), (2, lambda: grad)]
    results: list[SSAValue | None] = []
    for index, value in products:
        if not mask[index]:
            results.append(None)
            continue
        total = call.build.reduce("sum", value(), axes) if axes else value()
        results.append(call.narrow(call.reshape(total, index), index))
    return results


@imports(aten.native_layer_norm_backward.default)
def layer_norm_backward(
    call: Call, grad: SSAValue, x: SSAValue, shape: Sequence[IntExpr], mean: SSAValue, factor: SSAValue,
    weight: SSAValue | None, bias: SSAValue | None, mask: Sequence[bool],
) -> list[SSAValue | None]:
    build, dtype = call.build, compute_dtype(dtype_of(x))
    rank, outer = len(shape_of(x)), len(shape_of(x)) - len(shape)
    grad, x, mean, factor = (call.value(v, dtype) for v in (grad, x, mean, factor))
    normal = build.map("mul", build.map("sub", x, mean), factor)
    result: SSAValue | None = None
    if mask[0]:
        weighted = grad if weight is None else build.map("mul", grad, call.value(weight, dtype))
        result = call.narrow(through_statistics(call, weighted, normal, factor, list(range(outer, rank))))
    return [result, *parameter_gradients(call, grad, normal, list(range(outer)), mask)]


@imports(aten.native_group_norm_backward.default)
def group_norm_backward(
    call: Call, grad: SSAValue, x: SSAValue, mean: SSAValue, factor: SSAValue, weight: SSAValue | None, batch: IntExpr,
    channels: IntExpr, pixels: IntExpr, groups: int, mask: Sequence[bool],
) -> list[SSAValue | None]:
    build, dtype, size = call.build, compute_dtype(dtype_of(x)), channels // groups
    shape = [batch, groups, size, pixels]
    grad, x = (build.reshape(call.value(v, dtype), shape) for v in (grad, x))
    mean, factor = (build.reshape(call.value(v, dtype), [batch, groups, 1, 1]) for v in (mean, factor))
    normal = build.map("mul", build.map("sub", x, mean), factor)
    result: SSAValue | None = None
    if mask[0]:
        weighted = grad
        if weight is not None:
            weighted = build.map("mul", grad, build.reshape(call.value(weight, dtype), [1, groups, size, 1]))
        rows = [batch, groups, product([size, pixels])]
        inner = through_statistics(
            call, build.reshape(weighted, rows), build.reshape(normal, rows), build.reshape(factor, [batch, groups, 1]),
            [2],
        )
        result = call.narrow(call.reshape(inner))
    return [result, *parameter_gradients(call, grad, normal, [0, 3], mask)]


@imports(aten.native_batch_norm_backward.default)
def batch_norm_backward(
    call: Call, grad: SSAValue, x: SSAValue, weight: SSAValue | None, running_mean: SSAValue | None,
    running_variance: SSAValue | None, mean: SSAValue | None, factor: SSAValue | None, train: bool, epsilon: float,
    mask: Sequence[bool],
) -> list[SSAValue | None]:
    """In training by the batch's saved statistics, else by the running ones, which do not depend on the input. Sums
    are in doubles, as ATen has them."""
    build, dtype, rank = call.build, compute_dtype(dtype_of(x)), len(shape_of(x))
    axes = [d for d in range(rank) if d != 1]
    center, variance = (mean, factor) if train else (running_mean, running_variance)
    if center is None or variance is None:
        refuse("statistics are missing")
    grad, x = call.value(grad, dtype), call.value(x, dtype)
    center, exact = (per_channel(call, call.value(v, t), rank) for v, t in ((center, dtype), (variance, "f64")))
    if not train:
        exact = reciprocal_deviation(call, exact, epsilon)
    deviation, wide = build.map("sub", x, center), build.cast(grad, "f64")
    total = build.reduce("sum", wide, axes)
    slope = build.map("mul", build.reduce("sum", build.map("mul", wide, build.cast(deviation, "f64")), axes), exact)
    result = grad
    if train:
        count = call.count(x, axes, "f64")
        shift = build.cast(build.map("div", total, count), dtype)
        slant = build.cast(build.map("div", build.map("mul", slope, exact), count), dtype)
        result = build.map("sub", build.map("sub", grad, shift), build.map("mul", deviation, slant))
    scale = exact if weight is None else build.map("mul", exact, per_channel(call, call.value(weight, "f64"), rank))
    result = call.narrow(build.map("mul", result, build.cast(scale, dtype)))
    sums = [call.narrow(call.reshape(v, i), i) if mask[i] else None for i, v in ((1, slope), (2, total))]
    return [result if mask[0] else None, *sums]


@imports(aten.batch_norm_backward.default)
def batch_norm_backward_with_reserve(
    call: Call, grad: SSAValue, x: SSAValue, weight: SSAValue, running_mean: SSAValue | None,
    running_variance: SSAValue | None, mean: SSAValue | None, factor: SSAValue | None, update: bool, epsilon: float,
    mask: Sequence[bool], reserve: SSAValue,
) -> list[SSAValue | None]:
    """As `native_batch_norm_backward`; the reserved bytes are a library's and hold nothing on CPUs."""
    return batch_norm_backward(
        call, grad, x, weight, running_mean, running_variance, mean, factor, update, epsilon, mask
    )
