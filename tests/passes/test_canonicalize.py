"""Normal forms: each rule alone and all together keep every bit."""

from __future__ import annotations

import pytest

from tilewright.ir import tw
from tilewright.ir.expr import symbol
from tilewright.ir.types import TensorType
from tilewright.passes.rules.canonical import CANONICAL

from .rulecheck import Case, check_refused, check_rule, raw, rule_named, shape_of

ALL = "f32 bf16 i64 bool"
NUMBERS = "f64 f32 bf16 f16 i64 i32 u8"
s0 = symbol("s0")


def identity(make):
    return [Case("T[3, 4]", lambda b, x: raw(b, make(x)), ALL), Case("T[s0, 1, 2]", lambda b, x: raw(b, make(x)))]


CASES: dict[str, list[Case]] = {
    "f(c, y) -> f(y, c), commutative": [
        Case("T[3, 4]", lambda b, x, t: b.map("mul", b.constant(3, t), x), NUMBERS),
        Case("T[3, s0]", lambda b, x, t: b.map("add", b.constant(-0.0, t, [1, s0]), x)),
        Case("T[3, 4]", lambda b, x, t: b.map("maximum", b.constant(3, t), x), NUMBERS),
        Case("T[]", lambda b, x, t: b.map("and", b.constant(True, t), x), "bool i64"),
        Case("T[4]", lambda b, x, t: b.map("eq", b.constant(1, t), x), ALL),
    ],
    "c < y -> y > c": [
        Case("T[3, 4]", lambda b, x, t: [b.map(f, b.constant(1, t), x) for f in ("lt", "le", "gt", "ge")], ALL)
    ],
    "cast to the same dtype -> x": [Case("T[3]", lambda b, x, t: b.map("cast", x, dtype=t), ALL)],
    "f(broadcast x, y) -> f(x, y)": [
        Case("T[4] T[3, 4]", lambda b, x, y: b.map("add", b.broadcast(x, [3, 4]), y), NUMBERS),
        Case("T[s0, 1] T[1, s1]", lambda b, x, y: b.map("mul", *(b.broadcast(v, [s0, symbol("s1")]) for v in (x, y)))),
        Case("T[4] T[2, 1, 4]", lambda b, x, y: b.map("sub", b.reshape(x, [1, 1, 4]), y), NUMBERS),
        Case("bool[2, 4]", lambda b, x: b.where(x, b.constant(1.0, "f32", [2, 4]), b.constant(2.0, "f32", [1, 4]))),
        Case("T[4]", lambda b, x: b.map("add", x, b.constant(1, "f32", [4]))),
    ],
    "x - c -> x + (-c), integers": [
        Case("T[3, 4]", lambda b, x, t: [b.map("sub", x, b.constant(c, t)) for c in (1, -2, 127, 0)], "i64 i32 i8 u8")
    ],
    "reshape to the same shape -> x": identity(lambda x: tw.ReshapeOp.make(x, shape_of(x))),
    "broadcast to the same shape -> x": identity(lambda x: tw.BroadcastOp.make(x, shape_of(x))),
    "permute to the same order -> x": identity(lambda x: tw.PermuteOp.make(x, range(len(shape_of(x))))),
    "slice of everything -> x": [
        *identity(lambda x: tw.SliceOp.make(x, [0] * len(shape_of(x)), shape_of(x))),
        Case("T[1, 3]", lambda b, x: raw(b, tw.SliceOp.make(x, [0, 0], [1, 3], [-1, 1]))),
    ],
    "pad by nothing -> x": identity(lambda x: tw.PadOp.make(x, [0] * len(shape_of(x)), [0] * len(shape_of(x)), 1)),
    "concat of one -> x": identity(lambda x: tw.ConcatOp.make([x], 0)),
    "view of c -> c": [
        Case("T[2]", lambda b, x, t: b.reshape(b.constant(1, t, [2, 6]), [3, 4]), ALL),
        Case("T[s0]", lambda b, x, t: b.broadcast(b.constant(-0.0, t, [s0, 1]), [2, s0, 4])),
        Case("T[2]", lambda b, x, t: b.permute(b.constant(1, t, [2, 6]), [1, 0])),
        Case("T[2]", lambda b, x, t: b.slice(b.constant(float("nan"), t, [2, 6]), [1, 5], [1, 3], [1, -2])),
    ],
    "pad of c with c -> c": [
        Case("T[s0]", lambda b, x, t: b.pad(b.constant(1, t, [s0, 2]), [1, 0], [0, 2], 1), ALL),
        Case("T[2]", lambda b, x, t: b.pad(b.constant(float("nan"), t, [2]), [1], [0], float("nan"))),
    ],
    "concat of c and c -> c": [
        Case("T[s0]", lambda b, x, t: b.concat([b.constant(1, t, [s0, 2]), b.constant(1, t, [3, 2])], 0), ALL)
    ],
    "size of a known number -> c": [Case("f32[2]", lambda b, x: raw(b, known_size(7)))],
    "reshape(reshape x) -> reshape x": [
        Case("T[4, 6]", lambda b, x: b.reshape(b.reshape(x, [2, 12]), [8, 3]), ALL),
        Case("T[s0, 6]", lambda b, x: b.reshape(b.reshape(x, [s0 * 2, 3]), [s0, 2, 3])),
        Case("T[4, 6]", lambda b, x: b.reshape(b.reshape(x, [24]), [4, 6])),
    ],
    "broadcast(broadcast x) -> broadcast x": [
        Case("T[1, 4]", lambda b, x: b.broadcast(b.broadcast(x, [3, 4]), [2, 3, 4]), ALL),
        Case("T[s0, 1]", lambda b, x: b.broadcast(b.broadcast(x, [1, s0, 1]), [3, s0, 2])),
    ],
    "permute(permute x) -> permute x": [
        Case("T[2, 3, 4]", lambda b, x: b.permute(b.permute(x, [1, 2, 0]), [1, 0, 2]), ALL),
        Case("T[2, s0, 4]", lambda b, x: b.permute(b.permute(x, [1, 2, 0]), [2, 0, 1])),
    ],
    "slice(slice x) -> slice x": [
        Case("T[20, 3]", lambda b, x: b.slice_dim(b.slice_dim(x, 0, 2, 6, 3), 0, 4, 3, -2), ALL),
        Case("T[20]", lambda b, x: b.slice_dim(b.slice_dim(x, 0, 19, 20, -1), 0, 1, 5, 3)),
        Case("T[s0, 8]", lambda b, x: b.slice_dim(b.slice_dim(x, 1, 1, 6), 1, 2, 3)),
    ],
    "concat(concat(x, y), z) -> concat(x, y, z)": [
        Case("T[2, 3] T[4, 3]", lambda b, x, y: b.concat([x, b.concat([y, x], 0), y], 0), ALL),
        Case("T[2, s0] T[2, 0]", lambda b, x, y: b.concat([y, x, y, x], 1)),
        Case("T[2, 0]", lambda b, x: b.concat([x, x], 1)),
    ],
    "pad by negative amounts -> slice": [
        Case("T[5, 6]", lambda b, x: b.pad(x, [-1, 0], [0, -2], 9), ALL),
        Case("T[s0, 6]", lambda b, x: b.pad(x, [0, -1], [0, -2], 9)),
    ],
    "permute of unit dims -> reshape": [
        Case("T[1, 3, 1, 4]", lambda b, x: b.permute(x, [1, 0, 3, 2]), ALL),
        Case("T[1, s0]", lambda b, x: b.permute(x, [1, 0])),
    ],
    "broadcast by unit dims -> reshape": [
        Case("T[3, 4]", lambda b, x: b.broadcast(x, [1, 1, 3, 4]), ALL),
        Case("T[]", lambda b, x: b.broadcast(x, [1, 1])),
    ],
    "broadcast(reshape x by leading unit dims) -> broadcast x": [
        Case("T[s0]", lambda b, x: b.broadcast(b.reshape(x, [1, s0]), [3, s0]), ALL),
        Case("T[]", lambda b, x: b.broadcast(b.reshape(x, [1]), [4])),
    ],
    "reshape(broadcast x) -> broadcast(reshape x), unit dims": [
        Case("T[1, 4]", lambda b, x: b.reshape(b.broadcast(x, [3, 4]), [3, 1, 4, 1]), ALL),
        Case("T[s0]", lambda b, x: b.reshape(b.broadcast(x, [1, 3, s0]), [3, s0])),
        Case("T[]", lambda b, x: b.reshape(b.broadcast(x, [3]), [1, 3])),
    ],
    "permute(broadcast x) -> broadcast(permute x)": [
        Case("T[3, 1, 4]", lambda b, x: b.permute(b.broadcast(x, [3, 2, 4]), [2, 0, 1]), ALL),
        Case("T[s0]", lambda b, x: b.permute(b.broadcast(x, [3, s0]), [1, 0])),
    ],
    "slice(broadcast x) -> broadcast(slice x)": [
        Case("T[6, 1]", lambda b, x: b.slice(b.broadcast(x, [6, 5]), [1, 4], [2, 3], [2, -1]), ALL),
        Case("T[s0]", lambda b, x: b.slice(b.broadcast(x, [7, s0]), [3, 0], [2, s0])),
        Case("T[6]", lambda b, x: b.slice(b.broadcast(x, [2, 6]), [0, 3], [2, 0])),
    ],
    "iota of many dims -> broadcast of iota": [
        Case("T[s0]", lambda b, x, t: b.iota([s0, 3, 2], t, 0, 4, -2), "i64 i32"),
        Case("T[s0]", lambda b, x, t: b.iota([4, s0, 3], t, 1, s0, 3), "i64 i32"),
        Case("T[2]", lambda b, x, t: b.iota([1, 5], t, 1), "i64 u8"),
    ],
}


