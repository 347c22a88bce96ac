"""Lowering a fused region to a tile kernel: rows run in parallel; reductions go over each row in phases.

All reductions that do not wait for each other share a phase; what depends on them is computed in the next one. Values
that do not change in an inner loop are computed outside it by construction: each op is put into the outermost loop that
it depends on. A value that several phases need and that costs more to compute than to read is kept in a row of scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from xdsl.dialects.builtin import FileLineColLoc, LocationAttr, NameLoc
from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir import tile, tw
from tilewright.ir.dtypes import DTYPES, compute_dtype, itemsize
from tilewright.ir.expr import IntExpr, free_symbols, symbol
from tilewright.ir.scalars import REDUCTIONS, SCALARS, SCANS
from tilewright.ir.target import Target
from tilewright.ir.text import fuse_locations
from tilewright.ir.types import RefType, ScalarAttr, TensorType

from .indexing import Index, dot
from .loops import AccessWalk, Loop, Nest, choose_nest
from .names import region_location
from .phases import PhasePlan
from .rounding import values_to_round
from .walk import Mask, Walk, domain_for, zero_of

SUM_BLOCK = {"vector": 1024, "serial": 16, "parallel": 16}
"""Elements by kind of loop: longer float sums are added up in blocks (`tile.for ... block`). ATen adds pairwise; these
lengths (16 additions one after the other in a lane) keep the error within twice its."""
SCRATCH_SHARE = 16
"""A row of scratch may take one part in so many of the target's second-level cache: the row's inputs need the rest."""


@dataclass(frozen=True)
class Emitted:
    """A tile value and the depth of the loop whose body holds it."""

    value: SSAValue
    depth: int


@dataclass
class Frame:
    """An open loop: its body so far, and what is memoised while it is open."""

    loop: Loop | None
    block: Block
    keys: list[Any] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kept:
    """A value that later phases read back from memory."""

    ref: SSAValue
    offset: IntExpr
    phase: int
    is_output: bool


class RegionEmitter(Walk):
    """Emits the tile program of one region."""

    sum_block: ClassVar[Mapping[str, int]] = SUM_BLOCK

    def __init__(
        self, ops: Sequence[Operation], outputs: Sequence[SSAValue], nest: Nest,
        refs: Mapping[SSAValue, SSAValue], strides: Mapping[SSAValue, tuple[IntExpr, ...]],
        output_refs: Sequence[SSAValue], output_strides: Sequence[tuple[IntExpr, ...]], body: Block,
        scratch_limit: int,
    ):
        super().__init__(ops, nest.domain)
        self.ordered = list(ops)
        self.to_round = values_to_round(self.ordered)
        self.outputs = list(outputs)
        self.nest = nest
        self.refs, self.strides = refs, strides
        self.output_refs, self.output_strides = output_refs, output_strides
        self.scratch_limit = scratch_limit  # bytes
        self.frames = [Frame(None, body)]
        self.depth_of_name: dict[str, int] = {}
        self.emitted: dict[Any, Emitted] = {}
        self.reduced: dict[Operation, Emitted] = {}
        self.kept: dict[SSAValue, Kept] = {}
        self.stored: set[SSAValue] = set()  # of those kept in scratch
        self.phase = 0
        self.location: LocationAttr | None = None
        self.labels = 0

    # Emission
    def depth(self, exprs: Sequence[IntExpr], operands: Sequence[Emitted] = ()) -> int:
        names = set().union(*(free_symbols(e) for e in exprs)) if exprs else set()
        return max([0, *(self.depth_of_name.get(n, 0) for n in names), *(o.depth for o in operands)])

    def emit(self, op: Operation, depth: int, hint: str | None = None) -> Emitted | None:
        """Append to the body of the loop at `depth`."""
        if self.location is not None:
            op.location = self.location
        self.frames[depth].block.add_op(op)
        if not op.results:
            return None
        op.results[0].name_hint = hint
        return Emitted(op.results[0], depth)

    def emit_once(self, key: Any, make: Callable[[], Operation], depth: int, hint: str | None = None) -> Emitted:
        """Append unless an equal op is in an open loop already."""
        if key not in self.emitted:
            result = self.emit(make(), depth, hint)
            assert result is not None
            self.emitted[key] = result
            self.frames[depth].keys.append(("emitted", key))
        return self.emitted[key]

    def visit(self, value: SSAValue, index: Index, mask: Mask = ()) -> Any:
        key = (value, index, mask)
        if key in self.memo:
            return self.memo[key]
        kept = self.kept.get(value)
        own = kept is not None and not mask and index == self.domain.index_in(
            tw.tensor_type(value).shape, self.ranges)
        if own and kept is not None and kept.phase < self.phase:
            dtype = compute_dtype(tw.tensor_type(value).dtype)
            result = self.emit_once(
                (kept.ref, kept.offset), lambda: tile.LoadOp.make(kept.ref, kept.offset, dtype),
                self.depth([kept.offset]), _hint(value),
            )
            self.memo[key] = result
            self.frames[result.depth].keys.append(("memo", key))
            return result
        outer = self.location
        if isinstance(value.owner, Operation) and value.owner in self.ops:
            self.location = value.owner.location
        result = super().visit(value, index, mask)
        if value in self.to_round:
            dtype = tw.tensor_type(value).dtype
            result = self.memo[key] = self.cast(self.cast(result, dtype), compute_dtype(dtype))
        self.location = outer
        self.frames[result.depth].keys.append(("memo", key))
        if own and kept is not None and kept.phase == self.phase and not kept.is_output:
            self.stored.add(value)
            self.emit(tile.StoreOp.make(kept.ref, kept.offset, result.value), len(self.frames) - 1)
        return result

    def open(self, loop: Loop) -> None:
        self.frames.append(Frame(loop, Block()))
        self.depth_of_name[loop.axis.name] = len(self.frames) - 1

    def close(
        self, reduce: Sequence[str] = (), dtypes: Sequence[str] = (), values: Sequence[SSAValue] = ()
    ) -> tile.ForOp:
        frame = self.frames.pop()
        assert frame.loop is not None
        if reduce:
            frame.block.add_op(tile.YieldOp.create(operands=list(values)))
        for kind, key in frame.keys:
            (self.memo if kind == "memo" else self.emitted).pop(key, None)
        for name in (*frame.labels, frame.loop.axis.name):
            self.depth_of_name.pop(name, None)
        extent = frame.loop.axis.extent
        in_order = any(REDUCTIONS[r].result == "i64" for r in reduce)  # the first of equal extremes
        length = self.sum_block.get("serial" if in_order else frame.loop.kind)
        adds = any(r == "sum" and DTYPES[d].is_float for r, d in zip(reduce, dtypes))
        block = None if not adds or length is None or (isinstance(extent, int) and extent <= length) else length
        loop = tile.ForOp.make(
            frame.loop.axis.name, extent, frame.loop.kind, frame.block, reduce, dtypes, block, frame.loop.knob
        )
        loop.location = fuse_locations(op.location for op in frame.block.ops)
        self.frames[-1].block.add_op(loop)
        return loop

    # What the walk asks for
    def load(self, value: SSAValue, index: Index, mask: Mask) -> Emitted:
        type = tw.tensor_type(value)
        dtype = type.dtype
        offset = self.ranges.simplify(dot(index, self.strides[value]))
        return self.emit_once(
            (value, offset, mask),
            lambda: tile.LoadOp.make(self.refs[value], offset, compute_dtype(dtype), mask, zero_of(dtype)),
            # Inside the loops over the tensor's own dims, which may be empty, also where a stride of 0 drops them.
            self.depth([offset, *mask, *(i for i, d in zip(index, type.shape) if not isinstance(d, int))]),
            value.name_hint,
        )

    def constant(self, value: bool | int | float, type: TensorType) -> Emitted:
        dtype = compute_dtype(type.dtype)
        if DTYPES[dtype].is_float:
            value = float(value)
        outer, self.location = self.location, None  # shared by many lines
        made = self.emit_once((ScalarAttr(value), dtype), lambda: tile.ConstantOp.make(value, dtype), 0)
        self.location = outer
        return made

    def integer(self, expr: IntExpr, type: TensorType) -> Emitted:
        value = self.emit_once(("expr", expr), lambda: tile.ExprOp.make(expr), self.depth([expr]))
        return value if type.dtype == "i64" else self.cast(value, type.dtype)

    def cast(self, value: Emitted, dtype: str) -> Emitted:
        if tile.value_dtype(value.value) == dtype:
            return value
        return self.emit_once(
            ("cast", value.value, dtype), lambda: tile.MapOp.make("cast", [value.value], dtype), value.depth
        )

    def map(self, op: tw.MapOp, args: list[Any], index: Index) -> Emitted:
        result = tw.tensor_type(op.result)
        if op.fn.data == "cast":
            # A conversion to a half that the model asks for rounds, also where the value stays in a register.
            return self.cast(self.cast(args[0], result.dtype), compute_dtype(result.dtype))
        fn = op.fn.data
        dtype = "bool" if SCALARS[fn].result == "bool" else compute_dtype(result.dtype)
        values = [a.value for a in args]
        return self.emit_once(
            ("map", fn, *values), lambda: tile.MapOp.make(fn, values, dtype), self.depth([], args),
            op.result.name_hint or fn,
        )

    def select(self, condition: Mask, inside: Any, outside: Any, type: TensorType) -> Emitted:
        cond = self.emit_once(("cond", condition), lambda: tile.CondOp.make(condition), self.depth(condition))
        args = [cond, inside, outside]
        values = [a.value for a in args]
        return self.emit_once(
            ("map", "where", *values), lambda: tile.MapOp.make("where", values, compute_dtype(type.dtype)),
            self.depth([], args),
        )

    def position(self, value: Any, extent: IntExpr, wrap: bool, mask: Mask) -> IntExpr:
        label = f"j{self.labels}"
        self.labels += 1
        depth = self.depth([extent, *mask], [value])
        wide = self.cast(value, "i64")
        self.emit(tile.IndexOp.make(label, wide.value, extent, wrap, mask), depth)
        self.depth_of_name[label] = depth
        self.frames[depth].labels.append(label)
        self.ranges.extents[label] = extent
        return symbol(label)

    def reduction(self, op: tw.ReduceOp) -> Emitted:
        return self.reduced[op]

    def scan(self, op: tw.ScanOp, mask: Mask) -> Emitted:
        source = self.visit(op.source, self.canonical_index(op))
        if not self.nest.cols:  # along a dim of size 1
            return source if SCANS[op.fn.data].result == "same" else self.constant(0, TensorType.get((), "i64"))
        return self.emit_once(
            ("scan", op), lambda: tile.ScanOp.make(op.fn.data, source.value), len(self.frames) - 1
        )

    # The program
    def run(self) -> None:
        plan = PhasePlan(self.ordered, self.outputs, self.domain)
        for loop in self.nest.rows:
            self.open(loop)
        if not self.nest.cols:
            for level in range(plan.levels):
                for op in plan.reductions[level]:
                    self.reduced[op] = self.reduce_nothing(op)
            self.store_outputs(range(len(self.outputs)))
        else:
            self.keep_values(plan)
            for self.phase in range(plan.levels + 1):
                self.run_phase(plan)
                self.forget_what_was_not_stored()
            self.store_outputs(plan.row_outputs)
        for _ in self.nest.rows:
            self.close()

    def keep_values(self, plan: PhasePlan) -> None:
        """Give the values that the plan keeps a place: the result they are stored to anyway, else a row of scratch."""
        if len(self.nest.cols) != 1 or plan.levels == 0 or any(loop.kind == "vector" for loop in self.nest.rows):
            return  # lanes that run over rows would need scratch each
        axis = self.nest.cols[0].axis
        for value, kept in plan.kept().items():
            dtype = compute_dtype(tw.tensor_type(value).dtype)
            if kept.output is not None:
                offset = self.output_offset(kept.output)
                self.kept[value] = Kept(self.output_refs[kept.output], offset, kept.phase, True)
            elif self.fits_scratch(axis.extent, itemsize(dtype)):
                alloc = tile.AllocOp.make(axis.extent, dtype)
                self.emit(alloc, len(self.frames) - 1, f"{_hint(value)}_row")
                self.kept[value] = Kept(alloc.result, symbol(axis.name), kept.phase, False)

    def fits_scratch(self, extent: IntExpr, itemsize: int) -> bool:
        """Whether a row may be kept. One whose length only the call knows is taken to be short among many rows."""
        return extent * itemsize <= self.scratch_limit if isinstance(extent, int) else bool(self.nest.rows)

    def forget_what_was_not_stored(self) -> None:
        """What the phase came by at other positions only, or behind a mask, later phases compute themselves."""
        for value, kept in list(self.kept.items()):
            if kept.phase == self.phase and not kept.is_output and value not in self.stored:
                del self.kept[value]

    def reduce_nothing(self, op: tw.ReduceOp) -> Emitted:
        """A reduction over dims of size 1 is its operand."""
        if REDUCTIONS[op.fn.data].result == "i64":
            return self.constant(0, TensorType.get((), "i64"))
        return self.visit(op.source, self.canonical_index(op))

    def run_phase(self, plan: PhasePlan) -> None:
        reductions = plan.reductions[self.phase] if self.phase < plan.levels else []
        outputs = plan.outputs[self.phase]
        if not reductions and not outputs:
            return
        for loop in self.nest.cols:
            self.open(loop)
        sources = [self.visit(op.source, self.canonical_index(op)) for op in reductions]
        self.store_outputs(outputs)
        names = [op.fn.data for op in reductions]
        values = [s.value for s in sources]
        dtypes = ["i64" if REDUCTIONS[n].result == "i64" else tile.value_dtype(v) for n, v in zip(names, values)]
        for _ in self.nest.cols:
            closed = self.close(names, dtypes, values)
            values = list(closed.outputs)
        for op, value in zip(reductions, values):
            value.name_hint = op.result.name_hint or op.fn.data
            self.reduced[op] = Emitted(value, len(self.frames) - 1)

    def store_outputs(self, positions: Sequence[int]) -> None:
        for position in positions:
            value = self.outputs[position]
            shape = tw.tensor_type(value).shape
            index = self.domain.index_in(shape, self.ranges)
            stored = self.visit(*_without_final_rounding(self, value, index))
            offset = self.output_offset(position)
            self.location = value.owner.location if isinstance(value.owner, Operation) else None
            depth = len(self.frames) - 1
            self.emit(tile.StoreOp.make(self.output_refs[position], offset, stored.value), depth)
            self.location = None

    def output_offset(self, position: int) -> IntExpr:
        shape = tw.tensor_type(self.outputs[position]).shape
        index = self.domain.index_in(shape, self.ranges)
        return self.ranges.simplify(dot(index, self.output_strides[position]))


def _hint(value: SSAValue) -> str | None:
    """The model's name for a value, else what computes it."""
    return value.name_hint or (value.owner.fn.data if isinstance(value.owner, tw.MapOp) else None)


