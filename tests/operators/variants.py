"""One operator variant: every sample forward and backward in the interpreter, some of them compiled."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from batched import build_programs, run_passes

from tilewright.codegen.host import HostProgram

from .comparing import Outcome, has_gradients, outcome, problems
from .samples import DTYPES, Sample, copies, has_dtype, neighbours, samples
from .tracing import Traced, WrongViewError, call_in_aten, call_traced

FORWARD, BACKWARD, KERNELS, BACKWARD_KERNELS = "forward", "backward", "kernels", "backward kernels"

OK, WRONG, CRASH, SKIPPED, UNTRACED = "ok", "wrong", "crash", "eager raises", "not traceable"


@dataclass(frozen=True)
class Plan:
    """How much is run: samples of a dtype (None for all), the dtypes, and how many of each dtype are compiled."""

    forward: int | None = None
    backward: int | None = None
    compiled: int = 3
    dtypes: tuple[str, ...] = tuple(DTYPES)
    skip: frozenset[tuple[str, str, int]] = frozenset()


@dataclass
class Record:
    """What happened to a sample at a stage. `reasons` are what keeps it from running natively."""

    stage: str
    dtype: str
    index: int
    status: str
    detail: str = ""
    arguments: str = ""
    reasons: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Candidate:
    """A sample that may be compiled."""

    sample: Sample
    traced: Traced
    expected: Outcome
    is_backward: bool

    @property
    def stage(self) -> str:
        return BACKWARD_KERNELS if self.is_backward else KERNELS


Announce = Callable[[str, str, int], None]

DRAWS, FIRST_SEED = 5, 10
"""Arguments next to a sample's that decide what its own leave open: of few numbers, one rounding decides the error."""


def run_variant(variant: str, plan: Plan, announce: Announce = lambda *_: None) -> Iterator[Record]:
    """The records of a variant. `announce(stage, dtype, index)` is called before each sample."""
    candidates: list[_Candidate] = []
    for dtype in plan.dtypes:
        if not has_dtype(variant, dtype):
            continue
        stages = [(FORWARD, plan.forward), *([(BACKWARD, plan.backward)] if dtype == "f32" else [])]
        for stage, limit in stages:
            kept = _Spread(plan.compiled)
            try:
                yield from _run_samples(variant, dtype, stage, limit, plan, announce, kept)
            except _SamplesError as error:
                yield Record(stage, dtype, error.index, SKIPPED, str(error))
            candidates += kept.chosen()
    if plan.compiled:
        yield from run_compiled(candidates, announce)


class _SamplesError(Exception):
    """The database cannot make a sample."""

    def __init__(self, index: int, error: Exception):
        super().__init__(f"no sample: {_line(error)}")
        self.index = index


def _run_samples(
    variant: str, dtype: str, stage: str, limit: int | None, plan: Plan, announce: Announce, kept: _Spread
) -> Iterator[Record]:
    made = samples(variant, dtype, grad=stage == BACKWARD)
    index = 0
    while limit is None or index < limit:
        try:
            sample = next(made)
        except StopIteration:
            return
        except Exception as error:
            raise _SamplesError(index, error) from None
        index += 1
        if (stage, dtype, sample.index) in plan.skip:
            continue
        announce(stage, dtype, sample.index)
        record, candidate = run_sample(sample, backward=stage == BACKWARD)
        if candidate is not None:
            kept.add(candidate)
        if record is not None:
            yield record


class _Spread:
    """Of all that is added in order, a few from the first to the last."""

    def __init__(self, count: int):
        self.count = count
        self.items: list[_Candidate] = []
        self.step, self.seen = 1, 0

    def add(self, item: _Candidate) -> None:
        if self.seen % self.step == 0:
            self.items.append(item)
        self.seen += 1
        if len(self.items) > 4 * max(1, self.count):
            self.items, self.step = self.items[::2], self.step * 2

    def chosen(self) -> list[_Candidate]:
        if len(self.items) <= self.count:
            return self.items
        last = len(self.items) - 1
        return [self.items[round(i * last / max(1, self.count - 1))] for i in range(self.count)]


def run_sample(sample: Sample, *, backward: bool = False) -> tuple[Record | None, _Candidate | None]:
    """Trace, import and interpret a sample, and compare. No record where there is nothing to run backward."""
    record = Record(BACKWARD if backward else FORWARD, sample.dtype, sample.index, OK, arguments=sample.text)
    try:
        expected = outcome(sample, copies(sample.tensors), grad=backward)
    except Exception as error:  # what the operator does not take; some samples are there to show it
        if backward:
            return None, None
        record.status, record.detail = SKIPPED, _line(error)
        return record, None
    if backward and not has_gradients(expected):
        return None, None
    traced: Traced | None = None

    def call(*tensors: torch.Tensor) -> list[torch.Tensor]:
        nonlocal traced
        traced, results = call_traced(sample, tensors)
        return results

    try:
        actual = outcome(call, copies(sample.tensors), grad=backward)
    except Exception as error:
        _blame(record, error)
        return record, None
    assert traced is not None
    record.reasons = [reason for graph in traced.graphs for reason in graph.reasons]
    _judge(record, sample, traced, actual, expected, backward)
    compilable = record.status == OK and all(graph.module is not None for graph in traced.graphs)
    return record, _Candidate(sample, traced, expected, backward) if compilable else None