def known_size(value):
    from tilewright.ir.types import DimsAttr

    return tw.SizeOp.create(properties={"value": DimsAttr([value])}, result_types=[TensorType.get((), "i64")])


REFUSED = [
    # of 0.0 and -0.0 either may come out, and a swap would change which
    ("f(c, y) -> f(y, c), commutative", Case("T[3]", lambda b, x, t: b.map("maximum", b.constant(0, t), x))),
    ("f(c, y) -> f(y, c), commutative", Case("T[3]", lambda b, x, t: b.map("sub", b.constant(0, t), x))),
    # the broadcast gives the shape
    ("f(broadcast x, y) -> f(x, y)", Case("T[4] T[1, 4]", lambda b, x, y: b.map("add", b.broadcast(x, [3, 4]), y))),
    ("x - c -> x + (-c), integers", Case("T[3]", lambda b, x, t: b.map("sub", x, b.constant(1, t)), "f32 bf16")),
    ("slice of everything -> x", Case("T[3]", lambda b, x: raw(b, tw.SliceOp.make(x, [2], [3], [-1])))),
    ("pad of c with c -> c", Case("T[1]", lambda b, x, t: b.pad(b.constant(0.0, t, [2]), [1], [0], -0.0))),
    ("concat of c and c -> c", Case("T[1]", lambda b, x, t: b.concat([b.constant(v, t, [2]) for v in (0, -0.0)], 0))),
    ("permute of unit dims -> reshape", Case("T[s0, 2]", lambda b, x: b.permute(x, [1, 0]))),
    ("broadcast by unit dims -> reshape", Case("T[1, 2]", lambda b, x: b.broadcast(x, [3, 2]))),
]


@pytest.mark.parametrize("rule", list(CANONICAL), ids=lambda rule: rule.name)
def test_rule_keeps_every_bit(rule):
    for case in CASES[rule.name]:
        check_rule(rule, case, CANONICAL)


@pytest.mark.parametrize("name, case", REFUSED, ids=[name for name, _ in REFUSED])
def test_rule_is_refused(name, case):
    check_refused(rule_named(CANONICAL, name), case)
