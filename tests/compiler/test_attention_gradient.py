"""The gradients of attention through torch.compile: one kernel, as right as eager's, without the weights in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tilewright.backend import compilations
from tilewright.ir.numerics import compare

INF = math.inf
Tensor = torch.Tensor


@pytest.fixture(autouse=True)
def fresh_dynamo() -> None:
    torch._dynamo.reset()


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(len(shapes))
    return [torch.randn(shape, dtype=torch.float64).to(dtype) for shape in shapes]


def heads(
    queries: int, keys: int, inner: int = 16, width: int = 16, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    return tensors((2, 3, queries, inner), (2, 3, keys, inner), (2, 3, keys, width), dtype=dtype)


def step(function: Callable[..., Tensor], args: list[Any], wanted: set[int] | None = None) -> list[Tensor]:
    """The result, and the gradients of the `wanted` arguments (all that have one by default)."""
    inputs = [
        a.detach().requires_grad_(a.is_floating_point() and (wanted is None or i in wanted)) for i, a in enumerate(args)
    ]
    result = function(*inputs)
    generator = torch.Generator().manual_seed(7)
    upstream = torch.randn(result.shape, generator=generator, dtype=torch.float64).to(result.dtype)
    return [result.detach(), *torch.autograd.grad(result, [a for a in inputs if a.requires_grad], upstream)]


def check(function: Callable[..., Tensor], args: list[Any], tiled: bool = True, wanted: set[int] | None = None) -> None:
    """Against eager, settled in float64; `tiled` says whether forward and backward have a kernel of attention."""
    known = set(map(id, compilations()))
    actual = step(torch.compile(function, backend="tilewright", dynamic=False), args, wanted)
    expected = step(function, args, wanted)
    exact = step(function, [a.double() if a.is_floating_point() else a for a in args], wanted)
    for place, (a, b, c) in enumerate(zip(actual, expected, exact, strict=True)):
        assert torch.equal(a.isnan(), b.isnan()), f"result {place}"
        problem = compare(a, b, c, "reassociates", factor=3.0)
        assert problem is None, f"result {place}: {problem}"
    made = [c for c in compilations() if id(c) not in known]
    assert [any(k.kind == "attention" for k in c.kernels) for c in made] == [tiled, tiled]


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-1, -2) * 0.25


def distance(q: Tensor, k: Tensor) -> Tensor:
    """How many keys before a query each key stands."""
    return torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k), -1) @ v


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k).masked_fill(distance(q, k) < 0, -INF), -1) @ v


def window(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    away = distance(q, k)
    return torch.softmax(scores(q, k).masked_fill((away < 0) | (away > 70), -INF), -1) @ v


def first_hidden(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k).masked_fill(distance(q, k) <= 0, -INF), -1) @ v


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(scores(q, k).masked_fill(~mask, -INF), -1) @ v


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = (x[:, :1].repeat_interleave(3, 1) for x in (k, v))
    return causal(q, k, v)


def wide_softmax(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """As `transformers` has it in eager mode."""
    weights = F.softmax(scores(q, k) + bias, -1, dtype=torch.float32).to(q.dtype)
    return (weights @ v).transpose(1, 2).contiguous()


def biased(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return torch.softmax(scores(q, k) + bias, -1) @ v


def capped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(torch.tanh(scores(q, k) / 5) * 5, -1) @ v


def einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.softmax(torch.einsum("bhqd,bhkd->bhqk", q, k) * 0.25, -1)
    return torch.einsum("bhqk,bhkd->bqhd", weights, v)


def checkpointed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return checkpoint(causal, q, k, v, use_reentrant=False)


def test_lengths() -> None:
    check(causal, heads(65, 257, 17, 33))


@pytest.mark.slow
@pytest.mark.parametrize(("queries", "keys", "inner", "width"), [(513, 31, 40, 8), (2, 3, 1, 1), (64, 256, 16, 16)])
def test_other_lengths(queries: int, keys: int, inner: int, width: int) -> None:
    check(causal, heads(queries, keys, inner, width))
    check(plain, heads(queries, keys, inner, width))


def test_too_short_to_tile() -> None:
    """With one key the gradients of the scores are zero, to the last bit."""
    check(plain, heads(30, 1), tiled=False)
    check(plain, heads(5, 0), tiled=False)
    check(plain, heads(0, 5), tiled=False)


def test_halves() -> None:
    hidden = torch.full((300, 300), torch.finfo(torch.bfloat16).min, dtype=torch.bfloat16).triu(1)
    check(wide_softmax, [*heads(300, 300, dtype=torch.bfloat16), hidden], wanted={0, 1, 2})


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_types(dtype: torch.dtype) -> None:
    check(causal, heads(300, 300, dtype=dtype))


@pytest.mark.slow
def test_float64() -> None:
    args = heads(300, 300, dtype=torch.float64)
    for a, b in zip(step(torch.compile(causal, backend="tilewright"), args), step(causal, args), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_mask_with_a_row_that_sees_nothing() -> None:
    mask = torch.rand(130, 300) > 0.3
    mask[7] = False
    check(masked, [*heads(130, 300), mask])
    assert step(masked, [*heads(130, 300), mask])[3].isnan().all()  # in eager mode one such row is enough


def test_blocks_are_skipped_but_not_their_nan() -> None:
    check(window, heads(600, 600))
    check(first_hidden, heads(300, 300))


@pytest.mark.parametrize("strange", [math.nan, INF, 1e38])
def test_strange_numbers(strange: float) -> None:
    q, k, v = heads(300, 300)
    q[0, 0, 290] = strange
    check(causal, [q, k, v])


def test_grouped_heads() -> None:
    check(grouped, heads(130, 130))


@pytest.mark.slow
@pytest.mark.parametrize("function", [plain, capped, einsum, checkpointed])
def test_spellings(function: Callable[..., Tensor]) -> None:
    check(function, heads(130, 300))


@pytest.mark.parametrize("shape", [(2, 3, 130, 300), (130, 300), (300,)])
def test_biases(shape: tuple[int, ...]) -> None:
    check(biased, [*heads(130, 300), *tensors(shape)])


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [{0}, {1}, {0, 1}])
def test_some_gradients(wanted: set[int]) -> None:
    check(causal, heads(130, 300), wanted=wanted)


def test_dropout_drops_the_same_in_both_passes() -> None:
    """Values that are the unit matrix show the weights, and with them what was dropped."""

    def dropped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.dropout(torch.softmax(scores(q, k), -1), 0.3) @ v

    q, k = tensors((2, 3, 130, 16), (2, 3, 130, 16))
    unit = torch.eye(130).expand(2, 3, 130, 130).contiguous()
    compiled = torch.compile(dropped, backend="tilewright", dynamic=False)
    torch.manual_seed(0)
    actual = step(compiled, [q, k, unit])
    kept = (actual[0] != 0).double() / 0.7

    def replayed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (torch.softmax(scores(q, k), -1) * kept.to(q.dtype)) @ v

    exact = step(replayed, [x.double() for x in (q, k, unit)])
    for a, b, c in zip(actual, step(replayed, [q, k, unit]), exact, strict=True):
        assert compare(a, b, c, "reassociates", factor=3.0) is None
    assert 0.68 < (kept > 0).double().mean() < 0.72


def test_what_is_no_attention_stays() -> None:
    """Weights that the caller gets too, a sum of the scores beside the softmax."""

    def returned(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.softmax(scores(q, k), -1)
        return weights @ v + weights.square().sum(-1, keepdim=True)

    check(returned, heads(30, 40), tiled=False)


def test_two_runs_agree_to_the_bit() -> None:
    args = heads(300, 300)
    compiled = torch.compile(causal, backend="tilewright", dynamic=False)
    for a, b in zip(step(compiled, args), step(compiled, args), strict=True):
        assert torch.equal(a, b)


def test_nothing_as_large_as_the_scores_is_kept() -> None:
    saved: list[int] = []

    def pack(x: Tensor) -> Tensor:
        saved.append(x.numel())
        return x

    q, k, v = (x.requires_grad_() for x in heads(300, 300))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        torch.compile(causal, backend="tilewright", dynamic=False)(q, k, v)
    assert saved and max(saved) <= q.numel()


@pytest.mark.slow
def test_lengths_that_only_the_call_knows() -> None:
    compiled = torch.compile(causal, backend="tilewright", dynamic=True)
    for length in (40, 65, 300):
        args = heads(length, length)
        exact = step(causal, [x.double() for x in args])
        for a, b, c in zip(step(compiled, args), step(causal, args), exact, strict=True):
            assert compare(a, b, c, "reassociates", factor=3.0) is None
