"""Choosing the loops of a kernel: which axes merge into one, which run in parallel, in lanes, or in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xdsl.ir import SSAValue

from tilewright.ir import tw
from tilewright.ir.expr import Expr, IntExpr, floordiv, free_symbols, hint, mod, product, substitute, symbol
from tilewright.ir.target import Target
from tilewright.ir.types import TensorType

from .indexing import Index, dot
from .walk import Axis, CannotFuse, Domain, Mask, Walk

SMALLEST_VECTOR_AXIS = 4
ELEMENT_BYTES = 4
"""What an element is taken to have where all that matters is about how many fit a cache."""


@dataclass(frozen=True)
class Loop:
    """An axis and how it runs (`tile.for`); `knob` names the size of its blocks, for a GPU."""

    axis: Axis
    kind: str
    knob: str | None = None


@dataclass(frozen=True)
class Nest:
    """The loops of a kernel around (rows) and inside (cols) its phases."""

    domain: Domain
    rows: tuple[Loop, ...]
    cols: tuple[Loop, ...]


class AccessWalk(Walk):
    """Collects the integer expressions that a region evaluates, and how often it evaluates each op.

    What it gives for a value are the axes that the value varies over.
    """

    def __init__(self, ops: Any, domain: Domain, strides: dict[SSAValue, tuple[IntExpr, ...]] | None = None):
        super().__init__(ops, domain)
        self.strides = strides
        self.expressions: dict[IntExpr, None] = {}
        self.loads: dict[tuple[SSAValue, Index], None] = {}
        self.evaluations: dict[tw.MapOp, dict[Index, None]] = {}
        self.labels: dict[str, frozenset[str]] = {}  # computed positions, with the axes that they vary over
        self.rows = frozenset(axis.name for axis in domain.rows)
        self.all = self.rows | {axis.name for axis in domain.cols}

    def axes(self, exprs: Iterable[IntExpr]) -> frozenset[str]:
        """The axes that the expressions vary over, through computed positions."""
        names = frozenset(name for expr in exprs for name in free_symbols(expr))
        return (names & self.all).union(*(self.labels[name] for name in names & self.labels.keys()))

    def load(self, value: SSAValue, index: Index, mask: Mask) -> frozenset[str]:
        self.loads[value, index] = None
        if self.strides is not None:
            self.expressions[self.ranges.simplify(dot(index, self.strides[value]))] = None
        self.expressions.update(dict.fromkeys(mask))
        return self.axes((*index, *mask))

    def constant(self, value: bool | int | float, type: TensorType) -> frozenset[str]:
        return frozenset()

    def integer(self, expr: IntExpr, type: TensorType) -> frozenset[str]:
        self.expressions[expr] = None
        return self.axes([expr])

    def map(self, op: tw.MapOp, args: list[frozenset[str]], index: Index) -> frozenset[str]:
        self.evaluations.setdefault(op, {})[index] = None
        return frozenset().union(*args)

    def reduction(self, op: tw.ReduceOp) -> frozenset[str]:
        if op.fn.data in ("argmax", "argmin") and len(self.domain.cols) > 1:
            raise CannotFuse("a position over several axes")
        return self.rows

    def scan(self, op: tw.ScanOp, mask: Mask) -> frozenset[str]:
        if mask:
            raise CannotFuse("a scan whose result is needed only in part")
        self.visit(op.source, self.canonical_index(op))
        return self.all

    def select(
        self, condition: Mask, inside: frozenset[str], outside: frozenset[str], type: TensorType
    ) -> frozenset[str]:
        self.expressions.update(dict.fromkeys(condition))
        return inside | outside | self.axes(condition)

    def position(self, value: frozenset[str], extent: IntExpr, wrap: bool, mask: Mask) -> IntExpr:
        label = f"j{len(self.labels)}"
        self.labels[label] = value | self.axes(mask)
        self.ranges.extents[label] = extent
        return symbol(label)

    def run(self, outputs: Sequence[SSAValue]) -> None:
        """Visit every reduction's source and every output. Raises CannotFuse with the reason."""
        for op in self.ops:
            if isinstance(op, tw.ReduceOp):
                self.visit(op.source, self.canonical_index(op))
                self.reduction(op)
            elif isinstance(op, tw.ScanOp):
                self.scan(op, ())
        for value in outputs:
            self.visit(value, self.domain.index_in(tw.tensor_type(value).shape, self.ranges))


def coefficient(expr: IntExpr, name: str) -> IntExpr | None:
    """c with ``expr == c * name + rest`` and `name` not in `rest`; None where it is not linear."""
    if isinstance(expr, int):
        return 0
    total: IntExpr = 0
    for monomial, coefficient in expr.terms:
        count = sum(1 for atom in monomial if atom == name)
        hidden = any(
            name in free_symbols(atom[1]) | free_symbols(atom[2]) for atom in monomial if isinstance(atom, tuple)
        )
        if count > 1 or hidden:
            return None
        if count:
            total = total + Expr(((tuple(a for a in monomial if a != name), coefficient),)) * 1
    return total


