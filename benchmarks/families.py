"""The model families that coverage is measured on: from configurations of transformers, random weights, sizes of tests.

Sizes are odd on purpose: batch 3, lengths 7, 17 and 31, three heads, images of 37 pixels where the model takes them.
Each layer kind of the real model occurs, and each dropout is off, so that two runs can be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from zoo import Plain, settled

Arguments = dict[str, torch.Tensor]
BATCH = 3


@dataclass(frozen=True)
class Family:
    """One model: its transformers classes, its configuration, and its arguments (batch -> keywords with labels)."""

    name: str
    config: str
    model: str
    settings: dict[str, Any]
    arguments: Callable[[Any, int], Arguments]

    def build(self, dtype: torch.dtype = torch.float32, *, training: bool = False) -> torch.nn.Module:
        """The model behind `Plain`, without dropout; the same weights on every call."""
        import transformers

        config = getattr(transformers, self.config)(**self.settings)
        _without_dropout(config)
        torch.manual_seed(0)
        model = settled(getattr(transformers, self.model)(config))
        return Plain(model.train(training)).to(dtype)

    def reference(self, model: torch.nn.Module) -> torch.nn.Module:
        """A copy of the model in float64, the oracle of errors."""
        wide = copy.deepcopy(model).double()
        if hasattr(wide.model.config, "num_local_experts"):
            # Products grouped by expert exist for floats and halves only; the loop over experts computes the same.
            wide.model.set_experts_implementation("eager")
        return wide

    def inputs(
        self, model: torch.nn.Module, *, training: bool = False, batch: int = BATCH, seed: int = 1
    ) -> Arguments:
        """Keyword arguments in the model's dtype, with labels for training; the same numbers for a seed."""
        torch.manual_seed(seed)
        made = self.arguments(model.model.config, batch)
        if not training:
            made.pop("labels", None)
            made.pop("return_loss", None)
        dtype = next(model.parameters()).dtype
        return {
            name: value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in made.items()
        }


def _without_dropout(config: Any) -> None:
    """Set every rate of dropout and of stochastic depth to 0, in nested configurations too."""
    for name, value in vars(config).items():
        if hasattr(value, "to_dict"):
            _without_dropout(value)
        elif "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)


def _tokens(config: Any, batch: int, length: int) -> torch.Tensor:
    return torch.randint(2, config.vocab_size, (batch, length))


def _mask(batch: int, length: int) -> torch.Tensor:
    """Sentences of different lengths, the first one full, padded at their ends."""
    lengths = torch.linspace(length, max(2, length // 2), batch).long()
    return (torch.arange(length) < lengths[:, None]).long()


def text(length: int = 17) -> Callable[[Any, int], Arguments]:
    """Token ids, and the same as labels."""

    def arguments(config: Any, batch: int) -> Arguments:
        tokens = _tokens(config, batch, length)
        return {"input_ids": tokens, "labels": tokens.clone()}

    return arguments


def masked_text(length: int) -> Callable[[Any, int], Arguments]:
    """Padded sentences; labels where there is text."""

    def arguments(config: Any, batch: int) -> Arguments:
        tokens, mask = _tokens(config, batch, length), _mask(batch, length)
        return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100)}

    return arguments


def _pairs(config: Any, batch: int) -> Arguments:
    """A source of 31 tokens with padding, a target of 17 of which the last two of each are not scored."""
    labels = _tokens(config, batch, 17)
    labels[:, -2:] = -100
    return {
        "input_ids": _tokens(config, batch, 31), "attention_mask": _mask(batch, 31),
        "decoder_input_ids": _tokens(config, batch, 17), "labels": labels,
    }


def image(pixels: int) -> Callable[[Any, int], Arguments]:
    """Square images with a class each."""

    def arguments(config: Any, batch: int) -> Arguments:
        labels = torch.randint(0, config.num_labels, (batch,))
        return {"pixel_values": torch.randn(batch, 3, pixels, pixels), "labels": labels}

    return arguments


def _speech(config: Any, batch: int) -> Arguments:
    labels = _tokens(config, batch, 17)
    labels[:, -2:] = -100
    return {
        "input_features": torch.randn(batch, config.num_mel_bins, 2 * config.max_source_positions),
        "decoder_input_ids": _tokens(config, batch, 17), "labels": labels,
    }


