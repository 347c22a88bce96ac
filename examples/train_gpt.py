"""Train a small GPT on real text, with eager PyTorch and with Tilewright from the same seed, and draw the loss curves.

The text is the language reference that comes with every Python (`pydoc_data.topics`), read byte by byte.
``python examples/train_gpt.py`` writes benchmarks/results/training.json, docs/training.svg and docs/training.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "training.json"
PICTURE = ROOT / "docs" / "training.svg"
PAGE = ROOT / "docs" / "training.md"


@dataclass(frozen=True)
class Config:
    """The model and how it is trained; `context` and `batch` in tokens and sequences."""

    layers: int = 4
    width: int = 128
    heads: int = 4
    context: int = 64
    batch: int = 8
    steps: int = 300
    learning_rate: float = 1e-3


class Block(torch.nn.Module):
    """Causal attention and a perceptron, each behind a norm and added to its input."""

    def __init__(self, config: Config, dropout: float):
        super().__init__()
        width = config.width
        self.heads, self.dropout = config.heads, dropout
        self.norm_1, self.norm_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attention, self.project = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.widen, self.narrow = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (*x.shape[:2], self.heads, -1)
        query, key, value = (part.view(shape).transpose(1, 2) for part in self.attention(self.norm_1(x)).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)
        x = x + F.dropout(self.project(mixed), self.dropout, self.training)
        return x + F.dropout(self.narrow(F.gelu(self.widen(self.norm_2(x)))), self.dropout, self.training)


class GPT(torch.nn.Module):
    """Bytes (batch, context) and the bytes that follow them -> the mean cross-entropy, in nats."""

    def __init__(self, config: Config, dropout: float = 0.0):
        super().__init__()
        self.tokens = torch.nn.Embedding(256, config.width)
        self.positions = torch.nn.Embedding(config.context, config.width)
        self.blocks = torch.nn.Sequential(*(Block(config, dropout) for _ in range(config.layers)))
        self.norm = torch.nn.LayerNorm(config.width)
        for embedding in (self.tokens, self.positions):
            torch.nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        states = self.norm(self.blocks(self.tokens(x) + self.positions(places)))
        return F.cross_entropy(F.linear(states, self.tokens.weight).flatten(0, 1), target.flatten())


def text() -> torch.Tensor:
    """The language reference as bytes, int64."""
    from pydoc_data.topics import topics

    joined = "\n".join(topics[name] for name in sorted(topics)).encode()
    return torch.frombuffer(bytearray(joined), dtype=torch.uint8).long()


def batches(config: Config, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random pieces of the text, and the same a byte later; the same ones for a seed."""
    data, generator = text(), torch.Generator().manual_seed(seed)
    for _ in range(config.steps):
        starts = torch.randint(0, len(data) - config.context - 1, (config.batch,), generator=generator).tolist()
        pieces = torch.stack([data[start : start + config.context + 1] for start in starts])
        yield pieces[:, :-1].contiguous(), pieces[:, 1:].contiguous()