def _without_final_rounding(walk: RegionEmitter, value: SSAValue, index: Index) -> tuple[SSAValue, Index]:
    """Storing rounds: skip a conversion to the very type that is stored."""
    op = value.owner
    if isinstance(op, tw.MapOp) and op in walk.ops and op.fn.data == "cast":
        source, result = tw.tensor_type(op.args[0]).dtype, tw.tensor_type(op.result).dtype
        rounds_only = result != compute_dtype(result) and compute_dtype(source) == compute_dtype(result)
        if rounds_only and walk.kept.get(value) is None:
            return op.args[0], index
    return value, index


def lower_region(
    ops: Sequence[Operation], inputs: Mapping[SSAValue, tuple[IntExpr, ...]], outputs: Sequence[SSAValue],
    output_strides: Sequence[tuple[IntExpr, ...]], name: str, target: Target,
    shared: Mapping[SSAValue, int] | None = None,
) -> tile.KernelOp:
    """The kernel that computes `outputs` from `inputs` (each with its strides, in elements).

    Its pointers are the inputs in order, then the outputs. An input in `shared` is in the memory of the output of that
    position and has no pointer of its own. Raises CannotFuse where the ops do not fit one kernel.
    """
    shared = shared or {}
    own = [v for v in inputs if v not in shared]
    domain = domain_for(ops, outputs, output_strides[0])
    access = AccessWalk(ops, domain, dict(inputs))
    access.run(outputs)
    expressions = list(access.expressions)
    for value, strides in zip(outputs, output_strides):
        index = domain.index_in(tw.tensor_type(value).shape, domain.ranges)
        expressions.append(access.ranges.simplify(dot(index, strides)))
    types = [RefType.get(tw.tensor_type(v).dtype) for v in (*own, *outputs)]
    body = Block(arg_types=types)
    label_arguments(body, [*own, *outputs])
    results = body.args[len(own) :]
    refs = dict(zip(own, body.args)) | {value: results[position] for value, position in shared.items()}
    knobs: Mapping[str, int] = {}
    if target.kind == "gpu":
        from .blocks import BlockEmitter, choose_blocks

        blocks = choose_blocks(domain, expressions, ops)
        knobs = blocks.knobs
        BlockEmitter(ops, outputs, blocks, refs, inputs, results, output_strides, body).run()
    else:
        nest = choose_nest(domain, expressions, any(isinstance(op, tw.ScanOp) for op in ops), target)
        RegionEmitter(
            ops, outputs, nest, refs, inputs, results, output_strides, body, target.l2_bytes // SCRATCH_SHARE
        ).run()
    return finish_kernel(name, body, range(len(own), len(own) + len(outputs)), ops, knobs=knobs)


