"""Loops for a GPU: parallel axes become programs, neighbouring iterations a block of one, rows that fit one block.

A row that fits is held: one block loop, in whose body reductions are ops (`tile.reduce`), so that every value of the
row is computed once and stays in registers. Longer rows, and rows whose length only the call knows, are walked in
blocks, with a loop for each phase, as on a CPU; nothing is kept between the walks.

The sizes of blocks are knobs: named in the loops, with values in the kernel's schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir import tile, tw
from tilewright.ir.expr import IntExpr
from tilewright.ir.types import TensorType

from .loops import Loop, Nest, coefficient, merge_axes
from .phases import PhasePlan
from .region import Emitted, RegionEmitter
from .walk import Axis, Domain

PROGRAM_ELEMENTS = 1024
"""Points that one program computes where no row asks for more: enough loads in flight, few enough for many programs."""
HELD_ELEMENTS = 16384
"""The longest row that is held: 32 elements a thread with the most warps that a program gets."""
HELD_BLOCKS = 3
"""How many values of its own length the longest held row may keep alive; rows with more of them are shorter."""
WALKED_ELEMENTS = 4096
"""Elements of a longer row that are read at once."""
TILE = 32
"""Side of a square tile where memory is walked along two axes (a transposition): whole sectors both ways."""
LANES = 64
"""Neighbouring columns of one program where rows are summed up: two sectors of halves."""
ELEMENTS_PER_WARP = 256
MOST_WARPS = 16


@dataclass(frozen=True)
class Blocks:
    """A nest, the values of its knobs, and whether its columns are one block."""

    nest: Nest
    knobs: Mapping[str, int]
    held: bool


def power_of_two(size: int) -> int:
    """The smallest power of two that is not below `size`."""
    return 1 << max(0, size - 1).bit_length()


def choose_blocks(domain: Domain, expressions: Sequence[IntExpr], ops: Sequence[Operation]) -> Blocks:
    """The loops of a region over `domain` that evaluates `expressions` to find its elements."""
    domain = merge_axes(domain, expressions)
    if not domain.cols:
        loops, knobs = _point_blocks(domain, expressions)
        return _finish(domain, loops, (), knobs, held=False)
    scans = any(isinstance(op, tw.ScanOp) for op in ops)
    if _fits(domain.cols, _values_alive(ops, domain)):
        return _held(domain, expressions)
    return _serial_scan(domain) if scans else _walked(domain, expressions)


def _finish(
    domain: Domain, rows: Sequence[Loop], cols: Sequence[Loop], knobs: dict[str, int], held: bool
) -> Blocks:
    elements = 1
    for size in knobs.values():
        elements *= size
    warps = min(MOST_WARPS, max(1, power_of_two(elements // ELEMENTS_PER_WARP)))
    return Blocks(Nest(domain, tuple(rows), tuple(cols)), {**knobs, "num_warps": warps, "num_stages": 1}, held)


def _block(axis: Axis, most: int) -> int:
    """The block of an axis that takes `most` elements where it has them."""
    return min(most, power_of_two(axis.extent)) if isinstance(axis.extent, int) else most


def _walks(axis: Axis, expressions: Sequence[IntExpr]) -> bool:
    """Whether some memory has the axis' elements side by side."""
    return any(coefficient(e, axis.name) == 1 for e in expressions)


