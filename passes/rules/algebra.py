"""Algebra of maps. Every rule here keeps every bit, for NaN, infinities and signed zeros too, unless it says otherwise.

What is left out on purpose: x + 0.0 (it turns -0.0 into 0.0), x * 0.0 and x - x (NaN, inf), x ** 0.5 as sqrt
(pow(-inf, 0.5) is inf), not(a < b) as a >= b for floats (NaN).
"""

from __future__ import annotations

import math

from xdsl.ir import SSAValue

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.patterns import (
    Number,
    abs_,
    add,
    and_,
    captures,
    cast,
    const,
    constant,
    div,
    eq,
    map_,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    not_,
    or_,
    pow_,
    same_number,
    sub,
    where,
    xor,
)
from tilewright.ir.rewrite import Rule, RuleSet

from .common import dtype_of, fill, is_bool, is_discrete, is_float, is_int, keep

x, y, z, c = captures("x y z c")

# The exponents of the powers of two that are normal numbers, with a normal reciprocal.
_NORMAL_EXPONENTS = {"f64": 1022, "f32": 126, "bf16": 126, "f16": 14}

# dtype -> the dtypes that hold every one of its elements.
_LOSSLESS: dict[str, frozenset[str]] = {
    source: frozenset(targets.split())
    for source, targets in {
        "bool": "u8 i8 i16 i32 i64 bf16 f16 f32 f64",
        "u8": "i16 i32 i64 bf16 f16 f32 f64",
        "i8": "i16 i32 i64 bf16 f16 f32 f64",
        "i16": "i32 i64 f32 f64",
        "i32": "i64 f64",
        "bf16": "f32 f64",
        "f16": "f32 f64",
        "f32": "f64",
    }.items()
}


def _is_signed_or_float(x: SSAValue) -> bool:
    return DTYPES[dtype_of(x)].kind in ("float", "int")


def _is_power_of_two(x: SSAValue, k: Number) -> bool:
    """x / k and x * (1 / k) round the same real number: 1 / k is exact."""
    exponent = math.frexp(k)[1] - 1
    limit = _NORMAL_EXPONENTS.get(dtype_of(x), -1)
    return math.isfinite(k) and abs(math.frexp(k)[0]) == 0.5 and -limit <= exponent <= limit


def _reciprocal(x: SSAValue, k: Number, build: Builder) -> SSAValue:
    return build.map("mul", x, build.constant(1.0 / k, dtype_of(x)))


def _is_lowest(x: SSAValue, k: Number) -> bool:
    return same_number(k, _limits(dtype_of(x))[0])


def _is_highest(x: SSAValue, k: Number) -> bool:
    return same_number(k, _limits(dtype_of(x))[1])


def _limits(dtype: str) -> tuple[Number, Number]:
    row = DTYPES[dtype]
    if row.kind == "bool":
        return False, True
    if row.is_float:
        return -math.inf, math.inf
    bits = 8 * row.itemsize
    return (0, 2**bits - 1) if row.kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _is_all_ones(x: SSAValue, k: Number) -> bool:
    return k == (True if is_bool(x) else _limits(dtype_of(x))[1] if dtype_of(x) == "u8" else -1)


def _fits_between(x: SSAValue, inner: tw.MapOp, op: tw.MapOp) -> bool:
    """The first cast loses nothing, so that the second sees the same numbers without it. A float as an integer is left
    where it may be out of range: that is not defined, and may differ."""
    source, middle, target = dtype_of(x), dtype_of(inner.result), dtype_of(op.result)
    if middle not in _LOSSLESS.get(source, ()):
        return False
    truncates = is_float(inner.result) and DTYPES[target].is_integer
    return not truncates or source == target or target in _LOSSLESS[source]


def _combined(fn: str, x: SSAValue, a: Number, b: Number, build: Builder) -> SSAValue:
    number = a + b if fn == "add" else a * b
    return build.map(fn, x, build.constant(number, dtype_of(x)))


_ONE, _ZERO, _TRUE, _FALSE = const(1), const(0), const(True), const(False)
_INVERSE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}


