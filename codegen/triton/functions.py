"""Texts of the scalar functions and combiners in Triton: one row for each of `ir/scalars.py`, one column for each kind.

`{a}`, `{b}`, `{c}` are operands of one compute type `{t}`. Functions called as ``tw.name`` are in `library.py`,
``libdevice.name`` is NVIDIA's library. Numerics: a quotient and a root of f32 are rounded correctly (``tl.div_rn``,
``tl.sqrt_rn``; Triton's ``/`` is not), the others are Triton's own, within a few ulps. Nothing is contracted
(``enable_fp_fusion=False``), NaN goes through maxima and minima.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tilewright.ir.dtypes import DTYPES, compute_dtype, round_to
from tilewright.ir.scalars import BOOL, FLOAT, INT, kind_of

from ..functions import function_text as table_text

TYPES: dict[str, str] = {
    "f64": "tl.float64", "f32": "tl.float32", "bf16": "tl.bfloat16", "f16": "tl.float16", "f8e4m3": "tl.float8e4nv",
    "f8e5m2": "tl.float8e5", "i64": "tl.int64", "i32": "tl.int32", "i16": "tl.int16", "i8": "tl.int8",
    "u8": "tl.uint8", "bool": "tl.int1",
}
POINTERS: dict[str, str] = {
    "f64": "*fp64", "f32": "*fp32", "bf16": "*bf16", "f16": "*fp16", "f8e4m3": "*fp8e4nv", "f8e5m2": "*fp8e5",
    "i64": "*i64", "i32": "*i32", "i16": "*i16", "i8": "*i8", "u8": "*u8", "bool": "*i1",
}
"""Types of pointers in a kernel's signature, as triton.compile takes them."""

MISSING: dict[tuple[str, str], str] = {
    ("sm_80", "f8e4m3"): "sm_80 has no conversions of float8_e4m3fn",
}
"""Types that a target lacks, with the reason."""


def _same(text: str, *kinds: str) -> dict[str, str]:
    return dict.fromkeys(kinds or (FLOAT, INT, BOOL), text)


def _libdevice(name: str, arity: int = 1) -> dict[str, str]:
    return {FLOAT: f"libdevice.{name}({', '.join(['{a}', '{b}'][:arity])})"}


