"""Import rules of normalisations: softmax, layer, group and batch norm. Halves compute in f32 and round once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from xdsl.ir import SSAValue

from tilewright.ir.dtypes import DTYPES, compute_dtype
from tilewright.ir.expr import IntExpr, product

from .call import Call, dtype_of, normal_dim, shape_of
from .fallback import DRAWS
from .reductions import mean_and_variance, mean_of
from .table import imports, refuse_if

aten = torch.ops.aten


def exponentials(call: Call, x: SSAValue, dim: int) -> tuple[SSAValue, SSAValue, SSAValue]:
    """``x - max``, its exponential, and the sum of that along `dim`, which stays with size 1."""
    build = call.build
    axes = [normal_dim(dim, len(shape_of(x)))]
    shifted = build.map("sub", x, build.reduce("max", x, axes))
    powers = build.map("exp", shifted)
    return shifted, powers, build.reduce("sum", powers, axes)


@imports(aten._softmax.default)
def softmax(call: Call, x: SSAValue, dim: int, half_to_float: bool = False) -> SSAValue:
    if not shape_of(x):
        x = call.build.reshape(x, [1])
    _, powers, total = exponentials(call, call.wide(x), dim)
    return call.reshape(call.narrow(call.build.map("div", powers, total)))


@imports(aten._log_softmax.default)
def log_softmax(call: Call, x: SSAValue, dim: int, half_to_float: bool = False) -> SSAValue:
    if not shape_of(x):
        x = call.build.reshape(x, [1])
    shifted, _, total = exponentials(call, call.wide(x), dim)
    return call.reshape(call.narrow(call.build.map("sub", shifted, call.build.map("log", total))))


@imports(aten._safe_softmax.default)
def safe_softmax(call: Call, x: SSAValue, dim: int, dtype: torch.dtype | None = None) -> SSAValue:
    """Rows that are wholly -inf give 0."""
    build, wide = call.build, call.wide(x)
    refuse_if(not shape_of(x), "softmax of a number")
    _, powers, total = exponentials(call, wide, dim)
    top = build.reduce("max", wide, [normal_dim(dim, len(shape_of(x)))])
    masked = build.map("eq", top, call.wide(float("-inf")))
    return call.narrow(build.where(masked, call.wide(0), build.map("div", powers, total)))


def scale_and_shift(
    call: Call, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None, shape: Sequence[IntExpr] | None = None
) -> SSAValue:
    """``x * weight + bias`` in x's dtype, either of them optional, both reshaped to `shape` where it is given."""
    for fn, operand in (("mul", weight), ("add", bias)):
        if operand is not None:
            value = call.value(operand, dtype_of(x))
            x = call.build.map(fn, x, value if shape is None else call.build.reshape(value, shape))
    return x


def reciprocal_deviation(call: Call, variance: SSAValue, epsilon: float) -> SSAValue:
    """``1 / sqrt(variance + epsilon)``."""
    return call.build.map("rsqrt", call.build.map("add", variance, call.value(epsilon, dtype_of(variance))))


def corrected_statistics(call: Call, x: SSAValue, axes: Sequence[int]) -> tuple[SSAValue, SSAValue]:
    """Mean and variance over `axes`, which stay with size 1; where rows lie far from zero for their spread, with the
    rounding error of the first mean taken out.

    The second pass adds up ``x - mean`` beside its square (Chan, Golub, LeVeque 1983, eq. 1.7). Else a row of equal
    elements would not become 0, but that error times ``1 / sqrt(epsilon)``. Rows with a larger spread would lose by it:
    only a difference of numbers that are within a factor of two is exact.
    """
    build, dtype = call.build, dtype_of(x)
    first = mean_of(call, x, axes)
    deviation = build.map("sub", x, first)
    rest = mean_of(call, deviation, axes)
    squares = mean_of(call, build.map("mul", deviation, deviation), axes)
    far = build.map("lt", build.map("mul", squares, call.value(16, dtype)), build.map("mul", first, first))
    rest = build.where(far, rest, call.value(0, dtype))
    variance = build.map("sub", squares, build.map("mul", rest, rest))
    return build.map("add", first, rest), build.map("maximum", variance, call.value(0, dtype))


