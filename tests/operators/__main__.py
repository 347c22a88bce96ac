"""Run the database: ``cd tests && python -m operators`` (see ``--help``)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Two processes share the machine; set before torch starts OpenMP.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from . import page, report
from .pool import run_all
from .samples import DTYPES, variants
from .variants import Plan

BUILD = report.ROOT / "build" / "operators"


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.page:
        page.write()
        return 0
    os.environ.setdefault("TILEWRIGHT_CACHE_DIR", str(options.work / "cache"))
    options.work.mkdir(parents=True, exist_ok=True)
    done_path = options.work / "records.jsonl"
    if not options.resume:
        done_path.unlink(missing_ok=True)
    names = chosen(options.variants, options.range)
    rows = dict(finished(done_path))
    left = [name for name in names if name not in rows]
    plan = Plan(options.forward, options.backward, options.compiled, tuple(options.dtypes.split(",")))
    started = time.monotonic()
    with done_path.open("a") as file:
        for number, done in enumerate(run_all(left, plan, processes=options.processes), 1):
            rows[done.variant] = report.summary(done.records)
            file.write(json.dumps({"variant": done.variant, "row": rows[done.variant]}) + "\n")
            file.flush()
            if not options.quiet:
                show(number, len(left), done.variant, rows[done.variant], done.seconds, time.monotonic() - started)
    rows = {name: rows[name] for name in names}
    if options.results is not None:
        report.save(rows, about(plan, time.monotonic() - started), options.results)
    print_totals(rows)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m operators", description=__doc__)
    made.add_argument("variants", nargs="*", help="names of variants (default: all)")
    made.add_argument("--range", help="variants START:STOP of the database's order")
    made.add_argument("--forward", type=int, help="samples of a dtype (default: all)")
    made.add_argument("--backward", type=int, help="samples that run backward (default: all)")
    made.add_argument("--compiled", type=int, default=3, help="samples of a dtype that are compiled (default: 3)")
    made.add_argument("--dtypes", default=",".join(DTYPES), help="of %(default)s")
    made.add_argument("--processes", type=int, default=2)
    made.add_argument("--resume", action="store_true", help="go on where a run was stopped")
    made.add_argument("--work", type=Path, default=BUILD, help="folder for what can be resumed, and for built kernels")
    made.add_argument("--results", type=Path, help="where the result goes (JSON)")
    made.add_argument("--page", action="store_true", help="only write docs/operators.md again")
    made.add_argument("--quiet", action="store_true")
    return made


def chosen(names: list[str], part: str | None) -> list[str]:
    """The variants asked for."""
    known = list(variants())
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"the database has no {', '.join(unknown)}")
    start, stop = (int(bound) if bound else None for bound in part.split(":")) if part else (None, None)
    return names or known[start:stop]


def finished(path: Path) -> Iterator[tuple[str, Any]]:
    if path.exists():
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            yield entry["variant"], entry["row"]


def show(number: int, count: int, name: str, row: dict[str, Any], seconds: float, elapsed: float) -> None:
    bad = "".join(f"  {kind.upper()} {row[kind]['count']}" for kind in ("wrong", "crashes") if kind in row)
    print(f"[{elapsed:5.0f} s {number:3}/{count}] {name:50} {row['status']:14} {seconds:5.1f} s{bad}", flush=True)


def about(plan: Plan, seconds: float) -> dict[str, Any]:
    """What the numbers depend on."""
    sys.path.insert(0, str(report.ROOT / "benchmarks"))
    from harness import machine

    settings = {name: value for name, value in asdict(plan).items() if name != "skip"}
    return {"machine": machine(), "plan": settings, "seconds": round(seconds)}


def print_totals(rows: dict[str, Any]) -> None:
    for status, count in report.totals(rows).items():
        print(f"{count:4} {status}")
    for kind in ("wrong", "crashes"):
        bad = {name: row[kind] for name, row in rows.items() if kind in row}
        print(f"{sum(b['count'] for b in bad.values()):4} samples {kind}, of {len(bad)} variants")
        for name, found in bad.items():
            for example in found["examples"][:1]:
                where = f"{name} {example['stage']} {example['dtype']} {example['index']}"
                print(f"     {where}: {example['detail'][:300]}")


if __name__ == "__main__":
    sys.exit(main())
