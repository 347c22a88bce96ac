"""Small models that train, each with a batch: what their layers bring covers what training brings to the backend."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

Batch = tuple[torch.Tensor, ...]


class Block(nn.Module):
    """A transformer's block."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh" if self.causal else "none"))


class LanguageModel(nn.Module):
    """Embeddings tied to the last layer, cross-entropy with ignored targets."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(67, 24), nn.Parameter(torch.randn(17, 24) * 0.1)
        self.blocks, self.norm = nn.ModuleList([Block(24, 3, True) for _ in range(2)]), nn.LayerNorm(24)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.norm(x) @ self.tokens.weight.t()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.label = nn.Conv2d(3, 24, 4, stride=4), nn.Parameter(torch.randn(1, 1, 24))
        self.block, self.head = Block(24, 2, False), nn.Linear(24, 5)

    def forward(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = self.block(torch.cat([self.label.expand(x.shape[0], -1, -1), x], 1))
        return F.cross_entropy(self.head(x[:, 0]), target, label_smoothing=0.1)


class ConvNet(nn.Module):
    """Batch and group norm, every kind of pooling, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, momentum=0.3)
        self.norm3, self.head = nn.GroupNorm(4, 8), nn.Linear(8 * 4, 5)

    def forward(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(image))), 3, 2, 1)
        x = F.hardswish(self.norm2(self.conv2(x))) + x
        x = F.adaptive_avg_pool2d(F.avg_pool2d(self.norm3(x), 3, 1, 1), 2)
        return F.cross_entropy(self.head(x.flatten(1)), target)


class Recommender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(19, 8), nn.Embedding(31, 8, padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 12), nn.PReLU(), nn.Linear(12, 1))

    def forward(self, users: torch.Tensor, items: torch.Tensor, clicked: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.users(users), self.items(items)], -1)
        return F.binary_cross_entropy_with_logits(self.layers(x).squeeze(-1), clicked)


def tokens(*shape: int, below: int, least: int = 0) -> torch.Tensor:
    return torch.randint(least, below, shape, generator=torch.Generator().manual_seed(sum(shape) + below))


def floats(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Batch]]] = {
    "language": (LanguageModel, lambda: (tokens(3, 17, below=67), tokens(3, 17, below=67, least=-1))),
    "vision": (VisionTransformer, lambda: (floats(3, 3, 12, 8), tokens(3, below=5))),
    "convolutions": (ConvNet, lambda: (floats(4, 3, 13, 11), tokens(4, below=5))),
    "recommender": (
        Recommender, lambda: (tokens(7, below=19), tokens(7, below=31), tokens(7, below=2).float())),
}


def make(name: str) -> tuple[nn.Module, Batch]:
    """The model with fixed weights, and its batch."""
    torch.manual_seed(3)
    model, batch = MODELS[name]
    return model(), batch()
