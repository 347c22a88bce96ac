"""Tuning a kernel: which candidates are measured, how long, and which one wins.

The default is measured first, then what differs from it in one knob, then combinations of the knobs that helped. In
each round every candidate that is still in the race takes a turn, so that all see the same machine; a time counts as a
ratio to the default's of the same round. After each stage the slower half leaves (successive halving), but for the
default. The winner is not the fastest sample: of all candidates within noise of the fastest, it is the first in the
order of the space, where the default comes first. So tuning twice gives the same choice, unless two are at the edge.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tilewright.codegen.native import find_compiler
from tilewright.ir.errors import CompilerNotFoundError
from tilewright.ir.target import Target
from tilewright.ir.tile import KernelOp
from tilewright.ir.version import VERSION

from .cost import ranked
from .lookup import Question
from .measure import Refused, Worker
from .records import Record, Trial
from .space import Schedule, Space
from .store import one_line

TIE = 0.01
"""Candidates are equal when their ratios differ by less, and noise comes on top."""


@dataclass(frozen=True)
class Effort:
    """What tuning one kernel may cost: candidates that are measured (the default is one), seconds in all, seconds of
    a sample, samples of each candidate in each stage, samples of the finalists."""

    candidates: int
    seconds: float
    sample_seconds: float
    stages: tuple[int, ...]
    final: int


EFFORTS: dict[str, Effort] = {
    "quick": Effort(8, 20, 0.002, (5,), 15),
    "full": Effort(16, 90, 0.004, (5, 8), 31),
    "exhaustive": Effort(1000, 3600, 0.004, (9,), 31),
}


@dataclass(frozen=True)
class Task:
    """A kernel to tune: the question that its record answers, elements and dtype of its buffers, and its sizes."""

    kernel: KernelOp
    question: Question
    shapes: Sequence[tuple[int, str]]
    sizes: Mapping[str, int]
    target: Target


class Untunable(Exception):
    """A kernel that cannot be measured, with the reason."""


@dataclass
class _Candidate:
    """A schedule in the race. `rounds` are samples by the number of the round."""

    schedule: Schedule
    rounds: dict[int, float] = field(default_factory=dict)

    def ratios(self, default: _Candidate) -> list[float]:
        """Its times over the default's of the same rounds."""
        return [seconds / default.rounds[n] for n, seconds in self.rounds.items() if n in default.rounds]


def tune(
    task: Task, effort: str, worker: Worker, *, prior: Iterable[Schedule] = (),
    known_failure: Callable[[Schedule], str | None] = lambda schedule: None,
    on_failure: Callable[[Schedule, str, str], None] = lambda schedule, outcome, reason: None,
) -> Record:
    """The record of a kernel, measured by `worker`. Raises Untunable.

    `prior` are schedules that served kernels of the same family: they are tried early. `known_failure` gives the
    reason not to try a schedule, `on_failure` is told of each one that fails.
    """
    started = time.perf_counter()
    budget = EFFORTS[effort]
    if task.target.kind != "cpu":
        raise Untunable(f"kernels for {task.target.name} are not measured in this version")
    if task.sizes:
        raise Untunable("its sizes are known only when it is called")
    try:
        find_compiler()
        worker.open(task.kernel, task.shapes, task.sizes, task.question.threads)
    except (Refused, CompilerNotFoundError) as error:
        raise Untunable(one_line(error.reason if isinstance(error, Refused) else str(error))) from None
    race = _Race(task, budget, worker, started, known_failure, on_failure)
    space = Space(task.kernel, task.question.threads)
    if effort == "exhaustive":
        race.enter(space.everything())
    else:
        first, *neighbours = space.neighbours()
        race.enter([first])
        order = space.distinct([first, *prior, *ranked(task.kernel, neighbours, task.target, task.question.threads)])
        race.enter(list(order)[1:])
    race.run_stages()
    if effort == "full":
        race.enter(space.combinations(race.helpful()))
    winner = race.finish()
    trials = [Trial(c.schedule, "measured", tuple(c.rounds.values())) for c in race.candidates] + race.refused
    return Record(
        kernel=task.question.kernel, family=task.question.family, name=task.question.name, kind=task.question.kind,
        target=task.question.target, threads=task.question.threads, dtypes=task.question.dtypes, sizes={},
        schedule=dict(winner.schedule), trials=tuple(trials), versions=versions(),
        found={"effort": effort, "search": "exhaustive" if effort == "exhaustive" else "halving",
               "seconds": round(time.perf_counter() - started, 3), "date": datetime.date.today().isoformat()},
    )


def versions() -> dict[str, str]:
    """The tools whose code was measured."""
    return {"tilewright": VERSION, "compiler": one_line(find_compiler().version)}


