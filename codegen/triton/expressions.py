"""Integer expressions of `ir/expr.py` as Triton, whose ``//`` and ``%`` of tensors round towards zero and not down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tilewright.ir.expr import Expr, IntExpr

from ..cpp.expressions import ExpressionWriter

SAFE = 1 << 30
"""Below this a position is found in int32: the last block of an axis reaches past its end, but not twice as far."""


class TritonExpressions(ExpressionWriter):
    """The Triton text of an expression."""

    operators: ClassVar[Mapping[str, str]] = {"//": "//", "%": "%"}
    functions: ClassVar[Mapping[str, str]] = {
        "//": "tw.floor_div", "%": "tw.floor_mod", "max": "tl.maximum", "min": "tl.minimum",
    }

    def integer(self, value: int) -> str:
        return str(value)


def largest(expr: IntExpr, bounds: Mapping[str, int | None]) -> int | None:
    """A bound of the magnitude of `expr` and of all its parts, from those of names; None where there is none."""
    if isinstance(expr, int):
        return abs(expr)
    assert isinstance(expr, Expr)
    total = 0
    for monomial, coefficient in expr.terms:
        product = abs(coefficient)
        for atom in monomial:
            if isinstance(atom, str):
                bound = bounds.get(atom)
            else:
                parts = largest(atom[1], bounds), largest(atom[2], bounds)
                bound = None if None in parts else max(p for p in parts if p is not None)
            if bound is None:
                return None
            product *= max(1, bound)
        total += product
    return total
