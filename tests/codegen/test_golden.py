"""Golden C++: one file for each fusion kind, so that a change of the printer shows in review.

`pytest tests/codegen --update-golden` rewrites them.
"""

from __future__ import annotations

import pytest
from kernel_cases import CASES, GOLDEN, read_kernel

from tilewright.codegen.cpp import print_kernel


def test_every_case_has_a_golden_file_and_the_other_way_round():
    assert {path.stem for path in GOLDEN.glob("*.mlir")} == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_printed_kernel_is_the_golden_one(name, request):
    printed = print_kernel(read_kernel(name))
    path = GOLDEN / f"{name}.cpp"
    if request.config.getoption("--update-golden"):
        path.write_text(printed)
    assert printed == path.read_text(), "see the diff; --update-golden where it is meant"
