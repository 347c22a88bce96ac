"""Triton kernels: golden sources for each kind, complete tables, and every kind of kernel run against the interpreter.

`pytest tests/codegen --update-golden` rewrites the golden sources.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import test_scatter_kernels as scatters
import torch
from passes.fusion_cases import FUSED
from passes.random_modules import random_module
from passes.rulecheck import Case, case_module, inputs_of
from passes.test_lower import assert_close
from triton_cases import Launch, difference, execute, launches, lower_for_gpu
from xdsl.dialects.builtin import ModuleOp

from tilewright.codegen.triton import print_kernel
from tilewright.codegen.triton.functions import (
    COMBINERS,
    FUNCTIONS,
    MISSING,
    POINTERS,
    REFUSED,
    SCANNERS,
    TYPES,
    function_text,
)
from tilewright.ir.errors import UnsupportedTargetError
from tilewright.ir.interpreter import run
from tilewright.ir.scalars import REDUCTIONS, SCALARS, SCANS, kind_of
from tilewright.ir.target import GPU_TARGETS, target
from tilewright.ir.tile import ForOp, KernelOp, ReduceOp

GOLDEN = Path(__file__).parent.parent / "golden" / "triton"
WITH_TRITON = importlib.util.find_spec("triton") is not None
DTYPES = ("f32", "f64", "bf16", "f16", "i64", "i32", "i16", "i8", "u8", "bool")


def layer_norm(b: Any, x: Any) -> Any:
    """Over a row that only the call knows the length of."""
    centered = b.map("sub", x, b.reduce("max", x, [1]))
    return b.map("mul", centered, b.map("rsqrt", b.reduce("sum", b.map("mul", centered, centered), [1])))


# What the kinds of fusion leave out: one case for each other form of loops.
FORMS: dict[str, Case] = {
    "transposition": Case("T[40, 50]", lambda b, x: b.map("exp", b.permute(x, [1, 0]))),
    "points": Case("T[128, 64] T[128, 64]", lambda b, x, y: b.map("mul", x, b.map("sigmoid", y)), "bf16"),
    "long_row": Case("T[3, 40000]", lambda b, x: b.map("sub", x, b.reduce("max", x, [1])), "bf16"),
    "unknown_row": Case("T[s0, s1]", layer_norm),
    "columns": Case("T[700, 96]", lambda b, x: b.reduce("sum", b.map("mul", x, x), [0]), "bf16"),
    "two_axes": Case("T[6, 5, 7]", lambda b, x: b.reduce("sum", x, [0, 2])),
    "walked_axes": Case("T[s0, 5, s1]", lambda b, x: b.reduce("max", x, [0, 2])),
    "total": Case("T[900]", lambda b, x: b.reduce("sum", x, [0])),
    "first_of_row": Case("T[s0, s1]", lambda b, x: b.reduce("argmax", x, [1])),
    "unknown_scan": Case("T[s0, s1]", lambda b, x: b.scan("sum", x, 1)),
    "column_scan": Case("T[30, 40]", lambda b, x: b.scan("max", x, 0)),
    "scan_of_positions": Case("T[5, 40]", lambda b, x: b.scan("argmax", x, 1)),
    "scatter": Case("T[9, 40] T[s0, 40] i64[s0]", lambda b, x, u, i: b.scatter("sum", x, [i], u, [0])),
    "look_up": Case("T[50, 40] i32[s0]", lambda b, x, i: b.gather(x, [i], [0]), "bf16"),
    "random": Case("i64[] T[40, 5]", lambda b, s, x: b.map("philox", s, b.constant(3, "i64"), x), "i64"),
    "division": Case("T[40] T[40]", lambda b, x, y: b.map("floor_div", x, y), "i64"),
}
KINDS = {**{name: fusion.case for name, fusion in FUSED.items()}, **FORMS}


def kernels_of(case: Case, dtype: str) -> list[KernelOp]:
    module = case_module(case, dtype)
    [function] = module.ops
    for place, argument in enumerate(function.body.block.args):
        argument.name_hint = "xyz"[place]
    return [op for op in lower_for_gpu(module).ops if isinstance(op, KernelOp)]


def test_every_kind_has_a_golden_source_and_the_other_way_round():
    assert {path.stem for path in GOLDEN.glob("*.py")} == set(KINDS)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_sources_are_the_golden_ones(name, request):
    """Of a case's last dtype, which is the one with most to do: a half is widened and rounded."""
    kernels = kernels_of(KINDS[name], KINDS[name].dtypes.split()[-1])
    printed = "\n\n".join(print_kernel(kernel, target("sm_90")).source for kernel in kernels)
    compile(printed, name, "exec")
    path = GOLDEN / f"{name}.py"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(printed)
    assert printed == path.read_text(), "see the diff; --update-golden where it is meant"


