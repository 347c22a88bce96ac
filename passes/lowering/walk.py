"""Walking a region from its results to its inputs, with positions: what fusion checks and lowering emits.

A region is a set of tw ops that will run as one kernel. Its *domain* is the shape it iterates over: rows, and columns
where it reduces or scans. `Walk` visits the value at a position, op by op, turning views into index arithmetic; a
subclass says what a load, a scalar function or a reduction gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.expr import (
    IntExpr,
    Ranges,
    floordiv,
    free_symbols,
    hint,
    maximum,
    minimum,
    mod,
    product,
    symbol,
)
from tilewright.ir.scalars import INTEGER_DIVISIONS
from tilewright.ir.types import TensorType

from .indexing import Index, broadcast_index, reshape_index

Mask = tuple[IntExpr, ...]


class CannotFuse(Exception):
    """The ops do not fit one kernel; the message is the reason, for the report."""


@dataclass(frozen=True)
class Axis:
    """A loop of the domain."""

    name: str
    extent: IntExpr


@dataclass(frozen=True)
class Domain:
    """What a kernel iterates over.

    `shape` is the full shape and `index` the position in it, in the order of its dims; `columns` are the dims that are
    reduced or scanned. Where `columns` is empty every dim is a row.
    """

    shape: tuple[IntExpr, ...]
    columns: tuple[int, ...]
    rows: tuple[Axis, ...]
    cols: tuple[Axis, ...]
    index: Index

    @staticmethod
    def of(
        shape: Sequence[IntExpr], columns: Sequence[int] = (), strides: Sequence[IntExpr] | None = None
    ) -> Domain:
        """One axis for each dim larger than 1: ``i0, i1, ...`` for rows and ``k0, k1, ...`` for columns.

        Loops go over dims in their order, or by falling `strides`.
        """
        rows: list[Axis] = []
        cols: list[Axis] = []
        index: list[IntExpr] = [0] * len(shape)
        dims = range(len(shape))
        for dim in dims if strides is None else sorted(dims, key=lambda d: -hint(strides[d])):
            if shape[dim] == 1:
                continue
            group, prefix = (cols, "k") if dim in columns else (rows, "i")
            group.append(Axis(f"{prefix}{len(group)}", shape[dim]))
            index[dim] = symbol(group[-1].name)
        return Domain(tuple(shape), tuple(columns), tuple(rows), tuple(cols), tuple(index))

    @property
    def ranges(self) -> Ranges:
        return Ranges({axis.name: axis.extent for axis in (*self.rows, *self.cols)})

    @property
    def row_shape(self) -> tuple[IntExpr, ...]:
        return tuple(1 if d in self.columns else size for d, size in enumerate(self.shape))

    @property
    def row_index(self) -> Index:
        return tuple(0 if d in self.columns else i for d, i in enumerate(self.index))

    def index_in(self, shape: Sequence[IntExpr], ranges: Ranges) -> Index:
        """The position of the current point in a tensor of `shape` with as many elements as the domain or its rows.

        Raises CannotFuse where it has neither.
        """
        if self.is_full(shape):
            return reshape_index(self.index, self.shape, shape, ranges)
        if product(shape) == product(self.row_shape):
            return reshape_index(self.row_index, self.row_shape, shape, ranges)
        raise CannotFuse("different numbers of elements")

    def is_full(self, shape: Sequence[IntExpr]) -> bool:
        """Whether a tensor of that shape has an element for each point (not just for each row)."""
        if tuple(shape) == self.row_shape != self.shape:
            return False  # without elements the counts do not tell
        return product(shape) == product(self.shape)


def column_dims(op: Operation) -> tuple[int, ...]:
    """The dims that a reduction or scan runs over."""
    if isinstance(op, tw.ReduceOp):
        return op.dims.ints()
    assert isinstance(op, tw.ScanOp)
    return op.dim.ints()


def domain_for(
    ops: Iterable[Operation], outputs: Sequence[SSAValue], strides: Sequence[IntExpr] | None = None
) -> Domain:
    """The domain of a region: that of its first reduction or scan, else of its first result.

    `strides` is the layout of the first result, which decides the order of its loops.
    """
    for op in ops:
        if isinstance(op, (tw.ReduceOp, tw.ScanOp)):
            return Domain.of(tw.tensor_type(op.source).shape, column_dims(op))
    return Domain.of(tw.tensor_type(outputs[0]).shape, (), strides)


class Walk:
    """Visits values of a region at positions. Results are memoised by value, position and mask."""

    def __init__(self, ops: Iterable[Operation], domain: Domain):
        self.ops = set(ops)
        self.domain = domain
        self.ranges = domain.ranges
        self.memo: dict[tuple[SSAValue, Index, Mask], Any] = {}
        self._canonical: dict[Operation, Index] = {}

    # What a subclass gives.
    def load(self, value: SSAValue, index: Index, mask: Mask) -> Any:
        raise NotImplementedError

    def constant(self, value: bool | int | float, type: TensorType) -> Any:
        raise NotImplementedError

    def integer(self, expr: IntExpr, type: TensorType) -> Any:
        raise NotImplementedError

    def map(self, op: tw.MapOp, args: list[Any], index: Index) -> Any:
        raise NotImplementedError

    def reduction(self, op: tw.ReduceOp) -> Any:
        raise NotImplementedError

    def scan(self, op: tw.ScanOp, mask: Mask) -> Any:
        raise NotImplementedError

    def select(self, condition: Mask, inside: Any, outside: Any, type: TensorType) -> Any:
        raise NotImplementedError

    def position(self, value: Any, extent: IntExpr, wrap: bool, mask: Mask) -> IntExpr:
        raise NotImplementedError

    # The walk.
    def visit(self, value: SSAValue, index: Index, mask: Mask = ()) -> Any:
        """The value at a position that is read only where all expressions of `mask` are ≥ 0."""
        key = (value, index, mask)
        if key not in self.memo:
            owner = value.owner
            result = tw.tensor_type(value)
            if any(d == 0 for d in result.shape):
                # Nothing is read, divided or looked up: the kernel may do what does not vary before an empty loop.
                self.memo[key] = self.constant(zero_of(result.dtype), result)
            elif isinstance(owner, Operation) and owner in self.ops:
                self.memo[key] = _HANDLERS[type(owner)](self, owner, index, mask)
            else:
                self.memo[key] = self.load(value, index, mask)
        return self.memo[key]

    def canonical_index(self, op: Operation) -> Index:
        """The position of the current point in the source of a reduction or scan of this region.

        Raises CannotFuse unless its rows and columns are the domain's.
        """
        if op not in self._canonical:
            shape = tw.tensor_type(op.operands[0]).shape
            if not self.domain.is_full(shape):
                raise CannotFuse("reductions over different numbers of elements")
            index = self.domain.index_in(shape, self.ranges)
            dims = column_dims(op)
            rows = {axis.name for axis in self.domain.rows}
            cols = {axis.name for axis in self.domain.cols}
            for dim, position in enumerate(index):
                if free_symbols(position) & (rows if dim in dims else cols):
                    raise CannotFuse("reductions over different rows")
            if product([shape[d] for d in dims]) != product([a.extent for a in self.domain.cols]):
                raise CannotFuse("reductions over rows of different lengths")
            self._canonical[op] = index
        return self._canonical[op]

    def guard(self, *conditions: IntExpr) -> Mask:
        """The conditions that are not proven to be ≥ 0."""
        simplified = [self.ranges.simplify(c) for c in conditions]
        return tuple(c for c in simplified if not self.ranges.is_nonnegative(c))

    def integer_expr(self, value: SSAValue, index: Index) -> IntExpr | None:
        """The value as an integer expression where it is computed from positions and sizes alone."""
        owner = value.owner
        if not isinstance(owner, Operation) or owner not in self.ops:
            return None
        if tw.tensor_type(value).dtype not in ("i64", "i32"):
            return None
        if isinstance(owner, tw.ConstantOp) and isinstance(owner.value.data, int):
            return int(owner.value.data)
        if isinstance(owner, tw.IotaOp):
            return owner.start.data[0] + owner.step.data[0] * index[owner.dim.ints()[0]]
        if isinstance(owner, tw.SizeOp):
            return owner.value.data[0]
        if isinstance(owner, tw.MapOp) and owner.fn.data in _INTEGER_FUNCTIONS:
            parts = [self.integer_expr(a, broadcast_index(index, tw.tensor_type(a).shape)) for a in owner.args]
            if any(p is None for p in parts):
                return None
            if owner.fn.data in INTEGER_DIVISIONS and not (isinstance(parts[1], int) and parts[1] > 0):
                return None
            return _INTEGER_FUNCTIONS[owner.fn.data](*parts)
        if isinstance(owner, _PLAIN_VIEWS):
            return self.integer_expr(owner.source, view_index(owner, index, self.ranges))
        return None


def zero_of(dtype: str) -> bool | int | float:
    """Zero as an element of that type."""
    return False if dtype == "bool" else 0.0 if DTYPES[dtype].is_float else 0


_INTEGER_FUNCTIONS: dict[str, Callable[..., IntExpr]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "neg": lambda a: -a,
    "maximum": maximum, "minimum": minimum, "floor_div": floordiv, "remainder": mod,
}
_PLAIN_VIEWS = (tw.ReshapeOp, tw.PermuteOp, tw.SliceOp, tw.BroadcastOp)


def view_index(op: tw.ViewOp, index: Index, ranges: Ranges) -> Index:
    """The source position of a view without borders."""
    if isinstance(op, tw.ReshapeOp):
        return reshape_index(index, op.out_type.shape, op.in_type.shape, ranges)
    if isinstance(op, tw.PermuteOp):
        source: list[IntExpr] = [0] * len(index)
        for place, dim in enumerate(op.dims.ints()):
            source[dim] = index[place]
        return tuple(source)
    if isinstance(op, tw.SliceOp):
        return tuple(s + i * t for s, i, t in zip(op.starts.data, index, op.steps.data))
    assert isinstance(op, tw.BroadcastOp)
    return broadcast_index(index, op.in_type.shape)


def _constant(walk: Walk, op: tw.ConstantOp, index: Index, mask: Mask) -> Any:
    return walk.constant(op.value.data, tw.tensor_type(op.result))


def _iota(walk: Walk, op: tw.IotaOp, index: Index, mask: Mask) -> Any:
    expr = op.start.data[0] + op.step.data[0] * index[op.dim.ints()[0]]
    return walk.integer(walk.ranges.simplify(expr), tw.tensor_type(op.result))


def _size(walk: Walk, op: tw.SizeOp, index: Index, mask: Mask) -> Any:
    return walk.integer(op.value.data[0], tw.tensor_type(op.result))


def _map(walk: Walk, op: tw.MapOp, index: Index, mask: Mask) -> Any:
    if op.fn.data in INTEGER_DIVISIONS and (expr := walk.integer_expr(op.result, index)) is not None:
        return walk.integer(walk.ranges.simplify(expr), tw.tensor_type(op.result))
    args = [walk.visit(a, broadcast_index(index, tw.tensor_type(a).shape), mask) for a in op.args]
    type = tw.tensor_type(op.result)
    if mask and op.fn.data in INTEGER_DIVISIONS and DTYPES[type.dtype].is_integer:
        # Where the result is not read the divisor may be the zero of a load that did not happen.
        args[1] = walk.select(mask, args[1], walk.constant(1, type), type)
    return walk.map(op, args, index)


def _reduce(walk: Walk, op: tw.ReduceOp, index: Index, mask: Mask) -> Any:
    canonical = walk.canonical_index(op)
    dims = op.dims.ints()
    if any(d not in dims and walk.ranges.simplify(i - canonical[d]) != 0 for d, i in enumerate(index)):
        raise CannotFuse("a reduction's result is read at another row")
    return walk.reduction(op)


def _scan(walk: Walk, op: tw.ScanOp, index: Index, mask: Mask) -> Any:
    canonical = walk.canonical_index(op)
    if any(walk.ranges.simplify(i - c) != 0 for i, c in zip(index, canonical)):
        raise CannotFuse("a scan's result is read at another position")
    return walk.scan(op, mask)


def _view(walk: Walk, op: tw.ViewOp, index: Index, mask: Mask) -> Any:
    return walk.visit(op.source, view_index(op, index, walk.ranges), mask)


def _pad(walk: Walk, op: tw.PadOp, index: Index, mask: Mask) -> Any:
    source = tuple(i - low for i, low in zip(index, op.low.data))
    condition = walk.guard(
        *(bound for s, size in zip(source, op.in_type.shape) for bound in (s, size - 1 - s))
    )
    inside = walk.visit(op.source, source, mask + condition)
    if not condition:
        return inside
    return walk.select(condition, inside, walk.constant(op.value.data, op.out_type), op.out_type)


def _concat(walk: Walk, op: tw.ConcatOp, index: Index, mask: Mask) -> Any:
    dim = op.dim.ints()[0]
    type = tw.tensor_type(op.result)
    start: IntExpr = 0
    pieces: list[tuple[Mask, Any]] = []
    for arg in op.args:
        size = tw.tensor_type(arg).shape[dim]
        position = walk.ranges.simplify(index[dim] - start)
        lower, upper = walk.guard(position), walk.guard(size - 1 - position)
        source = (*index[:dim], position, *index[dim + 1 :])
        if size != 0:
            pieces.append((upper, walk.visit(arg, source, mask + lower + upper)))
        start = start + size
    if not pieces:
        return walk.constant(zero_of(type.dtype), type)
    result = pieces[-1][1]
    for condition, value in reversed(pieces[:-1]):
        result = walk.select(condition, value, result, type) if condition else value
    return result


def _gather(walk: Walk, op: tw.GatherOp, index: Index, mask: Mask) -> Any:
    return walk.visit(op.source, indexed_position(walk, op, index, tw.tensor_type(op.source).shape, mask), mask)


def indexed_position(
    walk: Walk, op: tw.GatherOp | tw.ScatterOp, index: Index, shape: Sequence[IntExpr], mask: Mask = ()
) -> Index:
    """The position, in the tensor of `shape` that `op` indexes, of element `index` of what it reads or writes there."""
    dims = op.dims.ints()
    first, rank = dims[0], tw.tensor_type(op.indices[0]).rank
    at = index[first : first + rank]
    positions: list[IntExpr] = []
    for dim, indices in zip(dims, op.indices):
        expr = walk.integer_expr(indices, at)
        if expr is not None:
            expr = walk.ranges.simplify(expr)
            if walk.ranges.is_nonnegative(expr) and walk.ranges.is_below(expr, shape[dim]):
                positions.append(expr)
                continue
        positions.append(walk.position(walk.visit(indices, at, mask), shape[dim], bool(op.wrap.data), mask))
    return (*index[:first], *positions, *index[first + rank :])


def _scatter(walk: Walk, op: tw.ScatterOp, index: Index, mask: Mask) -> Any:
    raise CannotFuse("the result of a scatter is complete only when its kernel ends")


_HANDLERS: dict[type[Operation], Callable[[Walk, Any, Index, Mask], Any]] = {
    tw.ConstantOp: _constant, tw.IotaOp: _iota, tw.SizeOp: _size, tw.MapOp: _map, tw.ReduceOp: _reduce,
    tw.ScanOp: _scan, tw.ReshapeOp: _view, tw.PermuteOp: _view, tw.SliceOp: _view, tw.BroadcastOp: _view,
    tw.PadOp: _pad, tw.ConcatOp: _concat, tw.GatherOp: _gather, tw.ScatterOp: _scatter,
}
