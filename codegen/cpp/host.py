"""Prints a program as one C++ function: the same program that `codegen/host.py` prints as Python, for speed.

Its functions and types are those of `tilewright_host.h`. An argument in another layout is not handled here: the program
gives null before it has done anything, and Python brings the arguments into the layout (`codegen/native_host.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue

from tilewright.codegen.lifetimes import last_uses
from tilewright.ir import calls, prog, tile
from tilewright.ir.dtypes import itemsize
from tilewright.ir.errors import InputError
from tilewright.ir.expr import Expr, IntExpr, Ranges, free_symbols
from tilewright.ir.function import argument_symbols, result_kinds, updated_arguments
from tilewright.ir.text import file_lines
from tilewright.ir.types import BufferType, DimsAttr

from .expressions import expression_text
from .writer import RESERVED

# Calls that torch's C shim has as functions of their own, which skip the dispatcher: {0} is the first argument.
SHIMS: dict[str, str] = {
    "aten.mm.out": "aoti_torch_cpu_mm_out({out}, {0}, {1})",
    "aten.bmm.out": "aoti_torch_cpu_bmm_out({out}, {0}, {1})",
    "aten.addmm.out": "aoti_torch_cpu_addmm_out({out}, {0}, {1}, {2}, {beta}, {alpha})",
    "aten.baddbmm.out": "aoti_torch_cpu_baddbmm_out({out}, {0}, {1}, {2}, {beta}, {alpha})",
    "aten.copy_.default": "aoti_torch_copy_({0}, {1}, 0)",
}

_DTYPES = {"bool": "bool8"}  # C++ names of element types, where they are not the IR's
_VARIABLES = frozenset(("tw", "program", "args", "call", "kernels", "status", "owned", "Kernels", "run"))


class Inexpressible(Exception):
    """The program has a call that torch's C interface cannot make. The message is the reason."""


def print_host(function: FuncOp, kernels: Mapping[str, tile.KernelOp], name: str = "host") -> str:
    """The C++ text of a program, whose exported function is `name`. Raises Inexpressible, and InputError for an
    operator that this torch does not have."""
    return _HostPrinter(function, kernels, name).print()


