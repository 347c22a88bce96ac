"""The tuner: its budget, its choice, its worker; and tuning real kernels on this machine."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
from typing import Any

import pytest
from record_cases import question

from tilewright.autotune import tuner
from tilewright.autotune.cost import predicted_seconds, rank_correlation, ranked
from tilewright.autotune.lookup import Question, best
from tilewright.autotune.measure import Refused, Worker
from tilewright.autotune.records import parse_record
from tilewright.autotune.space import Space
from tilewright.autotune.tuner import EFFORTS, Task, Untunable, tune
from tilewright.codegen.cpp import KNOBS
from tilewright.ir.target import host_cpu
from tilewright.ir.text import parse_ir
from tilewright.ir.tile import KernelOp

ROWS, COLS = 64, 1000
ROW_SUM = f"""
tile.kernel @row_sum(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {{kind = "loop", outputs = #tw.dims<[1]>, sizes = []}} {{
  tile.for i0 in [{ROWS}] parallel {{
    %sum = tile.for i1 in [{COLS}] vector block [512] reduce ["sum"] : f32 {{
      %a = tile.load %x["{COLS}*i0 + i1"] : f32
      tile.yield %a
    }}
    tile.store %y[i0], %sum
  }}
}}
"""


def task(text: str = ROW_SUM, shapes=((ROWS * COLS, "f32"), (ROWS, "f32"))) -> Task:
    [kernel] = parse_ir(text).ops
    assert isinstance(kernel, KernelOp)
    return Task(kernel, Question.of(kernel, {}, host_cpu(), 1), list(shapes), {}, host_cpu())


class Machine:
    """Stands in for a worker: `seconds` of each schedule with noise, and schedules that fail."""

    def __init__(self, seconds, noise=0.0, failing=None, seed=0):
        self.seconds, self.noise, self.failing = seconds, noise, failing or {}
        self.chance = random.Random(seed)
        self.checked: list[dict[str, int]] = []

    def open(self, *arguments: Any) -> None:
        pass

    def check(self, schedule):
        self.checked.append(dict(schedule))
        self.fail(schedule, "check")

    def sample(self, schedule, calls):
        self.fail(schedule, "sample")
        return self.seconds(schedule) * (1 + self.noise * abs(self.chance.gauss(0, 1)))

    def fail(self, schedule, where):
        outcome = self.failing.get((where, *sorted(schedule.items())))
        if outcome:
            raise Refused(outcome, "as was asked for")


def lanes_of_32(schedule):
    return 1e-4 * (0.8 if schedule.get("LANES") == 32 else 1.0) * (0.9 if schedule.get("SIMDLEN") == 8 else 1.0)


@pytest.mark.parametrize("effort", ["quick", "full"])
def test_the_budget_holds_and_the_default_is_first(effort):
    machine = Machine(lanes_of_32)
    record = tune(task(), effort, machine)  # type: ignore[arg-type]
    measured = [t for t in record.trials if t.outcome == "measured"]
    assert machine.checked[0] == {} == measured[0].schedule
    assert len(measured) == len(machine.checked) <= EFFORTS[effort].candidates <= 16
    assert all(t.samples for t in measured)
    assert parse_record(record.text()) == record
    assert best([record], task().question) == record


def test_knobs_that_help_are_combined():
    record = tune(task(), "full", Machine(lanes_of_32))  # type: ignore[arg-type]
    assert record.schedule == {"LANES": 32, "SIMDLEN": 8}


def test_within_noise_the_default_stays():
    for seed in range(5):
        machine = Machine(lambda schedule: 1e-4, noise=0.05, seed=seed)
        assert tune(task(), "full", machine).schedule == {}  # type: ignore[arg-type]
    slightly = Machine(lambda schedule: 1e-4 * (0.995 if schedule else 1))
    assert tune(task(), "full", slightly).schedule == {}  # type: ignore[arg-type]


def test_tuning_again_gives_the_same_choice():
    chosen = [tune(task(), "full", Machine(lanes_of_32, 0.03, seed=n)).schedule for n in range(6)]  # type: ignore[arg-type]
    assert all(schedule == {"LANES": 32, "SIMDLEN": 8} for schedule in chosen)


def test_a_candidate_that_fails_is_remembered_and_not_tried_again():
    told = []
    failing = {("check", ("LANES", 32)): "wrong", ("sample", ("LANES", 16)): "failed"}
    machine = Machine(lanes_of_32, failing=failing)
    record = tune(task(), "full", machine, on_failure=lambda *failure: told.append(failure))  # type: ignore[arg-type]
    refused = {t.outcome: t for t in record.trials if not t.samples}
    assert refused["wrong"].schedule == {"LANES": 32} and refused["failed"].schedule == {"LANES": 16}
    assert ({"LANES": 32}, "wrong", "as was asked for") in told and "LANES" not in record.schedule
    again = Machine(lanes_of_32)
    record = tune(task(), "full", again, known_failure=lambda s: "known" if s == {"LANES": 32} else None)  # type: ignore[arg-type]
    assert {"LANES": 32} not in again.checked
    assert [t.reason for t in record.trials if t.schedule == {"LANES": 32}] == ["known"]


@pytest.mark.parametrize("where", ["check", "sample"])
def test_a_kernel_whose_default_fails_is_not_tuned(where):
    with pytest.raises(Untunable, match="as was asked for"):
        tune(task(), "quick", Machine(lanes_of_32, failing={(where,): "failed"}))  # type: ignore[arg-type]


def test_a_schedule_of_a_kernel_alike_is_tried_early():
    machine = Machine(lanes_of_32)
    tune(task(), "quick", machine, prior=[{"LANES": 128, "SIMDLEN": 16}])  # type: ignore[arg-type]
    assert machine.checked[1] == {"LANES": 128, "SIMDLEN": 16}


def test_out_of_time_few_samples_are_enough(monkeypatch):
    monkeypatch.setitem(tuner.EFFORTS, "quick", tuner.Effort(8, 0.0, 0.002, (5,), 15))
    record = tune(task(), "quick", Machine(lanes_of_32))  # type: ignore[arg-type]
    assert record.schedule == {} and len(record.trials) == 1


def test_the_space_holds_what_changes_the_source():
    assert Space(task().kernel, 2).values["PARALLEL_WORK"] == [0]  # the default has too little work for threads
    space = Space(task().kernel, 1)
    assert set(space.values) == {"LANES", "SIMDLEN"}
    assert next(iter(space.neighbours())) == {}
    everything = list(space.everything())
    count = (1 + len(KNOBS["LANES"].values)) * (1 + len(KNOBS["SIMDLEN"].values))
    assert len(everything) == count and everything[0] == {}


def test_the_cost_model_ranks():
    kernel = task().kernel
    # Threads are not worth waking for this; the others are bound by memory, and equal.
    target = dataclasses.replace(host_cpu(), cores=2)
    order = ranked(kernel, [{"PARALLEL_WORK": 0}, {"LANES": 32}, {}], target, 2)
    assert order == [{"LANES": 32}, {}, {"PARALLEL_WORK": 0}]
    assert all(predicted_seconds(kernel, schedule, target, 2) > 0 for schedule in order)
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 2], [5, 5, 9]) == pytest.approx(1)


# The worker ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worker():
    with Worker() as made:
        yield made


def test_a_real_kernel_is_measured(worker):
    made = task()
    worker.open(made.kernel, made.shapes, made.sizes, 1)
    for schedule in ({}, {"LANES": 32}):
        worker.check(schedule)
        assert 0 < worker.sample(schedule, 3) < 60


def test_a_killed_worker_loses_its_candidate_only(worker):
    made = task()
    worker.open(made.kernel, made.shapes, made.sizes, 1)
    os.kill(worker.process.pid, signal.SIGKILL)
    with pytest.raises(Refused, match="SIGKILL"):
        worker.check({"LANES": 32})
    worker.check({"LANES": 16})
    assert worker.sample({"LANES": 16}, 2) > 0


HUGE = 1 << 40
ENDLESS = ROW_SUM.replace(f"[{ROWS}] parallel", f"[{HUGE}] serial").replace(f'"{COLS}*i0 + i1"', "i1").replace(
    "%y[i0]", "%y[0]")
CRASHING = ROW_SUM.replace(f'"{COLS}*i0 + i1"', f'"{HUGE}*i0 + {HUGE} + i1"')


@pytest.mark.parametrize(
    ("text", "reason"), [(ENDLESS, "took more than 20 s"), (CRASHING, "SIGSEGV")], ids=["hang", "crash"]
)
@pytest.mark.slow
def test_what_hangs_or_crashes_ends_the_worker_only(text, reason):
    made = task(text)
    with Worker(seconds=20) as worker:
        with pytest.raises(Refused, match=reason):
            worker.open(made.kernel, made.shapes, made.sizes, 1)
        with pytest.raises(Untunable, match=reason):
            tune(made, "quick", worker)
        good = task()
        worker.open(good.kernel, good.shapes, good.sizes, 1)
        worker.check({})
        assert worker.restarts == 2


def test_sizes_that_only_a_call_knows_are_not_tuned(worker):
    made = task()
    dynamic = Task(made.kernel, question(), made.shapes, {"s0": 64}, made.target)
    with pytest.raises(Untunable, match="only when it is called"):
        tune(dynamic, "quick", worker)
