"""The graph that fusion works on: which ops compute, which are free, and which values must exist in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.traits import is_side_effect_free

from tilewright.ir import tw
from tilewright.ir.expr import IntExpr, hint
from tilewright.ir.function import result_kinds
from tilewright.ir.scalars import SCALARS
from tilewright.ir.types import DimsAttr, contiguous_strides

from .dce import may_erase
from .lowering.indexing import dot, reshape_strides

CONVOLUTION_GRADIENT = "aten.convolution_backward.default"
Strides = tuple[IntExpr, ...]

EXTERN_OPS = (tw.MatmulOp, tw.ConvOp, tw.AttentionOp, tw.SeedOp, tw.AtenOp, tw.FusedOp)
"""What runs by itself, outside the kernels that fusion makes: library calls, and regions made before."""
LEAF_OPS = (tw.ConstantOp, tw.IotaOp, tw.SizeOp)
PLAIN_VIEWS = (tw.ReshapeOp, tw.PermuteOp, tw.SliceOp, tw.BroadcastOp)
COMPUTE_OPS = (tw.MapOp, tw.ReduceOp, tw.ScanOp, tw.ConcatOp, tw.GatherOp, tw.PadOp, tw.ScatterOp)
FREE_MAP_COST = 12
"""Adds: maps of positions and constants alone, up to this cost for a whole chain, are computed where they are used."""


def view_strides(op: Operation, strides: Strides) -> tuple[Strides, IntExpr] | None:
    """Strides and offset of a view's result over its source's memory, or None where it needs a copy."""
    if isinstance(op, tw.ReshapeOp):
        result = reshape_strides(op.in_type.shape, strides, op.out_type.shape)
        return None if result is None else (result, 0)
    if isinstance(op, tw.PermuteOp):
        return tuple(strides[d] for d in op.dims.ints()), 0
    if isinstance(op, tw.SliceOp):
        steps = op.steps.ints()
        if any(step < 0 for step in steps):
            return None  # torch has no negative strides
        return tuple(s * t for s, t in zip(strides, steps)), dot(op.starts.data, strides)
    if isinstance(op, tw.BroadcastOp):
        offset = op.out_type.rank - op.in_type.rank
        kept = [
            0 if have == 1 and want != 1 else s
            for have, want, s in zip(op.in_type.shape, op.out_type.shape[offset:], strides)
        ]
        return (0,) * offset + tuple(kept), 0
    return None


def result_strides_of(op: Operation, position: int) -> Strides:
    """The layout in which an op outside the kernels gives its result."""
    shape = tw.tensor_type(op.results[position]).shape
    if isinstance(op, (tw.ConvOp, tw.AttentionOp)):
        return op.strides.data
    if isinstance(op, tw.AtenOp):
        return op.strides.data[position].data
    return contiguous_strides(shape)


def dense_like(shape: Sequence[IntExpr], strides: Sequence[IntExpr]) -> Strides:
    """Strides without gaps whose dims are in memory in the same order as in `strides`."""
    order = sorted(range(len(shape)), key=lambda d: (-hint(strides[d]), d))
    result: list[IntExpr] = [1] * len(shape)
    step: IntExpr = 1
    for dim in reversed(order):
        result[dim] = step
        step = step * shape[dim]
    return tuple(result)


def preferred_strides(value: SSAValue) -> Strides:
    """The layout of a value that a kernel of ours writes.

    Row-major, but for what attention or convolutions alone read: the library lays its result out as its first operand,
    so they take the order of dims that the traced result has, and what follows finds it as it was traced.
    """
    shape = tw.tensor_type(value).shape
    wanted: Strides | None = None
    for use in value.uses:
        user = use.operation
        if in_region(user):
            continue  # a kernel reads any layout, through views as well
        if isinstance(user, tw.AttentionOp) and use.index < 3:
            wanted = user.strides.data
        elif use.index == 0 and (channels_last := channels_last_result(user)) is not None:
            wanted = channels_last
        elif isinstance(user, (*PLAIN_VIEWS, *EXTERN_OPS)) and not isinstance(user, tw.FusedOp):
            return contiguous_strides(shape)
    return contiguous_strides(shape) if wanted is None else dense_like(shape, wanted)


def in_region(op: Operation) -> bool:
    """Whether an op is part of a kernel."""
    return isinstance(op.parent_op(), tw.FusedOp)


def channels_last_result(op: Operation) -> Strides | None:
    """The layout of a convolution's result, or of the gradient of its input, where the channels lie side by side."""
    if not isinstance(op, tw.ConvOp) and not (isinstance(op, tw.AtenOp) and op.target.data == CONVOLUTION_GRADIENT):
        return None
    shape, strides = tw.tensor_type(op.results[0]).shape, result_strides_of(op, 0)
    # One channel alone does not tell.
    beside = len(shape) > 2 and shape[1] != 1 and strides[1] == 1 and strides[-1] == shape[1]
    return strides if beside else None


def argument_strides(block: Block, attribute: Iterable[DimsAttr]) -> dict[SSAValue, Strides]:
    """The layout of a function's arguments; row-major where it is not said."""
    found: dict[SSAValue, Strides] = {}
    attributes = list(attribute)
    for place, arg in enumerate(block.args):
        if isinstance(arg.type, tw.TensorType):
            found[arg] = attributes[place].data if attributes else contiguous_strides(arg.type.shape)
    return found


