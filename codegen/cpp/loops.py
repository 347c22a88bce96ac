"""The forms in which loops print: plain, in lanes, in blocks with totals in double, on threads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from tilewright.ir.dtypes import compute_dtype
from tilewright.ir.expr import free_symbols
from tilewright.ir.scalars import BOOL, kind_of
from tilewright.ir.tile import ForOp, KernelOp, ScanOp, YieldOp, value_dtype

from .cost import work
from .functions import COMBINERS, SCANNERS, VALUE_TYPES, cast_text
from .schedule import KNOBS, Schedule
from .writer import Writer, can_fail, is_leaf

# Iterations whose partial result one thread computes where a parallel loop reduces, when the loop does not say.
LEAF_BLOCK, NEST_BLOCK = 4096, 16

POSITIONS = ("argmax", "argmin")


@dataclass(frozen=True)
class Accumulator:
    """One reduction of a loop: `name` holds the result so far, `best` the extreme value of argmax and argmin."""

    combiner: str
    dtype: str  # of the values that are combined
    name: str
    best: str

    @property
    def type(self) -> str:
        """The C++ type of `name`."""
        return "int64_t" if self.combiner in POSITIONS else self.value_type

    @property
    def value_type(self) -> str:
        return VALUE_TYPES[self.dtype]

    @property
    def neutral(self) -> str:
        """What an empty loop gives to `name` (for positions: to `best`)."""
        return COMBINERS[self.combiner].neutral[kind_of(self.dtype)].format(t=self.value_type)

    @property
    def start(self) -> str:
        return "0" if self.combiner in POSITIONS else self.neutral

    @property
    def is_float_sum(self) -> bool:
        return self.combiner == "sum" and kind_of(self.dtype) == "float"

    @property
    def clause(self) -> str:
        return COMBINERS[self.combiner].clause[kind_of(self.dtype)]

    @property
    def merge(self) -> str:
        """The function of two partial results."""
        return COMBINERS[self.combiner].merge

    def update(self, value: str, position: str, target: str | None = None, best: str | None = None) -> str:
        """The statement that takes one value in."""
        text = COMBINERS[self.combiner].update[kind_of(self.dtype)]
        return text.format(r=target or self.name, best=best or self.best, v=value, i=position)


def state_dtype(scan: ScanOp) -> str:
    """The dtype of what a scan keeps: running sums of floats are kept in double, as ATen does."""
    dtype = value_dtype(scan.value)
    return "f64" if SCANNERS[scan.fn.data].wide and kind_of(dtype) == "float" else compute_dtype(dtype)


class LoopPrinter(Writer):
    """Prints `tile.for`. What stands inside is printed by `operation`."""

    def __init__(self, kernel: KernelOp):
        super().__init__(kernel)
        self.schedule = Schedule.of(kernel)
        self.simd = "simd" + (f" simdlen({self.schedule.simdlen})" if self.schedule.simdlen else "")
        self.scan_bests: dict[ScanOp, str] = {}  # of scans for positions: the extreme value so far

    @abstractmethod
    def operation(self, op: Operation) -> None:
        """Print one op."""

    @abstractmethod
    def lane_blocks(self, op: ForOp) -> bool:
        """Print a vector loop around other loops in blocks of lanes; False where that cannot be done."""

    def operations(self, ops: Iterable[Operation]) -> None:
        for op in ops:
            self.operation(op)

    def loop(self, op: ForOp) -> None:
        """Print `op` in the form that its kind and surroundings call for."""
        if op.kind.data == "parallel" and not self.in_parallel and self.worth_threads(op):
            self.in_parallel = True
            (self._parallel_reduction if op.outputs else self._parallel_nest)(op)
            self.in_parallel = False
            return
        self.comment_lines(op)
        if op.kind.data == "vector" and not is_leaf(op) and self.lane_blocks(op):
            return
        accumulators = self.accumulators(op)
        self.declare_accumulators(accumulators)
        self._declare_scans(op)
        block = self.sum_block(op, accumulators)
        if block is None:
            self._counted(op, accumulators, "0", self.index(op.trip_count))
        else:
            self._in_blocks(op, accumulators, block)
        self.name_results(op, accumulators)

    # -- reductions

    def accumulators(self, op: ForOp) -> list[Accumulator]:
        result = []
        for combiner, value, output in zip(op.combiners, op.yielded, op.outputs):
            name = self.new_name(output)
            best = self.unique(f"{name}_best") if combiner in POSITIONS else ""
            result.append(Accumulator(combiner, compute_dtype(value_dtype(value)), name, best))
        return result

    def declare_accumulators(self, accumulators: Iterable[Accumulator]) -> None:
        for a in accumulators:
            self.emit(f"{a.type} {a.name} = {a.start};")
            if a.best:
                self.emit(f"{a.value_type} {a.best} = {a.neutral};")

    def name_results(self, op: ForOp, accumulators: Iterable[Accumulator]) -> None:
        for output, a in zip(op.outputs, accumulators):
            have = value_dtype(output) if a.combiner in POSITIONS else a.dtype
            self.texts[output] = cast_text(a.name, have, value_dtype(output))

    def sum_block(self, op: ForOp, accumulators: Iterable[Accumulator]) -> int | None:
        """The length of the blocks whose sums are added in double, where the loop is longer than one."""
        if op.block_size is None or not any(a.is_float_sum and a.dtype != "f64" for a in accumulators):
            return None
        block = op.block_size.ints()[0]
        return None if isinstance(op.trip_count, int) and op.trip_count <= block else block

    def yielded_value(self, op: ForOp, position: int) -> str:
        """The text of a yielded value in the type that it accumulates in."""
        value: SSAValue = op.yielded[position]
        return cast_text(self.text(value), value_dtype(value), compute_dtype(value_dtype(value)))

    # -- forms

    def _counted(self, op: ForOp, accumulators: list[Accumulator], start: str, stop: str) -> None:
        """`for (i = start; i < stop; ++i) { ... }`, in lanes where it may be."""
        if self._has_lanes_of_its_own(op, accumulators):
            self._in_lanes(op, accumulators, start, stop)
            return
        if op.kind.data != "serial" and is_leaf(op):
            self._simd_pragma(op, accumulators)
        with self.scope():
            axis = self.new_symbol(op.axis.data, op.trip_count)
            with self.braces(f"for (int64_t {axis} = {start}; {axis} < {stop}; ++{axis})"):
                self._body(op, accumulators)

    def _has_lanes_of_its_own(self, op: ForOp, accumulators: list[Accumulator]) -> bool:
        """Whether a reduction is long enough to keep as many partial results as there are lanes."""
        if op.kind.data == "serial" or not is_leaf(op) or not accumulators:
            return False
        lengths = [op.trip_count, *(op.block_size.data if op.block_size is not None else ())]
        if any(isinstance(length, int) and length < 2 * self.schedule.lanes for length in lengths):
            return False
        return all(a.combiner not in POSITIONS and kind_of(a.dtype) != BOOL for a in accumulators)

    def _in_lanes(self, op: ForOp, accumulators: list[Accumulator], start: str, stop: str) -> None:
        """A reduction in as many partial results as the schedule has lanes, which gcc keeps in registers: one alone
        would wait for its own last update in every step. What is left of the loop goes into the first lanes."""
        width = self.schedule.lanes
        lanes = [Accumulator(a.combiner, a.dtype, self.unique(f"{a.name}_lanes"), "") for a in accumulators]
        for a in lanes:
            self.emit(f"{a.type} {a.name}[{width}];")
            self.emit(f"for ({a.type}& r : {a.name}) r = {a.start};")
        lengths = [op.trip_count, *(op.block_size.data if op.block_size is not None else ())]
        whole = all(isinstance(length, int) and length % width == 0 for length in lengths)
        full, rest = stop, ""
        if not whole and stop.isdigit():
            full, rest = str(int(stop) // width * width), str(int(stop) % width)
        elif not whole:
            full = self.unique(f"{op.axis.data}_full")
            first, length = ("", stop) if start == "0" else (f"{start} + ", f"{stop} - {start}")
            length = length if length.isidentifier() else f"({length})"
            self.emit(f"const int64_t {full} = {first}{length} / {width} * {width};")
            rest = f"{stop} - {full}"
        with self.scope():
            first = self.unique(f"{op.axis.data}_lanes")
            with self.braces(f"for (int64_t {first} = {start}; {first} < {full}; {first} += {width})"):
                self._lane_loop(op, lanes, first, str(width))
        if rest:
            self._lane_loop(op, lanes, full, rest)
        for a, each in zip(accumulators, lanes):
            self.emit(a.update(f"tw::fold({each.name}, {each.merge}())", ""))

    def _lane_loop(self, op: ForOp, lanes: list[Accumulator], first: str, count: str) -> None:
        """`count` iterations of `op` from `first` on, each with accumulators of its own."""
        failed = " reduction(| : failed)" if can_fail(op) else ""
        self.emit(f"#pragma omp {self.simd}{failed}")
        with self.scope(), self.braces(f"for (int64_t lane = 0; lane < {count}; ++lane)"):
            axis = self.new_symbol(op.axis.data, op.trip_count)
            self.emit(f"const int64_t {axis} = {first} + lane;")
            self._body(op, [Accumulator(a.combiner, a.dtype, f"{a.name}[lane]", "") for a in lanes])

    def _body(self, op: ForOp, accumulators: list[Accumulator]) -> None:
        self.operations(o for o in op.body.block.ops if not isinstance(o, YieldOp))
        for position, a in enumerate(accumulators):
            self.emit(a.update(self.yielded_value(op, position), self.symbols[op.axis.data]))

    def _declare_scans(self, op: ForOp) -> None:
        for scan in op.body.block.ops:
            if isinstance(scan, ScanOp):
                for name, kind, start in self.scan_states(scan):
                    self.emit(f"{kind} {name} = {start};")

    def scan_states(self, scan: ScanOp) -> list[tuple[str, str, str]]:
        """Name, type and first value of what the scan keeps: its state, which from here on stands for the result, and
        for a position the best value so far."""
        scanner, dtype = SCANNERS[scan.fn.data], state_dtype(scan)
        start = scanner.start[kind_of(value_dtype(scan.value))].format(t=VALUE_TYPES[dtype])
        name = self.unique(f"{scan.result.name_hint or 'scan'}_running")
        self.texts[scan.result] = name
        if not scanner.position:
            return [(name, VALUE_TYPES[dtype], start)]
        self.scan_bests[scan] = best = self.unique(f"{name}_best")
        return [(name, "int64_t", "0"), (best, VALUE_TYPES[dtype], start)]

    def _simd_pragma(self, op: ForOp, accumulators: list[Accumulator]) -> None:
        if any(a.combiner in POSITIONS for a in accumulators):
            return  # the first of equal extremes: in order
        clauses = [f"reduction({a.clause} : {a.name})" for a in accumulators]
        if can_fail(op):
            clauses.append("reduction(| : failed)")
        self.emit(" ".join([f"#pragma omp {self.simd}", *clauses]))

    def _in_blocks(self, op: ForOp, accumulators: list[Accumulator], block: int) -> None:
        """Float sums in blocks: each block in lanes of its own type, the blocks' sums in double."""
        sums = [a for a in accumulators if a.is_float_sum]
        totals = {a.name: self.unique(f"{a.name}_total") for a in sums}
        for a in sums:
            self.emit(f"double {totals[a.name]} = 0;")
        start, stop = self.unique(f"{op.axis.data}_start"), self.unique(f"{op.axis.data}_stop")
        extent = self.index(op.trip_count)
        with self.braces(f"for (int64_t {start} = 0; {start} < {extent}; {start} += {block})"):
            self.emit(f"const int64_t {stop} = tw::index_min({start} + {block}, {extent});")
            for a in sums:
                self.emit(f"{a.name} = 0;")
            self._counted(op, accumulators, start, stop)
            for a in sums:
                self.emit(f"{totals[a.name]} += {a.name};")
        for a in sums:
            self.emit(f"{a.name} = {a.type}({totals[a.name]});")

    # -- threads

    def worth_threads(self, op: ForOp, lanes: int = 1) -> bool:
        """Whether `op`, each of whose iterations runs in so many lanes, is work for threads as far as one can tell."""
        total = work(op) * lanes
        return not isinstance(total, int) or total >= self.schedule.parallel_work

    def threads_clauses(self, op: ForOp, lanes: int = 1) -> list[str]:
        clauses = ["schedule(static)"]
        total = work(op) * lanes
        if not isinstance(total, int):
            # Without its name the clause would also switch off the lanes of `parallel for simd`.
            least = self.schedule.parallel_work
            limit = "tw::parallel_work" if least == KNOBS["PARALLEL_WORK"].default else str(least)
            clauses.append(f"if (parallel : {self.index(total)} >= {limit})")
        if can_fail(op):
            clauses.append("reduction(| : failed)")
        return clauses

    def _parallel_nest(self, op: ForOp) -> None:
        """Directly nested parallel loops share the threads; an innermost one without loops inside runs in lanes."""
        self.comment_lines(op)
        nest = [op]
        axes: set[str] = {op.axis.data}
        while (inner := _only_parallel_loop(nest[-1])) is not None and not free_symbols(inner.trip_count) & axes:
            nest.append(inner)
            axes.add(inner.axis.data)
        lanes = is_leaf(nest[-1])
        if lanes and len(nest) > 1:
            nest.pop()
        pragma = ["#pragma omp parallel for" + (f" {self.simd}" if lanes and is_leaf(nest[-1]) else "")]
        if len(nest) > 1:
            pragma.append(f"collapse({len(nest)})")
        self.emit(" ".join(pragma + self.threads_clauses(op)))
        with ExitStack() as braces:
            for loop in nest:
                braces.enter_context(self.scope())
                axis = self.new_symbol(loop.axis.data, loop.trip_count)
                head = f"for (int64_t {axis} = 0; {axis} < {self.index(loop.trip_count)}; ++{axis})"
                braces.enter_context(self.braces(head))
            self._body(nest[-1], [])

    def _parallel_reduction(self, op: ForOp) -> None:
        """Blocks on threads; their partial results are combined in order, the same for any number of threads."""
        self.comment_lines(op)
        block = op.block_size.ints()[0] if op.block_size is not None else LEAF_BLOCK if is_leaf(op) else NEST_BLOCK
        axis, extent = op.axis.data, self.index(op.trip_count)
        blocks, number = self.unique(f"{axis}_blocks"), self.unique(f"{axis}_block")
        start, stop = self.unique(f"{axis}_start"), self.unique(f"{axis}_stop")
        results = self.accumulators(op)
        inner = [
            Accumulator(
                a.combiner, a.dtype, self.unique(f"{a.name}_of_block"), a.best and self.unique(f"{a.best}_of_block")
            )
            for a in results
        ]
        self.emit(f"const int64_t {blocks} = ({extent} + {block - 1}) / {block};")
        partial = {}
        for a in inner:
            for kind, name in ((a.type, a.name), (a.value_type, a.best)):
                if name:
                    partial[name] = self.scratch(kind, self.unique(f"{name}s"), blocks)
        self.emit(" ".join(["#pragma omp parallel for", *self.threads_clauses(op)]))
        with self.braces(f"for (int64_t {number} = 0; {number} < {blocks}; ++{number})"):
            self.emit(f"const int64_t {start} = {number} * {block};")
            self.emit(f"const int64_t {stop} = tw::index_min({start} + {block}, {extent});")
            self.declare_accumulators(inner)
            self._counted(op, inner, start, stop)
            for name, array in partial.items():
                self.emit(f"{array}[{number}] = {name};")
        for a in results:
            kind = "double" if a.is_float_sum else a.type
            self.emit(f"{kind} {a.name} = {a.start};")
            if a.best:
                self.emit(f"{a.value_type} {a.best} = {a.neutral};")
        with self.braces(f"for (int64_t {number} = 0; {number} < {blocks}; ++{number})"):
            for a, part in zip(results, inner):
                value = partial[part.best or part.name]
                self.emit(a.update(f"{value}[{number}]", f"{partial[part.name]}[{number}]"))
        for output, a in zip(op.outputs, results):
            have = "f64" if a.is_float_sum else value_dtype(output) if a.combiner in POSITIONS else a.dtype
            self.texts[output] = cast_text(a.name, have, value_dtype(output))

    @abstractmethod
    def scratch(self, kind: str, name: str, count: str) -> str:
        """Emit a thread's growing buffer of `count` elements called `name`; gives the name."""


def _only_parallel_loop(op: ForOp) -> ForOp | None:
    """The parallel loop that is all of the body, if so."""
    ops = list(op.body.block.ops)
    if len(ops) == 1 and isinstance(ops[0], ForOp) and ops[0].kind.data == "parallel" and not ops[0].outputs:
        return ops[0]
    return None
