"""Five models against eager and Inductor: ``python benchmarks/models.py [MODEL ...]``, or ``make bench``.

Writes one JSON per run to benchmarks/results/: machine, versions, every sample, compile times, errors, fallbacks.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import harness  # first: it settles the OpenMP policy before torch is imported
import torch
from rich.console import Console
from rich.table import Table
from zoo import MODELS

import tilewright
from tilewright.report import duration

RESULTS = Path(__file__).resolve().parent / "results"
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def measure(name: str, dtype: str, rounds: int, *, small: bool = False) -> dict[str, Any]:
    """Time one model in one dtype. The errors are the largest over its results, against float64."""
    row = MODELS[name]
    model = row.build(small=small, dtype=DTYPES[dtype])
    inputs = row.inputs(model, small=small)
    with torch.no_grad():
        wide = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        exact = copy.deepcopy(model).double()(**wide)
        arms: dict[str, Any] = {"eager": model}
        seconds, errors = {}, {"eager": error(model(**inputs), exact)}
        for backend in ("inductor", "tilewright"):
            torch._dynamo.reset()
            arms[backend] = torch.compile(model, backend=backend)
            timed = harness.first_call(lambda call=arms[backend]: call(**inputs))
            seconds[backend], errors[backend] = timed.seconds, error(timed.result, exact)
        made = tilewright.last_compilation()
        assert made is not None
        comparison = harness.compare({n: lambda call=c: call(**inputs) for n, c in arms.items()}, rounds=rounds)
    return {
        "model": name, "dtype": dtype, "inputs": {k: list(v.shape) for k, v in inputs.items()},
        "speedup_over_eager": comparison.speedup("tilewright", "eager"),
        "speedup_over_inductor": comparison.speedup("tilewright", "inductor"),
        "first_call_seconds": seconds, "compile_seconds": made.stats["compile_seconds"], "errors": errors,
        "kernels": len(made.kernels), "fallbacks": made.fallbacks, **comparison.as_dict(),
    }


def error(results: tuple[torch.Tensor, ...], exact: tuple[torch.Tensor, ...]) -> float:
    """The largest difference from the float64 results, over all of them."""
    return max((a.double() - b).abs().max().item() for a, b in zip(results, exact))


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)} (default: all)")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: f32 and bf16")
    parser.add_argument("--rounds", type=int, default=20, help="samples of each arm (default: 20)")
    parser.add_argument("--small", action="store_true", help="the sizes of the tests, for a quick look")
    args = parser.parse_args()
    unknown = [name for name in args.models if name not in MODELS]
    if unknown:
        parser.error(f"unknown model {unknown[0]!r}; there are {', '.join(MODELS)}")
    rows = []
    table = Table("model", "dtype", "eager", "inductor", "tilewright", "over eager", "over inductor", "first call")
    console = Console(width=max(Console().width, 110))
    for name in args.models or MODELS:
        for dtype in args.dtype or DTYPES:
            row = measure(name, dtype, args.rounds, small=args.small)
            rows.append(row)
            times = [duration(row["medians"][arm]) for arm in ("eager", "inductor", "tilewright")]
            ratios = [f"{row[f'speedup_over_{arm}']:.2f}x" for arm in ("eager", "inductor")]
            first = " / ".join(duration(row["first_call_seconds"][arm]) for arm in ("inductor", "tilewright"))
            table.add_row(name, dtype, *times, *ratios, first)
            console.print(f"{name} {dtype}: {', '.join(times)}", highlight=False)
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("models_%Y%m%d_%H%M%S.json")
    path.write_text(json.dumps({"machine": harness.machine(), "rows": rows}, indent=1) + "\n")
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
