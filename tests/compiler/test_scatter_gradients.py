"""Gradients of look-ups and of scatters: native, and at most three times as far from float64 as eager's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tilewright.backend import compilations

Function = Callable[..., torch.Tensor]
INDEX = torch.randint(0, 50, (4, 9), generator=torch.Generator().manual_seed(1))

# Each with the shapes of its float arguments, and what it is differentiated at.
FUNCTIONS: dict[str, tuple[Function, list[tuple[int, ...]]]] = {
    "embedding": (lambda w: torch.nn.functional.embedding(INDEX, w, padding_idx=3).sin(), [(50, 64)]),
    "embedding by frequency": (
        lambda w: torch.nn.functional.embedding(INDEX, w, scale_grad_by_freq=True).sin(), [(50, 64)]
    ),
    "index of one dim": (lambda w: w[:, INDEX - 50].sin(), [(3, 50, 5)]),
    "index of two dims": (lambda w: w[INDEX, :, INDEX.flip(0)].sin(), [(50, 3, 50)]),
    "gather": (lambda w: w.gather(1, INDEX).sin(), [(4, 50)]),
    "index_select": (lambda w: w.index_select(1, INDEX[0]).sin(), [(3, 50, 5)]),
    "scatter_add": (lambda w, s: w.scatter_add(1, INDEX, s).sin(), [(4, 50), (4, 9)]),
    "index_put": (lambda w, s: w.index_put((INDEX[0],), s, True).sin(), [(50, 5), (9, 5)]),
    "scatter_reduce": (lambda w, s: w.scatter_reduce(1, INDEX, s, "amax").sin(), [(4, 50), (4, 9)]),
}


def gradients(function: Function, arguments: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    leaves = [a.to(dtype).requires_grad_() for a in arguments]
    result = function(*leaves)
    weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(2))
    (result * weight.to(result.dtype)).sum().backward()
    return [leaf.grad.double() for leaf in leaves if leaf.grad is not None]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str, dtype: torch.dtype) -> None:
    torch._dynamo.reset()
    function, shapes = FUNCTIONS[name]
    generator = torch.Generator().manual_seed(3)
    arguments = [torch.randn(s, generator=generator).to(dtype).double() for s in shapes]
    before = compilations()  # kept alive, so that the list only grows
    ours = gradients(torch.compile(function, backend="tilewright"), arguments, dtype)
    made = compilations()[len(before) :]
    assert len(made) == 2 and not any(c.fallbacks for c in made)
    theirs, exact = gradients(function, arguments, dtype), gradients(function, arguments, torch.float64)
    assert len(ours) == len(theirs) == len(shapes)
    for a, e, x in zip(ours, theirs, exact):
        ulp = torch.finfo(dtype).eps * x.abs().max()
        assert (a - x).abs().max() <= 3 * (e - x).abs().max() + 2 * ulp
