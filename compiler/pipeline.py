"""The whole way of a graph, top to bottom on one page: import, passes, kernels, host program."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from tilewright.codegen import native
from tilewright.codegen.cpp import print_files, print_kernel
from tilewright.codegen.frozen import FrozenProgram, make_host
from tilewright.codegen.host import HostProgram
from tilewright.ir import prog, tile, tw
from tilewright.ir.cost import kernel_cost, predicted_seconds
from tilewright.ir.errors import OptionValueError, UnsupportedOpError
from tilewright.ir.function import updated_arguments
from tilewright.ir.interpreter import find_function
from tilewright.ir.target import Target
from tilewright.ir.target import target as find_target
from tilewright.ir.text import file_lines, parse_ir, print_ir
from tilewright.ir.types import DimsAttr, TensorType
from tilewright.passes.base import PassContext, Remark
from tilewright.passes.manager import PassManager, PassRecord
from tilewright.passes.pipelines import parse_pipeline

from .blame import blaming, wrong_kernels, wrong_nodes
from .importer import import_graph
from .importer.fallback import LIBRARY
from .options import Options
from .randomness import counter_based

if TYPE_CHECKING:
    from .fallback import AnyCompilation


def compile_graph(
    graph_module: torch.fx.GraphModule,
    options: Options,
    *,
    inputs: Sequence[Any] | None = None,
    static: Sequence[int] = (),
) -> Compilation:
    """Compile an ATen graph as AOTAutograd makes it (functional, sizes known).

    `inputs` are example inputs for ``verify="numeric"`` (without the graph's own constants; random ones if None).
    `static` are the positions of inputs that are weights: the same tensors in every call.
    Raises UnsupportedGraphError for a graph that cannot be imported, UnsupportedOpError for ops left to ATen when
    ``fallback="error"``, OptionValueError for passes that do not end in a program, CompilerNotFoundError,
    KernelBuildError, PassError and NumericMismatchError.
    """
    with collector_paused():
        return _compile(graph_module, options, inputs, static)


def _compile(
    graph_module: torch.fx.GraphModule, options: Options, inputs: Sequence[Any] | None, weights: Sequence[int]
) -> Compilation:
    clock = Clock()
    target = find_target(options.target)
    with clock.phase("import"):
        if options.rng == "counter":
            graph_module = counter_based(graph_module)
        imported = import_graph(graph_module)
        module, constants = imported.module, imported.constants
        if options.frozen:
            freeze_arguments(module, weights, len(constants))
        fallbacks = count_fallbacks(module)
        if fallbacks and options.fallback == "error":
            raise unsupported(fallbacks)
    context = PassContext(target, options.as_dict(), sizes={})
    manager = PassManager(
        parse_pipeline(options.passes), context, verify=options.verify, dump_dir=options.dump_ir,
        verifier=import_verifier(graph_module, module, inputs, constants) if options.verify == "numeric" else None,
    )
    with clock.phase("passes"):
        records = manager.run(module)
    left = {type(op) for op in module.walk()}
    if prog.ReturnOp not in left or prog.AllocOp in left:
        raise OptionValueError(
            f"the passes {options.passes!r} do not end in a program with its memory planned: lower and plan-memory are "
            "needed"
        )
    with clock.phase("print"):
        kernels = [op for op in module.body.block.ops if isinstance(op, tile.KernelOp)]
        sources = print_files(kernels, target)
    with clock.phase("build"):
        functions, libraries = build(sources, target)
    with clock.phase("host"):
        count = len(argument_types(module))
        static = [*weights, *range(count - len(constants), count)]
        host = make_host(module, functions, static)
    compilation = Compilation(
        host=host, module=module, constants=constants, sources=sources, libraries=libraries, target=target,
        fallbacks=fallbacks, remarks=context.remarks, manager=manager,
        stats={
            "kernels": [vars(k) for k in kernel_infos(kernels, target)], "fallbacks": fallbacks,
            "passes": [record.as_dict() for record in records], "peak_bytes": peak(records),
            "compile_seconds": clock.seconds, "statistics": context.statistics,
        },
    )
    if manager.verifier is not None:
        # Kernel emission is a stage like any other: the program against the IR it was printed from.
        given = list(manager.verifier.inputs)  # type: ignore[attr-defined]
        free = given[: len(given) - len(constants)]
        with blaming(lambda: wrong_kernels(module, functions)):
            manager.verifier.check_callable(  # type: ignore[attr-defined]
                lambda _: with_updates(compilation, module, free), "kernel emission"
            )
    return compilation


def load_compilation(parts: Mapping[str, Any]) -> Compilation:
    """A compilation from an artifact's parts: nothing is compiled or imported again."""
    module = parse_ir(parts["prog_text"], "prog.mlir")
    target = find_target(parts["options"].get("target"))
    functions = load_functions(parts["libraries"], parts["sources"], target)
    constants = list(parts["constants"])
    count = len(argument_types(module))
    static = list(range(count - len(constants), count))
    return Compilation(
        host=make_host(module, functions, static), module=module, constants=constants, sources=list(parts["sources"]),
        libraries=list(parts["libraries"]), target=target, fallbacks=parts["stats"]["fallbacks"],
        remarks=[Remark(r["pass_name"], r["kind"], r["message"], tuple(r["lines"])) for r in parts["remarks"]],
        manager=None, stats=parts["stats"], stage_texts=dict(parts["stages"]),
    )


@dataclass(frozen=True)
class KernelInfo:
    """A kernel for people: where it comes from, what it moves and computes for its traced sizes, its source."""

    name: str
    kind: str
    lines: list[str]
    schedule: dict[str, Any]
    bytes: int
    flops: int
    predicted_s: float
    source: str


@dataclass
class Compilation:
    """A compiled graph. Calling it runs the program on the graph's inputs (tensors and ints) and gives its outputs."""

    host: HostProgram | FrozenProgram
    module: ModuleOp
    constants: list[torch.Tensor]
    sources: list[str]
    libraries: list[Path]
    target: Target
    fallbacks: list[dict[str, Any]]
    remarks: list[Remark]
    manager: PassManager | None
    stats: dict[str, Any]
    stage_texts: dict[str, str] = field(default_factory=dict)
    parts: Mapping[str, AnyCompilation] = field(default_factory=dict)  # none: it is one program

    def __call__(self, *args: Any) -> list[Any]:
        return self.host(*args, *self.constants)

    @property
    def stages(self) -> dict[str, str]:
        """The IR after the import and after each pass; the last is also known as ``prog``. Made when asked for."""
        if not self.stage_texts and self.manager is not None:
            for position, name, module in self.manager.replay():
                unique = name if name not in self.stage_texts else f"{name} ({position})"
                self.stage_texts[unique] = print_ir(module)
            self.stage_texts["prog"] = self.prog_text
        return self.stage_texts

    @property
    def prog_text(self) -> str:
        return print_ir(self.module)

    @property
    def host_source(self) -> str:
        """The Python text of the host program."""
        return self.host.source

    @property
    def kernels(self) -> list[KernelInfo]:
        return kernel_infos([op for op in self.module.body.block.ops if isinstance(op, tile.KernelOp)], self.target)


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection meanwhile: compiling makes many objects that live, which the collector would walk again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def build(sources: Sequence[str], target: Target) -> tuple[dict[str, Any], list[Path]]:
    """The kernels of the sources, loaded, and the libraries they are in."""
    libraries = native.build_all(sources, target)
    return load_functions(libraries, sources, target), libraries


def load_functions(libraries: Sequence[Path], sources: Sequence[str], target: Target) -> dict[str, Any]:
    """Every kernel of the libraries, by name; `sources` are their texts, in the same order."""
    functions: dict[str, Any] = {}
    for library, source in zip(libraries, sources):
        functions |= native.load_library(library, source, target)
    return functions


def argument_types(module: ModuleOp) -> list[Any]:
    """The types of the function's arguments."""
    function = next(op for op in module.body.block.ops if isinstance(op, FuncOp))
    return [arg.type for arg in function.body.block.args]


def freeze_arguments(module: ModuleOp, weights: Sequence[int], constants: int) -> None:
    """Mark the weights and the graph's constants, its last arguments, as frozen, but for those that a call writes."""
    function = find_function(module)
    types = argument_types(module)
    updated = updated_arguments(function)
    frozen = [
        i for i in sorted({*weights, *range(len(types) - constants, len(types))})
        if isinstance(types[i], TensorType) and i not in updated
    ]
    function.attributes["frozen"] = DimsAttr(frozen)


def static_inputs() -> list[int]:
    """Positions of inputs that AOTAutograd knows to be parameters and buffers of the model, while it compiles one."""
    context = torch._guards.TracingContext.try_get()
    metadata = getattr(context, "fw_metadata", None) if context is not None else None
    return list(getattr(metadata, "static_input_indices", None) or ())


def count_fallbacks(module: ModuleOp) -> list[dict[str, Any]]:
    """Ops left to ATen, but for those that are a library's on purpose: `op`, `count`, `reason`, the model's `lines`."""
    counts: Counter[tuple[str, str]] = Counter()
    lines: dict[tuple[str, str], dict[str, None]] = {}
    for op in module.walk():
        if isinstance(op, tw.AtenOp) and op.reason.data != LIBRARY:
            key = (op.target.data, op.reason.data)
            counts[key] += 1
            lines.setdefault(key, {}).update(dict.fromkeys(file_lines(op.location)))
    return [
        {"op": op, "count": count, "reason": reason, "lines": list(lines[op, reason])}
        for (op, reason), count in counts.items()
    ]


def unsupported(fallbacks: list[dict[str, Any]]) -> UnsupportedOpError:
    listed = "\n".join(
        f"  {row['op']} ({row['count']}x): {row['reason']}" + (f" at {', '.join(row['lines'])}" if row["lines"] else "")
        for row in fallbacks
    )
    return UnsupportedOpError(
        f"fallback='error', and these ops would run in ATen:\n{listed}\n"
        "Use fallback='allow' to let them, or rewrite the lines of the model."
    )


def import_verifier(
    graph_module: torch.fx.GraphModule, module: ModuleOp, inputs: Sequence[Any] | None,
    constants: Sequence[torch.Tensor],
) -> Any:
    """The numeric verifier, after it has compared the imported module with the FX graph itself."""
    from tilewright.ir.numerics import random_inputs
    from tilewright.passes.verify import NumericVerifier, fixed_random_numbers

    if inputs is None or any(isinstance(i, torch._subclasses.FakeTensor) for i in inputs):
        made = random_inputs(module)
        inputs = made[: len(made) - len(constants)]
    free = list(inputs)
    verifier = NumericVerifier([*free, *constants], module)
    with torch.no_grad(), fixed_random_numbers():
        outputs = with_updates(torch.fx.Interpreter(graph_module).run, module, free)
    with blaming(lambda: wrong_nodes(graph_module, free)):
        verifier.check_reference(outputs)
    return verifier


def with_updates(call: Callable[..., Any], module: ModuleOp, inputs: Sequence[Any]) -> list[Any]:
    """The results of a call, then the new values of the arguments that `module` updates; `inputs` stay as they are."""
    positions = updated_arguments(find_function(module))
    copies = [x.clone() if i in positions else x for i, x in enumerate(inputs)]
    results = call(*copies)
    results = list(results) if isinstance(results, (tuple, list)) else [results]
    return results + [copies[i] for i in positions]


def kernel_infos(kernels: Sequence[tile.KernelOp], target: Target) -> list[KernelInfo]:
    infos = []
    for kernel in kernels:
        cost = kernel_cost(kernel)
        infos.append(
            KernelInfo(
                kernel.sym_name.data, kernel.kind.data, file_lines(kernel.location), {}, cost.bytes_moved, cost.flops,
                predicted_seconds(cost, target), print_kernel(kernel),
            )
        )
    return infos


def peak(records: Sequence[PassRecord]) -> int | None:
    return records[-1].after.peak_bytes if records else None


__all__ = ["Compilation", "KernelInfo", "compile_graph", "load_compilation"]
