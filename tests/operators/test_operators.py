"""A fixed slice of the operator database, the harness that runs it, and the committed result of the whole."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest
import torch

from . import page, report
from .comparing import Outcome, outcome, problems
from .known import KNOWN
from .pool import run_all
from .samples import Sample, copies, samples, variants
from .variants import BACKWARD, CRASH, FORWARD, OK, SKIPPED, WRONG, Plan, Record, run_compiled, run_sample, run_variant

# One variant of so many, in so many tests.
SHARE, BLOCKS = 3, 4


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The tensors are small: threads that wait for each other would cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bad(variant: str, records: list[Record]) -> list[str]:
    """A line for each record that is wrong and not known to be."""
    known = {(row.variant, row.stage, row.dtype, row.index) for row in KNOWN}
    return [
        f"{variant}{r.arguments} {r.dtype} [{r.index}] {r.stage}: {r.status}: {r.detail}"
        for r in records
        if r.status in (WRONG, CRASH) and (variant, r.stage, r.dtype, r.index) not in known
    ]


# The slice.


@pytest.mark.parametrize("block", range(BLOCKS))
def test_first_samples_in_the_interpreter(block):
    """The first sample of every third variant, in float32 or the first dtype that it takes."""
    names = list(variants())[SHARE * block :: SHARE * BLOCKS]
    wrong, ran = [], 0
    for name in names:
        dtype = next((d for d in ("f32", "i64", "bool") if any(True for _ in samples_of(name, d, 1))), None)
        if dtype is not None:
            records = list(run_variant(name, Plan(forward=1, backward=0, compiled=0, dtypes=(dtype,))))
            wrong += bad(name, records)
            ran += any(r.status == OK for r in records)
    assert not wrong, "\n".join(wrong)
    assert ran > 0.9 * len(names)


def samples_of(name: str, dtype: str, count: int, *, grad: bool = False) -> list[Sample]:
    """The first samples of a variant; none where it does not take the dtype."""
    from .samples import has_dtype

    return [s for s, _ in zip(samples(name, dtype, grad=grad), range(count))] if has_dtype(name, dtype) else []


@pytest.mark.slow
@pytest.mark.parametrize("dtype, start", [("f32", 0), ("bf16", 2), ("i64", 4)])
def test_kernels(dtype, start):
    """Every twelfth variant's second sample, compiled together."""
    candidates = []
    for name in list(variants())[start::12]:
        for sample in samples_of(name, dtype, 2)[-1:]:
            record, candidate = run_sample(sample)
            assert record is not None and not bad(name, [record]), record
            candidates += [candidate] if candidate is not None else []
    records = [(c.sample.variant, r) for c, r in zip(candidates, run_compiled(candidates, lambda *_: None))]
    wrong = [line for name, record in records for line in bad(name, [record])]
    assert not wrong, "\n".join(wrong)
    assert len(records) >= 20


@pytest.mark.slow
def test_backward():
    """Every tenth variant's first sample with gradients, in the interpreter and compiled together."""
    candidates, wrong = [], []
    for name in list(variants())[1::10]:
        for sample in samples_of(name, "f32", 1, grad=True):
            record, candidate = run_sample(sample, backward=True)
            wrong += bad(name, [record]) if record is not None else []
            candidates += [candidate] if candidate is not None else []
    for candidate, record in zip(candidates, run_compiled(candidates, lambda *_: None)):
        wrong += bad(candidate.sample.variant, [record])
    assert not wrong, "\n".join(wrong)
    assert len(candidates) >= 40


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: f"{row.variant}-{row.stage}-{row.dtype}-{row.index}")
def test_what_is_known_to_be_wrong_still_is(row):
    assert row.reason
    plan = Plan(forward=row.index + 1, backward=row.index + 1, dtypes=(row.dtype,))
    found = [r for r in run_variant(row.variant, plan) if (r.stage, r.index) == (row.stage, row.index)]
    assert [r.status for r in found if r.status in (WRONG, CRASH)], "it comes out right now: delete the row"


# The committed result.


@pytest.fixture(scope="module")
def results():
    return json.loads(report.RESULTS.read_text())


def test_the_page_is_what_the_result_says(results):
    assert report.PAGE.read_text() == page.page(results), "run `cd tests && python -m operators --page`"


def test_every_variant_was_run_and_nothing_was_wrong(results):
    rows = results["variants"]
    assert results["totals"] == report.totals(rows) and sum(results["totals"].values()) == len(rows)
    samples = results["plan"]["forward"]
    assert (samples is None or samples >= 12) and list(rows) == list(variants())
    known = {row.variant for row in KNOWN}
    assert [name for name, row in rows.items() if ("wrong" in row or "crashes" in row) and name not in known] == []
    assert results["totals"][report.NATIVE] >= 0.7 * len(rows)


# The harness.


