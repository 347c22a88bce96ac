"""Training for real: a GPT on text, and a sentence encoder with its real weights."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from families import FAMILIES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import minilm
import model_coverage
import train_gpt

from tilewright.ir.numerics import compare


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def test_the_page_and_the_picture_are_what_was_measured():
    result = json.loads(train_gpt.RESULT.read_text())
    curves = {name: result["losses"][name] for name in ("eager", "tilewright")}
    assert train_gpt.PAGE.read_text() == train_gpt.page(result)
    assert train_gpt.PICTURE.read_text() == train_gpt.picture(curves)


def test_the_curve_that_was_measured_lies_on_eagers():
    result = json.loads(train_gpt.RESULT.read_text())
    losses = result["losses"]
    assert result["config"]["steps"] == 300 and {len(curve) for curve in losses.values()} == {300}
    noise = train_gpt.difference(losses["eager"], losses["eager, weights nudged"])
    assert train_gpt.difference(losses["eager"], losses["tilewright"]) <= 2 * noise
    assert abs(train_gpt.last(losses["eager, dropout"]) - train_gpt.last(losses["tilewright, dropout"])) < 0.1
    assert all(train_gpt.last(curve) < curve[0] / 2 for curve in losses.values())


@pytest.mark.slow
def test_twenty_steps_lie_on_eagers():
    config = train_gpt.Config(layers=2, width=48, heads=3, context=31, batch=5, steps=20)
    eager = train_gpt.train(config)
    assert eager[-1] < eager[0] - 0.8
    assert train_gpt.difference(eager, train_gpt.train(config, backend="tilewright")) < 2e-5


def fine_tuning_step(encoder, inputs, dtype=None):
    """A step that pulls paraphrases together: the loss, and every gradient by name."""
    ids, mask = inputs
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        embeddings = encoder(ids, mask)
        scores = embeddings[0::2] @ embeddings[1::2].t() * 20
        if scores.dtype is torch.bfloat16:
            scores = scores.float()
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(4))
    loss.backward()
    grads = {f"gradient {n}": p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    return {"result loss": loss.detach()} | grads


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "autocast"])
def test_real_minilm_learns_as_in_eager(dtype):
    model, inputs = minilm.make()
    wide, eager = copy.deepcopy(model).double(), copy.deepcopy(model)
    model.compile(backend="tilewright", fullgraph=True)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(8, generator=generator) for _ in range(3)]  # who is paired with whom
    draws = [tuple(t[order] for t in inputs) for order in orders]
    found = model_coverage.errors(
        [fine_tuning_step(model, draw, dtype) for draw in draws],
        [fine_tuning_step(eager, draw, dtype) for draw in draws],
        [fine_tuning_step(wide, draw) for draw in draws],
        model_coverage.MODES["train"],
    )
    assert found.wrong == [] and found.tensors > 90


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_any_length_without_compiling_again(name):
    """Batch and length are symbols: one graph for all sizes from 2, the right numbers at each."""
    family = FAMILIES[name]
    model = family.build()
    compiled = torch.compile(model, backend="tilewright", dynamic=True)
    for batch, length in ((2, 5), (3, 17), (5, 7), (2, 13), (7, 2)):
        inputs = {key: value[:, :length].contiguous() for key, value in family.inputs(model, batch=batch).items()}
        with torch.no_grad():
            results, expected = compiled(**inputs), model(**inputs)
            oracle = family.reference(model)(**inputs)
        for ours, theirs, exact in zip(results, expected, oracle, strict=True):
            assert compare(ours, theirs, exact, "reassociates") is None
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
def test_training_with_any_length_without_compiling_again():
    family = FAMILIES["bert"]
    model = family.build(training=True)
    compiled = torch.compile(model, backend="tilewright", dynamic=True)
    for batch, length in ((2, 5), (3, 17), (5, 7)):
        inputs = family.inputs(model, training=True, batch=batch)
        inputs = {key: value[:, :length].contiguous() for key, value in inputs.items()}

        def gradients(run, owner, inputs=inputs):
            owner.zero_grad()
            run(**inputs)[0].backward()
            return {name: p.grad.clone() for name, p in owner.named_parameters() if p.grad is not None}

        wide = family.reference(model)
        ours, theirs, exact = gradients(compiled, model), gradients(model, model), gradients(wide, wide)
        assert ours.keys() == theirs.keys()
        wrong = {n: compare(ours[n], theirs[n], exact[n], "reassociates", factor=3.0) for n in ours}
        assert {n: str(m) for n, m in wrong.items() if m is not None} == {}
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
