"""What of a program is captured: graph breaks, sizes, callables of every kind, what comes out of a call."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
import torch
from contracts import check, compiled, same

from tilewright.backend import compilations

X = torch.linspace(-2, 2, 24).view(4, 6)


def chain(x):
    return torch.softmax(x * 2 + 1, -1)


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.fixture(autouse=True)
def fresh_counters():
    torch._dynamo.utils.counters.clear()


def test_graph_breaks():
    def broken(x):
        y = x.exp()
        torch._dynamo.graph_break()
        return y + x.sum().item() * 0 + torch.sigmoid(y)

    check(broken, X)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(broken, fullgraph=True)(X)


def test_fullgraph():
    check(chain, X, fullgraph=True)


def test_dynamic_true():
    call = compiled(chain, dynamic=True)
    for rows in (2, 3, 7):
        same(call(X[:1].repeat(rows, 1)), chain(X[:1].repeat(rows, 1)))
    assert graphs() == 1
    same(call(X[:1]), chain(X[:1]))
    same(call(X[:0]), chain(X[:0]))


def test_dynamic_false():
    call = compiled(chain, dynamic=False)
    for rows in (2, 3):
        same(call(X[:rows]), chain(X[:rows]))
    assert graphs() == 2


def test_mark_dynamic():
    call = compiled(chain)
    for rows in (2, 5, 3):
        x = X[:1].repeat(rows, 1)
        torch._dynamo.mark_dynamic(x, 0)
        same(call(x), chain(x))
    assert graphs() == 1


def test_sizes_become_dynamic_when_they_change():
    call = compiled(chain)
    for rows in (4, 3, 2, 7):
        same(call(X[:1].repeat(rows, 1)), chain(X[:1].repeat(rows, 1)))
    assert graphs() == 2


def test_reset():
    call = compiled(chain)
    for _ in range(2):
        same(call(X), chain(X))
        torch._dynamo.reset()
        torch.compiler.reset()
    same(call(X), chain(X))
    assert graphs() == 3


def test_two_models_at_once():
    models = [torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.GELU()).eval() for _ in range(2)]
    calls = [compiled(model) for model in models]
    with torch.no_grad():
        for _ in range(2):
            for call, model in zip(calls, models):
                same(call(X), model(X))


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def method(self, x):
        return chain(x) * self.factor

    @staticmethod
    def static(x, factor=3):
        return chain(x) * factor


def closure(factor):
    def inner(x):
        return chain(x) * factor

    return inner


CALLABLES = {
    "method": Scaled(3).method, "static": Scaled.static, "closure": closure(3.0),
    "partial": functools.partial(Scaled.static, factor=3), "lambda": lambda x: chain(x) * 3,
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_callables(kind):
    check(CALLABLES[kind], X)


def test_nested_compile_and_disable():
    inner = compiled(torch.sigmoid)

    @torch.compiler.disable
    def outside(x):
        return x.numpy().sum() + x

    def both(x):
        return inner(chain(x)) + outside(x).mean()

    check(both, X)


def test_set_stance():
    call = compiled(chain)
    with torch.compiler.set_stance("force_eager"):
        same(call(X), chain(X))
        assert graphs() == 0
    same(call(X), chain(X))
    assert graphs() == 1
    with torch.compiler.set_stance("fail_on_recompile"):
        same(call(X), chain(X))
        with pytest.raises(RuntimeError, match=r"[Rr]ecompil"):
            call(X.double())


def test_an_error_inside_the_model():
    def failing(x, bad):
        y = x.exp()
        if bad:
            raise ValueError("told by the model")
        return y + 1

    call = compiled(failing)
    for _ in range(2):
        with pytest.raises(ValueError, match="told by the model"):
            call(X, True)
        same(call(X, False), failing(X, False))
    with pytest.raises((RuntimeError, IndexError), match=r"index|range"):
        compiled(lambda x, i: x[i] * 2)(X, torch.tensor([9]))
    same(call(X, False), failing(X, False))


@dataclass
class Output:
    value: torch.Tensor
    rows: int
    extra: torch.Tensor | None = None


def test_dataclass_outputs():
    def giving(x):
        return Output(value=chain(x), rows=x.shape[0])

    result = compiled(giving)(X)
    assert isinstance(result, Output) and result.rows == 4 and result.extra is None
    same(result.value, chain(X))


def test_generators():
    def pieces(x):
        for i in range(2):
            yield x[i] * 2

    def collected(x):
        return list(pieces(x)), sum(p.sum() for p in pieces(x))

    check(collected, X)


def test_keyword_arguments():
    def named(x, *more, scale=1.0, **rest):
        return chain(x) * scale + sum(more) + rest["bias"]

    expected = named(X, X, X, scale=2.0, bias=X.cos())
    same(compiled(named)(X, X, X, scale=2.0, bias=X.cos()), expected)


def test_results_that_are_not_tensors():
    def mixed(x):
        return {"none": None, "rows": x.shape[0], "deep": [(chain(x), "text"), {"flag": True, "pi": 3.5}]}

    check(mixed, X)
    assert compiled(lambda x: None)(X) is None
    assert compiled(lambda x: x.shape[1] * 2)(X) == 12


def test_a_module_without_parameters():
    check(torch.nn.Sequential(torch.nn.GELU(), torch.nn.Softmax(-1)), X)


@pytest.mark.parametrize("captured", [False, True])
def test_recurrent_layers(captured):
    """Dynamo alone decides whether there is a graph."""
    torch.manual_seed(0)
    layer = torch.nn.GRU(4, 5)
    before = compilations()
    with torch._dynamo.config.patch(allow_rnn=captured):
        check(lambda x: layer(x)[0] * 2, torch.randn(3, 2, 4), expect=None)
    graphs = compilations()[len(before):]
    assert any("gru" in str(made.stages).lower() or "sigmoid" in str(made.stages) for made in graphs) == captured


def test_compilations_can_be_looked_into():
    call = compiled(chain)
    call(X)
    [made] = compilations()[-1:]
    assert made.kernels and "prog" in made.stages
