"""The search space: which knobs a kernel of a target has, and the schedules that are worth measuring."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from tilewright.codegen.cpp import print_kernel
from tilewright.codegen.cpp.schedule import KNOBS as CPU_KNOBS
from tilewright.codegen.cpp.schedule import Knob
from tilewright.ir.tile import KernelOp

Schedule = Mapping[str, int]
"""Values of the knobs that are not at their defaults."""

def knobs_of(kind: str) -> Mapping[str, Knob]:
    """The knobs that records may set of kernels for a target of `kind`, ``cpu`` or ``gpu``. Those of GPU kernels hang
    together (a held row needs blocks as long as it is), and what does not is not for records yet."""
    return CPU_KNOBS if kind == "cpu" else {}


def text_of(kernel: KernelOp, schedule: Schedule) -> str:
    """The kernel's source with a schedule: candidates with the same text are the same."""
    copy = kernel.clone()
    copy.set_schedule(schedule)
    return print_kernel(copy)


class Space:
    """The candidates of a CPU kernel for calls with so many threads. Knobs that do not change its text have no part in
    it, nor has one thread a choice of when to wake others."""

    def __init__(self, kernel: KernelOp, threads: int):
        self.kernel = kernel
        default = text_of(kernel, {})
        self.values = {
            name: [value for value in knob.values if text_of(kernel, {name: value}) != default]
            for name, knob in CPU_KNOBS.items() if threads > 1 or name != "PARALLEL_WORK"
        }
        self.values = {name: values for name, values in self.values.items() if values}

    def neighbours(self) -> Iterator[Schedule]:
        """The default, then what differs from it in one knob; first the knobs with few values."""
        yield from self.distinct([{}, *(
            {name: value} for name, values in sorted(self.values.items(), key=lambda item: len(item[1]))
            for value in values
        )])

    def combinations(self, values: Mapping[str, int]) -> Iterator[Schedule]:
        """What sets two or more of these values, most of them first."""
        for count in range(len(values), 1, -1):
            for names in itertools.combinations(values, count):
                yield {name: values[name] for name in names}

    def everything(self) -> Iterator[Schedule]:
        """Every schedule of the space, the default first."""
        options = [[None, *values] for values in self.values.values()]
        schedules = (
            {name: value for name, value in zip(self.values, chosen) if value is not None}
            for chosen in itertools.product(*options)
        )
        yield from self.distinct(schedules)

    def distinct(self, schedules: Iterable[Schedule]) -> Iterator[Schedule]:
        """The schedules but for those that print as an earlier one does."""
        seen: set[str] = set()
        for schedule in schedules:
            text = text_of(self.kernel, schedule)
            if text not in seen:
                seen.add(text)
                yield schedule
