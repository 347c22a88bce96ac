"""Programs in AOTAutograd's cache: what one process has compiled another one neither traces nor runs passes over.

AOTAutograd keeps what a backend gives in torch's cache directory, where that is an `OutputCode`. Its key holds Dynamo's
graph, the inputs' types, and what decides about tracing; to that we add what else shapes a program (`Details`):
options, target, our own code, the model's lines. What is kept is the program as plain data, with the sources of its
kernels: built kernels have a cache of their own (`codegen/native.py`), which knows compiler and flags, and builds again
what it lacks.

Kept are programs for inference that are one program each, compiled without checks and dumps. torch's own switches turn
the cache off (``TORCHINDUCTOR_AUTOGRAD_CACHE=0``, ``torch.compiler.config.force_disable_caches``).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch._functorch import config as functorch_config
from torch._functorch._aot_autograd import autograd_cache
from torch._functorch._aot_autograd.autograd_cache import (
    AOTAutogradCacheDetails,
    AOTAutogradCachePickler,
    BypassAOTAutogradCache,
)
from torch._inductor.output_code import OutputCode
from torch.utils._python_dispatch import _disable_current_modes

import tilewright
from tilewright import autotune, codegen, ir, passes
from tilewright.ir.target import target as find_target
from tilewright.ir.version import VERSION

from .compilation import Compilation, load_compilation
from .fallback import AnyCompilation
from .options import Options

KEPT = torch.__version__.startswith("2.13.")
"""Whether this torch's cache is known to take our programs: what is used of it here is not public."""


class KeptProgram(OutputCode):
    """What AOTAutograd calls, keeps and gets back. It calls with one list, which the callee empties."""

    def __init__(self, compilation: AnyCompilation):
        self._boxed_call = True  # of the object: wrappers copy what it holds
        self.compilation: AnyCompilation | None = compilation
        self.parts: dict[str, Any] = {}

    def __call__(self, inputs: Any) -> Sequence[Any]:
        assert self.compilation is not None
        results = self.compilation(*inputs)
        inputs.clear()
        return results

    def __copy__(self) -> KeptProgram:
        assert self.compilation is not None
        return KeptProgram(self.compilation)

    def prepare_for_serialization(self) -> None:
        """Called for a copy, before it is pickled. Raises BypassAOTAutogradCache for what is not kept."""
        if not isinstance(self.compilation, Compilation):
            raise BypassAOTAutogradCache("it is not one program")
        try:
            self.parts = self.compilation.as_parts()
        except TypeError as error:
            raise BypassAOTAutogradCache(str(error)) from None
        self.compilation = None

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self.parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._boxed_call, self.compilation, self.parts = True, None, state["parts"]

    def post_compile(self, example_inputs: Any, constants: Any, graph_kwargs: Any) -> None:
        """Called after unpickling: make the program that is called. What is raised here leads to a new compilation."""
        from .backend import remember

        started = time.perf_counter()
        with _disable_current_modes():
            self.compilation = load_compilation(self.parts)
        self.compilation.seconds = {"load": time.perf_counter() - started}
        self.parts = {}
        remember(self.compilation)


def is_kept(options: Options, inputs: Sequence[Any]) -> bool:
    """Whether the cache serves a graph: for inference, and compiled without asking what happens meanwhile. With
    `autotune` the kernels follow from the user's records, which change."""
    trains = torch.is_grad_enabled() and any(isinstance(i, torch.Tensor) and i.requires_grad for i in inputs)
    return KEPT and not trains and options.verify == "off" and options.dump_ir is None \
        and options.autotune == "off"


@contextmanager
def keeping(options: Options) -> Iterator[None]:
    """AOTAutograd's cache at work, with `key` for its key."""
    theirs = autograd_cache.autograd_cache_key

    def ours(mod: Any, inputs: Any, config: Any, extra: Any = None) -> tuple[str, list[str]]:
        return key(mod.gm if isinstance(mod, torch._dynamo.utils.GmWrapper) else mod, inputs, config, options), []

    # Dynamo compiles one graph at a time.
    autograd_cache.autograd_cache_key = ours  # type: ignore[assignment]
    try:
        with functorch_config.patch(bundled_autograd_cache=True):
            yield
    finally:
        autograd_cache.autograd_cache_key = theirs


def key(graph_module: torch.fx.GraphModule, inputs: Any, config: Any, options: Options) -> str:
    """The name of the cache entry. Raises BypassAOTAutogradCache for a graph that its own names do not tell of."""
    with autograd_cache.sanitize_gm_for_cache(graph_module):
        autograd_cache.check_cacheable(graph_module)
        details = Details(graph_module, inputs, config, options)
        return "tilewright_" + AOTAutogradCachePickler(graph_module).get_hash(details)


class Details(AOTAutogradCacheDetails):
    """All that shapes a program: what AOTAutograd's own key holds, with our part in place of Inductor's.

    That one would import Inductor's code generators, which takes longer than all else that a warm start does.
    """

    def __init__(self, graph_module: torch.fx.GraphModule, inputs: Any, config: Any, options: Options):
        self.options = options.as_dict()
        self.lock = _digest_of(options.lockfile)
        self.target = find_target(options.target).facts()
        super().__init__(graph_module, inputs, config, {})  # type: ignore[typeddict-item]

    def _init_fx_graph_hash_details(self, gm: torch.fx.GraphModule, example_inputs: Any, fx_config: Any) -> None:
        if any(isinstance(node.target, torch._ops.HigherOrderOperator) for node in gm.graph.nodes):
            raise BypassAOTAutogradCache("what a higher-order op calls is not looked into")
        if any(True for _ in (*gm.parameters(), *gm.buffers())):
            raise BypassAOTAutogradCache("the graph holds tensors, whose values its key would not tell")
        self.graph_module, self.inputs = gm, example_inputs
        self.lines = [node.stack_trace for node in gm.graph.nodes]
        self.defaults = (torch.get_default_dtype(), torch.get_default_device())
        self.versions = (VERSION, code_digest(), torch.__version__, torch.version.git_version)

    def get_triton_source_codes_from_gm(self, gm: torch.fx.GraphModule) -> list[str]:
        for node in gm.graph.nodes:
            if any(True for _ in self._iter_triton_kernels_from_node(node)):
                raise BypassAOTAutogradCache("it calls a kernel of Triton's")
        return []


def _digest_of(file: Path | None) -> str:
    """The sha256 of a lockfile. Raises BypassAOTAutogradCache where it cannot be read: compiling tells of that."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() if file is not None else ""
    except OSError as error:
        raise BypassAOTAutogradCache(str(error)) from None


@lru_cache(maxsize=1)
def code_digest() -> str:
    """The sha256 of this package's own files, for between two versions."""
    digest = hashlib.sha256()
    folders = [Path(folder) for package in (tilewright, ir, passes, codegen, autotune) for folder in package.__path__]
    for path in sorted({file for folder in folders for kind in ("*.py", "*.h") for file in folder.rglob(kind)}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
