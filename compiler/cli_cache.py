"""`tilewright cache ls|why|diff|export|import|merge|push|pull|gc`: the user's tuning records, and sharing them."""

from __future__ import annotations

import argparse
import datetime
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tilewright.autotune.bundle import (
    TESTED,
    bundle,
    check_writable,
    fetch,
    protocol,
    put,
    read_bundle,
    read_file,
    write_file,
)
from tilewright.autotune.lookup import plain_facts, schedule_text, speedup, why
from tilewright.autotune.records import Record, canonical
from tilewright.autotune.store import FILE, Aside, Store, user_store
from tilewright.ir.errors import RecordError
from tilewright.ir.target import host_cpu


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An action, each with arguments of its own."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, help: str, *positional: tuple[str, str, str | None]) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=help, description=help, allow_abbrev=False)
        for metavar, told, count in positional:
            made.add_argument(metavar.lower(), metavar=metavar, help=told, nargs=count)  # type: ignore[arg-type]
        return made

    listing = action("ls", "list the records")
    listing.add_argument("--json", action="store_true", help="print the records as JSON")
    asking = action("why", "say for each kernel of a model whether its record is found, or which field differs",
                    ("SPEC", "file.py[:function], module:function, or a .pt2 of torch.export", None))
    asking.add_argument("--json", action="store_true", help="print JSON")
    action("diff", "compare with another cache directory or a bundle", ("OTHER", "a directory or a bundle", None))
    exporting = action("export", "write records into a bundle", ("FILE", "the bundle to write", None))
    exporting.add_argument("--kernel", metavar="NAME", action="append", help="only kernels of this name or hash")
    action("import", "take the records of bundles in", ("FILES", "bundles", "+"))
    action("merge", "take the records of other cache directories in", ("DIRECTORIES", "cache directories", "+"))
    action("push", "write the records to a URL, together with what is there", ("URL", "of a bundle", None))
    action("pull", "take the records at a URL in", ("URL", "of a bundle", None))
    collecting = action("gc", "remove damaged lines and records that others outrank")
    collecting.add_argument("--older-than", metavar="DAYS", type=int, help="remove records that are older, too")
    collecting.add_argument("--failures", action="store_true", help="forget which candidates failed: try them again")


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    return int(globals()[f"_{args.action}"](args, user_store()))


def _ls(args: argparse.Namespace, store: Store) -> int:
    contents = store.read()
    records = sorted(contents.records.values(), key=lambda r: (r.name, r.digest()))
    if args.json:
        told = [{**r.as_dict(), "digest": r.digest(), "set_aside": r.digest() in contents.asides} for r in records]
        print(json.dumps(told, indent=1))
        return 0
    rows = []
    for record in records:
        aside, gain = contents.asides.get(record.digest()), speedup(record)
        rows.append((
            record.digest()[:12], record.name, _machine(record), "set aside: " + aside.reason if aside else
            schedule_text(record.schedule), f"{gain:.2f}x" if gain else "", record.found["effort"],
            record.found["date"],
        ))
    if rows:
        _table(("record", "kernel", "target", "schedule", "gain", "effort", "date"), rows)
    print(f"{len(rows)} records in {store.path}" + _told_damage(contents.damaged))
    return 0


def _why(args: argparse.Namespace, store: Store) -> int:
    from .api import compile
    from .spec import load_spec
    from .tuning import tasks_of

    spec = load_spec(args.spec)
    tasks = tasks_of(compile(spec.model, spec.args, spec.kwargs).compilation)
    contents = store.read()
    answers = {task.question.name: why(contents.records, contents.asides, task.question) for task in tasks}
    if args.json:
        print(json.dumps(answers, indent=1))
        return 0
    for name, answer in answers.items():
        print(f"{name}: {answer}")
    print(f"{sum(a.startswith('found') for a in answers.values())} of {len(answers)} kernels have a record"
          + _told_damage(contents.damaged))
    return 0


def _diff(args: argparse.Namespace, store: Store) -> int:
    ours = store.read().usable.values()
    theirs, _ = _records_at(Path(args.other))
    first, second = _used(ours), _used(theirs)
    names = {place: record.name for place, record in {**second, **first}.items()}
    for place, name in sorted(names.items(), key=lambda item: (item[1], item[0])):
        a, b = first.get(place), second.get(place)
        if a is None or b is None:
            print(f"{name}: only {'there' if a is None else 'here'}: {schedule_text((a or b).schedule)}")  # type: ignore[union-attr]
        elif a.schedule != b.schedule:
            print(f"{name}: {schedule_text(a.schedule)} here, {schedule_text(b.schedule)} there")
    same = sum(p in first and p in second and first[p].schedule == second[p].schedule for p in names)
    print(f"{same} kernels have the same schedule in both, {len(names) - same} differ")
    return 0


