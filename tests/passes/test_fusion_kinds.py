"""Golden kernels, one for each fusion kind: from the graph through fusion and lowering to C++, so that a change shows.

`pytest tests/passes --update-golden` rewrites them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from batched import run_passes

from tilewright.codegen.cpp import print_kernel
from tilewright.ir.tile import KernelOp

from .fusion_cases import FUSED
from .rulecheck import case_module

GOLDEN = Path(__file__).parent.parent / "golden" / "fusion"


def test_every_kind_has_a_golden_file_and_the_other_way_round():
    assert {path.stem for path in GOLDEN.glob("*.cpp")} == set(FUSED)


@pytest.mark.parametrize("name", sorted(FUSED))
def test_the_kernels_are_the_golden_ones(name, request):
    """Of a case's last dtype, which is the one with most to do: a half is widened and rounded."""
    module = case_module(FUSED[name].case, FUSED[name].case.dtypes.split()[-1])
    [function] = module.ops
    for place, argument in enumerate(function.body.block.args):
        argument.name_hint = "xyz"[place]
    run_passes(module, "fuse,lower")
    printed = "\n".join(print_kernel(op) for op in module.ops if isinstance(op, KernelOp))
    path = GOLDEN / f"{name}.cpp"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(printed)
    assert printed == path.read_text(), "see the diff; --update-golden where it is meant"