def test_a_wrong_result_is_found():
    sample = next(samples("add", "f32"))
    expected = outcome(sample, copies(sample.tensors))
    assert problems(sample, outcome(sample, copies(sample.tensors)), expected) == []
    for changed in (torch.nextafter, None):
        tensors = dict(expected.tensors)
        name, value = next(iter(tensors.items()))
        far = torch.full_like(value, torch.inf)
        tensors[name] = changed(value, far) if changed is not None else value * 1.001
        found = problems(sample, Outcome(tensors), expected)
        assert (found == []) == (changed is not None), found
    tensors[name] = torch.where(torch.arange(value.numel()).view(value.shape) == 0, torch.nan, value)
    assert "wrongly finite or wrongly not" in problems(sample, Outcome(tensors), expected)[0]


def test_a_changed_argument_is_found():
    sample = next(samples("sin", "f32"))

    def changing(x: torch.Tensor) -> list[torch.Tensor]:
        results = sample(x)
        x.add_(1)
        return results

    expected = outcome(sample, copies(sample.tensors))
    assert "argument 0 afterwards" in problems(sample, outcome(changing, copies(sample.tensors)), expected)[0]


def test_random_results_are_compared_by_their_distribution():
    sample = next(s for s in samples("nn.functional.dropout", "f32") if "p=0.5, training=True" in s.text)
    sample = replace(sample, tensors=[torch.ones(2000)])
    expected = outcome(sample, copies(sample.tensors))
    assert problems(sample, outcome(sample, copies(sample.tensors), seed=5), expected) == []
    shifted = outcome(lambda x: [y + 1 for y in sample(x)], copies(sample.tensors), seed=5)
    assert "random; mean" in problems(sample, shifted, expected)[0]


def test_a_view_that_nobody_would_see_is_compared(monkeypatch):
    """AOTAutograd makes views of arguments by itself: a wrong one must not hide behind that."""
    from . import tracing

    true_run = tracing.run
    monkeypatch.setattr(tracing, "run", lambda *args: [x.roll(1) for x in true_run(*args)])
    sample = next(s for s in samples("transpose", "f32") if s.tensors[0].numel() > 4)
    record, _ = run_sample(sample)
    assert record is not None and record.status == WRONG and "WrongViewError" in record.detail


def test_copies_lie_as_the_tensors_do():
    x = torch.arange(12.0).view(3, 4)
    made = copies([x.t(), x[1:, ::2], x, x.new_zeros(1).expand(5)])
    for copy, tensor in zip(made, [x.t(), x[1:, ::2], x, x.new_zeros(1).expand(5)]):
        assert torch.equal(copy, tensor) and copy.stride() == tensor.stride()
        assert copy.storage_offset() == tensor.storage_offset()
    made[0].add_(1)
    assert torch.equal(made[2], x + 1) and made[2].data_ptr() != x.data_ptr()


def test_statuses_follow_from_the_records():
    def status(*rows: tuple[str, list[tuple[str, str]]]) -> str:
        return report.summary([Record(FORWARD, "f32", i, s, reasons=r) for i, (s, r) in enumerate(rows)])["status"]

    left = [("aten.sort.default", "why")]
    assert status((OK, []), (SKIPPED, [])) == report.NATIVE
    assert status((OK, []), (OK, left)) == report.PARTLY
    assert status((OK, left), (OK, left)) == report.FALLBACK
    assert status((WRONG, []), (OK, [])) == report.PARTLY
    assert status(("not traceable", [])) == report.NOT_TRACED
    assert status((SKIPPED, [])) == report.NO_SAMPLES
    backward = Record(BACKWARD, "f32", 0, OK, reasons=left)
    assert report.summary([Record(FORWARD, "f32", 0, OK), backward])["status"] == report.NATIVE


def crash_or_hang(connection):
    """A worker whose second sample ends the process, or never ends."""
    while (task := connection.recv()) is not None:
        variant, plan = task
        for index in range(4):
            if (FORWARD, "f32", index) in plan.skip:
                continue
            connection.send(("at", (FORWARD, "f32", index)))
            if index == 1 and variant == "crash":
                os._exit(11)
            if index == 1 and variant == "hang":
                time.sleep(3600)
            connection.send(("record", Record(FORWARD, "f32", index, OK)))
        connection.send(("done", None))


@pytest.mark.slow
def test_a_worker_that_crashes_or_hangs_does_not_end_the_run():
    finished = {
        done.variant: done.records
        for done in run_all(["fine", "crash", "hang"], Plan(), seconds_per_sample=30, work=crash_or_hang)
    }
    assert [r.status for r in finished["fine"]] == [OK] * 4
    assert {(r.index, r.status) for r in finished["crash"]} == {(0, OK), (1, CRASH), (2, OK), (3, OK)}
    assert next(r for r in finished["crash"] if r.index == 1).detail == "the process ended with 11"
    assert next(r for r in finished["hang"] if r.index == 1).detail == "took more than 30 s"
    assert len(finished["hang"]) == 4
