"""The torch.compile backend: Dynamo's graph goes through AOTAutograd, and each ATen graph through `compile_graph`."""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._guards import tracing
from torch.utils._python_dispatch import _disable_current_modes

from .decompositions import backend_table
from .fallback import compile_or_fall_back
from .logs import log
from .options import Options
from .randomness import partition

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

    def compiled(graph: torch.fx.GraphModule, options: Options) -> Callable[[list[Any]], Sequence[Any]]:
        # AOTAutograd calls with its fake-tensor mode on, under which nothing could be computed (verify="numeric" does).
        with _disable_current_modes():
            compilation = compile_or_fall_back(graph, options)
        _made.append(weakref.ref(compilation))
        return _boxed(compilation)

    def inference(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Sequence[Any]]:
        return compiled(graph, settled)

    def forward(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Sequence[Any]]:
        if settled.frozen:
            log.warning("frozen=True is for inference, under torch.no_grad(): this graph, with gradients, goes without")
        return compiled(graph, dataclasses.replace(settled, frozen=False))

    def backward(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Sequence[Any]]:
        # What the tracing context says about inputs (which of them are weights) is about the forward graph.
        with tracing(None):
            return forward(graph, inputs)

    compile_both = aot_autograd(
        fw_compiler=forward, bw_compiler=backward, inference_compiler=inference, decompositions=backend_table(),
        partition_fn=partial(partition, counter=settled.rng == "counter"), keep_inference_input_mutations=True,
    )
    return compile_both(graph_module, example_inputs)


def _boxed(compilation: AnyCompilation) -> Callable[[list[Any]], Sequence[Any]]:
    """AOTAutograd's calling convention: one list, which the callee empties."""

    def run(args: list[Any]) -> Sequence[Any]:
        results = compilation(*args)
        args.clear()
        return results

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


def compilations() -> list[AnyCompilation]:
    """What torch.compile has made through this backend and is still alive, oldest first: kernels, stages, fallbacks."""
    return [made for ref in _made if (made := ref()) is not None]


def last_compilation() -> AnyCompilation | None:
    """The newest of `compilations()`."""
    made = compilations()
    return made[-1] if made else None
