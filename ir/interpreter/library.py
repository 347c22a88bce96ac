"""Library calls: `tw.aten` and `prog.extern` by the text of their target and arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..calls import decode
from ..dtypes import DTYPES
from ..errors import InterpreterError
from .environment import F64, Environment

if TYPE_CHECKING:
    import torch


def find_overload(target: str) -> Any:
    """`"aten.sort.default"` as torch's OpOverload. Raises InterpreterError for one that this torch does not have."""
    import torch

    try:
        namespace, name, overload = target.split(".")
        return getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except (ValueError, AttributeError):
        raise InterpreterError(f"torch has no operator {target!r}") from None


def call(
    target: str, arguments: str, operands: Sequence[torch.Tensor], dtypes: Sequence[str], env: Environment
) -> list[torch.Tensor]:
    """The tensors that the call gives, in order (None results are left out; numbers become 0-d tensors).

    In f64 precision the call runs in float64, with every dtype argument widened too. A call that has no float64 form
    runs in its own `dtypes` instead, and its results are widened.
    """
    overload = find_overload(target)
    if env.precision != F64:
        return _invoke(overload, arguments, operands, env)
    try:
        results = _invoke(overload, arguments, operands, env)
    except (RuntimeError, ValueError, TypeError):  # how ATen refuses a dtype
        native = Environment("native", env.device, env.sizes)
        narrow = [x.to(native.dtype(d)) for x, d in zip(operands, dtypes)]
        results = _invoke(overload, arguments, narrow, native)
        for position in written_operands(target, arguments):
            operands[position].copy_(narrow[position])
    return [_widened(r) for r in results]


def _widened(x: torch.Tensor) -> torch.Tensor:
    import torch

    if x.is_floating_point():
        return x.to(torch.float64)
    return x.to(torch.complex128) if x.is_complex() else x


def _invoke(overload: Any, arguments: str, operands: Sequence[torch.Tensor], env: Environment) -> list[Any]:
    import torch

    def tagged(tag: str, name: str) -> Any:
        if tag == "dtype":
            return env.dtype(name) if name in DTYPES else getattr(torch, name)
        return torch.device(name) if tag == "device" else getattr(torch, name)

    args, kwargs = decode(arguments, lambda i: operands[i], env.size, tagged)
    outputs = overload(*args, **kwargs)
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return [o if isinstance(o, torch.Tensor) else torch.tensor(o) for o in outputs if o is not None]


def written_operands(target: str, arguments: str) -> list[int]:
    """The positions of the operands that the call writes, by the operator's schema."""
    overload = find_overload(target)
    # Operands decode to their own positions; other leaves do not matter here.
    args, kwargs = decode(arguments, _Position, lambda size: None, lambda tag, name: None)
    found: list[int] = []
    for index, parameter in enumerate(overload._schema.arguments):
        if parameter.alias_info is None or not parameter.alias_info.is_write:
            continue
        value = args[index] if index < len(args) else kwargs.get(parameter.name)
        found.extend(v.index for v in (value if isinstance(value, list) else [value]) if isinstance(v, _Position))
    return found


class _Position:
    def __init__(self, index: int):
        self.index = index
