"""A graph compiled in parts, with calls between them that run as they are (`split.py` says which)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node

from tilewright.codegen.native import find_compiler
from tilewright.ir.text import file_lines

from . import split
from .importer import import_graph
from .importer.diagnosis import unsupported_nodes
from .importer.locations import location_of
from .options import Options
from .pipeline import Clock, count_fallbacks, merged_fallbacks, unsupported

if TYPE_CHECKING:
    from .fallback import AnyCompilation


def compile_parts(
    graph_module: GraphModule, options: Options, *, inputs: Sequence[Any] | None, static: Sequence[int]
) -> PartedCompilation | None:
    """Compile what can be imported of a graph that as a whole cannot; None if nothing stands in the whole's way.

    `inputs` are example inputs for ``verify="numeric"``, `static` the positions of inputs that are weights. Raises
    UnsupportedOpError with ``fallback="error"``, CompilerNotFoundError, and what `compile_graph` raises.
    """
    from .fallback import compile_or_fall_back

    find_compiler()  # without one it is the whole graph that runs in ATen, not each part for itself
    clock = Clock()
    with clock.phase("split"):
        reasons = unsupported_nodes(graph_module)
        if not reasons:
            return None
        plan = split.plan(graph_module, reasons)
        left = _fallback_rows(plan.left)
        if options.fallback == "error":
            rows = left + [r for part in plan.parts for r in count_fallbacks(import_graph(part.graph_module).module)]
            if rows:
                raise unsupported(rows)
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    weights = {placeholders[position] for position in static if position < len(placeholders)}
    examples = _example_inputs(plan, inputs) if options.verify == "numeric" and inputs is not None else {}
    graphs = {part.name: part.graph_module for part in plan.parts} | plan.bodies
    inputs_of = {part.name: part.inputs for part in plan.parts}
    made: dict[str, AnyCompilation] = {}
    for name, graph in graphs.items():
        made[name] = compile_or_fall_back(
            graph, dataclasses.replace(options, dump_ir=options.dump_ir and options.dump_ir / name),
            inputs=examples.get(name), static=[i for i, node in enumerate(inputs_of.get(name, ())) if node in weights],
        )
        single = isinstance(graph.graph.output_node().args[0], Node)
        setattr(plan.outer, name, split.Called(made[name], single))
    return PartedCompilation(plan.outer, made, left, clock.seconds)


class PartedCompilation:
    """Answers as a `Compilation` does, for all `parts` together: what is of one part has the part's name in front."""

    def __init__(
        self, outer: GraphModule, parts: Mapping[str, AnyCompilation], left: list[dict[str, Any]],
        seconds: Mapping[str, float],
    ):
        self._outer = outer
        self.parts = dict(parts)
        inside = [row for part in self.parts.values() for row in part.fallbacks]
        self.fallbacks: list[dict[str, Any]] = merged_fallbacks([*left, *inside])
        between = ", ".join(dict.fromkeys(row["op"] for row in left)) or "calls that the IR does not express"
        self.reason = f"the model runs as {len(self.parts)} programs with Python between them ({between})"
        self.prog_text = ""
        self.seconds: dict[str, float] = _added([seconds, *(part.seconds for part in self.parts.values())])

    def __call__(self, *args: Any) -> list[Any]:
        results = self._outer(*args)
        return list(results) if isinstance(results, (tuple, list)) else [results]

    @cached_property
    def stats(self) -> dict[str, Any]:
        """The statistics of all parts: lists one after the other, times added, peaks at their largest."""
        stats = {name: part.stats for name, part in self.parts.items()}
        peaks = [row["peak_bytes"] for row in stats.values() if row["peak_bytes"] is not None]
        return {
            "kernels": [{**row, "name": f"{name}/{row['name']}"} for name in stats for row in stats[name]["kernels"]],
            "fallbacks": self.fallbacks,
            "passes": [{**row, "part": name} for name in stats for row in stats[name]["passes"]],
            "peak_bytes": max(peaks, default=None),
            "compile_seconds": self.seconds,
            "statistics": {name: row.get("statistics", {}) for name, row in stats.items()},
        }

    @property
    def host_source(self) -> str:
        """The Python text that calls the parts, and the parts' own host programs."""
        texts = [self._outer.code.strip() + "\n"]
        return "\n\n".join(texts + [f"# {name}\n{p.host_source}" for name, p in self.parts.items() if p.host_source])

    @property
    def stages(self) -> dict[str, str]:
        return {f"{name}/{stage}": text for name, part in self.parts.items() for stage, text in part.stages.items()}

    @property
    def kernels(self) -> list[Any]:
        return [
            dataclasses.replace(kernel, name=f"{name}/{kernel.name}")
            for name, part in self.parts.items() for kernel in part.kernels
        ]

    @property
    def remarks(self) -> list[Any]:
        return [remark for part in self.parts.values() for remark in part.remarks]

    @property
    def constants(self) -> list[torch.Tensor]:
        return [constant for part in self.parts.values() for constant in part.constants]

    @property
    def sources(self) -> list[str]:
        return [source for part in self.parts.values() for source in part.sources]

    @property
    def libraries(self) -> list[Path]:
        return [library for part in self.parts.values() for library in part.libraries]


def _added(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The seconds of each phase, over all rows."""
    total: dict[str, float] = {}
    for row in rows:
        for phase, duration in row.items():
            total[phase] = total.get(phase, 0.0) + duration
    return total


def _fallback_rows(left: Mapping[Node, str]) -> list[dict[str, Any]]:
    return merged_fallbacks([
        {"op": str(node.target), "count": 1, "reason": reason, "lines": file_lines(location_of(node))}
        for node, reason in left.items()
    ])


def _example_inputs(plan: split.Plan, inputs: Sequence[Any]) -> dict[str, list[Any]]:
    """What each part is called with where the graph is called with `inputs`."""
    found: dict[str, list[Any]] = {}

    class Recorder(torch.fx.Interpreter):
        def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
            found[target] = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
            return super().call_module(target, args, kwargs)

    with torch.no_grad():
        Recorder(plan.outer).run(*[i.clone() if isinstance(i, torch.Tensor) else i for i in inputs])
    return found