# A key may be a dtype, where its text is another than its kind's.
FUNCTIONS: dict[str, dict[str, str]] = {
    "add": _same("{a} + {b}", FLOAT, INT),
    "sub": _same("{a} - {b}", FLOAT, INT),
    "mul": _same("{a} * {b}", FLOAT, INT),
    "div": {"f32": "tl.div_rn({a}, {b})", "f64": "{a} / {b}"},
    "floor_div": {FLOAT: "tw.floor_quotient({a}, {b})", INT: "tw.floor_div({a}, {b})"},
    "trunc_div": {"f32": "libdevice.trunc(tl.div_rn({a}, {b}))", "f64": "libdevice.trunc({a} / {b})",
                  INT: "tw.trunc_div({a}, {b})"},
    "remainder": {FLOAT: "tw.remainder({a}, {b})", INT: "tw.floor_mod({a}, {b})"},
    "fmod": {FLOAT: "libdevice.fmod({a}, {b})", INT: "tw.trunc_mod({a}, {b})"},
    "neg": _same("-{a}", FLOAT, INT),
    "abs": _same("tl.abs({a})", FLOAT, INT) | {"u8": "{a}"},
    "sign": _same("({a} > 0).to({t}) - ({a} < 0).to({t})", FLOAT, INT),
    "maximum": _same("tw.maximum({a}, {b})", FLOAT, INT) | {BOOL: "{a} | {b}"},
    "minimum": _same("tw.minimum({a}, {b})", FLOAT, INT) | {BOOL: "{a} & {b}"},
    "fmax": _same("tl.maximum({a}, {b})", FLOAT, INT),
    "fmin": _same("tl.minimum({a}, {b})", FLOAT, INT),
    "reciprocal": {"f32": "tl.div_rn(1.0, {a})", "f64": "1.0 / {a}"},
    "sqrt": {"f32": "tl.sqrt_rn({a})", "f64": "tl.sqrt({a})"},
    "rsqrt": _same("tl.rsqrt({a})", FLOAT),
    "pow": {FLOAT: "libdevice.pow({a}, {b})", INT: "tw.integer_pow({a}, {b})"},
    "copysign": _libdevice("copysign", 2),
    "hypot": _libdevice("hypot", 2),
    "nextafter": _libdevice("nextafter", 2),
    "frexp_mantissa": {FLOAT: "libdevice.ldexp({a}, -tw.frexp_exponent({a}))"},
    "frexp_exponent": {FLOAT: "tw.frexp_exponent({a}).to({t})"},
    "gcd": _same("tw.gcd({a}, {b})", INT),
    "floor": _same("tl.floor({a})", FLOAT),
    "ceil": _same("tl.ceil({a})", FLOAT),
    "trunc": _libdevice("trunc"),
    "round": _libdevice("nearbyint"),
    **{name: _same(f"tl.{name}({{a}})", FLOAT) for name in (
        "exp", "exp2", "log", "log2", "sigmoid", "erf", "sin", "cos",
    )},
    **{name: _libdevice(name) for name in (
        "expm1", "log10", "log1p", "tanh", "erfc", "lgamma", "erfinv", "erfcx", "tan", "asin", "acos", "atan", "sinh",
        "cosh", "asinh", "acosh", "atanh",
    )},
    "ndtri": _libdevice("normcdfinv"),
    "i0": _libdevice("cyl_bessel_i0"),
    "i1": _libdevice("cyl_bessel_i1"),
    "atan2": _libdevice("atan2", 2),
    "eq": _same("{a} == {b}"),
    "ne": _same("{a} != {b}"),
    "lt": _same("{a} < {b}"),
    "le": _same("{a} <= {b}"),
    "gt": _same("{a} > {b}"),
    "ge": _same("{a} >= {b}"),
    "isnan": _same("{a} != {a}", FLOAT),
    "isinf": _same('tl.abs({a}) == float("inf")', FLOAT),
    "and": _same("{a} & {b}", INT, BOOL),
    "or": _same("{a} | {b}", INT, BOOL),
    "xor": _same("{a} ^ {b}", INT, BOOL),
    "not": {INT: "~{a}", BOOL: "~{a}"},
    "shl": _same("tw.shl({a}, {b})", INT),
    "shr": _same("tw.shr({a}, {b})", INT),
    "philox": _same("tw.philox({a}, {b}, {c}).to({t})", INT),
    "where": _same("tl.where({a}, {b}, {c})"),
    "cast": _same("{a}"),
}

_SERIES = "a series or an iteration, which neither Triton nor libdevice holds"
REFUSED: dict[str, str] = dict.fromkeys((
    "digamma", "zeta", "i0e", "i1e", "scaled_modified_bessel_k0", "scaled_modified_bessel_k1",
    "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v", "chebyshev_polynomial_w",
    "hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p",
), _SERIES)
"""Scalar functions that cannot be said, with the reason: a kernel with one of them is refused for a GPU."""


def function_text(name: str, dtypes: list[str], result: str, operands: list[str]) -> str:
    """The Triton expression of `name` on operands of the given types. Halves compute in f32 and round once."""
    compute = compute_dtype(dtypes[-1])
    words = {"t": TYPES[compute]}
    return table_text(name, dtypes, result, operands, functions=FUNCTIONS, cast_text=cast_text, words=words)


def enclosed(text: str) -> str:
    """`text` such that a member of it may be taken."""
    simple = text.isidentifier() or (text.endswith(")") and _closes_at_end(text))
    return text if simple else f"({text})"


def _closes_at_end(text: str) -> bool:
    """Whether a call or a parenthesis is all of the text."""
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and (letter in " +-~" or (letter == ")" and position != len(text) - 1)):
            return False
    return True


def cast_text(text: str, source: str, destination: str) -> str:
    """`text`, a value of type `source`, as one of type `destination`."""
    if source == destination:
        return text
    if destination == "bool":
        return f"{enclosed(text)} != 0"
    if DTYPES[source].is_float and DTYPES[destination].is_integer and DTYPES[destination].itemsize < 4:
        # What does not fit wraps through a wider integer, as in torch.
        return f"{enclosed(text)}.to(tl.int32).to({TYPES[destination]})"
    if rounds_twice(source, destination):
        return f"{enclosed(text)}.to(tl.float32).to({TYPES[destination]})"
    return f"{enclosed(text)}.to({TYPES[destination]})"


