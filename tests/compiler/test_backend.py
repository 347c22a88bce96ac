"""torch.compile(backend="tilewright"): by name, options and modes, dynamic sizes, training, fallback, logs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch

import tilewright


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def function(x, y):
    return torch.nn.functional.gelu(x @ y) + torch.softmax(x, -1).sum()


X, Y = torch.randn(6, 8), torch.randn(8, 8)


def compiled(**kwargs):
    return torch.compile(function, backend="tilewright", **kwargs)


def same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_registered_by_name():
    assert "tilewright" in torch._dynamo.list_backends()
    same(compiled()(X, Y), function(X, Y))


def test_last_compilation_is_what_was_made():
    call = compiled()
    call(X, Y)
    made = tilewright.last_compilation()
    assert made is tilewright.compilations()[-1] and made.kernels and "import" in made.stages
    assert "tw.matmul" in made.stages["import"]


@pytest.mark.parametrize("kwargs, message", [
    ({"options": {"verfy": "ir"}}, "did you mean 'verify'"),
    ({"options": {"quantize": "int8"}}, "not available in this version"),
    ({"mode": "fastest"}, "unknown mode 'fastest'"),
])
def test_options_are_refused(kwargs, message):
    with pytest.raises(Exception, match=message):
        compiled(**kwargs)(X, Y)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_modes_run(mode):
    same(compiled(mode=mode)(X, Y), function(X, Y))


def test_verify_and_dump(tmp_path):
    same(compiled(options={"verify": "numeric", "dump_ir": str(tmp_path)})(X, Y), function(X, Y))
    names = sorted(path.name for path in tmp_path.rglob("*.mlir"))
    assert names and names[0].startswith("00_import")


def test_dynamic_sizes_compile_once():
    call = compiled(dynamic=True)
    for rows in (2, 3, 17):
        same(call(X[:1].repeat(rows, 1), Y), function(X[:1].repeat(rows, 1), Y))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_inputs_may_be_strided_views():
    call = compiled()
    a, b = torch.randn(8, 6).t(), torch.randn(8, 16)[:, ::2]
    same(call(a, b), function(a, b))


def test_mutation_and_aliases():
    def mutate(x):
        x.add_(1)
        return x.view(-1), x * 2

    a, b = X.clone(), X.clone()
    same(torch.compile(mutate, backend="tilewright")(a), mutate(b))
    same(a, b)


def test_training_under_autocast():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.LayerNorm(16), torch.nn.Linear(16, 1))
    gradients = []
    for call in (model, torch.compile(model, backend="tilewright")):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            call(X).float().square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for actual, expected in zip(gradients[1], gradients[0]):
        torch.testing.assert_close(actual, expected, rtol=3e-2, atol=3e-2)


def memory(results, inputs):
    """Which of the tensors share memory: for each the position of the first one with its storage."""
    pointers = [tensor.untyped_storage().data_ptr() for tensor in (*results, *inputs)]
    return [pointers.index(pointer) for pointer in pointers]


@pytest.mark.parametrize("function", [
    lambda x: (x.clone(), x * 1, x.t(), x),  # a dropped copy is not the input; a view of it is
    lambda x: (x.exp(), x.exp(), torch.zeros(3), torch.zeros(3)),  # equal values
    lambda x: ((y := x * 2), y.clone(), y.t(), y.t().clone()),
    lambda x: (x.clone().view(-1), x.clone()[0], x.clone().diagonal()),
    lambda x: (x.clone().expand(2, 4, 4), torch.cat([x]), torch.where(x > 0, x, x)),
], ids=["input", "equal", "intermediate", "views", "others"])
def test_results_share_memory_only_where_eagers_do(function):
    x = torch.randn(4, 4)
    expected, actual = function(x), torch.compile(function, backend="tilewright")(x)
    for got, want in zip(actual, expected):
        same(got, want)
    assert memory(actual, [x]) == memory(expected, [x])


def test_a_returned_view_of_an_input_stays_one_where_it_would_be_computed():
    x = torch.arange(12.0).view(6, 2)
    call = torch.compile(lambda x: x.flatten().unfold(0, 3, 2), backend="tilewright", dynamic=True)
    result = call(x)
    assert torch.equal(result, x.flatten().unfold(0, 3, 2))
    assert result.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_a_clone_keeps_the_value_from_before_a_change():
    def remember(x):
        before = x.clone()
        x.add_(1)
        return before

    def swap(x, y):
        kept = x.clone()
        x.copy_(y)
        y.copy_(kept)

    a, b = torch.zeros(3), torch.ones(3)
    assert torch.equal(torch.compile(remember, backend="tilewright")(a), torch.zeros(3))
    assert torch.equal(a, torch.ones(3))
    a.zero_()
    torch.compile(swap, backend="tilewright")(a, b)
    assert torch.equal(a, torch.ones(3)) and torch.equal(b, torch.zeros(3))


def test_training_gives_eagers_gradients():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.LayerNorm(16), torch.nn.Linear(16, 1))
    model(X).square().mean().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.compile(model, backend="tilewright")(X).square().mean().backward()
    for parameter, gradient in zip(model.parameters(), expected):
        same(parameter.grad, gradient)


def test_ops_left_to_aten_are_told():
    def sorting(x):
        return torch.sort(x * 2 + 1).values + 1

    call = torch.compile(sorting, backend="tilewright")
    same(call(X), sorting(X))
    (row,) = tilewright.last_compilation().fallbacks
    assert row["op"].startswith("aten.sort") and row["count"] == 1 and row["reason"]
    torch._dynamo.reset()
    with pytest.raises(Exception, match=r"aten\.sort"):
        torch.compile(sorting, backend="tilewright", options={"fallback": "error"})(X)


def test_graphs_that_cannot_be_imported_run_in_aten(caplog):
    def selecting(x):
        return x[x > 0] * 2

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        same(torch.compile(selecting, backend="tilewright", fullgraph=True)(X), selecting(X))
        made = tilewright.last_compilation()
        assert made.fallbacks
        torch._dynamo.reset()
        with pytest.raises(Exception, match=r"depends on the data of a tensor"):
            torch.compile(selecting, backend="tilewright", fullgraph=True, options={"fallback": "error"})(X)


def test_no_compiler_is_one_clear_warning(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    call = compiled()
    same(call(X, Y), function(X, Y))
    same(call(X, Y), function(X, Y))
    warnings = [r for r in caplog.records if r.name == "tilewright" and r.levelname == "WARNING"]
    assert len(warnings) == 1 and "compiler" in warnings[0].getMessage()


def test_torch_logs_show_decisions():
    code = "import torch; torch.compile(lambda x: torch.softmax(x * 2, -1), backend='tilewright')(torch.randn(4, 8))"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TORCH_LOGS": "+tilewright"},
                          capture_output=True, text=True, check=True)
    assert "1 kernels" in done.stderr and "fuse applied" in done.stderr


@pytest.mark.parametrize("level", [logging.WARNING, logging.INFO])
def test_the_level_of_the_log(caplog, level):
    with caplog.at_level(level, "tilewright"):
        torch.compile(lambda x: torch.softmax(x * 2, -1), backend="tilewright")(torch.randn(4, 8))
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("tilewright")]
    assert len(messages) == (level == logging.INFO)
    assert all("1 kernels" in message for message in messages)