class _HostPrinter:
    def __init__(self, function: FuncOp, kernels: Mapping[str, tile.KernelOp], name: str):
        self.function = function
        self.kernels = kernels
        self.name = name
        symbols = argument_symbols(function)
        self.taken = {*RESERVED, *_VARIABLES, *symbols}
        self.ranges = Ranges() if all(len(place) > 1 for place in symbols.values()) else _AnySign()
        self.names: dict[SSAValue, str] = {}
        # Where a value lies: the tensor or pointer that it is a view of, and how many elements further.
        self.base: dict[SSAValue, tuple[SSAValue, IntExpr]] = {}
        self.addressed: set[SSAValue] = set()
        self.views: dict[SSAValue, str] = {}  # tensors over memory, for library calls
        self.kept_views = 0  # those that serve later calls too
        self.body: list[str] = []
        self.divisors: dict[str, None] = {}
        self.used_symbols: set[str] = set()
        self.launched: dict[str, int] = {}  # kernels, with their numbers of pointers
        self.owned = 0
        self.arena: IntExpr = 0
        self.last_lines: list[str] = []
        self.results: list[str] = []

    def print(self) -> str:
        block = self.function.body.block
        used, done = self.used_values(), last_uses(self.function)
        tensors, checks = self.arguments(used)
        for op in block.ops:
            if not isinstance(op, prog.ArenaOp):
                self.comment(op)
            _STATEMENTS[type(op)](self, op)
            for value in done.get(op, ()):
                if tensor := self.owned_tensor(value):
                    self.emit(f"call.release({tensor});")
        kinds = "".join("t" if isinstance(arg.type, BufferType) else "i" for arg in block.args)
        space, run = f"{self.name}_program", f"{self.name}_program::run"
        divisors = [f"if ({text} == 0) return nullptr;" for text in self.divisors]
        room = [f"AtenTensorHandle owned[{max(self.owned, 1)}];"]
        begin = [*room, f"tw::Call call(program, {self.size(self.arena)}, owned);"]
        if self.launched:
            begin = ["const Kernels& kernels = *reinterpret_cast<const Kernels*>(program.kernels);", *begin,
                     "int64_t status = 0;"]
        status = "status" if self.launched else "0"
        end = f"return call.give({status}, {{{', '.join(self.results)}}});"
        body = [*tensors, *self.symbols(), *divisors, *checks, *begin, *self.body, end]
        fields = [
            f"  int64_t (*{kernel})({', '.join(['const void*'] * count + ['int64_t'] * self.sizes_of(kernel))});"
            for kernel, count in self.launched.items()
        ]
        return "\n".join([
            f"// The host program of @{self.function.sym_name.data}, printed from the prog level of the IR.",
            f"namespace {space} {{", "",
            *(["struct Kernels {", *fields, "};", ""] if fields else []),
            "PyObject* run(tw::Program& program, PyObject* const* args) {", *(f"  {line}" for line in body), "}", "",
            f"}}  // namespace {space}", "",
            f'extern "C" PyObject* {self.name}(const tw::Api* api, const void* const* kernels, PyObject* library) {{',
            f'  return tw::function<{run}>(api, kernels, "{kinds}", {self.kept_views}, library);', "}", "",
        ])

    def used_values(self) -> set[SSAValue]:
        """What kernels, calls and the caller get, and what those are views of."""
        ops = list(self.function.body.block.ops)
        used: set[SSAValue] = set()
        for op in reversed(ops):
            if isinstance(op, (prog.LaunchOp, prog.ExternOp, prog.ReturnOp)):
                used.update(op.args)
            elif isinstance(op, prog.ViewOp) and op.result in used:
                used.add(op.source)
        return used

    # Texts
    def new_name(self, value: SSAValue | None, fallback: str) -> str:
        base = name = (value.name_hint if value is not None else None) or fallback
        count = 0
        while {name, f"{name}_ptr", f"{name}_view"} & self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken |= {name, f"{name}_ptr", f"{name}_view"}
        if value is not None:
            self.names[value] = name
        return name

    def size(self, expr: IntExpr) -> str:
        self.used_symbols |= free_symbols(expr)
        for divisor in _divisors(expr):
            self.divisors[expression_text(divisor, self.ranges)] = None
        return expression_text(expr, self.ranges)

    def dims(self, dims: Sequence[IntExpr]) -> str:
        return "{" + ", ".join(map(self.size, dims)) + "}"

    def layout(self, type: BufferType) -> str:
        return f"{self.dims(type.shape)}, {self.dims(type.strides)}"

    def typed_layout(self, type: BufferType) -> str:
        return f"{self.layout(type)}, {dtype_text(type.dtype)}"

    def pointer(self, value: SSAValue) -> str:
        """The address of a value. The pointer that it is computed from is declared with the first use of it."""
        base, offset = self.base[value]
        name = f"{self.names[base]}_ptr"
        if base not in self.addressed:
            self.addressed.add(base)
            if isinstance(base.owner, prog.BufferOp):
                self.emit(f"char* {name} = call.arena + {self.size(base.owner.offset.data[0])};")
            else:
                self.emit(f"char* {name} = {self.names[base]}.data();")
        if offset == 0:
            return name
        return f"{name} + {self.size(offset * itemsize(prog.buffer_type(value).dtype))}"

    def tensor(self, value: SSAValue) -> str:
        """The tensor that a library call gets for a value."""
        base, _ = self.base[value]
        if value is base and not isinstance(base.owner, prog.BufferOp):
            return self.names[value]
        if value in self.views:
            return self.views[value]
        name, type = f"{self.names[value]}_view", prog.buffer_type(value)
        if isinstance(base.owner, prog.ExternOp):
            # It keeps the memory: what the call gives may be a view of it in turn.
            made = self.alias(value)
        else:
            made = f"call.view({self.kept_views}, {self.pointer(value)}, {self.typed_layout(type)})"
            self.kept_views += 1
        self.emit(f"tw::Tensor {name} = {made};")
        self.views[value] = name
        return name

    def alias(self, value: SSAValue) -> str:
        """A tensor of the call's own that shares the memory of what `value` is a view of."""
        base, offset = self.base[value]
        self.owned += 1
        return f"call.alias({self.names[base]}, {self.size(offset)}, {self.layout(prog.buffer_type(value))})"

    def owned_tensor(self, value: SSAValue) -> str | None:
        """The tensor that the call owns for the result of a library call or for a view of it; None without one."""
        return self.views.get(value) if isinstance(value.owner, prog.ViewOp) else self.names[value]

    def emit(self, line: str) -> None:
        self.body.append(line)

    def comment(self, op: Operation) -> None:
        lines = file_lines(op.location) if isinstance(op, (prog.LaunchOp, prog.ExternOp)) else []
        if lines and lines != self.last_lines:
            self.last_lines = lines
            self.emit(f"// {', '.join(lines[:4])}{' ...' if len(lines) > 4 else ''}")

    # Statements
    def arguments(self, used: set[SSAValue]) -> tuple[list[str], list[str]]:
        """The tensors among the arguments, and the checks that they are what the program was compiled for."""
        tensors, checks = [], []
        for position, arg in enumerate(self.function.body.block.args):
            name = self.new_name(arg, f"arg{position}")
            self.base[arg] = (arg, 0)
            if isinstance(arg.type, BufferType):
                tensors.append(f"const tw::Tensor {name} = tw::tensor_of(args[{position}]);")
                if arg in used:
                    checks.append(f"if (!tw::fits({name}, {self.typed_layout(arg.type)})) return nullptr;")
        return tensors, checks

    def symbols(self) -> list[str]:
        """The values of the symbols that the program has used. Others may have none, as sizes of ragged tensors."""
        arguments = self.function.body.block.args
        lines = []
        for symbol, (position, *place) in argument_symbols(self.function).items():
            if symbol in self.used_symbols:
                source = _size_text(self.names[arguments[position]], *place) if place else \
                    f"tw::integer(args[{position}])"
                lines.append(f"const int64_t {symbol} = {source};")
        return lines

    def set_arena(self, op: prog.ArenaOp) -> None:
        self.arena = op.size.data[0]

    def buffer(self, op: prog.BufferOp) -> None:
        self.new_name(op.result, "buffer")
        self.base[op.result] = (op.result, 0)

    def output(self, op: prog.OutputOp) -> None:
        name = self.new_name(op.result, "output")
        self.base[op.result] = (op.result, 0)
        self.owned += 1
        self.emit(f"tw::Tensor {name} = call.output({self.typed_layout(prog.buffer_type(op.result))});")

    def view(self, op: prog.ViewOp) -> None:
        self.new_name(op.result, "view")
        base, offset = self.base[op.source]
        self.base[op.result] = (base, offset + op.offset.data[0])

    def launch(self, op: prog.LaunchOp) -> None:
        kernel = op.kernel.root_reference.data
        self.launched[kernel] = len(op.args)
        sizes = self.kernels[kernel].size_names
        self.used_symbols.update(sizes)
        arguments = [self.pointer(a) for a in op.args] + list(sizes)
        self.emit(f"status |= kernels.{kernel}({', '.join(arguments)});")

    def sizes_of(self, kernel: str) -> int:
        return len(self.kernels[kernel].size_names)

    def extern(self, op: prog.ExternOp) -> None:
        target = op.target.data
        args, kwargs = calls.decode(op.arguments.data, calls.Operand, lambda size: size, calls.Tagged)
        if target in SHIMS and kwargs.keys() <= {"out", "beta", "alpha"}:
            tensors = [self.tensor(op.args[a.index]) for a in args]
            named = {"beta": "1", "alpha": "1", **{k: self.plain(v, op) for k, v in kwargs.items()}}
            self.emit(f"tw::check(tw::api.{SHIMS[target].format(*tensors, **named)});")
            return
        schema = find_schema(target)
        values = [self.stable(a.real_type, value, op) for a, value in _by_schema(schema, args, kwargs)]
        if any(r.type.kind() != "TensorType" for r in schema.returns):
            raise Inexpressible(f"{target} gives more than tensors")
        returns = len(schema.returns)
        values += ["0"] * (returns - len(values))
        self.owned += returns
        stack = self.new_name(None, "stack")
        self.emit(f"uint64_t {stack}[] = {{{', '.join(values) or '0'}}};")
        name, overload = target.replace(".", "::", 1).split(".")
        overload = "" if overload == "default" else overload
        self.emit(f'call.dispatch("{name}", "{overload}", {stack}, {returns}, {len(op.results)});')
        for number, result in enumerate(op.results):
            given = self.new_name(result, "result")
            self.base[result] = (result, 0)
            self.owned += 1  # where it is copied into the layout that tracing promised
            layout = self.typed_layout(prog.buffer_type(result))
            self.emit(f"tw::Tensor {given} = call.result({stack}[{number}], {layout});")

    def plain(self, value: Any, op: prog.ExternOp) -> str:
        return self.tensor(op.args[value.index]) if isinstance(value, calls.Operand) else repr(float(value))

    def stable(self, type: Any, value: Any, op: prog.ExternOp) -> str:
        """An argument for the dispatcher, by its type in the operator's schema."""
        kind = type.kind()
        if kind == "OptionalType":
            return "tw::none" if value is None else f"tw::some({self.stable(type.getElementType(), value, op)})"
        if kind == "ListType" and isinstance(value, (list, tuple)):
            return f"tw::list({{{', '.join(self.stable(type.getElementType(), v, op) for v in value)}}})"
        if kind == "TensorType" and isinstance(value, calls.Operand):
            return f"tw::value({self.tensor(op.args[value.index])})"
        if kind in ("IntType", "SymIntType") and isinstance(value, (int, Expr)):
            return f"tw::value(int64_t({self.size(value)}))"
        if kind == "FloatType" and isinstance(value, (int, float)):
            return f"tw::value({_double_text(float(value))})"
        if kind == "BoolType" and isinstance(value, (bool, int)):
            return f"tw::value({'true' if value else 'false'})"
        if kind == "StringType" and isinstance(value, str) and value.isidentifier():
            return f'tw::value("{value}")'
        if kind == "ScalarTypeType" and isinstance(value, calls.Tagged):
            return f"tw::value(int64_t({dtype_text(value.name)}))"
        if kind == "ScalarTypeType" and isinstance(value, int):
            return f"tw::value(int64_t({value}))"
        if kind == "DeviceObjType" and value == calls.Tagged("device", "cpu"):
            return "tw::cpu_device"
        if kind == "LayoutType" and value == calls.Tagged("layout", "strided"):
            return "tw::value(int64_t(0))"
        raise Inexpressible(f"{op.target.data} takes a {type}, which torch's C interface cannot pass")

    def give(self, op: prog.ReturnOp) -> None:
        sizes = self.function.attributes.get("result_sizes")
        ints = iter(sizes.data if isinstance(sizes, DimsAttr) else ())
        tensors = iter(op.args)
        kinds = result_kinds(self.function)
        for kind in kinds[: len(kinds) - len(updated_arguments(self.function))]:
            if kind == "int":
                self.results.append(f"int64_t({self.size(next(ints))})")
            elif kind == "none":
                self.results.append("tw::api.none")
            else:
                self.results.append(self.result(next(tensors)))

    def result(self, value: SSAValue) -> str:
        if value is not self.base[value][0]:
            return self.alias(value)
        return f"args[{value.index}]" if isinstance(value, BlockArgument) else self.names[value]