def run_compiled(candidates: list[_Candidate], announce: Announce) -> Iterator[Record]:
    """The same samples through kernels, those of all in a few C++ files."""
    ready: list[tuple[_Candidate, list[Any]]] = []
    for candidate in candidates:
        announce(candidate.stage, candidate.sample.dtype, candidate.sample.index)
        modules = [graph.module.clone() for graph in candidate.traced.graphs if graph.module is not None]
        try:
            for module in modules:
                run_passes(module, "default")
        except Exception as error:
            yield _failed(candidate, error)
            continue
        ready.append((candidate, modules))
    for candidate, built in _built(ready):
        announce(candidate.stage, candidate.sample.dtype, candidate.sample.index)
        if isinstance(built, Exception):
            yield _failed(candidate, built)
            continue
        for graph, program in zip(candidate.traced.graphs, built):
            graph.program = program
        sample = candidate.sample
        record = Record(candidate.stage, sample.dtype, sample.index, OK, arguments=sample.text)
        try:
            actual = outcome(candidate.traced, copies(sample.tensors), grad=candidate.is_backward)
        except Exception as error:
            yield _failed(candidate, error)
            continue
        _judge(record, sample, candidate.traced, actual, candidate.expected, candidate.is_backward)
        yield record


Built = tuple[_Candidate, list[HostProgram] | Exception]


def _built(ready: list[tuple[_Candidate, list[Any]]]) -> list[Built]:
    """Programs of all candidates together; one by one where the C++ compiler refuses."""
    try:
        programs = iter(build_programs([module for _, modules in ready for module in modules]))
        return [(candidate, [next(programs) for _ in modules]) for candidate, modules in ready]
    except Exception as error:
        if len(ready) <= 1:
            return [(candidate, error) for candidate, _ in ready]
        return [row for one in ready for row in _built([one])]


def _judge(
    record: Record, sample: Sample, traced: Traced, actual: Outcome, expected: Outcome, backward: bool
) -> None:
    lines = problems(sample, actual, expected, grad=backward)
    if lines and _tracing_differs(sample, expected, backward):
        record.status, record.detail = UNTRACED, f"AOTAutograd alone is not eager: {lines[0]}"
    elif lines and _wrong_nearby(sample, traced, backward):
        record.status, record.detail = WRONG, "; ".join(lines)


def _wrong_nearby(sample: Sample, traced: Traced, backward: bool) -> bool:
    """Whether results are wrong for most arguments next to the sample's, and not by one rounding in these alone."""
    wrong = 0
    for seed in range(DRAWS):
        near = replace(sample, tensors=neighbours(sample.tensors, seed))
        try:
            actual = outcome(traced, copies(near.tensors), grad=backward, seed=FIRST_SEED + seed)
            expected = outcome(near, copies(near.tensors), grad=backward, seed=FIRST_SEED + seed)
        except Exception:  # where the sample itself raised nothing
            return True
        wrong += bool(problems(near, actual, expected, grad=backward))
    return 2 * wrong > DRAWS


def _tracing_differs(sample: Sample, expected: Outcome, backward: bool) -> bool:
    """Whether the graphs that AOTAutograd makes give other results than eager when ATen runs them."""
    try:
        in_aten = outcome(lambda *tensors: call_in_aten(sample, tensors), copies(sample.tensors), grad=backward)
    except Exception:  # it cannot be traced so simply; what is wrong may be ours
        return False
    return bool(problems(sample, in_aten, expected, grad=backward))


def _failed(candidate: _Candidate, error: Exception) -> Record:
    sample = candidate.sample
    record = Record(candidate.stage, sample.dtype, sample.index, CRASH, arguments=sample.text)
    _blame(record, error)
    if record.status == UNTRACED:
        record.status = CRASH
    return record


def _blame(record: Record, error: Exception) -> None:
    """Where the error came from: tracing, which is torch's, or what we make of the graphs."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if _is_ours(f.filename)]
    record.status = WRONG if isinstance(error, WrongViewError) else CRASH if ours else UNTRACED
    place = f" ({'/'.join(ours[-1].filename.split('/')[-2:])}:{ours[-1].lineno})" if ours else ""
    record.detail = _line(error) + place


_OURS = ("/ir/", "/passes/", "/codegen/", "/importer/", "/decompositions.py")


def _is_ours(filename: str) -> bool:
    return "site-packages" not in filename and any(part in filename for part in _OURS)


def _line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
