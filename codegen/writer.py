"""What the printers of kernels share: lines with indentation, names, the texts of values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from xdsl.ir import BlockArgument, Operation, OpResult, SSAValue

from tilewright.ir.expr import Expr, IntExpr
from tilewright.ir.text import file_lines
from tilewright.ir.tile import ConstantOp, ForOp, KernelOp, LoadOp, MapOp, ReduceOp, value_dtype
from tilewright.ir.types import RefType


class KernelWriter:
    """Lines of one kernel, and the names in them."""

    indent: ClassVar[str]
    comment: ClassVar[str]
    """What begins a comment."""
    reserved: ClassVar[frozenset[str]]
    """Words that a name from the model must not take."""
    constant_text: ClassVar[Callable[[int | float | bool, str], str]]

    def __init__(self, kernel: KernelOp, taken: Iterable[str] = ()):
        self.kernel = kernel
        self.lines: list[str] = []
        self.depth = 0
        self.taken: set[str] = {*self.reserved, *taken}
        self.texts: dict[SSAValue, str] = {}
        self.symbols: dict[str, str] = {name: self.unique(name) for name in kernel.size_names}
        self.extents: dict[str, IntExpr] = {}
        self.commented: list[str] = []

    # -- lines

    def emit(self, text: str) -> None:
        self.lines.append(self.indent * self.depth + text)

    @contextmanager
    def indented(self, head: str) -> Iterator[None]:
        """`head`, and deeper what is emitted inside."""
        self.emit(head)
        self.depth += 1
        yield
        self.depth -= 1

    def comment_lines(self, op: Operation) -> None:
        """The model's lines that `op` came from, where they differ from the last comment."""
        lines = model_lines([op])
        if lines and lines != self.commented:
            self.emit(f"{self.comment} {', '.join(lines)}")
            self.commented = lines

    # -- names

    def unique(self, wanted: str) -> str:
        """A name like `wanted`, as C++ and Python take it, that nothing in this kernel has."""
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
            text = type(self).constant_text(value.op.value.data, value_dtype(value))
            return f"({text})" if text.startswith("-") else text
        return self.texts[value]


def _default_name(value: SSAValue) -> str:
    if isinstance(value, BlockArgument):
        return f"p{value.index}"
    assert isinstance(value, OpResult)
    op = value.op
    if isinstance(op, LoadOp):
        return f"{op.ref.name_hint or 'x'}_value"
    if isinstance(op, (MapOp, ReduceOp)):
        return op.fn.data
    if isinstance(op, ForOp):
        return op.combiners[value.index]
    return "scratch" if isinstance(value.type, RefType) else "v"


def signed_terms(expr: IntExpr) -> Iterator[tuple[IntExpr, int]]:
    """The terms of `expr` with their signs."""
    if isinstance(expr, int):
        yield expr, 1 if expr >= 0 else -1
        return
    for monomial, coefficient in expr.terms:
        term: IntExpr = Expr(((monomial, coefficient),)) if monomial else coefficient
        yield term, 1 if coefficient > 0 else -1


def by_sign(expr: IntExpr) -> tuple[IntExpr, IntExpr]:
    """``positive - negative`` is `expr`; none of their terms is negative."""
    positive: IntExpr = 0
    negative: IntExpr = 0
    for term, sign in signed_terms(expr):
        positive, negative = (positive + term, negative) if sign > 0 else (positive, negative - term)
    return positive, negative


def model_lines(ops: Iterable[Operation]) -> list[str]:
    """The source lines of `ops` and of all ops inside, in order, each once."""
    found: dict[str, None] = {}
    for op in ops:
        for inner in op.walk():
            found.update(dict.fromkeys(file_lines(inner.location)))
    return list(found)
