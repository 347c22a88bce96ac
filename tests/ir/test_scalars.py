"""The table of scalar functions, and what the C++ kernels make of it, against torch: every function, every dtype."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from tilewright.codegen.cpp import print_file
from tilewright.codegen.cpp.functions import COMBINERS, FUNCTIONS
from tilewright.codegen.native import load_kernels
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.interpreter.philox import philox
from tilewright.ir.scalars import REDUCTIONS, SCALARS, kind_of
from tilewright.ir.target import host_cpu
from tilewright.ir.text import parse_ir

FLOATS, INTS = ("f32", "f64", "bf16"), ("i64", "i32", "i8", "u8")
# Functions with polynomials of our own in f32; the others are the C library's.
INLINE = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sigmoid", "tanh", "erf", "sin", "cos", "rsqrt",
)
INLINE_ULP, LIBRARY_ULP = 2.0, 4.0
CASTS = ("f64", "f32", "bf16", "f16", "f8e4m3", "f8e5m2", "i64", "i32", "i16", "i8", "u8", "bool")
# The order of operations of torch's `lgamma` differs near its zeros, where a relative bound means nothing.
ABSOLUTE = {"lgamma": 1e-6}


def torch_dtype(name: str) -> torch.dtype:
    return getattr(torch, DTYPES[name].torch_name)


def cases() -> list[tuple[str, str]]:
    dtypes = (*FLOATS, *INTS, "bool")
    return [
        (row.name, dtype) for row in SCALARS.values() if row.name != "cast" for dtype in dtypes
        if kind_of(dtype) in row.accepts
    ]


def operand_dtypes(name: str, dtype: str) -> list[str]:
    return ["bool", dtype, dtype] if name == "where" else [dtype] * SCALARS[name].arity


def kernel_text(kernel: str, fn: str, operands: list[str], result: str) -> str:
    pointers = [f"%{n}: !tile.ref<{d}>" for n, d in zip("abc", operands)] + [f"%y: !tile.ref<{result}>"]
    computes = [d if fn == "cast" else DTYPES[d].compute for d in operands]
    loads = "\n".join(f"%v{n} = tile.load %{n}[i] : {d}" for n, d in zip("abc", computes))
    values = ", ".join(f"%v{n}" for n, _ in zip("abc", operands))
    computed = "bool" if result == "bool" else result if fn == "cast" else DTYPES[result].compute
    return (
        f'tile.kernel @{kernel}({", ".join(pointers)}) {{kind = "loop", outputs = #tw.dims<[{len(operands)}]>, '
        f'sizes = ["s0"]}} {{ tile.for i in [s0] vector {{\n{loads}\n%r = tile.map "{fn}" {values} : {computed}\n'
        f"tile.store %y[i], %r }} }}\n"
    )


def result_dtype(name: str, dtype: str) -> str:
    return "bool" if SCALARS[name].result == "bool" else dtype


@pytest.fixture(scope="module")
def functions():
    texts = {
        f"{name}_{dtype}_": kernel_text(
            f"{name}_{dtype}_", name, operand_dtypes(name, dtype), result_dtype(name, dtype)
        )
        for name, dtype in cases()
    }
    texts |= {
        f"cast_{a}_{b}": kernel_text(f"cast_{a}_{b}", "cast", [a], b) for a, b in itertools.product(CASTS, CASTS)
    }
    return load_texts(texts, host_cpu())


def load_texts(texts, target):
    kernels = list(parse_ir("builtin.module {\n" + "".join(texts.values()) + "}").ops)
    half = (len(kernels) + 1) // 2
    sources = [print_file(part, target) for part in (kernels[:half], kernels[half:])]
    return load_kernels(sources, texts, target)


def float_values(dtype: torch.dtype) -> torch.Tensor:
    info = torch.finfo(dtype)
    special = [
        0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 2.0, -2.0, 3.0,
        10.0, info.max, -info.max, info.tiny, -info.tiny, info.tiny / 4, -info.tiny / 4, info.eps, 1 + info.eps,
        88.5, -88.5, -103.5, 700.0, -700.0, 1e5, 2.0**24, 2.0**31,
    ]
    return torch.tensor(special, dtype=torch.float64).to(dtype)


def int_values(dtype: torch.dtype) -> torch.Tensor:
    info = torch.iinfo(dtype)
    return torch.tensor(sorted({info.min, info.min + 1, 0, 1, 2, 3, 5, 7, 8, 31, 32, 63, 64, 100, info.max} | (
        set() if info.min == 0 else {-1, -2, -3, -7, -64}
    )), dtype=dtype)


def values_of(dtype: str) -> torch.Tensor:
    kind = torch_dtype(dtype)
    if kind == torch.bool:
        return torch.tensor([False, True])
    if not kind.is_floating_point:
        return torch.cat([int_values(kind), torch.randint(0 if dtype == "u8" else -100, 100, (20,)).to(kind)])
    return torch.cat([float_values(kind), (torch.randn(30, dtype=torch.float64) * 5).to(kind)])


# Iterations and oscillations: beyond these bounds of the operands torch's own error, or time, grows with them.
POLYNOMIALS = [name for name in SCALARS if "_polynomial_" in name]
BOUNDS: dict[str, tuple[float, ...]] = (
    dict.fromkeys(POLYNOMIALS, (6, 20)) | {"zeta": (120, 200), "digamma": (200,)}
)


def inputs_of(name: str, dtype: str) -> list[torch.Tensor]:
    """All combinations of values that torch answers for."""
    torch.manual_seed(0)
    columns = [values_of(d) for d in operand_dtypes(name, dtype)]
    places = torch.meshgrid(*(torch.arange(len(c)) for c in columns), indexing="ij")
    grid = [column[place.reshape(-1)] for column, place in zip(columns, places)]
    keep = torch.ones(len(grid[0]), dtype=torch.bool)
    for operand, bound in zip(grid, BOUNDS.get(name, ())):
        keep &= ~(operand.abs() > bound) | operand.isinf()
    if name in POLYNOMIALS:
        keep &= ~grid[0].isnan()  # torch then gives what its loop began with
    if kind_of(dtype) == "int" and name in ("floor_div", "trunc_div", "remainder", "fmod"):
        # Torch refuses the first; the second overflows. Both are tested apart.
        keep = (grid[1] != 0) & ~((grid[1] == -1) & (grid[0] == torch.iinfo(grid[0].dtype).min))
    elif name in ("remainder", "fmod"):
        # Torch's vector code gives NaN where the quotient overflows; the remainder is a number there.
        quotient = grid[0].float() / grid[1].float()
        keep = ~(quotient.isinf() & grid[0].isfinite() & (grid[1] != 0))
    return [g[keep].contiguous() for g in grid]


def reference(name: str, args: list[torch.Tensor]) -> torch.Tensor:
    return eval(SCALARS[name].reference, {"torch": torch, "philox": philox}, dict(zip("abc", args)))


def expected_of(name: str, dtype: str, args: list[torch.Tensor]) -> torch.Tensor:
    """What a kernel must give: halves compute in f32 and round once; square roots are those of IEEE, not torch's."""
    if dtype == "bf16" and name != "where":
        wide = torch.float32 if SCALARS[name].exact and name != "sqrt" else torch.float64
    elif name == "sqrt":
        wide = torch.float64
    else:
        return reference(name, args)
    result = reference(name, [a.to(wide) for a in args])
    return result if result.dtype == torch.bool else result.to(args[0].dtype)


