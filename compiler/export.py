"""A model as one functional ATen graph, through torch.export: the graph that AOTAutograd would give for inference.

Parameters, buffers and tensor constants become `get_attr` nodes, so that they are constants of the compiled program and
only the model's own arguments remain inputs.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    OutputKind,
    SymIntArgument,
    TensorArgument,
)

from tilewright.ir.errors import ExportError

from .decompositions import export_table
from .signature import InputSpec, Mutation, OutputSpec, Signature, dim_of, tensor_spec


@dataclass(frozen=True)
class Exported:
    """A graph to compile, how it is called, and (by attribute name) the model's own tensors that it captures."""

    graph_module: torch.fx.GraphModule
    signature: Signature
    constants: dict[str, torch.Tensor]
    example_inputs: list[Any] | None


class _Function(torch.nn.Module):
    """A plain function as a module, which is what torch.export takes."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self._function = function
        self.forward = function  # type: ignore[method-assign]  # keeps the function's own parameter names


def export_graph(
    model: Callable[..., Any] | ExportedProgram,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Exported:
    """The ATen graph of `model` for inference.

    Raises ExportError, with torch's own reason, where the model cannot be captured as one graph.
    """
    from torch._dynamo.convert_frame import compile_lock

    # Tracing changes state of the whole process: one thread at a time, whoever traces.
    with compile_lock:
        return _export_graph(model, args, kwargs, dynamic_shapes)


def _export_graph(
    model: Callable[..., Any] | ExportedProgram, args: Sequence[Any], kwargs: Mapping[str, Any] | None,
    dynamic_shapes: Any,
) -> Exported:
    program = model if isinstance(model, ExportedProgram) else _export(model, args, kwargs or {}, dynamic_shapes)
    try:
        with warnings.catch_warnings():
            # torch copies its own pytree specs by a way that it has deprecated.
            warnings.filterwarnings("ignore", "`isinstance\\(treespec", FutureWarning)
            program = program.run_decompositions(export_table())
    except Exception as error:  # whatever torch raises here is about the model
        raise ExportError(f"torch could not lower the exported model to ATen: {_first_line(error)}") from error
    if isinstance(model, ExportedProgram):
        return _unlift(program, None, model.example_inputs)
    forward = model.forward if isinstance(model, torch.nn.Module) else model
    return _unlift(program, tuple(inspect.signature(forward).parameters), (tuple(args), dict(kwargs or {})))


def _export(
    model: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any
) -> ExportedProgram:
    if not callable(model):
        raise ExportError(f"a model is a torch.nn.Module or a function, not {type(model).__name__}")
    module = model if isinstance(model, torch.nn.Module) else _Function(model)
    try:
        with torch.no_grad():
            return torch.export.export(
                module, tuple(args), dict(kwargs), dynamic_shapes=dynamic_shapes, strict=False
            )
    except Exception as error:  # whatever torch raises here is about the model
        raise ExportError(
            f"torch.export could not capture {type(module).__name__} as one graph: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _unlift(program: ExportedProgram, parameters: tuple[str, ...] | None, example: tuple[Any, Any] | None) -> Exported:
    """Turn captured placeholders into attributes, mutated results into copies, and write down the signature."""
    # A deep copy of the graph only: the tensors stay the model's own.
    graph = torch.fx.Graph()
    val_map: dict[torch.fx.Node, torch.fx.Node] = {}
    result = graph.graph_copy(program.graph, val_map)
    output = graph.output(result)
    output.meta = dict(program.graph.output_node().meta)
    placeholders = {node.name: val_map[node] for node in program.graph.nodes if node.op == "placeholder"}

    attributes = torch.nn.Module()
    constants: dict[str, torch.Tensor] = {}
    attribute_of: dict[str, str] = {}
    inputs: list[InputSpec] = []
    for spec in program.graph_signature.input_specs:
        node = placeholders[spec.arg.name]
        if spec.kind == InputKind.USER_INPUT:
            inputs.append(_input_spec(spec.arg, node))
            if inputs[-1].kind == "constant":
                _erase_constant(graph, node, inputs[-1].value)
            continue
        if spec.kind not in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            raise ExportError(f"the model captures {spec.target} ({spec.kind.name.lower()}), which cannot be compiled")
        assert spec.target is not None
        name = spec.target.replace(".", "_")
        while name in constants or hasattr(attributes, name):
            name += "_"
        tensor = program.constants[spec.target] if spec.target in program.constants else program.state_dict[spec.target]
        constants[name] = tensor
        attribute_of[spec.target] = name
        attributes.register_buffer(name, tensor.detach() if isinstance(tensor, torch.nn.Parameter) else tensor)
        with graph.inserting_before(node):
            attribute = graph.get_attr(name)
        attribute.meta = dict(node.meta)
        node.replace_all_uses_with(attribute)
        graph.erase_node(node)
        if not attribute.users:
            graph.erase_node(attribute)

    outputs, mutations = _outputs(program, output, [spec.name for spec in inputs], attribute_of)
    in_spec, out_spec = program.call_spec.in_spec, program.call_spec.out_spec
    assert in_spec is not None and out_spec is not None
    flat = pytree.tree_leaves(example) if example is not None else []
    tensors = [leaf for spec, leaf in zip(inputs, flat) if spec.kind != "constant"]
    signature = Signature(
        inputs=tuple(inputs),
        outputs=outputs,
        mutations=mutations,
        ranges=_ranges(program),
        parameters=parameters if parameters is not None else tuple(spec.name for spec in inputs),
        in_spec=in_spec,
        out_spec=out_spec,
    )
    module = torch.fx.GraphModule(attributes, graph)
    return Exported(module, signature, constants, tensors if example is not None else None)


def _input_spec(arg: Any, node: torch.fx.Node) -> InputSpec:
    if isinstance(arg, ConstantArgument):
        return InputSpec(arg.name, "constant", value=arg.value)
    value = node.meta["val"]
    if isinstance(arg, TensorArgument):
        return tensor_spec(arg.name, value)
    if isinstance(arg, SymIntArgument):
        return InputSpec(arg.name, "int", shape=(dim_of(value),))
    raise ExportError(f"argument {arg.name!r} is a {type(arg).__name__}, which cannot be compiled")


def _erase_constant(graph: torch.fx.Graph, node: torch.fx.Node, value: Any) -> None:
    """A constant argument stands for its value; nothing of it remains an input."""

    def replaced(argument: torch.fx.Node) -> Any:
        return value if argument is node else argument

    for user in list(node.users):
        user.args = torch.fx.map_arg(user.args, replaced)
        user.kwargs = torch.fx.map_arg(user.kwargs, replaced)
    graph.erase_node(node)


def _outputs(
    program: ExportedProgram, output: torch.fx.Node, inputs: list[str], attributes: Mapping[str, str]
) -> tuple[tuple[OutputSpec, ...], tuple[Mutation, ...]]:
    """Keep the results that are nodes in the graph; say what becomes of each, and of values that are not."""
    kept: list[torch.fx.Node] = []
    outputs: list[OutputSpec] = []
    mutations: list[Mutation] = []
    for spec, value in zip(program.graph_signature.output_specs, output.args[0]):  # type: ignore[arg-type]
        if not isinstance(value, torch.fx.Node):
            outputs.append(OutputSpec(None, value))
            continue
        index = len(kept)
        kept.append(value)
        if spec.kind == OutputKind.USER_OUTPUT:
            outputs.append(OutputSpec(index))
        elif spec.kind == OutputKind.BUFFER_MUTATION and spec.target in attributes:
            mutations.append(Mutation(index, constant=attributes[spec.target]))
        elif spec.kind == OutputKind.USER_INPUT_MUTATION and spec.target in inputs:
            mutations.append(Mutation(index, input=inputs.index(spec.target)))
        else:
            raise ExportError(f"the model changes {spec.target!r} ({spec.kind.name.lower()}), which cannot be compiled")
    output.args = (tuple(kept),)
    return tuple(outputs), tuple(mutations)


def _ranges(program: ExportedProgram) -> dict[str, tuple[int, int | None]]:
    """The sizes that each symbol may take; None where there is no upper end."""
    ranges = {}
    for name, bounds in program.range_constraints.items():
        upper = int(bounds.upper) if bounds.upper.is_Integer else None
        ranges[str(name)] = (int(bounds.lower), upper)
    return ranges
