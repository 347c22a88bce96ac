"""The calls on which the import rules are tested: operands of each dtype, edge shapes, special values, refusals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from tilewright.ir.scalars import SCALARS

aten, prims = torch.ops.aten, torch.ops.prims
INF, NAN = float("inf"), float("nan")
F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
I64, I32, U8, BOOL = torch.int64, torch.int32, torch.uint8, torch.bool


@dataclass(frozen=True)
class Case:
    """One call. `reason`: the call is left to ATen, for this reason. `only`: the result that is read."""

    overload: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    reason: str | None = None
    only: int | None = None

    def __str__(self) -> str:
        described = tree_map(lambda v: f"{v.dtype}{list(v.shape)}" if isinstance(v, torch.Tensor) else v, self.args)
        return f"{self.overload}{described}{self.kwargs or ''}".replace("torch.", "")


def case(overload: OpOverload, *args: Any, reason: str | None = None, only: int | None = None, **kwargs: Any) -> Case:
    return Case(overload, args, kwargs, reason, only)


def x(*shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
    """Random elements, the same ones for the same shape and dtype."""
    generator = torch.Generator().manual_seed(sum(shape) + 7)
    if dtype == BOOL:
        return torch.rand(shape, generator=generator) > 0.5
    if not dtype.is_floating_point:
        return torch.randint(0 if dtype == U8 else -7, 8, shape, generator=generator, dtype=dtype)
    return torch.randn(shape, generator=generator).to(dtype)


def special(dtype: torch.dtype) -> torch.Tensor:
    """Elements at which functions differ: zeros of both signs, ties, large ones, infinities, NaN."""
    if dtype == BOOL:
        return torch.tensor([True, False, True])
    if not dtype.is_floating_point:
        return torch.tensor([0, 1, 2, 3, 5, 100] if dtype == U8 else [0, 1, -1, 2, -3, 7, 100], dtype=dtype)
    values = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 0.3, -0.7, 3.7, 1e-3, -30.0, 50.0, 1e4, INF, -INF, NAN]
    return torch.tensor(values, dtype=dtype)


def finite(dtype: torch.dtype) -> torch.Tensor:
    """As `special`, without infinities: vectorised, ATen's gelu of inf is NaN; one by one, and here, it is inf."""
    values = special(dtype)
    return values[~values.isinf()]


DTYPES = (F32, F64, BF16, F16, I64, I32, U8, BOOL)
UNARY = [
    *(getattr(aten, name).default for name, row in SCALARS.items()
      if row.arity == 1 and name not in ("cast", "not", "isnan", "isinf") and hasattr(aten, name)),
    aten.sgn.default, aten.isnan.default, aten.isinf.default, aten.logical_not.default, aten.bitwise_not.default,
    aten.relu.default, aten.silu.default, aten.mish.default, aten.hardsigmoid.default, aten.hardswish.default,
    aten.gelu.default, aten.hardshrink.default, aten.softshrink.default, aten.nan_to_num.default, aten.clone.default,
    aten.alias.default, aten.detach.default, aten.lift_fresh.default, aten.lift_fresh_copy.default,
    aten.positive.default, aten.contiguous.default,
]
BINARY = [
    aten.add.Tensor, aten.sub.Tensor, aten.subtract.Tensor, aten.rsub.Tensor, aten.mul.Tensor, aten.multiply.Tensor,
    aten.div.Tensor, aten.divide.Tensor, aten.true_divide.Tensor, aten.maximum.default, aten.minimum.default,
    aten.fmax.default, aten.fmin.default, aten.atan2.default, aten.copysign.Tensor, aten.pow.Tensor_Tensor,
    aten.eq.Tensor, aten.ne.Tensor, aten.lt.Tensor, aten.le.Tensor, aten.gt.Tensor, aten.ge.Tensor,
    aten.logical_and.default, aten.logical_or.default, aten.logical_xor.default,
    aten.bitwise_and.Tensor, aten.bitwise_or.Tensor, aten.bitwise_xor.Tensor,
    aten.floor_divide.default, aten.remainder.Tensor, aten.fmod.Tensor,
    aten.hypot.default,
    aten.heaviside.default,
]
WITH_NUMBER = [
    aten.add.Scalar, aten.sub.Scalar, aten.rsub.Scalar, aten.mul.Scalar, aten.div.Scalar, aten.floor_divide.Scalar,
    aten.remainder.Scalar, aten.fmod.Scalar, aten.copysign.Scalar, aten.eq.Scalar, aten.ne.Scalar, aten.lt.Scalar,
    aten.le.Scalar, aten.gt.Scalar, aten.ge.Scalar, aten.add.Tensor, aten.mul.Tensor, aten.clamp_min.default,
    aten.clamp_max.default, aten.bitwise_and.Scalar, aten.bitwise_or.Scalar, aten.bitwise_xor.Scalar,
    aten.pow.Tensor_Scalar,
]
FLASH = aten._scaled_dot_product_flash_attention_for_cpu.default
INTEGER_DIVISIONS = (aten.floor_divide.default, aten.remainder.Tensor, aten.fmod.Tensor)
NO_INTEGER_POWER = "integer power that may be negative"