def normalized(
    call: Call, x: SSAValue, axes: Sequence[int], epsilon: float
) -> tuple[SSAValue, SSAValue, SSAValue]:
    """``(x - mean) / deviation`` over `axes`, the mean, and the reciprocal of the deviation."""
    center, variance = corrected_statistics(call, x, axes)
    factor = reciprocal_deviation(call, variance, epsilon)
    return call.build.map("mul", call.build.map("sub", x, center), factor), center, factor


@imports(aten.native_layer_norm.default)
def layer_norm(
    call: Call, x: SSAValue, shape: Sequence[IntExpr], weight: SSAValue | None, bias: SSAValue | None, epsilon: float
) -> list[SSAValue]:
    rank = len(shape_of(x))
    result, center, factor = normalized(call, call.wide(x), list(range(rank - len(shape), rank)), epsilon)
    result = call.narrow(scale_and_shift(call, result, weight, bias))
    return [result, call.reshape(call.narrow(center, 1), 1), call.reshape(call.narrow(factor, 2), 2)]


@imports(aten._fused_rms_norm.default)
def rms_norm(
    call: Call, x: SSAValue, shape: Sequence[IntExpr], weight: SSAValue | None, epsilon: float | None = None
) -> list[SSAValue]:
    build, wide = call.build, call.wide(x)
    if epsilon is None:
        epsilon = torch.finfo(getattr(torch, DTYPES[dtype_of(wide)].torch_name)).eps
    rank = len(shape_of(x))
    squares = mean_of(call, build.map("mul", wide, wide), list(range(rank - len(shape), rank)))
    factor = reciprocal_deviation(call, squares, epsilon)
    result = scale_and_shift(call, build.map("mul", wide, factor), weight, None)
    return [call.narrow(result), call.reshape(call.narrow(factor, 1), 1)]


