"""Random torch programs, imported, optimised and compiled, against eager; and every bug that they have found.

Programs are traced to ATen as torch.compile does it and built many at a time; some with symbolic sizes, some with NaN
or infinities, some over tensors without elements.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
import torch
from batched import build_programs, run_passes
from random_programs import BF16, BOOL, F16, F32, I64, Input, Program, Step, random_program
from search import excused
from torch.fx.experimental.proxy_tensor import make_fx

import tilewright
from tilewright.decompositions import backend_table
from tilewright.importer import import_graph
from tilewright.ir.errors import UnsupportedGraphError
from tilewright.ir.numerics import compare
from tilewright.passes.lowering.indexing import is_dense

PIPELINES = [
    *["default"] * 3, "canonicalize,simplify,cse,dce,fuse{merge=false},lower,plan-memory", "fuse,lower,plan-memory",
]


def check(program: Program, inputs: list[torch.Tensor], results: list[torch.Tensor]) -> None:
    """The results against eager's, settled in float64; dense layouts must be eager's as well."""
    everything = Program(program.inputs, program.steps, list(range(len(program.inputs) + len(program.steps))))
    exact = everything.in_float64(*inputs)
    floats = [x for x in exact if x.is_floating_point() and x.numel()]
    largest = max((float(x[x.isfinite()].abs().max()) for x in floats if x.isfinite().any()), default=0.0)
    dtypes = [x.dtype for x in everything(*inputs) if x.is_floating_point()]
    coarsest = max((torch.finfo(d).eps for d in dtypes), default=0.0)
    for place, actual, expected in zip(program.results, results, program(*inputs), strict=True):
        if actual.numel() and is_dense(expected.shape, expected.stride()):
            assert [s for n, s in zip(actual.shape, actual.stride()) if n > 1] == \
                [s for n, s in zip(expected.shape, expected.stride()) if n > 1]
        mismatch = compare(actual, expected, exact[place], "widens")
        assert mismatch is None or excused(actual, exact[place], largest, coarsest), f"{mismatch}\n{program}"


def traced(program: Program, inputs: list[torch.Tensor], mode: str):
    trace = make_fx(program, decomposition_table=backend_table(), tracing_mode=mode, _allow_non_fake_inputs=True)
    return import_graph(trace(*inputs))


def check_all(cases: Iterable[tuple[Program, list[torch.Tensor], str, str]]) -> int:
    """Compile programs (each with inputs, tracing mode and pipeline) together, run each twice; how many there were."""
    ready = []
    for program, inputs, mode, pipeline in cases:
        try:
            imported = traced(program, inputs, mode)
        except UnsupportedGraphError as error:
            assert mode == "symbolic" and "mark fewer dims as dynamic" in str(error), f"{error}\n{program}"
            continue
        run_passes(imported.module, pipeline)
        ready.append((program, inputs, imported))
    for (program, inputs, imported), host in zip(ready, build_programs([r[2].module for r in ready])):
        before = [x.clone() for x in inputs]
        for _ in range(2):  # the second call finds an arena in use
            check(program, inputs, host(*inputs, *imported.constants))
        for given, kept in zip(inputs, before):
            torch.testing.assert_close(given, kept, rtol=0, atol=0, equal_nan=True)
    return len(ready)


def drawn(seed: int) -> tuple[Program, list[torch.Tensor], str, str]:
    choose = random.Random(seed)
    program = random_program(seed, layers=False)
    mode = "symbolic" if choose.random() < 0.25 else "fake"
    return program, program.sample(seed, special=choose.random() < 0.15), mode, choose.choice(PIPELINES)


@pytest.mark.parametrize("block", range(4))
def test_random_programs(block):
    assert check_all(map(drawn, range(10 * block, 10 * block + 10))) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("block", range(6))
def test_many_random_programs(block):
    assert check_all(map(drawn, range(100 + 30 * block, 130 + 30 * block))) >= 20


@pytest.mark.parametrize("seed", [2, 11])
def test_through_torch_compile(seed):
    """The whole way, with Dynamo and AOTAutograd."""
    torch._dynamo.reset()
    program = random_program(seed, layers=False)
    inputs = program.sample(seed)
    with torch.no_grad():
        results = torch.compile(program, backend="tilewright", fullgraph=True, dynamic=False)(*inputs)
    assert tilewright.last_compilation().kernels
    check(program, inputs, results)


def row(*shape: int, dtype: torch.dtype = F32, strides: tuple[int, ...] | None = None) -> Input:
    return Input(shape, strides or torch.empty(shape).stride(), dtype)


# What was wrong, and the least program that showed it.
FOUND = {
    "a position of no elements is looked up": Program(
        [row(2, 0, dtype=I64)], [Step("gather", (0, 0), (1,))], [1]),
    "a load of no elements is moved before an empty loop": Program(
        [row(1, 2, 0), row(1, 2, 0)], [Step("add", (1, 0))], [2]),
    "a reduction of no elements has other rows": Program(
        [Input((3, 0), (1, 1), BF16)], [Step("sum", (0,), ([1], True))], [1]),
    "a kernel is called by a word of Python's": Program(
        [row(2, 0, dtype=BOOL), row(0, dtype=BOOL)], [Step("and", (1, 0))], [2]),
    "a running sum starts again with each block": Program(
        [row(67, dtype=BF16)], [Step("cumsum", (0,), (0,)), Step("rms_norm", (1,), (0,))], [2]),
    "a row of scratch is read that nobody wrote": Program(
        [row(3, 2, 1, dtype=F16), row(3, 2, 1, dtype=F16)],
        [Step("mul", (0, 1)), Step("cat", (0, 2), (2,)), Step("gelu", (3,)), Step("amax", (1,), ([0], True)),
         Step("pad", (4,), ((0, -1), 0.0)), Step("minimum", (5, 2))], [6, 7]),
    "a softmax of no rows": Program([row(3, 0, 2)], [Step("softmax", (0,), (0,))], [1]),
    "a reshape of no elements to more dims": Program(
        [row(0)], [Step("reshape", (0,), ((2, 0),)), Step("sin", (1,))], [2]),
}


@pytest.fixture(scope="module")
def found():
    """All of them as traced, compiled together."""
    inputs = {name: program.sample(1172) for name, program in FOUND.items()}
    imported = {name: traced(program, inputs[name], "fake") for name, program in FOUND.items()}
    for one in imported.values():
        run_passes(one.module, "default")
    hosts = build_programs([one.module for one in imported.values()])
    return {name: (inputs[name], imported[name].constants, host) for name, host in zip(FOUND, hosts)}


@pytest.mark.parametrize("name", FOUND)
def test_bugs_that_were_found_stay_away(found, name):
    inputs, constants, host = found[name]
    for _ in range(2):
        check(FOUND[name], inputs, host(*inputs, *constants))
