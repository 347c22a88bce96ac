"""The text of a scalar function on operands of stored types, from a printer's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tilewright.ir.dtypes import compute_dtype
from tilewright.ir.scalars import kind_of

# Functions that need no arithmetic: they take the stored type of a half as it is.
_MOVES = frozenset({"where", "cast"})


class CastText(Protocol):
    def __call__(self, text: str, source: str, destination: str) -> str: ...


def function_text(
    name: str, dtypes: Sequence[str], result: str, operands: Sequence[str], *,
    functions: Mapping[str, Mapping[str, str]], cast_text: CastText, words: Mapping[str, str],
) -> str:
    """The expression of `name` on operands of the given types. Halves compute in f32 and round once.

    `functions` has a row for each name, by the kind or the compute type of the operands: a template of `{a}`, `{b}`,
    `{c}` and of `words`.
    """
    if name == "cast":
        return cast_text(operands[0], dtypes[0], result)
    dtype = dtypes[-1]
    compute = compute_dtype(dtype)
    if name not in _MOVES:
        operands = [cast_text(text, d, compute_dtype(d)) for text, d in zip(operands, dtypes)]
    row = functions[name]
    text = (row.get(compute) or row[kind_of(dtype)]).format(**words, **dict(zip("abc", operands)))
    return text if result == "bool" or name in _MOVES else cast_text(text, compute, result)
