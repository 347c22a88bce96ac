"""Sizes and types of traced values: sympy expressions become `ir.expr`, fake tensors become tensor types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import sympy
import torch
from torch.utils._sympy.functions import CleanDiv, FloorDiv, Max, Min, Mod, ModularIndexing, PythonMod
from torch.utils._sympy.symbol import SymT, symbol_is_type

from tilewright.ir import expr
from tilewright.ir.dtypes import BY_TORCH_NAME
from tilewright.ir.errors import UnsupportedGraphError
from tilewright.ir.expr import IntExpr
from tilewright.ir.types import TensorType


def _power(base: IntExpr, exponent: IntExpr) -> IntExpr:
    if not isinstance(exponent, int) or exponent < 0:
        raise UnsupportedGraphError(f"the size {base}**{exponent} is not an integer polynomial")
    return expr.product([base] * exponent)


def _fold(function: Callable[[IntExpr, IntExpr], IntExpr]) -> Callable[..., IntExpr]:
    return lambda *args: reduce(function, args)


_FUNCTIONS: dict[type, Callable[..., IntExpr]] = {
    sympy.Add: _fold(lambda a, b: a + b),
    sympy.Mul: _fold(lambda a, b: a * b),
    sympy.Pow: _power,
    sympy.Max: _fold(expr.maximum),
    sympy.Min: _fold(expr.minimum),
    Max: _fold(expr.maximum),
    Min: _fold(expr.minimum),
    FloorDiv: expr.floordiv,
    CleanDiv: expr.floordiv,
    # Sizes are not negative, so that the C-like and the Python remainder agree.
    Mod: expr.mod,
    PythonMod: expr.mod,
    ModularIndexing: lambda base, divisor, modulus: expr.mod(expr.floordiv(base, divisor), modulus),
}


class Sizes:
    """Turns traced sizes into integer expressions; `symbols` holds the names met so far."""

    def __init__(self) -> None:
        self.symbols: set[str] = set()
        self._known: dict[Any, IntExpr] = {}
        self._accepted: set[sympy.Symbol] = set()

    def accept(self, sizes: Iterable[int | torch.SymInt]) -> None:
        """From here on sizes that depended on data, and now are those of an argument, are symbols like others.

        Raises UnsupportedGraphError for one that may be negative: the IR takes it that sizes are not.
        """
        for size in sizes:
            if not isinstance(size, torch.SymInt):
                continue
            for name in size.node.expr.free_symbols - self._accepted:
                if symbol_is_type(name, SymT.UNBACKED_INT):
                    if size.node.shape_env.bound_sympy(name).lower < 0:
                        raise UnsupportedGraphError(f"the number {name}, which depends on data, may be negative")
                    self._accepted.add(name)

    def convert(self, size: int | torch.SymInt) -> IntExpr:
        """The expression of a size. Raises UnsupportedGraphError for one that depends on data."""
        return int(size) if not isinstance(size, torch.SymInt) else self.convert_sympy(size.node.expr)

    def convert_all(self, sizes: Iterable[int | torch.SymInt]) -> tuple[IntExpr, ...]:
        return tuple([size if type(size) is int else self.convert(size) for size in sizes])

    def convert_sympy(self, value: Any) -> IntExpr:
        """The expression of a sympy tree. Raises UnsupportedGraphError for what has no integer expression."""
        if (known := self._known.get(value)) is not None:
            return known
        if isinstance(value, sympy.Integer):
            result: IntExpr = int(value)
        elif isinstance(value, sympy.Symbol):
            if not symbol_is_type(value, SymT.SIZE) and value not in self._accepted:
                raise UnsupportedGraphError(f"the size {value} depends on the data of a tensor")
            self.symbols.add(value.name)
            result = expr.symbol(value.name)
        elif (function := _FUNCTIONS.get(type(value))) is not None:
            result = function(*[self.convert_sympy(arg) for arg in value.args])
        else:
            raise UnsupportedGraphError(f"the size {value} has no integer expression")
        self._known[value] = result
        return result

    def tensor_type(self, value: torch.Tensor) -> TensorType:
        """The type of a traced tensor. Raises UnsupportedGraphError for dtypes and layouts without one."""
        if value.layout != torch.strided:
            raise UnsupportedGraphError(f"tensors of layout {value.layout} have no type in the IR")
        return TensorType.get(self.convert_all(value.shape), dtype_name(value.dtype))

    def strides(self, value: torch.Tensor) -> tuple[IntExpr, ...]:
        """The strides of a traced tensor, in elements."""
        sizes = [size for size in self.convert_all(value.shape) if not isinstance(size, int)]
        return tuple(_without_floor(stride, sizes) for stride in self.convert_all(value.stride()))


def _without_floor(stride: IntExpr, sizes: Iterable[IntExpr]) -> IntExpr:
    """torch writes ``max(size, 1)`` into strides; we the size, as strides do not matter where there are no elements."""
    for size in sizes:
        floor = expr.maximum(size, 1)
        while stride != 0 and floor != size and expr.mod(stride, floor) == 0:
            stride = expr.floordiv(stride, floor) * size
    return stride


def dtype_name(dtype: torch.dtype) -> str:
    """The IR's name of a dtype. Raises UnsupportedGraphError where it has none."""
    name = BY_TORCH_NAME.get(str(dtype).removeprefix("torch."))
    if name is None:
        raise UnsupportedGraphError(f"tensors of dtype {dtype} have no type in the IR")
    return name
