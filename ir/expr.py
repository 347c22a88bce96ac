"""Integer expressions over named sizes and loop indices: symbolic dims, strides, index arithmetic.

An expression is a plain ``int`` where it is constant, otherwise an `Expr`: a canonical sum of monomials, so that equal
polynomials compare and hash equal and print the same text. ``//`` and ``%`` round towards minus infinity, as in Python.
The text form is what sympy prints for the same polynomial up to the order of terms, and `parse` reads it back.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Union

IntExpr = Union[int, "Expr"]
# A monomial is a sorted tuple of atoms; an atom is a name or an (operator, left, right) triple.
Atom = str | tuple[str, IntExpr, IntExpr]
Monomial = tuple[Atom, ...]


def _atom_key(atom: Atom) -> tuple[int, str]:
    return (0, atom) if isinstance(atom, str) else (1, _atom_text(atom))


def _atom_text(atom: Atom) -> str:
    if isinstance(atom, str):
        return atom
    operator, left, right = atom
    if operator in ("max", "min"):
        return f"{operator}({left}, {right})"
    return f"({_operand_text(left)}{operator}{_operand_text(right)})"


def _operand_text(expr: IntExpr) -> str:
    return str(expr) if (isinstance(expr, int) and expr >= 0) or _is_symbol(expr) else f"({expr})"


def _is_symbol(expr: IntExpr) -> bool:
    return isinstance(expr, Expr) and len(expr.terms) == 1 and expr.terms[0][1] == 1 and len(
        expr.terms[0][0]) == 1 and isinstance(expr.terms[0][0][0], str)


class Expr:
    """A non-constant integer expression. Build with `symbol`, ``+ - * // %``, `maximum` and `minimum`."""

    __slots__ = ("_hash", "_text", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]):
        self.terms = terms
        self._hash = hash(terms)
        self._text: str | None = None

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Expr) and self.terms == other.terms)

    def __add__(self, other: IntExpr) -> IntExpr:
        return _from_terms(_terms(self) + _terms(other))

    __radd__ = __add__

    def __neg__(self) -> IntExpr:
        return self * -1

    def __sub__(self, other: IntExpr) -> IntExpr:
        return self + other * -1

    def __rsub__(self, other: IntExpr) -> IntExpr:
        return self * -1 + other

    def __mul__(self, other: IntExpr) -> IntExpr:
        return _from_terms(
            (tuple(sorted(a + b, key=_atom_key)), x * y) for a, x in self.terms for b, y in _terms(other)
        )

    __rmul__ = __mul__

    def __floordiv__(self, other: IntExpr) -> IntExpr:
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> IntExpr:
        return floordiv(other, self)

    def __mod__(self, other: IntExpr) -> IntExpr:
        return mod(self, other)

    def __rmod__(self, other: int) -> IntExpr:
        return mod(other, self)

    def __str__(self) -> str:
        if self._text is None:
            text = ""
            for monomial, coefficient in self.terms:
                body = "*".join(_atom_text(atom) for atom in monomial)
                size = abs(coefficient)
                piece = str(size) if not body else body if size == 1 else f"{size}*{body}"
                if not text:
                    text = piece if coefficient > 0 else f"-{piece}"
                else:
                    text += f" + {piece}" if coefficient > 0 else f" - {piece}"
            self._text = text
        return self._text

    def __repr__(self) -> str:
        return f"Expr({self})"

    def __bool__(self) -> bool:
        raise TypeError(f"the value of {self} is not known while compiling")


def _terms(expr: IntExpr) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(expr, Expr):
        return expr.terms
    return (((), expr),) if expr else ()


def _from_terms(terms: Iterable[tuple[Monomial, int]]) -> IntExpr:
    collected: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        collected[monomial] = collected.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in collected.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    kept.sort(key=lambda item: (not item[0], [_atom_key(a) for a in item[0]]))
    return Expr(tuple(kept))


def _atom(atom: Atom) -> Expr:
    return Expr((((atom,), 1),))


@lru_cache(maxsize=4096)
def symbol(name: str) -> Expr:
    """The expression that is just the name: an ASCII identifier, and no word of Python's."""
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is not a name")
    return _atom(name)


