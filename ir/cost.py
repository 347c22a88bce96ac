"""The roofline cost of ops, kernels and modules: arithmetic, bytes to and from memory, launches, peak bytes.

Costs compare plans with each other; they are no promise of a time. Symbolic sizes count with the values in `sizes`
(64 where there is none). What the numbers stand for:

* A view (reshape, permute, slice, broadcast) is an alias, a constant and an iota are made in the kernel that reads
  them: they cost nothing.
* A value is read once by each op or kernel that uses it; of a tensor that is gathered from or sliced, only that part.
* An op that runs in ATen counts as a copy of its operands to its results, unless its arithmetic is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TypeGuard

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, SSAValue
from xdsl.traits import IsTerminator

from . import calls, prog, tile, tw
from .dtypes import itemsize
from .expr import IntExpr, free_symbols, hint, substitute, symbol
from .scalars import SCALARS
from .stages import functions, kernels
from .target import Target
from .types import BufferType, TensorType

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Cost:
    """`flops` (an add is 1), bytes read from and written to memory, and kernels or library calls launched."""

    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    launches: int = 0

    @property
    def bytes_moved(self) -> int:
        return self.bytes_read + self.bytes_written

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
            self.launches + other.launches,
        )


FREE = Cost()


def predicted_seconds(cost: Cost, target: Target) -> float:
    """The roofline: the slower of arithmetic and memory, plus the launches. Small data is taken to come from cache."""
    bandwidth = target.cache_bandwidth if cost.bytes_moved <= target.l2_bytes else target.bandwidth
    return max(cost.flops / target.peak_flops, cost.bytes_moved / bandwidth) + cost.launches * target.launch_seconds


# Sizes of values -----------------------------------------------------------------------------------------------------


def numel(value: SSAValue, sizes: Sizes | None = None) -> int:
    """How many elements a tensor or buffer has; 1 for an index."""
    return prod(_shape(value, sizes))


def nbytes(value: SSAValue, sizes: Sizes | None = None) -> int:
    """How many bytes a tensor's or buffer's elements take; 0 for an index or an arena."""
    return numel(value, sizes) * itemsize(value.type.dtype) if _has_shape(value.type) else 0


def _shape(value: SSAValue, sizes: Sizes | None) -> tuple[int, ...]:
    return tuple(hint(d, sizes) for d in value.type.shape) if _has_shape(value.type) else ()


def _has_shape(type_: Attribute) -> TypeGuard[TensorType | BufferType]:
    return type(type_) in (TensorType, BufferType)  # isinstance of an abstract class is slow, and this is asked often


def _read_bytes(op: Operation, position: int, sizes: Sizes | None) -> int:
    """How many bytes of operand `position` the op reads: all, or what it gathers or slices."""
    whole = nbytes(op.operands[position], sizes)
    if isinstance(op, (tw.GatherOp, tw.SliceOp)) and position == 0:
        return min(whole, nbytes(op.results[0], sizes))
    return whole


def _traffic(op: Operation, sizes: Sizes | None) -> tuple[int, int]:
    """`(bytes read, bytes written)` of an op that runs by itself; an operand used twice is read once."""
    read: dict[SSAValue, int] = {}
    for position, operand in enumerate(op.operands):
        read[operand] = max(read.get(operand, 0), _read_bytes(op, position, sizes))
    return sum(read.values()), sum(nbytes(result, sizes) for result in op.results)


# Arithmetic of tw ops ------------------------------------------------------------------------------------------------


def _map_flops(op: tw.MapOp, sizes: Sizes | None) -> int:
    return SCALARS[op.fn.data].cost * numel(op.result, sizes)


def _source_flops(op: tw.ReduceOp | tw.ScanOp, sizes: Sizes | None) -> int:
    return numel(op.source, sizes)


def _matmul_flops(op: tw.MatmulOp, sizes: Sizes | None) -> int:
    bias = 1 if op.bias is not None else 0
    return numel(op.result, sizes) * (2 * _shape(op.args[0], sizes)[-1] + bias)


def _conv_flops(op: tw.ConvOp, sizes: Sizes | None) -> int:
    return _multiply_kernel(op.args[0] if op.transposed.data else op.result, op.args[1], sizes)


def _multiply_kernel(points: SSAValue, weight: SSAValue, sizes: Sizes | None) -> int:
    # An output reads C/groups x kernel, transposed an input writes O/groups x kernel: the weight but its first dim.
    return 2 * numel(points, sizes) * prod(_shape(weight, sizes)[1:])


def _attention_flops(op: tw.AttentionOp, sizes: Sizes | None) -> int:
    return _score_flops(_shape(op.args[0], sizes), _shape(op.args[2], sizes), bool(op.causal.data))


def _score_flops(query: tuple[int, ...], values: tuple[int, ...], causal: bool) -> int:
    """Both products and the softmax between them, for every query and key; for half of the pairs where `causal`."""
    softmax = 4 + SCALARS["exp"].cost
    flops = prod(query[:-1]) * values[-2] * (2 * query[-1] + 2 * values[-1] + softmax)
    return flops // 2 if causal else flops


_FLOPS: dict[type[Operation], Callable[..., int]] = {
    tw.MapOp: _map_flops,
    tw.ReduceOp: _source_flops,
    tw.ScanOp: _source_flops,
    tw.MatmulOp: _matmul_flops,
    tw.ConvOp: _conv_flops,
    tw.AttentionOp: _attention_flops,
}

# Sets of exact classes, because most questions about an op are asked of it.
_ALIASES: frozenset[type] = frozenset([tw.ReshapeOp, tw.PermuteOp, tw.SliceOp, tw.BroadcastOp, prog.ViewOp])
_MADE_IN_PLACE: frozenset[type] = frozenset([tw.ConstantOp, tw.IotaOp, tw.SizeOp])
# What only says where something is going to be.
_PLACES: frozenset[type] = frozenset([prog.AllocOp, prog.BufferOp, prog.OutputOp])
_NO_WORK = _ALIASES | _MADE_IN_PLACE | _PLACES | {tw.YieldOp, tw.ReturnOp, prog.ArenaOp, prog.ReturnOp}


def op_cost(op: Operation, sizes: Sizes | None = None) -> Cost:
    """The cost of a `tw` op, a region, a kernel, or an op of `prog` that stands in a module.

    Raises KeyError for a launch whose kernel is not in the module, TypeError for an op of another dialect.
    """
    if type(op) in _NO_WORK:
        return FREE
    if isinstance(op, tw.FusedOp):
        return _region_cost(op, sizes)
    if isinstance(op, tw.TwOp):
        flops = _FLOPS[type(op)](op, sizes) if type(op) in _FLOPS else 0
        return Cost(flops, *_traffic(op, sizes), 1)
    if isinstance(op, tile.KernelOp):
        return kernel_cost(op, sizes)
    if isinstance(op, prog.LaunchOp):
        return kernel_cost(_kernels_beside(op)[op.kernel.string_value()], sizes)
    if isinstance(op, prog.ExternOp):
        return _extern_cost(op, sizes)
    raise TypeError(f"{op.name} has no cost")


def _region_cost(op: tw.FusedOp, sizes: Sizes | None) -> Cost:
    """All the arithmetic inside; of the bytes, what crosses the border, once."""
    flops = 0
    inside: set[SSAValue] = set()
    read: dict[SSAValue, int] = {}
    for inner in op.body.block.ops:
        if type(inner) in _FLOPS:
            flops += _FLOPS[type(inner)](inner, sizes)
        for position, operand in enumerate(inner.operands):
            if operand not in inside:
                # Two slices of one input read both their parts, but never more than all of it.
                part = read.get(operand, 0) + _read_bytes(inner, position, sizes)
                read[operand] = min(part, nbytes(operand, sizes))
        inside.update(inner.results)
    return Cost(flops, sum(read.values()), sum(nbytes(o, sizes) for o in op.outputs), 1)


# Kernels -------------------------------------------------------------------------------------------------------------


class _KernelCount:
    """Walks a kernel's loops. `read` and `written` have the bytes of each access, by pointer and position.

    Loops of one depth get one name, so that several passes over a row touch the same positions, and count once.
    """

    def __init__(self, sizes: Sizes | None):
        self.sizes = sizes
        self.flops = 0
        self.read: dict[tuple[SSAValue, IntExpr], int] = {}
        self.written: dict[tuple[SSAValue, IntExpr], int] = {}
        self.middles: dict[str, int] = {}
        # The loops that a name varies with.
        self.depends: dict[str, frozenset[str]] = {}

    def block(self, block: Block, names: dict[str, IntExpr], extents: dict[str, int]) -> None:
        """`names`: the axes in scope by depth; `extents`: the trip counts of the loops around, by that name."""
        trips = prod(extents.values())
        for op in block.ops:
            if isinstance(op, tile.ForOp):
                axis = f"_axis{len(extents)}"
                # What depends on an axis around it counts as in the middle of that.
                count = max(0, hint(op.trip_count, {**(self.sizes or {}), **self.middles}))
                self.middles[op.axis.data] = count // 2
                self.depends[axis] = frozenset([axis])
                self.flops += trips * count * len(op.outputs)
                self.block(op.body.block, {**names, op.axis.data: symbol(axis)}, {**extents, axis: count})
            elif isinstance(op, tile.IndexOp):
                # A computed position may differ at every point of the loops around it.
                self.depends[op.label.data] = frozenset(extents)
            elif isinstance(op, tile.LoadOp):
                self.access(self.read, op.ref, substitute(op.offset.data[0], names), extents)
            elif isinstance(op, tile.StoreOp):
                self.access(self.written, op.ref, substitute(op.offset.data[0], names), extents)
            elif isinstance(op, tile.UpdateOp):
                position = substitute(op.offset.data[0], names)
                self.access(self.written, op.ref, position, extents)
                if tile.UPDATES[op.fn.data] is not None:
                    self.access(self.read, op.ref, position, extents)
                    self.flops += trips
            elif isinstance(op, tile.DotOp):
                m, n, k = (hint(size, {**(self.sizes or {}), **self.middles}) for size in op.shape.data)
                self.flops += 2 * trips * m * n * k
                for ref, offset, points in zip(op.operands[1:], op.offsets.data[1:], (m * k, k * n)):
                    self.access(self.read, ref, substitute(offset, names), extents, points)
            elif isinstance(op, tile.MapOp):
                self.flops += trips * SCALARS[op.fn.data].cost
            elif isinstance(op, (tile.ScanOp, tile.ReduceOp)):
                self.flops += trips

    def access(
        self, table: dict[tuple[SSAValue, IntExpr], int], ref: SSAValue, position: IntExpr, extents: dict[str, int],
        each: int = 1,
    ) -> None:
        """`each` elements from `position` on are touched."""
        if not isinstance(ref, BlockArgument):
            return  # scratch stays on chip
        axes = frozenset[str]().union(*(self.depends.get(name, frozenset()) for name in free_symbols(position)))
        points = each * prod(count for axis, count in extents.items() if axis in axes)
        key = (ref, position)
        table[key] = max(table.get(key, 0), points * itemsize(tile.value_dtype(ref)))


def kernel_cost(kernel: tile.KernelOp, sizes: Sizes | None = None) -> Cost:
    """The cost of one launch: trip counts times arithmetic; each position of a pointer counts once, scratch not at all.

    A masked access counts as if it always happened.
    """
    count = _KernelCount(sizes)
    count.block(kernel.body.block, {}, {})
    return Cost(count.flops, sum(count.read.values()), sum(count.written.values()), 1)


# Library calls -------------------------------------------------------------------------------------------------------

def _product_flops(lhs: int, rhs: int) -> Callable[..., int]:
    """The arithmetic of a matrix product whose factors stand at these places among the arguments."""
    return lambda args, kwargs, results, sizes: 2 * numel(args[lhs], sizes) * _shape(args[rhs], sizes)[-1]


# Arithmetic by the name of the ATen function, from its arguments, its keywords and its results.
_LIBRARY_FLOPS: dict[str, Callable[..., int]] = {
    "mm": _product_flops(0, 1),
    "bmm": _product_flops(0, 1),
    "matmul": _product_flops(0, 1),
    "addmm": _product_flops(1, 2),
    "baddbmm": _product_flops(1, 2),
    "convolution": lambda args, kwargs, results, sizes: _multiply_kernel(
        args[0] if args[6] else results[0], args[1], sizes
    ),
    "scaled_dot_product_attention": lambda args, kwargs, results, sizes: _score_flops(
        _shape(args[0], sizes), _shape(args[2], sizes), bool(kwargs.get("is_causal"))
    ),
}


def _extern_cost(op: prog.ExternOp, sizes: Sizes | None) -> Cost:
    args, kwargs = calls.decode(
        op.arguments.data, lambda index: op.args[index], lambda size: hint(size, sizes), lambda tag, name: name
    )
    function = op.target.data.split(".")[1]
    # ATen writes to `out`, and to the first argument where the name ends in an underscore.
    outs = _values([kwargs.get("out"), args[:1] if function.endswith("_") else None])
    read = {value: nbytes(value, sizes) for value in op.args if value not in outs}
    written = sum(nbytes(value, sizes) for value in (*outs, *op.results))
    flops = _LIBRARY_FLOPS[function](args, kwargs, op.results, sizes) if function in _LIBRARY_FLOPS else 0
    return Cost(flops, sum(read.values()), written, 1)


def _values(argument: object) -> list[SSAValue]:
    if isinstance(argument, (list, tuple)):
        return [value for part in argument for value in _values(part)]
    return [argument] if isinstance(argument, SSAValue) else []


# Modules -------------------------------------------------------------------------------------------------------------


def _kernels_beside(op: Operation) -> dict[str, tile.KernelOp]:
    parent = op.parent_op()
    while parent is not None and not isinstance(parent, ModuleOp):
        parent = parent.parent_op()
    return kernels(parent) if parent is not None else {}


def _costs(module: ModuleOp, sizes: Sizes | None) -> Iterator[Cost]:
    by_name = {name: kernel_cost(kernel, sizes) for name, kernel in kernels(module).items()}
    for function in functions(module):
        for op in function.body.block.ops:
            yield by_name[op.kernel.string_value()] if isinstance(op, prog.LaunchOp) else op_cost(op, sizes)


def module_cost(module: ModuleOp, sizes: Sizes | None = None) -> Cost:
    """The sum over the ops of all functions. Kernels count where they are launched."""
    return sum(_costs(module, sizes), FREE)


def module_seconds(module: ModuleOp, target: Target, sizes: Sizes | None = None) -> float:
    """The predicted time of one call: the roofline of each op, added up."""
    return sum(predicted_seconds(cost, target) for cost in _costs(module, sizes))


def count_ops(module: ModuleOp) -> int:
    """How many ops a module has, inside regions and kernels too; terminators and what only holds others apart."""
    return sum(
        not op.has_trait(IsTerminator) and not isinstance(op, (ModuleOp, FuncOp, tile.KernelOp))
        for op in module.walk()
    )


def peak_bytes(module: ModuleOp, sizes: Sizes | None = None) -> int:
    """The most bytes that a call holds at once beside its arguments: temporaries, outputs, what libraries return.

    A value lives from the op that first writes it to the last one that reads it, or reads a view of it. An arena counts
    whole, and the buffers in it not at all.
    """
    return max((_function_peak(function.body.block, sizes) for function in functions(module)), default=0)


def _function_peak(block: Block, sizes: Sizes | None) -> int:
    arena = sum(hint(op.size.data[0], sizes) for op in block.ops if isinstance(op, prog.ArenaOp))
    storage: dict[SSAValue, SSAValue] = {}
    first: dict[SSAValue, int] = {}
    last: dict[SSAValue, int] = {}
    for position, op in enumerate(block.ops):
        if type(op) in _ALIASES:
            storage[op.results[0]] = storage.get(op.operands[0], op.operands[0])
            continue
        touched: Iterable[SSAValue] = op.operands
        if type(op) not in _PLACES:
            touched = (*touched, *op.results)
        for value in touched:
            value = storage.get(value, value)
            if _takes_memory(value):
                first.setdefault(value, position)
                last[value] = position
    change = [0] * (len(block.ops) + 1)
    for value, position in first.items():
        change[position] += nbytes(value, sizes)
        change[last[value] + 1] -= nbytes(value, sizes)
    alive = peak = 0
    for step in change:
        alive += step
        peak = max(peak, alive)
    return arena + peak


def _takes_memory(value: SSAValue) -> bool:
    """Whether a value is memory of the call's own, outside of an arena."""
    maker = type(value.owner)
    return _has_shape(value.type) and maker not in _MADE_IN_PLACE and maker not in (Block, prog.BufferOp)
