"""Prints `tile.kernel`s that were lowered for a GPU as Triton, one to one: every op is a statement, names are the IR's.

The parallel loops around a kernel's body become its programs, the loop's knob the size of a program's block. A block
loop is an arange; a vector loop walks blocks, and what it reduces is kept in a block of lanes that is reduced at its
end. Masks stand only where an extent is not known to be a multiple of its block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from xdsl.ir import Operation, SSAValue

from tilewright.ir.dtypes import DTYPES
from tilewright.ir.errors import UnsupportedTargetError
from tilewright.ir.expr import free_symbols
from tilewright.ir.target import Target
from tilewright.ir.tile import (
    UPDATES,
    CondOp,
    ConstantOp,
    ExprOp,
    ForOp,
    IndexOp,
    KernelOp,
    LoadOp,
    MapOp,
    ReduceOp,
    ScanOp,
    StoreOp,
    UpdateOp,
    YieldOp,
    value_dtype,
)

from ..cpp.writer import can_fail, divides_integers
from ..writer import model_lines
from .functions import (
    COMBINERS,
    MISSING,
    POINTERS,
    REFUSED,
    TYPES,
    cast_text,
    constant_text,
    enclosed,
    function_text,
    neutral_text,
    rounds_twice,
)
from .loops import LoopPrinter
from .writer import Dims

LINE_LENGTH = 118
LAUNCH = ("num_warps", "num_stages")
"""The parts of a schedule that the launch takes; the others are constants of the source."""
_LITERALS = frozenset({"where", "maximum", "minimum", "fmax", "fmin", "div", "reciprocal"})
"""Functions whose texts are calls that take a bare number; others need one with a type."""


@dataclass(frozen=True)
class TritonKernel:
    """A printed kernel. `signature` gives the type of each argument but constants, in order; `grid` is Python text of
    the number of programs, over the sizes. A kernel that `fails` has a last pointer, to two int32 flags: an index out
    of range, an integer division by zero."""

    name: str
    source: str
    signature: dict[str, str]
    constants: dict[str, int]
    grid: str
    num_warps: int
    num_stages: int
    fails: bool


class Printer(LoopPrinter):
    """Prints one kernel."""

    def __init__(self, kernel: KernelOp, target: Target):
        super().__init__(kernel)
        self.target = target
        self.fails = can_fail(kernel)
        self.programs: list[ForOp] = []
        self.in_range: dict[str, str] = {}  # of computed positions: what says whether they are valid

    # -- the kernel

    def print(self) -> TritonKernel:
        kernel = self.kernel
        self._refuse()
        signature: dict[str, str] = {}
        for argument in kernel.args:
            self.texts[argument] = name = self.unique(f"{argument.name_hint or f'p{argument.index}'}_ptr")
            signature[name] = POINTERS[value_dtype(argument)]
        signature |= {self.symbols[name]: "i64" for name in kernel.size_names}
        if self.fails:
            signature["failed_ptr"] = "*i32"
        knobs = kernel.knobs
        constants = {name: value for name, value in knobs.items() if name not in LAUNCH}
        parameters = [*signature, *(f"{name}: tl.constexpr" for name in constants)]
        head = f"def {kernel.sym_name.data}({', '.join(parameters)}):"
        if len(head) > LINE_LENGTH:
            lines = [", ".join(signature), ", ".join(parameters[len(signature):])]
            head = f"def {kernel.sym_name.data}(\n" + "".join(f"    {line},\n" for line in lines if line) + "):"
        self.emit("@triton.jit")
        with self.indented(head):
            self.comment_lines(kernel)
            self._programs(kernel.body.block.ops)
            self.operations(kernel.body.block.ops)
            if not any(isinstance(op, (StoreOp, UpdateOp)) for op in kernel.walk()):
                self.emit("pass")  # no elements at all
        grid = self._grid()
        body = "\n".join(self.lines)
        return TritonKernel(
            kernel.sym_name.data, self._file(body, signature, constants, grid), signature, constants, grid,
            knobs.get("num_warps", 4), knobs.get("num_stages", 1), self.fails,
        )

    def _refuse(self) -> None:
        """Raises UnsupportedTargetError for what Triton cannot say."""
        for op in self.kernel.walk():
            values = (*op.operands, *op.results)
            if isinstance(op, MapOp) and op.fn.data in REFUSED:
                raise UnsupportedTargetError(f"{op.fn.data} is {REFUSED[op.fn.data]}{_where(op)}")
            for value in values:
                reason = MISSING.get((self.target.name, value_dtype(value)))
                if reason is not None:
                    raise UnsupportedTargetError(f"{reason}{_where(op)}")

    def _file(self, body: str, signature: dict[str, str], constants: dict[str, int], grid: str) -> str:
        kernel, knobs = self.kernel, self.kernel.knobs
        lines = model_lines([kernel])
        launch = [f"{n}={v}" for n, v in constants.items()]
        launch += [f"{n}={knobs[n]}" for n in LAUNCH if n in knobs] + ["enable_fp_fusion=False"]
        origin = f", from {', '.join(lines)}" if lines else ""
        imports = "".join(
            f"from tilewright.codegen.triton{path} import {name}\n"
            for path, name, used in (("", "library as tw", "tw."), (".library", "libdevice", "libdevice."))
            if used in body
        )
        return (
            f'"""{kernel.sym_name.data}: {kernel.kind.data} kernel for {self.target.name}{origin}.\n\n'
            f"{kernel.sym_name.data}[({grid},)]({', '.join(signature)},\n"
            f'    {", ".join(launch)})\n"""\n\n'
            f"import triton\nimport triton.language as tl\n" + (f"\n{imports}" if imports else "") + f"\n\n{body}\n"
        )

    # -- programs

    def _programs(self, ops: Iterable[Operation]) -> None:
        """Names for the axes of the parallel loops around everything: what this program computes."""
        inner: Iterable[Operation] | None = ops
        while inner is not None:
            loops = [op for op in inner if isinstance(op, ForOp) and op.kind.data == "parallel"]
            inner = None
            if len(loops) == 1:
                self.programs.append(loops[0])
                inner = loops[0].body.block.ops
        if not self.programs:
            return
        axes = [op.axis.data for op in self.programs]
        number = "tl.program_id(0)" + (".to(tl.int64)" if self.wide & set(axes) else "")
        cut = [op for op in self.programs if self._count(op) != "1"]
        if len(cut) > 1:
            self.emit(f"program = {number}")
            number = "program"
        # The last axis runs fastest, so that neighbouring programs read neighbouring memory.
        for op in reversed(self.programs):
            count = self._count(op)
            count = count if count.isdigit() else enclosed(count)
            if op not in cut:
                self._axis(op, "")
            elif op is cut[0]:
                self._axis(op, number)
            else:
                self._axis(op, f"{number} % {count}")
                number = f"{number} // {count}"

    def _count(self, op: ForOp, division: str = "tl.cdiv") -> str:
        """How many programs a parallel loop has."""
        extent = op.trip_count
        if op.knob is None:
            return self.index(extent)
        size = self.kernel.knobs[op.knob.data]
        if isinstance(extent, int):
            return str(-(-extent // size))
        return f"{division}({self.index(extent)}, {op.knob.data})"

    def _axis(self, op: ForOp, number: str) -> None:
        """The positions of a parallel loop that program `number` along it has; no number where it is the only one."""
        axis = self.new_symbol(op.axis.data, op.trip_count)
        if op.knob is None:
            self.emit(f"{axis} = {number or 0}")
            return
        start = f"{number if ' ' not in number else f'({number})'} * {op.knob.data} + " if number else ""
        self.emit(f"{axis} = {start}tl.arange(0, {op.knob.data}){self.placed(self.dim(op))}")
        self.mask_axis(op, axis)

    def _grid(self) -> str:
        counts = [self._count(op, "triton.cdiv") for op in self.programs]
        known = [int(c) for c in counts if c.isdigit()]
        product = 1
        for count in known:
            product *= count
        rest = [c if c.isidentifier() or c.startswith("triton.") else f"({c})" for c in counts if not c.isdigit()]
        return " * ".join([*rest, *([str(product)] if product != 1 or not rest else [])])

    # -- statements

    def operations(self, ops: Iterable[Operation]) -> None:
        for op in ops:
            if op.results and not isinstance(op, ForOp) and not any(r.uses for r in op.results):
                continue
            if isinstance(op, (ConstantOp, YieldOp)):
                continue
            if not isinstance(op, ForOp):
                self.comment_lines(op)
            self._PRINTERS[type(op)](self, op)

    def _load(self, op: LoadOp) -> None:
        offset, memory, dtype = op.offset.data[0], value_dtype(op.ref), value_dtype(op.result)
        conditions = [f"({self.condition(e)})" for e in op.mask.data] if op.mask is not None else []
        conditions += self._guards(free_symbols(offset))
        dims, reached = self.varies[op.result], self.dims_of(offset)
        pointer = self._pointer(op.ref, op)
        if not dims <= reached:
            pointer += f" + tl.zeros({self.shape(dims)}, tl.int32)"  # a mask may not have more dims than the pointers
        arguments = [pointer]
        mask = self.mask(dims, conditions)
        if mask:
            arguments.append(f"mask={mask}")
            if op.other is not None:
                arguments.append(f"other={constant_text(op.other.data, dtype)}")
            elif conditions:
                arguments.append(f"other={constant_text(0, dtype)}")
            elif (fill := self._wanted_fill(op)) is not None:
                self.fills[op.result] = fill
                arguments.append(f"other={fill}")
        if (hint := self._eviction(op)) is not None:
            arguments.append(f'eviction_policy="{hint}"')
        self.declare(op.result, cast_text(f"tl.load({', '.join(arguments)})", memory, dtype))

    def _pointer(self, ref: SSAValue, op: LoadOp | StoreOp | UpdateOp) -> str:
        offset = op.offset.data[0]
        return self.texts[ref] if offset == 0 else f"{self.texts[ref]} + {self.index(offset)}"

    def _guards(self, names: Iterable[str]) -> list[str]:
        """Conditions under which computed positions exist at all: their extent may be 0."""
        known = [(name, self.extents[name]) for name in sorted(names) if name in self.in_range]
        return [f"({self.index(extent)} > 0)" for _, extent in known if not isinstance(extent, int) or extent <= 0]

    def _wanted_fill(self, op: LoadOp) -> str | None:
        """The neutral element of the reduction that reads a loaded block as it is."""
        for use in op.result.uses:
            user = use.operation
            name = user.fn.data if isinstance(user, ReduceOp) else None
            if isinstance(user, YieldOp) and isinstance(parent := user.parent_op(), ForOp):
                name = parent.combiners[use.index]
            if name is not None:
                return neutral_text(COMBINERS[name], value_dtype(op.result))
        return None

    def _eviction(self, op: LoadOp) -> str | None:
        """In a walk: whether the row is walked again, so that it should stay in the cache."""
        walk = op.parent_op()
        if not (isinstance(walk, ForOp) and walk.kind.data == "vector"):
            return None
        later = walk.next_op
        while later is not None:
            if any(isinstance(o, LoadOp) and o.ref is op.ref and o.offset == op.offset for o in later.walk()):
                return "evict_last"
            later = later.next_op
        return "evict_first"

    def _store(self, op: StoreOp) -> None:
        self._write(op, self._stored(op))

    def _stored(self, op: StoreOp | UpdateOp) -> str:
        memory, dtype = value_dtype(op.ref), value_dtype(op.value)
        text = self.text(op.value)
        # Storing converts, but for what Triton would convert otherwise than torch.
        plain = dtype == memory or (
            DTYPES[dtype].is_float and DTYPES[memory].is_float and not rounds_twice(dtype, memory)
        )
        return text if plain else cast_text(self.typed(op.value), dtype, memory)

    def _write(self, op: StoreOp | UpdateOp, value: str, conditions: Sequence[str] = ()) -> None:
        mask = self.mask(self.dims_of(op.offset.data[0]), conditions)
        self.emit(f"tl.store({self._pointer(op.ref, op)}, {value}{f', mask={mask}' if mask else ''})")

    def _update(self, op: UpdateOp) -> None:
        offset, memory, dtype = op.offset.data[0], value_dtype(op.ref), value_dtype(op.value)
        conditions = [self.in_range[name] for name in sorted(free_symbols(offset)) if name in self.in_range]
        function = UPDATES[op.fn.data]
        if function is None:
            self._write(op, self._stored(op), conditions)
            return
        mask = self.mask(self.dims_of(offset), conditions)
        old = self.unique("old")
        loaded = f"tl.load({self._pointer(op.ref, op)}{f', mask={mask}' if mask else ''})"
        self.emit(f"{old} = {cast_text(loaded, memory, dtype)}")
        new = function_text(function, [dtype, dtype], dtype, [old, self.text(op.value)])
        self._write(op, new if DTYPES[dtype].is_float else cast_text(new, dtype, memory), conditions)

    def _map(self, op: MapOp) -> None:
        dtypes = [value_dtype(a) for a in op.args]
        constant = all(isinstance(a.owner, ConstantOp) for a in op.args)
        infix = " " in self._template(op) and "(" not in self._template(op)
        bare = not constant and (infix or op.fn.data in _LITERALS)
        operands = [self.text(a) if bare else self.typed(a) for a in op.args]
        if divides_integers(op):
            wrong = f"({operands[1]} == 0)" if bare or not constant else f"{operands[1]} == 0"
            self._report(1, wrong, self.varies[op.args[1]])
        self.declare(op.result, function_text(op.fn.data, dtypes, value_dtype(op.result), operands))

    @staticmethod
    def _template(op: MapOp) -> str:
        from .functions import FUNCTIONS

        return next(iter(FUNCTIONS[op.fn.data].values()))

    def _report(self, flag: int, wrong: str, dims: Dims) -> None:
        mask = self.mask(dims)
        self.emit(f"tw.report(failed_ptr, {flag}, {f'{mask} & {wrong}' if mask else wrong})")

    def _expr(self, op: ExprOp) -> None:
        expr = op.offset.data[0]
        text = self.index(expr)
        if not self.dims_of(expr):
            self.declare(op.result, f"tl.full([], {text}, {TYPES[value_dtype(op.result)]})")
        else:
            self.declare(op.result, f"{enclosed(text)}.to({TYPES[value_dtype(op.result)]})")

    def _cond(self, op: CondOp) -> None:
        self.declare(op.result, self.conditions(op.mask.data))

    def _index(self, op: IndexOp) -> None:
        label, extent = op.label.data, op.extent.data[0]
        limit, value = self.index(extent), self.typed(op.value)
        dims = self.dims_of_name[label]
        name = self.new_symbol(label, extent)
        if op.wrap.data:
            self.emit(f"{name} = tl.where({value} < 0, {value} + {limit}, {value})")
            value = name
        inside = self.unique(f"{label}_in_range")
        self.emit(f"{inside} = ({value} >= 0) & ({value} < {limit})")
        if op.mask is not None:
            wanted = self.unique(f"{label}_wanted")
            self.emit(f"{wanted} = {self.conditions(op.mask.data)}")
            self._report(0, f"{wanted} & ~{inside}", dims)
            use = f"{wanted} & {inside}"
        else:
            self._report(0, f"~{inside}", dims)
            use = inside
        self.in_range[label] = inside
        self.emit(f"{name} = tl.where({use}, {value}, 0)")

    # -- loops

    def _loop(self, op: ForOp) -> None:
        if op in self.programs:
            self.operations(op.body.block.ops)
        elif op.kind.data == "block":
            self.block(op)
        else:
            self.walk(op)

    _PRINTERS: ClassVar[dict[type[Operation], Callable[..., None]]] = {
        LoadOp: _load, StoreOp: _store, UpdateOp: _update, MapOp: _map, ExprOp: _expr, CondOp: _cond, IndexOp: _index,
        ReduceOp: LoopPrinter.reduce, ScanOp: LoopPrinter.scan, ForOp: _loop,
    }


def _where(op: Operation) -> str:
    lines = model_lines([op])
    return f" ({', '.join(lines)})" if lines else ""


def print_kernel(kernel: KernelOp, target: Target) -> TritonKernel:
    """The Triton source of `kernel`, which was lowered for `target`. Raises UnsupportedTargetError with the reason."""
    return Printer(kernel, target).print()
