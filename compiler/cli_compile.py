"""`tilewright compile SPEC -o DIR|m.tw`: compile a model ahead of time, and say what became of it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tilewright.ir.errors import UnsupportedTargetError
from tilewright.ir.target import GPU_TARGETS

from .options import OPTIONS, Options

_COLUMNS = (("kernel", "name"), ("kind", "kind"), ("model lines", "lines"), ("bytes", "bytes"), ("flops", "flops"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SPEC, where to write, and a flag for every option."""
    parser.add_argument("spec", metavar="SPEC", help="file.py[:function], module:function, or a .pt2 of torch.export")
    parser.add_argument("-o", "--output", metavar="DIR|m.tw", type=Path, required=True,
                        help="an artifact (.tw), or a directory for artifact, report, IR dumps and kernels")
    parser.add_argument("--json", action="store_true", help="print the statistics as JSON instead of tables")
    flags = parser.add_argument_group("options", "also TILEWRIGHT_<NAME> in the environment")
    for option in OPTIONS.values():
        values = f" ({', '.join(option.available)})" if option.available else ""
        flags.add_argument(option.flag, dest=f"option_{option.name}", metavar="VALUE", help=option.help + values)


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given as flags."""
    values = {name: getattr(args, f"option_{name}") for name in OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def run(args: argparse.Namespace) -> int:
    """Compile, write, print. Options are checked before the model is imported, which takes longer."""
    options = given_options(args)
    if options.get("target") in GPU_TARGETS:
        return run_offline(args, options.pop("target"), Options.make(options))
    Options.make(options)
    from .api import compile
    from .spec import load_spec

    with progress(f"compiling {args.spec}"):
        spec = load_spec(args.spec)
        model = compile(spec.model, spec.args, spec.kwargs, **options)
        if args.output.suffix == ".tw":
            written = [model.save(args.output)]
        else:
            written = model.write(args.output, spec.name)
    if args.json:
        print(json.dumps(model.stats, indent=1, default=str))
    else:
        print_summary(model, written)
    return 0


def run_offline(args: argparse.Namespace, target: str, options: Options) -> int:
    """Compile for a GPU that need not be there, into a directory; 1 where a kernel could not be built."""
    from .export import export_graph
    from .offline import compile_offline
    from .spec import load_spec

    if args.output.suffix == ".tw":
        raise UnsupportedTargetError(
            f"an artifact that runs on {target} needs a host program for GPUs, which this version lacks; give a "
            "directory for sources, PTX and machine code"
        )
    with progress(f"compiling {args.spec} for {target}"):
        spec = load_spec(args.spec)
        exported = export_graph(spec.model, spec.args, spec.kwargs, None)
        program = compile_offline(exported.graph_module, options, target)
        written = program.write(args.output)
    failed = {k.tile.sym_name.data: k.reason for k in program.kernels if k.built is None}
    if args.json:
        print(json.dumps(program.stats, indent=1, default=str))
    else:
        _print_gpu_kernels(program.stats, written)
    for reason in dict.fromkeys(failed.values()):
        names = ", ".join(name for name, why in failed.items() if why == reason)
        print(f"tilewright compile: {names}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _print_gpu_kernels(stats: dict[str, Any], written: list[Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    from .report import duration

    console = Console()
    columns = ("registers", "spill_bytes", "shared_bytes", "occupancy")
    table = Table("kernel", "model lines", "schedule", *(c.replace("_", " ") for c in columns), "predicted")
    for kernel in stats["kernels"]:
        schedule = " ".join(f"{name}={value}" for name, value in kernel["schedule"].items())
        facts = [str(kernel.get(column, "")) for column in columns]
        table.add_row(
            kernel["name"], " ".join(kernel["lines"]), schedule, *facts, duration(kernel["predicted_s"])
        )
    console.print(table)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True)


def progress(text: str) -> Any:
    """A spinner on a terminal, nothing in a pipe."""
    from rich.console import Console

    console = Console(stderr=True)
    console.quiet = not sys.stderr.isatty()
    return console.status(text)


def print_summary(model: Any, written: list[Path]) -> None:
    """Tables of kernels and ATen calls, times, and what was written."""
    from rich.console import Console
    from rich.table import Table

    from .report import duration, quantity

    console = Console()
    if model.kernels:
        table = Table(*(head for head, _ in _COLUMNS), "predicted")
        for kernel in model.kernels:
            table.add_row(kernel.name, kernel.kind, " ".join(kernel.lines), quantity(kernel.bytes),
                          quantity(kernel.flops), duration(kernel.predicted_s))
        console.print(table)
    if model.fallbacks:
        table = Table("left to ATen", "calls", "reason")
        for row in model.fallbacks:
            table.add_row(row["op"], str(row["count"]), row["reason"])
        console.print(table)
    phases = ", ".join(f"{phase} {duration(s)}" for phase, s in model.stats.get("compile_seconds", {}).items())
    console.print(f"{len(model.kernels)} kernels; {phases}", soft_wrap=True)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True)