_STATEMENTS: dict[type[Operation], Any] = {
    prog.ArenaOp: _HostPrinter.set_arena, prog.BufferOp: _HostPrinter.buffer, prog.OutputOp: _HostPrinter.output,
    prog.ViewOp: _HostPrinter.view, prog.LaunchOp: _HostPrinter.launch, prog.ExternOp: _HostPrinter.extern,
    prog.ReturnOp: _HostPrinter.give,
}


class _AnySign(Ranges):
    """What is known where symbols are integer arguments, which may be negative."""

    def is_nonnegative(self, expr: IntExpr) -> bool:
        return isinstance(expr, int) and expr >= 0


def find_schema(target: str) -> Any:
    """The schema of what ``"aten.sort.default"`` names. Raises InputError for an operator that this torch lacks."""
    import torch

    namespace, name, overload = target.split(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), name), overload)._schema
    except AttributeError:
        raise InputError(f"this torch has no operator {target!r}, which the program calls") from None


def _by_schema(schema: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Each of the schema's arguments with its value: as given, or the default."""
    named = dict(zip([a.name for a in schema.arguments], args)) | dict(kwargs)
    return [(a, named.get(a.name, a.default_value)) for a in schema.arguments]


def dtype_text(name: str) -> str:
    return f"tw::{_DTYPES.get(name, name)}"


def _double_text(value: float) -> str:
    if math.isnan(value):
        return "tw::nan_f64"
    return repr(value) if math.isfinite(value) else ("tw::inf_f64" if value > 0 else "-tw::inf_f64")


def _size_text(argument: str, dim: int, factor: int = 1, offset: int = 0) -> str:
    """A symbol's value: a dim, which is ``factor * symbol + offset``."""
    size = f"{argument}.size({dim})"
    return size if (factor, offset) == (1, 0) else f"tw::index_div({size} - {offset}, {factor})"


def _divisors(expr: IntExpr) -> list[IntExpr]:
    """What an expression divides by that might be 0."""
    found: list[IntExpr] = []
    if isinstance(expr, int):
        return found
    for monomial, _ in expr.terms:
        for atom in monomial:
            if isinstance(atom, tuple):
                operator, left, right = atom
                found += [*_divisors(left), *_divisors(right)]
                if operator in ("//", "%") and not isinstance(right, int):
                    found.append(right)
    return found
