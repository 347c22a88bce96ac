"""Texts of the scalar functions and combiners in C++: one row for each of `ir/scalars.py`, one column for each kind.

`{a}`, `{b}`, `{c}` are operands of one compute type `{t}`, whose number 1 is `{one}`. Functions called as `tw::name`
are in `tilewright_math.h`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tilewright.ir.dtypes import DTYPES, compute_dtype, round_to
from tilewright.ir.scalars import BOOL, FLOAT, INT, SCALARS

from ..functions import function_text as table_text

# The C++ types of values, and of what memory holds (a bool is a byte there, so that any byte can be read).
VALUE_TYPES: dict[str, str] = {
    "f64": "double", "f32": "float", "bf16": "bfloat16", "f16": "float16", "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2", "i64": "int64_t", "i32": "int32_t", "i16": "int16_t", "i8": "int8_t", "u8": "uint8_t",
    "bool": "bool",
}
MEMORY_TYPES: dict[str, str] = VALUE_TYPES | {"bool": "uint8_t"}


def _same(text: str, *kinds: str) -> dict[str, str]:
    return dict.fromkeys(kinds or (FLOAT, INT, BOOL), text)


def _call_1(name: str) -> dict[str, str]:
    return {FLOAT: f"tw::{name}({{a}})"}


def _call_2(name: str, *kinds: str) -> dict[str, str]:
    return dict.fromkeys(kinds or (FLOAT, INT), f"tw::{name}({{a}}, {{b}})")


# What `tilewright_special.h` holds: series and iterations, which other kernels need not compile.
SPECIAL = (
    "digamma", "zeta", "erfinv", "erfcx", "ndtri", "i0", "i0e", "i1", "i1e", "scaled_modified_bessel_k0",
    "scaled_modified_bessel_k1", "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v",
    "chebyshev_polynomial_w", "hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l",
    "legendre_polynomial_p",
)

FUNCTIONS: dict[str, dict[str, str]] = {
    "add": _same("{a} + {b}", FLOAT, INT),
    "sub": _same("{a} - {b}", FLOAT, INT),
    "mul": _same("{a} * {b}", FLOAT, INT),
    "div": _same("{a} / {b}", FLOAT),
    "floor_div": _call_2("floor_div"),
    "trunc_div": {FLOAT: "tw::trunc({a} / {b})", INT: "tw::trunc_div({a}, {b})"},
    "remainder": _call_2("remainder"),
    "fmod": _call_2("fmod"),
    "neg": _same("-{a}", FLOAT, INT),
    "abs": _same("tw::abs({a})", FLOAT, INT),
    "sign": _same("{t}(({a} > 0) - ({a} < 0))", FLOAT, INT),
    "maximum": _call_2("maximum") | {BOOL: "{a} | {b}"},
    "minimum": _call_2("minimum") | {BOOL: "{a} & {b}"},
    "fmax": _call_2("fmax"),
    "fmin": _call_2("fmin"),
    "reciprocal": _same("{one} / {a}", FLOAT),
    "sqrt": _call_1("sqrt"),
    "rsqrt": _same("{one} / tw::sqrt({a})", FLOAT),
    "pow": _call_2("pow"),
    "copysign": _call_2("copysign", FLOAT),
    **{name: _call_1(name) for name in (
        "floor", "ceil", "trunc", "round", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sigmoid", "tanh",
        "erf", "erfc", "lgamma", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh",
        "atanh",
    )},
    "atan2": _call_2("atan2", FLOAT),
    "hypot": _call_2("hypot", FLOAT),
    "nextafter": _call_2("nextafter", FLOAT),
    **{name: _call_1(name) for name in ("frexp_mantissa", "frexp_exponent")},
    "gcd": _call_2("gcd", INT),
    **{name: _call_1(name) if SCALARS[name].arity == 1 else _call_2(name, FLOAT) for name in SPECIAL},
    "eq": _same("{a} == {b}"),
    "ne": _same("{a} != {b}"),
    "lt": _same("{a} < {b}"),
    "le": _same("{a} <= {b}"),
    "gt": _same("{a} > {b}"),
    "ge": _same("{a} >= {b}"),
    "isnan": _same("{a} != {a}", FLOAT),
    "isinf": _same("tw::abs({a}) == tw::Limits<{t}>::high", FLOAT),
    "and": _same("{a} & {b}", INT, BOOL),
    "or": _same("{a} | {b}", INT, BOOL),
    "xor": _same("{a} ^ {b}", INT, BOOL),
    "not": {INT: "~{a}", BOOL: "!{a}"},
    "shl": _call_2("shl", INT),
    "shr": _call_2("shr", INT),
    "philox": _same("{t}(tw::philox({a}, {b}, {c}))", INT),
    "where": _same("{a} ? {b} : {c}"),
    "cast": _same("{a}"),
}


def function_text(name: str, dtypes: list[str], result: str, operands: list[str]) -> str:
    """The C++ expression of `name` on operands of the given types. Halves compute in f32 and round once."""
    compute = compute_dtype(dtypes[-1])
    words = {"t": VALUE_TYPES[compute], "one": constant_text(1, compute)}
    return table_text(name, dtypes, result, operands, functions=FUNCTIONS, cast_text=cast_text, words=words)


def cast_text(text: str, source: str, destination: str) -> str:
    """`text`, a value of type `source`, as one of type `destination`."""
    if source == destination:
        return text
    if compute_dtype(source) != source:
        return cast_text(f"tw::to_float({text})", compute_dtype(source), destination)
    if compute_dtype(destination) != destination:
        return f"tw::round_to<{VALUE_TYPES[destination]}>({cast_text(text, source, compute_dtype(destination))})"
    if destination == "bool":
        return f"({text}) != 0" if " " in text else f"{text} != 0"
    if DTYPES[source].is_float and DTYPES[destination].is_integer and DTYPES[destination].itemsize < 4:
        # What does not fit wraps through a wider integer, as in torch; directly it would be undefined.
        return f"{VALUE_TYPES[destination]}(int32_t({text}))"
    return f"{VALUE_TYPES[destination]}({text})"


@dataclass(frozen=True)
class Combiner:
    """How a loop reduces: the value of an empty loop, the statement that adds one value, the clause of `omp simd`, the
    function of two partial results."""

    neutral: dict[str, str]
    update: dict[str, str]
    clause: dict[str, str]
    merge: str = ""


# `{r}` is the accumulator, `{v}` the new value.
COMBINERS: dict[str, Combiner] = {
    "sum": Combiner(
        _same("0", FLOAT, INT), _same("{r} += {v};", FLOAT, INT), _same("+", FLOAT, INT), "tw::Sum",
    ),
    "prod": Combiner(
        _same("1", FLOAT, INT), _same("{r} *= {v};", FLOAT, INT), _same("*", FLOAT, INT), "tw::Product",
    ),
    "max": Combiner(
        _same("tw::Limits<{t}>::low"),
        _same("{r} = tw::maximum({r}, {v});", FLOAT, INT) | {BOOL: "{r} = {r} || {v};"},
        {FLOAT: "maximum", INT: "max", BOOL: "||"}, "tw::Maximum",
    ),
    "min": Combiner(
        _same("tw::Limits<{t}>::high"),
        _same("{r} = tw::minimum({r}, {v});", FLOAT, INT) | {BOOL: "{r} = {r} && {v};"},
        {FLOAT: "minimum", INT: "min", BOOL: "&&"}, "tw::Minimum",
    ),
    # Without the test for NaN, lanes meet in half the time.
    "fmax": Combiner(
        {FLOAT: "tw::Limits<{t}>::low"}, {FLOAT: "{r} = tw::larger({r}, {v});"}, {FLOAT: "max"}, "tw::Larger",
    ),
    "any": Combiner({BOOL: "false"}, {BOOL: "{r} = {r} || {v};"}, {BOOL: "||"}),
    "all": Combiner({BOOL: "true"}, {BOOL: "{r} = {r} && {v};"}, {BOOL: "&&"}),
    # These two also carry the best value so far, `{best}`, and take the position `{i}`.
    "argmax": Combiner(
        _same("tw::Limits<{t}>::low"),
        _same("if (tw::beats_max({v}, {best})) {best} = {v}, {r} = {i};"), {},
    ),
    "argmin": Combiner(
        _same("tw::Limits<{t}>::high"),
        _same("if (tw::beats_min({v}, {best})) {best} = {v}, {r} = {i};"), {},
    ),
}


@dataclass(frozen=True)
class Scanner:
    """How a loop scans: what the state is before the first value, and the statement that takes one in.

    A `wide` state of floats is double, as ATen keeps running sums. A `position` has a second state, `{best}`.
    """

    start: dict[str, str]
    update: dict[str, str]
    wide: bool = True
    position: bool = False


# `{r}` is the state, `{v}` the new value, `{i}` its position; `{t}` the compute type.
SCANNERS: dict[str, Scanner] = {
    "sum": Scanner(_same("0", FLOAT, INT), _same("{r} += {v};", FLOAT, INT)),
    "prod": Scanner(_same("1", FLOAT, INT), _same("{r} *= {v};", FLOAT, INT)),
    "logsumexp": Scanner({FLOAT: "-tw::inf_f64"}, {FLOAT: "{r} = tw::log_add_exp({r}, {v});"}),
    "max": Scanner(COMBINERS["max"].neutral, COMBINERS["max"].update, wide=False),
    "min": Scanner(COMBINERS["min"].neutral, COMBINERS["min"].update, wide=False),
    "argmax": Scanner(
        _same("tw::Limits<{t}>::low"), _same("if (tw::reaches_max({v}, {best})) {best} = {v}, {r} = {i};"),
        wide=False, position=True,
    ),
    "argmin": Scanner(
        _same("tw::Limits<{t}>::high"), _same("if (tw::reaches_min({v}, {best})) {best} = {v}, {r} = {i};"),
        wide=False, position=True,
    ),
}


def _shortest_f32(value: float) -> str:
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
            return text
    raise AssertionError(value)


def _float_text(value: float, dtype: str) -> str:
    if value != value:
        return f"tw::nan_{dtype}"
    if value in (float("inf"), float("-inf")):
        return f"tw::inf_{dtype}" if value > 0 else f"-tw::inf_{dtype}"
    text = _shortest_f32(value) if dtype == "f32" else repr(value)
    if "." not in text and "e" not in text:
        text += ".0"
    return text + ("f" if dtype == "f32" else "")


def constant_text(value: bool | int | float, dtype: str) -> str:
    """The C++ literal of the element of type `dtype` nearest to `value`, exact."""
    compute = compute_dtype(dtype)
    if compute != dtype:
        return f"tw::round_to<{VALUE_TYPES[dtype]}>({constant_text(float(value), compute)})"
    if DTYPES[dtype].kind == "bool":
        return "true" if value else "false"
    if DTYPES[dtype].is_float:
        return _float_text(float(round_to(dtype, value)), dtype)
    number = int(round_to(dtype, value))
    if number == -(1 << 63):
        return "INT64_MIN"
    return str(number) if dtype == "i32" and number != -(1 << 31) else f"{VALUE_TYPES[dtype]}({number})"
