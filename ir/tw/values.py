"""Ops that make and compute elements: constants, positions, scalar functions, reductions, scans."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def, traits_def, var_operand_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ..dtypes import DTYPES
from ..expr import IntExpr
from ..scalars import REDUCTIONS, SCALARS, SCANS, kind_of
from ..types import DimsAttr, ScalarAttr, TensorType, broadcast_shapes, dims_text
from .base import TwOp, require, tensor_type


@irdl_op_definition
class ConstantOp(TwOp):
    """`tw.constant {value = #tw.scalar<1.0>} : T`: every element is `value`."""

    name = "tw.constant"
    value = prop_def(ScalarAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($result)"

    @staticmethod
    def make(value: bool | int | float, type: TensorType) -> ConstantOp:
        return ConstantOp.create(properties={"value": ScalarAttr(value)}, result_types=[type])


@irdl_op_definition
class IotaOp(TwOp):
    """`tw.iota {dim, start, step} : T`: element ``start + step * index[dim]``; integer dtypes."""

    name = "tw.iota"
    dim = prop_def(DimsAttr)
    start = prop_def(DimsAttr)
    step = prop_def(DimsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($result)"

    @staticmethod
    def make(type: TensorType, dim: int, start: IntExpr = 0, step: IntExpr = 1) -> IotaOp:
        return IotaOp.create(
            properties={"dim": DimsAttr([dim]), "start": DimsAttr([start]), "step": DimsAttr([step])},
            result_types=[type],
        )

    def verify_(self) -> None:
        type = tensor_type(self.result)
        require(DTYPES[type.dtype].is_integer, "iota counts in integers")
        require(0 <= self.dim.ints()[0] < type.rank, "dim out of range")


@irdl_op_definition
class SizeOp(TwOp):
    """`tw.size {value = #tw.dims<["2*s0"]>} : !tw.tensor<[], i64>`: a symbolic size as a number."""

    name = "tw.size"
    value = prop_def(DimsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($result)"


@irdl_op_definition
class SeedOp(TwOp):
    """`tw.seed : !tw.tensor<[], i64>`: 64 bits drawn from torch's default generator, anew in each call.

    What `tw.map "philox"` makes random numbers from. Drawing advances the generator, so the op is neither dropped nor
    merged with another.
    """

    name = "tw.seed"
    result = result_def(TensorType)
    assembly_format = "attr-dict `:` type($result)"

    def verify_(self) -> None:
        require(tensor_type(self.result) == TensorType.get((), "i64"), "a seed is an i64 number of rank 0")


@irdl_op_definition
class MapOp(TwOp):
    """`tw.map "mul" %a, %b : (A, B) -> T`: a scalar function of `ir/scalars.py`, element by element."""

    name = "tw.map"
    fn = prop_def(StringAttr)
    args = var_operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$fn $args attr-dict `:` functional-type($args, $result)"

    @staticmethod
    def make(fn: str, args: Sequence[SSAValue], dtype: str | None = None) -> MapOp:
        """`dtype` is needed for `cast` only."""
        types = [tensor_type(a) for a in args]
        if dtype is None:
            dtype = "bool" if SCALARS[fn].result == "bool" else types[-1].dtype
        shape = broadcast_shapes([t.shape for t in types])
        return MapOp.create(
            operands=args, properties={"fn": StringAttr(fn)}, result_types=[TensorType.get(shape, dtype)]
        )

    def verify_(self) -> None:
        row = SCALARS.get(self.fn.data)
        if row is None:
            raise VerifyException(f"{self.fn.data!r} is not a scalar function")
        types = [tensor_type(a) for a in self.args]
        result = tensor_type(self.result)
        require(len(types) == row.arity, f"{row.name} takes {row.arity} operands, got {len(types)}")
        operands = types
        if row.name == "where":
            require(types[0].dtype == "bool", "the condition of where is bool")
            operands = types[1:]
        require(len({t.dtype for t in operands}) == 1, f"operands of {row.name} differ in dtype")
        require(
            kind_of(operands[0].dtype) in row.accepts, f"{row.name} does not take {operands[0].dtype}"
        )
        expected = {"bool": "bool", "any": result.dtype, "same": operands[0].dtype}[row.result]
        require(result.dtype == expected, f"{row.name} gives {expected}, not {result.dtype}")
        try:
            shape = broadcast_shapes([t.shape for t in types])
        except ValueError as error:
            raise VerifyException(str(error)) from None
        require(shape == result.shape, f"operands broadcast to {dims_text(shape)}, not {dims_text(result.shape)}")


@irdl_op_definition
class ReduceOp(TwOp):
    """`tw.reduce "max" %a {dims = #tw.dims<[1]>} : A -> T`: the dims stay, with size 1."""

    name = "tw.reduce"
    fn = prop_def(StringAttr)
    source = operand_def(TensorType)
    dims = prop_def(DimsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$fn $source attr-dict `:` type($source) `->` type($result)"

    @staticmethod
    def make(fn: str, source: SSAValue, dims: Sequence[int]) -> ReduceOp:
        type = tensor_type(source)
        shape = [1 if i in dims else d for i, d in enumerate(type.shape)]
        dtype = REDUCTIONS[fn].result
        return ReduceOp.create(
            operands=[source],
            properties={"fn": StringAttr(fn), "dims": DimsAttr(sorted(dims))},
            result_types=[TensorType.get(shape, type.dtype if dtype == "same" else dtype)],
        )

    def verify_(self) -> None:
        row = REDUCTIONS.get(self.fn.data)
        if row is None:
            raise VerifyException(f"{self.fn.data!r} is not a reduction")
        source, result = tensor_type(self.source), tensor_type(self.result)
        dims = self.dims.ints()
        require(kind_of(source.dtype) in row.accepts, f"{row.name} does not take {source.dtype}")
        require(
            list(dims) == sorted(set(dims)) and all(0 <= d < source.rank for d in dims),
            f"dims {dims} are not sorted dims of a rank-{source.rank} tensor",
        )
        require(row.result != "i64" or len(dims) == 1, f"{row.name} takes one dim")
        shape = tuple(1 if i in dims else d for i, d in enumerate(source.shape))
        require(result.shape == shape, f"the result has shape {dims_text(shape)}, not {dims_text(result.shape)}")
        require(result.dtype == (row.result if row.result != "same" else source.dtype), "wrong result dtype")


@irdl_op_definition
class ScanOp(TwOp):
    """`tw.scan "sum" %a {dim = #tw.dims<[1]>} : A -> A`: inclusive prefix along one dim."""

    name = "tw.scan"
    fn = prop_def(StringAttr)
    source = operand_def(TensorType)
    dim = prop_def(DimsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$fn $source attr-dict `:` type($source) `->` type($result)"

    @staticmethod
    def make(fn: str, source: SSAValue, dim: int) -> ScanOp:
        type, dtype = tensor_type(source), SCANS[fn].result
        return ScanOp.create(
            operands=[source],
            properties={"fn": StringAttr(fn), "dim": DimsAttr([dim])},
            result_types=[type if dtype == "same" else TensorType.get(type.shape, dtype)],
        )

    def verify_(self) -> None:
        row = SCANS.get(self.fn.data)
        if row is None:
            raise VerifyException(f"{self.fn.data!r} is not a scan")
        source, result = tensor_type(self.source), tensor_type(self.result)
        require(kind_of(source.dtype) in row.accepts, f"a scan for the {row.name} does not take {source.dtype}")
        require(source.shape == result.shape, "a scan keeps the shape")
        require(result.dtype == (source.dtype if row.result == "same" else row.result), "wrong result dtype")