class _Race:
    """The candidates of one kernel, in the order in which they entered: the default first."""

    def __init__(
        self, task: Task, budget: Effort, worker: Worker, started: float,
        known_failure: Callable[[Schedule], str | None], on_failure: Callable[[Schedule, str, str], None],
    ):
        self.task, self.budget, self.worker, self.started = task, budget, worker, started
        self.known_failure, self.on_failure = known_failure, on_failure
        self.candidates: list[_Candidate] = []
        self.racing: list[_Candidate] = []
        self.refused: list[Trial] = []
        self.round = 0
        self.calls = 0

    @property
    def default(self) -> _Candidate:
        return self.candidates[0]

    def out_of_time(self) -> bool:
        return time.perf_counter() - self.started > self.budget.seconds

    def enter(self, schedules: Iterable[Schedule]) -> None:
        """Build and check candidates, as long as the budget allows, and take one sample of each."""
        for schedule in schedules:
            is_default = not self.candidates
            if len(self.candidates) >= self.budget.candidates or (self.out_of_time() and not is_default):
                return
            reason = None if is_default else self.known_failure(schedule)
            if reason is not None:
                self.refused.append(Trial(schedule, "failed", (), one_line(reason)))
                continue
            candidate = _Candidate(schedule)
            try:
                self.worker.check(schedule)
                if is_default:
                    seconds = min(self.worker.sample(schedule, 1) for _ in range(3))
                    self.calls = max(1, min(10_000, round(self.budget.sample_seconds / seconds)))
            except Refused as error:
                self.refuse(candidate, error)
                continue
            self.candidates.append(candidate)
            self.racing.append(candidate)
            self.take_turns([candidate] if is_default else [self.default, candidate])

    def take_turns(self, candidates: Sequence[_Candidate]) -> None:
        """One round: a sample of each, every other round backwards. A candidate that fails now leaves."""
        self.round += 1
        for candidate in candidates if self.round % 2 else reversed(candidates):
            try:
                candidate.rounds[self.round] = self.worker.sample(candidate.schedule, self.calls)
            except Refused as error:
                self.refuse(candidate, error)

    def refuse(self, candidate: _Candidate, error: Refused) -> None:
        """Out of the race, and remembered. Raises Untunable where the default fails: then the kernel does."""
        if not candidate.schedule:
            raise Untunable(one_line(error.reason)) from None
        self.candidates = [c for c in self.candidates if c is not candidate]
        self.racing = [c for c in self.racing if c is not candidate]
        self.refused.append(Trial(candidate.schedule, error.outcome, (), one_line(error.reason)))
        self.on_failure(candidate.schedule, error.outcome, error.reason)

    def rounds(self, count: int) -> None:
        """`count` rounds of all that race, or as many (at least five) as there is time for."""
        for _ in range(count):
            self.take_turns(list(self.racing))
            if self.out_of_time() and len(self.default.rounds) >= 5:
                return

    def run_stages(self) -> None:
        """After each stage the slower half leaves."""
        for count in self.budget.stages:
            self.rounds(count)
            by_time = sorted(self.racing, key=self.ratio)
            stay = by_time[: max(2, (len(by_time) + 1) // 2)]
            self.racing = [c for c in self.racing if c in stay or c is self.default]

    def ratio(self, candidate: _Candidate) -> float:
        return statistics.median(candidate.ratios(self.default))

    def helpful(self) -> dict[str, int]:
        """The best value of each knob that alone made the kernel faster."""
        best: dict[str, tuple[float, int]] = {}
        for candidate in self.candidates:
            if len(candidate.schedule) == 1 and (ratio := self.ratio(candidate)) < 1 - TIE:
                [(name, value)] = candidate.schedule.items()
                best[name] = min(best.get(name, (ratio, value)), (ratio, value))
        return {name: value for name, (_, value) in best.items()}

    def finish(self) -> _Candidate:
        """The last rounds, and the winner."""
        self.rounds(self.budget.final)
        return winner(self.racing, self.default)


def winner(candidates: Sequence[_Candidate], default: _Candidate) -> _Candidate:
    """Of the candidates within noise of the fastest, the first. The noise of a median is that of box plots' notches,
    1.58 interquartile ranges over the root of the number of samples (McGill, Tukey and Larsen, 1978)."""
    ratios = {id(c): c.ratios(default) for c in candidates}
    medians = {key: statistics.median(values) for key, values in ratios.items()}
    noise = {key: _notch(values) for key, values in ratios.items()}
    best = min(medians, key=lambda key: medians[key])
    return next(c for c in candidates if medians[id(c)] - medians[best] <= TIE + noise[id(c)] + noise[best])


def _notch(values: Sequence[float]) -> float:
    if len(values) < 4 or min(values) == max(values):
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return 1.58 * (high - low) / len(values) ** 0.5
