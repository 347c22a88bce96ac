"""Arguments of opaque library calls as text: how `tw.aten` and `prog.extern` carry Python values without pickling.

The text is the repr of ``(args, kwargs)`` in Python literals. Strings carry a tag: ``"%2"`` is operand 2,
``"size:2*s0"`` a size, ``"dtype:f32"``, ``"device:cpu"``, ``"layout:strided"``, ``"memory_format:channels_last"`` the
torch objects, ``"float:inf"`` a float without a literal, ``"str:mean"`` a plain string.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .expr import Expr, IntExpr, parse


@dataclass(frozen=True)
class Operand:
    """Stands for operand `index` of the op."""

    index: int


@dataclass(frozen=True)
class Tagged:
    """A torch object by name: `tag` is ``dtype``, ``device``, ``layout`` or ``memory_format``."""

    tag: str
    name: str


SEED_CALL = "aten.randint.low", f"([{-(2**63)}, {2**63 - 1}, []], {{'dtype': 'dtype:i64'}})"
"""Target and arguments of the call that `tw.seed` is: a number drawn from torch's default generator."""


def encode(args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]) -> str:
    """The text of a call's arguments. Raises TypeError for a value that has no text."""
    return repr((_encode(list(args)), {k: _encode(v) for k, v in kwargs.items()}))


def _encode(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    if isinstance(value, Operand):
        return f"%{value.index}"
    if isinstance(value, Tagged):
        return f"{value.tag}:{value.name}"
    if isinstance(value, Expr):
        return f"size:{value}"
    if isinstance(value, str):
        return f"str:{value}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float:{value}"
    if value is None or type(value) in (bool, int, float):
        return value
    raise TypeError(f"an argument of type {type(value).__name__} has no text")


def decode(
    text: str,
    operand: Callable[[int], Any],
    size: Callable[[IntExpr], Any],
    tagged: Callable[[str, str], Any],
) -> tuple[list[Any], dict[str, Any]]:
    """`(args, kwargs)` with every leaf replaced through the callbacks. Raises ValueError for text that is not ours."""

    def leaf(value: Any) -> Any:
        if isinstance(value, list):
            return [leaf(v) for v in value]
        if not isinstance(value, str):
            return value
        if value.startswith("%"):
            return operand(int(value[1:]))
        tag, _, rest = value.partition(":")
        if tag == "size":
            return size(parse(rest))
        if tag == "float":
            return float(rest)
        if tag == "str":
            return rest
        if tag in ("dtype", "device", "layout", "memory_format"):
            return tagged(tag, rest)
        raise ValueError(f"unknown tag in call argument {value!r}")

    try:
        args, kwargs = ast.literal_eval(text)
    except (SyntaxError, TypeError, ValueError):
        raise ValueError(f"not a call's arguments: {text!r}") from None
    return [leaf(a) for a in args], {k: leaf(v) for k, v in kwargs.items()}