def floordiv(left: IntExpr, right: IntExpr) -> IntExpr:
    """``left // right``; multiples of `right` inside `left` leave the division."""
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    if right == 1:
        return left
    if left == right:
        return 1
    whole, rest = _split_multiples(left, right)
    if rest == 0:
        return whole
    if isinstance(right, int) and isinstance(rest, Expr) and len(rest.terms) == 1:
        monomial, coefficient = rest.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], tuple):
            operator, inner, divisor = monomial[0]
            if operator == "//" and isinstance(divisor, int) and divisor > 0 and right > 0:
                return whole + floordiv(inner, divisor * right)  # type: ignore[operator]
    if isinstance(rest, int) and isinstance(right, int):
        return whole + rest // right
    return whole + _atom(("//", rest, right))


def mod(left: IntExpr, right: IntExpr) -> IntExpr:
    """``left % right``; multiples of `right` are dropped."""
    if isinstance(left, int) and isinstance(right, int):
        return left % right
    if right == 1 or left == right:
        return 0
    _, rest = _split_multiples(left, right)
    if isinstance(rest, int) and isinstance(right, int):
        return rest % right
    if rest == 0:
        return 0
    return _atom(("%", rest, right))


def _divide_monomial(monomial: Monomial, coefficient: int, right: IntExpr) -> tuple[Monomial, int] | None:
    """The monomial divided by `right` when it is an exact multiple, else None."""
    divisor = _terms(right)
    if len(divisor) != 1:
        return None
    atoms, factor = divisor[0]
    if coefficient % factor:
        return None
    rest = list(monomial)
    for atom in atoms:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest), coefficient // factor