def ulp_errors(ours: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """The distance to the exact result (f64), in units of the last place of the nearest element."""
    nearest = exact.to(ours.dtype)
    same = (ours == nearest) | (ours.isnan() & nearest.isnan())
    size = np.maximum(np.abs(nearest.numpy()), np.finfo(nearest.numpy().dtype).tiny)
    errors = (ours.double() - exact.double()).abs() / torch.from_numpy(np.spacing(size)).double()
    return torch.where(same, 0.0, errors.nan_to_num(nan=float("inf")))


def run(function, args: list[torch.Tensor], result: torch.dtype) -> tuple[torch.Tensor, int]:
    y = torch.empty(args[0].shape, dtype=result)
    return y, function(*(a.data_ptr() for a in args), y.data_ptr(), y.numel())


def test_every_function_has_a_text_for_every_kind_it_accepts():
    assert {n: set(t) for n, t in FUNCTIONS.items()} == {r.name: set(r.accepts) for r in SCALARS.values()}


def test_every_reduction_has_a_combiner_for_every_kind_it_accepts():
    assert {n: set(c.update) for n, c in COMBINERS.items()} == {r.name: set(r.accepts) for r in REDUCTIONS.values()}


@pytest.mark.parametrize("name, dtype", cases())
def test_a_function_gives_what_torch_gives(functions, name, dtype):
    args = inputs_of(name, dtype)
    expected = expected_of(name, dtype, args)
    ours, status = run(functions[f"{name}_{dtype}_"], args, expected.dtype)
    assert status == 0
    if SCALARS[name].exact or not expected.dtype.is_floating_point:
        torch.testing.assert_close(ours, expected, rtol=0, atol=0, equal_nan=True)
    elif dtype == "f32":
        exact = reference(name, [a.double() for a in args])
        errors = ulp_errors(ours, exact)
        errors[(ours.double() - exact).abs() <= ABSOLUTE.get(name, 0)] = 0
        worst = int(errors.argmax())
        limit = INLINE_ULP if name in (*INLINE, "pow") else LIBRARY_ULP
        assert errors[worst] <= limit, ([a[worst].item() for a in args], ours[worst], expected[worst])
    else:
        rtol, atol = (1e-13, 1e-300) if dtype == "f64" else (2**-7, 1e-40)
        torch.testing.assert_close(ours, expected, rtol=rtol, atol=atol, equal_nan=True)


@pytest.mark.parametrize("destination", CASTS)
@pytest.mark.parametrize("source", CASTS)
def test_casts_round_and_wrap_as_torch_does(functions, source, destination):
    torch.manual_seed(0)
    x = values_of(source) if source in (*FLOATS, *INTS, "bool") else values_of("f32").to(torch_dtype(source))
    if DTYPES[source].is_float and DTYPES[destination].is_integer:
        # Outside of the destination's range C++ leaves the result open, and so does torch.
        limits = torch.iinfo(torch_dtype(destination))
        wide = x.double()
        x = x[(wide > max(limits.min, -(2**31)) - 1) & (wide < min(limits.max, 2**31 - 1))].contiguous()
    if source.startswith("f8") and destination.startswith("f8"):
        expected = x.float().to(torch_dtype(destination))
    else:
        expected = x.to(torch_dtype(destination))
    ours, _ = run(functions[f"cast_{source}_{destination}"], [x], expected.dtype)
    if expected.dtype.itemsize == 1 and expected.dtype.is_floating_point:
        ours, expected = ours.float(), expected.float()
    torch.testing.assert_close(ours, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f8e4m3", "f8e5m2"])
def test_small_floats_round_to_nearest_even_everywhere(functions, dtype):
    bits = torch.from_numpy(np.arange(0, 1 << 32, 8191, dtype=np.uint64).astype(np.uint32).view(np.float32))
    halfway = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.float16).float()
    x = torch.cat([bits, halfway, halfway * (1 + 2**-11), halfway * (1 - 2**-12)])
    ours, _ = run(functions[f"cast_f32_{dtype}"], [x], torch_dtype(dtype))
    back, _ = run(functions[f"cast_{dtype}_f32"], [ours], torch.float32)
    torch.testing.assert_close(back, x.to(torch_dtype(dtype)).float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", INTS)
@pytest.mark.parametrize("name", ["floor_div", "trunc_div", "remainder", "fmod"])
def test_integer_division_never_traps(functions, name, dtype):
    info = torch.iinfo(torch_dtype(dtype))
    a = torch.tensor([5, info.min], dtype=torch_dtype(dtype))
    zero, minus_one = torch.zeros_like(a), torch.full_like(a, -1 if info.min else 1)
    assert run(functions[f"{name}_{dtype}_"], [a, zero], a.dtype) == (pytest.approx(zero), 2)
    quotient, status = run(functions[f"{name}_{dtype}_"], [a, minus_one], a.dtype)
    expected = a * minus_one if "div" in name else zero
    assert torch.equal(quotient, expected) and status == 0


def dense_sample(step: int) -> torch.Tensor:
    """Every `step`-th float of all exponents, both signs, and the numbers that models compute with more densely."""
    bits = torch.from_numpy(np.arange(0, 1 << 32, step, dtype=np.uint64).astype(np.uint32).view(np.float32))
    return torch.cat([bits, torch.linspace(-20, 20, 400_001), torch.linspace(-1.1, 1.1, 100_001)])


@pytest.fixture(scope="module", params=["native", "generic"])
def inline_functions(request):
    target = host_cpu()
    if request.param == "generic":
        target = replace(target, isa="generic", features=target.features[:1])
    return load_texts({n: kernel_text(n, n, ["f32"], "f32") for n in INLINE}, target)


def exact_f64(name: str, x: torch.Tensor) -> torch.Tensor:
    if name in ("sin", "cos"):
        # Torch's vectorised f64 versions lose accuracy for large arguments.
        with np.errstate(invalid="ignore"):
            return torch.from_numpy(getattr(np, name)(x.double().numpy()))
    return reference(name, [x.double()])


@pytest.mark.parametrize("name", INLINE)
def test_inline_functions_are_within_two_ulp(inline_functions, name):
    x = dense_sample(4001)
    ours, _ = run(inline_functions[name], [x], torch.float32)
    errors = ulp_errors(ours, exact_f64(name, x))
    worst = int(errors.argmax())
    assert errors[worst] <= INLINE_ULP, (x[worst].item(), ours[worst].item())


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", INLINE)
def test_inline_functions_are_within_two_ulp_on_every_float(inline_functions, name):
    for start in range(0, 1 << 32, 1 << 24):
        bits = np.arange(start, start + (1 << 24), dtype=np.uint64).astype(np.uint32)
        x = torch.from_numpy(bits.view(np.float32))
        ours, _ = run(inline_functions[name], [x], torch.float32)
        errors = ulp_errors(ours, exact_f64(name, x))
        worst = int(errors.argmax())
        assert errors[worst] <= INLINE_ULP, (x[worst].item(), ours[worst].item())
