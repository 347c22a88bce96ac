"""The models that the benchmarks time: the families' architectures at real sizes, with few tokens or images a call.

Where settings differ from the published model's, a reason stands beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from families import Arguments, Family, image, masked_text, text


@dataclass(frozen=True)
class Sized:
    """A model of real size, and how many sentences or images a call takes."""

    family: Family
    batch: int


def _sentences(config: Any, batch: int) -> Arguments:
    """Padded sentences of at most 64 tokens, with a class each."""
    return {**masked_text(64)(config, batch), "labels": torch.randint(0, config.num_labels, (batch,))}


def _pairs(config: Any, batch: int) -> Arguments:
    """A source of 64 tokens, a target of 32."""
    return {
        "input_ids": torch.randint(2, config.vocab_size, (batch, 64)),
        "attention_mask": torch.ones(batch, 64, dtype=torch.long),
        "decoder_input_ids": torch.randint(2, config.vocab_size, (batch, 32)),
        "labels": torch.randint(2, config.vocab_size, (batch, 32)),
    }


def _speech(config: Any, batch: int) -> Arguments:
    """30 seconds of sound, 32 tokens."""
    return {
        "input_features": torch.randn(batch, config.num_mel_bins, 2 * config.max_source_positions),
        "decoder_input_ids": torch.randint(2, config.vocab_size, (batch, 32)),
        "labels": torch.randint(2, config.vocab_size, (batch, 32)),
    }


SIZES: dict[str, Sized] = {
    row.family.name: row
    for row in (
        Sized(Family("gpt2", "GPT2Config", "GPT2LMHeadModel", {}, text(64)), batch=1),
        Sized(
            Family(
                "minilm", "BertConfig", "BertForSequenceClassification",
                {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
                _sentences,
            ),
            batch=32,
        ),
        Sized(
            Family(
                "llama", "LlamaConfig", "LlamaForCausalLM",
                # Eight layers of a model of one billion parameters' shape, at half its width: gradients fit memory.
                {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 16,
                 "num_key_value_heads": 4, "vocab_size": 32000},
                text(64),
            ),
            batch=1,
        ),
        Sized(Family("vit", "ViTConfig", "ViTForImageClassification", {"num_labels": 1000}, image(224)), batch=2),
        Sized(Family("resnet", "ResNetConfig", "ResNetForImageClassification", {"num_labels": 1000}, image(224)),
              batch=2),
        Sized(Family("convnext", "ConvNextConfig", "ConvNextForImageClassification", {"num_labels": 1000}, image(224)),
              batch=2),
        Sized(
            Family("t5", "T5Config", "T5ForConditionalGeneration", {"decoder_start_token_id": 0}, _pairs), batch=4,
        ),
        Sized(
            Family(
                "whisper", "WhisperConfig", "WhisperForConditionalGeneration",
                {"d_model": 384, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 6,
                 "decoder_attention_heads": 6, "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536,
                 "suppress_tokens": None, "begin_suppress_tokens": None},
                _speech,
            ),
            batch=1,
        ),
        Sized(
            Family(
                "mamba", "MambaConfig", "MambaForCausalLM",
                # The published model has 24 layers; the scan over tokens is a loop in Python, unrolled by tracing.
                {"hidden_size": 768, "num_hidden_layers": 4, "vocab_size": 32000}, text(16),
            ),
            batch=1,
        ),
    )
}
