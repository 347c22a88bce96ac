"""Lowering a scatter: its base is copied (or is in place already), then the updates are written to computed positions.

No atomics: an axis of the updates runs in parallel only where it alone decides a position of the result, so that
two of its iterations never meet. All other axes run in order, which makes the result one and the same always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue

from tilewright.ir import tile, tw
from tilewright.ir.dtypes import compute_dtype
from tilewright.ir.expr import IntExpr, floordiv, free_symbols, product, substitute, symbol
from tilewright.ir.function import updated_arguments
from tilewright.ir.target import Target
from tilewright.ir.types import RefType

from .blocks import update_blocks
from .indexing import Index, dot
from .loops import AccessWalk, Loop, Nest, choose_nest, coefficient
from .region import RegionEmitter, finish_kernel, label_arguments, lower_region
from .walk import Axis, CannotFuse, Domain, indexed_position

SMALLEST_VECTOR_AXIS = 4
BLOCKS = (64, 32, 16)
"""Elements of the parts into which the lanes' axis is cut where nothing else is parallel, the first that divides it."""


@dataclass(frozen=True)
class ScatterRegion:
    """The ops of a region that ends in a scatter, and what it iterates over: the base's elements, then the updates'."""

    op: tw.ScatterOp
    ops: tuple[Operation, ...]
    base: Domain
    updates: Domain


def scatter_region(
    ops: Sequence[Operation], outputs: Sequence[SSAValue], strides: Sequence[IntExpr] | None = None
) -> ScatterRegion | None:
    """The region as one of a scatter; None where it has none. `strides` is the layout of the result.

    Raises CannotFuse where other ops of the region need another kernel.
    """
    scatters = [op for op in ops if isinstance(op, tw.ScatterOp)]
    if not scatters:
        return None
    if len(scatters) > 1 or list(outputs) != [scatters[0].result]:
        raise CannotFuse("a scatter's kernel gives the scatter's result alone")
    if any(isinstance(op, (tw.ReduceOp, tw.ScanOp)) for op in ops):
        raise CannotFuse("what a scatter writes is not reduced in its kernel")
    [op] = scatters
    rest = tuple(o for o in ops if o is not op)
    base = Domain.of(tw.tensor_type(op.base).shape, (), strides)
    return ScatterRegion(op, rest, base, Domain.of(tw.tensor_type(op.updates).shape))


def reads_what_it_overwrites(region: ScatterRegion) -> bool:
    """Whether the updates of an argument that gets a new value are computed from its old one.

    In a kernel of their own they could be computed before, and then be written in place.
    """
    base = region.op.base
    function = base.owner.parent_op() if isinstance(base, BlockArgument) else None
    if not isinstance(base, BlockArgument) or not isinstance(function, FuncOp):
        return False
    return base.index in updated_arguments(function) and any(base in op.operands for op in region.ops)


def scatter_walks(
    region: ScatterRegion, strides: dict[SSAValue, tuple[IntExpr, ...]] | None = None, in_place: bool = False
) -> Iterator[tuple[AccessWalk, Domain]]:
    """The walks of both parts, made: of the base, unless it is `in_place`, and of the updates. Raises CannotFuse."""
    if not in_place:
        walk = AccessWalk(region.ops, region.base, strides)
        walk.visit(region.op.base, region.base.index_in(region.base.shape, walk.ranges))
        yield walk, region.base
    walk = AccessWalk(region.ops, region.updates, strides)
    _position(walk, region)
    walk.visit(region.op.updates, region.updates.index)
    yield walk, region.updates


def _position(walk: AccessWalk | RegionEmitter, region: ScatterRegion) -> Index:
    """Where the update of the current point goes in the result."""
    shape = tw.tensor_type(region.op.base).shape
    return indexed_position(walk, region.op, walk.domain.index, shape)


