"""Five architectures through torch.compile and tilewright.compile: as right as eager, nothing unexpected in ATen."""

from __future__ import annotations

import copy

import pytest
import torch
from zoo import MODELS

import tilewright
from tilewright.ir.numerics import error_ratio

pytestmark = pytest.mark.slow

# Models of which tests run that other tests' cases cover for the most part.
SOME = ("minilm", "llama")
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def build(name: str, dtype: str = "f32"):
    row = MODELS[name]
    model = row.build(small=True, dtype=DTYPES[dtype])
    return model, row.inputs(model, small=True)


def reference(model, inputs):
    """The results in float64."""
    wide = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    return copy.deepcopy(model).double()(**wide)


def check(results, model, inputs):
    """Each result's error against float64 is at most twice eager's."""
    eager, exact = model(**inputs), reference(model, inputs)
    assert len(results) == len(eager)
    for index, (ours, theirs, oracle) in enumerate(zip(results, eager, exact)):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        ratio = error_ratio(ours, theirs, oracle)
        assert ratio <= 2.0, f"result {index}: the error is {ratio:.2f} times eager's"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_as_right_as_eager_behind_torch_compile(name, dtype):
    model, inputs = build(name, dtype)
    with torch.no_grad():
        results = torch.compile(model, backend="tilewright", fullgraph=True)(**inputs)
        check(results, model, inputs)
    made = tilewright.last_compilation()
    assert made.kernels
    assert made.fallbacks == []


@pytest.mark.parametrize("name", MODELS)
def test_as_right_as_eager_compiled_ahead_and_saved(name, tmp_path):
    model, inputs = build(name)
    made = tilewright.compile(model, (), inputs)
    with torch.no_grad():
        results = made(**inputs)
        check(results, model, inputs)
    made.save(tmp_path / "model.tw")
    for ours, loaded in zip(results, tilewright.load(tmp_path / "model.tw")(**inputs)):
        assert torch.equal(ours, loaded)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SOME)
def test_numeric_verification_passes(name, dtype):
    model, inputs = build(name, dtype)
    with torch.no_grad():
        torch.compile(model, backend="tilewright", options={"verify": "numeric"})(**inputs)


@pytest.mark.parametrize("name", SOME)
def test_any_batch_size_without_compiling_again(name):
    model, _ = build(name)
    compiled = torch.compile(model, backend="tilewright", dynamic=True)
    with torch.no_grad():
        for batch in (2, 3, 5):
            inputs = MODELS[name].inputs(model, small=True, batch=batch)
            check(compiled(**inputs), model, inputs)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_left_to_aten(name):
    model, inputs = build(name)
    with torch.no_grad():
        results = torch.compile(model, backend="tilewright", options={"fallback": "error"})(**inputs)
        check(results, model, inputs)


def test_what_is_left_to_aten_can_be_an_error():
    compiled = torch.compile(torch.linalg.svdvals, backend="tilewright", options={"fallback": "error"})
    with torch.no_grad(), pytest.raises(Exception, match="_linalg_svd"):
        compiled(torch.randn(5, 3))


def test_runs_without_a_compiler(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    model, inputs = build("minilm")
    with torch.no_grad():
        check(torch.compile(model, backend="tilewright")(**inputs), model, inputs)
    assert "no C++ compiler" in caplog.text or "No C++ compiler" in caplog.text
    assert tilewright.last_compilation().kernels == []


def test_real_minilm_embeds_real_sentences():
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
    import minilm

    model, inputs = minilm.make()
    with torch.no_grad():
        ours, eager = torch.compile(model, backend="tilewright")(*inputs), model(*inputs)
    assert torch.nn.functional.cosine_similarity(ours, eager).min() > 0.99999
    # Sentences 0 and 1 say the same in other words, as do 2 and 3.
    similar = (ours @ ours.t()).fill_diagonal_(-1).argmax(1).tolist()
    assert similar[:4] == [1, 0, 3, 2]
