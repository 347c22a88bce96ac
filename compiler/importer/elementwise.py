"""Import rules of pointwise arithmetic, comparison, logic, selection and conversion."""

from __future__ import annotations

from typing import Any

import torch
from torch._ops import OpOverload
from xdsl.ir import SSAValue

from tilewright.ir.dtypes import DTYPES
from tilewright.ir.scalars import FLOAT, SCALARS

from .call import Call, Operand, common_dtype, dtype_of, element, is_float, shape_of
from .table import imports, imports_each, refuse_if

aten = torch.ops.aten


def unary_overload(name: str) -> OpOverload | None:
    """ATen's op for a row of the table of scalar functions, if it has one of that name."""
    packet = getattr(aten, name, None) or getattr(aten, f"special_{name}", None)
    return None if packet is None else packet.default


_ROUNDINGS = ("floor", "ceil", "trunc", "round")
_UNARY = {
    overload: name for name, row in SCALARS.items()
    if row.arity == 1 and row.accepts == (FLOAT,) and row.result == "same" and name not in _ROUNDINGS
    and (overload := unary_overload(name)) is not None
}


@imports_each(_UNARY | {aten.special_modified_bessel_i0.default: "i0", aten.special_modified_bessel_i1.default: "i1"})
def float_function(call: Call, fn: str, x: SSAValue) -> SSAValue:
    """A function of floats; integers are taken to the default float type first."""
    return call.map(fn, x)


@imports_each({getattr(aten, name).default: name for name in _ROUNDINGS})
def rounding(call: Call, fn: str, x: SSAValue) -> SSAValue:
    return call.map(fn, x) if call.is_float else x


@imports_each({
    aten.neg.default: "neg", aten.abs.default: "abs", aten.sign.default: "sign", aten.sgn.default: "sign",
})
def arithmetic_unary(call: Call, fn: str, x: SSAValue) -> SSAValue:
    if dtype_of(x) == "bool":
        refuse_if(fn != "sign", f"{fn} of bool")
        return x
    return call.map(fn, x)


@imports_each({aten.isnan.default: "isnan", aten.isinf.default: "isinf"})
def float_test(call: Call, fn: str, x: SSAValue) -> SSAValue:
    if not is_float(x):
        return call.build.constant(False, "bool", call.shape)
    return call.build.map(fn, x)


# Arithmetic. ATen rounds a number to the half type in sums, but not in products and quotients.

_ON_BOOL = {"add": "or", "mul": "and"}


@imports_each({
    aten.add.Tensor: "add", aten.add.Scalar: "add",
    aten.sub.Tensor: "sub", aten.sub.Scalar: "sub", aten.subtract.Tensor: "sub",
})
def add_or_sub(call: Call, fn: str, a: Operand, b: Operand, alpha: Operand = 1) -> SSAValue:
    if call.dtype == "bool":
        refuse_if(fn not in _ON_BOOL or alpha != 1, f"{fn} of bool")
        return call.map(_ON_BOOL[fn], a, b)
    if isinstance(alpha, (int, float)) and alpha == 1:
        return call.map(fn, a, b)
    return call.narrow(call.build.map(fn, call.wide(a), scaled(call, b, alpha)))


@imports(aten.rsub.Tensor, aten.rsub.Scalar)
def rsub(call: Call, a: Operand, b: Operand, alpha: Operand = 1) -> SSAValue:
    return add_or_sub(call, "sub", b, a, alpha)


@imports(aten.mul.Tensor, aten.mul.Scalar, aten.multiply.Tensor)
def mul(call: Call, a: Operand, b: Operand) -> SSAValue:
    return call.map("and", a, b) if call.dtype == "bool" else call.wide_map("mul", a, b)


_DIVISIONS = {None: "div", "floor": "floor_div", "trunc": "trunc_div"}


@imports(
    aten.div.Tensor, aten.div.Scalar, aten.div.Tensor_mode, aten.div.Scalar_mode, aten.true_divide.Tensor,
    aten.divide.Tensor,
)
def div(call: Call, a: Operand, b: Operand, rounding_mode: str | None = None) -> SSAValue:
    return divide(call, _DIVISIONS[rounding_mode], a, b)


@imports(aten.floor_divide.default, aten.floor_divide.Scalar)
def floor_divide(call: Call, a: Operand, b: Operand) -> SSAValue:
    return divide(call, "floor_div", a, b)