def eager(overload: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """The result, or None where ATen itself refuses the operands."""
    try:
        return overload(*args, **kwargs)
    except (RuntimeError, TypeError, IndexError):
        return None


def pointwise_cases() -> Iterator[Case]:
    for overload, dtype in itertools.product(UNARY, DTYPES):
        values = finite(dtype) if overload == aten.gelu.default else special(dtype)
        if eager(overload, values) is not None:
            yield case(overload, values)
    for overload, dtype in itertools.product(BINARY, DTYPES):
        pair = special(dtype).unsqueeze(1), special(dtype)
        if overload in INTEGER_DIVISIONS and not dtype.is_floating_point:
            divisors = special(dtype)[special(dtype) != 0]
            if eager(overload, pair[0], divisors) is not None:
                yield case(overload, pair[0], divisors)
        elif overload == aten.pow.Tensor_Tensor and not dtype.is_floating_point:
            exponents = torch.tensor([0, 1, 2], dtype=dtype)
            if eager(overload, pair[0], exponents) is not None:
                yield case(overload, pair[0], exponents, reason=NO_INTEGER_POWER)
        elif eager(overload, *pair) is not None:
            yield case(overload, *pair)
    for overload, dtype, number in itertools.product(WITH_NUMBER, (F32, BF16, I64, BOOL), (2, -3, 0.1, True)):
        if eager(overload, special(dtype), number) is None:
            continue
        # Of pow of two bools, tracing and eager disagree on the dtype.
        if overload != aten.pow.Tensor_Scalar or dtype != BOOL or number is not True:
            yield case(overload, special(dtype), number)
    for exponent in (0, 1, 2, 3, 4, 0.5, -0.5, -1, -2, -3, 1.7):
        yield case(aten.pow.Tensor_Scalar, special(F32), exponent)
        yield case(aten.pow.Tensor_Scalar, x(3, 5, dtype=BF16), exponent)
    # Promotion: tensors with dims before numbers, and categories before both.
    lower = (x(3, dtype=BF16), x(3, dtype=I64), x(3, dtype=BOOL))
    for a, b in itertools.product(lower, (x(dtype=F32), x(3, dtype=F32), x(dtype=I64), x(3, dtype=F16))):
        for overload in (aten.add.Tensor, aten.mul.Tensor, aten.lt.Tensor, aten.where.self):
            yield case(overload, *([x(3, dtype=BOOL)] if overload == aten.where.self else []), a, b)
    for a, b in (((0, 3), (0, 3)), ((1, 3), (5, 1)), ((), (2,)), ((7, 1, 3), (4, 1))):
        yield case(aten.add.Tensor, x(*a), x(*b), alpha=2)
    yield case(aten.add.Tensor, x(5, 3).t(), x(3, 5)[:, ::1])
    yield case(aten.add.Tensor, x(3, dtype=BF16), x(3, dtype=BF16), alpha=0.3)
    yield case(aten.sub.Tensor, x(3, dtype=I64), x(3, dtype=I64), alpha=3)
    yield case(aten.sub.Scalar, x(3), 0.5, 3)
    for mode in (None, "floor", "trunc"):
        yield case(aten.div.Tensor_mode, special(F32).unsqueeze(1), special(F32), rounding_mode=mode)
        yield case(aten.div.Scalar_mode, x(9, dtype=I64), 3, rounding_mode=mode)
        yield case(aten.div.Tensor_mode, x(9, dtype=BF16), 0.1, rounding_mode=mode)
    yield case(aten.remainder.Scalar_Tensor, 3, x(5))
    yield case(aten.pow.Scalar, 2, special(F32))
    yield case(aten.pow.Scalar, 1.3, x(5, dtype=BF16))
    for name in ("and", "or", "xor"):
        yield case(getattr(aten, f"bitwise_{name}").Scalar_Tensor, 6, x(5, dtype=I64))
    for dtype in (F32, BF16):
        yield case(aten.addcmul.default, x(3, 1, dtype=dtype), x(3, 4, dtype=dtype), x(4, dtype=dtype), value=0.3)
        yield case(aten.addcdiv.default, x(3, 1, dtype=dtype), x(3, 4, dtype=dtype), x(4, dtype=dtype), value=2)
        yield case(aten.addcmul.default, x(3, 4, dtype=dtype), x(3, 4, dtype=dtype), x(4, dtype=dtype))
        yield case(aten.lerp.Scalar, x(3, 4, dtype=dtype), x(4, dtype=dtype), 0.7)
        yield case(aten.lerp.Tensor, x(3, 4, dtype=dtype), x(4, dtype=dtype), x(3, 4, dtype=dtype))
        yield case(aten.clamp.default, special(dtype), -0.3, 2)
        yield case(aten.clamp.default, special(dtype), None, 0.1)
        yield case(aten.clamp.Tensor, special(dtype).unsqueeze(1), x(3, dtype=dtype), x(3, dtype=dtype) + 1)
        yield case(aten.nan_to_num.default, special(dtype), 1.5, 2.5, -3.5)
    yield case(aten.clamp.default, x(9, dtype=I64), -1, 2)
    yield case(aten.clamp.default, x(9, dtype=I64), 0.5)
    yield case(aten.clamp_min.Tensor, special(F32).unsqueeze(1), special(F32))
    yield case(aten.clamp_max.Tensor, special(F32).unsqueeze(1), special(F32))
    condition = x(3, 1, dtype=BOOL)
    yield case(aten.where.self, condition, x(3, 4), x(4))
    yield case(aten.where.self, condition, x(3, 4, dtype=BOOL), x(4, dtype=BOOL))
    yield case(aten.where.ScalarSelf, condition, 1.5, x(3, 4))
    yield case(aten.where.ScalarOther, condition, x(3, 4, dtype=I64), 3)
    yield case(aten.where.Scalar, condition, 1, 2)
    yield case(aten.masked_fill.Scalar, x(3, 4, dtype=BF16), condition, -INF)
    yield case(aten.masked_fill.Tensor, x(3, 4), condition, x())
    for source, target in itertools.product((special(F32), special(I64), special(BOOL)), (F32, F64, BF16, BOOL)):
        yield case(aten._to_copy.default, source, dtype=target)
        yield case(prims.convert_element_type.default, source, target)
    yield case(aten._to_copy.default, torch.tensor([0.0, 1.7, -1.7, 300.2]), dtype=I64)
    yield case(aten._to_copy.default, x(2, 3, 4, 5), memory_format=torch.channels_last)
    yield case(aten.copy.default, x(3, 4, dtype=BF16), x(4))
    yield case(aten.fill.Scalar, x(3, 4, dtype=I64), 3)
    yield case(aten.fill.Tensor, x(3, 4), x(dtype=F64))
    yield case(aten.clone.default, x(2, 3, 4, 5), memory_format=torch.channels_last)


def activation_cases() -> Iterator[Case]:
    for dtype in (F32, BF16):
        for approximate in ("none", "tanh"):
            yield case(aten.gelu.default, finite(dtype), approximate=approximate)
        values = special(dtype)
        yield case(aten.hardtanh.default, values, -0.3, 2)
        yield case(aten.leaky_relu.default, values, 0.1)
        yield case(aten._prelu_kernel.default, values, x(18, dtype=dtype))
        yield case(aten.elu.default, values, 0.7, 1.3, 0.9)
        yield case(aten.celu.default, values, 0.7)
        yield case(aten.threshold.default, values, 0.3, 7)
        yield case(aten.softplus.default, values, 2, 10)
        yield case(aten.log_sigmoid_forward.default, values, only=0)
        yield case(aten.log_sigmoid_forward.default, values, reason="result 1 is used")
        yield case(aten.softshrink.default, values, 0.3)
        yield case(aten.hardshrink.default, values, 0.3)
        yield case(aten.glu.default, x(3, 6, 4, dtype=dtype), 1)
        yield case(aten.native_dropout.default, values, 0.5, False)
    yield case(aten.hardtanh.default, x(9, dtype=I64), -2, 3)


def view_cases() -> Iterator[Case]:
    y = x(3, 4, 5)
    for overload in (aten.view.default, aten._unsafe_view.default, aten.reshape.default):
        yield case(overload, y, [12, 5])
        yield case(overload, y, [-1])
        yield case(overload, x(0, 4), [4, 0])
    yield case(aten.reshape.default, y.transpose(0, 1), [4, -1])
    yield case(aten._reshape_alias.default, y, [12, 5], [5, 1])
    yield case(aten.view.dtype, y, F32)
    yield case(aten.view.dtype, y, I32, reason="elements read as another dtype")
    yield case(aten.flatten.using_ints, y, 1, -1)
    yield case(aten.unsqueeze.default, y, -2)
    yield case(aten.squeeze.default, x(3, 1, 1, 2))
    yield case(aten.squeeze.dim, x(3, 1, 1, 2), -2)
    yield case(aten.squeeze.dim, x(3, 2), 0)
    yield case(aten.squeeze.dims, x(3, 1, 1, 2), [1, 2])
    for shape in ((3, 4), (3,), ()):
        yield case(aten.t.default, x(*shape))
    yield case(aten.transpose.int, y, 0, -1)
    yield case(aten.transpose.int, x(), 0, -1)
    yield case(aten.permute.default, y, [2, 0, -2])
    yield case(aten.expand.default, x(3, 1), [2, -1, 4])
    yield case(aten.expand.default, x(), [2, 0])
    bounds_of_slices = (
        (0,), (0, 1), (0, -2), (0, None, -1), (1, 1, 3), (1, 0, 2**63 - 1, 2), (1, 7, 9), (1, -9, 2), (2, 3, 1),
    )
    for bounds in bounds_of_slices:
        yield case(aten.slice.Tensor, y, *bounds)
    yield case(aten.slice.Tensor, x(0, 3), 0, 0, 5)
    for index in (0, 2, -1):
        yield case(aten.select.int, y, 1, index)
    for overload, sizes in (
        (aten.split.Tensor, 2), (aten.unsafe_split.Tensor, 3), (aten.split_copy.Tensor, 4),
        (aten.split_with_sizes.default, [1, 0, 3]), (aten.unsafe_split_with_sizes.default, [2, 2]),
        (aten.split_with_sizes_copy.default, [4]),
    ):
        yield case(overload, y, sizes, 1)
    yield case(aten.split.Tensor, y, 2, 1, only=1)
    yield case(aten.unbind.int, y, -1)
    yield case(aten.cat.default, [y, x(3, 2, 5), x(0)], 1)
    yield case(aten.cat.default, [x(3), x(3, dtype=I64), x(2, dtype=F64)])
    yield case(aten.cat.default, [x(0), x(0)])
    yield case(aten.stack.default, [y, x(3, 4, 5, dtype=BF16)], -1)
    yield case(aten.stack.default, [x(), x()], 0)
    yield case(aten.flip.default, y, [0, -1])
    yield case(aten.flip.default, x(0, 3), [0])
    yield case(aten.flip.default, y, [])
    yield case(aten.constant_pad_nd.default, y, [1, 2, 0, 3], 1.5)
    yield case(aten.constant_pad_nd.default, y, [-1, 2, 0, -3])
    yield case(aten.constant_pad_nd.default, x(3, dtype=BOOL), [1, 1], True)
    yield case(aten.repeat.default, x(3, 1), [2, 1, 4])
    yield case(aten.repeat.default, x(3), [0])
    yield case(aten.repeat.default, x(), [2, 3])
    yield case(aten.as_strided.default, y, [4, 3], [2, 5], 1)
    yield case(aten.as_strided.default, y, [5, 5, 2], [0, 1, 7])


def fixed_size_view_cases() -> Iterator[Case]:
    """Views that are left to ATen where a size is symbolic."""
    y = x(3, 4, 5)
    yield case(aten.roll.default, y, [1, -2], [0, 2])
    yield case(aten.roll.default, y, [7])
    yield case(aten.roll.default, x(0, 3), [1], [0])
    for start, length in ((0, 2), (1, 3), (-2, 2), (0, 4)):
        yield case(aten.slice_scatter.default, y, x(3, length, 5), 1, start, start + length if start >= 0 else None)
    yield case(aten.slice_scatter.default, y, x(3, 0, 5), 1, 2, 2)
    for index in (0, -1):
        yield case(aten.select_scatter.default, y, x(3, 5), 1, index)


def reduction_cases() -> Iterator[Case]:
    y = x(3, 4, 5)
    shapes = (((), None), ((0, 3), [1]), ((1, 1), [0]), ((3, 4, 5), [0, -1]), ((3, 4, 5), []), ((7, 13), [1]))
    for (shape, dims), dtype in itertools.product(shapes, (F32, BF16, I64, BOOL)):
        values = x(*shape, dtype=dtype)
        for keepdim in (False, True):
            yield case(aten.sum.dim_IntList, values, dims, keepdim)
            for overload in (aten.any.dims, aten.all.dims):
                yield case(overload, values, dims, keepdim)
            if dtype.is_floating_point:
                yield case(aten.mean.dim, values, dims, keepdim)
                yield case(aten.linalg_vector_norm.default, values, 2, dims, keepdim)
                for overload in (aten.var.correction, aten.std.correction):
                    yield case(overload, values, dims, correction=0.5, keepdim=keepdim)
                for overload in (aten.var_mean.correction, aten.std_mean.correction):
                    yield case(overload, values, dims, keepdim=keepdim)
                if dims:
                    yield case(aten.logsumexp.default, values, dims, keepdim)
            if values.numel():
                yield case(aten.amax.default, values, dims or [], keepdim)
                yield case(aten.amin.default, values, dims or [], keepdim)
    for dtype in DTYPES:
        for overload in (aten.sum.default, aten.any.default, aten.all.default, aten.max.default, aten.min.default,
                         aten.prod.default, aten.count_nonzero.default, aten.argmax.default, aten.argmin.default):
            if eager(overload, special(dtype)) is not None:
                yield case(overload, special(dtype))
        for overload in (aten.max.dim, aten.min.dim):
            yield case(overload, x(3, 6, dtype=dtype), 1)
        yield case(aten.cumsum.default, x(3, 6, dtype=dtype), 1)
        yield case(aten.prod.dim_int, x(3, 2, dtype=dtype), 1)
    yield case(aten.sum.dim_IntList, y, [1], dtype=F64)
    yield case(aten.sum.default, x(9, dtype=BF16), dtype=F32)
    yield case(aten.mean.default, y)
    yield case(aten.mean.dim, x(9, dtype=I64), [0], dtype=F32)
    for order in (1, INF, -INF):
        yield case(aten.linalg_vector_norm.default, y, order, [-1])
    yield case(aten.logsumexp.default, torch.tensor([[INF, 1.0], [-INF, -INF], [NAN, 0.0]]), [1])
    yield case(aten.logsumexp.default, x(3, 4, dtype=I64), [1])
    yield case(aten.any.dim, x(3, 4, dtype=U8), 1, True)
    yield case(aten.all.dim, y, 1)
    yield case(aten.count_nonzero.dim_IntList, x(3, 4, dtype=BOOL), [0])
    for overload in (aten.max.dim, aten.min.dim):
        yield case(overload, torch.tensor([[1.0, NAN, 3.0, NAN], [2.0, 2.0, 1.0, 1.0]]), 1, True)
        yield case(overload, x(), 0)
    for overload in (aten.argmax.default, aten.argmin.default):
        yield case(overload, y, 1)
        yield case(overload, y, -1, True)
        yield case(overload, y, None, True)
        yield case(overload, x())
    yield case(aten.cumsum.default, x(0, 3), 0)
    yield case(aten.cumsum.default, x(), 0)
    yield case(aten.cumsum.default, x(3, 4, dtype=BF16), -1, dtype=F32)


def indexing_cases() -> Iterator[Case]:
    y = x(3, 4, 5)
    rows, columns = torch.tensor([[0], [2]]), torch.tensor([1, -1, 0])
    for overload in (aten.index.Tensor, aten._unsafe_index.Tensor):
        yield case(overload, y, [rows, columns])
        yield case(overload, y, [None, columns])
        yield case(overload, y, [rows, None, columns])
        yield case(overload, y, [None, None, torch.tensor(2)])
        yield case(overload, y, [columns.int(), rows])
        yield case(overload, y, [torch.empty(0, dtype=I64)])
    yield case(aten.gather.default, y, 1, torch.tensor([[[0, 3], [1, 1]], [[2, 0], [3, 3]]]))
    yield case(aten.gather.default, x(5), -1, torch.tensor([4, 0, 0]))
    yield case(aten.gather.default, x(5), 0, torch.empty(0, dtype=I64))
    yield case(aten.gather.default, x(), 0, torch.tensor(0))
    yield case(aten.gather.default, x(3), 0, torch.tensor(1))
    yield case(aten.gather.default, x(), 0, torch.tensor([0, 0]))
    yield case(aten.index_select.default, y, -1, columns.abs())
    yield case(aten.index_select.default, y, 0, torch.tensor(2))
    yield case(aten.embedding.default, x(7, 5), torch.tensor([[0, 6], [3, 3]]), 3)
    yield case(aten.embedding.default, x(7, 5, dtype=BF16), torch.tensor([6, 2], dtype=I32))


def linear_cases() -> Iterator[Case]:
    for dtype in (F32, F64, BF16):
        yield case(aten.mm.default, x(3, 4, dtype=dtype), x(5, 4, dtype=dtype).t())
        yield case(aten.bmm.default, x(2, 3, 4, dtype=dtype), x(2, 4, 5, dtype=dtype))
        for bias in (x(5, dtype=dtype), x(3, 1, dtype=dtype), x(3, 5, dtype=dtype)):
            yield case(aten.addmm.default, bias, x(3, 4, dtype=dtype), x(4, 5, dtype=dtype))
        yield case(aten.baddbmm.default, x(2, 1, 5, dtype=dtype), x(2, 3, 4, dtype=dtype), x(2, 4, 5, dtype=dtype))
        yield case(aten.linear.default, x(2, 3, 4, dtype=dtype), x(5, 4, dtype=dtype), x(5, dtype=dtype))
        yield case(aten.linear.default, x(4, dtype=dtype), x(5, 4, dtype=dtype))
        yield case(aten.mv.default, x(3, 4, dtype=dtype), x(4, dtype=dtype))
        yield case(aten.dot.default, x(4, dtype=dtype), x(4, dtype=dtype))
        q, k, v = (x(2, 3, n, 8, dtype=dtype) for n in (5, 7, 7))
        for overload, only in ((FLASH, 0), (aten.scaled_dot_product_attention.default, None)):
            yield case(overload, q, k, v, only=only)
            yield case(overload, q, q, q, is_causal=True, only=only)
            yield case(overload, q, k, v, attn_mask=x(5, 7, dtype=dtype), scale=0.3, only=only)
    yield case(aten.mm.default, x(3, 0), x(0, 5))
    for beta, alpha in ((0.5, 2), (0, 1), (0, 3), (1, 2), (2, 1)):
        bias = torch.full((5,), NAN if beta == 0 else 0.3)
        yield case(aten.addmm.default, bias, x(3, 4), x(4, 5), beta=beta, alpha=alpha)
        yield case(aten.baddbmm.default, x(2, 3, 5), x(2, 3, 4), x(2, 4, 5), beta=beta, alpha=alpha)
    yield case(aten.addmm.default, x(5, dtype=BF16), x(3, 4, dtype=BF16), x(4, 5, dtype=BF16), alpha=2,
               reason="a scaled matrix product of halves, which rounds once")
    q = x(2, 3, 5, 8)
    yield case(FLASH, q, q, q, reason="library")
    yield case(aten.scaled_dot_product_attention.default, q, x(2, 1, 5, 8), x(2, 1, 5, 8),
               reason="batch dims of q, k and v differ")
    mask = x(5, 5, dtype=BOOL)
    yield case(aten.scaled_dot_product_attention.default, q, q, q, mask, reason="a mask of another dtype")
    no_bias = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    yield case(aten.convolution.default, x(2, 3, 7, 7), x(4, 3, 3, 3), *no_bias)
    yield case(aten.convolution.default, x(2, 4, 7), x(6, 2, 3), x(6), [2], [1], [2], False, [0], 2)
    yield case(aten.convolution.default, x(2, 3, 5, 5), x(3, 4, 3, 3), x(4), [2, 2], [1, 1], [1, 1], True, [1, 1], 1)
    yield case(aten.convolution.default, x(2, 3, 5, 5, dtype=BF16), x(3, 3, 1, 1, dtype=BF16), *no_bias)


def creation_cases() -> Iterator[Case]:
    y = x(3, 4)
    for dtype in (F32, BF16, I64, BOOL):
        yield case(aten.full.default, [2, 3], 1, dtype=dtype)
        yield case(aten.full_like.default, y, 1, dtype=dtype)
        yield case(aten.new_full.default, y, [2], 1, dtype=dtype)
        yield case(aten.scalar_tensor.default, 1, dtype=dtype)
        for overload in (aten.ones.default, aten.zeros.default):
            yield case(overload, [2, 0], dtype=dtype)
        for overload in (aten.ones_like.default, aten.zeros_like.default):
            yield case(overload, y, dtype=dtype)
        for overload in (aten.new_ones.default, aten.new_zeros.default):
            yield case(overload, y, [5], dtype=dtype)
        for overload in (aten.eye.default, aten.tril.default, aten.triu.default):
            yield case(overload, *([3] if overload == aten.eye.default else [x(3, 5, dtype=dtype), 1]),
                       **({"dtype": dtype} if overload == aten.eye.default else {}))
    yield case(aten.full.default, [2], -INF)
    yield case(aten.full.default, [2], 0.1, dtype=BF16)
    yield case(aten.eye.m, 3, 5)
    yield case(aten.tril.default, x(2, 5, 3), -1)
    yield case(aten.triu.default, torch.full((4, 4), NAN), 1)
    yield case(aten.arange.default, 5)
    yield case(aten.arange.default, 5.0)
    yield case(aten.arange.default, 0)
    yield case(aten.arange.default, 3.7)
    yield case(aten.arange.start, 2, 9, dtype=F32)
    yield case(aten.arange.start_step, 9, 2, -3)
    yield case(aten.arange.start_step, 0.3, 7.0, 0.37)
    yield case(aten.arange.start_step, 0, 7, 0.5, dtype=BF16)
    yield case(aten.arange.start_step, 0.5, 7, 2, dtype=I64, reason="a range of integers with fractions as bounds")


UNINITIALISED = [
    case(aten.empty.memory_format, [2, 3]),
    case(aten.empty_like.default, x(3, 4)),
    case(aten.new_empty.default, x(3, 4), [2]),
    case(aten.empty_strided.default, [2, 3], [1, 2]),
    case(aten.new_empty_strided.default, x(3), [2, 3], [3, 1]),
    case(aten.empty_permuted.default, [2, 3], [1, 0]),
]


def normalization_cases() -> Iterator[Case]:
    # Rows of equal elements become 0, whatever their mean rounds to. (ATen's halves do not.)
    equal = torch.tensor([[0.1], [7.7], [-1000.3], [0.0]]).repeat(1, 33)
    yield case(aten.native_layer_norm.default, equal, [33], None, None, 1e-5)
    yield case(aten.native_group_norm.default, equal[:3].reshape(1, 3, 33, 1), None, None, 1, 3, 33, 3, 1e-5)
    for dtype in (F32, BF16):
        y = x(3, 4, 6, dtype=dtype)
        for overload in (aten._softmax.default, aten._log_softmax.default):
            yield case(overload, y, -1, False)
            yield case(overload, y, 0, False)
            yield case(overload, torch.tensor([[-INF, -INF], [INF, 1.0], [NAN, 0.0]], dtype=dtype), 1, False)
            yield case(overload, x(dtype=dtype), 0, False)
        yield case(aten._safe_softmax.default, torch.tensor([[-INF, -INF], [1.0, 2.0]], dtype=dtype), 1)
        yield case(aten.native_layer_norm.default, y, [6], x(6, dtype=dtype), x(6, dtype=dtype), 1e-5)
        yield case(aten.native_layer_norm.default, y, [4, 6], x(4, 6, dtype=dtype), None, 1e-5)
        yield case(aten.native_layer_norm.default, y, [6], None, None, 1e-5)
        yield case(aten._fused_rms_norm.default, y, [6], x(6, dtype=dtype), 1e-5)
        yield case(aten._fused_rms_norm.default, y, [4, 6], None, None)
        image, channels = x(2, 6, 5, 3, dtype=dtype), x(6, dtype=dtype)
        yield case(aten.native_group_norm.default, image, channels, channels, 2, 6, 15, 3, 1e-5)
        yield case(aten.native_group_norm.default, image, None, None, 2, 6, 15, 1, 1e-5)
        statistics = (x(6), x(6).abs() + 0.5) if dtype == F32 else (channels, channels.abs() + 0.5)
        for weight, bias in ((channels, channels), (None, None)):
            yield case(aten._native_batch_norm_legit_no_training.default, image, weight, bias, *statistics, 0.1, 1e-5)
    yield case(aten._batch_norm_no_update.default, x(2, 6), x(6), x(6), x(6), x(6).abs() + 0.5, 0.1, 1e-5, only=0)


CASES = [
    *pointwise_cases(), *activation_cases(), *view_cases(), *reduction_cases(), *indexing_cases(), *linear_cases(),
    *creation_cases(), *normalization_cases(),
]
