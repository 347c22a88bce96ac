"""Import rules of the gradients of activations, of softmax, and of views. Halves compute in f32 and round once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from xdsl.ir import SSAValue

from tilewright.ir.expr import Expr, IntExpr

from .call import Call, Operand, dtype_of, normal_dim, shape_of
from .table import imports, refuse_if
from .views import position, slice_start

aten = torch.ops.aten


def scaled_where(call: Call, condition: SSAValue, grad: SSAValue, factor: Operand) -> SSAValue:
    """`grad` where the condition holds, else ``grad * factor``; rounded to the result's dtype."""
    return call.narrow(call.build.where(condition, grad, call.build.map("mul", grad, call.wide(factor))))


def zero_where(call: Call, condition: SSAValue, grad: SSAValue) -> SSAValue:
    """0 where the condition holds, else `grad`; rounded to the result's dtype."""
    return call.narrow(call.build.where(condition, call.wide(0), grad))


def logistic(call: Call, x: SSAValue) -> SSAValue:
    """``1 / (1 + exp(-x))``."""
    build = call.build
    one = call.wide(1)
    return build.map("div", one, build.map("add", one, build.map("exp", build.map("neg", x))))


@imports(aten.sigmoid_backward.default)
def sigmoid_backward(call: Call, grad: SSAValue, y: SSAValue) -> SSAValue:
    build, grad, y = call.build, call.wide(grad), call.wide(y)
    return call.narrow(build.map("mul", build.map("mul", grad, build.map("sub", call.wide(1), y)), y))


@imports(aten.tanh_backward.default)
def tanh_backward(call: Call, grad: SSAValue, y: SSAValue) -> SSAValue:
    build, grad, y = call.build, call.wide(grad), call.wide(y)
    return call.narrow(build.map("mul", grad, build.map("sub", call.wide(1), build.map("mul", y, y))))


@imports(aten.threshold_backward.default)
def threshold_backward(call: Call, grad: SSAValue, x: SSAValue, limit: Operand) -> SSAValue:
    below = call.build.map("le", call.wide(x), call.wide(limit))
    return call.build.where(below, call.value(0, call.dtype), call.value(grad, call.dtype))


@imports(aten.gelu_backward.default)
def gelu_backward(call: Call, grad: SSAValue, x: SSAValue, approximate: str = "none") -> SSAValue:
    build, grad, x = call.build, call.wide(grad), call.wide(x)
    one, half = call.wide(1), call.wide(0.5)
    square = build.map("mul", x, x)
    if approximate == "none":
        cdf = build.map("add", one, build.map("erf", build.map("mul", x, call.wide(math.sqrt(0.5)))))
        pdf = build.map("exp", build.map("mul", square, call.wide(-0.5)))
        pdf = build.map("mul", pdf, call.wide(1 / math.sqrt(2 * math.pi)))
        slope = build.map("add", build.map("mul", half, cdf), build.map("mul", x, pdf))
        return call.narrow(build.map("mul", grad, slope))
    cubic, scale = call.wide(0.044715), call.wide(math.sqrt(2 / math.pi))
    inner = build.map("add", x, build.map("mul", cubic, build.map("mul", square, x)))
    tanh = build.map("tanh", build.map("mul", scale, inner))
    inner_slope = build.map("add", one, build.map("mul", call.wide(3 * 0.044715), square))
    inner_slope = build.map("mul", scale, inner_slope)
    tanh_slope = build.map("sub", one, build.map("mul", tanh, tanh))
    left = build.map("mul", half, build.map("add", one, tanh))
    right = build.map("mul", build.map("mul", build.map("mul", half, x), tanh_slope), inner_slope)
    return call.narrow(build.map("mul", grad, build.map("add", left, right)))


@imports(aten.silu_backward.default)
def silu_backward(call: Call, grad: SSAValue, x: SSAValue) -> SSAValue:
    build, grad, x = call.build, call.wide(grad), call.wide(x)
    sigmoid, one = logistic(call, x), call.wide(1)
    slope = build.map("add", one, build.map("mul", x, build.map("sub", one, sigmoid)))
    return call.narrow(build.map("mul", build.map("mul", grad, sigmoid), slope))


@imports(aten.mish_backward.default)
def mish_backward(call: Call, grad: SSAValue, x: SSAValue) -> SSAValue:
    build, grad, x = call.build, call.wide(grad), call.wide(x)
    tanh = build.map("tanh", build.map("log1p", build.map("exp", x)))
    slope = build.map("sub", call.wide(1), build.map("mul", tanh, tanh))
    slope = build.map("mul", build.map("mul", x, logistic(call, x)), slope)
    return call.narrow(build.map("mul", grad, build.map("add", tanh, slope)))


@imports(aten.hardswish_backward.default)
def hardswish_backward(call: Call, grad: SSAValue, x: SSAValue) -> SSAValue:
    build, grad, x = call.build, call.wide(grad), call.wide(x)
    slope = build.map("add", build.map("div", x, call.wide(3)), call.wide(0.5))
    inner = build.where(build.map("lt", x, call.wide(3)), build.map("mul", grad, slope), grad)
    return zero_where(call, build.map("le", x, call.wide(-3)), inner)


