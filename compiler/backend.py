"""The torch.compile backend: Dynamo's graph goes through AOTAutograd, and each ATen graph through `compile_graph`."""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.schemas import SerializableAOTDispatchCompiler
from torch._guards import tracing
from torch.utils._python_dispatch import _disable_current_modes

from .fallback import compile_or_fall_back
from .kept import KeptProgram, is_kept, keeping
from .logs import log
from .options import Options

if TYPE_CHECKING:
    from .fallback import AnyCompilation

# For looking at, never read by a compilation: what torch.compile made, oldest first, as long as it is alive.
_made: deque[weakref.ref[Any]] = deque(maxlen=1024)


def tilewright(
    graph_module: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """The backend that ``torch.compile(model, backend="tilewright", options={...}, mode=...)`` calls.

    `options` are those of `tilewright.list_options()`. Raises UnknownOptionError and OptionValueError for options that
    are not taken; with ``fallback="error"`` also what `compile_or_fall_back` raises.
    """
    settled = Options.make(options, mode=mode)

    def compiled(graph: torch.fx.GraphModule, options: Options) -> KeptProgram:
        # AOTAutograd calls with its fake-tensor mode on, under which nothing could be computed (verify="numeric" does).
        with _disable_current_modes():
            compilation = compile_or_fall_back(graph, options)
        remember(compilation)
        return KeptProgram(compilation)

    def inference(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> KeptProgram:
        return compiled(graph, settled)

    def forward(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> KeptProgram:
        if settled.frozen:
            log.warning("frozen=True is for inference, under torch.no_grad(): this graph, with gradients, goes without")
        return compiled(graph, dataclasses.replace(settled, frozen=False))

    def backward(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> KeptProgram:
        # What the tracing context says about inputs (which of them are weights) is about the forward graph.
        with tracing(None):
            return forward(graph, inputs)

    def split(*args: Any, **kwargs: Any) -> Any:
        from .randomness import partition

        return partition(*args, counter=settled.rng == "counter", **kwargs)

    kept = is_kept(settled, example_inputs)
    compile_both = aot_autograd(
        fw_compiler=SerializableAOTDispatchCompiler(KeptProgram, forward) if kept else forward, bw_compiler=backward,
        inference_compiler=SerializableAOTDispatchCompiler(KeptProgram, inference) if kept else inference,
        decompositions=Decompositions(), partition_fn=split, keep_inference_input_mutations=True,
    )
    with keeping(settled) if kept else nullcontext():
        return compile_both(graph_module, example_inputs)


class Decompositions(Mapping[Any, Any]):
    """`decompositions.backend_table`, from when tracing looks into it: a program that is kept is not traced."""

    @cached_property
    def table(self) -> Mapping[Any, Any]:
        from .decompositions import backend_table

        return backend_table()

    def __getitem__(self, op: Any) -> Any:
        return self.table[op]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)


def remember(compilation: AnyCompilation) -> None:
    """Make a compilation known to `compilations`, for as long as it is alive."""
    _made.append(weakref.ref(compilation))


def compilations() -> list[AnyCompilation]:
    """What torch.compile has made through this backend and is still alive, oldest first: kernels, stages, fallbacks."""
    return [made for ref in _made if (made := ref()) is not None]


def last_compilation() -> AnyCompilation | None:
    """The newest of `compilations()`."""
    made = compilations()
    return made[-1] if made else None
