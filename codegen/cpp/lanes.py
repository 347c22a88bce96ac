"""Vector loops around other loops: the lanes move inwards.

A column reduction is a vector loop over columns around a serial loop over rows. It prints as blocks of `LANES` columns;
inside, the rows are walked once for the whole block, and whatever lives across the inner loop is an array of lanes::

    for (int64_t i1_start = 0; i1_start < 1000; i1_start += 64) {
      float sum[64];                                       // one accumulator a lane
      for (float& r : sum) r = 0;
      for (int64_t i0 = 0; i0 < s0; ++i0) {
        #pragma omp simd
        for (int64_t lane = 0; lane < lanes; ++lane) { const int64_t i1 = i1_start + lane; ... sum[lane] += v; }
      }
      ...
    }
"""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir.expr import free_symbols
from tilewright.ir.tile import AllocOp, ConstantOp, ForOp, IndexOp, ScanOp, YieldOp, index_expressions, value_dtype

from .functions import VALUE_TYPES
from .loops import LANES, Accumulator, LoopPrinter
from .writer import can_fail


class _Segments:
    """Runs of ops between inner loops, numbered; a value used outside of its run needs an array."""

    def __init__(self, op: ForOp):
        self.number: dict[Operation, int] = {}
        self.count = 0
        self._visit(op.body.block)

    def _visit(self, block: Block) -> None:
        self.count += 1
        for op in block.ops:
            if isinstance(op, ForOp):
                self._visit(op.body.block)
                self.count += 1
            else:
                self.number[op] = self.count

    def crosses(self, value: SSAValue) -> bool:
        assert isinstance(value.owner, Operation)
        own = self.number[value.owner]
        return any(self.number.get(use.operation) != own for use in value.uses)

    def labels_cross(self) -> bool:
        """Whether a computed position is used outside of the run that computes it."""
        home = {op.label.data: n for op, n in self.number.items() if isinstance(op, IndexOp)}
        return any(
            home.get(name, n) != n
            for op, n in self.number.items() for expr in index_expressions(op) for name in free_symbols(expr)
        )


class LanePrinter(LoopPrinter):
    """Adds `lane_blocks` to the forms of loops."""

    def lane_blocks(self, op: ForOp) -> bool:
        segments = _Segments(op)
        inner = [o for o in op.body.walk() if isinstance(o, ForOp)]
        if (
            segments.labels_cross()
            or any(isinstance(o, AllocOp) for o in op.body.walk())
            or any(op.axis.data in free_symbols(loop.trip_count) for loop in inner)
            or any(c in ("argmax", "argmin") for c in op.combiners)
        ):
            return False
        own = self.accumulators(op)
        self.declare_accumulators(own)
        size = op.trip_count
        with self.scope():
            if isinstance(size, int) and size <= LANES:
                axis = self.new_symbol(op.axis.data, size)
                head = f"for (int64_t {axis} = 0; {axis} < {size}; ++{axis})"
                _Block(self, segments, op, own, size, axis, head, None).body(op)
            else:
                self._many_blocks(op, segments, own)
        self.name_results(op, own)
        return True

    def _many_blocks(self, op: ForOp, segments: _Segments, own: list[Accumulator]) -> None:
        extent = self.index(op.trip_count)
        start = self.unique(f"{op.axis.data}_start")
        axis = self.new_symbol(op.axis.data, op.trip_count)
        with self.braces(f"for (int64_t {start} = 0; {start} < {extent}; {start} += {LANES})"):
            count = str(LANES)
            if not (isinstance(op.trip_count, int) and op.trip_count % LANES == 0):
                count = "lanes"
                self.emit(f"const int64_t lanes = tw::index_min({LANES}, {extent} - {start});")
            head = f"for (int64_t lane = 0; lane < {count}; ++lane)"
            position = f"const int64_t {axis} = {start} + lane;"
            _Block(self, segments, op, own, LANES, "lane", head, position).body(op)