def _inverted(inner: tw.MapOp, build: Builder) -> SSAValue:
    return build.map(_INVERSE[inner.fn.data], *inner.args)


NEUTRAL = RuleSet(
    Rule("x * 1 -> x", mul(x, _ONE), keep),
    Rule("x / 1 -> x", div(x, _ONE), keep),
    Rule("x - 0 -> x", sub(x, _ZERO), keep),
    Rule("x + (-0.0) -> x", add(x, const(-0.0)), keep, is_float),
    Rule("x + 0 -> x, integers", add(x, _ZERO), keep, is_int),
    Rule("x ** 1 -> x", pow_(x, _ONE), keep),
    Rule("max(x, lowest) -> x", maximum(x, constant("k")), keep, _is_lowest),
    Rule("min(x, highest) -> x", minimum(x, constant("k")), keep, _is_highest),
    Rule("x & ones -> x", and_(x, constant("k")), keep, _is_all_ones),
    Rule("x | 0 -> x", or_(x, _ZERO), keep),
    Rule("x ^ 0 -> x", xor(x, _ZERO), keep),
    Rule("x << 0 -> x", map_(("shl", "shr"), x, _ZERO), keep),
    Rule("x // 1 -> x, integers", map_(("floor_div", "trunc_div"), x, _ONE), keep, is_int),
)

ABSORBING = RuleSet(
    Rule("x * 0 -> 0, integers", mul(x, _ZERO), lambda op, build: fill(0, op, build), is_int),
    Rule("x % 1 -> 0, integers", map_("remainder", x, _ONE), lambda op, build: fill(0, op, build), is_int),
    Rule("x & 0 -> 0", and_(x, _ZERO), lambda op, build: fill(0, op, build)),
    Rule(
        "x | ones -> ones",
        or_(x, constant("k")),
        lambda op, build, k: fill(k, op, build),
        _is_all_ones,
    ),
    Rule("x ** 0 -> 1", pow_(x, _ZERO), lambda op, build: fill(1, op, build)),
)

SELF = RuleSet(
    Rule("f(x, x) -> x", map_(("maximum", "minimum", "fmax", "fmin", "and", "or"), x, x), keep),
    Rule("x ^ x -> 0", xor(x, x), lambda op, build: fill(0, op, build)),
    Rule("x - x -> 0, integers", sub(x, x), lambda op, build: fill(0, op, build), is_int),
    Rule(
        "x == x -> true, no floats",
        map_(("eq", "le", "ge"), x, x),
        lambda op, build: fill(True, op, build),
        is_discrete,
    ),
    Rule("x < x -> false", map_(("lt", "gt"), x, x), lambda op, build: fill(False, op, build)),
    Rule("x != x -> isnan x", ne(x, x), lambda x, build: build.map("isnan", x), is_float),
    Rule("x != x -> false, no floats", ne(x, x), lambda op, build: fill(False, op, build), is_discrete),
)

SIGNS = RuleSet(
    Rule("neg(neg x) -> x", neg(neg(x)), lambda x: x),
    Rule("not(not x) -> x", not_(not_(x)), lambda x: x),
    Rule("abs(abs x) -> abs x", abs_(abs_(x, name="inner")), lambda inner: inner.result),
    Rule("abs(neg x) -> abs x", abs_(neg(x)), lambda x, build: build.map("abs", x)),
    Rule(
        "x * -1 -> neg x",
        mul(x, const(-1)),
        lambda x, op, build: keep(build.map("neg", x), op, build),
        _is_signed_or_float,
    ),
    Rule("x + neg y -> x - y", add(x, neg(y)), lambda x, y, build: build.map("sub", x, y)),
    Rule("x - neg y -> x + y", sub(x, neg(y)), lambda x, y, build: build.map("add", x, y)),
    Rule("neg x * neg y -> x * y", mul(neg(x), neg(y)), lambda x, y, build: build.map("mul", x, y)),
)