def _export(args: argparse.Namespace, store: Store) -> int:
    records = list(store.read().usable.values())
    if args.kernel:
        records = [r for r in records if any(r.name == k or r.kernel.startswith(k) for k in args.kernel)]
        if not records:
            raise RecordError(f"no record is of a kernel {' or '.join(args.kernel)}; `tilewright cache ls` lists them")
    write_file(Path(args.file), bundle(records))
    print(f"wrote {len(records)} records to {args.file}")
    return 0


def _import(args: argparse.Namespace, store: Store) -> int:
    for file in args.files:
        _take(store, file, *_records_at(Path(file)))
    return 0


def _merge(args: argparse.Namespace, store: Store) -> int:
    for directory in args.directories:
        if not user_store(Path(directory)).path.is_file():
            raise RecordError(f"{directory} is no cache directory: it has no tuning/{FILE}")
        _take(store, directory, *_records_at(Path(directory)))
    return 0


def _push(args: argparse.Namespace, store: Store) -> int:
    check_writable(args.url)
    _tell_untested(args.url)
    there = fetch(args.url)
    known = read_bundle(there)[0] if there is not None else []
    ours = list(store.read().usable.values())
    put(args.url, bundle([*known, *ours]))
    fresh = len({r.digest() for r in ours} - {r.digest() for r in known})
    print(f"pushed to {args.url}: {fresh} new, {len(known)} were there")
    return 0


def _pull(args: argparse.Namespace, store: Store) -> int:
    _tell_untested(args.url)
    data = fetch(args.url)
    if data is None:
        raise RecordError(f"there is nothing at {args.url}")
    _take(store, args.url, *read_bundle(data))
    return 0


def _gc(args: argparse.Namespace, store: Store) -> int:
    contents = store.read()
    used = {record.digest() for record in _used(contents.usable.values()).values()}
    oldest = ""
    if args.older_than is not None:
        oldest = (datetime.date.today() - datetime.timedelta(days=args.older_than)).isoformat()

    def is_kept(record: Record) -> bool:
        aside = record.digest() in contents.asides
        return (aside or record.digest() in used) and record.found["date"] >= oldest

    gone = store.forget(is_kept, keep_failures=not args.failures) if store.path.exists() else 0
    print(f"removed {gone} lines, kept {len(store.read().records)} records")
    return 0


def _used(records: Iterable[Record]) -> dict[tuple[str, ...], Record]:
    """The record that is used for each kernel, target, number of threads and range of sizes."""
    found: dict[tuple[str, ...], Record] = {}
    for record in records:
        place = (record.kernel, canonical(dict(record.target)), str(record.threads), canonical(dict(record.sizes)))
        known = found.get(place)
        found[place] = record if known is None else max(known, record, key=Record.rank)
    return found


def _records_at(path: Path) -> tuple[list[Record], list[Aside]]:
    """The records of a bundle or of a cache directory. Raises RecordError, which names the path."""
    if path.is_dir():
        contents = user_store(path).read()
        return list(contents.usable.values()), list(contents.asides.values())
    try:
        return read_bundle(read_file(path))
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None


def _take(store: Store, source: str, records: Sequence[Record], asides: Sequence[Aside]) -> None:
    """Keep records from elsewhere, remember the bad ones, and say what became of each."""
    before = _used(store.read().usable.values())
    new = store.add(records)
    for aside in asides:
        store.set_aside(aside.digest, aside.name, aside.reason)
        print(f"set aside {aside.digest[:12]}: {aside.reason}")
    after = _used([*before.values(), *records])
    for place, record in after.items():
        known = before.get(place)
        if known is not None and known.schedule != record.schedule:
            print(f"{record.name}: {schedule_text(record.schedule)} ({record.found['effort']}) from {source} replaces "
                  f"{schedule_text(known.schedule)} ({known.found['effort']})")
    here = plain_facts(host_cpu())
    others = Counter(_machine(r) for r in records if r.target != here)
    told = f"; {others.total()} are for other machines ({', '.join(sorted(others))})" if others else ""
    print(f"{source}: {new} new, {len(records) - new} known, {len(asides)} set aside{told}")


def _tell_untested(url: str) -> None:
    name = protocol(url)
    if name not in TESTED:
        print(f"{name}:// goes through fsspec and was never tested here; tested are {', '.join(TESTED)}")


def _machine(record: Record) -> str:
    return f"{record.target['isa']} x{record.threads}"


def _told_damage(count: int) -> str:
    return f"; {count} damaged lines are not used (`tilewright cache gc` removes them)" if count else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; what came from elsewhere is text, whatever brackets it has."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*head)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