def train(
    config: Config, *, backend: str | None = None, dropout: float = 0.0, nudged: bool = False, seed: int = 0
) -> list[float]:
    """The loss of every step. `nudged` moves every weight by a unit or two in its last place before the first step,
    which shows what rounding alone does to a curve."""
    torch.manual_seed(seed)
    model = GPT(config, dropout)
    if nudged:
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1 + torch.finfo(weight.dtype).eps)
    if backend is not None:
        model.compile(backend=backend)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    losses = []
    for x, target in batches(config, seed):
        loss = model(x, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


RUNS: dict[str, dict[str, Any]] = {
    "eager": {},
    "tilewright": {"backend": "tilewright"},
    "eager, weights nudged": {"nudged": True},
    "eager, dropout": {"dropout": 0.1},
    "tilewright, dropout": {"backend": "tilewright", "dropout": 0.1},
}


def difference(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest difference between two curves."""
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


# The picture and the page.

_COLORS = ("#1f77b4", "#d62728", "#7f7f7f", "#2ca02c", "#ff7f0e")
_WIDTH, _HEIGHT, _MARGIN = 760, 400, 48


def picture(curves: dict[str, list[float]]) -> str:
    """The curves as SVG: steps to the right, loss upwards. The second is dashed, for it lies on the first."""
    steps = max(len(curve) for curve in curves.values())
    top = math.ceil(max(max(curve) for curve in curves.values()))

    def x(step: float) -> float:
        return round(_MARGIN + step / max(1, steps - 1) * (_WIDTH - 2 * _MARGIN), 1)

    def y(loss: float) -> float:
        return round(_HEIGHT - _MARGIN - loss / top * (_HEIGHT - 2 * _MARGIN), 1)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for loss in range(top + 1):
        lines.append(f'<path d="M{x(0)} {y(loss)}H{x(steps - 1)}" stroke="#ddd"/>')
        lines.append(f'<text x="{_MARGIN - 8}" y="{y(loss) + 4}" text-anchor="end">{loss}</text>')
    for step in range(0, steps + 1, 50):
        lines.append(f'<text x="{x(step)}" y="{_HEIGHT - _MARGIN + 18}" text-anchor="middle">{step}</text>')
    lines.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 10}" text-anchor="middle">step</text>')
    lines.append(f'<text x="{_MARGIN}" y="{_MARGIN - 14}" text-anchor="middle">loss (nats)</text>')
    for index, (name, curve) in enumerate(curves.items()):
        color, dash = _COLORS[index % len(_COLORS)], ' stroke-dasharray="6 4"' if index % 2 else ""
        points = " ".join(f"{x(step)},{y(loss)}" for step, loss in enumerate(curve))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.3"{dash}/>')
        place = _MARGIN + 18 * index
        left = _WIDTH - _MARGIN - 170
        lines.append(f'<path d="M{left} {place}h24" stroke="{color}" stroke-width="2"{dash}/>')
        lines.append(f'<text x="{left + 30}" y="{place + 4}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


_PAGE = """# Training

A GPT of {layers} layers, {width} wide, on the language reference of Python, byte by byte: {steps} steps of AdamW,
{batch} sequences of {context} bytes each, the same seed for every run. Made by `python examples/train_gpt.py`, which
also writes the numbers (`benchmarks/results/training.json`).

![The loss curves](training.svg)

| run | loss at the start | mean loss of the last 20 steps | seconds |
|---|---|---|---|
{rows}

The curve of Tilewright lies on eager's: the largest difference of a loss in {steps} steps is **{ours:.1e}**. That is
float noise: when eager starts from weights moved in the last place, its curve moves by {noise:.1e}.

With dropout of 0.1 the random numbers are others than eager's (they are counter-based), so the curves are two samples
of one thing: the mean losses of the last 20 steps differ by {dropout:.3f}.
"""


def last(curve: Sequence[float]) -> float:
    """The mean of the last 20 losses."""
    return sum(curve[-20:]) / len(curve[-20:])


def page(result: dict[str, Any]) -> str:
    """docs/training.md from what training.json holds."""
    curves = result["losses"]
    rows = "\n".join(
        f"| {name} | {curve[0]:.4f} | {last(curve):.4f} | {result['seconds'][name]:.0f} |"
        for name, curve in curves.items()
    )
    return _PAGE.format(
        **result["config"], rows=rows, ours=difference(curves["eager"], curves["tilewright"]),
        noise=difference(curves["eager"], curves["eager, weights nudged"]),
        dropout=abs(last(curves["eager, dropout"]) - last(curves["tilewright, dropout"])),
    )


def main() -> None:
    """Train in every way, write the numbers, the picture and the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=Config.steps, help=f"default: {Config.steps}; fewer write nothing")
    args = parser.parse_args()
    config = Config(steps=args.steps)
    losses, seconds = {}, {}
    for name, settings in RUNS.items():
        started = time.perf_counter()
        losses[name] = train(config, **settings)
        seconds[name] = time.perf_counter() - started
        print(f"{name}: {losses[name][0]:.4f} -> {last(losses[name]):.4f} in {seconds[name]:.0f} s", flush=True)
    print(f"tilewright against eager: {difference(losses['eager'], losses['tilewright']):.1e} at most")
    if config.steps < Config.steps:
        return
    machine = {"python": sys.version.split()[0], "torch": torch.__version__, "threads": torch.get_num_threads()}
    result = {"config": asdict(config), "machine": machine, "losses": losses, "seconds": seconds}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    PICTURE.write_text(picture({name: losses[name] for name in ("eager", "tilewright")}))
    PAGE.write_text(page(result))
    print(f"wrote {RESULT}, {PICTURE} and {PAGE}")


if __name__ == "__main__":
    main()