def label_arguments(body: Block, values: Sequence[SSAValue]) -> None:
    """Give a kernel's pointers the names and lines of the values that they hold."""
    for arg, value in zip(body.args, values):
        arg.name_hint = value.name_hint
        if isinstance(value.owner, Operation) and isinstance(value.owner.location, (NameLoc, FileLineColLoc)):
            arg.location = value.owner.location


def finish_kernel(
    name: str, body: Block, outputs: Sequence[int], ops: Sequence[Operation], kind: str = "loop",
    knobs: Mapping[str, int] | None = None,
) -> tile.KernelOp:
    """The kernel of a body that is done; `outputs` are the pointers it writes, `ops` the region it stands for."""
    kernel = tile.KernelOp.make(name, kind, body, outputs, sorted(_sizes_of(body)))
    if knobs:
        kernel.set_schedule(knobs)
    kernel.location = region_location(ops)
    return kernel


def _sizes_of(block: Block) -> set[str]:
    """The symbols that the body needs from outside: all names but axes and labels."""
    names: set[str] = set()
    bound: set[str] = set()
    for op in block.walk():
        for expr in tile.index_expressions(op):
            names |= free_symbols(expr)
        if isinstance(op, tile.ForOp):
            bound.add(op.axis.data)
        elif isinstance(op, tile.IndexOp):
            bound.add(op.label.data)
    return names - bound

