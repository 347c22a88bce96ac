"""`tilewright tune SPEC`: measure schedules of a model's kernels on this machine, and keep the best ones."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.ir.errors import RecordError

from .cli_run import positive

if TYPE_CHECKING:
    from .tuning import Tuned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SPEC, the effort, and where the choice is written."""
    parser.add_argument("spec", metavar="SPEC", help="file.py[:function], module:function, or a .pt2 of torch.export")
    parser.add_argument("--effort", choices=("quick", "full", "exhaustive"), default="full",
                        help="quick: 8 candidates a kernel; full: 16 (default); exhaustive: all")
    parser.add_argument("--lockfile", metavar="PATH", type=Path, help="write the schedules into this lockfile, too")
    parser.add_argument("--locked", action="store_true", help="measure nothing: fail where the lockfile lacks a kernel")
    parser.add_argument("--workers", metavar="N", type=positive, default=1,
                        help="processes that measure side by side (default: 1; more disturb each other's times)")
    parser.add_argument("--again", action="store_true", help="measure also what has a record")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Compile, tune, write, print."""
    # As `tilewright run` does: read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from tilewright.autotune.lockfile import Locked, merged, read_lock, write_lock
    from tilewright.autotune.store import user_store

    from .api import compile
    from .cli_compile import progress
    from .spec import load_spec
    from .tuning import tasks_of, tune_all

    if args.locked and args.lockfile is None:
        raise RecordError("--locked needs --lockfile PATH")
    spec = load_spec(args.spec)
    if args.locked:
        compile(spec.model, spec.args, spec.kwargs, lockfile=args.lockfile, locked=True, autotune="off")
        print(f"every kernel has its schedule in {args.lockfile}")
        return 0
    with progress(f"tuning {args.spec}"):
        model = compile(spec.model, spec.args, spec.kwargs, autotune="off")
        tuned = tune_all(
            tasks_of(model.compilation), args.effort, user_store(), workers=args.workers, again=args.again
        )
    if args.lockfile is not None:
        old = read_lock(args.lockfile) if args.lockfile.exists() else []
        new = [
            Locked(t.task.question.kernel, t.task.question.name, t.task.question.target, t.task.question.threads, {},
                   t.record.schedule if t.record else {})
            for t in tuned if not t.task.sizes
        ]
        write_lock(args.lockfile, merged(old, new))
    rows = [_row(each) for each in tuned]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    _print(rows)
    if args.lockfile is not None:
        print(f"wrote {args.lockfile}")
    return 0


def _row(tuned: Tuned) -> dict[str, Any]:
    from tilewright.autotune.lookup import speedup

    row: dict[str, Any] = {"kernel": tuned.task.question.name, "hash": tuned.task.question.kernel}
    if tuned.record is None:
        return {**row, "reason": tuned.reason}
    record = tuned.record
    return {
        **row, "schedule": dict(record.schedule), "gain": speedup(record), "effort": record.found["effort"],
        "measured": sum(bool(t.samples) for t in record.trials),
        "refused": sum(not t.samples for t in record.trials), "seconds": record.found["seconds"],
        "is_new": tuned.is_new, "record": record.digest(),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tilewright.autotune.lookup import schedule_text

    table = Table("kernel", "schedule", "gain", "measured", "refused", "how")
    for row in rows:
        if "reason" in row:
            table.add_row(row["kernel"], "the default", "", "", "", row["reason"])
            continue
        how = f"tuned in {row['seconds']:.1f} s" if row["is_new"] else f"from the records ({row['effort']})"
        gain = f"{row['gain']:.2f}x" if row["gain"] else ""
        table.add_row(row["kernel"], schedule_text(row["schedule"]), gain, str(row["measured"]), str(row["refused"]),
                      how)
    Console().print(table)
    new = sum(row.get("is_new", False) for row in rows)
    print(f"{len(rows)} kernels, {new} tuned now; their records serve autotune=quick and full")
