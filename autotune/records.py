"""Tuning records: JSON that says which schedule a kernel got on a target, and every time that was measured for that.

A record comes from anywhere, so that nothing of it is believed: `parse_record` takes one field after the other, each of
the right type and in range, and refuses the whole record otherwise. It holds numbers for known knobs and texts for
people, which are never executed, opened or looked up: importing one can make a kernel slow, never unsafe.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from tilewright.ir.dtypes import DTYPES
from tilewright.ir.errors import RecordError
from tilewright.ir.target import Target

from .space import knobs_of

FORMAT = 1
EFFORTS = ("off", "quick", "full", "exhaustive")
OUTCOMES = ("measured", "wrong", "failed")

# Bounds of what a record may hold: far above what tuning writes, and small enough to be read without harm.
RECORD_BYTES, TRIALS, SAMPLES, POINTERS, LARGEST = 1 << 20, 1024, 4096, 4096, 1 << 62


@dataclass(frozen=True)
class Trial:
    """A schedule that was tried: seconds per call of each sample, or the reason why there are none."""

    schedule: Mapping[str, int]
    outcome: str
    samples: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Record:
    """The schedule of one kernel on one target.

    `kernel` and `family` are `ir.identity`'s hashes, `name` and `kind` are for people. `target` holds the facts of
    `Target`, `threads` how many a call had. `dtypes` are those of the kernel's pointers; `sizes` the values, from and
    to, that it was tuned for, by the names of `size_positions` (none: all extents are in the kernel). `schedule` has
    the knobs that are not at their defaults, and is that of one of the `trials`. `versions` are of tools. `found` says
    how: ``effort``, ``search``, ``seconds`` and ``date``.
    """

    kernel: str
    family: str
    name: str
    kind: str
    target: Mapping[str, Any]
    threads: int
    dtypes: tuple[str, ...]
    sizes: Mapping[str, tuple[int, int]]
    schedule: Mapping[str, int]
    trials: tuple[Trial, ...]
    versions: Mapping[str, str]
    found: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the number of the format."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["trials"] = [vars(trial) for trial in self.trials]
        return {"format": FORMAT, **values}

    def text(self) -> str:
        """The one text of the record: equal records have equal texts."""
        return canonical(self.as_dict())

    def digest(self) -> str:
        """The sha256 of the text, by which the record is known."""
        return digest(self.text())

    def rank(self) -> tuple[int, int, str]:
        """Of two records for the same kernel and target the one with the higher rank is used, in every store alike: the
        one that took more effort, then the one with more samples; the hash breaks ties."""
        samples = sum(len(trial.samples) for trial in self.trials)
        return EFFORTS.index(self.found["effort"]), samples, self.digest()


def canonical(value: Any) -> str:
    """JSON with sorted keys, without spaces, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def parse_json(text: str | bytes, limit: int = RECORD_BYTES) -> Any:
    """JSON from elsewhere. Raises RecordError for what is too large or too deep, says a key twice, or is none."""
    if len(text) > limit:
        raise RecordError(f"it has {len(text)} bytes, more than the {limit} that are read")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a number")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_constant)
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except ValueError as error:  # JSON and UTF-8 errors are among them
        raise RecordError(f"it is not JSON: {error}") from None


def parse_record(text: str | bytes) -> Record:
    """The record of a JSON text. Raises RecordError, which names the field."""
    return read_record(parse_json(text))


def read_record(data: Any) -> Record:
    """The record of plain data. Raises RecordError, which names the field."""
    values = _take(data, "the record", {"format": _format, **_FIELDS})
    del values["format"]
    record = Record(**values)
    _check_knobs(record.schedule, record.target["kind"], "schedule")
    for i, trial in enumerate(record.trials):
        _check_knobs(trial.schedule, record.target["kind"], f"trials[{i}].schedule")
        if bool(trial.samples) != (trial.outcome == "measured"):
            _refuse(f"trials[{i}].samples", list(trial.samples), f"right for the outcome {trial.outcome!r}")
    if not any(t.outcome == "measured" and t.schedule == record.schedule for t in record.trials):
        _refuse("schedule", dict(record.schedule), "that of one of the trials that were measured")
    return record


def read_entry(data: Any, where: str, names: Sequence[str]) -> dict[str, Any]:
    """The fields `names` of a record, ``target`` and ``schedule`` among them, and no others. Raises RecordError."""
    values = _take(data, where, {name: _FIELDS[name] for name in names})
    _check_knobs(values["schedule"], values["target"]["kind"], f"{where}.schedule")
    return values


def _check_knobs(schedule: Mapping[str, int], kind: str, where: str) -> None:
    knobs = knobs_of(kind)
    for name, value in schedule.items():
        if name not in knobs:
            _refuse(f"{where}.{name}", value, f"a knob of {kind} kernels: {', '.join(knobs)}")
        _integer(knobs[name].low, knobs[name].high)(value, f"{where}.{name}")


