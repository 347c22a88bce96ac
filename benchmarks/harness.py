"""Paired timing: the arms take turns in the order A B B A, and what is reported is the median of paired ratios.

The machine's speed drifts over seconds; calls that stand next to each other see the same machine, so their ratio is
steady where their times are not. Every arm runs in the same process with the same threads and OpenMP policy.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

# Spinning workers slow the other arms on a busy machine by orders of magnitude. Set before OpenMP starts.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Call = Callable[[], Any]


@dataclass(frozen=True)
class Comparison:
    """Seconds per call of each arm, one sample a round, in the order of the rounds."""

    samples: Mapping[str, list[float]]
    calls_per_sample: int = 1

    def median(self, arm: str) -> float:
        """Seconds per call."""
        return statistics.median(self.samples[arm])

    def speedup(self, arm: str, over: str) -> float:
        """How many times faster `arm` is than `over`: the median of the ratios of samples from the same round."""
        return statistics.median(b / a for a, b in zip(self.samples[arm], self.samples[over]))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, every sample included."""
        return {**asdict(self), "medians": {arm: self.median(arm) for arm in self.samples}}


def compare(
    arms: Mapping[str, Call], *, rounds: int = 20, sample_seconds: float = 0.01, limit_seconds: float = math.inf
) -> Comparison:
    """Time the arms against each other; `rounds` samples each, or as many (at least five) as `limit_seconds` allow.

    A sample is as many calls as the slowest arm needs for `sample_seconds`, the same number for every arm. Each arm is
    called twice before, so that nothing is compiled or allocated for the first time while the clock runs.
    """
    slowest = 0.0
    for call in arms.values():
        call()
        slowest = max(slowest, _seconds(call, 1))
    count = max(1, round(sample_seconds / slowest))
    samples: dict[str, list[float]] = {name: [] for name in arms}
    started = time.perf_counter()
    for index in range(rounds):
        if index >= 5 and time.perf_counter() - started > limit_seconds:
            break
        names: Sequence[str] = list(arms) if index % 2 == 0 else list(reversed(arms))
        for name in names:
            samples[name].append(_seconds(arms[name], count) / count)
    return Comparison(samples, count)


def _seconds(call: Call, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Timed:
    """What `first_call` gives: the result of the first call, and the seconds it took with compilation."""

    result: Any = field(repr=False)
    seconds: float


def first_call(call: Call) -> Timed:
    """The first call of a compiled function, which compiles it."""
    started = time.perf_counter()
    result = call()
    return Timed(result, time.perf_counter() - started)


def machine() -> dict[str, Any]:
    """What a reader of the numbers must know: processor, threads, versions."""
    import torch
    import transformers

    import tilewright
    from tilewright.ir.target import host_cpu

    target = host_cpu()
    return {
        "processor": _processor(),
        "cores": target.cores,
        "isa": target.isa,
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tilewright": tilewright.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def write(name: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> Path:
    """Leave `rows`, and `more` about them all, in ``results/name_THREADS_threads.json``, with what `machine` says."""
    import torch

    RESULTS.mkdir(exist_ok=True)
    path = result_path(name, torch.get_num_threads())
    path.write_text(json.dumps({"machine": machine(), **more, "rows": rows}, indent=1) + "\n")
    return path


def replaced(name: str, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> list[Mapping[str, Any]]:
    """The rows that an earlier run on the same machine left under `name`, those with the same `key` replaced."""
    import torch

    path = result_path(name, torch.get_num_threads())
    made = {tuple(row[k] for k in key): row for row in rows}
    if not path.exists():
        return list(rows)
    found = json.loads(path.read_text())
    now, then = ({**m, "date": None} for m in (machine(), found["machine"]))
    if now != then:
        return list(rows)
    return list({**{tuple(row[k] for k in key): row for row in found["rows"]}, **made}.values())


def result_path(name: str, threads: int) -> Path:
    return RESULTS / f"{name}_{threads}_threads.json"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
