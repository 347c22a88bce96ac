"""From an FX graph to a `tw` module: arguments, nodes in order, results."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, FunctionType, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, BlockArgument, Region, SSAValue
from xdsl.utils.exceptions import VerifyException

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.errors import UnsupportedGraphError
from tilewright.ir.expr import Expr, IntExpr, linear_in_one
from tilewright.ir.text import UNKNOWN, file_lines
from tilewright.ir.tw import tensor_type
from tilewright.ir.types import INDEX, DimsAttr, TensorType, contiguous_strides
from tilewright.passes.lowering.indexing import is_contiguous

from . import (  # noqa: F401  the rule files fill the table
    activations,
    backward,
    composed,
    creation,
    elementwise,
    indexing,
    linear,
    losses,
    normalization,
    normalization_backward,
    pooling,
    random,
    reductions,
    replacement,
    resampling,
    scatter,
    searching,
    views,
)
from .call import Call, storage_of
from .fallback import aten_call, reason_by_dtype, reason_without_rule
from .locations import argument_hint, location_of, name_hint
from .symbols import Sizes
from .table import RULES, Refused, refuse_if, signature
from .updates import unsafe_update

aten = torch.ops.aten

# What tracing has checked already: nothing of them remains at run time.
_CHECKED_WHILE_TRACING = {aten._assert_tensor_metadata.default}
# Numbers from data, which are no tensors: what is to become of them only Python can say.
_READS_DATA = {aten._local_scalar_dense.default, aten.item.default, aten.equal.default, aten.is_nonzero.default}
# Calls that read how their operand lies in memory, which a tensor of the IR does not say.
_READS_LAYOUT = {aten.as_strided_copy.default}


@dataclass(frozen=True)
class Imported:
    """A `tw` module and what its trailing arguments hold: tensors that the graph carries with it, and their names."""

    module: ModuleOp
    constants: list[torch.Tensor]
    constant_names: list[str]


@dataclass(frozen=True)
class Opaque:
    """A value that the IR does not express; an error only where something reads it."""

    description: str


def import_graph(graph_module: torch.fx.GraphModule, names: Sequence[str] | None = None) -> Imported:
    """Import a functional ATen graph whose nodes carry `meta["val"]`.

    Placeholders become arguments (tensors and `index`), `get_attr` tensors trailing arguments. `names` replaces the
    placeholders' names as hints for the arguments' names.

    Raises UnsupportedGraphError for a graph that the IR cannot express as a whole: sizes that depend on data, mutation,
    higher-order ops, results that are not tensors, dtypes and layouts without a type.
    """
    return Importer(graph_module, names).run()


class Importer:
    """One import: the arguments, then every node in order."""

    def __init__(self, graph_module: torch.fx.GraphModule, names: Sequence[str] | None):
        self.graph_module = graph_module
        self.names = names
        self.sizes = Sizes()
        self.block = Block()
        self.build = Builder.at_end(self.block)
        self.values: dict[torch.fx.Node, Any] = {}
        self.arguments: dict[str, SSAValue] = {}
        self.argument_strides: list[tuple[IntExpr, ...]] = []
        self.bound: dict[str, tuple[int, ...]] = {}
        self.updates: dict[int, SSAValue] = {}  # new values of arguments, by the argument's number
        self.constants: list[torch.Tensor] = []
        self.constant_names: list[str] = []
        self.device = torch.device("cpu")

    def run(self) -> Imported:
        nodes = list(self.graph_module.graph.nodes)
        for node in nodes:
            if node.op == "placeholder":
                self.placeholder(node)
        for node in nodes:
            if node.op == "get_attr":
                self.get_attr(node)
        for node in nodes:
            if node.op == "call_function":
                self.call_function(node)
            elif node.op == "output":
                return self.finish(node)
            elif node.op not in ("placeholder", "get_attr"):
                raise UnsupportedGraphError(f"{node.op} {node.target} is not ATen: {where(node)}")
        raise UnsupportedGraphError("the graph has no output")

    # Arguments.

    def placeholder(self, node: torch.fx.Node) -> None:
        value = node.meta.get("val")
        position = len(self.block.args)
        name = self.names[position] if self.names is not None else str(node.target)
        if isinstance(value, torch.Tensor):
            self.values[node] = self.tensor_argument(value, name, node)
        elif type(value) is int or isinstance(value, torch.SymInt):
            self.sizes.accept([value])
            size = self.sizes.convert(value)
            self.argument(INDEX, name, ())
            if isinstance(size, Expr) and str(size).isidentifier():
                # An argument of its own says a symbol more directly than a tensor's dim.
                self.bound[str(size)] = (position,)
            self.values[node] = size
        else:
            raise UnsupportedGraphError(f"the argument {name} is a {type(value).__name__}, no tensor or integer")

    def argument(self, type: Any, name: str, strides: tuple[IntExpr, ...]) -> SSAValue:
        argument = self.block.insert_arg(type, len(self.block.args))
        argument.name_hint = argument_hint(name)
        self.argument_strides.append(strides)
        return argument

    def tensor_argument(self, value: torch.Tensor, name: str, node: torch.fx.Node) -> SSAValue:
        self.check_device(value, node)
        if value.is_neg() or value.is_conj():
            raise UnsupportedGraphError(f"the argument {name} is a lazily negated or conjugated view")
        position = len(self.block.args)
        if value.layout == torch.strided:
            self.sizes.accept([*value.shape, *value.stride()])
        type = self.sizes.tensor_type(value)
        for dim, size in enumerate(type.shape):
            if isinstance(size, Expr) and str(size).isidentifier():
                self.bound.setdefault(str(size), (position, dim))
        return self.argument(type, name, self.sizes.strides(value))

    def get_attr(self, node: torch.fx.Node) -> None:
        name = str(node.target)
        if name in self.arguments:
            self.values[node] = self.arguments[name]
            return
        value: Any = self.graph_module
        for part in name.split("."):
            value = getattr(value, part)
        if not isinstance(value, torch.Tensor) or isinstance(value, FakeTensor):
            raise UnsupportedGraphError(f"the attribute {name} is a {type(value).__name__}, no tensor with data")
        if value.ndim == 0 and name.startswith("_tensor_constant") and DTYPES[self.dtype(value)].kind != "complex":
            # A number in the model's source is lifted as a tensor that nothing writes to.
            self.check_device(value, node)
            self.build.location = location_of(node)
            self.values[node] = self.build.constant(value.item(), self.dtype(value))
            return
        self.arguments[name] = self.values[node] = self.tensor_argument(value, name, node)
        self.constants.append(value)
        self.constant_names.append(name)

    def dtype(self, value: torch.Tensor) -> str:
        return self.sizes.tensor_type(value).dtype

    def check_device(self, value: torch.Tensor, node: torch.fx.Node) -> None:
        if value.device != self.device:
            raise UnsupportedGraphError(f"a tensor is on {value.device}, not on {self.device}: {where(node)}")

    # Calls.

    def read(self, argument: Any) -> Any:
        """An argument of a node with nodes replaced by their values."""
        if isinstance(argument, torch.fx.Node):
            value = self.values[argument]
            if isinstance(value, Opaque):
                raise UnsupportedGraphError(f"{value.description} is used: {where(argument)}")
            return value
        if isinstance(argument, (list, tuple)):
            return [self.read(a) for a in argument]
        return argument

    def call_function(self, node: torch.fx.Node) -> None:
        value = node.meta.get("val")
        if node.target is operator.getitem:
            source, index = node.args
            self.values[node] = self.read(source)[index]
        elif node.target in _READS_DATA:
            raise UnsupportedGraphError(f"{node.target} gives a number from the data of a tensor: {where(node)}")
        elif isinstance(value, torch.SymInt) or type(value) is int:
            # Arithmetic on sizes: tracing has done it.
            self.values[node] = self.sizes.convert(value)
        elif isinstance(value, (torch.SymFloat, torch.SymBool, float, bool)):
            self.values[node] = Opaque(f"{node.name}, a {type(value).__name__} computed from sizes,")
        elif node.target in _CHECKED_WHILE_TRACING:
            return
        elif node.target is aten.copy_.default:
            self.values[node] = self.update(node)
        elif isinstance(node.target, OpOverload):
            self.values[node] = self.call(node, node.target, value)
        else:
            kind = "a higher-order op" if isinstance(node.target, HigherOrderOperator) else "not an ATen op"
            raise UnsupportedGraphError(f"{node.target} is {kind}: {where(node)}")
        _hint(self.values[node], node.name)

    def update(self, node: torch.fx.Node) -> SSAValue:
        """An argument that gets a new value: AOTAutograd writes such calls at the graph's end.

        Raises UnsupportedGraphError for memory that is no argument's own, or that something reads afterwards.
        """
        target, source = node.args[:2]
        argument = self.values.get(target) if isinstance(target, torch.fx.Node) else None
        if not isinstance(argument, BlockArgument) or target.op != "placeholder":  # type: ignore[union-attr]
            raise UnsupportedGraphError(f"{node.target} changes what is no argument: {where(node)}")
        assert isinstance(target, torch.fx.Node)
        if reason := unsafe_update(node, target):
            raise UnsupportedGraphError(f"{node.target} changes an argument {reason}: {where(node)}")
        self.build.location = location_of(node)
        type = tensor_type(argument)
        value = self.build.broadcast(self.build.cast(self.read(source), type.dtype), type.shape)
        self.updates[argument.index] = value
        return value

    def call(self, node: torch.fx.Node, overload: OpOverload, value: Any) -> Any:
        """The value of a call, or the list of its values."""
        if overload._schema.is_mutable:
            raise UnsupportedGraphError(f"{overload} changes its operand: {where(node)}")
        if overload in _READS_LAYOUT:
            raise UnsupportedGraphError(f"{overload} reads the memory layout of its operand: {where(node)}")
        results = [value] if isinstance(value, torch.Tensor) else value
        if not isinstance(results, (list, tuple)) or any(
            r is not None and not isinstance(r, torch.Tensor) for r in results
        ):
            raise UnsupportedGraphError(f"{overload} gives something that is no tensor: {where(node)}")
        for tensor in results:
            if tensor is not None:
                self.check_device(tensor, node)
                if tensor.is_neg() or tensor.is_conj():
                    raise UnsupportedGraphError(f"{overload} gives a lazily negated or conjugated view: {where(node)}")
        self.build.location = location_of(node)
        call = Call(self.build, node, results, self.sizes)
        args = [self.read(a) for a in node.args]
        kwargs = {name: self.read(a) for name, a in node.kwargs.items()}
        made = self.import_call(call, overload, args, kwargs)
        return made[0] if isinstance(value, torch.Tensor) else made

    def import_call(
        self, call: Call, overload: OpOverload, args: list[Any], kwargs: dict[str, Any]
    ) -> list[SSAValue | None]:
        """By the overload's rule; in ATen where there is none, or where it refuses."""
        start = len(self.build.inserted)
        rule = RULES.get(overload)
        reason = reason_by_dtype(overload, [*_tensor_types(args), *(t for t in call.types if t is not None)])
        if reason is None and rule is None:
            reason = reason_without_rule(overload)
        if reason is None and rule is not None:
            try:
                positional, keyword = signature(overload).bind(args, kwargs)
                made = rule(call, *positional, **keyword)
                checked = self.checked(call, made if isinstance(made, list) else [made])
                if self.sizes.symbols:
                    # Symbolic sizes that only a guard makes equal may not fit.
                    for op in self.build.inserted[start:]:
                        op.verify_()
                return checked
            except (Refused, VerifyException, ValueError) as error:
                reason = str(error)
                for op in reversed(self.build.inserted[start:]):
                    op.detach()
                    op.erase()
                del self.build.inserted[start:]
        assert reason is not None
        positions = [i for i, t in enumerate(call.types) if t is not None]
        outputs = aten_call(
            self.build,
            overload,
            args,
            kwargs,
            [call.type_of(i) for i in positions],
            [call.strides(i) for i in positions],
            reason,
            self.strided_operands(call.node),
        )
        found: list[SSAValue | None] = [None] * len(call.types)
        for position, output in zip(positions, outputs):
            found[position] = output
        return found

    def strided_operands(self, node: torch.fx.Node) -> list[int]:
        """Which operands of a call left to ATen were not row-major when it was traced, by position among them."""
        strided = []
        for position, operand in enumerate(_operands([node.args, node.kwargs])):
            traced = operand.meta["val"]
            shape, strides = self.sizes.tensor_type(traced).shape, self.sizes.strides(traced)
            if not is_contiguous(shape, strides):
                strided.append(position)
        return strided

    def checked(self, call: Call, made: list[Any]) -> list[SSAValue | None]:
        """The values, with the types that tracing found. Refuses a rule's result of another type."""
        refuse_if(len(made) != len(call.types), f"its import rule gives {len(made)} results")
        for index, value in enumerate(made):
            if value is None:
                refuse_if(call.used(index), f"result {index} is used")
                continue
            got, want = tensor_type(value), call.type_of(index)
            if got == want:
                continue
            symbolic = any(isinstance(size, Expr) for size in (*got.shape, *want.shape))
            refuse_if(got.dtype != want.dtype or not symbolic, f"its import rule gives {got}, not {want}")
            # One size in two forms, which only the facts known while tracing make equal.
            made[index] = self.build.reshape(value, want.shape)
        return made

    # Results.

    def finish(self, node: torch.fx.Node) -> Imported:
        results = node.args[0]
        operands: list[SSAValue] = []
        kinds: list[str] = []
        strides: list[tuple[IntExpr, ...]] = []
        traced: list[torch.Tensor | None] = []
        self.build.location = UNKNOWN
        for result in results if isinstance(results, (list, tuple)) else [results]:
            value = self.read(result)
            if isinstance(value, SSAValue):
                kinds.append("tensor")
                operands.append(value)
                seen = result.meta.get("val") if isinstance(result, torch.fx.Node) else None
                strides.append(_contiguous(value) if seen is None else self.sizes.strides(seen))
                traced.append(seen)
            elif isinstance(value, Expr) or type(value) is int:
                kinds.append("int")
                operands.append(self.size(value))
            elif value is None:
                kinds.append("none")
            else:
                raise UnsupportedGraphError(f"the graph gives a {type(value).__name__}, no tensor or integer")
        owners = self.owners(traced)
        for position, value in self.updates.items():
            operands.append(value)
            kinds.append("tensor")
            strides.append(self.argument_strides[position])
            owners.append(position)
        self.build.return_(operands)
        function = self.function(operands, kinds, strides)
        function.attributes["result_owners"] = DimsAttr(owners)
        if self.updates:
            function.attributes["arg_updates"] = DimsAttr(list(self.updates))
        module = ModuleOp([function])
        return Imported(module, self.constants, self.constant_names)

    def owners(self, results: Sequence[torch.Tensor | None]) -> list[int]:
        """For each tensor result whose memory it may be, as tracing saw it: an argument's number, or one of its own."""
        numbers: dict[StorageWeakRef, int] = {}
        for node in self.graph_module.graph.nodes:
            argument = self.values.get(node) if node.op in ("placeholder", "get_attr") else None
            storage = storage_of(node.meta.get("val"))
            if isinstance(argument, BlockArgument) and storage is not None:
                numbers.setdefault(storage, argument.index)
        found: list[int] = []
        for position, result in enumerate(results):
            unshared = len(self.block.args) + position
            storage = storage_of(result)
            found.append(unshared if storage is None else numbers.setdefault(storage, unshared))
        return found

    def size(self, value: IntExpr) -> SSAValue:
        type = TensorType.get((), "i64")
        return self.build.insert(
            tw.SizeOp.create(properties={"value": DimsAttr([value])}, result_types=[type])
        ).result

    def solve(self, name: str) -> tuple[int, ...] | None:
        """An argument's dim that is ``factor * symbol + offset``: `(argument, dim, factor, offset)`."""
        for argument in self.block.args:
            shape = argument.type.shape if isinstance(argument.type, TensorType) else ()
            for dim, size in enumerate(shape):
                solved = linear_in_one(size)
                if solved is not None and solved[0] == name:
                    return argument.index, dim, *solved[1:]
        return None

    def function(
        self, results: list[SSAValue], kinds: list[str], strides: list[tuple[IntExpr, ...]]
    ) -> FuncOp:
        for name in sorted(self.sizes.symbols - self.bound.keys()):
            if (place := self.solve(name)) is not None:
                self.bound[name] = place
        if missing := self.sizes.symbols - self.bound.keys():
            raise UnsupportedGraphError(
                f"the sizes {', '.join(sorted(missing))} are the size of no argument's dim; mark fewer dims as dynamic"
            )
        type = FunctionType.from_lists([a.type for a in self.block.args], [r.type for r in results])
        function = FuncOp("forward", type, Region(self.block))
        symbols = {name: DimsAttr(self.bound[name]) for name in sorted(self.sizes.symbols)}
        function.attributes.update(
            arg_strides=ArrayAttr([DimsAttr(s) for s in self.argument_strides]),
            result_strides=ArrayAttr([DimsAttr(s) for s in strides]),
            result_kinds=ArrayAttr([StringAttr(k) for k in kinds]),
            symbols=DictionaryAttr(symbols),
        )
        return function


def _hint(value: Any, name: str) -> None:
    """Name what the node made; what it only passes on has a name already."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, SSAValue) and item.name_hint is None:
            item.name_hint = name_hint(name)


def _operands(argument: Any) -> list[torch.fx.Node]:
    """The nodes among a call's arguments that are tensors, in order; one that is there twice comes twice."""
    if isinstance(argument, torch.fx.Node):
        return [argument] if isinstance(argument.meta.get("val"), torch.Tensor) else []
    items = argument.values() if isinstance(argument, dict) else argument
    return [n for item in items for n in _operands(item)] if isinstance(argument, (list, tuple, dict)) else []


def _tensor_types(args: list[Any]) -> list[TensorType]:
    found: list[TensorType] = []
    for value in args:
        if isinstance(value, SSAValue):
            found.append(tensor_type(value))
        elif isinstance(value, list):
            found += _tensor_types(value)
    return found


def _contiguous(value: SSAValue) -> tuple[IntExpr, ...]:
    return contiguous_strides(tensor_type(value).shape)


def where(node: torch.fx.Node) -> str:
    """The node and its line in the model, for messages."""
    lines = file_lines(location_of(node))
    return f"{node.name} at {lines[0]}" if lines else node.name