def _split_multiples(left: IntExpr, right: IntExpr) -> tuple[IntExpr, IntExpr]:
    """`(whole, rest)` with ``left == whole * right + rest`` and no exact multiple of `right` in `rest`."""
    whole: list[tuple[Monomial, int]] = []
    rest: list[tuple[Monomial, int]] = []
    for monomial, coefficient in _terms(left):
        divided = _divide_monomial(monomial, coefficient, right)
        if divided is not None:
            whole.append(divided)
        elif isinstance(right, int) and not monomial:
            whole.append(((), coefficient // right))
            rest.append(((), coefficient % right))
        else:
            rest.append((monomial, coefficient))
    return _from_terms(whole), _from_terms(rest)


def maximum(left: IntExpr, right: IntExpr) -> IntExpr:
    return _extremum("max", left, right)


def minimum(left: IntExpr, right: IntExpr) -> IntExpr:
    return _extremum("min", left, right)


def _extremum(name: str, left: IntExpr, right: IntExpr) -> IntExpr:
    """The larger (`max`) or smaller (`min`) of the two, where their difference is known."""
    difference = left - right
    if isinstance(difference, int):
        return left if (difference >= 0) == (name == "max") else right
    first, second = sorted((left, right), key=str)
    return _atom((name, first, second))


_OPERATORS: dict[str, Callable[[IntExpr, IntExpr], IntExpr]] = {
    "//": floordiv, "%": mod, "max": maximum, "min": minimum,
}
_AST_OPERATORS: dict[type, Callable[[IntExpr, IntExpr], IntExpr]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: floordiv, ast.Mod: mod,
}


_LARGEST_EXPONENT = 16


@lru_cache(maxsize=4096)
def parse(text: str) -> IntExpr:
    """Read the text form back. Raises ValueError on anything that is not an integer expression."""

    def build(node: ast.AST) -> IntExpr:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name):
            return symbol(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -build(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _AST_OPERATORS:
            return _AST_OPERATORS[type(node.op)](build(node.left), build(node.right))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):
            exponent = node.right.value
            if type(exponent) is int and 0 <= exponent <= _LARGEST_EXPONENT:
                return product([build(node.left)] * exponent)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
            name = node.func.id
            if name in ("max", "min") and not node.keywords:
                return _OPERATORS[name](build(node.args[0]), build(node.args[1]))
        raise ValueError(f"{text!r} is not an integer expression")

    try:
        return build(ast.parse(text, mode="eval").body)
    except (SyntaxError, ZeroDivisionError):
        raise ValueError(f"{text!r} is not an integer expression") from None


def free_symbols(expr: IntExpr) -> frozenset[str]:
    """The names in `expr`."""
    if isinstance(expr, int):
        return frozenset()
    names: set[str] = set()
    for monomial, _ in expr.terms:
        for atom in monomial:
            if isinstance(atom, str):
                names.add(atom)
            else:
                names |= free_symbols(atom[1]) | free_symbols(atom[2])
    return frozenset(names)


def linear_in_one(expr: IntExpr) -> tuple[str, int, int] | None:
    """`(name, factor, offset)` where `expr` is ``factor * name + offset`` with a positive factor, else None."""
    names = free_symbols(expr)
    if len(names) != 1:
        return None
    (name,) = names
    offset = substitute(expr, {name: 0})
    factor = substitute(expr, {name: 1}) - offset
    if not isinstance(offset, int) or not isinstance(factor, int) or factor <= 0:
        return None
    return (name, factor, offset) if expr == factor * symbol(name) + offset else None


def substitute(expr: IntExpr, values: Mapping[str, IntExpr]) -> IntExpr:
    """`expr` with names replaced."""
    if isinstance(expr, int):
        return expr
    total: IntExpr = 0
    for monomial, coefficient in expr.terms:
        product: IntExpr = coefficient
        for atom in monomial:
            if isinstance(atom, str):
                factor = values[atom] if atom in values else symbol(atom)
            else:
                factor = _OPERATORS[atom[0]](substitute(atom[1], values), substitute(atom[2], values))
            product = product * factor
        total = total + product
    return total


def evaluate(expr: IntExpr, values: Mapping[str, int]) -> int:
    """The number. Raises KeyError when a name has no value."""
    if isinstance(expr, int):
        return expr
    try:
        return _evaluate(expr, values)
    except KeyError:
        missing = free_symbols(expr) - values.keys()
        raise KeyError(f"no value for {', '.join(sorted(missing))} in {expr}") from None


def _evaluate(expr: IntExpr, values: Mapping[str, int]) -> int:
    if isinstance(expr, int):
        return expr
    total = 0
    for monomial, term in expr.terms:
        for atom in monomial:
            if isinstance(atom, str):
                term *= values[atom]
            else:
                factor = _OPERATORS[atom[0]](_evaluate(atom[1], values), _evaluate(atom[2], values))
                assert isinstance(factor, int)
                term *= factor
        total += term
    return total


def product(factors: Iterable[IntExpr]) -> IntExpr:
    """The product, 1 when empty."""
    result: IntExpr = 1
    for factor in factors:
        result = result * factor
    return result


class _Hints(dict[str, int]):
    """Sizes, and a default for all others."""

    default: int

    def __missing__(self, name: str) -> int:
        return self.default


def hint(expr: IntExpr, sizes: Mapping[str, int] | None = None, default: int = 64) -> int:
    """A plausible number for cost estimates: names without a size count as `default`."""
    if isinstance(expr, int):
        return expr
    values = _Hints(sizes or {})
    values.default = default
    return _evaluate(expr, values)


def _recombine(expr: IntExpr) -> IntExpr:
    """``n*c*(e//n) + c*(e%n)`` is ``c*e``."""
    if isinstance(expr, int):
        return expr
    terms = dict(expr.terms)
    for monomial, coefficient in expr.terms:
        for position, atom in enumerate(monomial):
            if not isinstance(atom, tuple) or atom[0] != "%" or monomial not in terms:
                continue
            others = monomial[:position] + monomial[position + 1 :]
            quotient = floordiv(atom[1], atom[2])
            partner = _from_terms([(others, coefficient)]) * atom[2] * quotient
            partner_terms = _terms(partner)
            if len(partner_terms) == 1 and terms.get(partner_terms[0][0]) == partner_terms[0][1]:
                del terms[monomial], terms[partner_terms[0][0]]
                rest = _from_terms(terms.items())
                return _recombine(rest + _from_terms([(others, coefficient)]) * atom[1])
    return expr


class Ranges:
    """What is known about names: loop indices run over ``[0, extent)``, all other names are sizes ≥ 0.

    Used to prove bounds; an unproven fact is simply left in the expression.
    """

    def __init__(self, extents: Mapping[str, IntExpr] | None = None):
        self.extents = dict(extents or {})

    def upper(self, expr: IntExpr) -> IntExpr | None:
        """An inclusive upper bound without loop indices, or None."""
        return self._bound(expr, upper=True)

    def lower(self, expr: IntExpr) -> IntExpr | None:
        """An inclusive lower bound without loop indices, or None."""
        return self._bound(expr, upper=False)

    def _bound(self, expr: IntExpr, upper: bool) -> IntExpr | None:
        total: IntExpr = 0
        for monomial, coefficient in _terms(expr):
            want_upper = upper == (coefficient > 0)
            product_bound: IntExpr = coefficient
            for atom in monomial:
                if len(monomial) > 1 and not self.is_nonnegative(_atom(atom)):
                    return None  # bounds multiply only where no factor is negative
                bound = self._atom_bound(atom, want_upper)
                if bound is None:
                    return None
                product_bound = product_bound * bound
            total = total + product_bound
        return total

    def _atom_bound(self, atom: Atom, upper: bool) -> IntExpr | None:
        if isinstance(atom, str):
            if atom not in self.extents:
                return symbol(atom)
            return self.extents[atom] - 1 if upper else 0
        operator, left, right = atom
        if operator == "%" and self.is_nonnegative(right) and not free_symbols(right) & self.extents.keys():
            return right - 1 if upper else 0
        if operator == "//" and self.is_nonnegative(right) and not free_symbols(right) & self.extents.keys():
            bound = self.upper(left) if upper else self.lower(left)
            return None if bound is None else floordiv(bound, right)
        if operator in ("max", "min"):
            known = [b for side in (left, right) if (b := self._bound(side, upper)) is not None]
            # A maximum is at least each of its sides, a minimum at most.
            if len(known) == 2 or (known and upper == (operator == "min")):
                return _extremum(operator, known[0], known[-1])
        return None

    def is_nonnegative(self, expr: IntExpr) -> bool:
        """Whether ``expr >= 0`` is proven."""
        bound = self.lower(expr)
        return bound is not None and all(
            coefficient >= 0 and all(isinstance(a, str) or self._atom_nonnegative(a) for a in monomial)
            for monomial, coefficient in _terms(bound)
        )

    def _atom_nonnegative(self, atom: Atom) -> bool:
        if isinstance(atom, str):
            return True
        operator, left, right = atom
        if operator == "%":
            return self.is_nonnegative(right)
        if operator in ("max", "min"):
            results = (self.is_nonnegative(left), self.is_nonnegative(right))
            return any(results) if operator == "max" else all(results)
        return self.is_nonnegative(left) and self.is_nonnegative(right)

    def is_below(self, expr: IntExpr, limit: IntExpr) -> bool:
        """Whether ``expr < limit`` is proven."""
        bound = self.upper(expr)
        return bound is not None and Ranges().is_nonnegative(limit - 1 - bound)

    def simplify(self, expr: IntExpr) -> IntExpr:
        """`expr` with every ``//`` and ``%`` that the ranges decide taken out."""
        if isinstance(expr, int):
            return expr
        total: IntExpr = 0
        for monomial, coefficient in expr.terms:
            result: IntExpr = coefficient
            for atom in monomial:
                result = result * (symbol(atom) if isinstance(atom, str) else self._simplify_atom(atom))
            total = total + result
        return _recombine(total)

    def _simplify_atom(self, atom: tuple[str, IntExpr, IntExpr]) -> IntExpr:
        operator, left, right = atom[0], self.simplify(atom[1]), self.simplify(atom[2])
        if operator in ("//", "%"):
            whole, rest = _split_multiples(left, right)
            if self.is_nonnegative(rest) and self.is_below(rest, right):
                return whole if operator == "//" else rest
            if isinstance(right, int) and isinstance(rest, Expr):
                # (6*a + b) // 12 with 0 <= b < 6 is a // 2: the low part cannot carry.
                reduced = self._drop_low_part(rest, right)
                if reduced is not None:
                    high, low, divisor = reduced
                    quotient = floordiv(high, right // divisor)
                    if operator == "//":
                        return whole + self.simplify(quotient)
                    return self.simplify(mod(high, right // divisor)) * divisor + low
        return _OPERATORS[operator](left, right)

    def _drop_low_part(self, expr: Expr, right: int) -> tuple[IntExpr, IntExpr, int] | None:
        coefficients = sorted({abs(c) for m, c in expr.terms if m}, reverse=True)
        for divisor in coefficients:
            if divisor <= 1 or right % divisor or divisor >= right:
                continue
            high, low = _split_multiples(expr, divisor)
            if high != 0 and self.is_nonnegative(low) and self.is_below(low, divisor):
                return high, low, divisor
        return None
