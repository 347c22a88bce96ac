"""Finding the record of a kernel, and saying which field made a look-up miss."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tilewright.ir.identity import family_hash, kernel_hash, size_positions
from tilewright.ir.target import Target
from tilewright.ir.tile import KernelOp, value_dtype

from .records import Record


class Entry(Protocol):
    """What a look-up compares: a record, or a line of a lockfile."""

    @property
    def kernel(self) -> str: ...
    @property
    def target(self) -> Mapping[str, Any]: ...
    @property
    def threads(self) -> int: ...
    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]: ...
    @property
    def schedule(self) -> Mapping[str, int]: ...


E = TypeVar("E", bound=Entry)


@dataclass(frozen=True)
class Question:
    """A kernel that needs a schedule, for a target and so many threads. `sizes` are the values of its symbolic sizes
    that the schedule is wanted for, by the names of `size_positions`."""

    kernel: str
    family: str
    name: str
    kind: str
    dtypes: tuple[str, ...]
    target: Mapping[str, Any]
    threads: int
    sizes: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(kernel: KernelOp, sizes: Mapping[str, int], target: Target, threads: int) -> Question:
        """The question that `kernel` asks; `sizes` by its own names."""
        places = size_positions(kernel)
        return Question(
            kernel_hash(kernel), family_hash(kernel), kernel.sym_name.data, kernel.kind.data,
            tuple(value_dtype(a) for a in kernel.args), plain_facts(target), threads,
            {places[name]: value for name, value in sizes.items() if name in places},
        )


def plain_facts(target: Target) -> dict[str, Any]:
    """The target's facts as a record that was read has them."""
    return {name: float(value) if name in _FLOATS else value for name, value in target.facts().items()}


_FLOATS = ("bandwidth", "cache_bandwidth", "peak_flops", "launch_seconds")


def differences(entry: Entry, question: Question) -> list[str]:
    """The fields in which an entry does not answer a question, with both values; none where it answers."""
    found = [] if entry.kernel == question.kernel else ["kernel: its IR is another one"]
    for name, here in question.target.items():
        there = entry.target.get(name)
        if there != here:
            found.append(f"target.{name}: {_told(here)} here, {_told(there)} in the record")
    if entry.threads != question.threads:
        found.append(f"threads: {question.threads} here, {entry.threads} in the record")
    for name in sorted({*entry.sizes, *question.sizes}):
        low, high = entry.sizes.get(name, (0, -1))
        value = question.sizes.get(name)
        if value is None or not low <= value <= high:
            found.append(f"sizes.{name}: {value} here, {low} to {high} in the record")
    return found


def _told(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def answers(entries: Iterable[E], question: Question) -> list[E]:
    """The entries that answer the question."""
    return [e for e in entries if e.kernel == question.kernel and not differences(e, question)]


def best(records: Iterable[Record], question: Question) -> Record | None:
    """The record to use, of those that answer."""
    return max(answers(records, question), key=Record.rank, default=None)


def nearest_records(records: Iterable[Record], question: Question) -> list[Record]:
    """Records of kernels that differ from this one in numbers only, on the same target: most alike first. Their
    schedules are worth trying."""
    kin = [r for r in records if r.family == question.family and r.kernel != question.kernel
           and r.target == question.target]
    return sorted(kin, key=lambda record: (record.threads != question.threads, record.name, record.digest()))


def why(records: Mapping[str, Record], asides: Mapping[str, Any], question: Question) -> str:
    """Whether a look-up finds a record, or the fields that made the nearest one miss."""
    usable = [record for key, record in records.items() if key not in asides]
    found = best(usable, question)
    if found is not None:
        return f"found {found.digest()[:12]}: {schedule_text(found.schedule)} ({found.found['effort']})"
    same = [(len(differences(r, question)), r.digest(), r) for r in usable if r.kernel == question.kernel]
    if same:
        _, known, nearest = min(same)
        return f"missed {known[:12]}: " + "; ".join(differences(nearest, question))
    refused = [asides[key] for key, r in records.items() if key in asides and r.kernel == question.kernel]
    if refused:
        return f"set aside {refused[0].digest[:12]}: {refused[0].reason}"
    kin = [r for r in usable if r.family == question.family]
    if kin:
        return f"missed {kin[0].digest()[:12]}: kernel: the record is for other numbers in the same IR"
    return f"missed: kernel: no record is for the IR {question.kernel[:12]}"


def schedule_text(schedule: Mapping[str, int]) -> str:
    """``LANES=32 SIMDLEN=8``, or what stands for the defaults."""
    return " ".join(f"{name}={value}" for name, value in sorted(schedule.items())) or "the default"


def speedup(record: Record) -> float | None:
    """How many times faster than the default the record's schedule is by its samples; None without both."""
    medians = {
        tuple(sorted(t.schedule.items())): statistics.median(t.samples) for t in record.trials if t.samples
    }
    default, chosen = medians.get(()), medians.get(tuple(sorted(record.schedule.items())))
    return default / chosen if default and chosen else None
