"""Patterns of rewrite rules, written with the IR's own operators.

>>> x, y = captures("x y")
>>> div(x, sqrt(y))                      # a map of a map; `x` and `y` capture the values there
>>> mul(x, const(1))                     # a tensor whose every element is 1; both orders match
>>> permute(permute(x, name="inner"))    # `inner` captures the op

A capture that occurs twice must be the same value twice. Captures of constants bind the number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from xdsl.ir import Operation, SSAValue

from . import tw
from .dtypes import DTYPES, round_to
from .scalars import SCALARS
from .tw import tensor_type

Number = bool | int | float
Bindings = dict[str, Any]

# Swapping the operands changes no bit of the result (which NaN a sum of two NaNs gives is left open).
SWAPPABLE = frozenset({"add", "mul", "eq", "ne", "and", "or", "xor"})
# Of 0.0 and -0.0 these may give either, in an order that depends on the target: patterns match both orders of them, but
# they are not swapped for order's sake.
EXTREMA = frozenset({"maximum", "minimum", "fmax", "fmin"})
COMMUTATIVE = SWAPPABLE | EXTREMA


def splat(value: SSAValue) -> Number | None:
    """The number that every element of a `tw.constant` is, as an element of its dtype; None for other values."""
    owner = value.owner
    if not isinstance(owner, tw.ConstantOp):
        return None
    row = DTYPES[tensor_type(value).dtype]
    number = owner.value.data
    # Complex numbers and 8-bit floats have no rounding here: nothing is known about their elements.
    if row.kind == "complex" or (row.is_float and row.itemsize == 1):
        return None
    return round_to(row.name, number)


def same_number(left: Number, right: Number) -> bool:
    """Equal as elements of one dtype: -0.0 differs from 0.0, and NaN equals NaN."""
    if left != left or right != right:
        return left != left and right != right
    return left == right and math.copysign(1.0, left) == math.copysign(1.0, right)


@dataclass(frozen=True)
class Capture:
    """Any value."""

    name: str

    def match(self, value: SSAValue, bindings: Bindings, matched: list[Operation]) -> bool:
        return bindings.setdefault(self.name, value) is value


@dataclass(frozen=True)
class Constant:
    """A splat constant whose element `accept` takes."""

    accept: Callable[[Number], bool]
    name: str | None = None

    def match(self, value: SSAValue, bindings: Bindings, matched: list[Operation]) -> bool:
        number = splat(value)
        if number is None or not self.accept(number):
            return False
        return self.name is None or same_number(bindings.setdefault(self.name, number), number)


@dataclass(frozen=True)
class OpPattern:
    """One of the op classes `ops`, with the function (of a map, reduction, scan or aten call) among `fns` if any are
    given; `operands` of None takes any operands. `name` captures the op."""

    ops: tuple[type[Operation], ...]
    fns: frozenset[str] = frozenset()
    operands: tuple[Pattern, ...] | None = None
    name: str | None = None
    classes: frozenset[type[Operation]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", frozenset(self.ops))

    def match(self, value: SSAValue, bindings: Bindings, matched: list[Operation]) -> bool:
        owner = value.owner
        return isinstance(owner, Operation) and self.match_op(owner, bindings, matched)

    def match_op(self, op: Operation, bindings: Bindings, matched: list[Operation]) -> bool:
        if type(op) not in self.classes or (self.fns and function_of(op) not in self.fns):
            return False
        if self.name is not None and bindings.setdefault(self.name, op) is not op:
            return False
        if self.operands is not None:
            if len(op.operands) != len(self.operands):
                return False
            for pattern, operand in zip(self.operands, op.operands):
                if not pattern.match(operand, bindings, matched):
                    return False
        matched.append(op)
        return True


Pattern = Capture | Constant | OpPattern


def function_of(op: Operation) -> str | None:
    """What the rule index knows an op by beside its class: the scalar function, the combiner, the ATen overload."""
    attribute = op.properties.get("fn") or op.properties.get("target")
    return attribute.data if attribute is not None else None  # type: ignore[attr-defined]


def names(pattern: Pattern) -> set[str]:
    """All capture names in a pattern."""
    own = {pattern.name} if pattern.name is not None else set()
    for operand in _operands(pattern):
        own |= names(operand)
    return own


def depth(pattern: Pattern) -> int:
    """Levels of ops below and including the pattern's root."""
    if isinstance(pattern, Capture):
        return 0
    return 1 + max((depth(p) for p in _operands(pattern)), default=0)


