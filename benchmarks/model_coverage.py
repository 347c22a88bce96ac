"""What becomes of the models of transformers: ``python benchmarks/model_coverage.py [MODEL ...]``, `make coverage`.

For each family in float32, in bfloat16, and for a training step: kernels, what is left to ATen and why, graph breaks,
the error against float64 beside eager's, and the seconds that compiling took. It writes
benchmarks/results/coverage.json, of which named models replace their rows, and docs/models.md, which is made from it.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness  # first: it settles the OpenMP policy before torch is imported
import torch
from families import FAMILIES, Arguments
from rich.console import Console
from torch._dynamo.utils import counters

from tilewright.backend import compilations
from tilewright.ir.numerics import compare, error_ratio

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "coverage.json"
PAGE = ROOT / "docs" / "models.md"
DRAWS = 5
MANY = 64
"""Of a tensor with fewer elements, one rounding decides the error: it is checked, but no example of the worst case."""
WILD = 10.0
"""No draw may be worse than this many times eager's error, unless it is within a tenth of the values."""


@dataclass(frozen=True)
class Mode:
    """What is run, and how many times eager's error each kind of result may have."""

    dtype: torch.dtype
    training: bool
    factors: dict[str, float]


MODES = {
    "f32": Mode(torch.float32, False, {"result": 2.0}),
    "bf16": Mode(torch.bfloat16, False, {"result": 2.0}),
    "train": Mode(torch.float32, True, {"result": 2.0, "gradient": 3.0, "buffer": 2.0}),
}


