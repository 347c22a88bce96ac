"""What a call costs beside its kernels: ``python benchmarks/overhead.py [CASE ...]``.

Tiny tensors, so that next to nothing is computed. The arms: eager torch; Dynamo's guards alone, with eager's kernels
(``backend="eager"``) and with none (`nothing`, AOTAutograd around a backend that gives results made before); Inductor;
ours, with the host program in C++ and in Python. Leaves benchmarks/results/overhead_THREADS_threads.json: machine,
versions, every sample, and for each case what a kernel costs once `nothing` is subtracted.
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
from torch._dynamo.backends.common import aot_autograd

from tilewright.backend import last_compilation

KERNELS = 50
ELEMENTS = 32


def unfusable(x: torch.Tensor) -> torch.Tensor:
    """Softmax over rows and over columns in turn: each needs all of the one before."""
    for number in range(KERNELS):
        x = torch.softmax(x.view(4, ELEMENTS // 4), number % 2).view(ELEMENTS)
    return x


def single(x: torch.Tensor) -> torch.Tensor:
    """One tiny op."""
    return x + 1


def products(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Small products, which a library computes, with a kernel between each two."""
    for _ in range(KERNELS // 2):
        x = torch.tanh(x @ w)
    return x


@dataclass(frozen=True)
class Case:
    """A function and its inputs."""

    function: Callable[..., Any]
    inputs: Callable[[], tuple[torch.Tensor, ...]]


CASES: dict[str, Case] = {
    "50 kernels": Case(unfusable, lambda: (torch.randn(ELEMENTS),)),
    "one op": Case(single, lambda: (torch.randn(ELEMENTS),)),
    "products": Case(products, lambda: (torch.randn(8, 8), torch.randn(8, 8) / 8)),
}


def nothing(graph_module: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """A backend whose graphs give results made before: what torch.compile costs by itself."""

    def forward(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[[list[Any]], Sequence[Any]]:
        results = [torch.empty(ELEMENTS) for _ in graph.graph.output_node().args[0]]

        def run(args: list[Any]) -> Sequence[Any]:
            args.clear()
            return results

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    return aot_autograd(fw_compiler=forward)(graph_module, inputs)


BACKENDS: dict[str, dict[str, Any]] = {
    "guards and eager": {"backend": "eager"},
    "nothing": {"backend": nothing},
    "inductor": {"backend": "inductor"},
    "python": {"backend": "tilewright", "options": {"host": "python"}},
    "tilewright": {"backend": "tilewright"},
}


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Time one case in all arms."""
    torch.manual_seed(0)
    case = CASES[name]
    inputs = case.inputs()
    torch._dynamo.reset()
    functions: dict[str, Callable[..., Any]] = {"eager": case.function}
    expected = case.function(*inputs)
    for arm, settings in BACKENDS.items():
        functions[arm] = torch.compile(_renamed(case.function), **settings)
        result = functions[arm](*inputs)
        if arm != "nothing":
            torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    launches = sum(
        op.name in ("prog.launch", "prog.extern") for op in last_compilation().module.walk()  # type: ignore[union-attr]
    )
    with torch.no_grad():
        comparison = harness.compare({arm: _call(f, inputs) for arm, f in functions.items()}, rounds=rounds)
    medians = {arm: comparison.median(arm) for arm in functions}
    return {
        "case": name, "launches": launches,
        "seconds_per_launch": {
            arm: (medians[arm] - medians["nothing"]) / launches for arm in ("inductor", "python", "tilewright")
        },
        "speedup": {arm: comparison.speedup("tilewright", arm) for arm in functions if arm != "tilewright"},
        **comparison.as_dict(),
    }


def _call(function: Callable[..., Any], inputs: tuple[torch.Tensor, ...]) -> harness.Call:
    return lambda: function(*inputs)


def _renamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as another object: Dynamo keeps the programs of one function together."""
    scope: dict[str, Any] = {"function": function}
    exec(compile("def run(*args): return function(*args)", "<benchmark>", "exec"), scope)
    return scope["run"]  # type: ignore[no-any-return]


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=30, help="samples of each arm (default: 30)")
    args = parser.parse_args()
    unknown = [name for name in args.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}")
    rows = [measure(name, args.rounds) for name in args.cases or CASES]
    table = Table("µs a call", *(row["case"] for row in rows))
    for arm in ("eager", *BACKENDS):
        table.add_row(arm, *(f"{row['medians'][arm] * 1e6:.2f}" for row in rows))
    for arm in ("inductor", "python", "tilewright"):
        label = f"{arm}, a kernel"
        table.add_row(label, *(f"{row['seconds_per_launch'][arm] * 1e6:.2f} of {row['launches']}" for row in rows))
    for arm in ("eager", *BACKENDS):
        if arm != "tilewright":
            table.add_row(f"faster than {arm}", *(f"{row['speedup'][arm]:.2f} x" for row in rows))
    console = Console(width=max(Console().width, 110))
    console.print(table)
    if not args.cases:
        console.print(f"wrote {harness.write('overhead', rows)}")


if __name__ == "__main__":
    main()
