"""Arguments that a model changes: written in place where that is safe, and right in any case."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tilewright.backend import last_compilation
from tilewright.fallback import AtenGraph
from tilewright.ir import prog, tile

R = torch.randn


@dataclass(frozen=True)
class Update:
    """A function that changes its arguments. `copies`: how many copies of whole arguments its program makes."""

    run: Callable[..., Any]
    make: Callable[[], list[torch.Tensor]]
    copies: int = 0


def _sequence(*statements: Callable[..., Any]) -> Callable[..., Any]:
    """A function that does one after the other and gives the last one's value."""

    def run(*args: torch.Tensor) -> Any:
        for statement in statements:
            result = statement(*args)
        return result

    return run


def _shift(c: torch.Tensor) -> torch.Tensor:
    c[1:].add_(c[:-1].clone())
    return c * 1


def _swap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    kept = a.clone()
    a.copy_(b)
    b.copy_(kept)
    return a + b


def _old_and_view(c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    old = c * 1
    c.mul_(2)
    return old, c.view(-1)


def _set_layers(c: torch.Tensor, index: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    c[:, index] = value
    return c.exp()


def _normalise(c: torch.Tensor) -> None:
    c.sub_(c.max(-1, keepdim=True).values).exp_()
    c.div_(c.sum(-1, keepdim=True))


UPDATES: dict[str, Update] = {
    "added to": Update(lambda x, c: c.add_(x).sum(), lambda: [R(5, 3), R(5, 3)]),
    "every size 1": Update(lambda c: c.add_(1), lambda: [R(1, 1)]),
    "no elements": Update(lambda c: c.add_(1), lambda: [R(0, 3)]),
    "a number": Update(lambda c, n: (n.add_(1), c * n)[1], lambda: [R(6), torch.tensor(3)]),
    "rows at an index": Update(
        lambda c, i, v: c.index_copy_(0, i, v).mul(2).sum(1), lambda: [R(9, 4), torch.tensor([2, 7]), R(2, 4)]
    ),
    "layers at an index": Update(_set_layers, lambda: [R(3, 9, 4), torch.tensor([2, 7]), R(3, 2, 4)]),
    "rows added": Update(
        lambda c, i, v: c.index_add_(0, i, v) * 1, lambda: [R(9, 128), torch.tensor([2, 7, 2]), R(3, 128)], copies=1
    ),
    "an index of old elements": Update(
        lambda c, i: (c.index_copy_(0, i, c[i] * 2), c + 1)[1], lambda: [R(9, 4), torch.tensor([2, 7])]
    ),
    "softmax in place": Update(_normalise, lambda: [R(6, 50)]),
    "filled": Update(lambda c: c.fill_(2), lambda: [R(6, 5)]),
    "read by a later kernel": Update(lambda c, i: (c.add_(1), c[i])[1], lambda: [R(6, 5), torch.tensor([1, 3])]),
    "returned as it was": Update(_old_and_view, lambda: [R(6, 5)], copies=2),
    "swapped": Update(_swap, lambda: [R(5, 3), R(5, 3)], copies=4),
    "its own transpose": Update(lambda c: c.copy_(c.t().clone()).sum(), lambda: [R(5, 5)], copies=2),
    "its neighbours' sums": Update(_shift, lambda: [R(6, 5)], copies=1),
    "through a transpose": Update(lambda c, x: c.t().mul_(x).sum(), lambda: [R(6, 5), R(5, 6)], copies=1),
    "converted": Update(lambda c, x: c.copy_(x), lambda: [R(6, 4), R(6, 4).bfloat16()]),
    "broadcast": Update(lambda c, x: c.copy_(x[0]), lambda: [R(6, 4), R(6, 4)], copies=1),
    "every other row": Update(lambda c, x: c[::2].copy_(x).sum(), lambda: [R(6, 4), R(3, 4)]),
    "one element": Update(lambda c: (c[0, 1].fill_(7), c.sum())[1], lambda: [R(6, 5)]),
}


def copies_of_arguments() -> int:
    """How many library calls of the last program copy tensors."""
    compilation = last_compilation()
    assert compilation is not None and not isinstance(compilation, AtenGraph)
    return sum(isinstance(op, prog.ExternOp) and op.target.data == "aten.copy_.default"
               for op in compilation.module.walk())


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def _assert_same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=2e-6, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize("name", UPDATES)
def test_arguments_have_the_new_values(name: str) -> None:
    case = UPDATES[name]
    torch.manual_seed(0)
    ours = case.make()
    theirs = [x.clone() for x in ours]
    compiled = torch.compile(case.run, backend="tilewright", options={"verify": "numeric"}, dynamic=False)
    for _ in range(3):
        _assert_same(compiled(*ours), case.run(*theirs))
        _assert_same(ours, theirs)
    assert copies_of_arguments() == case.copies


def test_only_the_updated_elements_of_a_cache_are_written() -> None:
    def step(cache: torch.Tensor, place: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return cache.index_copy_(2, place, value).sum((1, 2))

    cache = R(1, 8, 2048, 64)
    torch.compile(step, backend="tilewright")(cache, torch.tensor([5]), R(1, 8, 1, 64))
    compilation = last_compilation()
    updates = [op for op in compilation.module.walk() if isinstance(op, tile.UpdateOp)]
    assert len(updates) == 1
    kernel = next(k for k in compilation.stats["kernels"] if "index_copy" in k["name"])
    assert kernel["bytes"] < 3 * 8 * 64 * 4


@pytest.mark.parametrize("first, second", [((0, 6), (2, 8)), ((0, 6), (0, 6)), ((0, 4), (6, 10))])
def test_arguments_that_share_memory(first: tuple[int, int], second: tuple[int, int]) -> None:
    def run(c: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        c.add_(x * 1)
        return c + x.sum()

    compiled = torch.compile(run, backend="tilewright", options={"verify": "numeric"})
    base, other = R(10), torch.empty(10)
    other.copy_(base)
    for _ in range(2):
        _assert_same(compiled(base[slice(*first)], base[slice(*second)]),
                     run(other[slice(*first)], other[slice(*second)]))
        _assert_same(base, other)


def test_arguments_in_another_layout() -> None:
    base = R(6, 8)
    other = base.clone()
    compiled = torch.compile(lambda c, x: c.add_(x), backend="tilewright", options={"verify": "numeric"})
    part, expected = base.t()[1:7:2], other.t()[1:7:2]
    x = R(3, 6)
    compiled(part, x)
    expected.add_(x)
    _assert_same(base, other)


def test_a_program_writes_back_to_an_argument_that_lies_otherwise_than_traced() -> None:
    torch.compile(lambda c: c.add_(1), backend="tilewright")(R(3, 4))
    program = last_compilation()
    assert program is not None
    other = torch.zeros(4, 3).t()
    program(other)
    _assert_same(other, torch.ones(3, 4))


def test_dynamic_sizes() -> None:
    compiled = torch.compile(
        lambda c, i, v: c.index_copy_(1, i, v).sum(0), backend="tilewright", dynamic=True,
        options={"verify": "numeric"},
    )
    for batch, size, count in ((2, 7, 3), (3, 13, 5), (5, 4, 2)):
        ours, value, index = R(batch, size, 4), R(batch, count, 4), torch.randperm(size)[:count]
        theirs = ours.clone()
        _assert_same(compiled(ours, index, value), theirs.index_copy_(1, index, value).sum(0))
        _assert_same(ours, theirs)


def test_running_statistics_of_training() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8, momentum=0.3))
    other = copy.deepcopy(model)
    compiled = torch.compile(other, backend="tilewright", options={"verify": "numeric"})
    for _ in range(3):
        x = R(16, 4)
        expected, actual = model(x), compiled(x)
        _assert_same(actual, expected)
        weight = R(16, 8)
        (expected * weight).sum().backward()
        (actual * weight).sum().backward()
    for ours, theirs in zip(other.state_dict().values(), model.state_dict().values()):
        torch.testing.assert_close(ours, theirs)
    for p, q in zip(other.parameters(), model.parameters()):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)


def test_an_index_out_of_range_writes_nowhere_else() -> None:
    compiled = torch.compile(lambda c, i, v: c.index_copy_(0, i, v), backend="tilewright")
    cache, value = torch.zeros(4, 3), torch.ones(2, 3)
    compiled(cache.clone(), torch.tensor([0, 1]), value)
    with pytest.raises(IndexError):
        compiled(cache, torch.tensor([2, 4]), value)
    assert cache[[0, 1, 3]].eq(0).all()
