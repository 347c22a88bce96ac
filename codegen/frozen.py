"""Programs whose weights are frozen: what depends on the weights alone runs once, and again only where one has changed.

Such a program is two host programs: the `prologue` computes folded and packed weights, the `rest` takes them as
arguments. At each call every frozen weight is compared with what it was: the tensor itself, its address and layout, and
the version that torch counts up with each change in place. A change through `.data` or by another process is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from tilewright.ir import prog
from tilewright.ir.function import frozen_arguments
from tilewright.ir.types import BufferType

from .host import HostProgram

Kernels = Mapping[str, Callable[..., int]]


def is_frozen(module: ModuleOp) -> bool:
    """Whether the program has ops that run once for its weights."""
    return any("frozen" in op.attributes for op in _function(module).body.block.ops)


class FrozenProgram:
    """Answers as a `HostProgram` does; `static` are the positions of arguments that are weights."""

    def __init__(self, module: ModuleOp, kernels: Kernels, static: Sequence[int]):
        self._frozen = frozen_arguments(_function(module))
        prologue, rest = split(module)
        self.prologue = HostProgram(prologue, kernels)
        arguments = _function(rest).body.block.args
        added = range(len(_function(module).body.block.args), len(arguments))
        self.rest = HostProgram(rest, kernels, [
            i for i in (*static, *added) if isinstance(arguments[i].type, BufferType) and arguments[i].uses
        ])
        self.source = f"{self.prologue.source}\n{self.rest.source}"
        self._made: tuple[list[Any], list[Any], list[Any]] | None = None

    def __call__(self, *args: Any) -> list[Any]:
        given = [args[i] for i in self._frozen]
        state = [_state(weight) for weight in given]
        made = self._made
        if made is None or made[1] != state or any(a is not b for a, b in zip(made[0], given)):
            # Not under the caller's modes: the results serve later calls as well.
            with torch.inference_mode(False), torch.no_grad():
                made = self._made = (given, state, self.prologue(*args))
        return self.rest(*args, *made[2])


def _state(weight: torch.Tensor) -> Any:
    """What changes when the weight does. Of a tensor made in inference mode nothing is known: it counts as changed."""
    version = object() if weight.is_inference() else weight._version
    return version, weight.data_ptr(), weight.shape, weight.stride(), weight.dtype


def split(module: ModuleOp) -> tuple[ModuleOp, ModuleOp]:
    """The program as two: its ops marked `frozen`, and the rest, which takes their results as further arguments."""
    prologue, rest = module.clone(), module.clone()
    first, second = (list(_function(m).body.block.ops) for m in (prologue, rest))
    given: list[SSAValue] = []
    block = _function(rest).body.block
    for early, late in zip(first, second):
        if "frozen" not in early.attributes:
            continue
        for value, result in zip(early.results, late.results):
            if any("frozen" not in use.operation.attributes for use in result.uses):
                argument = block.insert_arg(result.type, len(block.args))
                argument.name_hint, argument.location = result.name_hint, early.location
                result.replace_uses_with_if(argument, lambda use: "frozen" not in use.operation.attributes)
                given.append(value)
    for op in reversed(second):
        if "frozen" in op.attributes:
            _erase(op)
    for op in reversed(first):
        if "frozen" not in op.attributes:
            _erase(op)
    function = _function(prologue)
    function.body.block.add_op(prog.ReturnOp.create(operands=given))
    for name in ("result_kinds", "result_sizes", "arg_updates", "symbols"):
        function.attributes.pop(name, None)
    return prologue, rest


def _erase(op: Operation) -> None:
    op.detach()
    op.drop_all_references()


def _function(module: ModuleOp) -> FuncOp:
    return next(op for op in module.body.block.ops if isinstance(op, FuncOp))
