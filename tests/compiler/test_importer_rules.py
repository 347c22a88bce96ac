"""Every import rule against eager: a case is one call, traced with fixed sizes and interpreted."""

from __future__ import annotations

import itertools

import pytest
from importer_cases import CASES, UNINITIALISED, Case, fixed_size_view_cases
from importer_checks import by_overload, check, results, trace
from operator_cases import CASES as OPERATOR_CASES
from operator_cases import FIXED_SIZE_CASES
from resampling_cases import FIXED_CASES as RESAMPLING_CASES
from scatter_cases import FIXED_SCATTERS, SCATTERS
from training_cases import CASES as TRAINING_CASES
from training_cases import FIXED_CASES as FIXED_TRAINING_CASES

from tilewright.importer import import_graph
from tilewright.importer.table import RULES
from tilewright.ir import interpreter
from tilewright.ir.text import parse_ir, print_ir
from tilewright.random_ops import SEED

FIXED = by_overload([*CASES, *OPERATOR_CASES, *fixed_size_view_cases(), *FIXED_SIZE_CASES, *SCATTERS, *FIXED_SCATTERS])


@pytest.mark.parametrize("overload", FIXED)
def test_rule_with_fixed_sizes(overload: str) -> None:
    for case in FIXED[overload]:
        check(case, symbolic=False)


@pytest.mark.parametrize("overload", FIXED)
def test_text_of_an_imported_call_reads_back(overload: str) -> None:
    module, _ = trace(FIXED[overload][0], symbolic=False)
    text = print_ir(import_graph(module).module)
    assert print_ir(parse_ir(text)) == text


@pytest.mark.parametrize("case", UNINITIALISED, ids=str)
def test_uninitialised_memory_has_shape_and_dtype(case: Case) -> None:
    module, tensors = trace(case, symbolic=False)
    [got] = interpreter.run(import_graph(module).module, tensors)
    want = results(case)[0]
    assert (got.shape, got.dtype) == (want.shape, want.dtype)


def test_every_rule_has_a_case() -> None:
    # Those of training are checked in test_training_rules.py, the seed, which no two calls agree on, in
    # test_randomness.py.
    elsewhere = [*TRAINING_CASES, *FIXED_TRAINING_CASES, *RESAMPLING_CASES]
    cases = [*itertools.chain(*FIXED.values()), *UNINITIALISED, *elsewhere]
    imported = {c.overload for c in cases if c.reason is None}
    assert sorted(map(str, RULES.keys() - imported - {SEED})) == []
