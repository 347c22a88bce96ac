"""How the Triton printer writes loops that are not programs, and what is combined along them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from xdsl.ir import Operation, SSAValue

from tilewright.ir.dtypes import DTYPES, compute_dtype
from tilewright.ir.tile import ConstantOp, ForOp, KernelOp, ReduceOp, ScanOp, value_dtype

from .functions import COMBINERS, SCANNERS, TYPES, Combiner, cast_text, neutral_text
from .writer import Dims, Writer

POSITIONS = ("argmax", "argmin")


class LoopPrinter(Writer):
    """Prints block loops, walks over blocks, reductions and scans. What stands inside is printed by `operations`."""

    def __init__(self, kernel: KernelOp):
        super().__init__(kernel)
        self.fills: dict[SSAValue, str] = {}  # what the elements of a loaded block are that do not exist
        self.scans: dict[ScanOp, tuple[str, str]] = {}  # the state of a scan in a serial loop, and its best value

    @abstractmethod
    def operations(self, ops: Iterable[Operation]) -> None:
        """Print a loop's body."""

    # -- axes

    def dim(self, op: ForOp) -> int:
        [dim] = self.dims_of_name[op.axis.data]
        return dim

    def mask_axis(self, op: ForOp, axis: str) -> None:
        """Tell which positions exist, unless blocks divide the extent."""
        assert op.knob is not None
        dim, extent = self.dim(op), op.trip_count
        self.masks.pop(dim, None)
        if isinstance(extent, int) and extent % self.kernel.knobs[op.knob.data] == 0:
            return
        self.masks[dim] = name = self.unique(f"{axis}_mask")
        self.emit(f"{name} = {axis} < {self.index(extent)}")

    def typed(self, value: SSAValue) -> str:
        """A text of the value's own type, also of a constant."""
        text = self.text(value)
        if not isinstance(value.owner, ConstantOp) or "tl.full" in text:
            return text
        return f"tl.full([], {text.strip('()') if text.startswith('(') else text}, {TYPES[value_dtype(value)]})"

    # -- reductions and scans

    def reduce(self, op: ReduceOp) -> None:
        dims = frozenset().union(*(self.dims_of_name[axis] for axis in op.axis_names))
        combiner = COMBINERS[op.fn.data]
        value = combiner.taken.format(v=self._whole(op.value, dims, combiner))
        position = self.symbols[op.axis_names[0]]
        self.declare(op.result, self._reduced(
            op.fn.data, value, position, self.varies[op.value] | dims, dims, value_dtype(op.value),
            value_dtype(op.result),
        ))

    def _whole(self, value: SSAValue, dims: Dims, combiner: Combiner) -> str:
        """The text of a value as a block over `dims` too, with the neutral element where nothing exists."""
        neutral = neutral_text(combiner, value_dtype(value))
        mask = self.mask(dims)
        if mask and self.fills.get(value) != neutral:
            return f"tl.where({mask}, {self.text(value)}, {neutral})"
        if not dims <= self.varies[value]:
            return f"tl.broadcast_to({self.typed(value)}, {self.shape(self.varies[value] | dims)})"
        return self.text(value)

    def _reduced(
        self, name: str, value: str, position: str, have: Dims, dims: Dims, dtype: str, result: str
    ) -> str:
        """A block over `have` reduced over `dims`: to a scalar where nothing is left, else to size 1 in those dims."""
        compute = compute_dtype(dtype)
        if name in POSITIONS:
            places = f"tl.broadcast_to({position}, {self.shape(have)})" if self.rank > 1 else position
            keep = "" if have == dims else ", keep_dims=True"
            whole = "None" if have == dims and self.rank > 1 else str(min(dims))
            pair = f"tl.reduce(({value}, {places}), {whole}, {COMBINERS[name].function}{keep})"
            return f"{pair}[1].to(tl.int64)"
        axes: list[int | None] = [None] if have == dims and self.rank > 1 else list(sorted(dims))
        keep = "" if have == dims else ", keep_dims=True"
        for axis in axes:
            if name == "sum":
                value = f"tl.sum({value}, {axis}{keep})"
            else:
                value = f"tl.reduce({value}, {axis}, {COMBINERS[name].function}{keep})"
        small = name == "sum" and DTYPES[compute].is_integer and DTYPES[compute].itemsize < 4
        return cast_text(value, "i32" if small else compute, result)

    def scan(self, op: ScanOp) -> None:
        loop, dtype = op.parent_op(), value_dtype(op.value)
        assert isinstance(loop, ForOp)
        position, scanner = self.symbols[loop.axis.data], SCANNERS[op.fn.data]
        if loop.kind.data == "serial":
            state, best = self.scans[op]
            text = scanner.update.format(r=state, v=self.text(op.value), best=best, i=position)
            self.emit(text if best else f"{state} = {text}")
            self.texts[op.result] = cast_text(state, "i64" if best else dtype, value_dtype(op.result))
            return
        [dim] = self.dims_of_name[loop.axis.data]
        value, dims = self.text(op.value), self.varies[op.value] | {dim}
        if dim not in self.varies[op.value]:
            value = f"tl.broadcast_to({self.typed(op.value)}, {self.shape(dims)})"
        if op.fn.data not in POSITIONS:
            self.declare(op.result, f"tl.associative_scan({value}, {dim}, {scanner.function})")
            return
        places = f"tl.broadcast_to({position}, {self.shape(dims)})" if self.rank > 1 else position
        pair = f"tl.associative_scan(({value}, {places}), {dim}, {scanner.function})"
        self.declare(op.result, f"{pair}[1].to(tl.int64)")

    # -- loops

    def block(self, op: ForOp) -> None:
        assert op.knob is not None
        axis = self.new_symbol(op.axis.data, op.trip_count)
        self.emit(f"{axis} = tl.arange(0, {op.knob.data}){self.placed(self.dim(op))}{self._width(op)}")
        self.mask_axis(op, axis)
        self.operations(op.body.block.ops)

    def _width(self, op: ForOp) -> str:
        """What widens an arange; where only the call knows the extent, what it is added to is an int64."""
        return ".to(tl.int64)" if op.axis.data in self.wide and isinstance(op.trip_count, int) else ""

    def walk(self, op: ForOp) -> None:
        """A loop over blocks, or over single iterations; each reduction has a variable, or a block of lanes."""
        dims = self.dims_of_name[op.axis.data]
        states = [self._state(op, position, dims) for position in range(len(op.outputs))]
        for scan in op.body.block.ops:
            if isinstance(scan, ScanOp):
                self._scan_state(scan)
        taken, symbols, extents, masks = set(self.taken), dict(self.symbols), dict(self.extents), dict(self.masks)
        extent = self.index(op.trip_count)
        axis = self.new_symbol(op.axis.data, op.trip_count)
        if op.knob is None:
            head = f"for {axis} in range(0, {extent}):"
        else:
            start = self.unique(f"{axis}_start")
            head = f"for {start} in range(0, {extent}, {op.knob.data}):"
        with self.indented(head):
            if op.knob is not None:
                lanes = f"tl.arange(0, {op.knob.data}){self.placed(self.dim(op))}{self._width(op)}"
                self.emit(f"{axis} = {start} + {lanes}")
                self.mask_axis(op, axis)
            self.operations(op.body.block.ops)
            for name, value, (state, best) in zip(op.combiners, op.yielded, states):
                text = COMBINERS[name].update.format(
                    r=state, v=self._whole(value, dims, COMBINERS[name]), best=best, i=axis)
                self.emit(text if best else f"{state} = {text}")
        self.taken, self.symbols, self.extents, self.masks = taken, symbols, extents, masks
        for name, value, output, (state, best) in zip(op.combiners, op.yielded, op.outputs, states):
            dtype = value_dtype(value)
            if op.knob is None:
                self.texts[output] = cast_text(state, "i64" if best else compute_dtype(dtype), value_dtype(output))
                continue
            have = self.varies[value] | dims
            if best:
                keep = "" if have == dims else ", keep_dims=True"
                whole = "None" if have == dims and self.rank > 1 else str(min(dims))
                self.declare(output, f"tl.reduce(({best}, {state}), {whole}, {COMBINERS[name].function}{keep})[1]")
            else:
                self.declare(output, self._reduced(name, state, "", have, dims, dtype, value_dtype(output)))

    def _state(self, op: ForOp, position: int, dims: Dims) -> tuple[str, str]:
        """The variable of a reduction before its loop, and for positions the one of the extreme value."""
        name, value, output = op.combiners[position], op.yielded[position], op.outputs[position]
        have = self.varies[value] | dims
        hint = output.name_hint or name
        state = self.unique(f"{hint}_lanes" if dims else hint)
        neutral = neutral_text(COMBINERS[name], value_dtype(value))
        if name not in POSITIONS:
            self.emit(f"{state} = {self._filled(have, neutral, compute_dtype(value_dtype(value)))}")
            return state, ""
        best = self.unique(f"{hint}_best")
        self.emit(f"{best} = {self._filled(have, neutral, compute_dtype(value_dtype(value)))}")
        self.emit(f"{state} = {self._filled(have, '0', 'i64')}")
        return state, best

    def _scan_state(self, scan: ScanOp) -> None:
        scanner, dtype, dims = SCANNERS[scan.fn.data], value_dtype(scan.value), self.varies[scan.value]
        state = self.unique(f"{scan.result.name_hint or scan.fn.data}_running")
        best = self.unique(f"{state}_best") if scan.fn.data in POSITIONS else ""
        if best:
            self.emit(f"{best} = {self._filled(dims, neutral_text(scanner, dtype), dtype)}")
            self.emit(f"{state} = {self._filled(dims, '0', 'i64')}")
        else:
            self.emit(f"{state} = {self._filled(dims, neutral_text(scanner, dtype), dtype)}")
        self.scans[scan] = state, best

    def _filled(self, dims: Dims, value: str, dtype: str) -> str:
        """A block, or a scalar, of one value."""
        return f"tl.full({self.shape(dims) if dims else '[]'}, {value}, {TYPES[dtype]})"
