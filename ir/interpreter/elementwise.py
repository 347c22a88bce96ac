"""Scalar functions, reductions and scans on torch tensors: what `tw` and `tile` share.

Results must depend on the logical values only, never on how a tensor happens to lie in memory, or a rewrite of views
would change bits. torch takes other paths (other summation orders, vector or scalar math functions) for other strides,
alignments and positions in an array. So whatever depends on order sees a contiguous, aligned tensor, and functions that
are not exactly rounded are computed in float64 and rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import CodeType
from typing import TYPE_CHECKING, Any

from ..dtypes import DTYPES, compute_dtype
from ..errors import InterpreterError
from ..scalars import REDUCTIONS, SCALARS, SCANS
from .environment import Environment
from .philox import philox

if TYPE_CHECKING:
    import torch

_ALIGNMENT = 64


@cache
def _compiled(text: str) -> CodeType:
    return compile(text, f"<{text}>", "eval")


def _evaluate(text: str, **names: Any) -> Any:
    import torch

    return eval(_compiled(text), {"torch": torch, "prod_over": prod_over, "philox": philox}, names)


def prod_over(x: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """The product over several dims, which stay with size 1."""
    for dim in dims:
        x = x.prod(dim, keepdim=True, dtype=x.dtype)
    return x


def plain(x: torch.Tensor) -> torch.Tensor:
    """`x` in row-major order at an aligned address."""
    x = x.contiguous().flatten().view(x.shape)  # also strides of dims of size 1 choose paths
    return x if x.data_ptr() % _ALIGNMENT == 0 else x.clone()


def apply_scalar(
    fn: str, args: Sequence[torch.Tensor], operand_dtype: str, result_dtype: str, env: Environment
) -> torch.Tensor:
    """The scalar function `fn`, element by element with broadcasting; halves compute in f32 and are rounded once."""
    import torch

    row = SCALARS[fn]
    compute = env.dtype(compute_dtype(operand_dtype))
    if not row.exact and compute == torch.float32:
        compute = torch.float64
    operands = [a if a.dtype == torch.bool else a.to(compute) for a in args]
    return _evaluate(row.reference, **dict(zip("abc", operands))).to(env.dtype(result_dtype))


def apply_reduction(
    fn: str, x: torch.Tensor, dims: Sequence[int], operand_dtype: str, result_dtype: str, env: Environment
) -> torch.Tensor:
    """The reduction over `dims`, which stay with size 1; halves accumulate in f32.

    No elements give the neutral element. Raises InterpreterError for the position of an extreme value among no values.
    """
    import torch

    if not dims:
        return x
    shape = [1 if d in dims else n for d, n in enumerate(x.shape)]
    if x.numel() == 0:
        return torch.full(shape, neutral(fn, operand_dtype, shape), dtype=env.dtype(result_dtype), device=x.device)
    x = plain(x.to(env.dtype(compute_dtype(operand_dtype))))
    if x.dtype == torch.bool and fn in ("argmax", "argmin"):
        x = x.to(torch.uint8)
    return _evaluate(REDUCTIONS[fn].reference, x=x, dims=list(dims)).to(env.dtype(result_dtype))


def apply_scan(fn: str, x: torch.Tensor, dim: int, dtype: str, env: Environment) -> torch.Tensor:
    """The inclusive scan along `dim`; halves accumulate in f32."""
    row = SCANS[fn]
    result = env.dtype(dtype if row.result == "same" else row.result)
    if x.numel() == 0:
        return x.to(result)
    x = plain(x.to(env.dtype(compute_dtype(dtype))))
    return _evaluate(row.reference, x=x, dim=dim).to(result)


def _limit(which: str) -> Callable[[str], bool | int | float]:
    """The largest (`max`) or smallest (`min`) element of a dtype."""

    def value(dtype: str) -> bool | int | float:
        import torch

        row = DTYPES[dtype]
        if row.kind == "float":
            return float("inf") if which == "max" else float("-inf")
        if row.kind == "bool":
            return which == "max"
        return getattr(torch.iinfo(getattr(torch, row.torch_name)), which)

    return value


_NEUTRAL: dict[str, Callable[[str], bool | int | float]] = {
    "sum": lambda dtype: 0,
    "prod": lambda dtype: 1,
    "max": _limit("min"),
    "min": _limit("max"),
    "fmax": _limit("min"),
    "any": lambda dtype: False,
    "all": lambda dtype: True,
}


def neutral(fn: str, dtype: str, shape: Sequence[int] = ()) -> bool | int | float:
    """What the reduction `fn` of no elements gives; 0 where the result (of `shape`) has no elements either.

    Raises InterpreterError where there is none (argmax of nothing).
    """
    if fn in _NEUTRAL:
        return _NEUTRAL[fn](dtype)
    if 0 in shape:
        return 0
    raise InterpreterError(f"{fn} over no elements has no result")
