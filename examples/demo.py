"""The demo: MiniLM embeds real sentences through torch.compile(backend="tilewright").

Prints the agreement with eager, time per call of eager, Inductor and Tilewright, compile times, kernels and fallbacks;
leaves IR dumps, kernels, report and artifact in build/demo/. Run it with ``make demo``.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "benchmarks")]

import harness  # noqa: E402  (before torch: it settles the OpenMP policy)
import minilm  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import tilewright  # noqa: E402
from tilewright.report import duration, quantity  # noqa: E402

OUTPUT = ROOT / "build" / "demo"
ROUNDS = 30
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TILEWRIGHT_CACHE_DIR")
SHOWN = 12  # rows of a table on the terminal; the report has all

console = Console(width=max(Console().width, 110))


def agreement(result: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor) -> dict[str, float]:
    """Unit vectors of shape (n, d) against eager's, and the error of both against the same model in float64."""
    cosine = torch.nn.functional.cosine_similarity(result.double(), eager.double())
    return {
        "smallest cosine with eager": cosine.min().item(),
        "largest difference from eager": (result - eager).abs().max().item(),
        "largest error, Tilewright against float64": (result.double() - exact).abs().max().item(),
        "largest error, eager against float64": (eager.double() - exact).abs().max().item(),
    }


def compiled_arms(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[dict[str, Any], dict[str, float]]:
    """Callables by name, compiled, and the seconds that each one's first call took, with empty caches."""
    arms: dict[str, Any] = {"eager": model}
    seconds = {}
    with tempfile.TemporaryDirectory() as caches, patch.dict(os.environ, dict.fromkeys(CACHES, caches)):
        for name in ("inductor", "tilewright"):
            torch._dynamo.reset()
            arms[name] = torch.compile(model, backend=name)
            seconds[name] = harness.first_call(lambda call=arms[name]: call(*inputs)).seconds
    return arms, seconds


def print_agreement(rows: dict[str, float]) -> None:
    """How close the results are."""
    table = Table("agreement on 8 sentences", "")
    for name, value in rows.items():
        table.add_row(name, f"{value:.9f}" if "cosine" in name else f"{value:.2e}")
    console.print(table)


def print_times(comparison: harness.Comparison, seconds: dict[str, float]) -> None:
    """Time per call, and what compiling took."""
    table = Table("", "time per call", "against eager", "first call (compiles, no cache)")
    for name in comparison.samples:
        first = duration(seconds[name]) if name in seconds else ""
        table.add_row(name, duration(comparison.median(name)), f"{comparison.speedup(name, 'eager'):.2f}x", first)
    console.print(table)
    console.print(f"Medians of {ROUNDS} interleaved rounds of {comparison.calls_per_sample} calls; ratios are paired.")


def print_kernels(compilation: Any) -> None:
    """The kernels that move most, and what ATen still does."""
    table = Table("kernel", "kind", "model lines", "bytes", "flops")
    for kernel in sorted(compilation.kernels, key=lambda k: -k.bytes)[:SHOWN]:
        lines = " ".join(kernel.lines[:3]) + (" …" if len(kernel.lines) > 3 else "")
        table.add_row(kernel.name, kernel.kind, lines, quantity(kernel.bytes), quantity(kernel.flops))
    console.print(table)
    console.print(f"{len(compilation.kernels)} kernels in all.")
    for row in compilation.fallbacks:
        console.print(f"left to ATen: {row['op']} x{row['count']}: {row['reason']}")
    if not compilation.fallbacks:
        console.print("No ATen calls besides matrix products and attention.")


def main() -> None:
    """Run the demo. Exits with 1 where the results are not eager's."""
    model, inputs = minilm.make()
    console.print(f"MiniLM: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
                  f"{len(inputs[0])} sentences of {inputs[0].shape[1]} tokens, {torch.get_num_threads()} threads\n")
    with torch.no_grad():
        eager = model(*inputs)
        exact = copy.deepcopy(model).double()(*inputs)
        arms, seconds = compiled_arms(model, inputs)
        result = arms["tilewright"](*inputs)
        compilation = tilewright.last_compilation()
        rows = agreement(result, eager, exact)
        comparison = harness.compare({n: lambda call=c: call(*inputs) for n, c in arms.items()}, rounds=ROUNDS)
    print_agreement(rows)
    print_times(comparison, seconds)
    print_kernels(compilation)

    written = tilewright.compile(model, inputs).write(OUTPUT, "minilm")
    record = {"machine": harness.machine(), "agreement": rows, "compile_seconds": seconds, **comparison.as_dict()}
    (OUTPUT / "demo.json").write_text(json.dumps(record, indent=1) + "\n")
    console.print(f"\nwrote {len(written) + 1} files to {OUTPUT.relative_to(ROOT)}/: IR dumps, kernels/, host.py, "
                  "report.html, minilm.tw", soft_wrap=True)
    if not rows["smallest cosine with eager"] > 0.9999:
        sys.exit("the embeddings are not eager's")


if __name__ == "__main__":
    main()
