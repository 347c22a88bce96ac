"""Every import rule against eager with symbolic sizes; the cases are those of test_importer_rules.py."""

from __future__ import annotations

import pytest
import torch
from importer_cases import BOOL, CASES, F32, I64
from importer_checks import by_overload, check
from operator_cases import CASES as OPERATOR_CASES
from scatter_cases import SCATTERS
from torch.utils._pytree import tree_flatten

# Dtypes and sizes do not act on each other: symbolic sizes are tried with the common dtypes.
SYMBOLIC = by_overload(
    c for c in [*CASES, *OPERATOR_CASES, *SCATTERS]
    if not any(isinstance(a, torch.Tensor) and a.dtype not in (F32, I64, BOOL) for a in tree_flatten(c.args)[0])
)


@pytest.mark.parametrize("overload", SYMBOLIC)
def test_rule_with_symbolic_sizes(overload: str) -> None:
    for case in SYMBOLIC[overload]:
        check(case, symbolic=True)
