"""The models that tests and benchmarks share: five architectures of transformers, from configurations, random weights.

A row gives the size that the benchmarks time; `small` gives a size for tests, in which every layer kind still occurs.
Weights come from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Arguments = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Row:
    """One model: its transformers classes, configurations by size, and its arguments (batch size -> keywords)."""

    name: str
    config: str
    model: str
    full: dict[str, Any]
    small: dict[str, Any]
    arguments: Callable[[Any, int, bool], Arguments]
    batch: int

    def build(self, *, small: bool, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        """The model in evaluation mode; the same weights on every call."""
        import transformers

        config = getattr(transformers, self.config)(**(self.small if small else self.full))
        torch.manual_seed(0)
        model = getattr(transformers, self.model)(config).eval()
        return Plain(settled(model)).to(dtype)

    def inputs(self, model: torch.nn.Module, *, small: bool, batch: int | None = None) -> Arguments:
        """Keyword arguments for the model, in its dtype; the same numbers on every call."""
        torch.manual_seed(1)
        made = self.arguments(model.model.config, batch or (2 if small else self.batch), small)
        dtype = next(model.parameters()).dtype
        return {name: value.to(dtype) if value.is_floating_point() else value for name, value in made.items()}


class Plain(torch.nn.Module):
    """The model with a tuple of tensors as its result, and no cache of keys and values."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model
        self.extra = {"use_cache": False} if hasattr(model.config, "use_cache") else {}

    def forward(self, **arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = self.model(**arguments, **self.extra, return_dict=True)
        return tuple(value for value in results.values() if isinstance(value, torch.Tensor))


def settled(model: torch.nn.Module) -> torch.nn.Module:
    """Statistics of batch norms as training leaves them, so that no layer is the identity."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def _tokens(length: int, small_length: int, mask: bool) -> Callable[[Any, int, bool], Arguments]:
    def arguments(config: Any, batch: int, small: bool) -> Arguments:
        tokens = small_length if small else length
        made = {"input_ids": torch.randint(0, config.vocab_size, (batch, tokens))}
        if mask:
            # Sentences of different lengths, the first one full.
            lengths = torch.linspace(tokens, max(2, tokens // 2), batch).long()
            made["attention_mask"] = (torch.arange(tokens) < lengths[:, None]).long()
        return made

    return arguments


def _image(size: int, small_size: int) -> Callable[[Any, int, bool], Arguments]:
    def arguments(config: Any, batch: int, small: bool) -> Arguments:
        pixels = small_size if small else size
        return {"pixel_values": torch.randn(batch, 3, pixels, pixels)}

    return arguments


MODELS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(
            "minilm", "BertConfig", "BertModel",
            full={"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
            small={"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
                   "vocab_size": 120, "max_position_embeddings": 64},
            arguments=_tokens(64, 11, mask=True), batch=8,
        ),
        Row(
            "gpt2", "GPT2Config", "GPT2LMHeadModel",
            full={"n_layer": 12},
            small={"n_layer": 12, "n_embd": 48, "n_head": 4, "vocab_size": 120, "n_positions": 64},
            arguments=_tokens(64, 13, mask=False), batch=2,
        ),
        Row(
            "llama", "LlamaConfig", "LlamaForCausalLM",
            full={"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12,
                  "num_key_value_heads": 4, "vocab_size": 32000},
            small={"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8,
                   "num_key_value_heads": 2, "vocab_size": 120},
            arguments=_tokens(64, 13, mask=False), batch=2,
        ),
        Row(
            "vit", "ViTConfig", "ViTForImageClassification",
            full={},
            small={"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
                   "image_size": 32, "patch_size": 8, "num_labels": 100},
            arguments=_image(224, 32), batch=4,
        ),
        Row(
            "resnet", "ResNetConfig", "ResNetForImageClassification",
            full={},
            small={"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 2, 1, 1], "num_labels": 100},
            arguments=_image(224, 64), batch=4,
        ),
    )
}
