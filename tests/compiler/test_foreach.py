"""Calls on lists of tensors, taken apart: each decomposition gives what ATen's own call gives, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._ops import OpOverload

from tilewright import compilations
from tilewright.foreach import foreach_table

TABLE = foreach_table()
# Kernels of ATen that round other than the function of one tensor does.
NEAR = {"norm", "addcmul", "addcdiv", "lerp", "pow", "sigmoid"}


def tensors(seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 5), (), (0, 2), (7,)]
    made = [torch.rand(shape, generator=generator).add(0.1).to(dtype) for shape in shapes]
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, -1.5, 2.5], dtype=dtype)
    return [*made, special, torch.rand(4, 6, generator=generator).to(dtype).t()[::2]]


def argument(kind: str, position: int, dtype: torch.dtype) -> Any:
    if kind == "List[Tensor]":
        return tensors(position, dtype)
    if kind == "List[number]":
        return [0.5, 2.0, 1.5, 3.0, 0.25, 1.0]
    return torch.tensor(0.75, dtype=dtype) if kind == "Tensor" else 2.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("overload", TABLE, ids=str)
def test_a_list_is_taken_apart(overload: OpOverload, dtype: torch.dtype) -> None:
    required = [a for a in overload._schema.arguments if not a.has_default_value()]
    args = [argument(str(a.type), position, dtype) for position, a in enumerate(required)]
    name = overload._schema.name.removeprefix("aten::_foreach_")
    for ours, theirs in zip(TABLE[overload](*args), overload(*args), strict=True):
        rounding = {} if name in NEAR else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(ours, theirs, equal_nan=True, **rounding)
        assert not any(ours.untyped_storage().data_ptr() == t.untyped_storage().data_ptr() and t.numel()
                       for value in args if isinstance(value, list) for t in value if isinstance(t, torch.Tensor))


@pytest.mark.parametrize("overload", [o for o in TABLE if len(o._schema.arguments) == 4], ids=str)
def test_factors_are_taken(overload: OpOverload) -> None:
    args = [argument(str(a.type), position, torch.float32) for position, a in enumerate(overload._schema.arguments)]
    for ours, theirs in zip(TABLE[overload](*args), overload(*args), strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_an_optimizer_on_lists_leaves_nothing_to_aten() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    start, gradients = [torch.randn(7, 5), torch.randn(3)], [torch.randn(7, 5), torch.randn(3)]
    outcomes = []
    before = compilations()  # held, so that they stay where they are
    for wrap in (lambda step: step, lambda step: torch.compile(step, backend="tilewright")):
        parameters = [torch.nn.Parameter(p.clone()) for p in start]
        optimizer = torch.optim.RMSprop(parameters, lr=0.01, foreach=True, momentum=0.9)
        step = wrap(optimizer.step)
        for _ in range(2):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            step()
        outcomes.append(parameters)
    made = compilations()[len(before):]
    assert made and [c.fallbacks for c in made] == [[]] * len(made)
    for eager, ours in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, eager)


def test_a_product_added_in_place_leaves_nothing_to_aten() -> None:
    """Dynamo makes an operator of its own of `addcmul_` and `addcdiv_` with a factor."""
    torch._dynamo.reset()

    def update(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return x.clone().addcmul_(a, b, value=0.3).addcdiv_(a, b, value=-0.7)

    args = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5, 3) + 1
    compiled = torch.compile(update, backend="tilewright", options={"fallback": "error"})
    torch.testing.assert_close(compiled(*args), update(*args))
