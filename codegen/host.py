"""The host program: the `prog` level as a flat Python function that torch users can read, and its runtime.

For static sizes everything that does not change from call to call is made once: views of the arena and of the weights,
and their addresses. A call then is a list of kernel and library calls. The text is for reading and debugging; it is
printed from the IR, so what it does is what `prog` says.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from tilewright.ir import calls, prog, tile
from tilewright.ir.dtypes import DTYPES, itemsize
from tilewright.ir.errors import InputError
from tilewright.ir.expr import IntExpr
from tilewright.ir.function import argument_symbols, updated_arguments
from tilewright.ir.text import file_lines
from tilewright.ir.types import BufferType, DimsAttr, PackedType

from .arenas import ARENA_ALIGNMENT, SizedArena, aligned
from .lifetimes import last_uses
from .runtime.host_calls import adapt_input, arena_view, expect_layout, first_tensor, only_tensors, raise_failure

# Python functions of torch that dispatch faster than the overload object does, for the same call.
FAST_CALLS: dict[str, Callable[..., Any]] = {
    "aten.mm.out": torch.mm,
    "aten.addmm.out": torch.addmm,
    "aten.bmm.out": torch.bmm,
    "aten.baddbmm.out": torch.baddbmm,
    "aten.scaled_dot_product_attention.default": torch.nn.functional.scaled_dot_product_attention,
}


def torch_dtype(name: str) -> torch.dtype:
    return getattr(torch, DTYPES[name].torch_name)


def find_call(target: str) -> Callable[..., Any]:
    """What ``"aten.sort.default"`` names. Raises InputError for an operator that this torch does not have."""
    if target in FAST_CALLS:
        return FAST_CALLS[target]
    namespace, name, overload = target.split(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except AttributeError:
        raise InputError(f"this torch has no operator {target!r}, which the program calls") from None


_VARIABLES = ("args", "arena", "base", "frame", "status", "weights", "max", "min", "inf", "nan")


class HostPrinter:
    """Prints one program. `static` are the positions of arguments that are weights: bound once, checked per call."""

    def __init__(self, function: FuncOp, kernels: Mapping[str, tile.KernelOp], static: Sequence[int]):
        self.function = function
        self.kernels = kernels
        self.static = set(static)
        self.names: dict[SSAValue, str] = {}
        self.counts: dict[str, int] = {}
        self.globals: dict[str, Any] = {
            "empty_strided": torch.empty_strided, "expect": expect_layout, "adapt": adapt_input,
            "raise_failure": raise_failure,
        }
        # A tensor must not hide the kernel, helper or variable that the program calls by the same name, nor a kernel
        # (of torch.empty_strided, say) a helper or variable.
        own = {*self.globals, *_VARIABLES, *keyword.kwlist}
        self.called = {kernel: f"{kernel}_kernel" if kernel in own else kernel for kernel in kernels}
        self.taken = {*self.called.values(), *own}
        self.frame: list[str] = []  # made once for each arena
        self.bind: list[str] = []  # made once for each set of weights
        self.body: list[str] = []
        self.frame_names: list[str] = []
        self.bound_names: list[str] = []
        self.home: dict[SSAValue, str] = {}  # where a value is made: "frame", "bind" or "body"
        self.symbols: list[str] = []
        self.weights_at: dict[int, int] = {}  # place among the bound values -> place among the weights
        self.arena_size: IntExpr = 0
        self.arena_byte: dict[SSAValue, IntExpr] = {}
        self.results: list[str] = []
        self.written_back: list[str] = []  # of arguments that came in another layout
        self.last_lines: list[str] = []
        self.pointers: set[SSAValue] = set()
        self.objects: set[SSAValue] = set()

    # Names
    def name(self, value: SSAValue, fallback: str) -> str:
        if value not in self.names:
            base = value.name_hint or fallback
            count = self.counts.get(base, 0)
            while {name := f"{base}_{count}" if count else base, f"{name}_ptr", f"{name}_given"} & self.taken:
                count += 1
            self.counts[base] = count + 1
            self.taken |= {name, f"{name}_ptr", f"{name}_given"}
            self.names[value] = name
        return self.names[value]

    def pointer(self, value: SSAValue) -> str:
        return f"{self.names[value]}_ptr"

    def constant(self, prefix: str, value: Any) -> str:
        """A name in the program's globals that stands for an object."""
        for known, existing in self.globals.items():
            if existing is value and known.startswith(prefix):
                return known
        count = len(self.globals)
        while (name := f"{prefix}_{count}") in self.taken:
            count += 1
        self.taken.add(name)
        self.globals[name] = value
        return name

    def print(self) -> str:
        """The program's text."""
        self.find_uses()
        block = self.function.body.block
        arguments: list[str] = []
        self.taken |= argument_symbols(self.function).keys()
        for position, arg in enumerate(block.args):
            name = self.name(arg, f"arg{position}")
            arguments.append(name)
            if isinstance(arg.type, BufferType):
                self.argument(position, arg, name)
        for symbol, source in self.symbol_sources(arguments):
            self.symbols.append(symbol)
            self.body.insert(0, f"{symbol} = {source}")
        done, needed = last_uses(self.function), self.objects | self.pointers
        for op in block.ops:
            self.op(op)
            values = [v for v in done.get(op, ()) if v in needed and self.home.get(v) == "body"]
            if values:
                self.line("body", f"del {', '.join(self.names[value] for value in values)}")
        return self.assemble(arguments)

    def symbol_sources(self, arguments: list[str]) -> list[tuple[str, str]]:
        return [
            (symbol, _size_text(arguments[position], *place))
            for symbol, (position, *place) in argument_symbols(self.function).items()
        ]

    def find_uses(self) -> None:
        """Which values are needed as tensors, which as addresses."""
        for op in self.function.body.block.ops:
            if isinstance(op, prog.LaunchOp):
                self.pointers.update(op.args)
            elif isinstance(op, (prog.ExternOp, prog.ReturnOp)):
                self.objects.update(op.args)
        for op in reversed(list(self.function.body.block.ops)):
            # A view of a temporary is an offset into the arena; of anything else it is made of the tensor.
            if isinstance(op, prog.ViewOp) and op.result in self.objects | self.pointers and not _in_arena(op.source):
                self.objects.add(op.source)

    # Statements
    def line(self, home: str, text: str, *names: str) -> None:
        {"frame": self.frame, "bind": self.bind, "body": self.body}[home].append(text)
        if home == "frame":
            self.frame_names += names
        elif home == "bind":
            self.bound_names += names

    def argument(self, position: int, arg: SSAValue, name: str) -> None:
        type = prog.buffer_type(arg)
        known = all(isinstance(d, int) for d in (*type.shape, *type.strides))
        updated = position in updated_arguments(self.function)
        home = "bind" if position in self.static and known and not updated else "body"
        self.home[arg] = home
        if arg in self.pointers | self.objects:
            dtype = self.constant("dtype", torch_dtype(type.dtype))
            shape, strides = tuple_text(type.shape), tuple_text(type.strides)
            checks = f"{name}.shape != {shape} or {name}.stride() != {strides} or {name}.dtype is not {dtype}"
            if updated:
                given = f"{name}_given"
                self.line("body", f"{given} = {name}")
                self.written_back.append(f"if {name} is not {given}: {given}.copy_({name})")
            self.line(home, f"if {checks}: {name} = adapt({name}, {position}, {shape}, {strides}, {dtype})")
            if home == "bind":
                self.weights_at[len(self.bound_names)] = sorted(self.static).index(position)
                self.bound_names.append(name)
        if arg in self.pointers:
            self.line(home, f"{self.pointer(arg)} = {name}.data_ptr()", self.pointer(arg))

    def op(self, op: Operation) -> None:
        handler = _STATEMENTS.get(type(op))
        assert handler is not None, op.name
        handler(self, op)

    def arena(self, op: prog.ArenaOp) -> None:
        self.arena_size = op.size.data[0]

    def buffer(self, op: prog.BufferOp) -> None:
        self.temporary(op.result, op.offset.data[0], prog.buffer_type(op.result))

    def temporary(self, value: SSAValue, byte: IntExpr, type: BufferType) -> None:
        """A value inside the arena: its address, and the tensor where a library call needs one."""
        name = self.name(value, "buffer")
        self.home[value] = "frame"
        self.arena_byte[value] = byte
        if value in self.pointers:
            self.line("frame", f"{self.pointer(value)} = base + {byte}", self.pointer(value))
        if value in self.objects:
            dtype = self.constant("dtype", torch_dtype(type.dtype))
            view = self.constant("arena_view", arena_view)
            shape, strides = tuple_text(type.shape), tuple_text(type.strides)
            self.line("frame", f"{name} = {view}(arena, {byte}, {dtype}, {shape}, {strides})", name)

    def output(self, op: prog.OutputOp) -> None:
        type = prog.buffer_type(op.result)
        name = self.name(op.result, "output")
        self.home[op.result] = "body"
        dtype = self.constant("dtype", torch_dtype(type.dtype))
        shape, strides = tuple_text(type.shape), tuple_text(type.strides)
        self.line("body", f"{name} = empty_strided({shape}, {strides}, dtype={dtype})")
        if op.result in self.pointers:
            self.line("body", f"{self.pointer(op.result)} = {name}.data_ptr()")

    def view(self, op: prog.ViewOp) -> None:
        type, offset = prog.buffer_type(op.result), op.offset.data[0]
        if self.home.get(op.source) == "frame":
            self.temporary(op.result, self.arena_byte[op.source] + offset * itemsize(type.dtype), type)
            return
        if op.result not in self.pointers | self.objects:
            return
        name = self.name(op.result, "view")
        home = self.home[op.result] = self.home[op.source]
        source = self.names[op.source]
        shape, strides = tuple_text(type.shape), tuple_text(type.strides)
        at = f"{source}.storage_offset() + {offset}" if offset != 0 else f"{source}.storage_offset()"
        self.line(home, f"{name} = {source}.as_strided({shape}, {strides}, {at})", name)
        if op.result in self.pointers:
            self.line(home, f"{self.pointer(op.result)} = {name}.data_ptr()", self.pointer(op.result))

    def launch(self, op: prog.LaunchOp) -> None:
        kernel = op.kernel.root_reference.data
        arguments = [self.pointer(a) for a in op.args] + list(self.kernels[kernel].size_names)
        self.comment(op)
        self.line("body", f"status |= {self.called[kernel]}({', '.join(arguments)})")

    def extern(self, op: prog.ExternOp) -> None:
        target = op.target.data
        function = self.constant("aten_" + target.split(".")[1], find_call(target))
        arguments = self.call_text(op)
        names = [self.name(r, "result") for r in op.results]
        self.comment(op)
        if not names:
            self.line("body", f"{function}({arguments})")
            return
        if len(names) == 1:
            many = self.constant("first", first_tensor) if self.returns_several(target) else ""
            self.line("body", f"{names[0]} = {many}({function}({arguments}))" if many else
                      f"{names[0]} = {function}({arguments})")
        else:
            tensors = self.constant("tensors", only_tensors)
            self.line("body", f"{', '.join(names)} = {tensors}({function}({arguments}))")
        for name, result in zip(names, op.results):
            self.home[result] = "body"
            if result not in self.pointers | self.objects or isinstance(result.type, PackedType):
                continue
            type = prog.buffer_type(result)
            shape, strides = tuple_text(type.shape), tuple_text(type.strides)
            wrong = f"{name}.shape != {shape} or {name}.stride() != {strides}"
            self.line("body", f"if {wrong}: {name} = expect({name}, {shape}, {strides})")
            if result in self.pointers:
                self.line("body", f"{self.pointer(result)} = {name}.data_ptr()")

    def returns_several(self, target: str) -> bool:
        if target in FAST_CALLS:
            return False
        returns = find_call(target)._schema.returns  # type: ignore[attr-defined]
        return len(returns) != 1 or "[]" in str(returns[0].type) or str(returns[0].type) != "Tensor"

    def call_text(self, op: prog.ExternOp) -> str:
        """The call's arguments as Python text."""

        def tagged(tag: str, name: str) -> Text:
            if tag == "dtype":
                return Text(self.constant("dtype", torch_dtype(name)))
            value = torch.device(name) if tag == "device" else getattr(torch, name)
            return Text(self.constant(tag, value))

        args, kwargs = calls.decode(
            op.arguments.data, lambda i: Text(self.names[op.args[i]]), lambda size: Text(f"({size})"), tagged
        )
        if any(isinstance(v, float) and not math.isfinite(v) for v in _leaves([args, kwargs])):
            self.globals.update({"inf": float("inf"), "nan": float("nan")})
        return ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])

    def give(self, op: prog.ReturnOp) -> None:
        tensors = iter([self.names[a] for a in op.args])
        sizes = self.function.attributes.get("result_sizes")
        ints = iter(sizes.data if isinstance(sizes, DimsAttr) else ())
        kinds = self.function.attributes.get("result_kinds")
        names = [k.data for k in kinds.data if isinstance(k, StringAttr)] if isinstance(kinds, ArrayAttr) else \
            ["tensor"] * len(op.args)
        give = {"tensor": lambda: next(tensors), "int": lambda: str(next(ints)), "none": lambda: "None"}
        names = names[: len(names) - len(updated_arguments(self.function))]
        self.results = [give[kind]() for kind in names]

    def comment(self, op: Operation) -> None:
        lines = file_lines(op.location)
        if lines and lines != self.last_lines:
            self.last_lines = lines
            self.line("body", f"# {', '.join(lines[:4])}{' ...' if len(lines) > 4 else ''}")

    def assemble(self, arguments: list[str]) -> str:
        sizes = ", ".join(self.symbols)
        static = [arguments[i] for i in sorted(self.static) if i < len(arguments)]
        text = [
            f"# The host program of @{self.function.sym_name.data}, printed from the prog level of the IR.",
            "", f"def arena_bytes({sizes}):", f"    return {self.arena_size}",
            "", f"def make_frame(arena{', ' if sizes else ''}{sizes}):", "    base = arena.data_ptr()",
            *(f"    {line}" for line in self.frame), f"    return ({_listed(self.frame_names)})",
            "", f"def bind_weights({', '.join(static)}):",
            *(f"    {line}" for line in self.bind), f"    return ({_listed(self.bound_names)})",
            "", "def run(args, weights, frame):",
        ]
        if arguments:
            text.append(f"    ({_listed(arguments)}) = args")
        if self.bound_names:
            text.append(f"    ({_listed(self.bound_names)}) = weights")
        if self.frame_names and not self.symbols:
            text.append(f"    ({_listed(self.frame_names)}) = frame")
        body = [f"    {line}" for line in self.body]
        if self.frame_names and self.symbols:
            # The frame depends on sizes, which are read from the arguments first.
            body.insert(len(self.symbols), f"    ({_listed(self.frame_names)}) = frame({sizes})")
        launches = any(line.startswith("status |=") for line in self.body)
        text += ["    status = 0"] if launches else []
        text += body
        text += ["    if status: raise_failure(status)"] if launches else []
        text += [f"    {line}" for line in self.written_back]
        text.append(f"    return [{', '.join(self.results)}]")
        return "\n".join(text) + "\n"