# Fields --------------------------------------------------------------------------------------------------------------

Reader = Callable[[Any, str], Any]


def _refuse(where: str, value: Any, takes: str) -> NoReturn:
    told = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    raise RecordError(f"{where} = {told}: it is not {takes}")


def _take(data: Any, where: str, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Exactly these fields, each read."""
    if not isinstance(data, dict):
        _refuse(where, data, "an object")
    for name in data:
        if name not in readers:
            raise RecordError(f"{where} has a field {name[:60]!r} that is not known")
    for name in readers:
        if name not in data:
            raise RecordError(f"{where} has no field {name!r}")
    inside = "" if where == "the record" else f"{where}."
    return {name: reader(data[name], inside + name) for name, reader in readers.items()}


def _format(value: Any, where: str) -> int:
    if type(value) is not int or value != FORMAT:
        _refuse(where, value, f"{FORMAT}, the one that this version reads")
    return value


def _integer(low: int, high: int) -> Reader:
    def read(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            _refuse(where, value, f"an integer from {low} to {high}")
        return value

    return read


def _number(low: float, high: float) -> Reader:
    def read(value: Any, where: str) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            _refuse(where, value, f"a number from {low:g} to {high:g}")
        return float(value)

    return read


def _one_of(*values: str) -> Reader:
    def read(value: Any, where: str) -> str:
        if value not in values or not isinstance(value, str):
            _refuse(where, value, f"one of {', '.join(values)}")
        return value

    return read


def _matching(pattern: str, what: str) -> Reader:
    compiled = re.compile(pattern, re.ASCII)

    def read(value: Any, where: str) -> str:
        if not isinstance(value, str) or len(value) > 256 or not compiled.fullmatch(value):
            _refuse(where, value, what)
        return value

    return read


def _line(value: Any, where: str) -> str:
    """A line for people: it can be printed, and moves no cursor."""
    if not isinstance(value, str) or len(value) > 1000 or not value.isprintable():
        _refuse(where, value, "a line of at most 1000 characters that print")
    return value


def _list(reader: Reader, most: int) -> Reader:
    def read(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > most:
            _refuse(where, value, f"a list of at most {most}")
        return tuple(reader(item, f"{where}[{i}]") for i, item in enumerate(value))

    return read


def _table(key: Reader, reader: Reader, most: int = 64) -> Reader:
    def read(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > most:
            _refuse(where, value, f"an object of at most {most} fields")
        return {key(name, f"a field of {where}"): reader(item, f"{where}.{name}") for name, item in value.items()}

    return read


def _range(value: Any, where: str) -> tuple[int, int]:
    pair = _list(_integer(0, LARGEST), 2)(value, where)
    if len(pair) != 2 or pair[0] > pair[1]:
        _refuse(where, value, "a range, from and to")
    return pair


def _trial(value: Any, where: str) -> Trial:
    return Trial(**_take(value, where, {
        "schedule": _KNOB_VALUES, "outcome": _one_of(*OUTCOMES), "samples": _list(_number(1e-12, 1e6), SAMPLES),
        "reason": _line,
    }))


def _target(value: Any, where: str) -> dict[str, Any]:
    return _take(value, where, {field.name: _TARGET[str(field.type)] for field in fields(Target)} | {
        "kind": _one_of("cpu", "gpu"), "features": _list(_word, 64),
    })


_word = _matching(r"[A-Za-z0-9_.+-]{1,64}", "a word of letters, digits and _.+-")
_identifier = _matching(r"[A-Za-z_][A-Za-z0-9_]{0,199}", "an identifier")
_hash = _matching(r"[0-9a-f]{64}", "a sha256 in hexadecimal digits")
_KNOB_VALUES = _table(_identifier, _integer(-LARGEST, LARGEST), 16)
_TARGET: dict[str, Reader] = {"str": _word, "int": _integer(0, LARGEST), "float": _number(0, 1e30),
                              "tuple[str, ...]": _list(_word, 64)}
_FIELDS: dict[str, Reader] = {
    "kernel": _hash,
    "family": _hash,
    "name": _identifier,
    "kind": _identifier,
    "target": _target,
    "threads": _integer(1, 1 << 20),
    "dtypes": _list(_one_of(*DTYPES), POINTERS),
    "sizes": _table(_matching(r"n[0-9]{1,4}", "n0, n1 …"), _range),
    "schedule": _KNOB_VALUES,
    "trials": _list(_trial, TRIALS),
    "versions": _table(_identifier, _line),
    "found": lambda value, where: _take(value, where, {
        "effort": _one_of(*EFFORTS), "search": _word, "seconds": _number(0, 1e9),
        "date": _matching(r"\d{4}-\d{2}-\d{2}", "a date such as 2026-01-31"),
    }),
}
