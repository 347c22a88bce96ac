"""Programs for every size against programs for one: ``python benchmarks/dynamic.py [CASE ...]``.

Each case is compiled once with its sizes dynamic, and once for each size; both run in turn on the same inputs. Writes
one JSON for each number of threads to benchmarks/results/: machine, versions, every sample, the ratio of dynamic to
static for each size.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import harness  # first: it settles the OpenMP policy before torch is imported
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from tilewright.report import duration

LIMIT = 1.15  # how much slower than the static program the dynamic one may be


class Block(torch.nn.Module):
    """A transformer's layer on `(batch, length, width)`."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.first, self.second = heads, torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.project, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.project(self.first(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.second(x))))


@dataclass(frozen=True)
class Case:
    """A model, the sizes it is run at, its inputs for a size, and the dims of each that are dynamic."""

    model: Callable[..., Any]
    sizes: Sequence[tuple[int, ...]]
    inputs: Callable[..., tuple[torch.Tensor, ...]]
    dims: tuple[int, ...]


_ROWS = [(2,), (17,), (64,), (509,), (2048,)]
_BATCHES = [(2, 7), (1, 128), (4, 64), (3, 127), (8, 128)]

CASES: dict[str, Callable[[], Case]] = {
    "block": lambda: Case(Block(256, 4).eval(), _BATCHES[:1] + _BATCHES[2:], lambda b, n: (torch.randn(b, n, 256),),
                          (0, 1)),
    "block bf16": lambda: Case(Block(256, 4).eval().bfloat16(), _BATCHES[:1] + _BATCHES[2:],
                               lambda b, n: (torch.randn(b, n, 256, dtype=torch.bfloat16),), (0, 1)),
    "pointwise": lambda: Case(lambda x: F.gelu(x * 2 + 1) * x, _ROWS, lambda n: (torch.randn(n, 768),), (0,)),
    "softmax rows": lambda: Case(lambda x: torch.softmax(x * 0.5, -1), _ROWS, lambda n: (torch.randn(64, n),), (1,)),
    "norm": lambda: Case(lambda x: F.layer_norm(x, (768,)) + x, _ROWS, lambda n: (torch.randn(n, 768),), (0,)),
    "columns": lambda: Case(lambda x: (x.exp().sum(0), x.mean(0)), _ROWS, lambda n: (torch.randn(n, 300),), (0,)),
    "transpose": lambda: Case(lambda x: x.t().contiguous() * 2, _ROWS, lambda n: (torch.randn(n, 512),), (0,)),
    "cat and pad": lambda: Case(lambda x: F.pad(torch.cat([x, x.relu()], 1), (1, 2)), _ROWS,
                                lambda n: (torch.randn(128, n),), (1,)),
}


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """Time one case at each of its sizes."""
    torch.manual_seed(0)
    case = CASES[name]()
    torch._dynamo.reset()
    dynamic = torch.compile(_renamed(case.model), backend="tilewright")
    rows = []
    with torch.no_grad():
        for sizes in sorted(case.sizes, key=lambda s: s != case.sizes[-1]):  # traced with the largest
            inputs = case.inputs(*sizes)
            static = torch.compile(_renamed(case.model), backend="tilewright", dynamic=False)
            static(*inputs)
            marked = tuple(x.clone() for x in inputs)
            for x in marked:
                torch._dynamo.mark_dynamic(x, case.dims)
            torch.testing.assert_close(dynamic(*marked), static(*inputs), rtol=2e-2, atol=2e-2)
            comparison = harness.compare(
                {"dynamic": lambda x=marked: dynamic(*x), "static": lambda x=inputs, s=static: s(*x)}, rounds=rounds
            )
            rows.append({"case": name, "sizes": list(sizes), "ratio": 1 / comparison.speedup("dynamic", "static"),
                         **comparison.as_dict()})
    return rows


def _renamed(model: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as another object: Dynamo keeps the programs of one function together."""
    scope: dict[str, Any] = {"model": model}
    exec(compile("def run(*args): return model(*args)", "<benchmark>", "exec"), scope)
    return scope["run"]  # type: ignore[no-any-return]


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=20, help="samples of each arm (default: 20)")
    args = parser.parse_args()
    unknown = [name for name in args.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}")
    rows = []
    table = Table("case", "sizes", "static", "dynamic", "ratio")
    console = Console(width=max(Console().width, 110))
    for name in args.cases or CASES:
        for row in measure(name, args.rounds):
            rows.append(row)
            times = [duration(row["medians"][arm]) for arm in ("static", "dynamic")]
            mark = " over the limit" if row["ratio"] > LIMIT else ""
            table.add_row(name, " x ".join(map(str, row["sizes"])), *times, f"{row['ratio']:.2f}{mark}")
    console.print(table)
    if not args.cases:
        console.print(f"wrote {harness.write('dynamic', rows)}")


if __name__ == "__main__":
    main()
