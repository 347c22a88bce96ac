"""What an import rule sees of one call: the builder, the expected results, operands as values of a dtype."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from xdsl.ir import SSAValue

from tilewright.ir.builder import Builder
from tilewright.ir.dtypes import BY_TORCH_NAME, DTYPES, compute_dtype, round_to
from tilewright.ir.expr import Expr, IntExpr, product
from tilewright.ir.tw import tensor_type
from tilewright.ir.types import TensorType

from .symbols import Sizes, dtype_name
from .table import refuse, refuse_if

Operand = SSAValue | Expr | bool | int | float
"""A tensor, a symbolic size, or a Python number."""


class Call:
    """One call of an ATen overload.

    `build` inserts ops at the call's place. `types` are the types that tracing found for the results (None for a result
    that is no tensor).
    """

    def __init__(
        self, build: Builder, node: torch.fx.Node, results: Sequence[torch.Tensor | None], sizes: Sizes
    ):
        self.build = build
        self.node = node
        self.types = [None if r is None else sizes.tensor_type(r) for r in results]
        self._results = results
        self._sizes = sizes

    def type_of(self, index: int) -> TensorType:
        """The type of result `index`."""
        result = self.types[index]
        assert result is not None, self.node.name
        return result

    @property
    def shape(self) -> tuple[IntExpr, ...]:
        """The shape of the first result."""
        return self.type_of(0).shape

    @property
    def dtype(self) -> str:
        """The dtype of the first result."""
        return self.type_of(0).dtype

    @property
    def is_float(self) -> bool:
        return DTYPES[self.dtype].is_float

    def strides(self, index: int = 0) -> tuple[IntExpr, ...]:
        """The strides that tracing found for result `index`, in elements."""
        result = self._results[index]
        assert result is not None, self.node.name
        return self._sizes.strides(result)

    @property
    def traced_operand(self) -> torch.Tensor:
        """What tracing knows of the first operand, its memory layout included."""
        return self.node.all_input_nodes[0].meta["val"]

    @property
    def becomes_its_operand(self) -> bool:
        """Whether the first operand is an argument of the graph, and the result its new value."""
        source = self.node.args[0]
        return isinstance(source, torch.fx.Node) and source.op == "placeholder" and any(
            user.target is torch.ops.aten.copy_.default and user.args[:2] == (source, self.node)
            for user in self.node.users
        )

    @property
    def returned_beside_others(self) -> bool:
        """Whether the caller gets the result, or a view of it, and has other tensors of the same memory: the two are to
        stay views of each other."""
        graph = self.node.graph

        def sharing(nodes: Iterable[torch.fx.Node]) -> int:
            own = storage_of(self._results[0])
            storages = [storage_of(node.meta.get("val")) for node in nodes]
            return sum(own is not None and storage is not None and storage == own for storage in storages)

        given = sharing(graph.output_node().all_input_nodes)
        return given > 0 and given + sharing(graph.find_nodes(op="placeholder")) > 1

    def used(self, index: int) -> bool:
        """Whether result `index` of a call with several results is read."""
        return any(user.target is not operator.getitem or user.args[1] == index for user in self.node.users)

    # Operands.

    def value(self, operand: Operand, dtype: str) -> SSAValue:
        """The operand as a tensor of `dtype`; numbers become constants of rank 0."""
        if isinstance(operand, SSAValue):
            return self.build.cast(operand, dtype)
        if isinstance(operand, Expr):
            return self.build.cast(self.build.size(operand), dtype)
        return self.build.constant(element(operand, dtype), dtype)

    def wide(self, operand: Operand, dtype: str | None = None) -> SSAValue:
        """The operand in the type that arithmetic on `dtype` (the result's, if not given) happens in."""
        return self.value(operand, compute_dtype(dtype or self.dtype))

    def narrow(self, value: SSAValue, index: int = 0) -> SSAValue:
        """The value in the dtype of result `index`."""
        return self.build.cast(value, self.type_of(index).dtype)

    def map(self, fn: str, *operands: Operand) -> SSAValue:
        """A scalar function of operands that are promoted to the result's dtype first."""
        return self.build.map(fn, *[self.value(o, self.dtype) for o in operands])

    def wide_map(self, fn: str, *operands: Operand) -> SSAValue:
        """As `map`, but numbers that a half cannot hold enter the arithmetic unrounded."""
        if all(isinstance(o, SSAValue) or fits(o, self.dtype) for o in operands):
            return self.map(fn, *operands)
        return self.narrow(self.build.map(fn, *[self.wide(o) for o in operands]))

    # Shapes.

    def reshape(self, value: SSAValue, index: int = 0) -> SSAValue:
        """The value in the shape of result `index`."""
        return self.build.reshape(value, self.type_of(index).shape)

    def count(self, value: SSAValue, dims: Sequence[int], dtype: str) -> SSAValue:
        """How many elements `dims` hold, as a number of rank 0."""
        shape = tensor_type(value).shape
        return self.value(product(shape[d] for d in dims), dtype)


def element(number: bool | int | float, dtype: str) -> bool | int | float:
    """A Python number as an element of `dtype`; refuses one that an integer type cannot hold."""
    if not isinstance(number, (bool, int, float)):
        refuse(f"a number of type {type(number).__name__}")
    if not DTYPES[dtype].is_integer:
        return number
    refuse_if(not math.isfinite(number), f"{number} as an integer")
    refuse_if(round_to(dtype, int(number)) != int(number), f"{number} does not fit {dtype}")
    return int(number)


def fits(operand: Operand, dtype: str) -> bool:
    """Whether a number is an element of the float type `dtype`; true for other types, where nothing is rounded."""
    if isinstance(operand, (SSAValue, Expr)):
        return isinstance(operand, SSAValue)
    return compute_dtype(dtype) == dtype or operand != operand or round_to(dtype, operand) == operand


def dtype_of(value: SSAValue) -> str:
    return tensor_type(value).dtype


def shape_of(value: SSAValue) -> tuple[IntExpr, ...]:
    return tensor_type(value).shape


def is_float(value: SSAValue) -> bool:
    return DTYPES[dtype_of(value)].is_float


def is_half(value: SSAValue) -> bool:
    return compute_dtype(dtype_of(value)) != dtype_of(value)


def normal_dim(dim: int, rank: int) -> int:
    """A dim counted from the front."""
    return dim + rank if dim < 0 else dim


def normal_dims(dims: int | Sequence[int] | None, rank: int) -> list[int]:
    """Dims counted from the front, sorted; none means all. A number has no dims, though ATen accepts 0 and -1."""
    if rank == 0:
        return []
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return list(range(rank))
    return sorted(normal_dim(d, rank) for d in ([dims] if isinstance(dims, int) else dims))


# Promotion: a dim tensor decides before a 0-dim tensor, and that before a Python number, within one category.

_DIM, _ZERO_DIM, _NUMBER = 2, 1, 0


@lru_cache(maxsize=4096)
def _common_dtype(operands: tuple[tuple[str, int], ...]) -> str:
    def category(name: str) -> int:
        return {"bool": 0, "int": 1, "uint": 1, "float": 2}[DTYPES[name].kind]

    highest = max(category(name) for name, _ in operands)
    deciding = [(name, priority) for name, priority in operands if category(name) == highest]
    priority = max(p for _, p in deciding)
    result: torch.dtype | None = None
    for name, rank in deciding:
        if rank == priority:
            dtype = getattr(torch, DTYPES[name].torch_name)
            result = dtype if result is None else torch.promote_types(result, dtype)
    return BY_TORCH_NAME[str(result).removeprefix("torch.")]


def common_dtype(*operands: Operand) -> str:
    """The dtype to which ATen promotes the operands of a comparison or a logical function."""

    def entry(operand: Operand) -> tuple[str, int]:
        if isinstance(operand, SSAValue):
            return dtype_of(operand), _DIM if shape_of(operand) else _ZERO_DIM
        if isinstance(operand, bool):
            return "bool", _NUMBER
        return (dtype_name(torch.get_default_dtype()) if isinstance(operand, float) else "i64"), _NUMBER

    return _common_dtype(tuple([entry(o) for o in operands]))


def storage_of(traced: Any) -> StorageWeakRef | None:
    """What tensors that share memory have in common; None for all that has no memory to share."""
    if not isinstance(traced, torch.Tensor) or traced.layout is not torch.strided:
        return None
    return StorageWeakRef(traced.untyped_storage())
