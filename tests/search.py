"""Random programs through torch.compile, many at a time: writes, views, dynamic sizes and backward, against eager.

Each program is traced by Dynamo and AOTAutograd as a user's would be; what reaches the backend is imported and
optimised at once, and runs in ATen until the kernels of all programs have been built together.

``python tests/search.py --graphs 2000 --json benchmarks/results/search.json`` prints every program that is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from batched import build_programs, run_passes
from random_programs import F32, Program, Step, random_program, widened

from tilewright import backend
from tilewright.fallback import compile_or_fall_back
from tilewright.importer import import_graph
from tilewright.ir.errors import UnsupportedGraphError
from tilewright.ir.numerics import compare
from tilewright.passes.lowering.indexing import is_dense

KINDS = ("plain", "writes", "backward", "dynamic", "dynamic backward")


class Deferred:
    """A graph given to the backend: in ATen until `build` gives it kernels."""

    def __init__(self, graph: torch.fx.GraphModule, options: Any):
        self.graph, self.options = graph, options
        self.run: Callable[..., Any] = graph
        try:
            self.imported = import_graph(graph)
            run_passes(self.imported.module, "default")
        except UnsupportedGraphError:
            self.imported = None

    @staticmethod
    def build(graphs: Sequence[Deferred]) -> None:
        """Give all of them kernels, built together where they are one program."""
        whole = [g for g in graphs if g.imported is not None]
        for graph, host in zip(whole, build_programs([g.imported.module for g in whole])):
            graph.run = lambda *args, host=host, constants=graph.imported.constants: host(*args, *constants)
        for graph in graphs:
            if graph.imported is None:
                graph.run = compile_or_fall_back(graph.graph, graph.options)

    def __call__(self, *args: Any) -> list[Any]:
        return list(self.run(*args))


@contextmanager
def deferring() -> Iterator[list[Deferred]]:
    """What the backend is given meanwhile."""
    made: list[Deferred] = []

    def defer(graph: torch.fx.GraphModule, options: Any, **_: Any) -> Deferred:
        made.append(Deferred(graph, options))
        return made[-1]

    with patch.object(backend, "compile_or_fall_back", defer):
        yield made


@dataclass
class Case:
    """A program and how it is used; `special` puts a NaN or an infinity among the inputs."""

    program: Program
    kind: str
    seed: int
    special: bool = False
    compiled: Callable[..., Any] | None = field(default=None, init=False)

    @staticmethod
    def draw(choose: random.Random) -> Case:
        kind = choose.choice(KINDS)
        writes = {"plain": "none", "writes": "all"}.get(kind) or choose.choice(["none", "fresh"])
        special = choose.random() < 0.1 and "backward" not in kind
        return Case(random_program(choose, writes), kind, choose.randrange(1 << 30), special)

    def __str__(self) -> str:
        options = ", special=True" if self.special else ""
        return f"Case({self.program}, {self.kind!r}, {self.seed}{options})\n{self.program.source()}"

    def inputs(self) -> list[torch.Tensor]:
        return self.program.sample(self.seed, self.special)

    def valid(self) -> bool:
        """Whether eager takes it: autograd refuses some writes."""
        try:
            self.outcome(self.program.function(), self.inputs())
            self.outcome(self.program.wide().function(), list(map(widened, self.inputs())))
        except (RuntimeError, IndexError, ValueError):
            return False
        return True

    def compile(self, backend: str = "tilewright") -> None:
        """Trace forward and backward; raises what tracing raises."""
        self.compiled = torch.compile(
            self.program.function(), backend=backend, fullgraph=True, dynamic=self.kind.startswith("dynamic"),
        )
        self.outcome(self.compiled, self.inputs())

    def outcome(self, function: Callable[..., Any], inputs: list[torch.Tensor]) -> Outcome:
        if "backward" not in self.kind:
            with torch.no_grad():
                return Outcome(list(function(*inputs)), inputs, [])
        leaves = [x.requires_grad_() for x in inputs if x.dtype.is_floating_point]
        results = list(function(*inputs))
        reached = [r for r in results if r.requires_grad]
        generator = torch.Generator().manual_seed(self.seed)
        # Quarters are the same number in every dtype.
        cotangents = [torch.randint(-8, 9, r.shape, generator=generator).to(r.dtype) / 4 for r in reached]
        grads = torch.autograd.grad(reached, leaves, cotangents, allow_unused=True) if reached else []
        return Outcome(results, inputs, list(grads))

    def mismatch(self) -> str | None:
        """How the compiled program differs from eager, settled in float64; None where it does not."""
        assert self.compiled is not None
        eager = self.outcome(self.program.function(), self.inputs())
        exact = self.outcome(self.program.wide().function(), list(map(widened, self.inputs())))
        largest, coarsest = self.scale()
        for _ in range(2):  # the second call finds an arena in use
            ours = self.outcome(self.compiled, self.inputs())
            for name, actual, expected, oracle in ours.beside(eager, exact):
                factor = 3.0 if name.startswith("gradient") else 2.0
                found = compare(actual, expected, oracle, "widens", factor=factor)
                if found and not excused(actual, oracle, largest, coarsest):
                    return f"{name}: {found}"
                # With symbolic sizes tracing itself may say other strides than eager has.
                static = name.startswith("result") and not self.kind.startswith("dynamic")
                if static and is_dense(expected.shape, expected.stride()) and layout(actual) != layout(expected):
                    return f"{name}: strides {actual.stride()}, not {expected.stride()}"
            if ours.shared() != eager.shared():
                return f"(result, input) that share memory: {ours.shared()}, not {eager.shared()}"
        return None

    def is_ours(self, found: str) -> bool:
        """Whether the fault is in this backend: without one, AOTAutograd alone gives what eager gives.

        Strides that fake tensors say otherwise than kernels show only where its decompositions run.
        """
        without = ["aot_eager", *(["aot_eager_decomp_partition"] if ": strides " in found else [])]
        return all(map(self.is_right_with, without))

    def is_right_with(self, backend: str) -> bool:
        alone = replace(self)
        torch._dynamo.reset()
        try:
            alone.compile(backend)
            return alone.mismatch() is None
        except Exception:
            return False

    def scale(self) -> tuple[float, float]:
        """The largest finite value on the way, and the epsilon of the least exact dtype."""
        count = len(self.program.inputs) + len(self.program.steps)
        everything = replace(self.program, results=list(range(count)))
        with torch.no_grad():
            values = everything.in_float64(*self.inputs())
            dtypes = {x.dtype for x in everything(*self.inputs()) if x.is_floating_point()}
        floats = [x[x.isfinite()].abs().max().item() for x in values if x.is_floating_point() and x.isfinite().any()]
        return max(floats, default=0.0), max((torch.finfo(d).eps for d in dtypes), default=0.0)


@dataclass
class Outcome:
    """All that a caller can see."""

    results: list[torch.Tensor]
    inputs: list[torch.Tensor]  # as the call leaves them
    gradients: list[torch.Tensor | None]

    def beside(self, *others: Outcome) -> Iterator[tuple[Any, ...]]:
        """(name, value, the others' values) of everything."""
        for name in ("results", "inputs", "gradients"):
            columns = [getattr(o, name) for o in (self, *others)]
            for place, values in enumerate(zip(*columns, strict=True)):
                yield f"{name[:-1]} {place}", *values

    def shared(self) -> set[tuple[int, int]]:
        """Which result lies in the memory of which input."""
        return {
            (i, j) for i, r in enumerate(self.results) for j, x in enumerate(self.inputs)
            if r.numel() and x.numel() and r.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
        }


def layout(x: torch.Tensor) -> list[int]:
    """The strides that matter."""
    return [s for n, s in zip(x.shape, x.stride()) if n > 1] if x.numel() else []


def excused(actual: torch.Tensor | None, exact: torch.Tensor | None, largest: float, coarsest: float) -> bool:
    """Whether a mismatch is a matter of luck: eager's few roundings cancelled, or the result is nothing but rounding.

    `largest` is the largest intermediate, `coarsest` the epsilon of the least exact dtype in the program.
    """
    if actual is None or exact is None or not actual.is_floating_point() or actual.shape != exact.shape or \
            not torch.equal(actual.isfinite(), exact.isfinite()):
        return False
    finite = exact.isfinite()
    error, scale = (actual.double() - exact)[finite].abs().max(), exact[finite].abs().max()
    ulps = 64 if actual.dtype == F32 else 4
    cancelled = scale <= 8 * coarsest * largest or error <= coarsest * largest / 8
    return bool(cancelled or error <= ulps * torch.finfo(actual.dtype).eps * scale)


def failures(cases: Sequence[Case]) -> list[tuple[Case, str]]:
    """The cases that are wrong or raise, compiled together, each with what is wrong."""
    torch._dynamo.reset()
    found: list[tuple[Case, str]] = []
    traced: list[Case] = []
    with deferring() as graphs:
        for case in cases:
            try:
                case.compile()
                traced.append(case)
            except Exception as error:  # whatever it is, a user would see it
                found.append((case, f"raises {type(error).__name__}: {error}"))
    Deferred.build(graphs)
    for case in traced:
        try:
            wrong = case.mismatch()
        except Exception as error:
            wrong = f"raises {type(error).__name__}: {error}"
        if wrong:
            found.append((case, wrong))
    return found


def reduced(case: Case) -> Case:
    """A smaller case that fails as well: fewer results, fewer steps."""
    changed = True
    while changed:
        changed = False
        for program in smaller(case.program):
            if len(program.steps) + len(program.results) >= len(case.program.steps) + len(case.program.results):
                continue
            candidate = replace(case, program=program)
            if candidate.valid() and any(candidate.is_ours(wrong) for _, wrong in failures([candidate])):
                case, changed = candidate, True
                break
    return case


def smaller(program: Program) -> Iterator[Program]:
    """Programs with one result or one step less."""
    for result in program.results:
        yield without_unread(replace(program, results=[result]))
    for place in range(len(program.results)):
        yield without_unread(replace(program, results=program.results[:place] + program.results[place + 1 :]))
    first = len(program.inputs)
    for place in reversed(range(first, first + len(program.steps))):
        for other in dict.fromkeys(program.steps[place - first].operands):
            yield without_unread(renumbered(program, {place: other}))


def renumbered(program: Program, stands_for: dict[int, int]) -> Program:
    """The program without some steps, whose values other values stand for."""
    first, places, steps = len(program.inputs), list(range(len(program.inputs))), list[Step]()
    for place, step in enumerate(program.steps, first):
        if place in stands_for:
            places.append(places[stands_for[place]])
        else:
            places.append(first + len(steps))
            steps.append(replace(step, operands=tuple(places[i] for i in step.operands)))
    return replace(program, steps=steps, results=[places[r] for r in program.results])


def without_unread(program: Program) -> Program:
    """The program without steps that nothing reads and that write to nothing."""
    first = len(program.inputs)
    for place in reversed(range(first, first + len(program.steps))):
        read = {i for step in program.steps for i in step.operands} | set(program.results)
        if place not in read and not program.steps[place - first].name.endswith("_"):
            program = renumbered(program, {place: 0})
    return program


def cases_of(seeds: Sequence[int]) -> list[Case]:
    """The cases of the seeds that eager takes."""
    return [case for case in (Case.draw(random.Random(seed)) for seed in seeds) if case.valid()]


def main() -> int:
    """The search; exit status 1 where a graph is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--graphs", type=int, default=2000, help="how many graphs to compile")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--batch", type=int, default=25, help="how many programs are built together")
    parser.add_argument("--json", type=Path, help="where to write what was found")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    started, seed, graphs, kinds = time.perf_counter(), options.first, 0, dict.fromkeys(KINDS, 0)
    found: list[str] = []
    elsewhere: list[str] = []
    while graphs < options.graphs:
        cases = cases_of(range(seed, seed + options.batch))
        for case in cases:
            kinds[case.kind] += 1
        graphs, seed = graphs + len(cases), seed + options.batch
        for case, wrong in failures(cases):
            if case.is_ours(wrong):
                found.append(wrong)
                print(f"\nseeds {seed - options.batch}...: {wrong}\n{reduced(case)}", flush=True)
            else:
                elsewhere.append(f"{wrong}\n{case.program.source()}")
        print(f"\r{graphs} graphs, {len(found)} wrong", end="", file=sys.stderr, flush=True)
    print(
        f"\n{graphs} graphs in {time.perf_counter() - started:.0f} s: {len(found)} wrong, and {len(elsewhere)} that "
        "AOTAutograd alone gets wrong as well"
    )
    if options.json:
        row = {
            "graphs": graphs, "seeds": [options.first, seed], "kinds": kinds, "wrong": found,
            "wrong without this backend too": elsewhere,
            "seconds": round(time.perf_counter() - started, 1), "torch": torch.__version__,
        }
        options.json.write_text(json.dumps(row, indent=1) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