def rounds_twice(source: str, destination: str) -> bool:
    """Whether a value becomes an f32 first, as in torch: what is not a narrow float already, on its way to one."""
    narrow = DTYPES[destination].is_float and DTYPES[destination].itemsize < 4
    return narrow and compute_dtype(source) != "f32"


@dataclass(frozen=True)
class Combiner:
    """How blocks reduce: the neutral element, the jit function of two elements, the text that takes one value in, and
    what of a value is combined."""

    neutral: dict[str, bool | int | float | str]
    function: str
    update: str
    taken: str = "{v}"


# `{r}` is what is combined so far, `{v}` the new value; of positions `{best}` the extreme value, `{i}` the position.
COMBINERS: dict[str, Combiner] = {
    "sum": Combiner({FLOAT: 0.0, INT: 0}, "tw.add", "{r} + {v}"),
    "prod": Combiner({FLOAT: 1.0, INT: 1}, "tw.multiply", "{r} * {v}"),
    "max": Combiner({FLOAT: float("-inf"), INT: "lowest", BOOL: False}, "tw.maximum", "tw.maximum({r}, {v})"),
    "min": Combiner({FLOAT: float("inf"), INT: "highest", BOOL: True}, "tw.minimum", "tw.minimum({r}, {v})"),
    # A block may hold nothing but NaN, whose maximum is -inf: values are rid of NaN before they are combined.
    "fmax": Combiner({FLOAT: float("-inf")}, "tw.larger", "tl.maximum({r}, {v})", 'tl.maximum({v}, float("-inf"))'),
    "any": Combiner({BOOL: False}, "tw.either", "{r} | {v}"),
    "all": Combiner({BOOL: True}, "tw.both", "{r} & {v}"),
    "argmax": Combiner({FLOAT: float("-inf"), INT: "lowest", BOOL: False}, "tw.first_max",
                       "{best}, {r} = tw.first_max({best}, {r}, {v}, {i})"),
    "argmin": Combiner({FLOAT: float("inf"), INT: "highest", BOOL: True}, "tw.first_min",
                       "{best}, {r} = tw.first_min({best}, {r}, {v}, {i})"),
}

SCANNERS: dict[str, Combiner] = {
    **{name: COMBINERS[name] for name in ("sum", "prod", "max", "min")},
    "logsumexp": Combiner({FLOAT: float("-inf")}, "tw.log_add_exp", "tw.log_add_exp({r}, {v})"),
    "argmax": Combiner(COMBINERS["argmax"].neutral, "tw.last_max",
                       "{best}, {r} = tw.last_max({best}, {r}, {v}, {i})"),
    "argmin": Combiner(COMBINERS["argmin"].neutral, "tw.last_min",
                       "{best}, {r} = tw.last_min({best}, {r}, {v}, {i})"),
}


def neutral_text(combiner: Combiner, dtype: str) -> str:
    """The literal of the neutral element for values of type `dtype`."""
    value = combiner.neutral[kind_of(dtype)]
    if isinstance(value, str):
        bits = DTYPES[dtype].itemsize * 8
        signed = DTYPES[dtype].kind == "int"
        value = (-(1 << bits - 1) if signed else 0) if value == "lowest" else (1 << bits - signed) - 1
    return constant_text(value, dtype)


def constant_text(value: bool | int | float, dtype: str) -> str:
    """The literal of the element of type `dtype` nearest to `value`; Triton gives it the type of what it meets."""
    compute = compute_dtype(dtype)
    kind = DTYPES[dtype].kind
    if kind == "bool":
        return str(bool(value))
    if kind != "float":
        return str(int(round_to(dtype, value)))
    number = float(round_to(dtype, value)) if compute == dtype or dtype in ("bf16", "f16") else float(value)
    if number != number:
        return 'float("nan")'
    if number in (float("inf"), float("-inf")):
        return 'float("inf")' if number > 0 else 'float("-inf")'
    if compute != "f64":
        return _shortest_f32(number)
    # A literal is an f32 where Triton has nothing to go by.
    exact = struct.unpack("f", struct.pack("f", number))[0] == number if abs(number) < 3e38 else False
    return repr(number) if exact else f"tl.full([], {number!r}, tl.float64)"


def _shortest_f32(value: float) -> str:
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
            return text if "." in text or "e" in text else f"{text}.0"
    raise AssertionError(value)
