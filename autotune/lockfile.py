"""`tilewright.lock`: which schedule each kernel of a model gets, as a text to be reviewed and kept beside the model.

JSON, a line for each target and each kernel, sorted, so that a change of a schedule is a change of a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright.ir.errors import RecordError

from .bundle import write_file
from .lookup import Question, answers, differences
from .records import canonical, parse_json, read_entry

FORMAT = 1
LOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class Locked:
    """A line: the schedule of a kernel on a target, as in a record."""

    kernel: str
    name: str
    target: Mapping[str, Any]
    threads: int
    sizes: Mapping[str, tuple[int, int]]
    schedule: Mapping[str, int]


def read_lock(path: Path) -> list[Locked]:
    """The lines of a lockfile. Raises RecordError, which names the field, and OSError."""
    try:
        with open(path, "rb") as file:
            data = parse_json(file.read(LOCK_BYTES + 1), LOCK_BYTES)
        match data:
            case {"lock": int(number), "targets": dict(targets), "kernels": list(rows), **rest} if not rest:
                pass
            case _:
                raise RecordError("it has no lock, targets and kernels")
        if number != FORMAT:
            raise RecordError(f"it has format {number}; this version reads {FORMAT}")
        return [_locked(row, targets, f"kernels[{i}]") for i, row in enumerate(rows)]
    except RecordError as error:
        raise RecordError(f"the lockfile {path} cannot be used: {error}") from None


def _locked(row: Any, targets: Mapping[str, Any], where: str) -> Locked:
    if not isinstance(row, dict) or not isinstance(row.get("target"), str) or row["target"] not in targets:
        raise RecordError(f"{where} names no target of the file")
    values = read_entry({**row, "target": targets[row["target"]]}, where,
                        ("kernel", "name", "target", "threads", "sizes", "schedule"))
    return Locked(**values)


def lock_text(entries: Iterable[Locked]) -> str:
    """The text of a lockfile with these lines."""
    entries = list(entries)
    facts = sorted({canonical(dict(e.target)) for e in entries})
    names = {text: f"{json.loads(text)['name']}-{json.loads(text)['isa']}-{i}" for i, text in enumerate(facts)}
    rows = sorted(
        canonical({**vars(e), "target": names[canonical(dict(e.target))]}) for e in entries
    )
    rows.sort(key=lambda row: (json.loads(row)["name"], row))
    targets = ",\n".join(f"  {json.dumps(name)}: {text}" for text, name in names.items())
    kernels = ",\n".join(f"  {row}" for row in dict.fromkeys(rows))
    return f'{{\n "lock": {FORMAT},\n "targets": {{\n{targets}\n }},\n "kernels": [\n{kernels}\n ]\n}}\n'


def write_lock(path: Path, entries: Iterable[Locked]) -> None:
    """Write the lockfile, whole."""
    write_file(path, lock_text(entries).encode())


def merged(old: Iterable[Locked], new: Sequence[Locked]) -> list[Locked]:
    """The old lines but for those that answer the same questions as new ones, and the new ones."""
    places = {_place(entry) for entry in new}
    return [entry for entry in old if _place(entry) not in places] + list(new)


def _place(entry: Locked) -> tuple[Any, ...]:
    return entry.kernel, canonical(dict(entry.target)), entry.threads, canonical(dict(entry.sizes))


def locked_schedule(entries: Iterable[Locked], question: Question) -> Mapping[str, int] | None:
    """The schedule that the lockfile has for a kernel."""
    found = answers(entries, question)
    return found[0].schedule if found else None


def why_not_locked(entries: Iterable[Locked], question: Question) -> str:
    """What differs between a kernel and the lockfile's nearest line."""
    same = sorted((differences(e, question) for e in entries if e.kernel == question.kernel), key=len)
    return "; ".join(same[0]) if same else f"kernel: no line is for the IR {question.kernel[:12]}"