class Text(str):
    """Text that prints as it is inside a printed list."""

    def __repr__(self) -> str:
        return str(self)


_STATEMENTS: dict[type[Operation], Callable[[HostPrinter, Any], None]] = {
    prog.ArenaOp: HostPrinter.arena, prog.BufferOp: HostPrinter.buffer, prog.OutputOp: HostPrinter.output,
    prog.ViewOp: HostPrinter.view, prog.LaunchOp: HostPrinter.launch, prog.ExternOp: HostPrinter.extern,
    prog.ReturnOp: HostPrinter.give,
}


def _size_text(argument: str, dim: int | None = None, factor: int = 1, offset: int = 0) -> str:
    """A symbol's value: of an integer argument, of a dim, or of the dim ``factor * symbol + offset``."""
    size = argument if dim is None else f"{argument}.shape[{dim}]"
    return size if (factor, offset) == (1, 0) else f"({size} - {offset})//{factor}"


def _in_arena(value: SSAValue) -> bool:
    """Whether a value is memory of the arena, seen through views."""
    while isinstance(value.owner, prog.ViewOp):
        value = value.owner.source
    return isinstance(value.owner, prog.BufferOp)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return _leaves(list(value.values()))
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _listed(names: Sequence[str]) -> str:
    return "".join(f"{name}, " for name in names)


