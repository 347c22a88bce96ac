"""Compile time of GPT-2 against Inductor, cold and warm: ``python benchmarks/compile_time.py [--rounds 3]``.

Every start is a process of its own, the arms in the order A B B A. A cold start has empty cache directories; a warm one
has those that a cold start of its arm left. Leaves benchmarks/results/compile_time.json. What is measured:

* whole: the first call of the compiled model, from Dynamo to the result;
* after Dynamo: of that, the seconds inside of the backend;
* after tracing: of that, the seconds after AOTAutograd (`stats["compile_seconds"]`), by phase and by pass;
* load: `tilewright.load` of the same model, with the import of Tilewright and the first call.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import harness  # first: it settles the OpenMP policy before torch is imported
import torch
from zoo import MODELS

RESULT = Path(__file__).resolve().parent / "results" / "compile_time.json"
BACKENDS = ("inductor", "tilewright")
DEPTHS = (2, 24)

Row = dict[str, Any]


# In a process of its own ---------------------------------------------------------------------------------------------


def gpt2(layers: int) -> tuple[torch.nn.Module, Mapping[str, torch.Tensor]]:
    """The model of the zoo, with so many layers, and its inputs."""
    row = MODELS["gpt2"]
    model = type(row)(**{**vars(row), "full": {**row.full, "n_layer": layers}}).build(small=False)
    return model, row.inputs(model, small=False)


def start(backend: str, layers: int) -> Row:
    """The first call of a model that torch.compile compiles, in seconds."""
    model, inputs = gpt2(layers)
    inside: list[float] = []
    compiled = torch.compile(model, backend=timed(backend, inside))
    with torch.no_grad():
        result = harness.first_call(lambda: compiled(**inputs))
        torch.testing.assert_close(result.result, model(**inputs), rtol=1e-3, atol=1e-3)
    row: Row = {"whole": result.seconds, "after_dynamo": sum(inside)}
    if backend == "tilewright":
        import tilewright

        made = tilewright.last_compilation()
        assert made is not None
        row["phases"] = made.stats["compile_seconds"]
        row["passes"] = {record["name"]: record["seconds"] for record in made.stats["passes"]}
        row["after_tracing"] = sum(row["phases"].values())
        row["kernels"] = len(made.kernels)
    return row


def timed(backend: str, seconds: list[float]) -> Callable[..., Any]:
    """The backend, which notes how long it takes, its own imports included."""

    def call(graph_module: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
        started = time.perf_counter()
        try:
            return torch._dynamo.lookup_backend(backend)(graph_module, inputs)
        finally:
            seconds.append(time.perf_counter() - started)

    return call


def save(path: str, layers: int) -> Row:
    """Compile the model ahead of time into an artifact."""
    import tilewright

    model, inputs = gpt2(layers)
    compiled = tilewright.compile(model, (), dict(inputs))
    compiled.save(path)
    return {"bytes": Path(path).stat().st_size, "phases": compiled.stats["compile_seconds"]}


def load(path: str, layers: int) -> Row:
    """Load the artifact and call it once, in seconds."""
    inputs = MODELS["gpt2"].inputs(_Configured(), small=False)
    started = time.perf_counter()
    import tilewright

    imported = time.perf_counter()
    model = tilewright.load(path)
    loaded = time.perf_counter()
    model(**inputs)
    called = time.perf_counter()
    return {
        "whole": called - started, "import": imported - started, "load": loaded - imported,
        "first_call": called - loaded,
    }


class _Configured(torch.nn.Module):
    """What `Row.inputs` asks of a model: its vocabulary and its dtype. The model itself is not there any more."""

    def __init__(self) -> None:
        super().__init__()
        import transformers

        self.model = torch.nn.Module()
        self.model.config = transformers.GPT2Config(**MODELS["gpt2"].full)
        self.weight = torch.nn.Parameter(torch.empty(0))


WORK: dict[str, Callable[..., Row]] = {"start": start, "save": save, "load": load}


# What starts them ----------------------------------------------------------------------------------------------------


def process(caches: str, work: str, subject: str, layers: int) -> Row:
    """`WORK[work]` in a fresh process, whose caches are under the directory `caches`."""
    environment = {
        **os.environ, "TILEWRIGHT_CACHE_DIR": f"{caches}/tilewright", "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor",
        "TRITON_CACHE_DIR": f"{caches}/triton",
    }
    words = [sys.executable, __file__, "--work", work, subject, "--layers", str(layers)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def measure(rounds: int, layers: int) -> Row:
    """All starts, `rounds` of each, as lists of rows by name."""
    rows: Row = {f"{kind} {backend}": [] for kind in ("cold", "warm") for backend in BACKENDS}
    rows |= {f"depth {depth}": [] for depth in DEPTHS} | {"save": [], "load": []}
    for index in range(rounds):
        order = 1 if index % 2 == 0 else -1
        with ExitStack() as stack:
            caches = {backend: stack.enter_context(tempfile.TemporaryDirectory()) for backend in BACKENDS}
            for kind in ("cold", "warm"):
                for backend in BACKENDS[::order]:
                    rows[f"{kind} {backend}"].append(process(caches[backend], "start", backend, layers))
            artifact = f"{caches['tilewright']}/gpt2.tw"
            rows["save"].append(process(caches["tilewright"], "save", artifact, layers))
            rows["load"].append(process(caches["tilewright"], "load", artifact, layers))
        for depth in DEPTHS[::order]:
            with tempfile.TemporaryDirectory() as cache:
                rows[f"depth {depth}"].append(process(cache, "start", "tilewright", depth))
        print(f"round {index + 1} of {rounds} done", file=sys.stderr)
    return rows


def ratios(rows: Row) -> dict[str, float]:
    """Medians of the ratios of starts of the same round."""

    def ratio(part: str, ours: str, theirs: str, theirs_part: str | None = None) -> float:
        return statistics.median(a[part] / b[theirs_part or part] for a, b in zip(rows[ours], rows[theirs]))

    found = {
        f"{kind}, {part}, over inductor": ratio(part, f"{kind} tilewright", f"{kind} inductor")
        for kind in ("cold", "warm") for part in ("whole", "after_dynamo")
    }
    found["load over inductor's whole warm start"] = ratio("whole", "load", "warm inductor")
    shallow, deep = DEPTHS
    found[f"{deep} layers over {shallow}, after tracing"] = ratio("after_tracing", f"depth {deep}", f"depth {shallow}")
    return found


def main() -> None:
    """Measure, print the ratios, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="starts of each kind (default: 3)")
    parser.add_argument("--layers", type=int, default=12, help="of GPT-2 (default: 12)")
    parser.add_argument("--work", nargs=2, metavar=("WORK", "SUBJECT"), help="do one thing here, and print it as JSON")
    given = parser.parse_args()
    if given.work:
        print(json.dumps(WORK[given.work[0]](given.work[1], given.layers)))
        return
    rows = measure(given.rounds, given.layers)
    found = ratios(rows)
    for name, value in found.items():
        print(f"{name}: {value:.3f}")
    made = {"machine": harness.machine(), "layers": given.layers, "ratios": found, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(made, indent=1) + "\n")
    print(f"wrote {RESULT}")


if __name__ == "__main__":
    main()
