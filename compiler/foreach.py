"""ATen's calls on lists of tensors, which optimizers make, as calls on each: kernels then hold several of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload

from .importer.table import signature

# Functions of `torch` that each `aten._foreach_<name>` stands for, in every overload that the name has.
_NAMES = (
    "abs", "acos", "add", "addcdiv", "addcmul", "asin", "atan", "ceil", "clamp_max", "clamp_min", "cos", "cosh", "div",
    "erf", "erfc", "exp", "expm1", "floor", "frac", "lerp", "lgamma", "log", "log10", "log1p", "log2", "mul", "neg",
    "pow", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "sub", "tan", "tanh", "trunc",
)
# What the others stand for. `torch.maximum` and `minimum` do not take numbers.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(torch, name) for name in _NAMES},
    "copy": torch.ops.aten.copy.default,
    "maximum": torch.clamp_min,
    "minimum": torch.clamp_max,
    "norm": lambda x, ord, dtype=None: torch.linalg.vector_norm(x, ord, dtype=dtype),
    "zero": torch.zeros_like,
}
# Numbers that the function of one tensor takes by keyword alone. They may come as one tensor with all of them: that
# overload stays ATen's.
_KEYWORD = {"addcdiv": "value", "addcmul": "value"}


def foreach_table() -> dict[OpOverload, Callable[..., Any]]:
    """The decomposition of every functional overload that has one."""
    table: dict[OpOverload, Callable[..., Any]] = {}
    for name, function in _FUNCTIONS.items():
        packet = getattr(torch.ops.aten, f"_foreach_{name}", None)
        for kind in () if packet is None else packet.overloads():
            overload = getattr(packet, kind)
            listed = name in _KEYWORD and kind == "Tensor"
            if not (overload._schema.is_mutable or kind.endswith("out") or listed):
                table[overload] = _each(overload, function, _KEYWORD.get(name))
    return table


def _each(overload: OpOverload, function: Callable[..., Any], keyword: str | None) -> Callable[..., Any]:
    lists = [str(argument.type).startswith("List[") for argument in overload._schema.arguments]

    def decomposed(*args: Any, **kwargs: Any) -> list[Any]:
        positional, by_name = signature(overload).bind(args, kwargs)
        count = next(len(value) for value, is_list in zip(positional, lists) if is_list)
        results = []
        for i in range(count):
            own = [value[i] if is_list else value for value, is_list in zip(positional, lists)]
            named = {**by_name, keyword: own.pop()} if keyword is not None and len(own) == 4 else by_name
            results.append(function(*own, **named))
        return results

    return decomposed
