"""Prints `tile.kernel`s as C++, one to one: every op is a statement, every loop a loop, names are the IR's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from xdsl.ir import Operation

from tilewright.ir.dtypes import DTYPES, itemsize
from tilewright.ir.expr import IntExpr, free_symbols
from tilewright.ir.scalars import kind_of
from tilewright.ir.target import Target
from tilewright.ir.tile import (
    UPDATES,
    AllocOp,
    CondOp,
    ConstantOp,
    DotOp,
    ExprOp,
    ForOp,
    IndexOp,
    KernelOp,
    LoadOp,
    MapOp,
    ScanOp,
    StoreOp,
    UpdateOp,
    value_dtype,
)

from .cost import bytes_written
from .functions import MEMORY_TYPES, SCANNERS, SPECIAL, VALUE_TYPES, cast_text, constant_text, function_text
from .lanes import LanePrinter
from .loops import state_dtype
from .writer import INDENT, can_fail, divides_integers, model_lines

# The bits of what a kernel returns, 0 being success.
FAILURES: dict[int, str] = {1: "index out of range", 2: "integer division by zero"}

# Scratch up to the first size is on the stack while the kernel's total stays below the second; else it is a thread's
# buffer.
STACK_BYTES, STACK_TOTAL_BYTES = 64 << 10, 256 << 10

# `tw::large_bytes` of the header: where the size of a result is known while printing, the test is made here.
LARGE_BYTES = 8 << 20

# Signatures longer than this take a line for each parameter.
LINE_LENGTH = 110

# gcc's time grows with the file, and several files build at once.
KERNELS_PER_FILE = 12


class KernelPrinter(LanePrinter):
    """Prints one kernel."""

    def __init__(self, kernel: KernelOp):
        super().__init__(kernel)
        self.stack_bytes = 0
        self.slots = 0
        self.positions: dict[str, IntExpr] = {}  # computed positions, with their extents
        self.in_range: dict[str, str] = {}  # the variables that say whether they are valid
        self.fails = can_fail(kernel)

    def print(self) -> str:
        """The text of the function."""
        kernel = self.kernel
        outputs = set(kernel.outputs.ints())
        parameters = []
        for position, argument in enumerate(kernel.args):
            self.texts[argument] = name = self.new_name(argument)
            const = "" if position in outputs else "const "
            parameters.append(f"{const}{MEMORY_TYPES[value_dtype(argument)]}* __restrict {name}")
        parameters += [f"int64_t {self.symbols[name]}" for name in kernel.size_names]
        lines = model_lines([kernel])
        self.emit(f"// {kernel.kind.data}" + (f": {', '.join(lines)}" if lines else ""))
        self.commented = lines
        head = f'extern "C" int64_t {kernel.sym_name.data}('
        text = head + ", ".join(parameters) + ")"
        if len(text) > LINE_LENGTH:
            text = f"{head}\n{INDENT * 2}" + f",\n{INDENT * 2}".join(parameters) + ")"
        with self.braces(text):
            if self.fails:
                self.emit("int64_t failed = 0;")
            for position in sorted(outputs):
                self._expect_writes(position)
            self.operations(kernel.body.block.ops)
            self.emit("return failed;" if self.fails else "return 0;")
        return "\n".join(self.lines) + "\n"

    def _expect_writes(self, position: int) -> None:
        """Large results get large pages: a fault for each 4 KB costs more than all the arithmetic."""
        size = bytes_written(self.kernel, position)
        if not isinstance(size, int) or size >= LARGE_BYTES:
            self.emit(f"tw::expect_writes({self.texts[self.kernel.args[position]]}, {self.index(size)});")

    def operation(self, op: Operation) -> None:
        """Print one op. Values that nothing uses are left out."""
        if op.results and not isinstance(op, ForOp) and not any(r.uses for r in op.results):
            return
        self._PRINTERS[type(op)](self, op)

    # -- memory

    def _load(self, op: LoadOp) -> None:
        offset = op.offset.data[0]
        dtype = value_dtype(op.result)
        memory = value_dtype(op.ref)
        read = f"{self.texts[op.ref]}[{self.index(offset)}]"
        guards = self._position_guards(offset)
        value = self._from_memory(read, memory, dtype)
        if op.mask is not None or guards:
            condition = self.conditions(op.mask.data if op.mask is not None else (), guards)
            other = constant_text(op.other.data if op.other is not None else 0, dtype)
            value = f"{condition} ? {value} : {other}"
        self.declare(op.result, value)

    @staticmethod
    def _from_memory(read: str, memory: str, dtype: str) -> str:
        """A loaded element as a value of type `dtype`."""
        if memory == "bool":
            return f"{read} != 0" if dtype == "bool" else cast_text(f"({read} != 0)", "bool", dtype)
        return cast_text(read, memory, dtype)

    def _position_guards(self, offset: IntExpr) -> list[str]:
        """Conditions under which computed positions in `offset` exist at all: their extent may be 0."""
        guards = []
        for name in sorted(free_symbols(offset) & self.positions.keys()):
            extent = self.positions[name]
            if not (isinstance(extent, int) and extent > 0):
                guards.append(f"{self.index(extent)} > 0")
        return guards

    def _store(self, op: StoreOp) -> None:
        memory = value_dtype(op.ref)
        value = cast_text(self.text(op.value), value_dtype(op.value), memory)
        if memory == "bool":
            value = f"uint8_t({value})"
        self.emit(f"{self.texts[op.ref]}[{self.index(op.offset.data[0])}] = {value};")

    def _update(self, op: UpdateOp) -> None:
        memory, dtype = value_dtype(op.ref), value_dtype(op.value)
        place = f"{self.texts[op.ref]}[{self.index(op.offset.data[0])}]"
        value, fn = self.text(op.value), UPDATES[op.fn.data]
        if fn is not None:
            value = function_text(fn, [dtype, dtype], dtype, [self._from_memory(place, memory, dtype), value])
        value = cast_text(value, dtype, memory)
        if memory == "bool":
            value = f"uint8_t({value})"
        found = [self.in_range[name] for name in sorted(free_symbols(op.offset.data[0]) & self.positions.keys())]
        self.emit((f"if ({' && '.join(found)}) " if found else "") + f"{place} = {value};")

    def _dot(self, op: DotOp) -> None:
        c, a, b = (
            f"{self.texts[ref]} + {self.index(offset)}" if offset != 0 else self.texts[ref]
            for ref, offset in zip(op.operands, op.offsets.data)
        )
        strides = [self.index(stride) for stride in op.strides.data]
        arguments = [
            c, strides[0], a, *strides[1:3], b, *strides[3:], *map(self.index, op.shape.data),
            "true" if op.adds else "false",
        ]
        self.emit(f"tw::dot({', '.join(arguments)});")

    def _alloc(self, op: AllocOp) -> None:
        extent, dtype = op.extent.data[0], value_dtype(op.result)
        name = self.new_name(op.result)
        if isinstance(extent, int):
            size = extent * itemsize(dtype)
            if size <= STACK_BYTES and self.stack_bytes + size <= STACK_TOTAL_BYTES:
                self.stack_bytes += size
                self.emit(f"alignas(64) {MEMORY_TYPES[dtype]} {name}[{max(extent, 1)}];")
                self.texts[op.result] = name
                return
        self.texts[op.result] = self.scratch(MEMORY_TYPES[dtype], name, self.index(extent))

    def scratch(self, kind: str, name: str, count: str) -> str:
        self.emit(f"{kind}* __restrict {name} = tw::scratch<{kind}, {self.slots}>({count});")
        self.slots += 1
        return name

    # -- values

    def _constant(self, op: ConstantOp) -> None:
        """Constants stand where they are used."""

    def _map(self, op: MapOp) -> None:
        operands = [self.text(a) for a in op.args]
        dtypes = [value_dtype(a) for a in op.args]
        if divides_integers(op):
            self.emit(f"failed |= {operands[1]} == 0 ? 2 : 0;")
        self.declare(op.result, function_text(op.fn.data, dtypes, value_dtype(op.result), operands))

    def _expr(self, op: ExprOp) -> None:
        self.declare(op.result, cast_text(self.index(op.offset.data[0]), "i64", value_dtype(op.result)))

    def _cond(self, op: CondOp) -> None:
        self.declare(op.result, self.conditions(op.mask.data))

    def _scan(self, op: ScanOp) -> None:
        """The state was declared before the loop; here it takes one value in."""
        loop, dtype = op.parent_op(), value_dtype(op.value)
        assert isinstance(loop, ForOp)
        scanner, running = SCANNERS[op.fn.data], self.texts[op.result]
        state = "i64" if scanner.position else state_dtype(op)
        value = cast_text(self.text(op.value), dtype, state_dtype(op))
        best, position = self.scan_bests.get(op, ""), self.symbols[loop.axis.data]
        self.emit(scanner.update[kind_of(dtype)].format(r=running, v=value, best=best, i=position))
        self.declare(op.result, cast_text(running, state, value_dtype(op.result)))

    def _index(self, op: IndexOp) -> None:
        label, extent = op.label.data, op.extent.data[0]
        value = cast_text(self.text(op.value), value_dtype(op.value), "i64")
        limit = self.index(extent)
        raw = value
        if not raw.isidentifier():
            raw = self.unique(f"{label}_raw")
            self.emit(f"const int64_t {raw} = {value};")
        if op.wrap.data:
            wrapped = self.unique(f"{label}_wrapped")
            self.emit(f"const int64_t {wrapped} = {raw} < 0 ? {raw} + {limit} : {raw};")
            raw = wrapped
        inside = self.unique(f"{label}_in_range")
        self.emit(f"const bool {inside} = tw::in_range({raw}, {limit});")
        if op.mask is None:
            self.emit(f"failed |= {inside} ? 0 : 1;")
            use = inside
        else:
            wanted = self.unique(f"{label}_wanted")
            self.emit(f"const bool {wanted} = {self.conditions(op.mask.data)};")
            self.emit(f"failed |= {wanted} && !{inside} ? 1 : 0;")
            use = f"{wanted} && {inside}"
        self.positions[label], self.in_range[label] = extent, inside
        name = self.new_symbol(label, extent)
        self.emit(f"const int64_t {name} = {use} ? {raw} : 0;")

    _PRINTERS: ClassVar[dict[type[Operation], Callable[..., None]]] = {
        LoadOp: _load, StoreOp: _store, UpdateOp: _update, AllocOp: _alloc, ConstantOp: _constant, MapOp: _map,
        ExprOp: _expr, CondOp: _cond, ScanOp: _scan, IndexOp: _index, DotOp: _dot, ForOp: LanePrinter.loop,
    }


def print_kernel(kernel: KernelOp) -> str:
    """The C++ function of `kernel`: pointers in order, then sizes; see `FAILURES` for what it returns."""
    return KernelPrinter(kernel).print()


def print_file(kernels: Iterable[KernelOp], target: Target, host: str = "") -> str:
    """A C++ file with all of `kernels`, and with the `host` program (see `print_host`), to be built for `target`."""
    features = " ".join(target.features)
    kernels = list(kernels)
    functions = {op.fn.data for kernel in kernels for op in kernel.walk() if isinstance(op, MapOp)}
    has_dot = any(isinstance(op, DotOp) for kernel in kernels for op in kernel.walk())
    headers = ["tilewright.h", *(["tilewright_special.h"] if functions & set(SPECIAL) else []),
               *(["tilewright_dot.h"] if has_dot else [])]
    includes = "".join(f'#include "{name}"\n' for name in headers)
    head = f"// Kernels for {target.name} ({features}).\n{includes}\nusing namespace tw;\n"
    # Its header tells gcc not to optimize what follows, so it stands behind the kernels.
    return "\n".join([head, *map(print_kernel, kernels), *(['#include "tilewright_host.h"\n', host] if host else [])])


def print_files(kernels: Sequence[KernelOp], target: Target, host: str = "") -> list[str]:
    """`print_file`, in as many files as build well side by side. The `host` program stands in the last."""
    groups = [kernels[start : start + KERNELS_PER_FILE] for start in range(0, len(kernels), KERNELS_PER_FILE)]
    if host and (not groups or len(groups[-1]) == KERNELS_PER_FILE):
        groups.append([])
    return [print_file(group, target, host if group is groups[-1] else "") for group in groups]


def supported_dtypes() -> frozenset[str]:
    """The element types that kernels can hold; the others (complex numbers) stay in ATen."""
    return frozenset(VALUE_TYPES) & frozenset(DTYPES)
