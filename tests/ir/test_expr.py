"""Integer expressions: equal polynomials are equal, text reads back, and no simplification changes a value."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tilewright.ir.expr import (
    Expr,
    IntExpr,
    Ranges,
    evaluate,
    floordiv,
    free_symbols,
    hint,
    linear_in_one,
    maximum,
    minimum,
    mod,
    parse,
    product,
    substitute,
    symbol,
)

NAMES = ("a", "b", "i", "s0")
VALUES = st.fixed_dictionaries({name: st.integers(0, 12) for name in NAMES})
LEAVES = st.one_of(st.sampled_from(NAMES), st.integers(-9, 9))
DIVISORS = st.integers(-8, 8).filter(bool)

# A tree is a name, an int, or (operator, left, right); division is by non-zero constants, so that it is always defined.
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "max", "min"]), inner, inner),
        st.tuples(st.sampled_from(["//", "%"]), inner, DIVISORS),
    ),
    max_leaves=8,
)
MEANING = {
    "+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y, "//": lambda x, y: x // y,
    "%": lambda x, y: x % y, "max": max, "min": min,
}
BUILD = {**MEANING, "//": floordiv, "%": mod, "max": maximum, "min": minimum}


def build(tree: object) -> IntExpr:
    if isinstance(tree, tuple):
        return BUILD[tree[0]](build(tree[1]), build(tree[2]))
    return symbol(tree) if isinstance(tree, str) else tree  # type: ignore[return-value]


def meaning(tree: object, values: dict[str, int]) -> int:
    if isinstance(tree, tuple):
        return MEANING[tree[0]](meaning(tree[1], values), meaning(tree[2], values))
    return values[tree] if isinstance(tree, str) else tree  # type: ignore[return-value]


EXPRESSIONS = TREES.map(build)


@given(TREES, VALUES)
def test_building_keeps_the_value(tree, values):
    assert evaluate(build(tree), values) == meaning(tree, values)


@given(EXPRESSIONS)
def test_text_reads_back(expr):
    assert parse(str(expr)) == expr
    assert str(parse(str(expr))) == str(expr)


@given(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS)
def test_polynomial_identities(x, y, z):
    pairs = [
        (x + y, y + x), (x * y, y * x), ((x + y) + z, x + (y + z)), ((x * y) * z, x * (y * z)),
        (x * (y + z), x * y + x * z), (x - y, x + y * -1), (x - x, 0), ((x + y) * (x - y), x * x - y * y),
        (0 - (x - y), y - x), (maximum(x, y), maximum(y, x)), (minimum(x, y), minimum(y, x)),
    ]
    for left, right in pairs:
        assert left == right
        assert hash(left) == hash(right)
        assert str(left) == str(right)


@given(EXPRESSIONS, EXPRESSIONS, VALUES)
def test_substitution_is_composition(expr, inner, values):
    replaced = substitute(expr, {"a": inner})
    assert evaluate(replaced, values) == evaluate(expr, {**values, "a": evaluate(inner, values)})


@given(EXPRESSIONS, EXPRESSIONS, VALUES)
def test_dividing_a_multiple_is_exact(x, y, values):
    assume(evaluate(y, values) != 0)
    assert evaluate(floordiv(x * y, y), values) == evaluate(x, values)
    assert evaluate(mod(x * y, y), values) == 0


EXTENTS = st.fixed_dictionaries({"a": st.integers(1, 7), "b": st.integers(1, 7)})


def points(extents: dict[str, int]):
    """All values of the loop indices, at two sizes of the other names."""
    for a, b in itertools.product(range(extents["a"]), range(extents["b"])):
        for size in (0, 5):
            yield {"a": a, "b": b, "i": size, "s0": size + 1}


@given(EXPRESSIONS, EXTENTS)
def test_simplify_and_bounds_hold_everywhere(expr, extents):
    ranges = Ranges(extents)
    simple, upper, lower = ranges.simplify(expr), ranges.upper(expr), ranges.lower(expr)
    nonnegative, below = ranges.is_nonnegative(expr), ranges.is_below(expr, symbol("s0") + 3)
    for bound in (upper, lower):
        assert bound is None or not free_symbols(bound) & extents.keys()
    for values in points(extents):
        value = evaluate(expr, values)
        assert evaluate(simple, values) == value
        assert upper is None or value <= evaluate(upper, values)
        assert lower is None or value >= evaluate(lower, values)
        assert not nonnegative or value >= 0
        assert not below or value < values["s0"] + 3


def test_a_negative_factor_turns_bounds_around():
    # (a - 5)//2 is negative: times the largest b it is smaller than times the smallest.
    a, b = symbol("a"), symbol("b")
    ranges = Ranges({"a": 4, "b": 10})
    assert not ranges.is_nonnegative(floordiv(a - 5, 2) * b + 10)


@pytest.mark.parametrize(
    ("text", "extents", "expected"),
    [
        ("(8*i + j) // 8", {"i": 4, "j": 8}, "i"),
        ("(8*i + j) % 8", {"i": 4, "j": 8}, "j"),
        ("(6*i + j) // 12", {"i": 8, "j": 6}, "(i//2)"),
        ("(6*i + j) % 12", {"i": 8, "j": 6}, "j + 6*(i%2)"),
        ("(s*i + j) // s", {"i": 4, "j": symbol("s")}, "i"),
        ("(i + 5) % 8", {"i": 8}, "((i + 5)%8)"),
        ("(x // 4) // 8", {}, "(x//32)"),
        ("8*(x//8) + x%8", {}, "x"),
    ],
)
def test_simplify_finds(text, extents, expected):
    assert str(Ranges(extents).simplify(parse(text))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b + a*2 - b", "2*a"), ("a**2 - 1", "a*a - 1"), ("-a + 3", "-a + 3"), ("max(a, 3)", "max(3, a)"),
        ("max(a + 1, a)", "a + 1"), ("(a + 1)%2", "((a + 1)%2)"), ("7 // 2", "3"), ("-7 // 2", "-4"), ("7 % -2", "-1"),
    ],
)
def test_parse(text, expected):
    assert str(parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "a +", "a.b", "a[0]", "1.5", "True", "a / 2", "f(a)", "max(a)", "max(a, b, a)", "max(a, key=b)", "a**b",
        "a**-1", "a**1.5", "2**1000", "lambda", "not a", "'a'", "1 // 0", "a b", "a\0",
    ],
)
def test_what_is_no_integer_expression_is_refused(text):
    with pytest.raises(ValueError, match=r"expression|name|null"):
        parse(text)


@pytest.mark.parametrize("name", ["", "1a", "a b", "lambda", "True", "ﬁ", "s-0"])
def test_names_are_ascii_identifiers(name):
    with pytest.raises(ValueError, match="not a name"):
        symbol(name)


def test_an_expression_has_no_truth_value():
    with pytest.raises(TypeError, match="not known while compiling"):
        bool(symbol("a"))


def test_evaluate_names_what_is_missing():
    with pytest.raises(KeyError, match="no value for b"):
        evaluate(symbol("a") + symbol("b"), {"a": 1})


def test_small_helpers():
    a = symbol("a")
    assert product([]) == 1 and product([2, a, 3]) == 6 * a
    assert hint(2 * a) == 128 and hint(2 * a, {"a": 5}) == 10 and hint(7) == 7
    assert free_symbols(a * 2 + mod(symbol("b") + 1, 3)) == {"a", "b"}
    assert isinstance(a, Expr) and 2 * a - a == a


@pytest.mark.parametrize(("text", "expected"), [
    ("a", ("a", 1, 0)), ("3*a", ("a", 3, 0)), ("2*a + 5", ("a", 2, 5)), ("a - 1", ("a", 1, -1)),
    ("7", None), ("a + b", None), ("a*a", None), ("5 - a", None), ("a//2", None), ("max(a, 3)", None),
    ("a*a + a", None),
])
def test_linear_in_one(text, expected):
    assert linear_in_one(parse(text)) == expected
