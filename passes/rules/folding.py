"""Constant folding: what constants alone decide is computed here, in plain Python, with the rounding of the dtype.

Only functions that are exactly rounded are folded, so that every target gives the same bits (not roots: the vector
libraries behind ATen round them either way). A sum, product or quotient of two f32 numbers is computed in f64 and
rounded once more: f64 has more than twice the digits, so that this gives what f32 arithmetic gives. Halves are computed
in f32 and rounded again, as everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from xdsl.ir import SSAValue

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.dtypes import DTYPES, compute_dtype, round_to
from tilewright.ir.patterns import Number, captures, constant, iota, map_, reduce, splat
from tilewright.ir.rewrite import Rule, RuleSet

from .common import dtype_of, fill, is_discrete, shape_of

(x,) = captures("x")

Fold = Callable[..., Number | None]

# f64 holds every integer up to here: what is larger would be rounded twice on the way to a float.
_EXACT_INTEGERS = 2**53


def _quotient(a: float, b: float) -> float:
    """IEEE division."""
    if b != 0:
        return a / b
    if a != a or a == 0 or b != b:
        return math.nan
    return math.copysign(math.inf, math.copysign(1.0, a) * math.copysign(1.0, b))


def _truncated(a: int, b: int) -> int:
    return a // b if (a < 0) == (b < 0) else -(-a // b)


def _round_half_even(a: float) -> float:
    return math.copysign(float(round(a)), a) if math.isfinite(a) else a


def _whole(function: Callable[[float], int]) -> Callable[[float], float]:
    """A rounding to whole numbers that keeps the sign of zero and what is not finite."""
    return lambda a: math.copysign(float(function(a)), a) if math.isfinite(a) else a


def _extreme(choose: Callable[[Number, Number], Number]) -> Fold:
    """NaN wins. Of 0.0 and -0.0 nothing is said."""

    def fold(a: Number, b: Number) -> Number | None:
        if a != a or b != b:
            return math.nan
        return None if a == b == 0 and math.copysign(1.0, a) != math.copysign(1.0, b) else choose(a, b)

    return fold


def _number_extreme(choose: Callable[[Number, Number], Number]) -> Fold:
    """NaN loses."""
    extreme = _extreme(choose)
    return lambda a, b: b if a != a else a if b != b else extreme(a, b)


def _sign(a: float) -> float | None:
    return None if a != a else (a > 0) - (a < 0)


_FLOAT: dict[str, Fold] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _quotient,
    "neg": lambda a: -a,
    "abs": abs,
    "sign": _sign,
    "maximum": _extreme(max),
    "minimum": _extreme(min),
    "fmax": _number_extreme(max),
    "fmin": _number_extreme(min),
    "reciprocal": lambda a: _quotient(1.0, a),
    "copysign": math.copysign,
    "floor": _whole(math.floor),
    "ceil": _whole(math.ceil),
    "trunc": _whole(math.trunc),
    "round": _round_half_even,
    "isnan": lambda a: a != a,
    "isinf": math.isinf,
}

_INT: dict[str, Fold] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    # Division by zero is not defined, nor is the lowest number by -1.
    "floor_div": lambda a, b: a // b if b not in (0, -1) else None,
    "trunc_div": lambda a, b: _truncated(a, b) if b not in (0, -1) else None,
    "remainder": lambda a, b: a % b if b not in (0, -1) else None,
    "neg": lambda a: -a,
    "abs": abs,
    "sign": lambda a: (a > 0) - (a < 0),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a: ~a,
    # A shift by a negative number, or by the width or more, is not defined.
    "shl": lambda a, b: a << b if 0 <= b < 8 else None,
    "shr": lambda a, b: a >> b if 0 <= b < 8 else None,
}

_BOOL: dict[str, Fold] = {
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": lambda a, b: a != b,
    "not": lambda a: not a,
}

_ORDER: dict[str, Fold] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}

_TABLES: dict[str, dict[str, Fold]] = {
    "float": _FLOAT | _ORDER,
    "int": _INT | _ORDER | {"maximum": max, "minimum": min, "fmax": max, "fmin": min},
    "uint": _INT | _ORDER | {"maximum": max, "minimum": min, "fmax": max, "fmin": min},
    "bool": _BOOL | _ORDER | {"maximum": max, "minimum": min},
}


def fold_map(fn: str, operand_dtype: str, result_dtype: str, *args: Number) -> Number | None:
    """The element that `fn` gives for `args`; None where it is not exactly rounded, or not defined."""
    if fn == "cast":
        return fold_cast(args[0], operand_dtype, result_dtype)
    if fn == "where":
        return args[1] if args[0] else args[2]
    fold = _TABLES.get(DTYPES[operand_dtype].kind, {}).get(fn)
    result = fold(*args) if fold is not None else None
    if result is None or result_dtype == "bool":
        return result
    return round_to(result_dtype, round_to(compute_dtype(result_dtype), result))


def fold_cast(value: Number, source: str, target: str) -> Number | None:
    """`value` as an element of `target`; None for a float out of the range of an integer, which is not defined."""
    row = DTYPES[target]
    if row.is_integer and DTYPES[source].is_float:
        if not math.isfinite(value) or round_to(target, math.trunc(value)) != math.trunc(value):
            return None
        return math.trunc(value)
    if row.is_float:
        if abs(value) > _EXACT_INTEGERS and DTYPES[source].is_integer:
            return None
        # As ATen: to halves by way of f32.
        return round_to(target, round_to(row.compute, value))
    return round_to(target, value)


def _fold_map(op: tw.MapOp, build: Builder) -> SSAValue | None:
    numbers = [splat(a) for a in op.args]
    known = [n for n in numbers if n is not None]
    if len(known) < len(numbers) or not _has_rounding(dtype_of(op.result)):
        return None
    result = fold_map(op.fn.data, dtype_of(op.args[-1]), dtype_of(op.result), *known)
    return fill(result, op, build) if result is not None else None


def _has_rounding(dtype: str) -> bool:
    """Whether elements of the type can be computed here: not complex numbers and 8-bit floats."""
    row = DTYPES[dtype]
    return row.kind != "complex" and not (row.is_float and row.itemsize == 1)


def _count(op: tw.ReduceOp) -> int | None:
    """How many elements go into one, where that is known."""
    count = 1
    for d in op.dims.ints():
        size = shape_of(op.source)[d]
        if not isinstance(size, int):
            return None
        count *= size
    return count


def _fold_reduce(c: Number, op: tw.ReduceOp, build: Builder) -> SSAValue | None:
    count = _count(op)
    result = _REDUCTIONS[op.fn.data](c, count) if count else None
    return fill(result, op, build) if result is not None else None


def _fold_integer_reduce(c: Number, op: tw.ReduceOp, build: Builder) -> SSAValue | None:
    count = _count(op)
    if count is None:
        return None
    return fill(c * count if op.fn.data == "sum" else pow(int(c), count, 2**64), op, build)


# Of at least one element.
_REDUCTIONS: dict[str, Callable[[Number, int], Number | None]] = {
    "max": lambda c, count: c,
    "min": lambda c, count: c,
    "any": lambda c, count: c,
    "all": lambda c, count: c,
    "argmax": lambda c, count: 0,
    "argmin": lambda c, count: 0,
}

# Of no element.
_EMPTY: dict[str, Number] = {"sum": 0, "prod": 1, "any": False, "all": True}


def _iota_is_constant(op: tw.IotaOp) -> bool:
    one = shape_of(op.result)[op.dim.ints()[0]] == 1 or op.step.data[0] == 0
    return one and isinstance(op.start.data[0], int)


FOLD = RuleSet(
    Rule("f(constants) -> constant", map_(()), _fold_map, among=(tw.ConstantOp,)),
    Rule("reduce of c -> c", reduce(_REDUCTIONS, constant("c")), _fold_reduce),
    Rule(
        "sum of n times c -> n * c, integers",
        reduce(("sum", "prod"), constant("c")),
        _fold_integer_reduce,
        lambda op: is_discrete(op.source),
    ),
    Rule(
        "reduce of nothing -> neutral element",
        reduce(_EMPTY, x),
        lambda op, build: fill(_EMPTY[op.fn.data], op, build),
        lambda op, x: any(shape_of(x)[d] == 0 for d in op.dims.ints()),
    ),
    Rule(
        "iota of one number -> constant",
        iota(),
        lambda op, build: fill(op.start.data[0], op, build),
        _iota_is_constant,
    ),
)