@imports_each({
    aten.remainder.Tensor: "remainder", aten.remainder.Scalar: "remainder", aten.remainder.Scalar_Tensor: "remainder",
    aten.fmod.Tensor: "fmod", aten.fmod.Scalar: "fmod",
})
def remainder(call: Call, fn: str, a: Operand, b: Operand) -> SSAValue:
    return call.map(fn, a, b)


def divide(call: Call, fn: str, a: Operand, b: Operand) -> SSAValue:
    return call.wide_map(fn, a, b)


@imports_each({
    aten.maximum.default: "maximum", aten.minimum.default: "minimum",
    aten.fmax.default: "fmax", aten.fmin.default: "fmin",
})
def extremum(call: Call, fn: str, a: SSAValue, b: SSAValue) -> SSAValue:
    if not call.is_float:
        fn = {"fmax": "maximum", "fmin": "minimum"}.get(fn, fn)
    return call.map(fn, a, b)


@imports_each({
    aten.atan2.default: "atan2", aten.copysign.Tensor: "copysign", aten.copysign.Scalar: "copysign",
    aten.hypot.default: "hypot",
})
def float_binary(call: Call, fn: str, a: Operand, b: Operand) -> SSAValue:
    return call.map(fn, a, b)


# Exponents for which ATen itself does not call pow.
_POWERS: dict[float, tuple[str, ...]] = {
    0.5: ("sqrt",), -0.5: ("rsqrt",), -1.0: ("reciprocal",), -2.0: ("square", "reciprocal"),
}


@imports(aten.pow.Tensor_Scalar)
def pow_number(call: Call, x: SSAValue, exponent: Operand) -> SSAValue:
    if not isinstance(exponent, (bool, int, float)) or dtype_of(x) == "bool":
        return pow_tensor(call, x, exponent)
    if exponent == 1:
        return call.value(x, call.dtype)
    if exponent == 0:
        return call.build.constant(1, call.dtype, call.shape)
    if exponent in (2, 3):
        wide = call.wide(x)
        result = call.build.map("mul", wide, wide)
        return call.narrow(result if exponent == 2 else call.build.map("mul", result, wide))
    if call.is_float and exponent in _POWERS:
        result = call.wide(x)
        for fn in _POWERS[exponent]:
            result = call.build.map("mul", result, result) if fn == "square" else call.build.map(fn, result)
        return call.narrow(result)
    return pow_tensor(call, x, exponent)


@imports(aten.pow.Tensor_Tensor, aten.pow.Scalar)
def pow_tensor(call: Call, base: Operand, exponent: Operand) -> SSAValue:
    known = isinstance(exponent, int) and exponent >= 0
    refuse_if(not call.is_float and not (known and call.dtype != "bool"), "integer power that may be negative")
    return call.map("pow", base, exponent)


@imports(aten.addcmul.default)
def addcmul(call: Call, x: SSAValue, a: SSAValue, b: SSAValue, value: Operand = 1) -> SSAValue:
    product = call.build.map("mul", scaled(call, a, value), call.wide(b))
    return call.narrow(call.build.map("add", call.wide(x), product))


@imports(aten.addcdiv.default)
def addcdiv(call: Call, x: SSAValue, a: SSAValue, b: SSAValue, value: Operand = 1) -> SSAValue:
    refuse_if(not call.is_float, "addcdiv of integers")
    quotient = call.build.map("div", scaled(call, a, value), call.wide(b))
    return call.narrow(call.build.map("add", call.wide(x), quotient))


def scaled(call: Call, x: Operand, factor: Operand) -> SSAValue:
    if isinstance(factor, (int, float)) and factor == 1:
        return call.wide(x)
    return call.build.map("mul", call.wide(x), call.wide(factor))


@imports(aten.lerp.Scalar, aten.lerp.Tensor)
def lerp(call: Call, start: SSAValue, end: SSAValue, weight: Operand) -> SSAValue:
    """Computed from the nearer end, as in ATen, so that a weight of 1 gives `end` exactly."""
    build = call.build
    a, b, w = call.wide(start), call.wide(end), call.wide(weight)
    span = build.map("sub", b, a)
    half, one = call.wide(0.5), call.wide(1)
    from_start = build.map("add", a, build.map("mul", w, span))
    from_end = build.map("sub", b, build.map("mul", span, build.map("sub", one, w)))
    near = build.map("lt", build.map("abs", w), half)
    return call.narrow(build.where(near, from_start, from_end))


