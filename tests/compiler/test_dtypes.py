"""Dtypes with rules of their own: 8-bit floats, stored and converted; integers, divided and multiplied."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import tilewright

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
VALUES = torch.tensor([
    0.0, -0.0, 1.0, -1.5, 3.14159, 447.0, 448.0, 449.0, 464.0, 465.0, 480.0, 1e5, 57344.0, 61440.0, 1e9, float("inf"),
    -float("inf"), float("nan"), 1e-3, 2**-9, 2**-10, 2**-16, 2**-17, 2**-18, 0.1, -0.2,
])


def same(got: torch.Tensor, want: torch.Tensor) -> None:
    assert (got.dtype, got.shape, got.stride()) == (want.dtype, want.shape, want.stride())
    torch.testing.assert_close(got.float(), want.float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("float8", FLOAT8, ids=str)
def test_8_bit_floats_are_stored_converted_and_moved(float8: torch.dtype) -> None:
    def function(*xs: torch.Tensor) -> list[torch.Tensor]:
        results = []
        for x in xs:
            y = x.to(float8)
            results += [y, y.float() * 2, y.view(2, -1).t().to(x.dtype), torch.cat([y, y]), y.view(-1, 2)[1:].clone()]
        return results

    args = [VALUES.to(dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)]
    model = tilewright.compile(function, args, fallback="error", verify="numeric")
    for got, want in zip(model(*args), function(*args), strict=True):
        same(got, want)


@pytest.mark.parametrize("float8", FLOAT8, ids=str)
def test_8_bit_floats_as_operands_of_wider_arithmetic(float8: torch.dtype) -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x.float() + 1).to(float8), x.bfloat16().sum(-1), x.to(torch.bool), x.t().half()

    x = VALUES[:16].clamp(-400, 400).nan_to_num().view(4, 4).to(float8)
    model = tilewright.compile(function, (x,), fallback="error", verify="numeric")
    for got, want in zip(model(x), function(x), strict=True):
        same(got, want)


def test_arithmetic_on_8_bit_floats_is_refused_as_eager_refuses_it() -> None:
    x = VALUES.to(torch.float8_e5m2)
    model = tilewright.compile(lambda x: x + x, (x,))
    assert [(row["op"], row["reason"]) for row in model.fallbacks] == [("aten.add.Tensor", "8-bit float dtype")]
    with pytest.raises(NotImplementedError, match="add_stub"):
        model(x)


def test_division_of_integers() -> None:
    def function(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
        quotient = torch.div(a, b, rounding_mode="trunc")
        # In these the divisor is not read everywhere.
        partly = F.pad(a // b, [2, 1]), torch.cat([a % b, a]), F.pad(b // a, [3, 0])
        return a // b, a % b, quotient, torch.fmod(a, b), *partly

    for dtype in (torch.int64, torch.int32, torch.int8):
        a, b = torch.tensor([[7, -7, 5], [-5, 100, 3]]).to(dtype), torch.tensor([[2, 3, -2], [-1, 1, 7]]).to(dtype)
        model = tilewright.compile(function, (a, b), fallback="error", verify="numeric")
        for got, want in zip(model(a, b), function(a, b), strict=True):
            assert torch.equal(got, want)
        for position in range(b.numel()):
            zero = b.clone().view(-1)
            zero[position] = 0
            with pytest.raises(RuntimeError, match="ZeroDivisionError"):
                model(a, zero.view(2, 3))
        lowest = torch.full_like(a, torch.iinfo(dtype).min)
        assert torch.equal(model(lowest, torch.full_like(b, -1))[2], lowest)


def test_products_of_integers() -> None:
    def function(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return a @ b, torch.addmm(c, a, b, beta=2, alpha=3), a @ b[:, 0], torch.stack([a, a]) @ torch.stack([b, b]) + c

    args = torch.randint(-9, 9, (5, 7)), torch.randint(-9, 9, (7, 3)), torch.randint(-9, 9, (3,))
    model = tilewright.compile(function, args, fallback="error", verify="numeric")
    for got, want in zip(model(*args), function(*args), strict=True):
        assert torch.equal(got, want)
