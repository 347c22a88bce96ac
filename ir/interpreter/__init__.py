"""The reference interpreter: the meaning of the IR, op by op, in torch.

`run` takes a module at any level; `run_kernel` one kernel. A run reads the inputs, looks up each op's rule, and writes
its results; the rules stand in one file a dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from ..errors import InterpreterError
from ..function import argument_symbols, result_kinds, updated_arguments
from ..tile import KernelOp
from ..types import BufferType, TensorType
from . import prog, tw
from .environment import PRECISIONS, Environment, describe, located, run_block
from .memory import allocate, with_strides
from .tile import run_kernel

if TYPE_CHECKING:
    import torch

__all__ = ["find_function", "run", "run_kernel"]

_RULES = {**tw.RULES, **prog.RULES}

# How a result of each kind is made from what the function's last op still has to give.
_RESULTS: dict[str, Callable[[Iterator[Any]], Any]] = {
    "tensor": lambda operands: next(operands),
    "int": lambda operands: int(next(operands)),
    "none": lambda operands: None,
}


def run(
    module: ModuleOp, inputs: Sequence[Any], *, precision: str = "native", function: str = "forward"
) -> list[Any]:
    """The results of `function`, one entry for each Python-level result: a tensor, an int, or None.

    The new values of updated arguments (`arg_updates`) are the last of them; the inputs themselves stay as they are.

    `inputs` are torch tensors, and ints for `index` arguments, in the order of the arguments. In precision ``f64``
    inputs, constants and intermediates of every float type are float64, and so are the results: the oracle that settles
    mismatches. `function` may name a kernel: its inputs are its buffers and then its sizes, and its results are the
    buffers that it writes (the inputs stay as they are).

    Raises InterpreterError for inputs that do not fit and for ops that cannot be run, IndexError for positions
    outside a tensor.
    """
    import torch

    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
    kernels = {op.sym_name.data: op for op in module.ops if isinstance(op, KernelOp)}
    if function in kernels:
        return _run_kernel_on_copies(kernels[function], inputs, precision)
    callee = find_function(module, function)
    with torch.no_grad():
        device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
        env = Environment(precision, device, kernels=kernels, rules=_RULES)
        with located(callee):
            _bind_arguments(callee, inputs, env)
        operands = iter(run_block(callee.body.block, env))
        return [_RESULTS[kind](operands) for kind in result_kinds(callee)]


def find_function(module: ModuleOp, name: str = "forward") -> FuncOp:
    """The function called `name`. Raises InterpreterError when the module has none."""
    for op in module.ops:
        if isinstance(op, FuncOp) and op.sym_name.data == name:
            return op
    raise InterpreterError(f"the module has no function @{name}")


def _symbol_value(argument: Any, dim: int | None = None, factor: int = 1, offset: int = 0) -> int:
    size = int(argument if dim is None else argument.shape[dim])
    return (size - offset) // factor


def _bind_arguments(function: FuncOp, inputs: Sequence[Any], env: Environment) -> None:
    """Check the inputs, learn the symbols from them, and convert them to the run's precision."""
    import torch

    arguments = function.body.block.args
    if len(inputs) != len(arguments):
        raise InterpreterError(f"takes {len(arguments)} inputs, got {len(inputs)}")
    for position, (argument, value) in enumerate(zip(arguments, inputs)):
        if not isinstance(argument.type, (TensorType, BufferType)):
            if not isinstance(value, int):
                raise InterpreterError(f"input {position} must be an int, not {type(value).__name__}")
        elif not isinstance(value, torch.Tensor):
            raise InterpreterError(f"input {position} must be a tensor, not {type(value).__name__}")
        elif value.dim() != len(argument.type.shape):
            raise InterpreterError(f"input {position} has {value.dim()} dims, not {len(argument.type.shape)}")
    for name, (position, *place) in argument_symbols(function).items():
        env.sizes[name] = _symbol_value(inputs[position], *place)
    native = Environment("native", env.device, env.sizes)
    updated = updated_arguments(function)
    for position, (argument, value) in enumerate(zip(arguments, inputs)):
        if isinstance(argument.type, (TensorType, BufferType)):
            try:
                native.check_tensor(value, argument.type.shape, argument.type.dtype)
            except InterpreterError as error:
                raise InterpreterError(f"input {position}: {error}") from None
            value = value.detach()
            dtype = env.dtype(argument.type.dtype)
            if isinstance(argument.type, BufferType):  # kernels compute positions from the strides in the type
                value = with_strides(value, env.shape(argument.type.strides), dtype)
            value = value.to(dtype)
            if position in updated:  # the caller's tensor stays as it is
                value = allocate(value.shape, value.stride(), dtype, value.device).copy_(value)
        env.values[argument] = value


def _run_kernel_on_copies(kernel: KernelOp, inputs: Sequence[Any], precision: str) -> list[torch.Tensor]:
    import torch

    count = len(kernel.args)
    if len(inputs) != count + len(kernel.size_names):
        raise InterpreterError(
            f"{describe(kernel)} takes {count} buffers and {len(kernel.size_names)} sizes, got {len(inputs)} inputs"
        )
    env = Environment(precision, None)
    buffers = []
    for argument, value in zip(kernel.args, inputs):
        if not isinstance(value, torch.Tensor):
            raise InterpreterError(f"{describe(kernel)} takes its buffers first")
        copy = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device).copy_(value)
        buffers.append(with_strides(copy, copy.stride(), env.dtype(argument.type.dtype)))  # type: ignore[attr-defined]
    sizes: Mapping[str, int] = dict(zip(kernel.size_names, inputs[count:]))
    run_kernel(kernel, buffers, sizes, precision)
    return [buffers[i] for i in kernel.outputs.ints()]
