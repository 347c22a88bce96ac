"""The public functions: compile a model ahead of time, call it, look into it, save it, load it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch

from tilewright.ir.errors import ArtifactError, InputError, OptionValueError, nearest

from .fallback import AnyCompilation, compile_or_fall_back
from .options import Options
from .signature import Mutation, Signature

F = TypeVar("F", bound=Callable[..., Any])

_NO_TORCHSCRIPT = (
    "a compiled model is machine code, which torch.jit neither traces nor scripts: write it with .save(path) instead"
)


def _left_alone(function: F) -> F:
    """Dynamo breaks its graph at calls of `function`, and compiles nothing of what runs inside of it.

    What `torch.compiler.disable` does; but that imports all of Dynamo, which `load` has no need of.
    """
    frames = torch._C._dynamo.eval_frame
    skip = frames._FrameAction.SKIP
    frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(skip, skip))  # type: ignore[attr-defined]
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    return function


class CompiledModel:
    """A model compiled for inference. Made by `compile` and `load`.

    The weights are the model's own tensors, not copies: changes made to them in place (an optimizer's step,
    ``load_state_dict``) are seen by the next call. A parameter that is replaced by another tensor, or moved to another
    storage, is not followed: compile again.
    """

    def __init__(
        self,
        compilation: AnyCompilation,
        signature: Signature,
        constants: Mapping[str, torch.Tensor],
        options: Mapping[str, Any],
    ):
        self._compilation = compilation
        self._signature = signature
        self._constants = dict(constants)
        self._options = dict(options)

    @_left_alone
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's result for these arguments.

        Raises InputError, naming the argument, for one that the model was not compiled for. Results do not require
        gradients. A tensor whose strides differ from the example's is copied first.
        """
        if torch._C._is_tracing():
            raise InputError(_NO_TORCHSCRIPT)
        leaves = self._signature.flatten(args, kwargs)
        inputs = self._signature.bind(leaves)
        with torch.no_grad():
            results = self._compilation(*inputs)
            for mutation in self._signature.mutations:
                self._mutated(mutation, leaves).copy_(results[mutation.index])
        return self._signature.pack(results)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ArtifactError(
            "a compiled model is neither pickled nor copied: it holds machine code. Write it with .save(path) and read "
            "it with tilewright.load(path), or copy the model and compile the copy"
        )

    def __prepare_scriptable__(self) -> Any:
        raise InputError(_NO_TORCHSCRIPT)

    def _mutated(self, mutation: Mutation, leaves: list[Any]) -> torch.Tensor:
        if mutation.input is not None:
            return leaves[mutation.input]
        assert mutation.constant is not None
        return self._constants[mutation.constant]

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self._signature

    @property
    def compilation(self) -> AnyCompilation:
        """The parts that the compiler made: stages, kernels, sources, libraries."""
        return self._compilation

    @property
    def kernels(self) -> list[Any]:
        """The kernels, in the order of the generated files: name, kind, model lines, schedule, cost, source."""
        return self._compilation.kernels

    @property
    def fallbacks(self) -> list[dict[str, Any]]:
        """ATen calls that remain: op, count, reason."""
        return self._compilation.fallbacks

    @property
    def stats(self) -> dict[str, Any]:
        """Kernels, fallbacks, passes, peak bytes, seconds by phase: plain data, what ``compile --json`` prints."""
        return self._compilation.stats

    @property
    def memory(self) -> dict[str, Any]:
        """Bytes of weights and of temporaries (`peak_bytes`), and each temporary with its place and lifetime."""
        return {**self._weights, "peak_bytes": self.stats.get("peak_bytes"), "buffers": self._buffers}

    @cached_property
    def _weights(self) -> dict[str, int]:
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in self._constants.values()}
        return {"weight_bytes": sum(storages.values())}

    @cached_property
    def _buffers(self) -> list[dict[str, Any]]:
        from .report import buffers

        return buffers(self._compilation)

    def ir(self, stage: str) -> str:
        """The IR after `stage`: ``"import"``, a pass's name, or ``"prog"``. Raises OptionValueError for others."""
        stages = self._compilation.stages
        if stage not in stages:
            known = ", ".join(stages) or "none: the model runs in ATen as a whole"
            raise OptionValueError(f"no stage {stage!r}{nearest(stage, stages)} (stages: {known})")
        return stages[stage]

    def explain(self, kernel: str) -> str:
        """Why a kernel is what it is: lines, cost, decisions, source. Raises OptionValueError for an unknown name."""
        from .report import explain

        return explain(self._compilation, kernel)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML file about this compilation; gives its path."""
        from .report import write_report

        return write_report(self._compilation, self._signature, Path(path))

    def write(self, directory: str | Path, name: str = "model") -> list[Path]:
        """Write everything into a directory: numbered IR, kernels that run alone, host program, report, NAME.tw."""
        from .directory import write_directory

        return write_directory(self, Path(directory), name)

    def save(self, path: str | Path) -> Path:
        """Write a `.tw` artifact, which `load` runs without the model's source; gives its path.

        Raises ArtifactError where there is no one program to save: the model is compiled in parts, or runs in ATen.
        """
        from .artifact import save

        return save(self._compilation, self._signature, self._constants, self._options, Path(path))


def compile(
    model: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    target: str | None = None,
    **options: Any,
) -> CompiledModel:
    """Compile `model` (a module, a function, or an ExportedProgram) for inference with arguments like `args`, `kwargs`.

    `dynamic_shapes` is torch.export's; sizes that are not dynamic are fixed. `target` and `options` are those of
    `list_options()`. Train and evaluation mode are taken as they are: call ``model.eval()`` first.

    Raises ExportError where torch.export cannot capture the model as one graph; UnknownOptionError and
    OptionValueError for options that are not taken; with ``fallback="error"`` UnsupportedOpError,
    UnsupportedGraphError or CompilerNotFoundError where ATen would have been used.
    """
    from .export import export_graph  # with all that traces, of which `load` has no need

    explicit = dict(options) if target is None else {**options, "target": target}
    settled = Options.make(explicit)
    started = time.perf_counter()
    exported = export_graph(model, args, kwargs, dynamic_shapes)
    seconds = time.perf_counter() - started
    compilation = compile_or_fall_back(exported.graph_module, settled, inputs=exported.example_inputs)
    compilation.seconds = {"export": seconds, **compilation.seconds}
    return CompiledModel(compilation, exported.signature, exported.constants, settled.as_dict())


def load(path: str | Path) -> CompiledModel:
    """The model in a `.tw` artifact, ready to be called; nothing is compiled and the model's source is not needed.

    Its kernels are machine code: hashes are checked before they are loaded, but trust the file as you would a binary.
    Raises ArtifactError, naming what differs, for a file that is damaged or made for another machine or version.
    """
    from .artifact import load as load_artifact

    return CompiledModel(*load_artifact(Path(path)))
