"""Graphs that the IR expresses only in parts: what runs as it is, what is compiled, and that all of it is right."""

from __future__ import annotations

import json
import operator
import random

import pytest
import torch
from torch._higher_order_ops.map import map as map_
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.fx.experimental.proxy_tensor import make_fx

import tilewright
from tilewright import split
from tilewright.fallback import AtenGraph
from tilewright.importer.diagnosis import unsupported_nodes
from tilewright.parts import PartedCompilation
from tilewright.pipeline import Compilation

aten = torch.ops.aten
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True):
        yield
    torch._dynamo.reset()


@torch.library.custom_op("tw_split::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@double.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("tw_split::add_one", mutates_args=("x",))
def add_one(x: torch.Tensor, scale: float) -> torch.Tensor:
    x.add_(1)
    return x * scale


@add_one.register_fake
def _(x, scale):
    return torch.empty_like(x)


def mutating_custom_op(x):
    y = x * 2
    z = torch.ops.tw_split.add_one(y, 3.0)
    return torch.softmax(y, -1), z + 1, y


def scalars(x):
    n = x.abs().sum().int().item()
    torch._check(n >= 0)
    torch._check(n < 1000)
    return torch.zeros(n) + 1, x * n + n, x.sum() * x.max().item()


def positions(x):
    found = torch.nonzero(x > 0)
    return found * 2, torch.softmax(x, -1)[found[:, 0], found[:, 1]]


def unique(x):
    values, inverse, counts = torch.unique((x * 2).int(), return_inverse=True, return_counts=True)
    return values * 2, inverse + 1, counts.float().mean()


def count(x):
    repeats = (x[:, 0].abs() * 3).long()
    return torch.bincount(repeats) * 2, torch.repeat_interleave(x, repeats, 0).exp() + 1


def twice_selected(x):
    """The size that the first selection gives goes through a part into the second."""
    y = x[x > 0].exp()
    return torch.softmax(y[y > 1.5] * 2, 0), y.sum()


def assigned(x):
    y = x.clone()
    y[y > 0] = -1
    return y * 2


def spectrum(x):
    transformed = torch.fft.rfft(torch.tanh(x))
    return torch.softmax(torch.fft.irfft(transformed * transformed.conj(), n=8), -1)


def layouts(x):
    return x.exp().t().as_strided((3, 5), (1, 7)) + 1, x.t().sigmoid().as_strided((4,), (2,)) * 2


def branch(x):
    return torch.cond(x.sum() > 0, lambda x: torch.softmax(x, -1) * 2, lambda x: x.sin().cos(), (x * 3,))


def loop(x):
    def condition(i, a):
        return (i < 5) & (a.sum() < 100)

    def body(i, a):
        return i + 1, torch.tanh(a) * 1.5

    i, a = while_loop(condition, body, (torch.tensor(0), x.exp()))
    return i + 1, a.sum(0)


def scanned(x):
    carry, rows = scan(lambda c, a: (torch.tanh(c + a), (c * a).exp()), x[0] * 2, x)
    return carry + 1, rows.sum(0)


def mapped(x):
    return map_(lambda a, b: torch.softmax(a, -1) + b * 2, x, x[0].exp()) * 2


# What runs as it is, by name; and how many graphs are compiled, bodies of higher-order ops included.
CASES = {
    "scalars": (scalars, {"aten._local_scalar_dense.default"}, 2),
    "nonzero": (positions, {"aten.nonzero.default"}, 2),
    "masks": (lambda x: x[x > 0] * 2, {"aten.index.Tensor"}, 2),
    "masked_select": (lambda x: x.masked_select(x > 0).exp(), {"aten.masked_select.default"}, 2),
    "twice selected": (twice_selected, {"aten.index.Tensor"}, 3),
    "unique": (unique, {"aten._unique2.default"}, 2),
    "bincount, repeat_interleave": (count, {"aten.bincount.default", "aten.repeat_interleave.Tensor"}, 2),
    "complex": (spectrum, {"aten._conj.default"}, 2),
    "as_strided": (layouts, {"aten.as_strided.default"}, 2),
    "mutating custom op": (mutating_custom_op, {"auto_functionalized_v2"}, 2),
    "cond": (branch, {"cond"}, 3),
    "while_loop": (loop, {"while_loop"}, 4),
    "scan": (scanned, {"scan"}, 3),
    "map": (mapped, {"map_impl"}, 3),
}


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_imported_runs_between_parts(name):
    function, left, compiled = CASES[name]
    call = torch.compile(function, backend="tilewright", fullgraph=True)
    for x in (X, -X):
        torch.testing.assert_close(call(x), function(x), rtol=1e-5, atol=1e-5)
    made = tilewright.last_compilation()
    assert isinstance(made, PartedCompilation), made.fallbacks
    assert all(isinstance(part, Compilation) for part in made.parts.values()), made.parts
    assert len(made.parts) == compiled
    complex_calls = {row["op"] for row in made.fallbacks if row["reason"] == "complex dtype"}
    assert left <= {row["op"] for row in made.fallbacks}
    assert name == "complex" or {row["op"] for row in made.fallbacks} <= left | complex_calls
    assert made.kernels and all(row["reason"] for row in made.fallbacks)


def impure(x, y):
    """Random numbers, memory that changes, views of it, several results, sizes."""
    a = torch.rand(x.shape[0]) + x.sum(-1)
    b = x.t()
    values, positions = torch.max(x * 2, 1)
    x.mul_(2)
    c = b.exp() + torch.rand(())
    y.add_(values)
    d = torch.bernoulli(torch.sigmoid(x))
    b.sub_(1)
    return a, c, x.sum() + d.sum(), positions + y.long(), torch.nonzero(x)[: x.shape[0]], torch.rand(2), b


@pytest.mark.parametrize("seed", range(30))
def test_any_plan_computes_what_the_graph_does(seed):
    """Whatever is left out: nothing is compiled here, parts and calls between them run as they are."""
    inputs = (X.clone(), torch.zeros(6))
    graph = make_fx(impure, tracing_mode="symbolic" if seed % 2 else "fake")(*inputs)
    calls = [n for n in graph.graph.nodes if n.op == "call_function" and n.target is not operator.getitem]
    chooser = random.Random(seed)
    chosen = chooser.sample(calls, k=chooser.randint(1, len(calls) // 2))
    made = split.plan(graph, dict.fromkeys(chosen, "chosen"))
    assert set(made.left) == set(chosen)
    results = []
    for call in (graph, made.outer):
        given = (X.clone(), torch.zeros(6))
        torch.manual_seed(seed)
        results.append((call(*given), given))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_parts_are_few():
    """Two chains with a call in each need two parts, not four; what needs no part runs before the first."""
    def function(x, y):
        a, b = torch.nonzero(x.exp()), torch.nonzero(y.sin())
        return a.float().exp(), b.float().sin(), torch.nonzero(x)

    graph = make_fx(function, tracing_mode="symbolic")(X.clone(), X.clone())
    made = split.plan(graph, unsupported_nodes(graph))
    assert [part.name for part in made.parts] == ["part_0", "part_1"]
    order = [str(node.target) for node in made.outer.graph.nodes if node.op != "placeholder"]
    assert order.index("aten.nonzero.default") < order.index("part_0") < order.index("part_1")


def test_what_the_ir_expresses_stays_whole():
    def function(x):
        return assigned(x), torch.ops.tw_split.double(x.exp()) + 1

    torch.testing.assert_close(torch.compile(function, backend="tilewright")(X), function(X))
    made = tilewright.last_compilation()
    assert isinstance(made, Compilation)
    assert [row["op"] for row in made.fallbacks if "tw_split" in row["op"]] == ["tw_split.double.default"]


def test_tensors_on_another_device_are_left_alone():
    def function(x):
        return torch.softmax(x, -1), x.to("meta").exp()

    probabilities, there = torch.compile(function, backend="tilewright", fullgraph=True)(X)
    torch.testing.assert_close(probabilities, torch.softmax(X, -1))
    assert there.device.type == "meta" and there.shape == X.shape
    reasons = [row["reason"] for row in tilewright.last_compilation().fallbacks]
    assert len(reasons) == 2 and all("a tensor is on meta, not on cpu" in reason for reason in reasons)


def test_checks_of_data_still_raise():
    def function(x):
        n = x.sum().int().item()
        torch._check(n >= 0)
        torch._check(n < 100)
        return torch.zeros(n).exp() + x.relu().sum()

    call = torch.compile(function, backend="tilewright", fullgraph=True)
    ones = torch.ones(7)
    torch.testing.assert_close(call(ones), function(ones))
    with pytest.raises(RuntimeError, match="Runtime assertion failed"):
        call(-ones)
    with pytest.raises(RuntimeError, match="Runtime assertion failed"):
        call(ones * 50)


def test_asserts_on_tensors_still_raise():
    def function(x):
        torch._assert_async((x > 0).all(), "all of x must be positive")
        return torch.softmax(x, -1)

    call = torch.compile(function, backend="tilewright", fullgraph=True)
    torch.testing.assert_close(call(X.abs() + 1), torch.softmax(X.abs() + 1, -1))
    assert tilewright.last_compilation().fallbacks == []
    with pytest.raises(RuntimeError, match="must be positive"):
        call(-X.abs())


def test_errors_list_everything_that_would_run_in_aten():
    def function(x):
        return torch.fft.fft(x.exp()).abs() + 1, torch.nonzero(x), x.sum().int().item()

    with pytest.raises(Exception, match="would run in ATen") as caught:
        torch.compile(function, backend="tilewright", fullgraph=True, options={"fallback": "error"})(X)
    for op in ("aten._fft_r2c", "aten.nonzero.default", "aten._local_scalar_dense.default"):
        assert op in str(caught.value)
    assert "test_split.py" in str(caught.value)


def test_random_numbers_and_changes_keep_their_order():
    def function(x):
        first = torch.rand(3)
        found = torch.nonzero(x > first.mean())
        x.mul_(2)
        second = torch.rand(found.shape[0]) + first.sum()
        chosen = torch.multinomial(torch.softmax(x[0], -1), 2)
        x.add_(second.mean())
        return found, second, chosen, x.sum(), torch.rand(2)

    expected_x, x = X.clone(), X.clone()
    torch.manual_seed(7)
    expected = function(expected_x)
    call = torch.compile(function, backend="tilewright", fullgraph=True, options={"rng": "eager"})
    torch.manual_seed(7)
    for actual, wanted in zip(call(x), expected):
        torch.testing.assert_close(actual, wanted)
    torch.testing.assert_close(x, expected_x)
    assert isinstance(tilewright.last_compilation(), PartedCompilation)


class Router(torch.nn.Module):
    """Weights on both sides of a selection by data, as in a mixture of experts."""

    def __init__(self):
        super().__init__()
        self.gate, self.expert = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.gate(x))
        chosen = torch.nonzero(x.sum(-1) > 0.5).flatten()
        return x.index_add(0, chosen, torch.softmax(x[chosen], -1)), self.expert(x[chosen])


def test_weights_of_parts_are_followed():
    torch.manual_seed(0)
    model = Router().eval()
    call = torch.compile(model, backend="tilewright", fullgraph=True)
    for change in (lambda: None, lambda: model.expert.weight.data.mul_(2),
                   lambda: setattr(model.gate.weight, "data", torch.randn(8, 8))):
        with torch.no_grad():
            change()
            torch.testing.assert_close(call(X), model(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["router", "scalars", "cond"])
def test_gradients_go_through_parts(name):
    torch.manual_seed(0)
    model = Router()
    functions = {
        "router": lambda x: sum(part.square().sum() for part in model(x)),
        "scalars": lambda x: (torch.tanh(x) * x.detach().sum().item()).square().sum(),
        "cond": lambda x: branch(x).square().sum(),
    }
    function = functions[name]
    call = torch.compile(function, backend="tilewright", fullgraph=True)
    for x in (X, -X):
        eager, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
        function(eager).backward()
        call(ours).backward()
        torch.testing.assert_close(ours.grad, eager.grad, rtol=1e-4, atol=1e-5)


def test_dynamic_sizes_cross_parts():
    def function(x):
        y = torch.softmax(x, -1)
        return x[x > 0].exp(), torch.cat([y, y * 2]), torch.nonzero(y > 0.2) + x.shape[0]

    call = torch.compile(function, backend="tilewright", fullgraph=True, dynamic=True)
    torch._dynamo.utils.counters.clear()
    for rows in (6, 2, 3, 17):
        x = torch.randn(rows, 8)
        torch.testing.assert_close(call(x), function(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert isinstance(tilewright.last_compilation(), PartedCompilation)


@pytest.mark.parametrize("given", ["example inputs", "random inputs"])
def test_parts_are_verified_and_dumped(given, tmp_path):
    options = {"verify": "numeric", "dump_ir": str(tmp_path)}
    if given == "example inputs":
        model = tilewright.compile(Selecting(), (X,), **options)
        torch.testing.assert_close(model(X), Selecting()(X))
    else:
        call = torch.compile(Selecting(), backend="tilewright", fullgraph=True, options=options)
        torch.testing.assert_close(call(X), Selecting()(X))
    assert sorted({path.parent.name for path in tmp_path.rglob("*.mlir")}) == ["part_0", "part_1"]


class Selecting(torch.nn.Module):
    def forward(self, x):
        y = torch.tanh(x) + 1
        return torch.softmax(y[y > 0.5] * 2, 0), y.sum(-1)


def test_exported_models_in_parts(tmp_path):
    model = tilewright.compile(Selecting(), (X,))
    for x in (X, -X):
        torch.testing.assert_close(model(x), Selecting()(x))
    names = [kernel.name for kernel in model.kernels]
    assert names and all(name.startswith(("part_0/", "part_1/")) for name in names)
    assert names[0] in model.explain(names[0])
    assert "tw." in model.ir("part_0/import")
    assert json.loads(json.dumps(model.stats, default=str))["fallbacks"] == model.fallbacks
    assert [row["op"] for row in model.fallbacks] == ["aten.index.Tensor"]
    assert "part_0" in model.compilation.host_source
    with pytest.raises(tilewright.TilewrightError, match="one program, and the model runs as 2 programs with Python"):
        model.save(tmp_path / "model.tw")
    written = model.write(tmp_path / "out", "model")
    assert {"part_0", "part_1"} <= {path.parent.name for path in written} and not list(tmp_path.rglob("*.tw"))
    assert "part_1/" in (tmp_path / "out" / "report.html").read_text()
    assert all(row["name"].startswith("part_") for row in model.memory["buffers"])


def test_facts_about_data_are_used():
    class Sliced(torch.nn.Module):
        def forward(self, x, n):
            size = n.item()
            torch._check(size >= 0)
            torch._check(size <= x.shape[0])
            return torch.softmax(x.narrow(0, 0, size) * 2, -1).sum(0), torch.arange(size) * 2

    model = tilewright.compile(Sliced(), (X, torch.tensor(3)))
    for n in (3, 0, 1, 6):
        for actual, wanted in zip(model(X, torch.tensor(n)), Sliced()(X, torch.tensor(n))):
            torch.testing.assert_close(actual, wanted)
    with pytest.raises(RuntimeError, match="Runtime assertion failed"):
        model(X, torch.tensor(7))


def test_numbers_from_data_may_be_negative():
    def function(x):
        n = x.sum().int().item()
        return x * n, torch.tanh(x) + n, x.roll(n, 0)

    call = torch.compile(function, backend="tilewright", fullgraph=True)
    for x in (X, X - 1, X + 1):
        torch.testing.assert_close(call(x), function(x))


def test_jagged_tensors():
    def function(values, offsets):
        nested = torch.nested.nested_tensor_from_jagged(values, offsets)
        return (nested.sin() * 2 + 1).values()

    values, offsets = torch.randn(9, 4), torch.tensor([0, 2, 6, 9])
    call = torch.compile(function, backend="tilewright")
    torch.testing.assert_close(call(values, offsets), function(values, offsets))


def test_sparse_products():
    """torch breaks the graph at a sparse tensor that is made in it, and passes one in as it is."""
    def function(x):
        return torch.sparse.mm((x * 2).to_sparse(), x.t()).relu() + 1

    torch.testing.assert_close(torch.compile(function, backend="tilewright")(X), function(X))
    call = torch.compile(lambda a, x: torch.sparse.mm(a, x.t()).relu() + 1, backend="tilewright")
    torch.testing.assert_close(call(X.to_sparse(), X), (X @ X.t()).relu() + 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a kernel of Triton's runs there")
def test_triton_kernels_of_the_user_need_a_gpu():
    triton = pytest.importorskip("triton")
    language = pytest.importorskip("triton.language")

    @triton.jit
    def doubled(x, y, n, block: language.constexpr):
        at = language.program_id(0) * block + language.arange(0, block)
        language.store(y + at, language.load(x + at, mask=at < n) * 2, mask=at < n)

    def function(x):
        y = torch.empty_like(x)
        doubled[(1,)](torch.softmax(x, -1), y, x.numel(), 64)
        return y.exp() + 1

    with pytest.raises(RuntimeError, match="active driver"):
        torch.compile(function, backend="tilewright")(X)


def test_resized_and_replaced_memory():
    def resized(x):
        y = x.clone()
        y.resize_(3, 3)
        return y * 2

    def replaced(x, z):
        y = x * 2
        x.set_(z)
        return x.sum() + y.sum()

    torch.testing.assert_close(torch.compile(resized, backend="tilewright")(X), resized(X))
    a, b = X.clone(), X.clone()
    z = torch.randn(3)
    torch.testing.assert_close(torch.compile(replaced, backend="tilewright")(a, z), replaced(b, z))
    assert a.data_ptr() == b.data_ptr() == z.data_ptr()


def test_without_a_compiler_nothing_is_split(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    call = torch.compile(positions, backend="tilewright", fullgraph=True)
    torch.testing.assert_close(call(X), positions(X))
    assert isinstance(tilewright.last_compilation(), AtenGraph)
    warnings = [r for r in caplog.records if r.name == "tilewright" and r.levelname == "WARNING"]
    assert len(warnings) == 1 and "compiler" in warnings[0].getMessage()
