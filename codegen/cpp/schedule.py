"""The choices in how a tile program prints as C++: knobs with defaults, which a kernel's schedule may override."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from tilewright.ir.tile import KernelOp

# More work than any kernel has: threads are never woken.
NEVER = 1 << 62


@dataclass(frozen=True)
class Knob:
    """One choice. `values` are worth trying. Any value from `low` to `high` gives a right kernel that takes no more
    than an eighth of its input's memory besides, since schedules come from elsewhere too; see `Schedule`.

    `numerics` is the class of change that another value makes: ``exact``, or ``reassociates`` where float sums are
    added up in another order.
    """

    default: int
    values: tuple[int, ...]
    low: int
    high: int
    numerics: str
    help: str


KNOBS: dict[str, Knob] = {
    "LANES": Knob(64, (16, 32, 128), 1, 1024, "reassociates",
                  "partial results of a reduction along a row"),
    "SIMDLEN": Knob(0, (8, 16, 32, 64), 0, 256, "reassociates",
                    "iterations that an instruction takes at once (0: the compiler decides)"),
    "COLUMN_BLOCK": Knob(4096, (256, 512, 1024, 2048), 64, 1 << 16, "exact",
                         "the most columns that are reduced side by side"),
    "ROW_BLOCK": Knob(64, (16, 32, 128, 256), 16, 1 << 20, "reassociates",
                      "rows whose columns a thread reduces at a time"),
    "PARALLEL_WORK": Knob(1_000_000, (0, NEVER), 0, NEVER, "reassociates",
                          "work, in additions in a lane, from which on threads are woken"),
}


@dataclass(frozen=True)
class Schedule:
    """Values of the knobs for one kernel. The defaults are what a kernel without a schedule prints with.

    `lanes`: four vectors of 64 bytes of floats, since an addition can begin in every cycle and takes four; the same
    for every target, and so are the results. `column_block`: measured on sums of 8,000,000 floats, whole rows of 4096
    take two thirds of the time of pieces of 512, though their arrays only fit the second-level cache. `row_block`:
    writing and reading partial results moves an eighth of a row a block. `parallel_work`: `tw::parallel_work` of the
    header says more. `simdlen`: OpenMP's clause; 0 leaves it out.
    """

    lanes: int = KNOBS["LANES"].default
    simdlen: int = KNOBS["SIMDLEN"].default
    column_block: int = KNOBS["COLUMN_BLOCK"].default
    row_block: int = KNOBS["ROW_BLOCK"].default
    parallel_work: int = KNOBS["PARALLEL_WORK"].default

    @staticmethod
    def of(kernel: KernelOp) -> Schedule:
        """The schedule that `kernel` carries; knobs that are not of this printer are another target's."""
        return Schedule.make(kernel.knobs)

    @staticmethod
    def make(values: Mapping[str, int]) -> Schedule:
        """A schedule from values by knob, ``{"LANES": 32}``."""
        named = {field.name: values.get(field.name.upper()) for field in fields(Schedule)}
        return Schedule(**{name: value for name, value in named.items() if value is not None})
