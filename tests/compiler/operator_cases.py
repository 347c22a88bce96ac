"""More calls for the tests of the import rules: composed and special functions, views, replacements, searches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from importer_cases import BF16, BOOL, DTYPES, F16, F32, F64, I32, I64, INF, NAN, U8, Case, case, eager, special, x

from tilewright.importer.elementwise import unary_overload
from tilewright.ir.scalars import SCALARS
from tilewright.random_ops import PHILOX

aten = torch.ops.aten
POLYNOMIALS = [f"special_{prefix}{name}" for name in SCALARS if "_polynomial_" in name
               for prefix in ("", *(["shifted_"] if name.startswith("chebyshev") else []))]


def ordered(*values: float, dtype: torch.dtype = F32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def composed_cases() -> Iterator[Case]:
    unary = [
        aten.isposinf.default, aten.isneginf.default, aten.signbit.default, aten.angle.default,
        aten.special_entr.default, aten.alias_copy.default, aten.detach_copy.default, aten.special_log_ndtr.default,
        aten.special_spherical_bessel_j0.default,
    ]
    for overload, dtype in itertools.product(unary, DTYPES):
        if eager(overload, special(dtype)) is not None:
            yield case(overload, special(dtype))
    binary = [
        aten.xlogy.Tensor, aten.special_xlog1py.default, aten.logaddexp.default,
        aten.logaddexp2.default, aten.nextafter.default, aten.gcd.default, aten.lcm.default,
    ]
    for overload, dtype in itertools.product(binary, DTYPES):
        pair = special(dtype).unsqueeze(1), special(dtype)
        if eager(overload, *pair) is not None:
            halves = overload == aten.nextafter.default and dtype in (BF16, F16)
            reason = "the next number of a type whose arithmetic happens in another"
            yield case(overload, *pair, reason=reason if halves else None)
    for dtype in (F32, F64, BF16, F16):
        yield case(aten.frexp.Tensor, special(dtype)[:-3])
        yield case(aten.xlogy.Scalar_Self, 0.0, special(dtype))
        yield case(aten.xlogy.Scalar_Other, special(dtype), 2)
        yield case(aten.special_xlog1py.self_scalar, 0.5, special(dtype))
        yield case(aten.special_xlog1py.other_scalar, special(dtype), -1)
        for decimals in (0, 3, -2):
            yield case(aten.round.decimals, special(dtype), decimals=decimals)
    yield case(aten.logaddexp.default, x(3, 1), x(4, dtype=F64))
    for dtype in (I64, I32, U8):
        values, amounts = special(dtype).unsqueeze(1), torch.tensor([0, 1, 3, 7, 31, 63, 64, 100]).to(dtype)
        for name in ("left", "right"):
            shift = getattr(aten, f"bitwise_{name}_shift")
            yield case(shift.Tensor, values, amounts)
            yield case(shift.Tensor_Scalar, special(dtype), 3)
            yield case(shift.Tensor_Scalar, special(dtype), 64)
            yield case(shift.Scalar_Tensor, 5, special(dtype).abs())
    yield case(aten.bitwise_right_shift.Tensor, x(9, dtype=I64), torch.full((9,), -1))


def special_function_cases() -> Iterator[Case]:
    values = ordered(-0.9, -0.5, -1e-3, 0.0, 1e-6, 0.2, 0.7, 0.999, 1.0, 1.5, 3.7, 20.5, 60.0, NAN)
    names = ["special_modified_bessel_i0", "special_modified_bessel_i1", "special_modified_bessel_k0",
             "special_modified_bessel_k1"]
    for name in names:
        yield case(getattr(aten, name).default, values)
        yield case(getattr(aten, name).default, values.double())
    for dtype, order in itertools.product((F32, F64, BF16, I64), (0, 1, 2, 4)):
        if order != 1 or dtype == F64:  # of order 1 torch's float version is off by 200 ulp
            yield case(aten.polygamma.default, order, (values.nan_to_num().abs() + 0.25).to(dtype))
    yield case(aten.special_zeta.default, ordered(2, 3.5, 1, 0.5, NAN).unsqueeze(1), values)
    yield case(aten.special_zeta.self_scalar, 2.5, x(7).abs())
    yield case(aten.special_zeta.other_scalar, x(7).abs() + 2, 1.5)
    for name in POLYNOMIALS:
        packet, points = getattr(aten, name), x(9, dtype=F64)
        degrees = torch.arange(-1, 12, dtype=F64).unsqueeze(1)
        yield case(packet.default, points, degrees)
        yield case(packet.default, ordered(-1, 0, 0.5, 1, 2), degrees[:6].float())
        yield case(packet.n_scalar, points, 5)
        yield case(packet.x_scalar, 0.3, degrees)


def named_function_cases() -> Iterator[Case]:
    """The functions of the table whose names in ATen begin with ``special_``."""
    for name, row in SCALARS.items():
        if row.arity == 1 and not hasattr(aten, name) and (overload := unary_overload(name)) is not None:
            for dtype in (F32, F64, I64):
                yield case(overload, special(dtype)[:8])


def copy_cases() -> Iterator[Case]:
    y = x(3, 4, 5)
    yield case(aten.view_copy.default, y, [12, 5])
    yield case(aten.view_copy.dtype, y, F32)
    yield case(aten._reshape_copy.default, y, [5, 12])
    yield case(aten.unsqueeze_copy.default, y, 1)
    yield case(aten.squeeze_copy.default, x(3, 1, 2))
    yield case(aten.squeeze_copy.dim, x(3, 1, 2), 1)
    yield case(aten.squeeze_copy.dims, x(3, 1, 1), [1, 2])
    yield case(aten.t_copy.default, x(3, 4))
    yield case(aten.transpose_copy.int, y, 0, 2)
    yield case(aten.permute_copy.default, y, [2, 0, 1])
    yield case(aten.expand_copy.default, x(3, 1), [2, 3, 4])
    yield case(aten.slice_copy.Tensor, y, 1, 1, 3)
    yield case(aten.select_copy.int, y, 1, -1)
    yield case(aten.unbind_copy.int, y, 1)
    yield case(aten.narrow_copy.default, y, 1, 1, 2)
    yield case(aten.zero.default, y)
    for shape in ((), (5,), (2, 0), (3, 4)):
        yield case(aten.take.default, y, torch.randint(-60, 60, shape))
    for dim in (0, -1):
        yield case(aten.index_select.default, x(), dim, torch.zeros(1, dtype=I64))


def resize_cases() -> Iterator[Case]:
    """Left to ATen where a size is symbolic."""
    yield case(aten.resize_as.default, x(3, 4), x(2, 6))
    yield case(aten.resize_as.default, x(3, 4), x(2, 3))
    yield case(aten.resize.default, x(3, 4, dtype=BF16), [5])
    yield case(aten.resize.default, x(3, 4), [2, 0])


def diagonal_cases() -> Iterator[Case]:
    """Left to ATen where a size is symbolic."""
    y = x(3, 4, 5)
    for offset, dims in itertools.product((0, 1, -2, 3, -3, 9), ((0, 1), (1, 2), (2, 0), (-1, -2))):
        want = aten.diagonal.default(y, offset, *dims)
        yield case(aten.diagonal.default, y, offset, *dims)
        yield case(aten.diagonal_copy.default, y, offset, *dims)
        yield case(aten.diagonal_scatter.default, y, torch.full_like(want, 7), offset, *dims)
    for shape in ((3, 5), (5, 3), (1, 4), (0, 3), (1, 1)):
        for dtype in (F32, BF16, I64):
            yield case(aten.trace.default, x(*shape, dtype=dtype))
    for start, end, step in ((0, 4, 2), (1, 5, 3), (0, 5, 4), (2, 5, 2), (3, 3, 2), (-4, 5, 2)):
        count = len(range(*slice(start, end, step).indices(5)))
        for dtype in (F32, BOOL):
            part = x(3, count, 2, dtype=dtype)
            yield case(aten.slice_scatter.default, x(3, 5, 2, dtype=dtype), part, 1, start, end, step)


def search_cases() -> Iterator[Case]:
    """Left to ATen where a size is symbolic."""
    elements = x(3, 5, dtype=I64)
    for invert in (False, True):
        for tests in (x(4, dtype=I64), x(2, 3, dtype=I64), x(0, dtype=I64)):
            yield case(aten.isin.Tensor_Tensor, elements, tests, invert=invert)
        yield case(aten.isin.Tensor_Tensor, ordered(1, NAN, INF), ordered(NAN, INF), invert=invert)
        yield case(aten.isin.Tensor_Scalar, elements, 3, invert=invert)
        yield case(aten.isin.Scalar_Tensor, 3, elements, invert=invert)
    yield case(aten.isin.Tensor_Tensor, elements, x(513, dtype=I64),
               reason="isin of many values, which sorting does faster")
    values = ordered(-INF, -1, 0, 0.5, 1, 1.5, 2, 7, INF, NAN)
    lines = [ordered(), ordered(1), ordered(0, 1), ordered(0, 0.5, 0.5, 1, 2), ordered(*range(-9, 8)),
             ordered(-INF, 1, NAN)]
    for line, right, narrow in itertools.product(lines, (False, True), (False, True)):
        yield case(aten.bucketize.Tensor, values, line, right=right, out_int32=narrow)
        yield case(aten.searchsorted.Tensor, line, values, right=right, out_int32=narrow)
    yield case(aten.bucketize.Scalar, 1.5, lines[3])
    yield case(aten.bucketize.Tensor, x(7, dtype=I32), torch.tensor([-3, 0, 2]))
    yield case(aten.bucketize.Tensor, x(2, 3, dtype=BF16), lines[3].to(BF16))
    rows = x(2, 3, 7).sort(-1)
    yield case(aten.searchsorted.Tensor, rows.values, x(2, 3, 4))
    yield case(aten.searchsorted.Tensor, rows.values[0], x(3, 2), side="right")
    yield case(aten.searchsorted.Scalar, lines[3], 0.5, side="left")
    yield case(aten.searchsorted.Tensor, x(7), values, sorter=x(7).argsort())
    yield case(aten.searchsorted.Tensor, x(2, 3, 7), x(2, 3, 4), sorter=rows.indices,
               reason="a search in several sequences by a sorter")


def reduced_cases() -> Iterator[Case]:
    for dtype in (F32, F64, BF16, I64, BOOL):
        values = special(dtype).unsqueeze(0)
        yield case(aten.nansum.default, values)
        yield case(aten.nansum.default, values, [1], True)
        for dim in (None, 0, 1):
            if dtype != BOOL:
                yield case(aten.aminmax.default, x(3, 4, dtype=dtype), dim=dim)
                yield case(aten.aminmax.default, values, dim=dim, keepdim=True)
    yield case(aten.aminmax.default, x())
    yield case(aten.nansum.default, x(3, dtype=I32), dtype=F32)
    for order, dtype in itertools.product((0, 0.5, 3, -1, 2.5, -3.0), (F32, F64, BF16)):
        yield case(aten.linalg_vector_norm.default, x(3, 4, 5, dtype=dtype), order, [-1])
        yield case(aten.linalg_vector_norm.default, x(3, 4, dtype=dtype), order, None, True)
        huge = torch.tensor([[3e38, -1e-40, INF, NAN]], dtype=dtype)  # whose powers no float holds
        yield case(aten.linalg_vector_norm.default, huge, order, [0])
    for order in (0, 1, 2, 3.5, INF):
        yield case(aten._cdist_forward.default, x(2, 3, 5), x(2, 4, 5), order, None)
        yield case(aten._cdist_forward.default, x(1, 5), x(4, 5), order, 1)
        yield case(aten._cdist_forward.default, x(2, 1, 3, 5, dtype=F64), x(2, 1, 4, 5, dtype=F64), order, None)
    yield case(aten._cdist_forward.default, x(3, 0), x(4, 0), 2.0, None)


def scan_cases() -> Iterator[Case]:
    for overload in (aten.cumprod.default, aten.logcumsumexp.default, aten.cummax.default, aten.cummin.default):
        for dtype in DTYPES:
            for shape, dim in (((3, 7), 1), ((5, 2, 3), 0), ((1, 4), 0), ((), 0)):
                if eager(overload, x(*shape, dtype=dtype), dim) is not None:
                    yield case(overload, x(*shape, dtype=dtype), dim)
            if dtype.is_floating_point or overload == aten.cummax.default:
                yield case(overload, special(dtype), 0)
        yield case(overload, x(3, 0), 0)
    yield case(aten.cumprod.default, x(3, 4, dtype=I32), 1, dtype=F32)
    for overload in (aten.cummax.default, aten.cummin.default):
        yield case(overload, ordered(1, 1, NAN, 0, NAN, INF, -INF), 0)
        yield case(overload, ordered(-INF, INF, -INF, INF), 0)


def product_cases() -> Iterator[Case]:
    for dtype in (I64, I32, U8):
        yield case(aten.mm.default, x(3, 4, dtype=dtype), x(4, 5, dtype=dtype))
        yield case(aten.bmm.default, x(2, 3, 4, dtype=dtype), x(2, 4, 5, dtype=dtype))
        yield case(aten.addmm.default, x(5, dtype=dtype), x(3, 4, dtype=dtype), x(4, 5, dtype=dtype), beta=2, alpha=3)
        yield case(aten.mv.default, x(3, 4, dtype=dtype), x(4, dtype=dtype))
        yield case(aten.dot.default, x(4, dtype=dtype), x(4, dtype=dtype))
    for dtype in (F32, F64, BF16, I64):
        yield case(aten.addbmm.default, x(3, 5, dtype=dtype), x(2, 3, 4, dtype=dtype), x(2, 4, 5, dtype=dtype))
    for dtype in (F32, F64, I64):  # of halves ATen rounds the product too
        yield case(aten.addr.default, x(3, 4, dtype=dtype), x(3, dtype=dtype), x(4, dtype=dtype))
        yield case(aten.addr.default, x(4, dtype=dtype), x(3, dtype=dtype), x(4, dtype=dtype), beta=2, alpha=3)
    yield case(aten.addr.default, torch.full((3, 4), NAN), x(3), x(4), beta=0)
    yield case(aten.addbmm.default, x(5), x(2, 3, 4), x(2, 4, 5), beta=0.5, alpha=2)
    for dtype in (F32, F64):
        yield case(aten._trilinear.default, x(2, 3, dtype=dtype), x(4, 3, 5, dtype=dtype), x(2, 5, dtype=dtype),
                   [1, 3], [0], [1, 2], [2, 3])
        yield case(aten._trilinear.default, x(2, 3, dtype=dtype), x(2, 3, dtype=dtype), x(2, 3, dtype=dtype),
                   [], [], [], [])


def creation_cases() -> Iterator[Case]:
    for dtype in (F32, F64, BF16, F16, I64, I32):
        for start, end, steps in ((0, 10, 5), (1.5, 7.25, 64), (5, -5, 3), (2, 2, 1), (1, 4, 0), (-7, 9, 50)):
            # Near zero ATen's own halves have no digit right.
            if dtype not in (BF16, F16) or start > 0:
                yield case(aten.linspace.default, start, end, steps, dtype=dtype)
        yield case(aten.linspace.Tensor_Scalar, x(dtype=F64), 3, 7, dtype=dtype)
        yield case(aten.linspace.Scalar_Tensor, 3, x(dtype=F32), 7, dtype=dtype)
        yield case(aten.linspace.Tensor_Tensor, x(dtype=F32).abs(), x(dtype=F32).abs() + 2, 7, dtype=dtype)


def random_bit_cases() -> Iterator[Case]:
    """Of one seed the bits are known; that symbolic sizes draw the same is tested with the calls that use them."""
    for seed, stream, shape in ((0, 0, [3, 5]), (-7, 2, [17]), (2**62, 1, []), (5, 3, [0, 4])):
        yield case(PHILOX, torch.tensor(seed), stream, shape)


CASES = [
    *composed_cases(), *special_function_cases(), *named_function_cases(), *copy_cases(), *reduced_cases(),
    *product_cases(), *creation_cases(), *scan_cases(),
]
FIXED_SIZE_CASES = [*resize_cases(), *diagonal_cases(), *search_cases(), *random_bit_cases()]