def _point_blocks(domain: Domain, expressions: Sequence[IntExpr]) -> tuple[list[Loop], dict[str, int]]:
    """Every point by itself: blocks along the last axis, and along a second one where that reads memory in order."""
    if not domain.rows:
        return [], {}
    last = domain.rows[-1]
    other = next(
        (a for a in domain.rows[:-1] if any(
            coefficient(e, a.name) == 1 and coefficient(e, last.name) not in (0, 1) for e in expressions)), None,
    )
    lanes = _block(last, PROGRAM_ELEMENTS)
    knobs = {"BLOCK": lanes}
    if other is not None and _block(other, TILE) > 1:
        knobs = {"ROWS": _block(other, TILE), "COLS": min(lanes, TILE)}
    elif len(domain.rows) > 1 and lanes * 4 <= PROGRAM_ELEMENTS:
        other = domain.rows[-2]
        knobs = {"ROWS": _block(other, PROGRAM_ELEMENTS // lanes), "COLS": lanes}
    names = {last: "COLS" if "COLS" in knobs else "BLOCK"}
    if "ROWS" in knobs:
        assert other is not None
        names[other] = "ROWS"
    return [Loop(a, "parallel", names.get(a)) for a in domain.rows], knobs


def _values_alive(ops: Sequence[Operation], domain: Domain) -> int:
    """About how many values with an element for each point must be kept while a held row is worked on."""
    place: dict[object, int] = {op: i for i, op in enumerate(ops)}
    ends: dict[SSAValue, int] = {}
    starts: dict[SSAValue, int] = {}
    for i, op in enumerate(ops):
        for value in op.operands:
            type = value.type
            if isinstance(type, TensorType) and domain.is_full(type.shape):
                ends[value] = i
                starts.setdefault(value, place.get(value.owner, i))
    barriers = [i for i, op in enumerate(ops) if isinstance(op, (tw.ReduceOp, tw.ScanOp))]
    # Between barriers values come and go one element at a time.
    return max([1, *(sum(starts[v] <= b < ends[v] for v in ends) for b in barriers)])


def _fits(cols: Sequence[Axis], alive: int) -> bool:
    elements = 1
    for axis in cols:
        if not isinstance(axis.extent, int) or axis.extent == 0:
            return False  # of no elements the neutral one is reduced, which a loop gives
        elements *= power_of_two(axis.extent)
    return elements * max(1, alive - HELD_BLOCKS + 1) <= HELD_ELEMENTS


def _row_loops(domain: Domain, expressions: Sequence[IntExpr], room: int, knobs: dict[str, int]) -> list[Loop]:
    """Rows as programs: several in one where a row alone is short, or where they lie side by side in memory."""
    if not domain.rows:
        return []
    beside = next((a for a in reversed(domain.rows) if _walks(a, expressions)), None)
    if beside is not None and not any(_walks(a, expressions) for a in domain.cols):
        room = max(room, LANES)
    chosen = beside or domain.rows[-1]
    rows = _block(chosen, room)
    if rows > 1:
        knobs["ROWS"] = rows
    return [Loop(a, "parallel", "ROWS" if a is chosen and rows > 1 else None) for a in domain.rows]


def _column_knobs(cols: Sequence[Axis]) -> list[str]:
    return ["COLS" if i == len(cols) - 1 else f"COLS_{i}" for i in range(len(cols))]


def _held(domain: Domain, expressions: Sequence[IntExpr]) -> Blocks:
    sizes = {name: power_of_two(_known(a)) for name, a in zip(_column_knobs(domain.cols), domain.cols)}
    elements = 1
    for size in sizes.values():
        elements *= size
    knobs: dict[str, int] = {}
    rows = _row_loops(domain, expressions, max(1, PROGRAM_ELEMENTS // elements), knobs)
    if knobs.get("ROWS", 1) * elements > HELD_ELEMENTS:
        return _walked(domain, expressions)  # columns side by side, each long
    cols = [Loop(a, "block", name) for name, a in zip(sizes, domain.cols)]
    return _finish(domain, rows, cols, {**knobs, **sizes}, held=True)


def _known(axis: Axis) -> int:
    assert isinstance(axis.extent, int)
    return axis.extent


def _walked(domain: Domain, expressions: Sequence[IntExpr]) -> Blocks:
    """A loop over blocks of the last column axis; other column axes are walked one by one around it."""
    last = domain.cols[-1]
    knobs: dict[str, int] = {}
    along = _walks(last, expressions) or not domain.rows
    rows = _row_loops(domain, expressions, 1, knobs)
    knobs["COLS"] = _block(last, WALKED_ELEMENTS if along or "ROWS" not in knobs else TILE)
    if along and "ROWS" in knobs:
        knobs["COLS"] = min(knobs["COLS"], max(1, WALKED_ELEMENTS // knobs["ROWS"]))
    cols = [Loop(a, "serial") for a in domain.cols[:-1]] + [Loop(last, "vector", "COLS")]
    return _finish(domain, rows, cols, knobs, held=False)


def _serial_scan(domain: Domain) -> Blocks:
    """A scan that no block holds runs in order, with rows side by side in lanes."""
    knobs: dict[str, int] = {}
    if domain.rows:
        knobs["ROWS"] = _block(domain.rows[-1], LANES)
    rows = [Loop(a, "parallel", "ROWS" if a is domain.rows[-1] else None) for a in domain.rows]
    return _finish(domain, rows, [Loop(a, "serial") for a in domain.cols], knobs, held=False)


def update_blocks(nest: Nest) -> Blocks:
    """The loops over a scatter's updates: lanes become blocks of programs, around what runs in order."""
    loops = [Loop(loop.axis, "parallel", "BLOCK") if loop.kind == "vector" else loop for loop in nest.rows]
    loops.sort(key=lambda loop: loop.kind == "serial")
    lanes = next((loop.axis for loop in loops if loop.knob), None)
    knobs = {"BLOCK": _block(lanes, PROGRAM_ELEMENTS // 4)} if lanes is not None else {}
    return _finish(nest.domain, loops, (), knobs, held=False)


class BlockEmitter(RegionEmitter):
    """Emits the tile program of one region for a GPU."""

    sum_block: ClassVar[Mapping[str, int]] = {}  # blocks are summed as trees, whose error grows with the logarithm

    def __init__(
        self, ops: Sequence[Operation], outputs: Sequence[SSAValue], blocks: Blocks, refs: Mapping[SSAValue, SSAValue],
        strides: Mapping[SSAValue, tuple[IntExpr, ...]], output_refs: Sequence[SSAValue],
        output_strides: Sequence[tuple[IntExpr, ...]], body: Block,
    ):
        super().__init__(ops, outputs, blocks.nest, refs, strides, output_refs, output_strides, body, 0)
        self.held = blocks.held

    def run(self) -> None:
        if not self.held:
            super().run()
            return
        loops = (*self.nest.rows, *self.nest.cols)
        for loop in loops:
            self.open(loop)
        self.store_outputs(range(len(self.outputs)))
        for _ in loops:
            self.close()

    def keep_values(self, plan: PhasePlan) -> None:
        """Memory that a program has written is not read back by it: which thread wrote an element is not known."""

    def reduction(self, op: tw.ReduceOp) -> Emitted:
        if not self.held:
            return super().reduction(op)
        if op not in self.reduced:
            source = self.visit(op.source, self.canonical_index(op))
            axes = [loop.axis.name for loop in self.nest.cols]
            made = self.emit(
                tile.ReduceOp.make(op.fn.data, source.value, axes), len(self.frames) - 1,
                op.result.name_hint or op.fn.data,
            )
            assert made is not None
            self.reduced[op] = made
        return self.reduced[op]


__all__ = ["BlockEmitter", "Blocks", "choose_blocks", "power_of_two", "update_blocks"]
