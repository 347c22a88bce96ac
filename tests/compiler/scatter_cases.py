"""The calls on which the import rules of scatters are tested: every reduction, dtypes, edge shapes, refusals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from importer_cases import BF16, BOOL, F16, F32, F64, I32, I64, INF, NAN, U8, Case, aten, case, x

ALL = (F32, F64, BF16, F16, I64, I32, U8, BOOL)
REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


def places(size: int, *shape: int, low: int = 0) -> torch.Tensor:
    """Random positions in ``[low, size)``, with repetitions, the same ones for the same arguments."""
    generator = torch.Generator().manual_seed(size + sum(shape))
    return torch.randint(low, size, shape, generator=generator)


def apart(size: int, count: int) -> torch.Tensor:
    """Positions without repetitions, for what writes in no stated order."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(size))[:count]


def small(*shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
    """Small whole numbers: their sums and products are exact in every dtype, also where ATen rounds each step."""
    return (x(*shape) * 1.5).round().clamp(-2, 2).abs().to(dtype)


def element_cases() -> Iterator[Case]:
    for dtype in ALL:
        base, source, index = small(5, 4, dtype=dtype), small(6, 4, dtype=dtype), places(5, 3, 4)
        unique = torch.stack([apart(5, 3)] * 4, 1)
        yield case(aten.scatter.src, base, 0, unique, source)
        yield case(aten.scatter.value, base, -1, places(4, 5, 2), 1)
        yield case(aten.scatter_add.default, base, 0, index, source)
        yield case(aten.scatter.reduce, base, 0, index, source, reduce="add")
        yield case(aten.scatter.value_reduce, base, 0, index, 2 if dtype != BOOL else True, reduce="multiply")
    for dtype, reduce, own in itertools.product((F32, BF16, I64, U8, BOOL), REDUCTIONS, (True, False)):
        if (dtype, reduce) == (BOOL, "mean"):
            continue
        base, source = small(3, 7, dtype=dtype), small(3, 5, dtype=dtype)
        yield case(aten.scatter_reduce.two, base, 1, places(7, 3, 5), source, reduce, include_self=own)
        if dtype != BOOL and reduce != "sum":
            yield case(aten.index_reduce.default, base, 1, places(7, 5), source, reduce, include_self=own)
    with_nan = torch.tensor([1.0, NAN, -INF, INF, 0.0])
    for reduce in REDUCTIONS:
        yield case(aten.scatter_reduce.two, with_nan, 0, places(5, 9), x(9), reduce)
        yield case(aten.scatter_reduce.two, x(5), 0, places(5, 5), with_nan, reduce, include_self=False)
    number = torch.tensor(2.0)
    for base, index, source in (
        (number, torch.tensor(0), number), (number, torch.tensor([0]), x(1)), (x(1), torch.tensor(0), number),
        (x(0, 3), torch.zeros(0, 3, dtype=I64), x(0, 3)), (x(4, 3), torch.zeros(0, 3, dtype=I64), x(2, 3)),
        (x(1, 1), torch.zeros(1, 1, dtype=I64), x(1, 1)), (x(13, 7), places(13, 11, 7), x(11, 7)),
        (x(4, 3), places(4, 1, 3).expand(5, 3), x(1, 3).expand(5, 3)),
    ):
        yield case(aten.scatter_add.default, base, 0, index, source)


def layer_cases() -> Iterator[Case]:
    for dtype in ALL:
        base = small(6, 3, 4, dtype=dtype)
        for dim, count in ((0, 9), (1, 2), (-1, 5)):
            shape = list(base.shape)
            shape[dim] = count
            index, source = places(base.shape[dim], count), small(*shape, dtype=dtype)
            yield case(aten.index_add.default, base, dim, index, source)
            one = [1 if d == dim % 3 else n for d, n in enumerate(base.shape)]
            yield case(aten.index_copy.default, base, dim, apart(base.shape[dim], 1), small(*one, dtype=dtype))
            yield case(aten.index_fill.int_Scalar, base, dim, index - 1, 1)
            yield case(aten.index_fill.int_Tensor, base, dim, index, small(1, dtype=dtype)[0])
    yield case(aten.index_add.default, x(5, 3), 0, places(5, 4), x(4, 3), alpha=2.5)
    for alpha in (False, True):
        yield case(
            aten.index_add.default, x(5, 3, dtype=BOOL), 0, places(5, 4), x(4, 3, dtype=BOOL), alpha=alpha
        )
    yield case(aten.index_add.default, torch.tensor(1.0), 0, torch.tensor([0]), torch.tensor(2.0))
    yield case(aten.index_add.default, x(5, 3), 0, places(5, 0), x(0, 3))
    yield case(aten.index_add.default, x(5, 0), 0, places(5, 4), x(4, 0))
    yield case(aten.index_copy.default, torch.tensor(1.0), 0, torch.tensor(0), torch.tensor(3.0))


def put_cases() -> Iterator[Case]:
    for dtype, add in itertools.product(ALL, (False, True)):
        base = small(4, 5, 6, dtype=dtype)
        for overload in (aten.index_put.default, aten._unsafe_index_put.default):
            index = places(4, 7) if add else apart(4, 3)
            yield case(overload, base, [index], small(len(index), 5, 6, dtype=dtype), add)
        yield case(aten.index_put.default, base, [None, apart(5, 3) - 5], small(1, dtype=dtype), add)
        yield case(aten.index_put.default, base, [apart(4, 2), None, apart(6, 2)], small(2, 5, dtype=dtype), add)
        yield case(
            aten.index_put.default, base, [None, apart(5, 2)[:, None], apart(6, 3)], small(4, 2, 3, dtype=dtype), add
        )
        index = places(120, 9, low=-120) if add else apart(120, 9)
        yield case(aten.put.default, base, index, small(9, dtype=dtype), add)
        mask = x(4, 5, dtype=BOOL)
        yield case(aten.index_put.default, base, [mask], small(1, dtype=dtype)[0], add)
        yield case(aten.index_put.default, base, [None, x(5, 6, dtype=BOOL)], small(4, 1, dtype=dtype), add)
        yield case(aten.index_put.default, base, [mask], small(6, dtype=dtype), add)
        yield case(aten._unsafe_masked_index_put_accumulate.default, base, x(3, dtype=BOOL)[:, None, None],
                   [torch.tensor([1, 9, -7])], small(3, 5, 6, dtype=dtype))
        yield case(aten.masked_scatter.default, base, x(5, 6, dtype=BOOL), small(150, dtype=dtype))
    mask = torch.tensor([True, False, True, True])
    yield case(aten.index_put.default, x(4), [mask], x(3), reason="data-dependent size")
    yield case(aten.index_put.default, x(4, 0), [torch.tensor([1, 2])], x(2, 0))
    yield case(aten.index_put.default, x(4, 3), [torch.zeros(0, dtype=I64)], x(0, 3))
    yield case(aten.index_put.default, x(4, 3), [torch.tensor(2)], x(3))
    yield case(aten.masked_scatter.default, x(4), torch.zeros(4, dtype=BOOL), x(0))


def gradient_cases() -> Iterator[Case]:
    for dtype in (F32, F64, BF16):
        grad, index = small(2, 5, 7, dtype=dtype), places(9, 2, 5)
        for padding, scale in itertools.product((-1, 3), (False, True)):
            yield case(aten.embedding_dense_backward.default, grad, index, 9, padding, scale)
    yield case(aten.embedding_dense_backward.default, x(0, 4), places(3, 0), 3, -1, False)
    yield case(aten.embedding_dense_backward.default, x(70, 128), places(11, 70), 11, -1, False)
    pooled, index = torch.nn.functional.max_pool2d(x(2, 3, 6, 8), 2, return_indices=True)
    yield case(aten.max_unpool2d.default, pooled, index, [6, 8])
    pooled, index = torch.nn.functional.max_pool3d(x(2, 4, 6, 8), 2, return_indices=True)
    yield case(aten.max_unpool3d.default, pooled, index, [4, 6, 8], [2, 2, 2], [0, 0, 0])


def strided_cases() -> Iterator[Case]:
    yield case(aten.scatter_add.default, x(4, 3).t(), 0, places(3, 3, 4), x(6, 4)[::2])
    yield case(aten.as_strided_scatter.default, x(20), x(3, 2), [3, 2], [4, 1], 1)
    yield case(aten.as_strided_scatter.default, x(4, 5), x(2, 2), [2, 2], [5, 2], 3)


SCATTERS = [*element_cases(), *layer_cases(), *put_cases(), *gradient_cases()]
# Those whose operands are as they lie in memory, which symbolic sizes do not say.
FIXED_SCATTERS = list(strided_cases())