@imports(aten.clamp.default, aten.clamp.Tensor)
def clamp(call: Call, x: SSAValue, low: Operand | None = None, high: Operand | None = None) -> SSAValue:
    result = call.value(x, call.dtype)
    if low is not None:
        result = call.map("maximum", result, low)
    return result if high is None else call.map("minimum", result, high)


@imports(aten.clamp_min.default, aten.clamp_min.Tensor)
def clamp_min(call: Call, x: SSAValue, low: Operand) -> SSAValue:
    return call.map("maximum", x, low)


@imports(aten.clamp_max.default, aten.clamp_max.Tensor)
def clamp_max(call: Call, x: SSAValue, high: Operand) -> SSAValue:
    return call.map("minimum", x, high)


# Comparison and logic.

_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


@imports_each({getattr(getattr(aten, n), kind): n for n in _COMPARISONS for kind in ("Tensor", "Scalar")})
def comparison(call: Call, fn: str, a: Operand, b: Operand) -> SSAValue:
    dtype = common_dtype(a, b)
    return call.build.map(fn, call.value(a, dtype), call.value(b, dtype))


@imports_each({
    aten.logical_and.default: "and", aten.logical_or.default: "or", aten.logical_xor.default: "xor",
    aten.logical_not.default: "not",
})
def logical(call: Call, fn: str, *operands: SSAValue) -> SSAValue:
    return call.build.map(fn, *[truth(call, o) for o in operands])


def truth(call: Call, x: SSAValue) -> SSAValue:
    """Whether the elements are not zero."""
    return x if dtype_of(x) == "bool" else call.build.map("ne", x, call.value(0, dtype_of(x)))


@imports_each({
    getattr(getattr(aten, f"bitwise_{fn}"), kind): fn
    for fn in ("and", "or", "xor") for kind in ("Tensor", "Scalar", "Scalar_Tensor")
})
def bitwise(call: Call, fn: str, a: Operand, b: Operand) -> SSAValue:
    return call.map(fn, a, b)


@imports(aten.bitwise_not.default)
def bitwise_not(call: Call, x: SSAValue) -> SSAValue:
    return call.map("not", x)


# Selection.


@imports(aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar)
def where(call: Call, condition: SSAValue, a: Operand, b: Operand) -> SSAValue:
    result = call.build.where(truth(call, condition), call.value(a, call.dtype), call.value(b, call.dtype))
    return call.build.broadcast(result, call.shape)


@imports(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(call: Call, x: SSAValue, mask: SSAValue, value: Operand) -> SSAValue:
    return call.build.where(truth(call, mask), call.value(value, call.dtype), call.value(x, call.dtype))


@imports(aten.nan_to_num.default)
def nan_to_num(
    call: Call, x: SSAValue, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> SSAValue:
    if not is_float(x):
        return x
    build, limit = call.build, torch.finfo(getattr(torch, DTYPES[dtype_of(x)].torch_name))
    infinity = call.value(float("inf"), call.dtype)
    above = build.map("eq", x, infinity)
    below = build.map("eq", x, call.value(float("-inf"), call.dtype))
    result = build.where(build.map("isnan", x), call.value(nan or 0.0, call.dtype), x)
    result = build.where(above, call.value(limit.max if posinf is None else posinf, call.dtype), result)
    return build.where(below, call.value(limit.min if neginf is None else neginf, call.dtype), result)


# Conversion and identity.


@imports(
    aten.clone.default, aten.alias.default, aten.detach.default, aten.lift_fresh.default, aten.lift_fresh_copy.default,
    aten.positive.default, aten.contiguous.default, aten.alias_copy.default, aten.detach_copy.default,
)
def identity(call: Call, x: SSAValue, **_: Any) -> SSAValue:
    """A copy, or another memory layout, of the same elements."""
    return x


@imports(aten._to_copy.default, torch.ops.prims.convert_element_type.default)
def convert(call: Call, x: SSAValue, dtype: Any = None, **_: Any) -> SSAValue:
    return call.value(x, call.dtype)


@imports(aten.copy.default)
def copy(call: Call, x: SSAValue, source: SSAValue, non_blocking: bool = False) -> SSAValue:
    return call.build.broadcast(call.value(source, call.dtype), call.shape)


@imports(aten.fill.Scalar, aten.fill.Tensor)
def fill(call: Call, x: SSAValue, value: Operand) -> SSAValue:
    if isinstance(value, (bool, int, float)):
        return call.build.constant(element(value, call.dtype), call.dtype, shape_of(x))
    return call.build.broadcast(call.value(value, call.dtype), shape_of(x))
