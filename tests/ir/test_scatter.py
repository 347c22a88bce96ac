"""`tw.scatter` and `tile.update`: verifier, meaning, positions out of range."""

from __future__ import annotations

import pytest
import torch

from tilewright.ir.errors import ParseError, VerifyError
from tilewright.ir.interpreter import run
from tilewright.ir.numerics import random_inputs
from tilewright.ir.stages import verify_stage
from tilewright.ir.text import parse_ir


def tensor(shape: list[int], dtype: str) -> str:
    return f"!tw.tensor<[{', '.join(map(str, shape))}], {dtype}>"


def scatter(
    fn: str, base: list[int], updates: list[int], indices: list[list[int]], dims: list[int], dtype: str = "f32",
    wrap: bool = True, index: str = "i64", updates_dtype: str | None = None,
) -> str:
    """The text of a module with one scatter of its arguments."""
    x, u = tensor(base, dtype), tensor(updates, updates_dtype or dtype)
    types = [tensor(shape, index) for shape in indices]
    names = [f"%i{n}" for n in range(len(indices))]
    arguments = ", ".join(f"{n}: {t}" for n, t in zip(["%x", "%u", *names], [x, u, *types]))
    return (
        f"func.func @forward({arguments}) -> {x} {{\n"
        f'  %r = tw.scatter "{fn}" %x, %u at {", ".join(names)} '
        f"{{dims = #tw.dims<{dims}>, wrap = #tw.scalar<{str(wrap).lower()}>}} : {x}, {u}, {', '.join(types)} -> {x}\n"
        f"  tw.return %r : {x}\n}}"
    )


@pytest.mark.parametrize("text, message", [
    (scatter("mean", [4], [2], [[2]], [0]), "none of set"),
    (scatter("sum", [4], [3], [[2]], [0]), "updates have shape"),
    (scatter("sum", [4], [2], [[2]], [1]), "out of range"),
    (scatter("sum", [4, 4, 4], [2, 4], [[2], [2]], [0, 2]), "adjacent"),
    (scatter("sum", [4, 4], [2], [[2], [1]], [0, 1]), "differ in shape"),
    (scatter("sum", [4, 4], [2], [[2]], [0, 1]), "one index tensor per dim"),
    (scatter("sum", [4], [2], [[2]], [0], index="f32"), "integers"),
    (scatter("sum", [4], [2], [[2]], [0], dtype="bf16"), "does not take bf16"),
    (scatter("prod", [4], [2], [[2]], [0], dtype="bool"), "does not take bool"),
    (scatter("set", [4], [2], [[2]], [0], updates_dtype="f64"), "differ in dtype"),
])
def test_what_does_not_fit_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_ir(text)


def test_updates_take_effect_in_row_major_order() -> None:
    index = torch.tensor([[1, 0], [1, 1]])
    [result] = run(parse_ir(scatter("set", [3], [2, 2], [[2, 2]], [0])), [torch.zeros(3), torch.arange(4.0).view(2, 2),
                                                                       index])
    assert result.tolist() == [1, 3, 0]
    big = torch.tensor([1.0])
    values = torch.tensor([1e8, 1.0, -1e8])
    [result] = run(parse_ir(scatter("sum", [1], [3], [[3]], [0])), [big, values, torch.zeros(3, dtype=torch.int64)])
    assert result.tolist() == [((torch.tensor(1.0) + 1e8 + 1.0) - 1e8).item()]


@pytest.mark.parametrize("fn, expected", [("max", [3.0, 2.0]), ("min", [-1.0, 2.0]), ("prod", [-6.0, 2.0])])
def test_reductions(fn: str, expected: list[float]) -> None:
    module = parse_ir(scatter(fn, [2], [2], [[2]], [0]))
    values, index = torch.tensor([3.0, -1.0]), torch.tensor([-2, 0])
    base = torch.tensor([2.0, 2.0])
    [result] = run(module, [base, values, index])
    assert result.tolist() == expected
    assert base.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("fn", ["max", "min"])
def test_nan_wins(fn: str) -> None:
    module = parse_ir(scatter(fn, [2], [2], [[2]], [0]))
    [result] = run(module, [torch.tensor([float("nan"), 1.0]), torch.tensor([1.0, float("nan")]), torch.tensor([0, 1])])
    assert result.isnan().all()


@pytest.mark.parametrize("position, wrap", [(4, True), (-5, True), (-1, False)])
def test_a_position_out_of_range_is_an_index_error(position: int, wrap: bool) -> None:
    module = parse_ir(scatter("set", [4], [1], [[1]], [0], wrap=wrap))
    with pytest.raises(IndexError, match="out of range"):
        run(module, [torch.zeros(4), torch.ones(1), torch.tensor([position])])


def test_random_inputs_are_in_range() -> None:
    module = parse_ir(scatter("sum", [3, 5], [64], [[64], [64]], [0, 1], wrap=False))
    for seed in range(3):
        run(module, random_inputs(module, seed=seed))


def updating(updates: str) -> str:
    x = tensor([4], "f32")
    return (
        f"func.func @forward(%x: {x}, %y: {x}) -> ({x}, {x}) attributes {{arg_updates = #tw.dims<{updates}>}} {{\n"
        f'  %r = tw.map "add" %x, %y : ({x}, {x}) -> {x}\n  tw.return %r, %r : {x}, {x}\n}}'
    )


@pytest.mark.parametrize("updates, message", [
    ("[2]", "no argument 2"), ("[0, 0]", "does not fit"), ("[0, 1, 1]", "does not fit"),
])
def test_updates_that_do_not_fit_are_refused(updates: str, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify_stage(parse_ir(updating(updates)), "tw")


def test_inputs_stay_as_they_are() -> None:
    module = parse_ir(updating("[0]"))
    verify_stage(module, "tw")
    x, y = torch.ones(4), torch.ones(4)
    first, new = run(module, [x, y])
    assert first.eq(2).all() and new.eq(2).all() and x.eq(1).all()
