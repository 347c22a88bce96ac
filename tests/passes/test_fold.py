"""Constant folding gives the bits that the interpreter gives."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tilewright.ir.dtypes import DTYPES, round_to
from tilewright.ir.expr import symbol
from tilewright.ir.interpreter import run
from tilewright.ir.rewrite import RuleSet
from tilewright.ir.scalars import SCALARS, kind_of
from tilewright.passes.rules.folding import FOLD, fold_cast

from .rulecheck import Case, assert_same_bits, case_module, check_refused, check_rule, result_ops, rule_named

s0 = symbol("s0")
NAN, INF = math.nan, math.inf
SUMMED = (0, 1, 3, 100, -7)

CASES: dict[str, list[Case]] = {
    "f(constants) -> constant": [
        Case(
            "T[s0]", lambda b, x, t: b.map("add", b.constant(3, t, [s0, 1]), b.constant(2, t, [4])), "f32 bf16 i64 u8"
        ),
        Case(
            "T[2]",
            lambda b, x, t: b.where(b.constant(True, "bool", [3]), b.constant(2, t), b.constant(1, t)),
            "f32 i64",
        ),
        Case("T[2]", lambda b, x, t: b.cast(b.constant(3, "f32", [0, 2]), t), "bool i64 u8 bf16 f16 f64"),
    ],
    "reduce of c -> c": [
        Case("T[s0]", lambda b, x, t: b.reduce("max", b.constant(3, t, [s0, 4]), [1]), "f32 i64 bool"),
        Case("T[2]", lambda b, x, t: [b.reduce(f, b.constant(NAN, t, [2, 4]), [0, 1]) for f in ("max", "min")]),
        Case("T[2]", lambda b, x: [b.reduce(f, b.constant(True, "bool", [2, 4]), [1]) for f in ("any", "all")]),
        Case("T[2]", lambda b, x, t: b.reduce("argmax", b.constant(3, t, [2, 4]), [1]), "f32 i64"),
    ],
    "sum of n times c -> n * c, integers": [
        Case("T[2]", lambda b, x, t: [b.reduce("sum", b.constant(c, t, [3, 4]), [0, 1]) for c in SUMMED], "i64 i32 u8"),
        Case(
            "T[2]", lambda b, x, t: [b.reduce("prod", b.constant(c, t, [3, 4]), [0, 1]) for c in SUMMED], "i64 i32 u8"
        ),
    ],
    "reduce of nothing -> neutral element": [
        Case("T[3, 0]", lambda b, x: [b.reduce(f, x, [1]) for f in ("sum", "prod")], "f32 bf16 i64"),
        Case("bool[3, 0]", lambda b, x: [b.reduce(f, x, [0, 1]) for f in ("any", "all")]),
    ],
    "iota of one number -> constant": [
        Case("T[2]", lambda b, x, t: [b.iota([3, 1], t, 1, 5, 2), b.iota([3, 2], t, 0, 5, 0)], "i64 i32 u8")
    ],
}

REFUSED = [
    # not exactly rounded
    ("f(constants) -> constant", Case("T[1]", lambda b, x, t: b.map("exp", b.constant(1, t)), "f32 f64 bf16")),
    # not defined
    ("f(constants) -> constant", Case("T[1]", lambda b, x, t: b.cast(b.constant(NAN, "f32"), t), "i64 i32 u8")),
    ("f(constants) -> constant", Case("T[1]", lambda b, x, t: b.cast(b.constant(INF, "f32"), t), "i64 i32 u8")),
    ("f(constants) -> constant", Case("T[1]", lambda b, x, t: b.cast(b.constant(-1e30, "f32"), t), "i64 i32 u8")),
    (
        "f(constants) -> constant",
        Case(
            "T[1]",
            lambda b, x, t: [
                b.map(f, b.constant(1, t), b.constant(0, t)) for f in ("floor_div", "trunc_div", "remainder")
            ],
            "i64 i32",
        ),
    ),
    # of 0.0 and -0.0 either may come out
    (
        "f(constants) -> constant",
        Case("T[1]", lambda b, x, t: b.map("maximum", b.constant(0.0, t), b.constant(-0.0, t))),
    ),
    # how many is not known, or none
    ("reduce of c -> c", Case("T[s0]", lambda b, x, t: b.reduce("max", b.constant(1, t, [s0]), [0]))),
    ("reduce of c -> c", Case("T[0]", lambda b, x, t: b.reduce("max", b.constant(1, t, [2, 0]), [1]))),
    (
        "sum of n times c -> n * c, integers",
        Case("T[2]", lambda b, x, t: b.reduce("sum", b.constant(0.1, t, [3]), [0])),
    ),
    ("reduce of nothing -> neutral element", Case("T[3, s0]", lambda b, x: b.reduce("sum", x, [1]))),
]


@pytest.mark.parametrize("rule", list(FOLD), ids=lambda rule: rule.name)
def test_rule_keeps_every_bit(rule):
    for case in CASES[rule.name]:
        check_rule(rule, case, FOLD)


@pytest.mark.parametrize("name, case", REFUSED, ids=[name for name, _ in REFUSED])
def test_rule_is_refused(name, case):
    check_refused(rule_named(FOLD, name), case)


VALUES = {
    "float": [0.0, -0.0, 1.0, -1.0, 0.1, 2.5, 3.5, -2.5, 1e30, 3e38, -1e-40, 65504.0, NAN, INF, -INF],
    "int": [0, 1, -1, 7, -7, 100, 127, -128, 2**31 - 1, -(2**63)],
    "bool": [False, True],
}


@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16", "f16", "i64", "i32", "i8", "u8", "bool"])
@pytest.mark.parametrize("fn", [name for name, row in SCALARS.items() if name != "cast" and row.arity <= 2])
def test_every_function_folds_as_it_runs(fn, dtype):
    """All pairs of special values in one module: what was folded has the bits of what runs."""
    row = SCALARS[fn]
    kind = kind_of(dtype)
    if kind not in row.accepts:
        return
    values = list(dict.fromkeys(map(repr, (round_to(dtype, v) for v in VALUES[kind]))))
    numbers = [eval(v, {"nan": NAN, "inf": INF}) for v in values]
    combinations = list(itertools.product(numbers, repeat=row.arity))
    # Division by zero and shifts too far are not defined, and some trap.
    if kind == "int" and row.arity == 2 and fn in ("floor_div", "trunc_div", "remainder", "fmod", "shl", "shr", "pow"):
        combinations = [(a, b) for a, b in combinations if 1 <= b < 8]
    build = lambda b, x: [b.map(fn, *(b.constant(v, dtype) for v in args)) for args in combinations]  # noqa: E731
    before = case_module(Case("f32[1]", build), dtype)
    after = before.clone()
    RuleSet(*FOLD).apply(after)
    assert_same_bits(run(before, [torch.zeros(1)]), run(after, [torch.zeros(1)]))
    if not row.exact:
        assert any(name.startswith("map") for name in result_ops(after))


@pytest.mark.parametrize("target", [t for t in DTYPES if t[0] in "fib" and not t.startswith("f8")])
@pytest.mark.parametrize("source", [t for t in DTYPES if t[0] in "fiub" and not t.startswith("f8")])
def test_casts_fold_as_torch_casts(source, target):
    """Also numbers that are rounded twice on their way to a half."""
    values = [
        *VALUES["float"],
        *VALUES["int"],
        1 + 2**-8 + 2**-30,
        1 + 2**-11 + 2**-40,
        65519.999999,
        2**53 + 1,
        33554433,
    ]
    for value in values:
        if DTYPES[source].kind != "float" and not math.isfinite(value):
            continue
        number = round_to(source, value)
        folded = fold_cast(number, source, target)
        if folded is None:
            continue
        torch_source, torch_target = (getattr(torch, DTYPES[t].torch_name) for t in (source, target))
        expected = torch.tensor(number, dtype=torch_source).to(torch_target)
        assert_same_bits([torch.tensor(folded, dtype=torch_target)], [expected])
