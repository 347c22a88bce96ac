"""Integer expressions of `ir/expr.py` as C++, whose ``/`` and ``%`` round towards zero and not down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tilewright.ir.expr import Atom, Expr, IntExpr, Ranges

# Precedence of what a text is made of: a product's factor, a product, a sum.
_FACTOR, _PRODUCT, _SUM = 2, 1, 0


def expression_text(expr: IntExpr, ranges: Ranges, names: dict[str, str] | None = None) -> str:
    """The C++ text of `expr`. `ranges` tells where plain division is floor division; `names` renames symbols."""
    return ExpressionWriter(ranges, names or {}).text(expr, _SUM)


class ExpressionWriter:
    """Writes expressions in C++; the tables say what another language spells otherwise."""

    operators: ClassVar[Mapping[str, str]] = {"//": "/", "%": "%"}  # of operands that are not negative
    functions: ClassVar[Mapping[str, str]] = {
        "//": "tw::index_div", "%": "tw::index_mod", "max": "tw::index_max", "min": "tw::index_min",
    }

    def __init__(self, ranges: Ranges, names: dict[str, str]):
        self.ranges = ranges
        self.names = names

    def text(self, expr: IntExpr, level: int) -> str:
        if isinstance(expr, int):
            return self.integer(expr) if expr >= 0 or level == _SUM else f"({self.integer(expr)})"
        text = ""
        for monomial, coefficient in expr.terms:
            body = self._product(monomial, abs(coefficient))
            if not text:
                text = body if coefficient > 0 else f"-{body}"
            else:
                text += f" + {body}" if coefficient > 0 else f" - {body}"
        single = len(expr.terms) == 1 and expr.terms[0][1] > 0
        is_factor = single and expr.terms[0][1] == 1 and len(expr.terms[0][0]) == 1
        have = (_FACTOR if is_factor and not _is_division(expr) else _PRODUCT) if single else _SUM
        return text if have >= level else f"({text})"

    def integer(self, value: int) -> str:
        return str(value) if -(1 << 31) < value < 1 << 31 else f"INT64_C({value})"

    def _product(self, monomial: tuple[Atom, ...], coefficient: int) -> str:
        # Divisions keep their parentheses: `2 * (i / 3)` is not `2 * i / 3`.
        alone = len(monomial) == 1 and coefficient == 1
        factors = [self._atom(atom, alone) for atom in monomial]
        if coefficient != 1 or not factors:
            factors.append(self.integer(coefficient))
        return " * ".join(factors)

    def _atom(self, atom: Atom, alone: bool) -> str:
        if isinstance(atom, str):
            return self.names.get(atom, atom)
        operator, left, right = atom
        if operator in ("max", "min"):
            return f"{self.functions[operator]}({self.text(left, _SUM)}, {self.text(right, _SUM)})"
        if self.ranges.is_nonnegative(left) and self.ranges.is_nonnegative(right):
            text = f"{self.text(left, _PRODUCT)} {self.operators[operator]} {self.text(right, _FACTOR)}"
            return text if alone else f"({text})"
        return f"{self.functions[operator]}({self.text(left, _SUM)}, {self.text(right, _SUM)})"


def _is_division(expr: Expr) -> bool:
    atom = expr.terms[0][0][0]
    return isinstance(atom, tuple) and atom[0] in ("//", "%")
