"""Import rules of activation functions: chains of scalar functions in f32 for halves, rounded once, as in ATen."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from xdsl.ir import SSAValue

from .call import Call, Operand
from .table import imports, refuse, refuse_if

aten = torch.ops.aten


def sigmoid_product(call: Call, x: SSAValue) -> SSAValue:
    """``x * sigmoid(x)``, as the quotient that ATen computes."""
    denominator = call.build.map("add", call.wide(1), call.build.map("exp", call.build.map("neg", x)))
    return call.build.map("div", x, denominator)


@imports(aten.relu.default)
def relu(call: Call, x: SSAValue) -> SSAValue:
    return call.map("maximum", x, 0)


@imports(aten.hardtanh.default)
def hardtanh(call: Call, x: SSAValue, low: Operand, high: Operand) -> SSAValue:
    return call.map("minimum", call.map("maximum", x, low), high)


@imports(aten.leaky_relu.default)
def leaky_relu(call: Call, x: SSAValue, slope: Operand) -> SSAValue:
    wide = call.wide(x)
    return positive_or(call, wide, wide, call.build.map("mul", wide, call.wide(slope)))


@imports(aten._prelu_kernel.default)
def prelu(call: Call, x: SSAValue, weight: SSAValue) -> SSAValue:
    wide = call.wide(x)
    return positive_or(call, wide, wide, call.build.map("mul", wide, call.wide(weight)))


@imports(aten.elu.default)
def elu(call: Call, x: SSAValue, alpha: Operand, scale: Operand, input_scale: Operand) -> SSAValue:
    build, wide = call.build, call.wide(x)
    if not isinstance(alpha, (int, float)) or not isinstance(scale, (int, float)):
        refuse("a symbolic factor")
    negative = build.map("expm1", build.map("mul", wide, call.wide(input_scale)))
    negative = build.map("mul", negative, call.wide(alpha * scale))
    return positive_or(call, wide, build.map("mul", wide, call.wide(scale)), negative)


@imports(aten.celu.default)
def celu(call: Call, x: SSAValue, alpha: float) -> SSAValue:
    refuse_if(not alpha, "celu with alpha 0")
    return elu(call, x, alpha, 1.0, 1.0 / alpha)


def positive_or(call: Call, x: SSAValue, positive: SSAValue, other: SSAValue) -> SSAValue:
    """`positive` where ``x > 0``, else `other`, as the result's dtype."""
    return call.narrow(call.build.where(call.build.map("gt", x, call.wide(0)), positive, other))


@imports(aten.threshold.default)
def threshold(call: Call, x: SSAValue, limit: Operand, value: Operand) -> SSAValue:
    at_most = call.build.map("le", call.wide(x), call.wide(limit))
    return call.build.where(at_most, call.value(value, call.dtype), call.value(x, call.dtype))


@imports(aten.silu.default)
def silu(call: Call, x: SSAValue) -> SSAValue:
    return call.narrow(sigmoid_product(call, call.wide(x)))


@imports(aten.mish.default)
def mish(call: Call, x: SSAValue) -> SSAValue:
    build, wide = call.build, call.wide(x)
    soft = build.map("log1p", build.map("exp", wide))
    return call.narrow(build.map("mul", wide, build.map("tanh", soft)))


@imports(aten.softplus.default)
def softplus(call: Call, x: SSAValue, beta: Operand, limit: Operand) -> SSAValue:
    build, wide = call.build, call.wide(x)
    scaled = build.map("mul", wide, call.wide(beta))
    soft = build.map("div", build.map("log1p", build.map("exp", scaled)), call.wide(beta))
    return call.narrow(build.where(build.map("gt", scaled, call.wide(limit)), wide, soft))


@imports(aten.log_sigmoid_forward.default)
def log_sigmoid(call: Call, x: SSAValue) -> list[SSAValue | None]:
    build, wide = call.build, call.wide(x)
    decay = build.map("exp", build.map("neg", build.map("abs", wide)))
    return [call.narrow(build.map("sub", build.map("minimum", wide, call.wide(0)), build.map("log1p", decay))), None]


def clipped_ramp(call: Call, x: SSAValue) -> SSAValue:
    """``min(max(x + 3, 0), 6)``."""
    build = call.build
    ramp = build.map("maximum", build.map("add", x, call.wide(3)), call.wide(0))
    return build.map("minimum", ramp, call.wide(6))


@imports(aten.hardsigmoid.default)
def hardsigmoid(call: Call, x: SSAValue) -> SSAValue:
    return call.narrow(call.build.map("div", clipped_ramp(call, call.wide(x)), call.wide(6)))


@imports(aten.hardswish.default)
def hardswish(call: Call, x: SSAValue) -> SSAValue:
    wide = call.wide(x)
    product = call.build.map("mul", wide, clipped_ramp(call, wide))
    return call.narrow(call.build.map("div", product, call.wide(6)))


@imports(aten.hardshrink.default)
def hardshrink(call: Call, x: SSAValue, limit: float = 0.5) -> SSAValue:
    build = call.build
    inside = build.map("le", build.map("abs", x), call.value(limit, call.dtype))
    return build.where(inside, call.value(0, call.dtype), x)


@imports(aten.softshrink.default)
def softshrink(call: Call, x: SSAValue, limit: float = 0.5) -> SSAValue:
    build, wide, bound = call.build, call.wide(x), call.wide(limit)
    # Zero times x keeps NaN.
    inner = build.where(build.map("lt", wide, build.map("neg", bound)), build.map("add", wide, bound),
                        build.map("mul", wide, call.wide(0)))
    return call.narrow(build.where(build.map("gt", wide, bound), build.map("sub", wide, bound), inner))


def gelu_erf(call: Call, x: SSAValue) -> SSAValue:
    build = call.build
    cdf = build.map("add", call.wide(1), build.map("erf", build.map("mul", x, call.wide(math.sqrt(0.5)))))
    return build.map("mul", build.map("mul", x, call.wide(0.5)), cdf)


def gelu_tanh(call: Call, x: SSAValue) -> SSAValue:
    build = call.build
    cube = build.map("mul", build.map("mul", x, x), x)
    inner = build.map("add", x, build.map("mul", call.wide(0.044715), cube))
    inner = build.map("mul", call.wide(math.sqrt(2 / math.pi)), inner)
    cdf = build.map("add", call.wide(1), build.map("tanh", inner))
    return build.map("mul", build.map("mul", call.wide(0.5), x), cdf)


_GELU: dict[str, Callable[[Call, SSAValue], SSAValue]] = {"none": gelu_erf, "tanh": gelu_tanh}


@imports(aten.gelu.default)
def gelu(call: Call, x: SSAValue, approximate: str = "none") -> SSAValue:
    return call.narrow(_GELU[approximate](call, call.wide(x)))


@imports(aten.glu.default)
def glu(call: Call, x: SSAValue, dim: int = -1) -> SSAValue:
    build = call.build
    axis = dim % len(call.shape)
    half = call.shape[axis]
    first, second = (call.wide(build.slice_dim(x, axis, start, half)) for start in (0, half))
    return call.narrow(build.map("mul", first, build.map("sigmoid", second)))
