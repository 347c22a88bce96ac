"""Random programs through torch.compile (see search.py): a slice of the search, and that the search can find anything.

The whole of it is ``make search``; what it found is in test_random_graphs.py and below.
"""

from __future__ import annotations

import random
from unittest.mock import patch

import pytest
import search
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Input, Program, Step
from search import Case, cases_of, failures, reduced


def check(cases: list[Case]) -> None:
    wrong = [(case, why) for case, why in failures(cases) if case.is_ours(why)]
    assert not wrong, "\n".join(f"{why}\n{case}" for case, why in wrong)


@pytest.mark.parametrize("block", range(2))
def test_a_slice_of_the_search(block):
    check(cases_of(range(20_000 + 20 * block, 20_020 + 20 * block)))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(2))
def test_more_of_the_search(block):
    check(cases_of(range(30_000 + 25 * block, 30_025 + 25 * block)))


@settings(max_examples=10, derandomize=True)
@given(st.lists(st.randoms(use_true_random=False), min_size=3, max_size=3))
def test_drawn_by_hypothesis(choices: list[random.Random]):
    """Hypothesis draws what the programs are made of, and makes a failing one smaller."""
    check([case for case in map(Case.draw, choices) if case.valid()])


def test_a_wrong_kernel_is_found_and_made_small():
    """The search sees a kernel that computes something else, and leaves little but it."""
    program = Program([Input((3, 4), (4, 1))], [
        Step("neg", (0,)), Step("tanh", (0,)), Step("add", (1, 2)), Step("reshape", (3,), ((12,),)),
    ], [4, 1])
    case = Case(program, "plain", 7)
    assert case.valid() and not failures([case])

    def wrongly(modules):
        return [lambda *args, host=host: [r * 1.001 for r in host(*args)] for host in build(modules)]

    build = search.build_programs
    with patch.object(search, "build_programs", wrongly):
        assert "error is too large" in failures([case])[0][1]
        assert len(reduced(case).program.steps) <= 1


FOUND: dict[str, Case] = {
    "a result that is a size, and the size is known": Case(Program(
        [Input((16, 16, 16), (256, 16, 1), torch.bfloat16)], [Step("cumprod", (0,), (0,)), Step("cat", (1, 0), (1,))],
        [2]), "dynamic backward", 7),
    "the least element of halves is looked for among unrounded ones": Case(Program(
        [Input((3,), (1,), torch.bfloat16)], [Step("mul", (0, 0)), Step("amin", (1,), ([0], False))], [2]),
        "dynamic backward", 766052968),
    "the least element of halves is computed again, from a sum that was stored": Case(Program(
        [Input((12,), (1,), torch.bfloat16)], [
            Step("sin", (0,)), Step("slice", (1,), (0, 1, 8, 1)), Step("sum", (2,), ([0], True)), Step("sub", (3, 2)),
            Step("amin", (4,), ([0], True)),
        ], [5]), "backward", 594199177),
    "halves of which another kernel takes the maximum are computed again": Case(Program(
        [Input((17, 100), (100, 1), torch.bfloat16), Input((17, 100), (200, 2), torch.bfloat16)], [
            Step("amin", (1,), ([0], True)), Step("div", (2, 0)), Step("amax", (3,), ([1], False)),
        ], [4]), "backward", 930963681),
    "statistics of unrounded halves beside the rounded ones": Case(Program(
        [Input((4, 5), strides, torch.bfloat16) for strides in ((5, 1), (10, 2), (5, 1))],
        [Step("select", (1,), (0, 2)), Step("silu", (3,)), Step("norm", (4,), (0,)), Step("minimum", (5, 2))],
        [6]), "backward", 74902487),
    "of no elements one is divided by zero": Case(Program(
        [Input((3, 0), (1, 1)), Input((0, 3, 0), (1, 1, 1), torch.int64)],
        [Step("cat", (1, 1), (0,)), Step("pick", (0, 2), (1,)), Step("softplus", (3,))], [4]), "backward", 7),
    "the length of a reduction is a difference": Case(Program(
        [Input((3,), (1,))], [Step("chunk", (0,), (0,)), Step("var", (1,), ([0], True))], [2]), "dynamic", 1040202924),
}
"""What was wrong, and the least case that showed it."""


@pytest.mark.parametrize("name", FOUND)
def test_bugs_that_were_found_stay_away(name):
    check([FOUND[name]])


def test_what_eager_refuses_is_no_case():
    """A write to a leaf that needs a gradient."""
    program = Program([Input((3,), (1,), torch.float32)], [Step("neg_", (0,))], [1])
    assert not Case(program, "backward", 1).valid()