def _merges(outer: Axis, inner: Axis, expressions: Sequence[IntExpr]) -> bool:
    for expr in expressions:
        a, b = coefficient(expr, outer.name), coefficient(expr, inner.name)
        if a is None or b is None or a != b * inner.extent:
            return False
    return True


def merge_axes(domain: Domain, expressions: Sequence[IntExpr]) -> Domain:
    """Make one loop of neighbouring axes wherever all memory is walked alike."""
    expressions = list(expressions)

    def merge(axes: tuple[Axis, ...], prefix: str) -> tuple[tuple[Axis, ...], dict[str, IntExpr]]:
        groups: list[list[Axis]] = []
        for axis in axes:
            if groups:
                extent = product(a.extent for a in groups[-1])
                last = groups[-1][-1]
                # Merged so far they walk as `last` does, times its own extent.
                if _merges(replace(last, extent=extent), axis, expressions):
                    groups[-1].append(axis)
                    continue
            groups.append([axis])
        merged: list[Axis] = []
        values: dict[str, IntExpr] = {}
        for group in groups:
            axis = Axis(f"{prefix}{len(merged)}", product(a.extent for a in group))
            merged.append(axis)
            position: IntExpr = symbol(axis.name)
            for place, part in enumerate(reversed(group)):
                values[part.name] = mod(position, part.extent) if place < len(group) - 1 else position
                position = floordiv(position, part.extent)
        return tuple(merged), values

    rows, row_values = merge(domain.rows, "i")
    cols, col_values = merge(domain.cols, "k")
    index = tuple(substitute(i, {**row_values, **col_values}) for i in domain.index)
    return replace(domain, rows=rows, cols=cols, index=index)


def _split_last_row(domain: Domain, target: Target) -> Domain | None:
    """Give a lone row axis blocks of lanes, so that the rest of it can run on threads. None where the columns of a
    block would not stay in the second-level cache from phase to phase, or the axis has no such blocks."""
    axis, depth = domain.rows[0], hint(product(a.extent for a in domain.cols))
    extent = axis.extent if isinstance(axis.extent, int) else 0
    widest = target.l2_bytes // 2 // (ELEMENT_BYTES * max(depth, 1))
    block = next((b for b in (1024, 512, 256) if b <= widest and extent > b and extent % b == 0), None)
    if block is None:
        return None
    outer, inner = Axis("i0", floordiv(axis.extent, block)), Axis("i1", block)
    value = symbol("i0") * block + symbol("i1")
    index = tuple(substitute(i, {axis.name: value}) for i in domain.index)
    return replace(domain, rows=(outer, inner), index=index)


def _contiguous_row(domain: Domain, expressions: Sequence[IntExpr]) -> Axis | None:
    """The row axis whose elements lie side by side in memory, where those of no column axis do: channels that come
    last, with pixels being reduced."""
    def walks(axis: Axis) -> bool:
        return any(coefficient(e, axis.name) == 1 for e in expressions)

    if any(coefficient(e, axis.name) is None or walks(axis) for axis in domain.cols for e in expressions):
        return None
    return next((axis for axis in reversed(domain.rows) if walks(axis)), None)


def choose_nest(domain: Domain, expressions: Sequence[IntExpr], has_scan: bool, target: Target) -> Nest:
    """The loops for a CPU: threads over outer axes, lanes over the axis along which memory is contiguous."""
    last = max((d for d, size in enumerate(domain.shape) if size != 1), default=None)
    by_columns = last in domain.columns
    if by_columns and not has_scan and (beside := _contiguous_row(domain, expressions)) is not None:
        domain = replace(domain, rows=(*(a for a in domain.rows if a is not beside), beside))
        by_columns = False
    domain = merge_axes(domain, expressions)
    if not domain.cols:
        kinds = ["parallel"] * (len(domain.rows) - 1) + ["vector" if len(domain.rows) > 1 else "parallel"]
        return Nest(domain, tuple(Loop(a, k) for a, k in zip(domain.rows, kinds)), ())
    inner = domain.rows[-1].extent if domain.rows else 1
    if has_scan or by_columns or not domain.rows or (isinstance(inner, int) and inner < SMALLEST_VECTOR_AXIS):
        rows = tuple(Loop(a, "parallel") for a in domain.rows)
        innermost = "serial" if has_scan else "vector"
        cols = tuple(Loop(a, innermost if a is domain.cols[-1] else "serial") for a in domain.cols)
        return Nest(domain, rows, cols)
    split = _split_last_row(domain, target) if len(domain.rows) == 1 else domain
    threads_share_columns = split is None
    domain = domain if split is None else split
    rows = tuple(Loop(a, "vector" if a is domain.rows[-1] else "parallel") for a in domain.rows)
    kinds = ["parallel" if threads_share_columns and a is domain.cols[0] else "serial" for a in domain.cols]
    return Nest(domain, rows, tuple(Loop(a, k) for a, k in zip(domain.cols, kinds)))