def orders(pattern: Pattern) -> Iterator[Pattern]:
    """The pattern with the operands of its commutative maps in every order that differs."""
    if not isinstance(pattern, OpPattern) or pattern.operands is None:
        yield pattern
        return
    for operands in itertools.product(*(list(orders(p)) for p in pattern.operands)):
        yield replace(pattern, operands=operands)
        if pattern.fns and pattern.fns <= COMMUTATIVE and operands[0] != operands[1]:
            yield replace(pattern, operands=operands[::-1])


def required(pattern: OpPattern) -> frozenset[type[Operation]]:
    """Op classes that must be found among the owners of the root's operands for the pattern to match."""
    needs: set[type[Operation]] = set()
    for operand in pattern.operands or ():
        if isinstance(operand, Constant):
            needs.add(tw.ConstantOp)
        elif isinstance(operand, OpPattern) and len(operand.ops) == 1:
            needs.add(operand.ops[0])
    return frozenset(needs)


def _operands(pattern: Pattern) -> tuple[Pattern, ...]:
    return pattern.operands or () if isinstance(pattern, OpPattern) else ()


# Captures and constants.


def captures(text: str) -> tuple[Capture, ...]:
    """`captures("x y")`: one capture for each name."""
    return tuple(Capture(name) for name in text.split())


def const(value: Number) -> Constant:
    """A tensor filled with `value` of whatever dtype; tells 0.0 from -0.0."""
    return Constant(_Equals(value))


def constant(name: str | None = None, accept: Callable[[Number], bool] = lambda number: True) -> Constant:
    """A tensor filled with one number that `accept` takes; the name binds the number."""
    return Constant(accept, name)


@dataclass(frozen=True)
class _Equals:
    value: Number

    def __call__(self, number: Number) -> bool:
        return same_number(number, self.value)


# Ops of tw. Without operands (`concat()`), any operands match.


def _pattern(
    ops: Iterable[type[Operation]], fns: str | Iterable[str], operands: tuple[Pattern, ...], name: str | None
) -> OpPattern:
    functions = frozenset([fns] if isinstance(fns, str) else fns)
    return OpPattern(tuple(ops), functions, operands or None, name)


def map_(fns: str | Iterable[str], *operands: Pattern, name: str | None = None) -> OpPattern:
    """A `tw.map` with one of the scalar functions; an empty list takes every function."""
    pattern = _pattern([tw.MapOp], fns, operands, name)
    for fn in pattern.fns:
        if fn not in SCALARS or (operands and SCALARS[fn].arity != len(operands)):
            raise ValueError(f"no scalar function {fn!r} takes {len(operands)} operands")
    return pattern


def reduce(fns: str | Iterable[str], source: Pattern, name: str | None = None) -> OpPattern:
    return _pattern([tw.ReduceOp], fns, (source,), name)


def scan(fns: str | Iterable[str], source: Pattern, name: str | None = None) -> OpPattern:
    return _pattern([tw.ScanOp], fns, (source,), name)


def aten(targets: str | Iterable[str], *operands: Pattern, name: str | None = None) -> OpPattern:
    return _pattern([tw.AtenOp], targets, operands, name)


def any_of(*ops: type[Operation]) -> Callable[..., OpPattern]:
    """A pattern constructor for ops of several classes: ``any_of(tw.ReshapeOp, tw.PermuteOp)(x)``."""

    def build(*operands: Pattern, name: str | None = None) -> OpPattern:
        return _pattern(ops, (), operands, name)

    return build


def _map(fn: str) -> Callable[..., OpPattern]:
    def build(*operands: Pattern, name: str | None = None) -> OpPattern:
        return map_(fn, *operands, name=name)

    build.__name__ = fn
    return build


add, sub, mul, div, neg, abs_, pow_, sqrt = map(_map, ("add", "sub", "mul", "div", "neg", "abs", "pow", "sqrt"))
eq, ne, lt, le, gt, ge = map(_map, ("eq", "ne", "lt", "le", "gt", "ge"))
and_, or_, xor, not_, where, cast = map(_map, ("and", "or", "xor", "not", "where", "cast"))
maximum, minimum = map(_map, ("maximum", "minimum"))

reshape, permute, slice_, broadcast, pad = map(
    any_of, (tw.ReshapeOp, tw.PermuteOp, tw.SliceOp, tw.BroadcastOp, tw.PadOp)
)
concat, gather, matmul, iota, size, attention = map(
    any_of, (tw.ConcatOp, tw.GatherOp, tw.MatmulOp, tw.IotaOp, tw.SizeOp, tw.AttentionOp)
)