@dataclass
class Part:
    """The graphs of a forward or of a backward pass: their compilations, and the seconds until it had run."""

    made: list[Any] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Numbers for the table; fallbacks as `{op: {count, reason}}`."""
        fallbacks: dict[str, dict[str, Any]] = {}
        for row in (row for graph in self.made for row in graph.fallbacks):
            entry = fallbacks.setdefault(row["op"], {"count": 0, "reason": row["reason"]})
            entry["count"] += row["count"]
        return {
            "graphs": len(self.made), "kernels": sum(len(graph.kernels) for graph in self.made), "fallbacks": fallbacks,
            "compile_seconds": sum(sum(graph.stats["compile_seconds"].values()) for graph in self.made),
            "first_call_seconds": self.seconds,
        }


@contextmanager
def recording(part: Part) -> Iterator[None]:
    """Add what is compiled meanwhile to `part`."""
    before = compilations()
    started = time.perf_counter()
    yield
    part.seconds += time.perf_counter() - started
    part.made += [made for made in compilations() if not any(made is old for old in before)]


Values = dict[str, torch.Tensor]


def run(model: torch.nn.Module, inputs: Arguments, mode: Mode, forward: Part, backward: Part) -> Values:
    """Everything that the mode computes, by name: results, gradients, buffers."""
    with torch.set_grad_enabled(mode.training):
        with recording(forward):
            results = model(**inputs)
        found = {f"result {index}": value.detach() for index, value in enumerate(results)}
        if mode.training:
            with recording(backward):
                results[0].backward()  # the loss
            found |= {f"gradient {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
            found |= {f"buffer {n}": b for n, b in model.named_buffers() if b.is_floating_point()}
    return found


@dataclass
class Errors:
    """Our errors over eager's, both against float64: over all tensors the median, and the largest of those that are
    not small; and the tensors that are wrong, each with what is wrong with it."""

    median: float
    largest: float
    of: str
    tensors: int
    wrong: list[str]


def errors(actual: list[Values], expected: list[Values], oracle: list[Values], mode: Mode) -> Errors:
    """Compare what `run` gave for each draw of inputs: compiled, eager, and in float64.

    In deep models a rounding of the first layer decides the errors of all later ones, and an activation that is 0 but
    for rounding decides a gradient: one draw says little about either side. So a tensor is wrong where most draws say
    so, or where one is beyond all bounds.
    """
    names = actual[0].keys() & expected[0].keys()
    wrong = [f"{name} is missing or not expected" for name in sorted(actual[0].keys() ^ expected[0].keys())]
    ratios: dict[str, float] = {}
    for name in sorted(names):
        factor = mode.factors[name.partition(" ")[0]]
        draws = [(a[name], e[name], o[name]) for a, e, o in zip(actual, expected, oracle, strict=True)]
        found = [m for draw in draws if (m := compare(*draw, "reassociates", factor=factor)) is not None]
        wild = [m for draw in draws if (m := compare(*draw, "approximate", factor=WILD)) is not None]
        if wild or len(found) > len(draws) / 2:
            wrong.append(f"{name}: {(wild or found)[0]}")
        ratios[name] = statistics.median(error_ratio(*draw) for draw in draws)
    large = {name: ratio for name, ratio in ratios.items() if expected[0][name].numel() >= MANY} or ratios
    worst = max(large, key=lambda name: large[name])
    return Errors(statistics.median(ratios.values()), large[worst], worst, len(ratios), wrong)


def graph_breaks(call: Callable[[], Any]) -> int:
    """How often Dynamo breaks the graph while `call` runs, with nothing compiled before."""
    torch._dynamo.reset()
    counters.clear()
    call()
    return sum(counters["graph_break"].values())


def measure(name: str, mode_name: str) -> dict[str, Any]:
    """One family in one mode: compile, run, compare. Where the graph breaks, aot_eager's breaks are counted too."""
    family, mode = FAMILIES[name], MODES[mode_name]

    def build(backend: str | None = None) -> torch.nn.Module:
        model = family.build(mode.dtype, training=mode.training)
        if backend is not None:
            model.compile(backend=backend)
        return model

    model = build("tilewright")
    draws = [family.inputs(model, training=mode.training, seed=seed) for seed in range(1, 1 + DRAWS)]
    initial = copy.deepcopy(model.state_dict())

    def values(model: torch.nn.Module, forward: Part, backward: Part, inputs: list[Arguments]) -> list[Values]:
        """What the model computes for each input, each time from the initial state."""
        found = []
        for given in inputs:
            model.load_state_dict(initial)
            model.zero_grad()
            found.append({k: v.clone() for k, v in run(model, given, mode, forward, backward).items()})
        return found

    forward, backward, actual = Part(), Part(), []
    breaks = graph_breaks(lambda: actual.extend(values(model, forward, backward, draws[:1])))
    report = {
        "model": name, "mode": mode_name, "parameters": sum(p.numel() for p in model.parameters()),
        "forward": forward.as_dict(), "backward": backward.as_dict() if mode.training else None, "graph_breaks": breaks,
    }
    actual += values(model, forward, backward, draws[1:])
    expected = values(build(), Part(), Part(), draws)
    wide = [{k: _wide(v) for k, v in inputs.items()} for inputs in draws]
    oracle = values(family.reference(build()), Part(), Part(), wide)
    report["errors"] = vars(errors(actual, expected, oracle, mode))
    report["graph_breaks_of_aot_eager"] = breaks and graph_breaks(
        lambda: values(build("aot_eager"), Part(), Part(), draws[:1])
    )
    return report


