"""Models of real size against eager and Inductor: ``python benchmarks/models.py``, or ``make bench``.

Inference in two dtypes; with ``--frozen`` also the frozen arms (Inductor with freezing, Tilewright frozen), with
``--training`` also a training step (forward, loss, backward). ``--only resnet,vit`` picks models, ``--quick`` is seven
rounds. Leaves benchmarks/results/models_THREADS_threads.json, row by row: machine, versions, every sample, compile
times, errors, fallbacks; the rows that an earlier run left on the same machine stay. All arms of a row run in one
process, take turns, and are compared by paired ratios.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import harness  # first: it settles the OpenMP policy before torch is imported
import torch
from rich.console import Console
from rich.table import Table
from sizes import SIZES

import tilewright
from tilewright.report import duration

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
BACKENDS = ("inductor", "tilewright")


@dataclass(frozen=True)
class Mode:
    """What is timed: a forward pass, or a training step; `frozen` says whether weights may be packed and folded."""

    training: bool = False
    frozen: bool = False


MODES = {"inference": Mode(), "frozen": Mode(frozen=True), "training": Mode(training=True)}


def compiled(model: torch.nn.Module, backend: str, mode: Mode) -> Callable[..., Any]:
    """The model behind a backend, with nothing compiled yet."""
    options = {"frozen": True} if backend == "tilewright" and mode.frozen else None
    return torch.compile(model, backend=backend, options=options)


def step(call: Callable[..., Any], model: torch.nn.Module, inputs: dict[str, Any], mode: Mode) -> list[torch.Tensor]:
    """One call: the results, or the loss and the gradients."""
    if not mode.training:
        return [value for value in call(**inputs) if isinstance(value, torch.Tensor)]
    for parameter in model.parameters():
        parameter.grad = None
    loss = call(**inputs)[0]
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def measure(name: str, dtype: str, mode_name: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Time one model; the errors are the largest over its results, each over its largest value, against float64."""
    torch._dynamo.reset()
    row, mode = SIZES[name], MODES[mode_name]
    model = row.family.build(DTYPES[dtype], training=mode.training)
    inputs = row.family.inputs(model, training=mode.training, batch=row.batch)
    exact = oracle(row.family.reference(model), inputs, mode)
    state = copy.deepcopy(model.state_dict()) if mode.training else None
    first_call, errors, arms = {}, {}, {}
    freezing = torch._inductor.config.patch(freezing=True) if mode.frozen else nullcontext()
    with torch.set_grad_enabled(mode.training), freezing:
        for arm in ("eager", *BACKENDS):
            call = model if arm == "eager" else compiled(model, arm, mode)
            if state is not None:
                model.load_state_dict(state)  # statistics that a step has moved
            arms[arm] = lambda call=call: step(call, model, inputs, mode)
            timed = harness.first_call(arms[arm])
            first_call[arm], errors[arm] = timed.seconds, error(timed.result, exact)
            del timed
        made = [c for c in tilewright.compilations() if c.kernels]
        del exact
        comparison = harness.compare(arms, rounds=rounds, limit_seconds=seconds)
    return {
        "model": name, "dtype": dtype, "mode": mode_name, "inputs": {k: list(v.shape) for k, v in inputs.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "speedup_over_eager": comparison.speedup("tilewright", "eager"),
        "speedup_over_inductor": comparison.speedup("tilewright", "inductor"),
        "first_call_seconds": first_call, "compile_seconds": [c.stats["compile_seconds"] for c in made],
        "errors": errors, "kernels": sum(len(c.kernels) for c in made),
        "fallbacks": [fallback for c in made for fallback in c.fallbacks], **comparison.as_dict(),
    }


def oracle(reference: torch.nn.Module, inputs: dict[str, Any], mode: Mode) -> list[torch.Tensor]:
    """What the step gives in float64."""
    wide = {
        name: value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in inputs.items()
    }
    with torch.set_grad_enabled(mode.training):
        return step(reference, reference, wide, mode)


def error(results: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    """The largest difference from the float64 results, each over the largest of its values."""
    assert len(results) == len(exact)
    return max(
        ((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30)).item() for a, b in zip(results, exact)
    )


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SIZES), metavar="MODEL,...", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: f32 and bf16 (training: f32)")
    parser.add_argument("--frozen", action="store_true", help="time the frozen arms too")
    parser.add_argument("--training", action="store_true", help="time a training step too")
    parser.add_argument("--mode", choices=MODES, action="append", help="these alone")
    parser.add_argument("--rounds", type=int, default=20, help="samples of each arm (default: 20)")
    parser.add_argument("--quick", action="store_true", help="seven rounds, ten seconds of timing a row, f32 alone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of every arm")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = args.only.split(",")
    if unknown := [name for name in names if name not in SIZES]:
        parser.error(f"unknown model {unknown[0]!r}; there are {', '.join(SIZES)}")
    modes = args.mode or ["inference", *["frozen"] * args.frozen, *["training"] * args.training]
    dtypes = args.dtype or (["f32"] if args.quick else list(DTYPES))
    rounds, seconds = (7, 10.0) if args.quick else (args.rounds, 60.0)
    console, rows = Console(width=max(Console().width, 120)), []
    table = Table(
        "model", "dtype", "mode", "eager", "inductor", "tilewright", "over eager", "over inductor", "first call"
    )
    for name in names:
        for mode in modes:
            for dtype in dtypes if mode != "training" or args.dtype else ["f32"]:
                row = measure(name, dtype, mode, rounds, seconds)
                gc.collect()
                rows.append(row)
                times = [duration(row["medians"][arm]) for arm in ("eager", *BACKENDS)]
                ratios = [f"{row[f'speedup_over_{arm}']:.2f}x" for arm in ("eager", "inductor")]
                first = " / ".join(duration(row["first_call_seconds"][arm]) for arm in BACKENDS)
                table.add_row(name, dtype, mode, *times, *ratios, first)
                console.print(f"{name} {dtype} {mode}: {', '.join(times)}; {' '.join(ratios)}", highlight=False)
                path = harness.write("models", harness.replaced("models", rows, ("model", "dtype", "mode")))
    console.print(table)
    for mode in modes:
        found = [row["speedup_over_inductor"] for row in rows if row["mode"] == mode]
        console.print(f"{mode}: {statistics.geometric_mean(found):.2f}x over Inductor (geometric mean of {len(found)})")
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
