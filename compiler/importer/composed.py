"""Import rules of pointwise functions that are several scalar functions, and of special functions."""

from __future__ import annotations

import math

import torch
from xdsl.ir import SSAValue

from tilewright.ir.scalars import FLOAT, kind_of

from .call import Call, Operand, dtype_of, is_float, is_half
from .table import imports, imports_each, refuse_if

aten = torch.ops.aten
INF = float("inf")


@imports_each({aten.isposinf.default: INF, aten.isneginf.default: -INF})  # type: ignore[dict-item]
def signed_infinity(call: Call, infinity: float, x: SSAValue) -> SSAValue:
    if not is_float(x):
        return call.build.constant(False, "bool", call.shape)
    return call.build.map("eq", x, call.value(infinity, dtype_of(x)))


@imports(aten.signbit.default)
def signbit(call: Call, x: SSAValue) -> SSAValue:
    """Whether the sign is set, that of zeros and NaN too."""
    if dtype_of(x) == "bool":
        return call.build.constant(False, "bool", call.shape)
    if is_float(x):
        one = call.value(1, dtype_of(x))
        x = call.build.map("copysign", one, x)
    return call.build.map("lt", x, call.value(0, dtype_of(x)))


@imports(aten.angle.default)
def angle(call: Call, x: SSAValue) -> SSAValue:
    """pi below zero, else 0; NaN stays."""
    build = call.build
    value = call.value(x, call.dtype)
    zero, pi = call.value(0, call.dtype), call.value(math.pi, call.dtype)
    result = build.where(build.map("lt", value, zero), pi, zero)
    return build.where(build.map("isnan", value), value, result)


@imports(aten.heaviside.default)
def heaviside(call: Call, x: SSAValue, at_zero: SSAValue) -> SSAValue:
    """0 below zero and for NaN, `at_zero` at zero, 1 above."""
    zero = call.value(0, call.dtype)
    step = call.build.cast(call.build.map("gt", x, zero), call.dtype)
    return call.build.where(call.build.map("eq", x, zero), at_zero, step)


@imports(aten.xlogy.Tensor, aten.xlogy.Scalar_Self, aten.xlogy.Scalar_Other)
def xlogy(call: Call, x: Operand, y: Operand) -> SSAValue:
    return zero_product(call, call.wide(x), call.wide(y), "log")


@imports(aten.special_xlog1py.default, aten.special_xlog1py.self_scalar, aten.special_xlog1py.other_scalar)
def xlog1py(call: Call, x: Operand, y: Operand) -> SSAValue:
    return zero_product(call, call.wide(x), call.wide(y), "log1p")


def zero_product(call: Call, x: SSAValue, y: SSAValue, fn: str) -> SSAValue:
    """``x * fn(y)``, which is 0 where x is 0 and NaN where y is."""
    build = call.build
    product = build.map("mul", x, build.map(fn, y))
    result = build.where(build.map("eq", x, call.wide(0)), call.wide(0), product)
    return call.narrow(build.where(build.map("isnan", y), call.wide(math.nan), result))


@imports(aten.special_entr.default)
def entropy(call: Call, x: SSAValue) -> SSAValue:
    """``-x log(x)``, 0 at zero, -inf below."""
    build, wide = call.build, call.wide(x)
    zero = call.wide(0)
    inner = build.map("mul", build.map("neg", wide), build.map("log", wide))
    outer = build.where(build.map("eq", wide, zero), zero, call.wide(-INF))
    result = build.where(build.map("gt", wide, zero), inner, outer)
    return call.narrow(build.where(build.map("isnan", wide), wide, result))


@imports_each({aten.logaddexp.default: "exp", aten.logaddexp2.default: "exp2"})
def log_of_sum(call: Call, fn: str, a: SSAValue, b: SSAValue) -> SSAValue:
    """``log(e^a + e^b)`` from the larger one up. Equal infinities are the result, where inf - inf would not be."""
    build, x, y = call.build, call.wide(a), call.wide(b)
    distance = build.map("neg", build.map("abs", build.map("sub", x, y)))
    rest = build.map("log1p", build.map(fn, distance))
    if fn == "exp2":
        rest = build.map("mul", rest, call.wide(1 / math.log(2)))
    result = build.map("add", build.map("maximum", x, y), rest)
    same = build.map("and", build.map("isinf", x), build.map("eq", x, y))
    return call.narrow(build.where(same, x, result))


@imports(aten.frexp.Tensor)
def frexp(call: Call, x: SSAValue) -> list[SSAValue]:
    wide = call.wide(x)
    exponent = call.build.cast(call.build.map("frexp_exponent", wide), "i32")
    return [call.narrow(call.build.map("frexp_mantissa", wide)), exponent]


@imports(aten.nextafter.default)
def nextafter(call: Call, x: SSAValue, y: SSAValue) -> SSAValue:
    refuse_if(is_half(x), "the next number of a type whose arithmetic happens in another")
    return call.map("nextafter", x, y)


@imports(aten.gcd.default)
def greatest_common_divisor(call: Call, a: SSAValue, b: SSAValue) -> SSAValue:
    return call.map("gcd", a, b)


@imports(aten.lcm.default)
def least_common_multiple(call: Call, a: SSAValue, b: SSAValue) -> SSAValue:
    build = call.build
    divisor = call.map("gcd", a, b)
    # The divisor is 0 where both numbers are, and then so is the product.
    share = build.map("trunc_div", call.value(a, call.dtype), build.map("maximum", divisor, call.value(1, call.dtype)))
    return build.map("abs", build.map("mul", share, call.value(b, call.dtype)))