def _wide(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


# The page.

_HEAD = """# Models

What becomes of the model families of `transformers`, in small (two layers or so, batch 3, odd sizes; the configurations
are in `benchmarks/families.py`) with random weights. Made by `make coverage` from `benchmarks/results/coverage.json`.

* **kernels**: ours. Matrix products, convolutions and attention run in libraries and are not counted.
* **breaks**: of Dynamo's graph, and how many there are with `aot_eager`.
* **error**: ours over eager's, both against float64, for each tensor the median of {draws} draws of inputs; of all
  tensors (results; in training also every gradient and every buffer of a batch norm) the median, and the largest of
  those with at least {many} elements. A run fails where in most draws a tensor's error is above twice eager's (three
  times for gradients; small tensors and the last bits have a slack, which `ir/numerics.py` states), or in one beyond
  all bounds.
* **seconds**: of the compiler itself, kernels not in the cache; tracing by Dynamo and AOTAutograd not included.

Measured with torch {torch}, transformers {transformers}, {threads} threads, {processor}.
"""

_TITLES = {
    "f32": "Inference in float32",
    "bf16": "Inference in bfloat16",
    "train": "A training step in float32 (forward + backward)",
}
_COLUMNS = "| model | kernels | left to ATen | breaks (aot_eager) | error: median, largest | seconds |"


def page(result: dict[str, Any]) -> str:
    """docs/models.md from what coverage.json holds."""
    parts = [_HEAD.format(many=MANY, draws=DRAWS, **result["machine"])]
    rows = result["rows"]
    for mode, title in _TITLES.items():
        parts += [f"## {title}\n", _COLUMNS, "|---|---|---|---|---|---|"]
        parts += [_line(row) for row in rows if row["mode"] == mode]
        parts.append("")
    parts.append("## What is left to ATen, and why\n")
    parts += ["| op | reason | forward | backward | models |", "|---|---|---|---|---|"]
    parts += _reasons(rows)
    return "\n".join(parts) + "\n"


def _line(row: dict[str, Any]) -> str:
    passes = [part for part in (row["forward"], row["backward"]) if part is not None]
    kernels = " + ".join(str(part["kernels"]) for part in passes)
    left = " + ".join(str(sum(entry["count"] for entry in part["fallbacks"].values())) for part in passes)
    seconds = sum(part["compile_seconds"] for part in passes)
    found = row["errors"]
    state = f"{found['median']:.2f}, {found['largest']:.2f}"
    if found["wrong"]:
        state += f" ({len(found['wrong'])} WRONG)"
    breaks = f"{row['graph_breaks']} ({row['graph_breaks_of_aot_eager']})"
    return f"| {row['model']} | {kernels} | {left} | {breaks} | {state} | {seconds:.1f} |"


def _reasons(rows: list[dict[str, Any]]) -> list[str]:
    counts: dict[tuple[str, str], dict[str, int]] = {}
    models: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for side in ("forward", "backward"):
            for op, entry in (row[side] or {"fallbacks": {}})["fallbacks"].items():
                key = (op, entry["reason"])
                sides = counts.setdefault(key, {"forward": 0, "backward": 0})
                sides[side] += entry["count"]
                models.setdefault(key, {})[row["model"]] = None
    ordered = sorted(counts, key=lambda key: (-sum(counts[key].values()), key))
    return [
        f"| `{op}` | {reason} | {counts[op, reason]['forward']} | {counts[op, reason]['backward']} | "
        f"{', '.join(models[op, reason])} |"
        for op, reason in ordered
    ]


def main() -> int:
    """Measure, print a line each, write the JSON and the page. 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(FAMILIES)} (default: all)")
    parser.add_argument("--mode", choices=MODES, action="append", help="default: all of them")
    parser.add_argument("--page", action="store_true", help="only make the page again")
    args = parser.parse_args()
    if unknown := [name for name in args.models if name not in FAMILIES]:
        parser.error(f"unknown model {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    if args.page:
        PAGE.write_text(page(json.loads(RESULT.read_text())))
        return 0
    console, rows = Console(width=120), []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TILEWRIGHT_CACHE_DIR"] = cache
        for name in args.models or FAMILIES:
            for mode in args.mode or MODES:
                row = measure(name, mode)
                rows.append(row)
                console.print(_line(row), mode, *row["errors"]["wrong"], highlight=False)
    if not args.mode:
        if args.models:
            old = json.loads(RESULT.read_text())["rows"]
            new = {(row["model"], row["mode"]): row for row in [*old, *rows]}
            rows = [new[name, mode] for name in FAMILIES for mode in MODES if (name, mode) in new]
        RESULT.write_text(json.dumps({"machine": harness.machine(), "rows": rows}, indent=1) + "\n")
        PAGE.write_text(page(json.loads(RESULT.read_text())))
        console.print(f"wrote {RESULT} and {PAGE}")
    bad = [row for row in rows if row["errors"]["wrong"] or row["graph_breaks"] != row["graph_breaks_of_aot_eager"]]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
