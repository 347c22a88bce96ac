"""Every family of models: inference in two dtypes and a training step are as right as eager, and so is `generate`."""

from __future__ import annotations

import json

import model_coverage
import pytest
import torch
from families import FAMILIES

FAST = {("bert", "train"), ("llama", "f32")}
SLOW = {
    ("gpt2", "train"), ("t5", "train"), ("resnet", "train"), ("mamba", "f32"), ("swin", "bf16"), ("whisper", "f32"),
    ("mixtral", "bf16"), ("convnext", "f32"), ("mobilenetv2", "f32"), ("vit", "train"), ("llama", "train"),
}


def marks(name, mode):
    """`make coverage` measures every family in every mode."""
    if (name, mode) in FAST:
        return ()
    return pytest.mark.slow if (name, mode) in SLOW else pytest.mark.exhaustive


# What may run in ATen besides matrix products, convolutions and attention: choosing experts, and their products.
LEFT_TO_ATEN = {
    "mixtral": {
        "aten.topk.default", "aten.sort.default", "aten.histc.default", "aten._grouped_mm.default",
        "transformers.grouped_mm_fallback.default", "transformers.grouped_mm_fallback_backward.default",
    },
}


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=marks(name, mode))
        for name in FAMILIES
        for mode in model_coverage.MODES
    ],
)
def test_as_right_as_eager(name, mode):
    row = model_coverage.measure(name, mode)
    assert row["errors"]["wrong"] == []
    assert row["graph_breaks"] == row["graph_breaks_of_aot_eager"]
    parts = [row[side] for side in ("forward", "backward") if row[side] is not None]
    assert len(parts) == 1 + (mode == "train") and all(part["kernels"] for part in parts)
    assert {op for part in parts for op in part["fallbacks"]} <= LEFT_TO_ATEN.get(name, set())
    # Results, and in training at least a gradient for each layer.
    assert row["errors"]["tensors"] >= (10 if mode == "train" else 1)


def draws_of(**changes):
    """Five draws of three tensors: compiled (those named in `changes` moved by that much), eager, and in float64."""
    names = ("result 0", "gradient w", "buffer b")
    oracle = [{name: torch.randn(100, dtype=torch.float64) for name in names} for _ in range(5)]
    eager = [{name: value.float() for name, value in draw.items()} for draw in oracle]
    ours = [{name: value + changes.get(name.split()[1], 0) for name, value in draw.items()} for draw in eager]
    return ours, eager, oracle


def test_a_wrong_tensor_a_missing_and_a_superfluous_one_are_found():
    ours, eager, oracle = draws_of(w=1e-6)
    for draw in ours:
        del draw["buffer b"]
        draw["gradient x"] = torch.zeros(3)
    found = model_coverage.errors(ours, eager, oracle, model_coverage.MODES["train"])
    assert sorted(text.split()[1].rstrip(":") for text in found.wrong) == ["b", "w", "x"]
    assert found.of == "gradient w" and found.largest > 3 and found.tensors == 2


def test_one_draw_may_be_unlucky_but_not_beyond_all_bounds():
    ours, eager, oracle = draws_of()
    mode = model_coverage.MODES["train"]
    ours[3]["gradient w"] = ours[3]["gradient w"] + 1e-5
    assert model_coverage.errors(ours, eager, oracle, mode).wrong == []
    ours[3]["gradient w"] = ours[3]["gradient w"] + 1.0
    assert len(model_coverage.errors(ours, eager, oracle, mode).wrong) == 1


def test_the_page_is_what_was_measured():
    assert model_coverage.PAGE.read_text() == model_coverage.page(json.loads(model_coverage.RESULT.read_text()))


def test_what_was_measured_is_right_and_complete():
    rows = json.loads(model_coverage.RESULT.read_text())["rows"]
    assert [(row["model"], row["mode"]) for row in rows] == [(n, m) for n in FAMILIES for m in model_coverage.MODES]
    assert [row["errors"]["wrong"] for row in rows if row["errors"]["wrong"]] == []
    assert all(row["graph_breaks"] == row["graph_breaks_of_aot_eager"] for row in rows)


def prompt(name: str) -> dict[str, torch.Tensor]:
    """What generation starts from: three texts, one of them padded on the left, or the encoder's input."""
    family = FAMILIES[name]
    inputs = family.inputs(family.build())
    inputs.pop("decoder_input_ids", None)
    if "input_ids" in inputs and "attention_mask" not in inputs:
        inputs["input_ids"] = inputs["input_ids"][:, :11]
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["attention_mask"][1, :3] = 0
    return inputs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cache", "by_transformers"),
    [
        ("gpt2", None, False), ("gpt2", "static", False), ("llama", "static", True), ("t5", None, False),
        ("t5", "static", True),
    ],
)
def test_generate_gives_the_tokens_of_eager(name, cache, by_transformers):
    """The forward is compiled by hand, or by `generate` itself, which transformers does for static caches."""
    from transformers import CompileConfig

    model = FAMILIES[name].build().model
    settings = {
        "do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8, "return_dict_in_generate": True,
        "output_logits": True, **({} if cache is None else {"cache_implementation": cache}),
    }
    inputs = prompt(name)
    expected = model.generate(**inputs, **settings)
    if by_transformers:
        compiling = CompileConfig(backend="tilewright", fullgraph=True, mode=None)
        compiling._compile_all_devices = True  # it would not compile on CPUs
        settings["compile_config"] = compiling
    else:
        model.forward = torch.compile(model.forward, backend="tilewright")
    actual = model.generate(**inputs, **settings)
    assert torch.equal(actual.sequences, expected.sequences)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    for ours, theirs in zip(actual.logits, expected.logits, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