STRENGTH = RuleSet(
    # ATen computes squares so, and `pow` rounds to the same number.
    Rule("x ** 2 -> x * x", pow_(x, const(2)), lambda x, op, build: keep(build.map("mul", x, x), op, build)),
    Rule(
        "x / 2^k -> x * 2^-k",
        div(x, constant("k")),
        lambda x, k, op, build: keep(_reciprocal(x, k, build), op, build),
        _is_power_of_two,
    ),
    Rule(
        "(x + a) + b -> x + (a + b), integers",
        add(add(x, constant("a")), constant("b")),
        lambda x, a, b, op, build: keep(_combined("add", x, a, b, build), op, build),
        is_int,
    ),
    Rule(
        "(x * a) * b -> x * (a * b), integers",
        mul(mul(x, constant("a")), constant("b")),
        lambda x, a, b, op, build: keep(_combined("mul", x, a, b, build), op, build),
        is_int,
    ),
)

SELECTION = RuleSet(
    Rule("where(true, x, y) -> x", where(_TRUE, x, y), lambda x, op, build: keep(x, op, build)),
    Rule("where(false, x, y) -> y", where(_FALSE, x, y), lambda y, op, build: keep(y, op, build)),
    Rule("where(c, x, x) -> x", where(c, x, x), lambda x, op, build: keep(x, op, build)),
    Rule(
        "where(not c, x, y) -> where(c, y, x)",
        where(not_(c), x, y),
        lambda c, x, y, build: build.where(c, y, x),
    ),
    Rule(
        "where(c, where(c, x, y), z) -> where(c, x, z)",
        where(c, where(c, x, y), z),
        lambda c, x, z, op, build: keep(build.where(c, x, z), op, build),
    ),
    Rule(
        "where(c, x, where(c, y, z)) -> where(c, x, z)",
        where(c, x, where(c, y, z)),
        lambda c, x, z, op, build: keep(build.where(c, x, z), op, build),
    ),
    Rule(
        "where(c, 1, 0) -> cast c",
        where(c, _ONE, _ZERO),
        lambda c, op, build: keep(build.cast(c, dtype_of(op.result)), op, build),
    ),
    Rule(
        "where(c, 0, 1) -> cast(not c)",
        where(c, _ZERO, _ONE),
        lambda c, op, build: keep(build.cast(build.map("not", c), dtype_of(op.result)), op, build),
    ),
)

LOGIC = RuleSet(
    Rule("b ^ true -> not b", xor(x, _TRUE), lambda x, op, build: keep(build.map("not", x), op, build), is_bool),
    Rule("b == true -> b", eq(x, _TRUE), keep, is_bool),
    Rule("b == false -> not b", eq(x, _FALSE), lambda x, op, build: keep(build.map("not", x), op, build), is_bool),
    Rule("b != false -> b", ne(x, _FALSE), keep, is_bool),
    Rule("b != true -> not b", ne(x, _TRUE), lambda x, op, build: keep(build.map("not", x), op, build), is_bool),
    Rule("max(a, b) -> a | b, bools", maximum(x, y), lambda x, y, build: build.map("or", x, y), is_bool),
    Rule("min(a, b) -> a & b, bools", minimum(x, y), lambda x, y, build: build.map("and", x, y), is_bool),
    Rule("not(x == y) -> x != y", not_(map_(("eq", "ne"), x, y, name="inner")), _inverted),
    Rule(
        "not(x < y) -> x >= y, no floats",
        not_(map_(("lt", "le", "gt", "ge"), x, y, name="inner")),
        _inverted,
        is_discrete,
    ),
)

CASTS = RuleSet(
    Rule(
        "cast(cast x) -> cast x, widening first",
        cast(cast(x, name="inner")),
        lambda x, op, build: build.cast(x, dtype_of(op.result)),
        _fits_between,
    ),
    Rule(
        "cast b != 0 -> b",
        ne(cast(x), _ZERO),
        keep,
        is_bool,
    ),
    Rule(
        "cast b == 0 -> not b",
        eq(cast(x), _ZERO),
        lambda x, op, build: keep(build.map("not", x), op, build),
        is_bool,
    ),
)

ALGEBRA = NEUTRAL + ABSORBING + SELF + SIGNS + STRENGTH + SELECTION + LOGIC + CASTS
