"""`tilewright opt`: run passes over IR text and print the result.

Nothing here imports torch, unless ``--verify-each=numeric`` asks to run the IR.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from xdsl.dialects.builtin import ModuleOp

from tilewright.ir.errors import ParseError
from tilewright.ir.stages import verify_ir
from tilewright.ir.target import target
from tilewright.ir.text import parse_ir, print_ir
from tilewright.passes.base import PassContext
from tilewright.passes.manager import VERIFY_LEVELS, PassManager, PassRecord
from tilewright.passes.pipelines import parse_pipeline
from tilewright.passes.registry import list_passes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the subcommand."""
    add = parser.add_argument
    add("file", nargs="?", default="-", metavar="FILE.mlir", help="IR text; default: standard input")
    add("-p", "--passes", default="", metavar="PIPELINE", help='such as "cse,simplify{iters=3}" or "default,-fuse"')
    add("-o", "--output", default="-", metavar="FILE", help="where the IR goes; default: standard output")
    add("--target", metavar="NAME", help="cpu, sm_90, ...; default: this machine's CPU")
    add("--verify-each", default="off", choices=VERIFY_LEVELS, help="check after each pass; alone it means ir")
    add("--dump-ir", metavar="DIR", help="write the IR after each pass into numbered files")
    add("--print-ir-after-all", action="store_true", help="print the IR after each pass on standard error")
    add("--time-passes", action="store_true", help="print what each pass took and changed")
    add("--list-passes", action="store_true", help="list the passes and their options, and stop")
    add("--json", action="store_true", help="print tables as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; the exit status."""
    if args.list_passes:
        _print_passes(args.json)
        return 0
    passes = parse_pipeline(args.passes)
    context = PassContext(target(args.target))
    module = parse_ir(*_read(args.file))
    verify_ir(module)

    def print_after(position: int, entry: str, module: ModuleOp) -> None:
        if position:
            print(f"// after pass {position} of {len(passes)}: {entry}\n{print_ir(module)}", file=sys.stderr)

    manager = PassManager(
        passes, context, verify=args.verify_each, dump_dir=args.dump_ir,
        observer=print_after if args.print_ir_after_all else None,
    )
    records = manager.run(module)
    verify_ir(module)
    if args.output == "-":
        sys.stdout.write(print_ir(module))
    else:
        Path(args.output).write_text(print_ir(module), encoding="utf-8")
    if args.time_passes:
        # The table must not stand among the IR.
        _print_records(records, args.json, sys.stderr if args.output == "-" else sys.stdout)
    return 0


def _read(file: str) -> tuple[str, str]:
    """`(text, name)` of the input."""
    name = "<stdin>" if file == "-" else file
    try:
        return (sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")), name
    except UnicodeDecodeError:
        raise ParseError(f"{name} is not UTF-8 text") from None


def _print_passes(as_json: bool) -> None:
    rows = list_passes()
    if as_json:
        print(json.dumps([vars(row) for row in rows], indent=2, default=str))
        return
    _print_table(
        ("pass", "numerics", "options", "what it does"),
        [
            (row.name, row.numerics, ", ".join(f"{k}={v}" for k, v in row.options.items()), row.missing or row.summary)
            for row in rows
        ],
        sys.stdout,
    )


def _print_records(records: Sequence[PassRecord], as_json: bool, file: IO[str]) -> None:
    if as_json:
        print(json.dumps([record.as_dict() for record in records], indent=2), file=file)
        return
    columns = ("pass", "ms", "ops", "Mflop", "MB moved", "kernels", "peak MB")
    rows = []
    for record in records:
        before, after = record.before, record.after
        rows.append((
            record.entry,
            f"{record.seconds * 1e3:.2f}",
            f"{before.ops} → {after.ops}",
            f"{after.flops / 1e6:.3f}",
            f"{after.bytes / 1e6:.3f}",
            f"{before.kernels} → {after.kernels}",
            f"{after.peak_bytes / 1e6:.3f}",
        ))
    _print_table(columns, rows, file)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], file: IO[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(str, row))
    console = Console(file=file)
    # In a pipe there is no width to fit: nothing may be cut.
    console = console if console.is_terminal else Console(file=file, width=200)
    console.print(table)
