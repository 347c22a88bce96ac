"""The attention of transformers' models in their own spelling (``attn_implementation="eager"``): how many are found."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers

import tilewright.pipeline
from tilewright.ir.numerics import compare

_SIZES = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 99, "max_position_embeddings": 64,
    "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_WINDOW = {**_GROUPED, "head_dim": 12, "sliding_window": 9}
_GPT = {"n_layer": 2, "n_head": 4, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2}

# Model, its configuration, and how many of its layers' attentions are found.
MODELS = {
    "LlamaModel": ("LlamaConfig", _GROUPED, 2),
    "MistralModel": ("MistralConfig", _WINDOW, 2),
    "Qwen2Model": ("Qwen2Config", _GROUPED, 2),
    "Gemma2Model": ("Gemma2Config", _WINDOW, 2),
    "GptOssModel": ("GptOssConfig", {**_WINDOW, "num_local_experts": 2, "num_experts_per_tok": 1}, 2),
    "GPT2Model": ("GPT2Config", {**_GPT, "n_embd": 48, "n_positions": 64}, 2),
    "BloomModel": ("BloomConfig", {**_GPT, "hidden_size": 48}, 2),
    "OPTModel": ("OPTConfig", {**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 48}, 2),
    "GPTNeoXModel": ("GPTNeoXConfig", _SIZES, 2),
    "PhiModel": ("PhiConfig", _SIZES, 2),
    "BertModel": ("BertConfig", _SIZES, 2),
    "T5EncoderModel": (
        "T5Config", {"d_model": 48, "d_kv": 12, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 99}, 2,
    ),
    "ViTModel": ("ViTConfig", {**_SIZES, "image_size": 32, "patch_size": 8}, 2),
    "SwinModel": (
        "SwinConfig", {"image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4],
                       "window_size": 4}, 4,
    ),
}
FAST = {"LlamaModel"}
SLOW = {"GptOssModel", "BloomModel", "T5EncoderModel", "SwinModel", "Gemma2Model"}


@pytest.fixture
def remarks(monkeypatch):
    """What the attention pass says, of all graphs that are compiled."""
    found = []
    compile_graph = tilewright.pipeline.compile_graph

    def watched(*args, **kwargs):
        compilation = compile_graph(*args, **kwargs)
        found.extend(r for r in compilation.remarks if r.pass_name == "attention")
        return compilation

    monkeypatch.setattr(tilewright.pipeline, "compile_graph", watched)
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def inputs_of(model):
    torch.manual_seed(1)
    if model.main_input_name == "pixel_values":
        return {"pixel_values": torch.randn(2, 3, 32, 32)}
    mask = torch.ones(2, 33, dtype=torch.long)
    mask[1, :7] = 0  # padded on the left: these queries see no key
    return {"input_ids": torch.randint(3, 99, (2, 33)), "attention_mask": mask}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow if name in SLOW else pytest.mark.exhaustive)
        for name in MODELS
    ],
)
def test_attention_of_a_model(name, remarks):
    config_name, sizes, count = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_name)(**sizes)
    config._attn_implementation = "eager"
    config.use_cache = False
    model = getattr(transformers, name)(config).eval()
    inputs = inputs_of(model)
    with torch.no_grad():
        actual = torch.compile(model, backend="tilewright")(**inputs)[0]
        expected = model(**inputs)[0]
        wide = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        in_f64 = copy.deepcopy(model).double()
        in_f64.config._experts_implementation = "eager"  # torch has no grouped products of float64
        exact = in_f64(**wide)[0]
    assert sum(r.kind == "applied" for r in remarks) == count, [r.message for r in remarks]
    problem = compare(actual, expected, exact, "reassociates", factor=4.0)
    assert problem is None, problem