def tuple_text(dims: Sequence[IntExpr]) -> str:
    return f"({_listed([str(d) for d in dims])})"


def program_parts(module: ModuleOp) -> tuple[FuncOp, dict[str, tile.KernelOp]]:
    """The function of a program, and its kernels by name."""
    ops = list(module.body.block.ops)
    function = next(op for op in ops if isinstance(op, FuncOp))
    return function, {op.sym_name.data: op for op in ops if isinstance(op, tile.KernelOp)}


class HostProgram:
    """A program that can be called. Two calls at once get an arena each; a failed call gives its arena back.

    `kernels` are the loaded functions by name. `static` are the positions of arguments that are weights: what depends
    on them alone is made again only when one is another tensor or has moved.
    """

    def __init__(
        self, module: ModuleOp, kernels: Mapping[str, Callable[..., int]], static: Sequence[int] = ()
    ):
        function, tiles = program_parts(module)
        self._static = sorted(static)
        printer = HostPrinter(function, tiles, self._static)
        self.source = printer.print()
        self._dynamic = bool(printer.symbols)
        self._weights_at = printer.weights_at
        namespace: dict[str, Any] = {**printer.globals, **{printer.called[k]: kernels[k] for k in printer.called}}
        exec(compile(self.source, f"<host program of {function.sym_name.data}>", "exec"), namespace)
        self._run = namespace["run"]
        self._make_frame, self._arena_bytes = namespace["make_frame"], namespace["arena_bytes"]
        self._bind = namespace["bind_weights"]
        self._arenas: list[Any] = []
        self._bound: tuple[list[Any], list[Any], tuple[Any, ...]] | None = None

    def arenas(self) -> list[int]:
        """Bytes of each arena that is kept for the next calls."""
        if self._dynamic:
            return [arena.memory.numel() for arena in self._arenas]
        return [memory.numel() for memory, _ in self._arenas]

    def __call__(self, *args: Any) -> list[Any]:
        weights = self._weights(args)
        if self._dynamic:
            return self._call_with_sizes(args, weights)
        try:
            frame = self._arenas.pop()
        except IndexError:
            frame = self._frame()
        try:
            return self._run(args, weights, frame[1])
        finally:
            self._arenas.append(frame)

    def _weights(self, args: Sequence[Any]) -> tuple[Any, ...]:
        if not self._static:
            return self._bind() if self._bound is None else self._bound[2]
        given = [args[i] for i in self._static]
        # `weight.data = ...` keeps the tensor and may keep its address, and change only how it lies in memory.
        places = [(t.data_ptr(), t.shape, t.stride(), t.dtype) for t in given]
        bound = self._bound
        if bound is None or bound[1] != places or any(a is not b for a, b in zip(bound[0], given)):
            bound = (given, places, self._bind(*given))
            # A weight in another layout was copied; changes made to it in place must be seen by the next call.
            copied = any(bound[2][place] is not given[i] for place, i in self._weights_at.items())
            self._bound = None if copied else bound
        return bound[2]

    def _frame(self) -> tuple[torch.Tensor, Any]:
        with torch.inference_mode(False):  # a tensor made in that mode could not be written outside of it
            arena = torch.empty(self._arena_bytes() + ARENA_ALIGNMENT, dtype=torch.uint8)
            # Aligned for every dtype and for whole cache lines.
            return arena, self._make_frame(aligned(arena))

    def _call_with_sizes(self, args: Sequence[Any], weights: tuple[Any, ...]) -> list[Any]:
        """One arena at a time is kept, as large as the largest call has needed, with the frames of its last sizes."""
        leased: list[SizedArena] = []

        def frame(*sizes: int) -> Any:
            try:
                arena = self._arenas.pop()
            except IndexError:
                arena = SizedArena()
            leased.append(arena)
            return arena.frame(sizes, self._arena_bytes, self._make_frame)

        try:
            return self._run(args, weights, frame)
        finally:
            self._arenas.extend(leased)
