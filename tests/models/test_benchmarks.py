"""The timing harness and the demo's parts: what they compute from samples, not how fast anything is."""

from __future__ import annotations

import harness
import pytest
import torch
from zoo import MODELS


def test_speedup_is_the_median_of_paired_ratios():
    comparison = harness.Comparison({"a": [1.0, 2.0, 4.0], "b": [3.0, 4.0, 4.0]})
    assert comparison.speedup("a", "b") == 2.0
    assert comparison.median("a") == 2.0
    assert comparison.as_dict()["medians"] == {"a": 2.0, "b": 4.0}


def test_arms_take_turns_in_alternating_order():
    calls = []
    comparison = harness.compare(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=4, sample_seconds=0.0
    )
    assert "".join(calls[4:]) == "abbaabba" and len(comparison.samples["a"]) == 4


def test_an_error_in_an_arm_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        harness.compare({"a": lambda: 1 / 0})


def test_machine_says_what_a_reader_must_know():
    assert {"processor", "threads", "torch", "tilewright", "omp_wait_policy"} <= harness.machine().keys()


@pytest.mark.parametrize("name", MODELS)
def test_models_are_the_same_on_every_call(name):
    row = MODELS[name]
    first, again = (row.build(small=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values()))
    inputs = row.inputs(first, small=True, batch=3)
    assert all(value.shape[0] == 3 for value in inputs.values())


def test_a_comparison_that_takes_too_long_ends_with_five_samples():
    arms = {"a": lambda: None, "b": lambda: None}
    comparison = harness.compare(arms, rounds=9, sample_seconds=0.0, limit_seconds=0.0)
    assert {len(samples) for samples in comparison.samples.values()} == {5}
