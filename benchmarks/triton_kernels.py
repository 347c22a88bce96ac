"""Every kernel of every family of models, and of a suite of row kernels, printed as Triton, run and compiled.

    python benchmarks/triton_kernels.py [NAME ...] [--targets sm_80,sm_90,sm_100] [--dtypes f32,bf16]

Kernels run in Triton's interpreter (where Triton is not installed, in its stand-in of the tests) on what the model's
program gives them, and are compared with the interpreter of the IR; none but those of the row suite, whose rows are
longer than an interpreter should walk. Then they are compiled for each target, without a GPU. What fails, and what
spills, is listed. Leaves benchmarks/results/triton_kernels.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from families import FAMILIES
from harness import machine
from torch import nn

from tilewright.export import export_graph
from tilewright.ir.errors import TilewrightError
from tilewright.offline import OfflineProgram, compile_offline
from tilewright.options import Options

HERE = Path(__file__).parent
RESULT = HERE / "results" / "triton_kernels.json"
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
MOST_PROGRAMS = 512
"""Launches of larger grids are not run: an interpreter takes a millisecond for each program."""


def row_suite(dtype: torch.dtype) -> Iterator[tuple[str, Callable[..., Any], tuple[torch.Tensor, ...]]]:
    """RMSNorm, LayerNorm, softmax and cross-entropy of rows of 4k to 262k."""
    for length in (4096, 16384, 65536, 262144):
        x = torch.empty(8, length, dtype=dtype)
        weight = torch.empty(length, dtype=dtype)
        yield f"rms_norm {length}", lambda x, w: nn.functional.rms_norm(x, w.shape, w), (x, weight)
        yield f"layer_norm {length}", lambda x, w: nn.functional.layer_norm(x, w.shape, w, w), (x, weight)
        yield f"softmax {length}", lambda x: torch.softmax(x, -1), (x,)
        rows = torch.zeros(8, dtype=torch.int64)
        yield f"cross_entropy {length}", lambda x, y: nn.functional.cross_entropy(x.float(), y), (x, rows)


def models(names: list[str], dtype: torch.dtype) -> Iterator[tuple[str, Any, tuple[Any, ...], dict[str, Any], bool]]:
    """Name, model, arguments, keywords, and whether its kernels are run."""
    for name, family in FAMILIES.items():
        if not names or name in names:
            model = family.build(dtype)
            yield name, model, (), family.inputs(model), True
    if not names or "rows" in names:
        for name, function, args in row_suite(dtype):
            yield name, function, args, {}, False


def check(program: OfflineProgram, inputs: list[Any]) -> dict[str, Any]:
    """Run the program in the interpreter of the IR, and each of its launches as Triton."""
    sys.path.insert(0, str(HERE.parent / "tests" / "codegen"))
    from triton_cases import difference, execute, launches

    found = launches(program.module, inputs, program.target.name)[1]
    small = [one for one in found if one.grid() <= MOST_PROGRAMS]
    results = execute(small)
    wrong = {one.printed.name: text for one, ours in zip(small, results) if (text := difference(one, ours))}
    return {"launches": len(found), "run": len(small), "wrong": wrong}


def _by_reason(kernels: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kernel in kernels:
        found.setdefault(kernel["error"], []).append(kernel["name"])
    return found


def examine(model: Any, args: Any, kwargs: Any, targets: list[str], runs: bool) -> dict[str, Any]:
    """What becomes of one model's kernels."""
    row: dict[str, Any] = {}
    try:
        exported = export_graph(model, args, kwargs, None)
    except TilewrightError as error:
        return {"not exported": str(error).partition("\n")[0]}
    for target in targets:
        try:
            program = compile_offline(exported.graph_module, Options.make({}), target)
        except TilewrightError as error:
            return {**row, "not compiled": str(error).partition("\n")[0]}
        kernels = program.stats["kernels"]
        row["kernels"] = len(kernels)
        row[target] = {
            "unprinted": {k["name"]: k["error"] for k in kernels if not k["source"]},
            "unbuilt": _by_reason(k for k in kernels if k["source"] and "error" in k),
            "spills": {k["name"]: k["spill_bytes"] for k in kernels if k.get("spill_bytes")},
            "registers": max((k["registers"] for k in kernels if "registers" in k), default=None),
            "shared_bytes": max((k["shared_bytes"] for k in kernels if "shared_bytes" in k), default=None),
        }
        if runs and target == targets[0]:
            # One program is enough: targets differ in the parts of long reductions, which these sizes have none of.
            row["interpreted"] = check(program, [*exported.example_inputs, *program.constants])
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FAMILIES)} or rows (default: all)")
    parser.add_argument("--targets", default="sm_80,sm_90,sm_100")
    parser.add_argument("--dtypes", default="f32,bf16")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with_triton = importlib.util.find_spec("triton") is not None
    result: dict[str, Any] = {
        "machine": machine(), "interpreter": "Triton's" if with_triton else "stand-in", "models": {},
    }
    for dtype in arguments.dtypes.split(","):
        for name, model, args, kwargs, runs in models(arguments.names, DTYPES[dtype]):
            with torch.no_grad():
                row = examine(model, args, kwargs, arguments.targets.split(","), runs)
            result["models"][f"{name} {dtype}"] = row
            print(f"{name} {dtype}: {json.dumps(row)[:600]}", flush=True)
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
