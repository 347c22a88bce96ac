"""Memory as kernels see it: flat, poisoned before its first write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Elements from the first to the last that sizes and strides reach, both included."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))


def flat_view(x: torch.Tensor) -> torch.Tensor:
    """The memory of `x` from its first element to its last, as one dim."""
    return x.as_strided((span(x.shape, x.stride()),), (1,), x.storage_offset())


def poison(x: torch.Tensor) -> None:
    """Fill `x`, which is contiguous, with bytes 0xFF: NaN in every float type, -1 in integers. A use of it shows."""
    import torch

    x.view(torch.uint8).fill_(0xFF)


def allocate(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: object) -> torch.Tensor:
    """A poisoned tensor with the given strides."""
    import torch

    flat = torch.empty(span(shape, strides), dtype=dtype, device=device)  # type: ignore[call-overload]
    poison(flat)
    return flat.as_strided(shape, strides)


def strides_agree(x: torch.Tensor, strides: Sequence[int]) -> bool:
    """Whether `x` lies in memory as `strides` says; strides of dims with fewer than two elements mean nothing."""
    return x.numel() == 0 or all(n == 1 or a == b for n, a, b in zip(x.shape, x.stride(), strides))


def with_strides(x: torch.Tensor, strides: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """`x` as `dtype` with the given strides; a copy where it is not so already."""
    if x.dtype == dtype and strides_agree(x, strides):
        return x
    result = allocate(x.shape, strides, dtype, x.device)
    source, target = x, result
    for dim, stride in enumerate(strides):
        if stride == 0 and x.shape[dim] > 1:  # one element of memory stands for the whole dim
            source, target = source.narrow(dim, 0, 1), target.narrow(dim, 0, 1)
    target.copy_(source)
    return result


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal element by element, any NaN equal to any other, -0.0 different from 0.0."""
    import torch

    if a.dtype.is_complex:
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    if not a.dtype.is_floating_point:
        return torch.equal(a, b)
    a, b = a.to(torch.float64), b.to(torch.float64)
    same = ((a == b) & (a.signbit() == b.signbit())) | (a.isnan() & b.isnan())
    return bool(same.all())