@imports(aten.native_group_norm.default)
def group_norm(
    call: Call, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None, batch: IntExpr, channels: IntExpr,
    pixels: IntExpr, groups: int, epsilon: float,
) -> list[SSAValue]:
    build = call.build
    rows = build.reshape(call.wide(x), [batch, groups, product([channels // groups, pixels])])
    result, center, factor = normalized(call, rows, [2], epsilon)
    per_channel = [1, channels, *[1] * (len(call.shape) - 2)]
    result = call.narrow(scale_and_shift(call, call.reshape(result), weight, bias, per_channel))
    return [result, call.reshape(call.narrow(center, 1), 1), call.reshape(call.narrow(factor, 2), 2)]


def per_channel(call: Call, value: SSAValue, rank: int) -> SSAValue:
    """A vector over dim 1, to be broadcast against `rank` dims."""
    return call.build.reshape(value, [1, *shape_of(value), *[1] * (rank - 2)])


def by_statistics(
    call: Call, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None, mean: SSAValue, variance: SSAValue,
    epsilon: float,
) -> SSAValue:
    """Normalised by given statistics. The mean is taken off first: multiplied by the factor as one summand with the
    bias it would round away what a large mean leaves (ATen's products and sums round once, together)."""
    build, dtype = call.build, compute_dtype(dtype_of(x))
    factor = scale_and_shift(call, reciprocal_deviation(call, call.value(variance, dtype), epsilon), weight, None)
    channel = [1, shape_of(x)[1], *[1] * (len(call.shape) - 2)]
    rest = build.map("sub", call.value(x, dtype), build.reshape(call.value(mean, dtype), channel))
    return call.narrow(scale_and_shift(call, rest, factor, bias, channel))


def empty(call: Call, index: int) -> SSAValue:
    """Result `index` of a normalisation that keeps no statistics: without elements."""
    return call.build.constant(0, call.type_of(index).dtype, call.type_of(index).shape)


@imports(aten._native_batch_norm_legit_no_training.default, aten._batch_norm_no_update.default)
def batch_norm_inference(
    call: Call, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None, mean: SSAValue, variance: SSAValue,
    momentum: float, epsilon: float,
) -> list[SSAValue | None]:
    given = [i for i in range(1, len(call.types)) if 0 not in call.type_of(i).shape]
    refuse_if(any(call.used(i) for i in given), "statistics of inference are read")
    result = by_statistics(call, x, weight, bias, mean, variance, epsilon)
    return [result, *(None if i in given else empty(call, i) for i in range(1, len(call.types)))]


@imports(aten._native_batch_norm_legit_functional.default)
def batch_norm(
    call: Call, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None, mean: SSAValue, variance: SSAValue,
    train: bool, momentum: float, epsilon: float,
) -> list[SSAValue]:
    """The result, the batch's mean and reciprocal deviation, and the running statistics after it."""
    if not train:
        result = by_statistics(call, x, weight, bias, mean, variance, epsilon)
        return [result, empty(call, 1), empty(call, 2), call.narrow(mean, 3), call.narrow(variance, 4)]
    result, center, factor, unbiased = normalized_by_batch(call, x, weight, bias, epsilon)
    running = [
        call.narrow(moved(call, old, new, momentum), place)
        for place, old, new in ((3, mean, center), (4, variance, unbiased))
    ]
    return [result, call.narrow(center, 1), call.narrow(factor, 2), *running]


@imports(aten._batch_norm_with_update_functional.default)
def batch_norm_with_update(
    call: Call, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None, mean: SSAValue, variance: SSAValue,
    momentum: float, epsilon: float,
) -> list[SSAValue]:
    result, center, factor, unbiased = normalized_by_batch(call, x, weight, bias, epsilon)
    running = [
        call.narrow(moved(call, old, new, momentum), place)
        for place, old, new in ((4, mean, center), (5, variance, unbiased))
    ]
    return [result, call.narrow(center, 1), call.narrow(factor, 2), empty(call, 3), *running]


@imports(aten._native_batch_norm_legit.no_stats)
def batch_norm_without_statistics(
    call: Call, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None, train: bool, momentum: float,
    epsilon: float,
) -> list[SSAValue]:
    result, center, factor, _ = normalized_by_batch(call, x, weight, bias, epsilon)
    return [result, call.narrow(center, 1), call.narrow(factor, 2)]


def normalized_by_batch(
    call: Call, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None, epsilon: float
) -> tuple[SSAValue, SSAValue, SSAValue, SSAValue]:
    """The result, and per channel the mean, the reciprocal of the deviation, and the unbiased variance, all f32 for
    halves."""
    build, wide = call.build, call.wide(x)
    rank, channels = len(call.shape), [call.shape[1]]
    axes = [d for d in range(rank) if d != 1]
    # ATen adds a batch up in doubles; a mean near 0 would otherwise be several times worse than its own.
    exact = mean_and_variance(call, build.cast(wide, "f64"), axes)
    center, variance = (build.cast(statistic, dtype_of(wide)) for statistic in exact)
    factor = reciprocal_deviation(call, variance, epsilon)
    result = build.map("mul", build.map("sub", wide, center), factor)
    result = scale_and_shift(call, result, weight, bias, [1, *channels, *[1] * (rank - 2)])
    count = call.count(x, axes, dtype_of(wide))
    correction = build.map("div", count, build.map("sub", count, call.wide(1)))
    center, factor, variance = (build.reshape(v, channels) for v in (center, factor, variance))
    return call.narrow(result), center, factor, build.map("mul", variance, correction)


def moved(call: Call, old: SSAValue, new: SSAValue, momentum: float) -> SSAValue:
    """``(1 - momentum) * old + momentum * new`` in the dtype of `new`."""
    build, dtype = call.build, dtype_of(new)
    kept = build.map("mul", call.value(old, dtype), call.value(1 - momentum, dtype))
    return build.map("add", kept, build.map("mul", new, call.value(momentum, dtype)))


@imports(aten.native_dropout.default)
def dropout(call: Call, x: SSAValue, probability: float, train: bool | None) -> list[SSAValue]:
    refuse_if(train is not False and probability != 0, DRAWS)
    return [x, call.build.constant(True, "bool", call.type_of(1).shape)]