@imports(aten.hardsigmoid_backward.default)
def hardsigmoid_backward(call: Call, grad: SSAValue, x: SSAValue) -> SSAValue:
    build, grad, x = call.build, call.wide(grad), call.wide(x)
    inside = build.map("and", build.map("gt", x, call.wide(-3)), build.map("lt", x, call.wide(3)))
    return call.narrow(build.where(inside, build.map("mul", grad, call.wide(1 / 6)), call.wide(0)))


@imports(aten.hardtanh_backward.default)
def hardtanh_backward(call: Call, grad: SSAValue, x: SSAValue, low: Operand, high: Operand) -> SSAValue:
    build, x = call.build, call.wide(x)
    outside = build.map("or", build.map("le", x, call.wide(low)), build.map("ge", x, call.wide(high)))
    return zero_where(call, outside, call.wide(grad))


@imports(aten.hardshrink_backward.default, aten.softshrink_backward.default)
def shrink_backward(call: Call, grad: SSAValue, x: SSAValue, limit: float) -> SSAValue:
    build = call.build
    x, bound = call.value(x, call.dtype), call.value(limit, call.dtype)
    inside = build.map("and", build.map("ge", x, build.map("neg", bound)), build.map("le", x, bound))
    return build.where(inside, call.value(0, call.dtype), call.value(grad, call.dtype))


@imports(aten.leaky_relu_backward.default)
def leaky_relu_backward(
    call: Call, grad: SSAValue, x: SSAValue, slope: Operand, is_result: bool = False
) -> SSAValue:
    return scaled_where(call, call.build.map("gt", call.wide(x), call.wide(0)), call.wide(grad), slope)


@imports(aten.elu_backward.default)
def elu_backward(
    call: Call, grad: SSAValue, alpha: float, scale: float, input_scale: float, is_result: bool, x: SSAValue
) -> SSAValue:
    """`x` is the operand, or the result with `is_result`, from which ``alpha * scale * exp(...)`` follows."""
    refuse_if(any(isinstance(f, Expr) for f in (alpha, scale, input_scale)), "a symbolic factor")
    build, grad, x = call.build, call.wide(grad), call.wide(x)
    scaled = build.map("mul", grad, call.wide(input_scale))
    if is_result:
        negative = build.map("mul", scaled, build.map("add", x, call.wide(alpha * scale)))
    else:
        power = build.map("exp", build.map("mul", x, call.wide(input_scale)))
        negative = build.map("mul", build.map("mul", scaled, call.wide(alpha * scale)), power)
    positive = build.map("mul", grad, call.wide(scale))
    return call.narrow(build.where(build.map("le", x, call.wide(0)), negative, positive))


@imports(aten.softplus_backward.default)
def softplus_backward(call: Call, grad: SSAValue, x: SSAValue, beta: Operand, limit: Operand) -> SSAValue:
    build, grad = call.build, call.wide(grad)
    scaled = build.map("mul", call.wide(x), call.wide(beta))
    power = build.map("exp", scaled)
    soft = build.map("div", build.map("mul", grad, power), build.map("add", power, call.wide(1)))
    return call.narrow(build.where(build.map("gt", scaled, call.wide(limit)), grad, soft))


@imports(aten.log_sigmoid_backward.default)
def log_sigmoid_backward(call: Call, grad: SSAValue, x: SSAValue, buffer: SSAValue) -> SSAValue:
    """The buffer would hold ``exp(-|x|)``, which is cheaper to compute than to keep."""
    build, grad, x = call.build, call.wide(grad), call.wide(x)
    one, negative = call.wide(1), build.map("lt", x, call.wide(0))
    decay = build.map("exp", build.map("neg", build.map("abs", x)))
    part = build.map("div", decay, build.map("add", one, decay))
    slope = build.where(negative, build.map("sub", one, part), part)
    return call.narrow(build.map("mul", grad, slope))


@imports(aten.logit_backward.default)
def logit_backward(call: Call, grad: SSAValue, x: SSAValue, epsilon: float | None = None) -> SSAValue:
    """Outside the domain NaN; outside ``[epsilon, 1 - epsilon]``, where it is given, 0."""
    build, grad, x = call.build, call.wide(grad), call.wide(x)
    slope = build.map("div", grad, build.map("mul", x, build.map("sub", call.wide(1), x)))
    low = 0.0 if epsilon is None or epsilon < 0 else epsilon
    outside = build.map("or", build.map("lt", x, call.wide(low)), build.map("gt", x, call.wide(1.0 - low)))
    return call.narrow(build.where(outside, call.wide(math.nan if epsilon is None or epsilon < 0 else 0.0), slope))