# Tables

def test_every_function_has_a_text_or_a_reason():
    assert set(FUNCTIONS) | set(REFUSED) == set(SCALARS) and not set(FUNCTIONS) & set(REFUSED)
    assert set(COMBINERS) == set(REDUCTIONS) and set(SCANNERS) == set(SCANS)
    assert set(TYPES) == set(POINTERS)
    for name, row in SCALARS.items():
        for dtype in DTYPES:
            if name in FUNCTIONS and kind_of(dtype) in row.accepts:
                dtypes = ["bool", dtype, dtype] if name == "where" else [dtype] * row.arity
                assert function_text(name, dtypes, dtype, list("xyz"[: row.arity])), (name, dtype)


def test_what_cannot_be_said_is_refused_with_the_reason():
    with pytest.raises(UnsupportedTargetError, match="digamma is a series"):
        print_kernel(kernels_of(Case("T[7]", lambda b, x: b.map("digamma", x)), "f32")[0], target("sm_90"))
    [kernel] = kernels_of(Case("f8e4m3[7]", lambda b, x: b.cast(x, "f32")), "f32")
    assert MISSING
    with pytest.raises(UnsupportedTargetError, match="no conversions"):
        print_kernel(kernel, target("sm_80"))
    assert "float8" not in print_kernel(kernel, target("sm_90")).source  # loading widens by itself


# Running

Program = tuple[str, ModuleOp, list[Any]]


def of_kinds(cases: Mapping[str, Case] = KINDS) -> Iterator[Program]:
    for name, case in cases.items():
        for dtype in case.dtypes.split():
            for sizes in ({"s0": 1, "s1": 2}, {"s0": 5, "s1": 101}):
                module = case_module(case, dtype)
                inputs = inputs_of(module, sizes, positive_zero=True)
                if name in ("gather", "look_up", "scatter"):
                    inputs = [x % 9 if x.dtype in (torch.int32, torch.int64) else x for x in inputs]
                if name == "division":
                    inputs[1] = torch.where(inputs[1] == 0, 3, inputs[1])
                yield f"{name} {dtype} {sizes}", module, inputs
                if "s0" not in case.inputs:
                    break


def of_reductions(dtypes: Sequence[str]) -> Iterator[Program]:
    """Held rows, held columns, rows and columns of unknown length, none at all."""
    for fn, row in (*REDUCTIONS.items(), *((f"scan {name}", scan) for name, scan in SCANS.items())):
        for dtype in dtypes:
            if kind_of(dtype) not in row.accepts:
                continue
            for shape, dim in (("[5, 7]", 1), ("[7, 5]", 0), ("[s0, s1]", 1), ("[s0, s1]", 0), ("[3, 0]", 1)):
                case = Case(f"T{shape}", _combining(fn, dim))
                if dtype not in ("f32", "i64") and (shape != "[s0, s1]" or dim == 0):
                    continue
                if fn.startswith(("scan", "arg")) and shape == "[3, 0]":
                    continue
                module = case_module(case, dtype)
                inputs = inputs_of(module, {"s0": 3, "s1": 19}, positive_zero=True)
                if "prod" in fn and kind_of(dtype) == "float":
                    inputs = [x.nan_to_num(1, 1, 1).clamp(-2, 2) for x in inputs]  # inf * 0 hangs on the order
                yield f"{fn} {dtype} {shape} {dim}", module, inputs


