"""The user's store of tuning records: one file of lines that processes append to and never change.

A line is the sha256 of an entry and the entry, JSON. An entry is a record, a record that was set aside with the reason,
or a candidate that failed. A line counts when its hash is right, so that what a killed process has half written, and
what a disk has damaged, costs that line and no other. Writers hold a lock, begin on a fresh line, and return when the
line is on the disk. What the lines say is a set: their order does not matter, and stores merge by taking all of both.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilewright.codegen.native import cache_directory
from tilewright.ir.errors import RecordError

from .records import OUTCOMES, Record, canonical, digest, parse_json, read_record

FILE = "records.jsonl"

# A line is a record and little more.
_LINE_BYTES = 1 << 21


@dataclass(frozen=True)
class Aside:
    """A record that is not used: its hash (of the text that came, where no record could be read), and why."""

    digest: str
    name: str
    reason: str


@dataclass
class Contents:
    """What a store holds. `damaged` counts the lines that are not as they were written."""

    records: dict[str, Record] = field(default_factory=dict)  # by hash
    asides: dict[str, Aside] = field(default_factory=dict)
    failures: dict[tuple[str, str, str], str] = field(default_factory=dict)  # (kernel, target, schedule) -> reason
    damaged: int = 0

    @property
    def usable(self) -> dict[str, Record]:
        """The records that are not set aside, by hash."""
        return {known: record for known, record in self.records.items() if known not in self.asides}

    def failure(self, kernel: str, target: Mapping[str, Any], schedule: Mapping[str, int]) -> str | None:
        """Why a schedule is known to fail; None where it is not."""
        return self.failures.get(_failure_key(kernel, target, schedule))


def _failure_key(kernel: str, target: Mapping[str, Any], schedule: Mapping[str, int]) -> tuple[str, str, str]:
    return kernel, digest(canonical(dict(target))), canonical(dict(schedule))


class Store:
    """The records in `directory`, which is made when the first one is written."""

    def __init__(self, directory: Path):
        self.directory = Path(directory)
        self.path = self.directory / FILE

    # Reading

    def read(self, wanted: Callable[[bytes], bool] = lambda line: True) -> Contents:
        """All that the lines say of which `wanted` holds; an empty store where there is no file."""
        found = Contents()
        for line in self._lines():
            if not wanted(line):
                continue
            try:
                _take_in(found, line)
            except RecordError:
                found.damaged += 1
        return found

    def _lines(self) -> Iterator[bytes]:
        try:
            with open(self.path, "rb") as file:
                for line in file:
                    if line.strip():
                        yield line.rstrip(b"\n")
        except FileNotFoundError:
            return

    # Writing

    def add(self, records: Iterable[Record]) -> int:
        """Keep records, each once; how many were new. They are on the disk when this returns. Raises OSError."""
        return self._add_lines(_line({"record": record.as_dict()}) for record in records)

    def set_aside(self, digest: str, name: str, reason: str) -> None:
        """Remember not to use a record, and why."""
        self._add_lines([_line({"aside": {"digest": digest, "name": name, "reason": one_line(reason)}})])

    def remember_failure(
        self, kernel: str, target: Mapping[str, Any], schedule: Mapping[str, int], outcome: str, reason: str
    ) -> None:
        """Remember that a schedule of a kernel does not work on a target: it is not tried again."""
        key = _failure_key(kernel, target, schedule)
        failure = dict(zip(("kernel", "target", "schedule"), key)) | {"outcome": outcome, "reason": one_line(reason)}
        self._add_lines([_line({"failure": failure})])

    def forget(self, is_kept: Callable[[Record], bool], *, keep_failures: bool = True) -> int:
        """Write the file anew without the records that are not kept, without what is damaged, and without what is said
        of records that are gone; how many lines went."""
        with self._locked():
            before = sum(1 for _ in self._lines())
            contents = self.read()
            kept = {key: record for key, record in contents.records.items() if is_kept(record)}
            lines = [_line({"record": record.as_dict()}) for record in kept.values()]
            lines += [_line({"aside": vars(aside)}) for key, aside in contents.asides.items() if key in kept]
            if keep_failures:
                lines += [line for line in self._lines() if b'{"failure":' in line[:80] and _is_whole(line)]
            self._replace(lines)
        return before - len(lines)

    def _add_lines(self, lines: Iterable[bytes]) -> int:
        """Append the lines that are not there; how many."""
        new = dict.fromkeys(lines)
        with self._locked():
            for line in self._lines():
                new.pop(line, None)
            self._append(new)
        return len(new)

    def _append(self, lines: Iterable[bytes]) -> None:
        data = b"".join(line + b"\n" for line in lines)
        if not data:
            return
        new = not self.path.exists()
        with open(self.path, "ab+") as file:
            if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                data = b"\n" + data  # what a killed process has begun ends here
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            self._sync_directory()

    def _replace(self, lines: Iterable[bytes]) -> None:
        file = tempfile.NamedTemporaryFile(dir=self.directory, prefix=".work-", delete=False)  # noqa: SIM115
        try:
            with file:
                file.writelines(line + b"\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            os.replace(file.name, self.path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
        self._sync_directory()

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among writers. The lock is a file of its own, since the other one may be replaced; the system frees it
        when its holder dies."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / ".lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def user_store(cache: Path | None = None) -> Store:
    """The records of the user (in `codegen.native.cache_directory`), or of another cache directory."""
    return Store((cache or cache_directory()) / "tuning")


def one_line(text: str) -> str:
    """A reason as records take it: printable, of a bounded length."""
    return "".join(c if c.isprintable() else " " for c in text)[:1000]


def _line(entry: Mapping[str, Any]) -> bytes:
    text = canonical(entry)
    return f"{digest(text)} {text}".encode()


def _is_whole(line: bytes) -> bool:
    known, _, text = line.partition(b" ")
    return len(line) <= _LINE_BYTES and digest(text.decode(errors="replace")).encode() == known


def _take_in(contents: Contents, line: bytes) -> None:
    """Raises RecordError for a line that is not whole, or that says what is not understood."""
    if not _is_whole(line):
        raise RecordError("the line is damaged")
    entry = parse_json(line.partition(b" ")[2], _LINE_BYTES)
    match entry:
        case {"record": data}:
            record = read_record(data)
            contents.records[record.digest()] = record
        case {"aside": {"digest": str(known), "name": str(name), "reason": str(reason)}}:
            contents.asides[known] = Aside(known, name, reason)
        case {"failure": {"kernel": str(kernel), "target": str(target), "schedule": str(schedule),
                          "outcome": str(outcome), "reason": str(reason)}} if outcome in OUTCOMES:
            contents.failures[kernel, target, schedule] = reason
        case _:
            raise RecordError("the line holds no entry of this version")