@imports(aten._prelu_kernel_backward.default)
def prelu_backward(call: Call, grad: SSAValue, x: SSAValue, weight: SSAValue) -> list[SSAValue]:
    """The second result is the weight's gradient for each element, which the caller adds up."""
    build, grad, x, zero = call.build, call.wide(grad), call.wide(x), call.wide(0)
    positive = build.map("gt", x, zero)
    for_weight = build.where(positive, zero, build.map("mul", x, grad))
    return [scaled_where(call, positive, grad, call.wide(weight)), call.narrow(for_weight, 1)]


@imports(aten.rrelu_with_noise_backward.default)
def rrelu_backward(
    call: Call, grad: SSAValue, x: SSAValue, noise: SSAValue, low: float, high: float, train: bool, is_result: bool
) -> SSAValue:
    if train and high - low > 1e-6:
        return call.map("mul", grad, noise)
    return leaky_relu_backward(call, grad, x, (low + high) / 2)


@imports(aten.glu_backward.default)
def glu_backward(call: Call, grad: SSAValue, x: SSAValue, dim: int) -> SSAValue:
    build, axis = call.build, normal_dim(dim, len(call.shape))
    half, grad = shape_of(grad)[axis], call.wide(grad)
    first, second = (call.wide(build.slice_dim(x, axis, start, half)) for start in (0, half))
    gate = logistic(call, second)
    for_first = build.map("mul", gate, grad)
    for_second = build.map("mul", build.map("sub", call.wide(1), gate), gate)
    for_second = build.map("mul", build.map("mul", for_second, grad), first)
    return build.concat([call.narrow(for_first), call.narrow(for_second)], axis)


@imports(aten.native_dropout_backward.default)
def dropout_backward(call: Call, grad: SSAValue, mask: SSAValue, scale: float) -> SSAValue:
    build = call.build
    refuse_if(dtype_of(mask) != "bool", f"a mask of {dtype_of(mask)}")
    factor = build.where(mask, call.wide(scale), call.wide(0))
    return call.narrow(build.map("mul", call.wide(grad), factor))


@imports(aten._softmax_backward_data.default)
def softmax_backward(call: Call, grad: SSAValue, y: SSAValue, dim: int, dtype: torch.dtype) -> SSAValue:
    build, axes, grad, y = call.build, softmax_axes(call, dim), call.wide(grad), call.wide(y)
    total = reduce_sum(call, build.map("mul", grad, y), axes)
    return call.narrow(build.map("mul", build.map("sub", grad, total), y))


@imports(aten._log_softmax_backward_data.default)
def log_softmax_backward(call: Call, grad: SSAValue, y: SSAValue, dim: int, dtype: torch.dtype) -> SSAValue:
    build, grad = call.build, call.wide(grad)
    total = reduce_sum(call, grad, softmax_axes(call, dim))
    return call.narrow(build.map("sub", grad, build.map("mul", build.map("exp", call.wide(y)), total)))


def softmax_axes(call: Call, dim: int) -> list[int]:
    return [normal_dim(dim, len(call.shape))] if call.shape else []


def reduce_sum(call: Call, x: SSAValue, axes: Sequence[int]) -> SSAValue:
    return call.build.reduce("sum", x, axes) if axes else x


# Views: the gradient stands where the view read, among zeros.


@imports(aten.select_backward.default)
def select_backward(call: Call, grad: SSAValue, sizes: Any, dim: int, index: IntExpr) -> SSAValue:
    axis = normal_dim(dim, len(call.shape))
    layer = [1 if d == axis else size for d, size in enumerate(call.shape)]
    return among_zeros(call, call.build.reshape(grad, layer), axis, position(index, call.shape[axis]))


@imports(aten.slice_backward.default)
def slice_backward(
    call: Call, grad: SSAValue, sizes: Any, dim: int, start: IntExpr, end: IntExpr, step: int
) -> SSAValue:
    axis = normal_dim(dim, len(call.shape))
    size, count = call.shape[axis], shape_of(grad)[axis]
    if isinstance(count, int) and count == 0:
        return call.build.constant(0, call.dtype, call.shape)
    first = slice_start(start, size)
    if step == 1:
        return among_zeros(call, grad, axis, first)
    refuse_if(isinstance(step, Expr) or not isinstance(count, int), "a symbolic step")
    # Each element stands before ``step - 1`` zeros.
    build, shape = call.build, list(shape_of(grad))
    rank = len(shape)
    spread = build.reshape(grad, [*shape[: axis + 1], 1, *shape[axis + 1 :]])
    spread = build.pad(spread, [0] * (rank + 1), [step - 1 if d == axis + 1 else 0 for d in range(rank + 1)], 0)
    shape[axis] = count * step
    return among_zeros(call, build.reshape(spread, shape), axis, first)


def among_zeros(call: Call, x: SSAValue, axis: int, start: IntExpr) -> SSAValue:
    """`x` from `start` on along one dim of the result, which has zeros elsewhere; what does not fit is cut off."""
    rank = len(call.shape)
    low: list[IntExpr] = [0] * rank
    high: list[IntExpr] = [0] * rank
    low[axis], high[axis] = start, call.shape[axis] - start - shape_of(x)[axis]
    return call.build.pad(x, low, high, 0)