@imports(aten.round.decimals)
def round_decimals(call: Call, x: SSAValue, decimals: int) -> SSAValue:
    build = call.build
    if not call.is_float:
        refuse_if(decimals != 0, "decimals of integers")
        return x
    if decimals == 0:
        return call.map("round", x)
    power = call.wide(float(10 ** abs(decimals)))
    into, back = ("mul", "div") if decimals > 0 else ("div", "mul")
    rounded = build.map("round", build.map(into, call.wide(x), power))
    return call.narrow(build.map(back, rounded, power))


@imports(aten.polygamma.default)
def polygamma(call: Call, n: int, x: SSAValue) -> SSAValue:
    """The n-th derivative of digamma, from the Hurwitz zeta function for n >= 1 (Abramowitz and Stegun 6.4.10)."""
    refuse_if(n < 0, "polygamma of a negative order")
    if n == 0:
        return call.map("digamma", x)
    build, wide = call.build, call.wide(x)
    factor = math.gamma(n + 1.0) if n <= 170 else math.inf
    zeta = build.map("zeta", call.wide(n + 1), wide)
    if n == 1:
        return call.narrow(build.where(build.map("eq", wide, call.wide(-INF)), call.wide(math.nan), zeta))
    return call.narrow(build.map("mul", call.wide(factor if n % 2 else -factor), zeta))


@imports_each({aten.bitwise_left_shift.Tensor: "shl", aten.bitwise_right_shift.Tensor: "shr"})
def shift(call: Call, fn: str, x: SSAValue, amount: SSAValue) -> SSAValue:
    refuse_if(kind_of(call.dtype) in (FLOAT, "bool"), f"{fn} of {call.dtype}")
    return call.map(fn, x, amount)


@imports_each({
    aten.bitwise_left_shift.Tensor_Scalar: "shl", aten.bitwise_right_shift.Tensor_Scalar: "shr",
    aten.bitwise_left_shift.Scalar_Tensor: "shl", aten.bitwise_right_shift.Scalar_Tensor: "shr",
})
def shift_number(call: Call, fn: str, x: Operand, amount: Operand) -> SSAValue:
    refuse_if(kind_of(call.dtype) in (FLOAT, "bool"), f"{fn} of {call.dtype}")
    return call.map(fn, x, amount)


_POLYNOMIALS = (
    "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v", "chebyshev_polynomial_w",
    "hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p",
)
_KINDS = ("default", "x_scalar", "n_scalar")


@imports_each({getattr(getattr(aten, f"special_{name}"), kind): name for name in _POLYNOMIALS for kind in _KINDS})
def polynomial(call: Call, fn: str, x: Operand, degree: Operand) -> SSAValue:
    return call.map(fn, x, degree)


@imports_each({
    getattr(getattr(aten, f"special_shifted_{name}"), kind): name for name in _POLYNOMIALS[:4] for kind in _KINDS
})
def shifted_polynomial(call: Call, fn: str, x: Operand, degree: Operand) -> SSAValue:
    """The polynomial at ``2x - 1``."""
    build, wide = call.build, call.wide(x)
    place = build.map("sub", build.map("add", wide, wide), call.wide(1))
    return call.narrow(build.map(fn, place, call.wide(degree)))


@imports(aten.special_zeta.default, aten.special_zeta.self_scalar, aten.special_zeta.other_scalar)
def zeta(call: Call, s: Operand, q: Operand) -> SSAValue:
    return call.map("zeta", s, q)


@imports_each({
    aten.special_modified_bessel_k0.default: "scaled_modified_bessel_k0",
    aten.special_modified_bessel_k1.default: "scaled_modified_bessel_k1",
})
def decaying_bessel(call: Call, fn: str, x: SSAValue) -> SSAValue:
    build, wide = call.build, call.wide(x)
    return call.narrow(build.map("mul", build.map(fn, wide), build.map("exp", build.map("neg", wide))))


@imports(aten.special_spherical_bessel_j0.default)
def spherical_bessel(call: Call, x: SSAValue) -> SSAValue:
    """``sin(x) / x``: 1 at zero, 0 at infinity."""
    build, wide = call.build, call.wide(x)
    quotient = build.map("div", build.map("sin", wide), wide)
    quotient = build.where(build.map("eq", wide, call.wide(0)), call.wide(1), quotient)
    return call.narrow(build.where(build.map("isinf", wide), call.wide(0), quotient))


@imports(aten.special_log_ndtr.default)
def log_normal_distribution(call: Call, x: SSAValue) -> SSAValue:
    """The logarithm of the normal distribution: through the scaled `erfcx` where the distribution is small."""
    build, wide = call.build, call.wide(x)
    scaled = build.map("mul", wide, call.wide(math.sqrt(0.5)))
    small = build.map("log", build.map("mul", build.map("erfcx", build.map("neg", scaled)), call.wide(0.5)))
    small = build.map("sub", small, build.map("mul", scaled, scaled))
    rest = build.map("mul", build.map("erfc", scaled), call.wide(-0.5))
    below = build.map("lt", wide, call.wide(-1))
    return call.narrow(build.where(below, small, build.map("log1p", rest)))
