"""What builders and guards of rules share: types of values, and shapes without their unit dims."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from tilewright.ir.builder import Builder
from tilewright.ir.expr import IntExpr
from tilewright.ir.scalars import kind_of
from tilewright.ir.tw import tensor_type

Shape = tuple[IntExpr, ...]


def shape_of(value: SSAValue) -> Shape:
    return tensor_type(value).shape


def dtype_of(value: SSAValue) -> str:
    return tensor_type(value).dtype


def rank_of(value: SSAValue) -> int:
    return len(shape_of(value))


def is_float(x: SSAValue) -> bool:
    return kind_of(dtype_of(x)) == "float"


def is_int(x: SSAValue) -> bool:
    return kind_of(dtype_of(x)) == "int"


def is_bool(x: SSAValue) -> bool:
    return dtype_of(x) == "bool"


def is_discrete(x: SSAValue) -> bool:
    """Integers and bools: no NaN, no signed zeros."""
    return kind_of(dtype_of(x)) in ("int", "bool")


def keep(x: SSAValue, op: Operation, build: Builder) -> SSAValue:
    """`x` in the root's shape: what a rule gives where an operand alone decides the elements."""
    return build.broadcast(x, shape_of(op.results[0]))


def fill(value: bool | int | float, op: Operation, build: Builder) -> SSAValue:
    """A constant of the root's type."""
    type = tensor_type(op.results[0])
    return build.constant(value, type.dtype, type.shape)


def without_units(shape: Sequence[IntExpr]) -> Shape:
    """The dims that are not 1."""
    return tuple(d for d in shape if d != 1)


def without_leading_units(shape: Sequence[IntExpr]) -> Shape:
    first = next((i for i, d in enumerate(shape) if d != 1), len(shape))
    return tuple(shape[first:])


def moves_only_units(old: Sequence[IntExpr], new: Sequence[IntExpr]) -> bool:
    """Whether a reshape from `old` to `new` adds and removes dims of size 1 and nothing else."""
    return without_units(old) == without_units(new)


def aligned(shape: Sequence[IntExpr], rank: int) -> Shape:
    """`shape` with unit dims in front, as broadcasting aligns it."""
    return (1,) * (rank - len(shape)) + tuple(shape)