def lower_scatter(
    region: ScatterRegion, inputs: Mapping[SSAValue, tuple[IntExpr, ...]], strides: tuple[IntExpr, ...], name: str,
    target: Target, in_place: bool = False,
) -> list[tuple[tile.KernelOp, list[SSAValue]]]:
    """The kernels of a region with a scatter, in order, each with its inputs; its last pointer is the result.

    `strides` is the result's layout. With `in_place` the result's memory holds the base already, and the kernel has no
    pointer of its own for it: only the updates are written. Programs of a GPU cannot wait for each other, so that there
    the base is copied by a kernel of its own.
    """
    op = region.op
    if target.kind == "gpu" and not in_place:
        ops, own = _cone(region, [op.base])
        kernel = lower_region(ops, {v: inputs[v] for v in own}, [op.base], [strides], name, target)
        return [(kernel, own), *lower_scatter(region, inputs, strides, name, target, in_place=True)]
    needed = _cone(region, [op.updates, *op.indices])[1] if in_place else list(inputs)
    values = [v for v in inputs if v in needed]
    body = Block(arg_types=[RefType.get(tw.tensor_type(v).dtype) for v in (*values, op.result)])
    label_arguments(body, [*values, op.result])
    refs = dict(zip(values, body.args))
    out = body.args[len(values)]
    knobs: Mapping[str, int] = {}
    for walk, domain in scatter_walks(region, dict(inputs), in_place):
        if domain is region.base:
            place = domain.index_in(domain.shape, domain.ranges)
            expressions = [*walk.expressions, walk.ranges.simplify(dot(place, strides))]
            nest = choose_nest(domain, expressions, False, target)
            RegionEmitter(region.ops, [op.base], nest, refs, inputs, [out], [strides], body, 0).run()
        elif product(domain.shape) != 0:
            nest = _update_nest(region, _position(walk, region), strides)
            if target.kind == "gpu":
                blocks = update_blocks(nest)
                nest, knobs = blocks.nest, blocks.knobs
            _UpdateEmitter(region, nest, refs, inputs, out, strides, body).run()
    return [(finish_kernel(name, body, [len(values)], (*region.ops, op), knobs=knobs), values)]


def _cone(region: ScatterRegion, roots: Sequence[SSAValue]) -> tuple[list[Operation], list[SSAValue]]:
    """The region's ops that `roots` are computed by, in order, and the values from outside that they read."""
    wanted: dict[SSAValue, None] = dict.fromkeys(roots)
    ops: list[Operation] = []
    for op in reversed(region.ops):
        if any(result in wanted for result in op.results):
            ops.append(op)
            wanted.update(dict.fromkeys(op.operands))
    made = {result for op in ops for result in op.results}
    return ops[::-1], [value for value in wanted if value not in made]


def _update_nest(region: ScatterRegion, position: Index, strides: Sequence[IntExpr]) -> Nest:
    """Threads over the axes whose iterations never meet, then those that run in order, then lanes."""
    domain = region.updates
    owned = [a for a in domain.rows if any(_decides(p, a.name) for p in position)]
    ordered = [a for a in domain.rows if a not in owned]
    offset = dot(position, strides)
    lanes = next((a for a in owned if coefficient(offset, a.name) == 1), None if ordered or not owned else owned[-1])
    if lanes is not None and isinstance(lanes.extent, int) and lanes.extent < SMALLEST_VECTOR_AXIS:
        lanes = None
    parallel = [a for a in owned if a is not lanes]
    if lanes is not None and ordered and not parallel:
        domain, parallel, lanes = _cut(domain, lanes)
    loops = [Loop(a, "parallel") for a in parallel] + [Loop(a, "serial") for a in ordered]
    if lanes is not None:
        loops.append(Loop(lanes, "vector"))
    return Nest(domain, tuple(loops), ())


def _decides(position: IntExpr, axis: str) -> bool:
    """Whether different iterations of the axis have different positions in that dim, whatever else varies."""
    factor = coefficient(position, axis)
    return free_symbols(position) == {axis} and isinstance(factor, int) and factor != 0


def _cut(domain: Domain, axis: Axis) -> tuple[Domain, list[Axis], Axis]:
    """Parts of the lanes' axis for the threads, where it can be cut evenly."""
    size = next((b for b in BLOCKS if isinstance(axis.extent, int) and axis.extent % b == 0), None)
    if size is None or axis.extent == size:
        return domain, [], axis
    part, lane = Axis(f"{axis.name}_part", floordiv(axis.extent, size)), Axis(axis.name, size)
    value = symbol(part.name) * size + symbol(axis.name)
    index = tuple(substitute(i, {axis.name: value}) for i in domain.index)
    rows = tuple(r for a in domain.rows for r in ((part, lane) if a is axis else (a,)))
    return replace(domain, rows=rows, index=index), [part], lane


class _UpdateEmitter(RegionEmitter):
    """Emits the loops over the updates."""

    def __init__(
        self, region: ScatterRegion, nest: Nest, refs: Mapping[SSAValue, SSAValue],
        inputs: Mapping[SSAValue, tuple[IntExpr, ...]], out: SSAValue, strides: tuple[IntExpr, ...], body: Block,
    ):
        super().__init__(region.ops, [], nest, refs, inputs, [out], [strides], body, 0)
        self.region, self.out = region, out

    def run(self) -> None:
        for loop in self.nest.rows:
            self.open(loop)
        op = self.region.op
        self.location = op.location
        place = self.ranges.simplify(dot(_position(self, self.region), self.output_strides[0]))
        value = self.visit(op.updates, self.domain.index)
        self.location = op.location
        dtype = compute_dtype(tw.tensor_type(op.updates).dtype)
        update = tile.UpdateOp.make(op.fn.data, self.out, place, self.cast(value, dtype).value)
        self.emit(update, len(self.frames) - 1)
        for _ in self.nest.rows:
            self.close()