def of_functions(dtypes: Sequence[str] = ("f32", "i64", "bool")) -> Iterator[Program]:
    """All functions of a dtype in one program, each a kernel of its own."""
    for dtype in dtypes:
        names = [n for n, row in SCALARS.items() if n in FUNCTIONS and kind_of(dtype) in row.accepts]
        names = [n for n in names if n not in ("philox", "cast", "erfcx")]  # torch has two erfcx that differ
        module = case_module(Case("bool[67] T[67] T[67] T[67]", _applying(names)), dtype)
        inputs = inputs_of(module, {}, positive_zero=True)
        if kind_of(dtype) != "bool":
            # Integers are not divided by zero, nor the smallest by -1; torch's fmod fails where quotients overflow.
            inputs[2] = torch.where((inputs[2].abs() < 1e-6) | (inputs[2] == -1), 1, inputs[2])
        yield f"functions {dtype}", module, inputs
    for source in dtypes:
        others = [d for d in DTYPES if d != source]
        module = case_module(Case("T[67]", _casting(others)), source)
        inputs = inputs_of(module, {})
        if kind_of(source) == "float":
            inputs = [x.nan_to_num(0, 1, 1).clamp(0, 100) for x in inputs]  # machines differ in what an integer lacks
        yield f"casts {source}", module, inputs


def _applying(names: Sequence[str]) -> Any:
    def build(b: Any, condition: Any, x: Any, y: Any, z: Any) -> Any:
        operands = {1: [x], 2: [x, y], 3: [condition, x, z]}
        return [b.map(name, *operands[SCALARS[name].arity]) for name in names]

    return build


def _casting(dtypes: Sequence[str]) -> Any:
    return lambda b, x: [b.cast(x, dtype) for dtype in dtypes]


def _combining(name: str, dim: int) -> Any:
    if name.startswith("scan"):
        return lambda b, x: b.scan(name.removeprefix("scan "), x, dim)
    return lambda b, x: b.reduce(name, x, [dim])


def of_scatters(step: int = 7) -> Iterator[Program]:
    for case in scatters.CASES[::step]:
        yield str(case), scatters.module_of(case), scatters.inputs_of(case)


def of_random_graphs(seeds: range) -> Iterator[Program]:
    for seed in seeds:
        made = random_module(seed)
        yield f"random {seed}", made.module.clone(), made.inputs()


FLAGS = [[1, 0], [0, 1], [0, 0]]
"""What `launches_that_fail` report."""
GROUPS: dict[str, Callable[[], Iterator[Program]]] = {
    "kinds": of_kinds, "functions": of_functions, "scatters": of_scatters,
}


def launched(programs: Iterable[Program]) -> list[tuple[str, Launch]]:
    """Lower, print, and run in the interpreter of the IR."""
    found: list[tuple[str, Launch]] = []
    for name, module, inputs in programs:
        pipeline = "lower" if name.startswith(("functions", "casts")) else "fuse,lower"
        found += [(name, launch) for launch in launches(lower_for_gpu(module, pipeline), inputs)[1]]
    assert found
    return found


def compared(found: Sequence[tuple[str, Launch]], results: Sequence[Any]) -> list[str]:
    """What differs from the interpreter of the IR."""
    wrong = [(name, launch, difference(launch, ours)) for (name, launch), ours in zip(found, results)]
    return [f"{name}: {launch.printed.name}: {text}" for name, launch, text in wrong if text]


def failures(programs: Iterator[Program], *flags: str) -> list[str]:
    found = launched(programs)
    return compared(found, execute((launch for _, launch in found), *flags))