def _text_and_image(config: Any, batch: int) -> Arguments:
    tokens = _tokens(config.text_config, batch, 17)
    tokens[:, -3] = config.text_config.eos_token_id
    return {
        "input_ids": tokens, "attention_mask": _mask(batch, 17), "pixel_values": torch.randn(batch, 3, 36, 36),
        "return_loss": True,
    }


_DECODER = {
    "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "vocab_size": 131, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 1,
}
_ENCODER = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}

FAMILIES: dict[str, Family] = {
    row.name: row
    for row in (
        Family(
            "gpt2", "GPT2Config", "GPT2LMHeadModel",
            {"n_layer": 2, "n_embd": 48, "n_head": 3, "vocab_size": 131, "n_positions": 64, "bos_token_id": 1,
             "eos_token_id": 1},
            text(31),
        ),
        Family("llama", "LlamaConfig", "LlamaForCausalLM", _DECODER, text()),
        Family("qwen3", "Qwen3Config", "Qwen3ForCausalLM", {**_DECODER, "head_dim": 10}, text()),
        Family(
            "gemma", "GemmaConfig", "GemmaForCausalLM",
            {**_DECODER, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16}, text(),
        ),
        Family(
            "gemma2", "Gemma2Config", "Gemma2ForCausalLM",
            {**_DECODER, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 7,
             "query_pre_attn_scalar": 16}, text(),
        ),
        Family("mistral", "MistralConfig", "MistralForCausalLM", {**_DECODER, "sliding_window": 7}, text()),
        Family(
            "mixtral", "MixtralConfig", "MixtralForCausalLM",
            {**_DECODER, "num_local_experts": 5, "num_experts_per_tok": 2}, text(),
        ),
        Family(
            "t5", "T5Config", "T5ForConditionalGeneration",
            {"d_model": 48, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 3,
             "vocab_size": 131, "decoder_start_token_id": 0}, _pairs,
        ),
        Family(
            "bert", "BertConfig", "BertForMaskedLM",
            {**_ENCODER, "vocab_size": 131, "max_position_embeddings": 64}, masked_text(31),
        ),
        Family(
            "vit", "ViTConfig", "ViTForImageClassification",
            {**_ENCODER, "image_size": 35, "patch_size": 7, "num_labels": 11}, image(35),
        ),
        Family(
            "swin", "SwinConfig", "SwinForImageClassification",
            {"image_size": 36, "patch_size": 3, "embed_dim": 24, "depths": [2, 2], "num_heads": [3, 3],
             "window_size": 4, "num_labels": 11}, image(36),
        ),
        Family(
            "convnext", "ConvNextConfig", "ConvNextForImageClassification",
            {"hidden_sizes": [12, 24, 36], "depths": [1, 2, 1], "num_stages": 3, "num_labels": 11}, image(37),
        ),
        Family(
            "resnet", "ResNetConfig", "ResNetForImageClassification",
            {"embedding_size": 12, "hidden_sizes": [12, 24, 36], "depths": [1, 2, 1], "num_labels": 11}, image(37),
        ),
        Family(
            "mobilenetv2", "MobileNetV2Config", "MobileNetV2ForImageClassification",
            {"depth_multiplier": 0.25, "image_size": 37, "num_labels": 11}, image(37),
        ),
        Family(
            "whisper", "WhisperConfig", "WhisperForConditionalGeneration",
            {"d_model": 48, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 3,
             "decoder_attention_heads": 3, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "num_mel_bins": 20,
             "max_source_positions": 31, "max_target_positions": 40, "vocab_size": 131, "pad_token_id": 0,
             "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1, "suppress_tokens": None,
             "begin_suppress_tokens": None}, _speech,
        ),
        Family(
            "clip", "CLIPConfig", "CLIPModel",
            {"text_config": {**_ENCODER, "vocab_size": 131, "max_position_embeddings": 40, "eos_token_id": 130,
                             "bos_token_id": 1, "pad_token_id": 0},
             "vision_config": {**_ENCODER, "image_size": 36, "patch_size": 12}, "projection_dim": 24},
            _text_and_image,
        ),
        Family(
            "mamba", "MambaConfig", "MambaForCausalLM",
            {"hidden_size": 48, "state_size": 5, "num_hidden_layers": 2, "vocab_size": 131, "time_step_rank": 3,
             "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}, text(7),
        ),
    )
}
