"""Vector loops around other loops: the lanes move inwards.

A column reduction is a vector loop over columns around a loop over rows. It prints as blocks of columns; inside, the
rows are walked once for the whole block, and whatever lives across the inner loop is an array of lanes::

    for (int64_t i1_start = 0; i1_start < s1; i1_start += 1024) {
      float sum[1024];                                     // one accumulator a lane
      for (float& r : sum) r = 0;
      for (int64_t i0 = 0; i0 < s0; ++i0) {
        #pragma omp simd
        for (int64_t lane = 0; lane < lanes; ++lane) { const int64_t i1 = i1_start + lane; ... sum[lane] += v; }
      }
      ...
    }

Blocks are wide, since a walk down the rows is slow where it takes a few elements of each. Where the rows are a parallel
loop, each thread reduces blocks of rows, whose partial results are combined in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir.dtypes import itemsize
from tilewright.ir.expr import free_symbols
from tilewright.ir.tile import AllocOp, ConstantOp, ForOp, IndexOp, ScanOp, YieldOp, index_expressions, value_dtype

from .functions import VALUE_TYPES
from .loops import Accumulator, LoopPrinter
from .writer import can_fail

# A block has fewer columns than the schedule allows, though no fewer than `LEAST_LANES`, where their arrays would take
# more bytes.
LEAST_LANES, LANE_BYTES = 64, 160 << 10


class _Segments:
    """Runs of ops between inner loops, numbered; a value used outside of its run needs an array."""

    def __init__(self, op: ForOp):
        self.number: dict[Operation, int] = {}
        self.loops: list[ForOp] = []
        self.count = 0
        self._visit(op.body.block)

    def _visit(self, block: Block) -> None:
        self.count += 1
        for op in block.ops:
            if isinstance(op, ForOp):
                self.loops.append(op)
                self._visit(op.body.block)
                self.count += 1
            else:
                self.number[op] = self.count

    def crosses(self, value: SSAValue) -> bool:
        assert isinstance(value.owner, Operation)
        own = self.number[value.owner]
        return any(self.number.get(use.operation) != own for use in value.uses)

    def width(self, most: int) -> int:
        """The columns of a block, `most` or fewer."""
        kept = [r for op in self.number for r in op.results if not isinstance(op, ConstantOp) and self.crosses(r)]
        sizes = [itemsize(value_dtype(r)) for r in kept]
        results = [itemsize(value_dtype(r)) for loop in self.loops for r in loop.outputs]
        sizes += [size if size >= itemsize("f64") else size + itemsize("f64") for size in results]  # with its total
        width = most
        while width > LEAST_LANES and width * sum(sizes) > LANE_BYTES:
            width //= 2
        return width

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
        if (
            segments.labels_cross()
            or any(isinstance(o, AllocOp) for o in op.body.walk())
            or any(op.axis.data in free_symbols(loop.trip_count) for loop in segments.loops)
            or any(c in ("argmax", "argmin") for c in op.combiners)
        ):
            return False
        own = self.accumulators(op)
        self.declare_accumulators(own)
        size, width = op.trip_count, segments.width(self.schedule.column_block)
        with self.scope():
            if isinstance(size, int) and size <= width:
                axis = self.new_symbol(op.axis.data, size)
                head = f"for (int64_t {axis} = 0; {axis} < {size}; ++{axis})"
                _Block(self, segments, op, own, size, axis, head, None).body(op)
            else:
                self._many_blocks(op, segments, own, width)
        self.name_results(op, own)
        return True

    def _many_blocks(self, op: ForOp, segments: _Segments, own: list[Accumulator], width: int) -> None:
        extent = self.index(op.trip_count)
        start = self.unique(f"{op.axis.data}_start")
        axis = self.new_symbol(op.axis.data, op.trip_count)
        with self.braces(f"for (int64_t {start} = 0; {start} < {extent}; {start} += {width})"):
            count = str(width)
            if not (isinstance(op.trip_count, int) and op.trip_count % width == 0):
                count = "lanes"
                self.emit(f"const int64_t lanes = tw::index_min({width}, {extent} - {start});")
            head = f"for (int64_t lane = 0; lane < {count}; ++lane)"
            position = f"const int64_t {axis} = {start} + lane;"
            _Block(self, segments, op, own, width, "lane", head, position).body(op)


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
        printer.emit(" ".join([f"#pragma omp {printer.simd}", *clauses]))
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
        on_threads = op.kind.data == "parallel" and not printer.in_parallel and printer.worth_threads(op, self.width)
        printer.in_parallel |= on_threads
        if on_threads:
            (self._parallel_reduction if accumulators else self._parallel_rows)(op, accumulators)
            printer.in_parallel = False
        else:
            self._reduction(op, accumulators, "0", printer.index(op.trip_count))
        printer.name_results(op, [_lane_of(a, self.lane) for a in accumulators])

    def _declare(self, accumulators: Iterable[Accumulator]) -> None:
        for a in accumulators:
            self._fill(a.type, a.name, a.start)
            if a.best:
                self._fill(a.value_type, a.best, a.neutral)

    def _reduction(self, op: ForOp, accumulators: list[Accumulator], start: str, stop: str) -> None:
        """The iterations from `start` to `stop`, in order."""
        printer = self.printer
        self._declare(accumulators)
        for scan in op.body.block.ops:
            if isinstance(scan, ScanOp):
                for name, kind, first in printer.scan_states(scan):
                    self._fill(kind, name, first)
                printer.texts[scan.result] += f"[{self.lane}]"
                if scan in printer.scan_bests:
                    printer.scan_bests[scan] += f"[{self.lane}]"
        block = printer.sum_block(op, accumulators)
        if block is None:
            self._counted(op, accumulators, start, stop)
        else:
            self._in_blocks(op, accumulators, block, start, stop)

    def _parallel_rows(self, op: ForOp, accumulators: list[Accumulator]) -> None:
        self.printer.emit(" ".join(["#pragma omp parallel for", *self.printer.threads_clauses(op, self.width)]))
        self._counted(op, accumulators, "0", self.printer.index(op.trip_count))

    def _parallel_reduction(self, op: ForOp, accumulators: list[Accumulator]) -> None:
        """Blocks of rows on threads; their partial results are combined in order, whatever the number of threads."""
        printer, axis, extent = self.printer, op.axis.data, self.printer.index(op.trip_count)
        rows = printer.schedule.row_block
        blocks, number = printer.unique(f"{axis}_blocks"), printer.unique(f"{axis}_block")
        printer.emit(f"const int64_t {blocks} = ({extent} + {rows - 1}) / {rows};")
        partial = {}
        for a in accumulators:
            for kind, name in ((a.type, a.name), (a.value_type, a.best)):
                if name:
                    array = printer.unique(f"{name}_of_blocks")
                    partial[name] = printer.scratch(kind, array, f"{blocks} * {self.width}")
        printer.emit(" ".join(["#pragma omp parallel for", *printer.threads_clauses(op, self.width)]))
        each_block = f"for (int64_t {number} = 0; {number} < {blocks}; ++{number})"
        place = f"[{number} * {self.width} + {self.lane}]"
        with printer.braces(each_block):
            start, stop = printer.unique(f"{axis}_first"), printer.unique(f"{axis}_last")
            printer.emit(f"const int64_t {start} = {number} * {rows};")
            printer.emit(f"const int64_t {stop} = tw::index_min({start} + {rows}, {extent});")
            self._reduction(op, accumulators, start, stop)
            self._all_lanes(f"{array}{place} = {name}[{self.lane}];" for name, array in partial.items())
        self._declare(accumulators)
        totals = self._totals(accumulators)
        with printer.braces(each_block), printer.braces(self.head):
            for a in accumulators:
                value = f"{partial[a.best or a.name]}{place}"
                target = f"{totals.get(a.name, a.name)}[{self.lane}]"
                printer.emit(a.update(value, f"{partial[a.name]}{place}", target, f"{a.best}[{self.lane}]"))
        self._round_totals(accumulators, totals)

    def _counted(self, op: ForOp, accumulators: list[Accumulator], start: str, stop: str) -> None:
        with self.printer.scope():
            axis = self.printer.new_symbol(op.axis.data, op.trip_count)
            with self.printer.braces(f"for (int64_t {axis} = {start}; {axis} < {stop}; ++{axis})"):
                self.body(op, accumulators)

    def _in_blocks(self, op: ForOp, accumulators: list[Accumulator], block: int, first: str, last: str) -> None:
        printer = self.printer
        totals = self._totals(accumulators)
        start, stop = printer.unique(f"{op.axis.data}_start"), printer.unique(f"{op.axis.data}_stop")
        with printer.braces(f"for (int64_t {start} = {first}; {start} < {last}; {start} += {block})"):
            printer.emit(f"const int64_t {stop} = tw::index_min({start} + {block}, {last});")
            for a in accumulators:
                if a.name in totals:
                    printer.emit(f"for ({a.type}& r : {a.name}) r = 0;")
            self._counted(op, accumulators, start, stop)
            self._all_lanes(f"{total}[{self.lane}] += {name}[{self.lane}];" for name, total in totals.items())
        self._round_totals(accumulators, totals)

    def _totals(self, accumulators: Iterable[Accumulator]) -> dict[str, str]:
        """Declares a total in double for each sum of floats narrower than that; the totals' names by the sums'."""
        sums = [a.name for a in accumulators if a.is_float_sum and a.dtype != "f64"]
        totals = {name: self.printer.unique(f"{name}_total") for name in sums}
        for total in totals.values():
            self._fill("double", total, "0")
        return totals

    def _round_totals(self, accumulators: Iterable[Accumulator], totals: dict[str, str]) -> None:
        types = {a.name: a.type for a in accumulators}
        statements = [f"{n}[{self.lane}] = {types[n]}({total}[{self.lane}]);" for n, total in totals.items()]
        if statements:
            self._all_lanes(statements)

    def _all_lanes(self, statements: Iterable[str]) -> None:
        self.printer.emit(f"#pragma omp {self.printer.simd}")
        with self.printer.braces(self.head):
            for statement in statements:
                self.printer.emit(statement)


def _lane_of(a: Accumulator, lane: str) -> Accumulator:
    """One lane of an array of accumulators."""
    return Accumulator(a.combiner, a.dtype, f"{a.name}[{lane}]", f"{a.best}[{lane}]" if a.best else "")


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
