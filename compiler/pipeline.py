"""The whole way of a graph, top to bottom on one page: import, passes, kernels, host program."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from xdsl.dialects.builtin import ModuleOp

from tilewright.codegen import native
from tilewright.codegen.cpp import Inexpressible, print_files, print_host
from tilewright.codegen.frozen import is_frozen
from tilewright.codegen.host import program_parts
from tilewright.codegen.native_host import unavailable
from tilewright.ir import prog, tile, tw
from tilewright.ir.errors import KernelBuildError, OptionValueError, UnsupportedOpError
from tilewright.ir.function import updated_arguments
from tilewright.ir.interpreter import find_function
from tilewright.ir.target import Target
from tilewright.ir.target import target as find_target
from tilewright.ir.text import file_lines
from tilewright.ir.types import DimsAttr, TensorType
from tilewright.passes.base import PassContext, Remark
from tilewright.passes.manager import PassManager
from tilewright.passes.pipelines import parse_pipeline

from .blame import blaming, wrong_kernels, wrong_nodes
from .compilation import Compilation, History, argument_types, load_functions, load_host, static_positions
from .importer import import_graph
from .importer.fallback import LIBRARY
from .options import Options
from .randomness import counter_based
from .tuning import blaming_records, set_aside_unbuildable, settle_schedules


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
    with clock.phase("tune"):
        tuned = settle_schedules(module, options, target)
    with clock.phase("print"):
        sources = print_program(module, context)
    with clock.phase("build"):
        try:
            functions, libraries = build(sources, target)
        except KernelBuildError:
            if not set_aside_unbuildable(tuned, target):
                raise
            sources = print_program(module, context)
            functions, libraries = build(sources, target)
    with clock.phase("host"):
        host = load_host(module, functions, libraries, sources, static_positions(module, weights, constants))
    compilation = Compilation(
        host=host, module=module, constants=constants, sources=sources, libraries=libraries, target=target,
        weights=weights, fallbacks=fallbacks, seconds=clock.seconds, history=lambda: History(manager, records),
    )
    if manager.verifier is not None:
        # Kernel emission is a stage like any other: the program against the IR it was printed from.
        given = list(manager.verifier.inputs)  # type: ignore[attr-defined]
        free = given[: len(given) - len(constants)]
        with blaming_records(tuned, functions), blaming(lambda: wrong_kernels(module, functions)):
            manager.verifier.check_callable(  # type: ignore[attr-defined]
                lambda _: with_updates(compilation, module, free), "kernel emission"
            )
    return compilation


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


def print_program(module: ModuleOp, context: PassContext) -> list[str]:
    """The C++ files of the kernels and of the host program."""
    kernels = [op for op in module.body.block.ops if isinstance(op, tile.KernelOp)]
    host = host_text(module, context) if context.options["host"] == "cpp" else ""
    return print_files(kernels, context.target, host)


def build(sources: Sequence[str], target: Target) -> tuple[dict[str, Any], list[Path]]:
    """The kernels of the sources, loaded, and the libraries they are in."""
    libraries = native.build_all(sources, target)
    return load_functions(libraries, sources, target), libraries


def host_text(module: ModuleOp, context: PassContext) -> str:
    """The host program in C++, or nothing where only Python can make its calls, which is remarked on."""
    reason = "what depends on frozen weights alone runs apart" if is_frozen(module) else unavailable()
    try:
        if not reason:
            return print_host(*program_parts(module))
    except Inexpressible as error:
        reason = str(error)
    context.remark(lambda: Remark("host", "rejected", f"Python calls the kernels: {reason}"))
    return ""


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
    return merged_fallbacks(
        {"op": op.target.data, "count": 1, "reason": op.reason.data, "lines": file_lines(op.location)}
        for op in module.walk() if isinstance(op, tw.AtenOp) and op.reason.data != LIBRARY
    )


def merged_fallbacks(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each op and reason: counts added, each line once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        known = found.setdefault((row["op"], row["reason"]), {**row, "count": 0, "lines": []})
        known["count"] += row["count"]
        known["lines"] += [line for line in row.get("lines", ()) if line not in known["lines"]]
    return list(found.values())


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


__all__ = ["Compilation", "compile_graph"]
