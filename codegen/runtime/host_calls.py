"""What the text of a host program calls: views of the arena, arguments and results in the layout of the program."""

from __future__ import annotations

from typing import Any

import torch

from tilewright.ir.errors import InputError


def arena_view(
    arena: torch.Tensor, byte: int, dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...]
) -> torch.Tensor:
    """The tensor at a byte of the arena."""
    if 0 in shape:
        return torch.empty_strided(shape, strides, dtype=dtype)
    elements = arena.view(dtype)
    return elements.as_strided(shape, strides, elements.storage_offset() + byte // dtype.itemsize)


def expect_layout(tensor: torch.Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> torch.Tensor:
    """A library's result in the layout that tracing promised (where a dim has size 1 its stride may be any)."""
    if tuple(tensor.shape) != shape:
        raise InputError(f"a library call gave shape {tuple(tensor.shape)} where tracing saw {shape}")
    if tensor.numel() == 0 or all(d == 1 or a == b for d, a, b in zip(shape, tensor.stride(), strides)):
        return tensor
    return torch.empty_strided(shape, strides, dtype=tensor.dtype).copy_(tensor)


def adapt_input(
    tensor: torch.Tensor, position: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """An argument in the layout the program was compiled for. Raises InputError for another shape or dtype."""
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise InputError(
            f"argument {position} has shape {tuple(tensor.shape)} and dtype {tensor.dtype}; the program was compiled "
            f"for {shape} and {dtype}"
        )
    if tensor.numel() == 0 or all(d == 1 or a == b for d, a, b in zip(shape, tensor.stride(), strides)):
        return tensor
    return torch.empty_strided(shape, strides, dtype=dtype).copy_(tensor)


def only_tensors(results: Any) -> list[torch.Tensor]:
    """The tensors among a call's results, in order; numbers become tensors of rank 0, None is left out."""
    return [r if isinstance(r, torch.Tensor) else torch.tensor(r) for r in _as_list(results) if r is not None]


def first_tensor(results: Any) -> torch.Tensor:
    return only_tensors(results)[0]


def _as_list(results: Any) -> list[Any]:
    return list(results) if isinstance(results, (tuple, list)) else [results]


def raise_failure(status: int) -> None:
    """Raise what a kernel reported: bit 0, a position out of range; bit 1, an integer divided by zero."""
    if status & 1:
        raise IndexError("index out of range in a gather, an embedding or an indexed read")
    raise RuntimeError("ZeroDivisionError")