class _Block:
    """Prints the body of one block of `width` lanes.

    `lane` is the index into arrays of lanes, `head` the loop over the lanes, `position` the statement that gives the
    axis where the lane is not the axis itself.
    """

    def __init__(
        self, printer: LanePrinter, segments: _Segments, outer: ForOp, own: list[Accumulator], width: int, lane: str,
        head: str, position: str | None,
    ):
        self.printer = printer
        self.segments = segments
        self.outer = outer
        self.own = own
        self.width = width
        self.lane = lane
        self.head = head
        self.position = position

    def body(self, op: ForOp, accumulators: list[Accumulator] | None = None) -> None:
        """The runs and loops of `op`'s body. `accumulators`: the arrays that the yielded values go to."""
        for run in _runs(op.body.block):
            if isinstance(run, ForOp):
                self._loop(run)
            else:
                self._run(run, accumulators)

    def _run(self, ops: list[Operation], accumulators: list[Accumulator] | None) -> None:
        printer = self.printer
        ops = [o for o in ops if not isinstance(o, ConstantOp)]
        yields = [o for o in ops if isinstance(o, YieldOp)]
        if len(ops) == len(yields) and not any(y.args for y in yields):
            return
        crossing = [
            r for o in ops for r in o.results if isinstance(r, SSAValue) and r.uses and self.segments.crosses(r)
        ]
        arrays = {value: self._array(value) for value in crossing}
        clauses = ["reduction(| : failed)"] if any(can_fail(o) for o in ops) else []
        if yields and accumulators is None:
            clauses += [f"reduction({a.clause} : {a.name})" for a in self.own]
        printer.emit(" ".join(["#pragma omp simd", *clauses]))
        with printer.braces(self.head):
            if self.position is not None:
                printer.emit(self.position)
            for op in ops:
                if isinstance(op, YieldOp):
                    self._yield(op, accumulators)
                    continue
                printer.operation(op)
                for value in op.results:
                    if value in arrays:
                        printer.emit(f"{arrays[value]}[{self.lane}] = {printer.texts[value]};")
        for value, array in arrays.items():
            printer.texts[value] = f"{array}[{self.lane}]"

    def _yield(self, op: YieldOp, accumulators: list[Accumulator] | None) -> None:
        loop = op.parent_op()
        assert isinstance(loop, ForOp)
        position = self.printer.symbols[loop.axis.data]
        for index, a in enumerate(self.own if accumulators is None else accumulators):
            value = self.printer.yielded_value(loop, index)
            if accumulators is None:
                self.printer.emit(a.update(value, position))
            else:
                self.printer.emit(a.update(value, position, f"{a.name}[{self.lane}]", f"{a.best}[{self.lane}]"))

    def _array(self, value: SSAValue) -> str:
        name = self.printer.unique(f"{value.name_hint or 'v'}_lanes")
        self.printer.emit(f"{VALUE_TYPES[value_dtype(value)]} {name}[{max(self.width, 1)}];")
        return name

    def _fill(self, kind: str, name: str, value: str) -> None:
        self.printer.emit(f"{kind} {name}[{max(self.width, 1)}];")
        self.printer.emit(f"for ({kind}& r : {name}) r = {value};")

    def _loop(self, op: ForOp) -> None:
        """An inner loop, walked once for all lanes."""
        printer = self.printer
        printer.comment_lines(op)
        accumulators = printer.accumulators(op)
        for a in accumulators:
            self._fill(a.type, a.name, a.start)
            if a.best:
                self._fill(a.value_type, a.best, a.neutral)
        for scan in op.body.block.ops:
            if isinstance(scan, ScanOp):
                for name, kind, start in printer.scan_states(scan):
                    self._fill(kind, name, start)
                printer.texts[scan.result] += f"[{self.lane}]"
                if scan in printer.scan_bests:
                    printer.scan_bests[scan] += f"[{self.lane}]"
        block = printer.sum_block(op, accumulators)
        extent = printer.index(op.trip_count)
        if block is None:
            self._counted(op, accumulators, "0", extent)
        else:
            self._in_blocks(op, accumulators, block, extent)
        results = [
            Accumulator(a.combiner, a.dtype, f"{a.name}[{self.lane}]", f"{a.best}[{self.lane}]") for a in accumulators
        ]
        printer.name_results(op, results)

    def _counted(self, op: ForOp, accumulators: list[Accumulator], start: str, stop: str) -> None:
        with self.printer.scope():
            axis = self.printer.new_symbol(op.axis.data, op.trip_count)
            with self.printer.braces(f"for (int64_t {axis} = {start}; {axis} < {stop}; ++{axis})"):
                self.body(op, accumulators)

    def _in_blocks(self, op: ForOp, accumulators: list[Accumulator], block: int, extent: str) -> None:
        printer = self.printer
        totals = {a.name: printer.unique(f"{a.name}_total") for a in accumulators if a.is_float_sum}
        for total in totals.values():
            self._fill("double", total, "0")
        start, stop = printer.unique(f"{op.axis.data}_start"), printer.unique(f"{op.axis.data}_stop")
        with printer.braces(f"for (int64_t {start} = 0; {start} < {extent}; {start} += {block})"):
            printer.emit(f"const int64_t {stop} = tw::index_min({start} + {block}, {extent});")
            for a in accumulators:
                if a.name in totals:
                    printer.emit(f"for ({a.type}& r : {a.name}) r = 0;")
            self._counted(op, accumulators, start, stop)
            self._all_lanes(f"{total}[{self.lane}] += {name}[{self.lane}];" for name, total in totals.items())
        types = {a.name: a.type for a in accumulators}
        self._all_lanes(f"{name}[{self.lane}] = {types[name]}({total}[{self.lane}]);" for name, total in totals.items())

    def _all_lanes(self, statements: Iterator[str]) -> None:
        with self.printer.braces(self.head):
            for statement in statements:
                self.printer.emit(statement)


def _runs(block: Block) -> Iterator[ForOp | list[Operation]]:
    """The ops of a block: inner loops, and what stands between them."""
    run: list[Operation] = []
    for op in block.ops:
        if isinstance(op, ForOp):
            if run:
                yield run
            run = []
            yield op
        else:
            run.append(op)
    if run:
        yield run
