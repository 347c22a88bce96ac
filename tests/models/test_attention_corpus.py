"""Spellings of attention are found, run without their scores in memory, and are as right as eager; lookalikes stay."""

from __future__ import annotations

import pytest
import torch
from attention_corpus import LOOKALIKES, SPELLINGS, Spelling
from batched import build_programs, run_passes
from torch.fx.experimental.proxy_tensor import make_fx

from tilewright.decompositions import backend_table
from tilewright.importer import import_graph
from tilewright.ir.interpreter import run
from tilewright.ir.numerics import compare
from tilewright.passes.base import PassContext

SIZES = {
    "odd": {"B": 2, "H": 4, "G": 2, "L": 33, "S": 37, "D": 7, "E": 5},
    "blocks": {"B": 1, "H": 2, "G": 1, "L": 67, "S": 521, "D": 16, "E": 32},
    "one query": {"B": 3, "H": 4, "G": 2, "L": 1, "S": 7, "D": 32, "E": 48},
}
FOUND = 43
"""How many of the corpus are recognised at the odd sizes."""


def arguments(spelling: Spelling, size: str, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(len(spelling.name))
    made = []
    for text in spelling.shapes:
        is_mask = text.startswith("bool ")
        shape = [SIZES[size].get(d) or int(d) for d in text.removeprefix("bool ").split()]
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        made.append(x > 0.8 if is_mask else x.to(dtype))
    return made


def compiled(spelling: Spelling, args: list[torch.Tensor]):
    """The module before the passes, after them, and what they say."""
    with torch.no_grad():
        graph = make_fx(spelling.function, decomposition_table=backend_table(), tracing_mode="fake")(*args)
    module = import_graph(graph).module
    before = module.clone()
    context = run_passes(module, "default")
    return before, module, context


def found(context: PassContext) -> int:
    return context.statistics["attention"]["found"]


SOME = {"boolean_mask", "sliding_window", "sink", "grouped_expand", "alibi", "log_sum_exp"}
ALL = [("odd", torch.float32)]
SLOW = [("odd", torch.bfloat16)]
EXHAUSTIVE = [("blocks", torch.float32), ("one query", torch.float32), ("blocks", torch.float16)]


@pytest.mark.parametrize(
    ("size", "dtype", "names"),
    [*((*case, None) for case in ALL), ("blocks", torch.float32, SOME), ("one query", torch.bfloat16, SOME),
     *(pytest.param(*case, None, marks=pytest.mark.slow) for case in SLOW),
     *(pytest.param(*case, None, marks=pytest.mark.exhaustive) for case in EXHAUSTIVE)],
)
def test_corpus(size, dtype, names):
    cases = [(s, arguments(s, size, dtype)) for s in SPELLINGS if names is None or s.name in names]
    made = [compiled(spelling, args) for spelling, args in cases]
    missed = {
        spelling.name: [r.message for r in context.remarks if (r.pass_name, r.kind) == ("attention", "rejected")]
        for (spelling, _), (_, _, context) in zip(cases, made) if not found(context)
    }
    print(f"{len(cases) - len(missed)} of {len(cases)} recognised; missed: {missed}")
    if (size, dtype) in ALL:
        assert len(cases) - len(missed) == FOUND, missed
    for (spelling, args), (before, _, _), program in zip(cases, made, build_programs([m for _, m, _ in made])):
        [actual] = program(*args)
        expected = spelling.function(*args)
        exact = run(before, args, precision="f64")[0]
        problem = compare(actual, expected, exact, "reassociates", factor=4.0)
        assert problem is None, f"{spelling.name}: {problem}"


@pytest.mark.parametrize(("spelling", "reason"), LOOKALIKES, ids=lambda x: getattr(x, "name", ""))
def test_lookalikes_stay(spelling, reason):
    args = arguments(spelling, "odd")
    _, _, context = compiled(spelling, args)
    assert found(context) == 0
    said = [r.message for r in context.remarks if (r.pass_name, r.kind) == ("attention", "rejected")]
    assert any(reason in message for message in said), said