@pytest.fixture(scope="module")
def outcomes():
    """What is wrong in each group, and the flags of what fails; all of it in one process, which takes long to start.
    The stand-in is as fast as it is strict."""
    found = {name: launched(programs()) for name, programs in GROUPS.items()}
    flagged = launches_that_fail()
    results = iter(execute([*(launch for group in found.values() for _, launch in group), *flagged], "--stand-in"))
    wrong: dict[str, Any] = {n: compared(group, [next(results) for _ in group]) for n, group in found.items()}
    return {**wrong, "flags": [buffers[-1].tolist() for buffers in results]}


@pytest.mark.parametrize("group", GROUPS)
def test_printed_kernels_compute_what_their_programs_do(outcomes, group):
    assert not outcomes[group]


def test_what_cannot_be_found_or_divided_is_reported(outcomes):
    assert outcomes["flags"] == FLAGS


@pytest.mark.slow
@pytest.mark.skipif(not WITH_TRITON, reason="needs Triton")
def test_tritons_interpreter_agrees():
    """A slice, which has of each: a mask from a scalar condition, integers that become halves, libdevice, flags."""
    wanted = ("softmax", "points", "two_axes", "first_of_row", "column_scan", "scatter", "division")
    cases = {name: KINDS[name] for name in wanted}
    found = launched(of_kinds(cases))
    found += launched([("casts", case_module(Case("i64[67]", _casting(DTYPES[:4])), "f32"), [torch.arange(67) << 50])])
    flagged = launches_that_fail()
    results = execute([*(launch for _, launch in found), *flagged])
    assert not compared(found, results[: len(found)])
    assert [buffers[-1].tolist() for buffers in results[len(found):]] == FLAGS


@pytest.mark.exhaustive
@pytest.mark.skipif(not WITH_TRITON, reason="needs Triton")
@pytest.mark.parametrize("group", GROUPS)
def test_tritons_interpreter_agrees_on_all(group):
    assert not failures(GROUPS[group]())


@pytest.mark.slow
def test_many_random_graphs():
    assert not failures(of_random_graphs(range(80)), "--stand-in")


@pytest.mark.exhaustive
def test_every_dtype_and_every_scatter():
    assert not failures(of_reductions(DTYPES), "--stand-in")
    assert not failures(of_functions(DTYPES), "--stand-in")
    assert not failures(of_scatters(1), "--stand-in")


def test_lowering_for_a_gpu_keeps_the_meaning():
    for seed in range(40, 60):
        made = random_module(seed)
        assert_close(run(lower_for_gpu(made.module.clone()), made.inputs()), made.module, made.inputs(), "widens")


def launches_that_fail() -> list[Launch]:
    """A look-up behind the table's end, a division by zero, and a look-up that succeeds."""
    look_up = KINDS["look_up"]
    module = lower_for_gpu(case_module(look_up, "bf16"))
    [kernel] = [op for op in module.ops if isinstance(op, KernelOp)]
    printed = print_kernel(kernel, target("sm_90"))
    table, y = torch.randn(50 * 40).bfloat16(), torch.zeros(4 * 40).bfloat16()
    bad = Launch(kernel, printed, {"s0": 4}, [table, torch.tensor([0, 49, 50, 3], dtype=torch.int32), y], [])
    divide = kernels_of(KINDS["division"], "i64")[0]
    zeros = Launch(divide, print_kernel(divide, target("sm_90")), {},
                   [torch.arange(40), torch.arange(40) % 7, torch.zeros(40, dtype=torch.int64)], [])
    good = Launch(kernel, printed, {"s0": 4}, [table, torch.tensor([0, 49, -1, 3], dtype=torch.int32), y], [])
    return [bad, zeros, good]


def test_rows_that_fit_are_held_and_longer_ones_are_walked():
    held, walked = (kernels_of(Case(f"T[9, {n}]", layer_norm), "f32")[0] for n in (4096, 100_000))
    assert any(isinstance(op, ReduceOp) for op in held.walk())
    assert [op.kind.data for op in walked.walk() if isinstance(op, ForOp)] == ["parallel", "vector", "vector", "vector"]
    assert held.knobs["COLS"] == 4096 and "mask" not in print_kernel(held, target("sm_90")).source
    assert all(name in GPU_TARGETS for name, _ in MISSING)
