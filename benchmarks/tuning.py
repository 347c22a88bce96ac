"""The tuner against exhaustive search: ``python benchmarks/tuning.py [--only NAME ...] [--repeats N] [--threads N]``.

Each kernel is tuned as users tune it (``full``: at most 16 measured candidates), `--repeats` times from nothing, then
by measuring every schedule. Default, choice and the exhaustive winner are then timed against each other in turn. The
cost model's rank correlation is over the candidates of each kernel, and over the kernels of each kind.
Writes benchmarks/results/tuning_THREADS.json: machine, records with every sample, ratios. ``--small`` makes small
tensors and measures neighbours only, which shows that the program runs and nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import harness  # first: it settles the OpenMP policy before torch is imported
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

import tilewright
from tilewright.autotune.cost import predicted_seconds, rank_correlation
from tilewright.autotune.lookup import schedule_text
from tilewright.autotune.measure import Worker
from tilewright.autotune.records import Record
from tilewright.autotune.tuner import Task, tune
from tilewright.ir.cost import kernel_cost
from tilewright.tuning import tasks_of

RESULTS = Path(__file__).resolve().parent / "results"
ROUNDS, SAMPLE_SECONDS = 41, 0.01


@dataclass(frozen=True)
class Row:
    """A function of matrices of `shape`, whose largest kernel is tuned. `kind` is how it walks memory."""

    kind: str
    function: Callable[..., Any]
    shape: tuple[int, ...]
    count: int = 1
    dtype: torch.dtype = torch.float32


def rms_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


HALF = torch.bfloat16
ROWS: dict[str, Row] = {
    "gelu": Row("map", lambda x: F.gelu(x), (512, 1024)),
    "gelu_bf16": Row("map", lambda x: F.gelu(x), (512, 1024), dtype=HALF),
    "silu_mul": Row("map", lambda a, b: F.silu(a) * b, (256, 4096), 2),
    "add_mul": Row("map", lambda a, b: (a + b) * a, (1024, 4096), 2),
    "tanh_small": Row("map", lambda x: torch.tanh(x), (64, 128)),
    "rotary": Row("map", rotary, (512, 128), 3),
    "exp_transposed": Row("map", lambda x: torch.exp(x).t().contiguous(), (768, 1024)),
    "softmax": Row("row", lambda x: torch.softmax(x, -1), (512, 1024)),
    "softmax_bf16": Row("row", lambda x: torch.softmax(x, -1), (512, 1024), dtype=HALF),
    "softmax_short": Row("row", lambda x: torch.softmax(x, -1), (8192, 64)),
    "log_softmax_long": Row("row", lambda x: torch.log_softmax(x, -1), (64, 32000)),
    "layer_norm": Row("row", lambda x: F.layer_norm(x, x.shape[-1:]), (1024, 768)),
    "rms_norm": Row("row", rms_norm, (1024, 768)),
    "row_sum": Row("row", lambda x: x.sum(-1), (2048, 1024)),
    "row_max": Row("row", lambda x: x.amax(-1), (512, 512)),
    "row_variance": Row("row", lambda x: x.var(-1), (1024, 1000)),
    "column_sum": Row("column", lambda x: x.sum(0), (4096, 768)),
    "column_sum_wide": Row("column", lambda x: x.sum(0), (256, 16384)),
    "column_softmax": Row("column", lambda x: torch.softmax(x, 0), (512, 1024)),
    "column_variance": Row("column", lambda x: x.var(0), (2048, 512)),
}


def task_of(row: Row) -> Task:
    """The kernel of the row that moves most bytes."""
    inputs = tuple(torch.randn(row.shape).to(row.dtype) for _ in range(row.count))
    tasks = tasks_of(tilewright.compile(row.function, inputs, autotune="off").compilation)
    return max(tasks, key=lambda task: kernel_cost(task.kernel, task.sizes).bytes_moved)


def compare(task: Task, schedules: Mapping[str, Mapping[str, int]], rounds: int) -> dict[str, float]:
    """Seconds of each schedule over those of the default: medians of ratios of samples that stand beside each other.
    Equal schedules are one arm."""
    arms = {schedule_text(schedule): schedule for schedule in schedules.values()}
    with Worker() as worker:
        worker.open(task.kernel, task.shapes, task.sizes, task.question.threads)
        slowest = max(worker.sample(schedule, 3) for schedule in arms.values())
        calls = max(1, round(SAMPLE_SECONDS / slowest))
        samples: dict[str, list[float]] = {arm: [] for arm in arms}
        for number in range(rounds):
            for arm in list(arms) if number % 2 else list(reversed(arms)):
                samples[arm].append(worker.sample(arms[arm], calls))
    default = samples[schedule_text({})]
    return {
        name: statistics.median(a / b for a, b in zip(samples[schedule_text(schedule)], default))
        for name, schedule in schedules.items()
    }


def measure(name: str, row: Row, repeats: int, small: bool) -> dict[str, Any]:
    """One row of the results."""
    task = task_of(row)
    chosen: list[Record] = []
    for _ in range(repeats):
        with Worker() as worker:
            chosen.append(tune(task, "quick" if small else "full", worker))
    with Worker() as worker:
        exhaustive = tune(task, "full" if small else "exhaustive", worker)
    ratios = compare(
        task, {"default": {}, "chosen": chosen[0].schedule, "exhaustive": exhaustive.schedule}, 5 if small else ROUNDS
    )
    measured = [t for t in exhaustive.trials if t.samples]
    predictions = [
        predicted_seconds(task.kernel, t.schedule, task.target, task.question.threads) for t in measured
    ]
    medians = [statistics.median(t.samples) for t in measured]
    return {
        "kernel": name, "kind": row.kind, "chosen": [dict(r.schedule) for r in chosen],
        "measured": [sum(bool(t.samples) for t in r.trials) for r in chosen],
        "tune_seconds": [r.found["seconds"] for r in chosen], "exhaustive": dict(exhaustive.schedule),
        "exhaustive_measured": len(measured), "over_default": 1 / ratios["chosen"],
        "of_exhaustive": ratios["exhaustive"] / ratios["chosen"], "same_choice": all(
            r.schedule == chosen[0].schedule for r in chosen),
        "cost_model_correlation": _finite(rank_correlation(predictions, medians)),
        "predicted_seconds": predictions[0], "measured_seconds": medians[0],
        "records": [r.as_dict() for r in [*chosen, exhaustive]],
    }


def _finite(value: float) -> float | None:
    return None if value != value else value


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows say together."""
    kinds = sorted({row["kind"] for row in rows})
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
    return {
        "kernels": len(rows), "most_measured": max(n for row in rows for n in row["measured"]),
        "at_least_98_percent": sum(row["of_exhaustive"] >= 0.98 for row in rows),
        "same_choice": sum(row["same_choice"] for row in rows),
        "correlation_over_kernels": {
            kind: _finite(rank_correlation([r["predicted_seconds"] for r in found],
                                           [r["measured_seconds"] for r in found]))
            for kind, found in {**by_kind, "all": rows}.items()
        },
        "median_correlation_over_candidates": {
            kind: statistics.median(values) for kind, found in by_kind.items()
            if (values := [r["cost_model_correlation"] for r in found if r["cost_model_correlation"] is not None])
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=3, help="tunings from nothing of each kernel")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--small", action="store_true", help="small tensors and few samples: a trial of this program")
    parser.add_argument("--json", type=Path, help="where to write (default: benchmarks/results/tuning_THREADS.json)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table("kernel", "chosen", "measured", "over default", "of exhaustive", "same choice", "correlation")
    rows = []
    for name in arguments.only:
        row = ROWS[name]
        if arguments.small:
            row = replace(row, shape=tuple(min(size, 256) for size in row.shape))
        started = time.perf_counter()
        made = measure(name, row, arguments.repeats, arguments.small)
        made["seconds"] = time.perf_counter() - started
        rows.append(made)
        correlation = made["cost_model_correlation"]
        table.add_row(
            name, schedule_text(made["chosen"][0]), str(max(made["measured"])), f"{made['over_default']:.2f}x",
            f"{made['of_exhaustive']:.3f}", "yes" if made["same_choice"] else "no",
            "" if correlation is None else f"{correlation:.2f}",
        )
    Console().print(table)
    told = summary(rows)
    print(json.dumps(told, indent=1))
    path = arguments.json or RESULTS / f"tuning_{arguments.threads}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": harness.machine(), "summary": told, "rows": rows}, indent=1) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
