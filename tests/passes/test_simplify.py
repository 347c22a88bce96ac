"""Algebra, views and positions: each rule alone and all together keep every bit."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from tilewright.ir import tw
from tilewright.ir.expr import symbol
from tilewright.ir.interpreter import run
from tilewright.ir.text import parse_ir
from tilewright.ir.types import DimsAttr, TensorType
from tilewright.passes.rules.algebra import ALGEBRA
from tilewright.passes.rules.views import VIEWS
from tilewright.passes.simplify import RULES

from .rulecheck import (
    Case,
    assert_same_results,
    case_module,
    check_refused,
    check_rule,
    raw,
    result_ops,
    rule_named,
)

s0, s1 = symbol("s0"), symbol("s1")
FLOATS, INTS = "f64 f32 bf16 f16", "i64 i32 i16 i8 u8"
SIGNED = "f64 f32 bf16 f16 i64 i8"
ALL = f"{FLOATS} {INTS} bool"
INF, NAN = math.inf, math.nan


def with_constant(fn, value, dtypes, *, shapes=("T[3, 5]", "T[s0, 1]", "T[]")):
    """`fn(x, value)`, where the constant has no dims, and where it gives the result its shape."""
    cases = [Case(s, lambda b, x, t: b.map(fn, x, b.constant(value, t)), dtypes) for s in shapes]
    return [*cases, Case("T[1, 5]", lambda b, x, t: b.map(fn, x, b.constant(value, t, [2, 5])), dtypes)]


def both(fn, *args, dtypes, inputs="T[3, 5] T[1, 5]"):
    return Case(inputs, lambda b, x, y: b.map(fn, x, y), dtypes)


def cast_twice(sources, middles, targets):
    pairs = [(m, t) for m in middles for t in targets if m != t]
    return Case("T[9, 9]", lambda b, x: [b.cast(b.cast(x, m), t) for m, t in pairs], sources)


def sliced_concat(start, count, step):
    return Case("T[2, 5] T[2, 3]", lambda b, x, y: b.slice_dim(b.concat([x, y, x], 1), 1, start, count, step), ALL)


# Of the numbers 2 to 10.
DECIDED = [
    ("ge", 2), ("lt", 11), ("le", 10), ("gt", 1), ("ne", 1), ("ne", 11),
    ("lt", 2), ("ge", 11), ("gt", 10), ("le", 1), ("eq", 11), ("eq", 1),
]  # fmt: skip


def compared(fn, number):
    return Case("T[s0]", lambda b, x: b.map(fn, b.iota([9], "i64", 0, 2), b.constant(number, "i64")))


def scalar_size(expr):
    return tw.SizeOp.create(properties={"value": DimsAttr([expr])}, result_types=[TensorType.get((), "i64")])


CASES: dict[str, list[Case]] = {
    # algebra
    "x * 1 -> x": with_constant("mul", 1, f"{FLOATS} {INTS}"),
    "x / 1 -> x": with_constant("div", 1, FLOATS),
    "x - 0 -> x": with_constant("sub", 0, f"{FLOATS} {INTS}"),
    "x + (-0.0) -> x": with_constant("add", -0.0, FLOATS),
    "x + 0 -> x, integers": with_constant("add", 0, INTS),
    "x ** 1 -> x": with_constant("pow", 1, "f64 f32 bf16 f16 i64 i32"),
    "x ** 0 -> 1": with_constant("pow", 0, "f64 f32 bf16 f16 i64 i32"),
    "x ** 2 -> x * x": with_constant("pow", 2, "f32 bf16 f16 i64 i32"),
    "max(x, lowest) -> x": [
        *with_constant("maximum", -INF, FLOATS),
        *with_constant("maximum", -(2**63), "i64"),
        *with_constant("maximum", 0, "u8 bool"),
    ],
    "min(x, highest) -> x": [
        *with_constant("minimum", INF, FLOATS),
        *with_constant("minimum", 127, "i8"),
        *with_constant("minimum", 255, "u8"),
        *with_constant("minimum", True, "bool"),
    ],
    "x & ones -> x": [
        *with_constant("and", -1, "i64 i8"),
        *with_constant("and", 255, "u8"),
        *with_constant("and", True, "bool"),
    ],
    "x | ones -> ones": [
        *with_constant("or", -1, "i64 i8"),
        *with_constant("or", 255, "u8"),
        *with_constant("or", True, "bool"),
    ],
    "x | 0 -> x": with_constant("or", 0, f"{INTS} bool"),
    "x ^ 0 -> x": with_constant("xor", 0, f"{INTS} bool"),
    "x & 0 -> 0": with_constant("and", 0, f"{INTS} bool"),
    "x << 0 -> x": [*with_constant("shl", 0, "i64 i32"), *with_constant("shr", 0, "i64 i32")],
    "x // 1 -> x, integers": [*with_constant("floor_div", 1, INTS), *with_constant("trunc_div", 1, INTS)],
    "x % 1 -> 0, integers": with_constant("remainder", 1, INTS),
    "x * 0 -> 0, integers": with_constant("mul", 0, INTS),
    "f(x, x) -> x": [
        Case("T[3, s0]", lambda b, x: [b.map(f, x, x) for f in ("maximum", "minimum", "fmax", "fmin")], "f32 bf16 i64"),
        Case("T[3]", lambda b, x: [b.map(f, x, x) for f in ("and", "or")], "i64 bool"),
    ],
    "x ^ x -> 0": [Case("T[3]", lambda b, x: b.map("xor", x, x), "i64 u8 bool")],
    "x - x -> 0, integers": [Case("T[3, s0]", lambda b, x: b.map("sub", x, x), INTS)],
    "x == x -> true, no floats": [Case("T[3]", lambda b, x: [b.map(f, x, x) for f in ("eq", "le", "ge")], "i64 bool")],
    "x < x -> false": [Case("T[9]", lambda b, x: [b.map(f, x, x) for f in ("lt", "gt")], ALL)],
    "x != x -> isnan x": [Case("T[9]", lambda b, x: b.map("ne", x, x), FLOATS)],
    "x != x -> false, no floats": [Case("T[9]", lambda b, x: b.map("ne", x, x), "i64 bool")],
    "neg(neg x) -> x": [Case("T[9]", lambda b, x: b.map("neg", b.map("neg", x)), SIGNED)],
    "not(not x) -> x": [Case("T[9]", lambda b, x: b.map("not", b.map("not", x)), "i64 u8 bool")],
    "abs(abs x) -> abs x": [Case("T[9]", lambda b, x: b.map("abs", b.map("abs", x)), SIGNED)],
    "abs(neg x) -> abs x": [Case("T[9]", lambda b, x: b.map("abs", b.map("neg", x)), SIGNED)],
    "x * -1 -> neg x": with_constant("mul", -1, SIGNED),
    "x + neg y -> x - y": [
        Case(
            "T[3, 5] T[1, 5]",
            lambda b, x, y: [b.map("add", x, b.map("neg", y)), b.map("add", b.map("neg", y), x)],
            SIGNED,
        )
    ],
    "x - neg y -> x + y": [Case("T[3, 5] T[1, 5]", lambda b, x, y: b.map("sub", x, b.map("neg", y)), SIGNED)],
    "neg x * neg y -> x * y": [
        Case("T[3, 5] T[1, 5]", lambda b, x, y: b.map("mul", b.map("neg", x), b.map("neg", y)), SIGNED)
    ],
    "x / 2^k -> x * 2^-k": [
        case
        for k in (2.0, 8.0, -0.25, 2.0**14, 2.0**-14)
        for case in with_constant("div", k, FLOATS, shapes=["T[3, s0]"])
    ],
    "(x + a) + b -> x + (a + b), integers": [
        Case(
            "T[1, 9]",
            lambda b, x, t: b.map("add", b.map("add", x, b.constant(100, t)), b.constant(90, t, [2, 1])),
            INTS,
        )
    ],
    "(x * a) * b -> x * (a * b), integers": [
        Case(
            "T[1, 9]",
            lambda b, x, t: b.map("mul", b.map("mul", x, b.constant(100, t)), b.constant(90, t, [2, 1])),
            INTS,
        )
    ],
    "where(true, x, y) -> x": [
        Case("T[3, 1] T[4]", lambda b, x, y: b.where(b.constant(True, "bool"), x, y), ALL),
    ],
    "where(false, x, y) -> y": [
        Case("T[3, 1] T[4]", lambda b, x, y: b.where(b.constant(False, "bool"), x, y), ALL),
    ],
    "where(c, x, x) -> x": [Case("bool[2, 1] T[4]", lambda b, c, x: b.where(c, x, x), ALL)],
    "where(not c, x, y) -> where(c, y, x)": [
        Case("bool[2, 1] T[4] T[2, 4]", lambda b, c, x, y: b.where(b.map("not", c), x, y), ALL)
    ],
    "where(c, where(c, x, y), z) -> where(c, x, z)": [
        Case("bool[4] T[4] T[2, 1] T[1]", lambda b, c, x, y, z: b.where(c, b.where(c, x, y), z), ALL)
    ],
    "where(c, x, where(c, y, z)) -> where(c, x, z)": [
        Case("bool[4] T[4] T[2, 1] T[1]", lambda b, c, x, y, z: b.where(c, x, b.where(c, y, z)), ALL)
    ],
    "where(c, 1, 0) -> cast c": [
        Case("bool[4]", lambda b, c, t: b.where(c, b.constant(1, t, [2, 1]), b.constant(0, t)), ALL)
    ],
    "where(c, 0, 1) -> cast(not c)": [
        Case("bool[4]", lambda b, c, t: b.where(c, b.constant(0, t, [2, 1]), b.constant(1, t)), ALL)
    ],
    "b ^ true -> not b": with_constant("xor", True, "bool"),
    "b == true -> b": with_constant("eq", True, "bool"),
    "b == false -> not b": with_constant("eq", False, "bool"),
    "b != false -> b": with_constant("ne", False, "bool"),
    "b != true -> not b": with_constant("ne", True, "bool"),
    "max(a, b) -> a | b, bools": [both("maximum", dtypes="bool")],
    "min(a, b) -> a & b, bools": [both("minimum", dtypes="bool")],
    "not(x == y) -> x != y": [
        Case("T[9, 9] T[9]", lambda b, x, y: [b.map("not", b.map(f, x, y)) for f in ("eq", "ne")], ALL)
    ],
    "not(x < y) -> x >= y, no floats": [
        Case(
            "T[9, 9] T[9]",
            lambda b, x, y: [b.map("not", b.map(f, x, y)) for f in ("lt", "le", "gt", "ge")],
            "i64 u8 bool",
        )
    ],
    "cast(cast x) -> cast x, widening first": [
        cast_twice("bf16 f16", ["f32", "f64"], ["bf16", "f16", "f32", "f64", "bool"]),
        cast_twice("bool", ["i64", "f32", "bf16", "u8"], ["bool", "i64", "i8", "f32", "f16"]),
        cast_twice("i8 u8", ["i64", "i16"], ["i32", "u8", "i8", "f32", "bool"]),
        cast_twice("i32", ["f64"], ["i32", "i64", "f32", "bf16", "f16", "bool"]),
    ],
    "cast b != 0 -> b": [
        Case("bool[4]", lambda b, x, t: b.map("ne", b.cast(x, t), b.constant(0, t, [2, 1])), "f32 i64")
    ],
    "cast b == 0 -> not b": [
        Case("bool[4]", lambda b, x, t: b.map("eq", b.cast(x, t), b.constant(0, t, [2, 1])), "f32 i64")
    ],
    # less to compute
    "f(broadcast x) -> broadcast f(x)": [
        Case("T[1, 5]", lambda b, x, t: b.map("mul", b.broadcast(x, [3, 5]), b.constant(3, t, [3, 1])), "f32 i64"),
        Case("T[s0]", lambda b, x: b.cast(b.broadcast(x, [4, s0]), "f64")),
        Case("T[]", lambda b, x: b.map("add", b.broadcast(x, [4]), b.broadcast(x, [1, 4]))),
    ],
    "slice f(x) -> f(slice x)": [
        Case("T[6, 1] T[8]", lambda b, x, y: b.slice(b.map("add", x, y), [1, 7], [2, 3], [2, -2]), "f32 i64"),
        Case("T[s0, 8] T[]", lambda b, x, y: b.slice_dim(b.map("mul", x, y), 1, 2, 3)),
        Case("T[2, 8]", lambda b, x: b.slice_dim(b.cast(x, "f64"), 1, 0, 0)),
    ],
    "reduce(broadcast x) -> broadcast(reduce x), any order": [
        Case(
            "T[1, 5]", lambda b, x: [b.reduce(f, b.broadcast(x, [3, 5]), [1]) for f in ("max", "min")], "f32 i64", True
        ),
        Case("T[s0]", lambda b, x: b.reduce("sum", b.broadcast(x, [3, s0]), [1]), "i64 u8"),
        Case("T[2, 3]", lambda b, x: b.reduce("max", b.broadcast(x, [1, 4, 2, 3]), [0, 3]), "f32 i64", True),
        Case("bool[3]", lambda b, x: b.reduce("any", b.broadcast(x, [2, 3]), [])),
    ],
    "slice of concat -> slice of an operand": [
        *(sliced_concat(*place) for place in ((0, 5, 1), (5, 3, 1), (12, 3, -2), (9, 2, 1))),
        Case("T[s0, 2] T[3, 2]", lambda b, x, y: b.slice_dim(b.concat([x, y], 0), 0, s0, 3)),
    ],
    "slice of pad -> slice": [
        Case("T[6, 4]", lambda b, x: b.slice(b.pad(x, [2, 1], [3, 0], 9), [3, 1], [4, 2], [1, 2]), ALL),
        Case("T[s0, 4]", lambda b, x: b.slice(b.pad(x, [2, 1], [3, 0], 9), [2, 1], [s0, 4])),
    ],
    "reshape of iota -> iota": [
        Case("T[s0]", lambda b, x, t: b.reshape(b.iota([1, s0], t, 1, 3, 2), [s0, 1, 1]), "i64 i32"),
    ],
    "permute of iota -> iota": [
        Case("T[s0]", lambda b, x, t: b.permute(b.iota([4, s0, 3], t, 1, 3, 2), [2, 0, 1]), "i64")
    ],
    "slice of iota -> iota": [
        Case("T[s0]", lambda b, x, t: b.slice(b.iota([9, s0], t, 0, 3, 2), [7, 0], [4, s0], [-2, 1]), "i64 u8"),
        Case("T[s0]", lambda b, x, t: b.slice(b.iota([9, s0], t, 1, s0, -2), [7, 0], [1, s0]), "i64"),
    ],
    "iota + c -> iota": [
        Case("T[s0]", lambda b, x, t: b.map("add", b.iota([s0], t, 0, 250, 2), b.constant(100, t, [3, 1])), "i64 u8 i8")
    ],
    "iota * c -> iota": [
        Case("T[s0]", lambda b, x, t: b.map("mul", b.iota([s0], t, 0, 5, 2), b.constant(-50, t, [3, 1])), "i64 u8 i8")
    ],
    "iota + size -> iota": [
        Case("T[s0]", lambda b, x: b.map("add", raw(b, scalar_size(s0 * 2)), b.iota([3, s0], "i64", 1, 5, 2)))
    ],
    "cast of iota -> iota": [
        Case("T[s0]", lambda b, x, t: b.cast(b.iota([100], "i64", 0, -3), t), "i32 i16 i8"),
        Case("T[s0]", lambda b, x, t: b.cast(b.iota([100], "i32", 0), t), "i64 u8"),
    ],
    "comparison that bounds decide -> constant": [
        *(compared(fn, number) for fn, number in DECIDED),
        Case(
            "T[s0]",
            lambda b, x: b.map(
                "lt", b.iota([s0, 1], "i64", 0), b.map("add", raw(b, scalar_size(s0)), b.iota([4], "i64", 0))
            ),
        ),
        Case("T[s0]", lambda b, x: b.map("ge", b.iota([s0], "i64", 0), b.iota([4, 1], "i64", 0, -8))),
        Case(
            "T[4]", lambda b, x: b.map("lt", b.map("remainder", x, b.constant(5, "i64")), b.constant(5, "i64")), "i64"
        ),
        Case(
            "bool[4]",
            lambda b, x: b.map("le", b.map("mul", b.cast(x, "i64"), b.constant(3, "i64")), b.constant(3, "i64")),
        ),
        Case(
            "bool[4]",
            lambda b, x: b.map("ge", b.where(x, b.constant(3, "i32"), b.constant(4, "i32")), b.constant(3, "i32")),
        ),
        Case(
            "T[s0]",
            lambda b, x: b.map(
                "gt",
                b.map("neg", b.map("sub", b.iota([s0], "i64", 0), b.constant(7, "i64"))),
                raw(b, scalar_size(s0 * -1 + 7)),
            ),
        ),
    ],
    # positions
    "gather at known positions -> slice": [
        Case("T[5, 7]", lambda b, x: b.gather(x, [b.iota([3], "i64", 0, 1, 2)], [1]), ALL),
        Case("T[5, 7]", lambda b, x: b.gather(x, [b.broadcast(b.iota([3], "i64", 0, -1, -2), [2, 3])], [1])),
        Case("T[5, 7]", lambda b, x: b.gather(x, [b.constant(-2, "i64", [2, 1])], [0])),
        Case("T[5, 7]", lambda b, x: b.gather(x, [b.constant(4, "i64")], [0])),
        Case("T[s0, 7]", lambda b, x: b.gather(x, [b.iota([s0], "i64", 0)], [0])),
        Case(
            "T[4, 5, 6, 7]",
            lambda b, x: b.gather(
                x,
                [b.broadcast(b.iota([5], "i64", 0), [3, 1, 5]), b.broadcast(b.iota([3, 1, 1], "i64", 0, 2), [3, 1, 5])],
                [1, 2],
            ),
        ),
        Case(
            "T[s0, s1]",
            lambda b, x: b.gather(
                x,
                [
                    b.broadcast(b.iota([s0, 1, 1, 1], "i64", 0), [s0, 1, 1, s1]),
                    b.broadcast(b.iota([s1], "i64", 0), [s0, 1, 1, s1]),
                ],
                [0, 1],
            ),
        ),
        Case(
            "T[4, 5]",
            lambda b, x: b.gather(
                x, [b.constant(3, "i64", [2, 5]), b.broadcast(b.iota([5], "i64", 0), [2, 5])], [0, 1], wrap=False
            ),
        ),
    ],
    "gather(x, broadcast i) -> broadcast(gather(x, i))": [
        Case("T[5, 7] bool[3]", lambda b, x, c: b.gather(x, [b.broadcast(b.cast(c, "i64"), [2, 3])], [1]), "f32 i64"),
        Case(
            "T[5, 7] bool[3]",
            lambda b, x, c: b.gather(
                x, [b.broadcast(b.cast(c, "i64"), [4, 2, 3]), b.constant(1, "i64", [4, 2, 3])], [0, 1]
            ),
        ),
    ],
    # reductions
    "reduce of one element -> x": [
        Case("T[3, 1]", lambda b, x: [b.reduce(f, x, [1]) for f in ("max", "min", "prod")], f"{FLOATS} i64"),
        Case("bool[1, s0]", lambda b, x: [b.reduce(f, x, [0]) for f in ("max", "any", "all")]),
        Case("T[3]", lambda b, x: b.reduce("max", x, [])),
    ],
    "sum of one element -> x + 0": [Case("T[9, 1, 1]", lambda b, x: b.reduce("sum", x, [1, 2]), f"{FLOATS} i64 u8")],
    "scan of one element -> x + 0": [Case("T[9, 1]", lambda b, x: b.scan("sum", x, 1), f"{FLOATS} i64")],
    "position of the extreme of one element -> 0": [
        Case("T[9, 1]", lambda b, x: [b.reduce(f, x, [1]) for f in ("argmax", "argmin")], ALL)
    ],
    "reduce(reduce x) -> reduce x, any order": [
        Case(
            "T[3, s0, 4]", lambda b, x: [b.reduce(f, b.reduce(f, x, [2]), [0]) for f in ("max", "min")], "f32 i64", True
        ),
        Case("T[3, 5, 4]", lambda b, x: [b.reduce(f, b.reduce(f, x, [2]), [0, 2]) for f in ("sum", "prod")], "i64 u8"),
    ],
    "max of b -> any b": [Case("bool[3, s0]", lambda b, x: b.reduce("max", x, [1]))],
    "min of b -> all b": [Case("bool[3, s0]", lambda b, x: b.reduce("min", x, [1]))],
}

REFUSED = [
    # -0.0 becomes 0.0, NaN and inf do not become 0
    ("x + (-0.0) -> x", Case("T[3]", lambda b, x, t: b.map("add", x, b.constant(0.0, t)), FLOATS)),
    ("x - 0 -> x", Case("T[3]", lambda b, x, t: b.map("sub", x, b.constant(-0.0, t)), FLOATS)),
    ("x + 0 -> x, integers", Case("T[3]", lambda b, x, t: b.map("add", x, b.constant(0.0, t)), FLOATS)),
    ("x * 0 -> 0, integers", Case("T[3]", lambda b, x, t: b.map("mul", x, b.constant(0.0, t)), FLOATS)),
    ("x - x -> 0, integers", Case("T[3]", lambda b, x: b.map("sub", x, x), FLOATS)),
    ("x == x -> true, no floats", Case("T[3]", lambda b, x: b.map("eq", x, x), FLOATS)),
    ("not(x < y) -> x >= y, no floats", Case("T[3] T[3]", lambda b, x, y: b.map("not", b.map("lt", x, y)), FLOATS)),
    ("x // 1 -> x, integers", Case("T[3]", lambda b, x, t: b.map("floor_div", x, b.constant(1, t)), FLOATS)),
    # the reciprocal is rounded, or not a normal number
    ("x / 2^k -> x * 2^-k", Case("T[3]", lambda b, x, t: b.map("div", x, b.constant(3.0, t)), FLOATS)),
    ("x / 2^k -> x * 2^-k", Case("T[3]", lambda b, x, t: b.map("div", x, b.constant(2.0**15, t)), "f16")),
    ("x / 2^k -> x * 2^-k", Case("T[3]", lambda b, x, t: b.map("div", x, b.constant(2.0**127, t)), "f32")),
    ("x / 2^k -> x * 2^-k", Case("T[3]", lambda b, x, t: b.map("div", x, b.constant(0.0, t)), FLOATS)),
    ("x / 2^k -> x * 2^-k", Case("T[3]", lambda b, x, t: b.map("div", x, b.constant(INF, t)), FLOATS)),
    # a cast that loses something, or may leave the range of an integer
    ("cast(cast x) -> cast x, widening first", Case("T[3]", lambda b, x, t: b.cast(b.cast(x, "bf16"), t), "f32 f16")),
    (
        "cast(cast x) -> cast x, widening first",
        Case("T[3]", lambda b, x, t: b.cast(b.cast(x, "f32"), "i64"), "bf16 f16"),
    ),
    ("cast(cast x) -> cast x, widening first", Case("T[3]", lambda b, x, t: b.cast(b.cast(x, "f32"), "i8"), "u8")),
    ("cast(cast x) -> cast x, widening first", Case("T[3]", lambda b, x, t: b.cast(b.cast(x, "f64"), t), "i64")),
    # fmax(NaN, -inf) is -inf
    ("max(x, lowest) -> x", Case("T[3]", lambda b, x, t: b.map("fmax", x, b.constant(-INF, t)), FLOATS)),
    (
        "where(c, 1, 0) -> cast c",
        Case("bool[3]", lambda b, c, t: b.where(c, b.constant(1, t), b.constant(-0.0, t)), FLOATS),
    ),
    # someone else needs the map
    ("slice f(x) -> f(slice x)", Case("T[4]", lambda b, x: [b.slice(y := b.map("neg", x), [0], [2]), y])),
    # over the border of two operands; into the border of a pad
    ("slice of concat -> slice of an operand", Case("T[4]", lambda b, x: b.slice(b.concat([x, x], 0), [3], [2]))),
    (
        "slice of concat -> slice of an operand",
        Case(
            "T[s0]",
            lambda b, x: b.slice(b.concat([x, x], 0), [0], [s0 * 2 - 1]),
        ),
    ),
    ("slice of pad -> slice", Case("T[4]", lambda b, x: b.slice(b.pad(x, [1], [1], 0), [0], [2]))),
    # what is not proven
    (
        "comparison that bounds decide -> constant",
        Case("T[s0]", lambda b, x: b.map("lt", b.iota([s0], "i64", 0), b.constant(3, "i64"))),
    ),
    (
        "comparison that bounds decide -> constant",
        Case("T[s0]", lambda b, x: b.map("lt", b.iota([9], "i8", 0, 120), b.constant(0, "i8"))),
    ),
    ("cast of iota -> iota", Case("T[s0]", lambda b, x, t: b.cast(b.iota([s0], "i64", 0), t), "i32")),
    ("cast of iota -> iota", Case("T[s0]", lambda b, x, t: b.cast(b.iota([9], "i64", 0, 250), t), "u8")),
    # a position out of range is an error at run time
    ("gather at known positions -> slice", Case("T[3]", lambda b, x: b.gather(x, [b.iota([3], "i64", 0, 1)], [0]))),
    (
        "gather at known positions -> slice",
        Case("T[3]", lambda b, x: b.gather(x, [b.constant(-1, "i64", [2])], [0], wrap=False)),
    ),
    ("gather at known positions -> slice", Case("T[s0]", lambda b, x: b.gather(x, [b.constant(0, "i64", [2])], [0]))),
    # both positions move along one dim: a diagonal
    (
        "gather at known positions -> slice",
        Case("T[3, 3]", lambda b, x: b.gather(x, [b.iota([3], "i64", 0)] * 2, [0, 1])),
    ),
    # the order of a float sum
    (
        "reduce(reduce x) -> reduce x, any order",
        Case("T[3, 4]", lambda b, x: b.reduce("sum", b.reduce("sum", x, [0]), [1])),
    ),
    ("reduce of one element -> x", Case("T[3, s0]", lambda b, x: b.reduce("max", x, [1]))),
]


@pytest.mark.parametrize("rule", list(ALGEBRA + VIEWS), ids=lambda rule: rule.name)
def test_rule_keeps_every_bit(rule):
    for case in CASES[rule.name]:
        check_rule(rule, case, RULES)


@pytest.mark.parametrize("name, case", REFUSED, ids=[name for name, _ in REFUSED])
def test_rule_is_refused(name, case):
    check_refused(rule_named(ALGEBRA + VIEWS, name), case)


def test_the_mask_of_a_model_keeps_its_meaning():
    """The functions of `simplify.mlir`, run before and after."""
    for text in re.split(r"^(?=func\.func)", (Path(__file__).parent / "simplify.mlir").read_text(), flags=re.M)[1:]:
        before = parse_ir(re.sub(r"func\.func @\w+", "func.func @forward", text))
        after = before.clone()
        RULES.apply(after)
        assert_same_results(before, after)
        if "tw.gather" in text:
            assert "gather" not in result_ops(after)


def test_positions_out_of_range_still_raise():
    module = case_module(Case("T[3]", lambda b, x: b.gather(x, [b.iota([3], "i64", 0, 1)], [0])), "f32")
    RULES.apply(module)
    with pytest.raises(IndexError):
        run(module, [torch.zeros(3)])
