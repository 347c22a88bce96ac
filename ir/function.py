"""What the attributes of a function say: its results' kinds, the arguments it writes, where its symbols come from."""

from __future__ import annotations

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

from .expr import IntExpr
from .types import BufferType, DimsAttr, TensorType


def result_kinds(function: FuncOp) -> list[str]:
    """`tensor`, `int` or `none` for each Python-level result; all tensors where the function does not say."""
    kinds = function.attributes.get("result_kinds")
    if isinstance(kinds, ArrayAttr):
        return [kind.data for kind in kinds.data if isinstance(kind, StringAttr)]
    last = function.body.block.last_op
    return ["tensor"] * (len(last.operands) if last is not None else 0)


def updated_arguments(function: FuncOp) -> tuple[int, ...]:
    """The arguments that a call writes: the last results are their new values, and no results of the compiled call."""
    updates = function.attributes.get("arg_updates")
    return updates.ints() if isinstance(updates, DimsAttr) else ()


def frozen_arguments(function: FuncOp) -> tuple[int, ...]:
    """The arguments that hold the same values in every call."""
    frozen = function.attributes.get("frozen")
    return frozen.ints() if isinstance(frozen, DimsAttr) else ()


def argument_symbols(function: FuncOp) -> dict[str, tuple[int, ...]]:
    """Where each symbol's value is found: `(argument, dim)`, or `(argument,)` for an integer argument.

    `(argument, dim, factor, offset)` says that the dim is ``factor * symbol + offset``. A symbol that the `symbols`
    attribute does not list is found in the first argument that has it as a dim.
    """
    found: dict[str, tuple[int, ...]] = {}
    symbols = function.attributes.get("symbols")
    if isinstance(symbols, DictionaryAttr):
        for name, place in symbols.data.items():
            assert isinstance(place, DimsAttr)
            found[name] = place.ints()
    for position, argument in enumerate(function.body.block.args):
        for dim, expr in enumerate(_argument_shape(argument.type)):
            if not isinstance(expr, int) and str(expr).isidentifier():
                found.setdefault(str(expr), (position, dim))
    return found


def _argument_shape(type: Attribute) -> tuple[IntExpr, ...]:
    return type.shape if isinstance(type, (TensorType, BufferType)) else ()
