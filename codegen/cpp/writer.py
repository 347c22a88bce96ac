"""What all parts of the C++ printer share: lines with indentation, names, the texts of values and of positions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from xdsl.ir import Operation, SSAValue

from tilewright.ir.expr import Expr, IntExpr, Ranges
from tilewright.ir.scalars import INTEGER_DIVISIONS
from tilewright.ir.tile import ForOp, IndexOp, KernelOp, MapOp, value_dtype

from ..writer import KernelWriter, by_sign
from .expressions import expression_text
from .functions import VALUE_TYPES, constant_text

INDENT = "  "

# Words that a name from the model must not take: C++'s keywords, the types in scope, the names that the printer uses.
RESERVED = frozenset(re.findall(r"\w+", """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl concept
    const const_cast constexpr continue decltype default delete do double dynamic_cast else enum explicit export extern
    false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public register reinterpret_cast requires return short signed sizeof static static_assert
    static_cast struct switch template this thread_local throw true try typedef typeid typename union unsigned using
    virtual void volatile wchar_t while xor xor_eq int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t
    size_t bfloat16 float16 float8_e4m3fn float8_e5m2 tw main failed lane lanes malloc free abort unix linux NULL
"""))


class Writer(KernelWriter):
    """Lines of one kernel in C++. No name hides another; loops beside each other may share names."""

    indent, comment, reserved = INDENT, "//", RESERVED
    constant_text = constant_text

    def __init__(self, kernel: KernelOp):
        super().__init__(kernel)
        self.in_parallel = False

    @contextmanager
    def braces(self, head: str) -> Iterator[None]:
        """`head {`, what is emitted inside, `}`."""
        with self.indented(f"{head} {{"), self.scope():
            yield
        self.emit("}")

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Names that are made inside are free again afterwards."""
        taken, symbols, extents = set(self.taken), dict(self.symbols), dict(self.extents)
        yield
        self.taken, self.symbols, self.extents = taken, symbols, extents

    def index(self, expr: IntExpr) -> str:
        """An integer expression over the names in scope."""
        return expression_text(expr, Ranges(self.extents), self.symbols)

    def conditions(self, mask: Iterable[IntExpr], extra: Sequence[str] = ()) -> str:
        """`a && b`: that all of `mask` are >= 0, and `extra`."""
        return " && ".join([*(self._condition(m) for m in mask), *extra]) or "true"

    def _condition(self, expr: IntExpr) -> str:
        # `5 - i >= 0` reads better with the negative terms on the right.
        positive, negative = by_sign(expr)
        ranges = Ranges(self.extents)
        # `a - b - 1 >= 0` is `a > b`.
        strict = isinstance(negative, Expr) and constant_term(expr) == -1
        if strict:
            negative = negative - 1
        if ranges.is_nonnegative(positive) and ranges.is_nonnegative(negative):
            return f"{self.index(positive)} {'>' if strict else '>='} {self.index(negative)}"
        return f"{self.index(expr)} >= 0"

    def declare(self, value: SSAValue, expression: str) -> None:
        """`const T name = expression;`, and from here on `name` stands for `value`."""
        name = self.new_name(value)
        self.emit(f"const {VALUE_TYPES[value_dtype(value)]} {name} = {expression};")
        self.texts[value] = name


def constant_term(expr: IntExpr) -> int:
    """The coefficient of the empty monomial."""
    if isinstance(expr, int):
        return expr
    return next((coefficient for monomial, coefficient in expr.terms if not monomial), 0)


def is_leaf(op: ForOp) -> bool:
    """Whether no loop stands inside."""
    return not any(isinstance(inner, ForOp) for inner in op.body.block.ops)


def can_fail(op: Operation) -> bool:
    """Whether `op` or an op inside may set `failed`: computed positions and integer divisions do."""
    return any(
        isinstance(inner, IndexOp) or (isinstance(inner, MapOp) and divides_integers(inner)) for inner in op.walk()
    )


def divides_integers(op: MapOp) -> bool:
    """Whether `op` divides integers, which fails for a divisor of zero."""
    from tilewright.ir.dtypes import DTYPES

    return op.fn.data in INTEGER_DIVISIONS and DTYPES[value_dtype(op.result)].is_integer
