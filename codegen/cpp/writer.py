"""What all parts of the C++ printer share: lines with indentation, names, the texts of values and of positions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from xdsl.ir import BlockArgument, Operation, OpResult, SSAValue

from tilewright.ir.expr import Expr, IntExpr, Ranges
from tilewright.ir.scalars import INTEGER_DIVISIONS
from tilewright.ir.text import file_lines
from tilewright.ir.tile import ConstantOp, ForOp, IndexOp, KernelOp, LoadOp, MapOp, value_dtype
from tilewright.ir.types import RefType

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


class Writer:
    """Lines of one kernel, and the names in them. No name hides another; loops beside each other may share names."""

    def __init__(self, kernel: KernelOp):
        self.kernel = kernel
        self.lines: list[str] = []
        self.depth = 0
        self.in_parallel = False
        self.taken: set[str] = set(RESERVED)
        self.texts: dict[SSAValue, str] = {}
        self.symbols: dict[str, str] = {}
        self.extents: dict[str, IntExpr] = {}
        self.commented: list[str] = []
        for name in kernel.size_names:
            self.symbols[name] = self.unique(name)

    # -- lines

    def emit(self, text: str) -> None:
        self.lines.append(INDENT * self.depth + text)

    @contextmanager
    def braces(self, head: str) -> Iterator[None]:
        """`head {`, what is emitted inside, `}`."""
        self.emit(f"{head} {{")
        self.depth += 1
        with self.scope():
            yield
        self.depth -= 1
        self.emit("}")

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Names that are made inside are free again afterwards."""
        taken, symbols, extents = set(self.taken), dict(self.symbols), dict(self.extents)
        yield
        self.taken, self.symbols, self.extents = taken, symbols, extents

    def comment_lines(self, op: Operation) -> None:
        """The model's lines that `op` came from, where they differ from the last comment."""
        lines = model_lines([op])
        if lines and lines != self.commented:
            self.emit(f"// {', '.join(lines)}")
            self.commented = lines

    # -- names

    def unique(self, wanted: str) -> str:
        """A C++ name like `wanted` that nothing in this kernel has."""
        base = re.sub(r"\W|^(?=\d)", "_", wanted).strip("_") or "v"
        if base[0].isdigit():
            base = f"v{base}"
        name, number = base, 1
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name

    def new_name(self, value: SSAValue) -> str:
        """A name for `value`: its hint, else what makes it."""
        return self.unique(value.name_hint or _default_name(value))

    def new_symbol(self, name: str, extent: IntExpr) -> str:
        """A name for an axis or a position that runs over ``[0, extent)``."""
        self.symbols[name] = self.unique(name)
        self.extents[name] = extent
        return self.symbols[name]

    # -- texts

    def text(self, value: SSAValue) -> str:
        """What stands for `value` in an expression."""
        if isinstance(value, OpResult) and isinstance(value.op, ConstantOp):
            text = constant_text(value.op.value.data, value_dtype(value))
            return f"({text})" if text.startswith("-") else text
        return self.texts[value]

    def index(self, expr: IntExpr) -> str:
        """An integer expression over the names in scope."""
        return expression_text(expr, Ranges(self.extents), self.symbols)

    def conditions(self, mask: Iterable[IntExpr], extra: Sequence[str] = ()) -> str:
        """`a && b`: that all of `mask` are >= 0, and `extra`."""
        return " && ".join([*(self._condition(m) for m in mask), *extra]) or "true"

    def _condition(self, expr: IntExpr) -> str:
        # `5 - i >= 0` reads better with the negative terms on the right.
        positive: IntExpr = 0
        negative: IntExpr = 0
        for term, sign in signed_terms(expr):
            if sign > 0:
                positive = positive + term
            else:
                negative = negative - term
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


def signed_terms(expr: IntExpr) -> Iterator[tuple[IntExpr, int]]:
    """The terms of `expr` with their signs."""
    if isinstance(expr, int):
        yield expr, 1 if expr >= 0 else -1
        return
    for monomial, coefficient in expr.terms:
        term: IntExpr = Expr(((monomial, coefficient),)) if monomial else coefficient
        yield term, 1 if coefficient > 0 else -1


def constant_term(expr: IntExpr) -> int:
    """The coefficient of the empty monomial."""
    if isinstance(expr, int):
        return expr
    return next((coefficient for monomial, coefficient in expr.terms if not monomial), 0)


def _default_name(value: SSAValue) -> str:
    if isinstance(value, BlockArgument):
        return f"p{value.index}"
    assert isinstance(value, OpResult)
    op = value.op
    if isinstance(op, LoadOp):
        return f"{op.ref.name_hint or 'x'}_value"
    if isinstance(op, MapOp):
        return op.fn.data
    if isinstance(op, ForOp):
        return op.combiners[value.index]
    return "scratch" if isinstance(value.type, RefType) else "v"


def model_lines(ops: Iterable[Operation]) -> list[str]:
    """The source lines of `ops` and of all ops inside, in order, each once."""
    found: dict[str, None] = {}
    for op in ops:
        for inner in op.walk():
            found.update(dict.fromkeys(file_lines(inner.location)))
    return list(found)


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