def operands_of(op: Operation) -> Sequence[SSAValue]:
    """The values that an op reads; for a region, those from outside of it."""
    return op.inputs() if isinstance(op, tw.FusedOp) else op.operands


def operand_kinds(op: Operation) -> list[str] | None:
    """For the function's return, whether each operand leaves as a tensor or as an int; None for other ops."""
    function = op.parent_op()
    if not isinstance(op, tw.ReturnOp) or function is None:
        return None
    assert isinstance(function, FuncOp)
    return [kind for kind in result_kinds(function) if kind != "none"]


def erase_dead(block: Block) -> None:
    """Erase ops without effects whose results nothing uses."""
    for op in reversed(list(block.ops)):
        if is_side_effect_free(op) and not any(result.uses for result in op.results):
            op.detach()
            op.drop_all_references()


class FusionGraph:
    """Ops of one function sorted by what they are to fusion.

    `compute` ops become kernels. `free` ops (views, constants, positions, cheap maps of positions) are repeated in each
    kernel that needs them. `demanded` values must exist in memory for a library call or for the caller; where a view
    of them cannot be had by strides, the view itself computes (a copy). `effects` are calls that do more than give a
    result (draws of random numbers, say), in their order, which stays.
    """

    def __init__(self, block: Block, strides: Mapping[SSAValue, Strides]):
        self.block = block
        erase_dead(block)
        self.order: dict[Operation, int] = {op: i for i, op in enumerate(block.ops)}
        self.effects: list[Operation] = [op for op in block.ops if isinstance(op, EXTERN_OPS) and not may_erase(op)]
        self.argument_layout = dict(strides)
        self.free: set[Operation] = set()
        self.free_cost: dict[SSAValue, int] = {}
        self.compute: set[Operation] = set()
        self.demanded: dict[SSAValue, None] = {}
        for op in block.ops:
            self._classify(op)
        for op in block.ops:
            if isinstance(op, (*EXTERN_OPS, tw.ReturnOp)):
                kinds = operand_kinds(op)
                for place, operand in enumerate(operands_of(op)):
                    if kinds is None or kinds[place] == "tensor":
                        self._demand(operand)
        for value in self.demanded:
            if isinstance(value.owner, Operation) and value.owner in self.free:
                self.free.discard(value.owner)
                self.compute.add(value.owner)

    def _classify(self, op: Operation) -> None:
        if isinstance(op, LEAF_OPS):
            self.free.add(op)
            self.free_cost[op.results[0]] = 0
        elif isinstance(op, PLAIN_VIEWS):
            self.free.add(op)
            if op.source in self.free_cost:
                self.free_cost[op.result] = self.free_cost[op.source]
        elif isinstance(op, tw.MapOp):
            costs = [self.free_cost.get(a) for a in op.args]
            total = sum(c for c in costs if c is not None) + SCALARS[op.fn.data].cost
            if all(c is not None for c in costs) and total <= FREE_MAP_COST:
                self.free.add(op)
                self.free_cost[op.result] = total
            else:
                self.compute.add(op)
        elif isinstance(op, COMPUTE_OPS):
            self.compute.add(op)

    def layout(self, value: SSAValue) -> Strides | None:
        """Strides of a value that is in memory, through views; None where a view needs a copy."""
        owner = value.owner
        if isinstance(owner, Block):
            return self.argument_layout[value]
        if isinstance(owner, EXTERN_OPS):
            return result_strides_of(owner, owner.results.index(value))
        if isinstance(owner, PLAIN_VIEWS) and owner in self.free:
            source = self.layout(owner.source)
            viewed = None if source is None else view_strides(owner, source)
            return None if viewed is None else viewed[0]
        return preferred_strides(value)

    def _demand(self, value: SSAValue) -> None:
        if not isinstance(value.type, tw.TensorType):
            return
        chain = value
        while isinstance(chain.owner, PLAIN_VIEWS):
            chain = chain.owner.source
        owner = chain.owner
        if self.layout(value) is None:
            self.demanded[value] = None
        elif isinstance(owner, Operation) and (owner in self.compute or owner in self.free):
            self.demanded[chain] = None

    def sources(self, op: Operation) -> list[SSAValue]:
        """The values in memory (or of other compute ops) that a compute op reads, through free ops, in order."""
        found: dict[SSAValue, None] = {}
        stack = list(reversed(operands_of(op)))
        seen: set[SSAValue] = set()
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            if isinstance(value.owner, Operation) and value.owner in self.free:
                stack.extend(reversed(value.owner.operands))
            else:
                found[value] = None
        return list(found)

    def with_free(self, ops: Iterable[Operation]) -> list[Operation]:
        """The ops and the free ops that they need, in program order."""
        found: set[Operation] = set()
        stack = list(ops)
        inside = set(stack)
        while stack:
            op = stack.pop()
            if op in found:
                continue
            found.add(op)
            for operand in op.operands:
                owner = operand.owner
                if isinstance(owner, Operation) and (owner in self.free or owner in inside):
                    stack.append(owner)
        return sorted(found, key=self.order.__getitem__)
