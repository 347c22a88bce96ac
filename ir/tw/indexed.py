"""Ops whose positions are data: reading and writing through index tensors."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def, traits_def, var_operand_def
from xdsl.traits import Pure

from ..dtypes import DTYPES, compute_dtype
from ..expr import IntExpr
from ..types import DimsAttr, ScalarAttr, TensorType, dims_text
from .base import TwOp, require, tensor_type


def indexed_shape(
    type: TensorType, indices: Sequence[TensorType], dims: Sequence[int]
) -> tuple[IntExpr, ...]:
    """The shape of what index tensors select along adjacent `dims`. Raises VerifyException where they do not fit."""
    require(len(indices) == len(dims) >= 1, "one index tensor per dim")
    require(list(dims) == list(range(dims[0], dims[0] + len(dims))), "indexed dims are adjacent")
    require(dims[0] >= 0 and dims[-1] < type.rank, "indexed dim out of range")
    require(all(i.shape == indices[0].shape for i in indices), "index tensors differ in shape")
    require(all(DTYPES[i.dtype].is_integer for i in indices), "indices are integers")
    return (*type.shape[: dims[0]], *indices[0].shape, *type.shape[dims[-1] + 1 :])


@irdl_op_definition
class GatherOp(TwOp):
    """`tw.gather %x, %i... {dims, wrap} : (X, I...) -> T`: `x` read at computed positions of adjacent dims.

    The index tensors are integers of one shape K. Result shape: ``x.shape[:d0] + K + x.shape[dn + 1:]``.
    A position outside the dim is an IndexError at run time; with `wrap` negative positions count from the end.
    """

    name = "tw.gather"
    source = operand_def(TensorType)
    indices = var_operand_def(TensorType)
    dims = prop_def(DimsAttr)
    wrap = prop_def(ScalarAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$source `at` $indices attr-dict `:` type($source) `,` type($indices) `->` type($result)"
    )

    @staticmethod
    def make(source: SSAValue, indices: Sequence[SSAValue], dims: Sequence[int], wrap: bool = True) -> GatherOp:
        type = tensor_type(source)
        shape = (*type.shape[: dims[0]], *tensor_type(indices[0]).shape, *type.shape[dims[-1] + 1 :])
        return GatherOp.create(
            operands=[source, *indices],
            properties={"dims": DimsAttr(dims), "wrap": ScalarAttr(wrap)},
            result_types=[TensorType.get(shape, type.dtype)],
        )

    def verify_(self) -> None:
        source, result = tensor_type(self.source), tensor_type(self.result)
        shape = indexed_shape(source, [tensor_type(i) for i in self.indices], self.dims.ints())
        require(result.shape == shape and result.dtype == source.dtype, f"the result is {dims_text(shape)}")


SCATTERS = ("set", "sum", "prod", "max", "min")
"""How `tw.scatter` and `tile.update` combine an element in memory with a new value."""


@irdl_op_definition
class ScatterOp(TwOp):
    """`tw.scatter "sum" %x, %u at %i... {dims, wrap} : X, U, I... -> X`: `x` with `u` written at computed positions.

    The index tensors are integers of one shape K; they give the positions along `dims` (adjacent) of the updates, whose
    shape is ``x.shape[:d0] + K + x.shape[dn + 1:]``: each element of `u` is combined into the element of the result
    that `tw.gather` with the same indices reads. Elements of `u` take effect in row-major order, so with "set" the last
    of equal positions stays, and sums have one order. "sum" and "prod" take no halves (widen first) and no bools; NaN
    wins in "max" and "min". A position outside the dim is an IndexError at run time; with `wrap` negative positions
    count from the end.
    """

    name = "tw.scatter"
    fn = prop_def(StringAttr)
    base = operand_def(TensorType)
    updates = operand_def(TensorType)
    indices = var_operand_def(TensorType)
    dims = prop_def(DimsAttr)
    wrap = prop_def(ScalarAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$fn $base `,` $updates `at` $indices attr-dict `:` type($base) `,` type($updates) `,` type($indices) `->` "
        "type($result)"
    )

    @staticmethod
    def make(
        fn: str, base: SSAValue, indices: Sequence[SSAValue], updates: SSAValue, dims: Sequence[int], wrap: bool = True
    ) -> ScatterOp:
        return ScatterOp.create(
            operands=[base, updates, *indices],
            properties={"fn": StringAttr(fn), "dims": DimsAttr(dims), "wrap": ScalarAttr(wrap)},
            result_types=[base.type],
        )

    def verify_(self) -> None:
        base, updates = tensor_type(self.base), tensor_type(self.updates)
        require(self.fn.data in SCATTERS, f"{self.fn.data!r} is none of {', '.join(SCATTERS)}")
        require(self.result.type == base, "a scatter keeps the type")
        require(updates.dtype == base.dtype, "base and updates differ in dtype")
        if self.fn.data in ("sum", "prod"):
            widest = compute_dtype(base.dtype) == base.dtype != "bool"
            require(widest, f"{self.fn.data} does not take {base.dtype}")
        shape = indexed_shape(base, [tensor_type(i) for i in self.indices], self.dims.ints())
        require(updates.shape == shape, f"the updates have shape {dims_text(updates.shape)}, not {dims_text(shape)}")
