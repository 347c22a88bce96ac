"""Which keys a query can see at all, as far as it follows from their positions: blocks of others are skipped.

A mask puts minus infinity, or a number so large that its exponential is zero beside any other, where a condition does
not hold. Where the condition, or a part of it that must hold too, compares positions, the keys lie between bounds:
causal masks, sliding windows, chunks, and what such are combined with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.expr import IntExpr, free_symbols, maximum, minimum, substitute
from tilewright.ir.patterns import splat

from .attention_forms import KEY, QUERY, VIEWS, Attention, Place
from .lowering.indexing import Index, broadcast_index
from .lowering.loops import coefficient
from .lowering.walk import Walk, view_index


@dataclass(frozen=True)
class KeyRange:
    """A query sees no key before any of `lower` or after any of `upper` (inclusive), in terms of `QUERY`."""

    lower: tuple[IntExpr, ...] = ()
    upper: tuple[IntExpr, ...] = ()

    def __and__(self, other: KeyRange) -> KeyRange:
        return KeyRange((*self.lower, *other.lower), (*self.upper, *other.upper))

    def start(self, first: IntExpr, last: IntExpr) -> IntExpr:
        """The first key that a query between `first` and `last` may see."""
        result: IntExpr = 0
        for bound in self.lower:
            rising = _slope(bound) >= 0
            result = maximum(result, substitute(bound, {QUERY: first if rising else last}))
        return result

    def stop(self, first: IntExpr, last: IntExpr, keys: IntExpr) -> IntExpr:
        """One past the last key that a query between `first` and `last` may see."""
        result = keys
        for bound in self.upper:
            rising = _slope(bound) >= 0
            result = minimum(result, substitute(bound, {QUERY: last if rising else first}) + 1)
        return result

    def first_query(self, first: IntExpr, last: IntExpr) -> IntExpr:
        """The first query that may see a key between `first` and `last`."""
        result: IntExpr = 0
        for bounds, key, sign in ((self.upper, first, 1), (self.lower, last, -1)):
            for bound in bounds:
                if _slope(bound) == sign:
                    result = maximum(result, (key - substitute(bound, {QUERY: 0})) * sign)
        return result

    def last_query(self, first: IntExpr, last: IntExpr, queries: IntExpr) -> IntExpr:
        """One past the last query that may see a key between `first` and `last`."""
        result = queries
        for bounds, key, sign in ((self.upper, first, -1), (self.lower, last, 1)):
            for bound in bounds:
                if _slope(bound) == sign:
                    result = minimum(result, (key - substitute(bound, {QUERY: 0})) * sign + 1)
        return result

    def __str__(self) -> str:
        parts = [f"{KEY} >= {b}" for b in self.lower] + [f"{KEY} <= {b}" for b in self.upper]
        return ", ".join(parts)


def _slope(bound: IntExpr) -> int:
    slope = coefficient(bound, QUERY)
    assert isinstance(slope, int)
    return slope


def visible_keys(found: Attention, walk: Walk) -> KeyRange:
    """The bounds that the masks of `found` give; `walk` is over the region's ops.

    Minus infinity hides for certain. A large number hides only beside a score that it does not hide, so it counts where
    positions alone decide, and leave each query a key.
    """
    if found.logit is None:
        return KeyRange()
    masks = _Masks(found, walk)
    bounds = masks.logit(*found.logit)
    large = masks.large
    if masks.complete and not masks.reads_data(found.logit[0]) and _sees_one(large, found, walk):
        bounds &= large
    return bounds


def _sees_one(bounds: KeyRange, found: Attention, walk: Walk) -> bool:
    """Whether every query has a key within the bounds."""
    lower, upper = (0, *bounds.lower), (found.keys - 1, *bounds.upper)
    return all(walk.ranges.is_nonnegative(u - b) for u in upper for b in lower)


def where_nonzero(found: Masked, walk: Walk, value: SSAValue, index: Index) -> tuple[KeyRange, list[Place]]:
    """The bounds outside of which a value of `found` is zero, and rows that must be finite for that: exponentials are
    taken of a score less such a row, or divided by it."""
    return _Masks(found, walk).nonzero(value, index)


class Masked(Protocol):
    """What masks are looked for in: `ops` are those of a kernel, `scores` the product that they are put on, `extended`
    has the ops that put something beside the keys."""

    ops: dict[Operation, None]
    scores: tw.MatmulOp
    extended: dict[Operation, tuple[int, IntExpr]]


class _Masks:
    """Reads what is done to the scores. `large` are the bounds of masks that are large numbers, `complete` says whether
    these masks are nothing but their bounds."""

    def __init__(self, found: Masked, walk: Walk):
        self.found, self.walk = found, walk
        self.large = KeyRange()
        self.complete = True

    def logit(self, value: SSAValue, index: Index) -> KeyRange:
        """The bounds outside of which the value is minus infinity."""
        op = value.owner
        if not isinstance(op, Operation) or op not in self.found.ops:
            return KeyRange()
        if isinstance(op, VIEWS):
            return self.logit(op.source, view_index(op, index, self.walk.ranges))
        if op in self.found.extended:
            dim, start = self.found.extended[op]
            keys = next(a for a in op.operands if self.depends(a))
            return self.logit(keys, (*index[:dim], index[dim] - start, *index[dim + 1 :]))
        if not isinstance(op, tw.MapOp):
            return KeyRange()
        places = [(a, broadcast_index(index, tw.tensor_type(a).shape)) for a in op.args]
        if op.fn.data == "cast":
            return self.logit(*places[0])
        if op.fn.data == "add":
            return self.logit(*places[0]) & self.logit(*places[1])
        if op.fn.data == "where":
            return self.where(op, places)
        return KeyRange()

    def nonzero(self, value: SSAValue, index: Index) -> tuple[KeyRange, list[Place]]:
        """See `where_nonzero`."""
        op, nothing = value.owner, (KeyRange(), list[Place]())
        if not isinstance(op, Operation) or op not in self.found.ops:
            return nothing
        if isinstance(op, VIEWS):
            return self.nonzero(op.source, view_index(op, index, self.walk.ranges))
        if not isinstance(op, tw.MapOp):
            return nothing
        places = [(a, broadcast_index(index, tw.tensor_type(a).shape)) for a in op.args]
        fn = op.fn.data
        if fn == "exp":
            return self.exponential(*places[0])
        if fn in ("cast", "neg"):
            return self.nonzero(*places[0])
        if fn == "div":
            bounds, rows = self.nonzero(*places[0])
            return (bounds, [*rows, places[1]]) if KEY not in _names(places[1]) else nothing
        if fn == "mul":
            # The nearest to the exponential decides; zero by a condition needs no row to be finite.
            return min(map(self.nonzero, *zip(*places)), key=lambda found: (found[0] == KeyRange(), len(found[1])))
        if fn == "where":
            for zero, other in ((1, 2), (2, 1)):
                if splat(op.args[zero]) == 0:
                    bounds, _ = self.condition(*places[0], wanted=zero == 2)
                    return (bounds, []) if bounds != KeyRange() else self.nonzero(*places[other])
        return nothing

    def exponential(self, value: SSAValue, index: Index) -> tuple[KeyRange, list[Place]]:
        """The same for the exponential of a value: a score, perhaps less rows."""
        op, rows = value.owner, list[Place]()
        while isinstance(op, tw.MapOp) and op in self.found.ops and op.fn.data == "sub":
            first, row = [(a, broadcast_index(index, tw.tensor_type(a).shape)) for a in op.args]
            if KEY in _names(row):
                return KeyRange(), []
            rows.append(row)
            value, index = first
            op = value.owner
        return self.logit(value, index), rows

    def where(self, op: tw.MapOp, places: Sequence[tuple[SSAValue, Index]]) -> KeyRange:
        """The bounds that a choice between a mask's number and something else gives."""
        numbers = [splat(a) for a in op.args]
        for hidden, other in ((1, 2), (2, 1)):
            number = numbers[hidden]
            limit = _LOW_HALF if tw.tensor_type(op.result).dtype == "f16" else _LOW
            if number is None or number > limit:
                continue
            bounds, complete = self.condition(*places[0], wanted=hidden == 2)
            if number == float("-inf"):
                return bounds & self.logit(*places[other])
            self.large &= bounds
            self.complete &= complete
            return self.logit(*places[other])
        return KeyRange()

    def condition(self, value: SSAValue, index: Index, wanted: bool) -> tuple[KeyRange, bool]:
        """Bounds outside of which the condition is not as `wanted`, and whether within them it always is."""
        op = value.owner
        if not isinstance(op, Operation) or op not in self.found.ops:
            return KeyRange(), False
        if isinstance(op, VIEWS):
            return self.condition(op.source, view_index(op, index, self.walk.ranges), wanted)
        if isinstance(op, tw.ConstantOp):
            return KeyRange(), bool(op.value.data) == wanted
        if not isinstance(op, tw.MapOp):
            return KeyRange(), False
        places = [(a, broadcast_index(index, tw.tensor_type(a).shape)) for a in op.args]
        fn = op.fn.data
        if fn == "not":
            return self.condition(*places[0], not wanted)
        if fn == ("and" if wanted else "or"):
            (first, all_first), (second, all_second) = (self.condition(*place, wanted) for place in places)
            return first & second, all_first and all_second
        if fn in _NOT and tw.tensor_type(op.args[0]).dtype in ("i64", "i32"):
            left, right = (self.walk.integer_expr(*place) for place in places)
            if left is not None and right is not None:
                difference = _DIFFERENCES[fn if wanted else _NOT[fn]](left, right)
                return _bounds(self.walk.ranges.simplify(difference))
        return KeyRange(), False

    def depends(self, value: SSAValue) -> bool:
        """Whether a value of the region depends on the scores."""
        op = value.owner
        if op is self.found.scores:
            return True
        return isinstance(op, Operation) and op in self.found.ops and any(self.depends(a) for a in op.operands)

    def reads_data(self, value: SSAValue) -> bool:
        """Whether a value is made of more than scores, positions and constants."""
        op = value.owner
        if op is self.found.scores:
            return self.found.scores.bias is not None
        if not isinstance(op, Operation) or op not in self.found.ops:
            return True
        return any(self.reads_data(a) for a in op.operands)


def _names(place: Place) -> frozenset[str]:
    return frozenset[str]().union(*map(free_symbols, place[1]))


_LOW, _LOW_HALF = -1e30, -6e4
"""A mask of this or less hides what it is put on, beside any score in use; for f16, whose lowest number is -65504."""

_NOT = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt"}
# What must be >= 0.
_DIFFERENCES: dict[str, Callable[[IntExpr, IntExpr], IntExpr]] = {
    "lt": lambda a, b: b - a - 1, "le": lambda a, b: b - a, "gt": lambda a, b: a - b - 1, "ge": lambda a, b: a - b,
}


def _bounds(difference: IntExpr) -> tuple[KeyRange, bool]:
    """What ``difference >= 0`` says about the key, and whether that is all it says."""
    step, slope = coefficient(difference, KEY), coefficient(difference, QUERY)
    if step not in (1, -1) or not isinstance(slope, int) or free_symbols(difference) - {KEY, QUERY}:
        return KeyRange(), False
    rest = substitute(difference, {KEY: 0})
    return (KeyRange(lower=(-rest,)) if step == 1 else KeyRange(upper=(rest,))), True
