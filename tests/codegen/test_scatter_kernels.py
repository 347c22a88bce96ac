"""Kernels of scatters against the interpreter: every way of combining, shapes, layouts of axes, fused operands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from batched import build_programs, run_passes
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Region

from tilewright.codegen.host import HostProgram
from tilewright.ir import tile, tw
from tilewright.ir.builder import Builder
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.interpreter import run
from tilewright.ir.types import TensorType


@dataclass(frozen=True)
class Case:
    """`index` is the shape of each index tensor, which index `dims`. With `fused` base and updates are computed."""

    fn: str
    dtype: str
    base: tuple[int, ...]
    index: tuple[int, ...]
    dims: tuple[int, ...]
    fused: bool = False


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
    ((7,), (5,), (0,)), ((1,), (1,), (0,)), ((4,), (), (0,)), ((4,), (0,), (0,)), ((4, 0), (3,), (0,)),
    ((5, 128), (9,), (0,)), ((5, 3), (4,), (0,)), ((3, 5, 7), (2, 4), (1,)), ((3, 5, 7), (6,), (0, 1)),
    ((3, 5, 7), (6,), (1, 2)), ((3, 5, 7), (2, 2), (0, 1, 2)), ((2, 3, 4, 5), (7,), (1, 2)), ((13, 11), (17,), (1,)),
]


def cases() -> Iterator[Case]:
    for fn in tw.SCATTERS:
        for shape in SHAPES:
            yield Case(fn, "f32", *shape)
        for dtype in ("f64", "i64", "u8", "bf16", "f16", "bool"):
            if fn in ("set", "max", "min") or dtype not in ("bf16", "f16", "bool"):
                yield Case(fn, dtype, *SHAPES[7])
        yield Case(fn, "f32", (9, 128), (21,), (0,), fused=True)


def module_of(case: Case) -> ModuleOp:
    shape = (*case.base[: case.dims[0]], *case.index, *case.base[case.dims[-1] + 1 :])
    types = [TensorType.get(case.base, case.dtype), TensorType.get(shape, case.dtype)]
    types += [TensorType.get(case.index, "i64")] * len(case.dims)
    block = Block(arg_types=types)
    build = Builder.at_end(block)
    base, updates, *indices = block.args
    if case.fused:
        base = build.constant(0, case.dtype, case.base)
        updates = build.map("mul", build.map("exp", updates), build.constant(0.5, case.dtype))
    build.return_([build.scatter(case.fn, base, indices, updates, case.dims)])
    return ModuleOp([FuncOp("forward", FunctionType.from_lists(types, types[:1]), Region(block))])


def inputs_of(case: Case) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(case.base))
    dtype = getattr(torch, DTYPES[case.dtype].torch_name)
    shape = (*case.base[: case.dims[0]], *case.index, *case.base[case.dims[-1] + 1 :])
    values = [torch.randn(s, generator=generator) * 2 for s in (case.base, shape)]
    if not dtype.is_floating_point:
        values = [v.abs() for v in values]
    indices = [
        torch.randint(-case.base[d], case.base[d], case.index, generator=generator) for d in case.dims
    ]
    return [v.round().to(dtype) if case.fn in ("sum", "prod") else v.to(dtype) for v in values] + indices


CASES = list(cases())


@pytest.fixture(scope="module")
def programs() -> list[HostProgram]:
    modules = [module_of(case) for case in CASES]
    for module in modules:
        run_passes(module, "default")
    return build_programs(modules)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: str(CASES[n]))
def test_kernel(number: int, programs: list[HostProgram]) -> None:
    case, inputs = CASES[number], inputs_of(CASES[number])
    module = module_of(case)
    [expected] = run(module, inputs)
    lowered = module.clone()
    run_passes(lowered, "default")
    tolerance = {"rtol": 1e-6, "atol": 0.0} if case.fused else {"rtol": 0.0, "atol": 0.0}
    for got in (run(lowered, inputs)[0], programs[number](*inputs)[0]):
        torch.testing.assert_close(got, expected, equal_nan=True, **tolerance)


@pytest.mark.parametrize("bad", [5, -6])
def test_a_position_out_of_range_fails(bad: int, programs: list[HostProgram]) -> None:
    number = next(i for i, c in enumerate(CASES) if c.base == (5, 3))
    inputs = inputs_of(CASES[number])
    inputs[2][1] = bad
    with pytest.raises(IndexError):
        programs[number](*inputs)


def test_no_axis_that_may_meet_itself_is_parallel() -> None:
    for case in CASES:
        module = module_of(case)
        run_passes(module, "default")
        for op in module.walk():
            if isinstance(op, tile.UpdateOp):
                around, parent = [], op.parent_op()
                while isinstance(parent, tile.ForOp):
                    around.append(parent)
                    parent = parent.parent_op()
                # As many points in parallel as the result has elements that no index decides, and never more.
                own = 1
                for dim, size in enumerate(case.base):
                    own *= 1 if dim in case.dims else size
                parallel = 1
                for loop in around:
                    parallel *= 1 if loop.kind.data == "serial" else int(loop.trip_count)  # type: ignore[arg-type]
                assert parallel <= own


def test_operands_are_computed_in_the_kernel() -> None:
    module = module_of(next(c for c in CASES if c.fused))
    run_passes(module, "default")
    assert len([op for op in module.ops if isinstance(op, tile.KernelOp)]) == 1
