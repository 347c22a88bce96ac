"""Ops that only move elements: views of one tensor, and several side by side."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, prop_def, result_def, traits_def, var_operand_def
from xdsl.traits import Pure

from ..expr import IntExpr, product
from ..types import DimsAttr, ScalarAttr, TensorType, dims_text
from .base import TwOp, ViewOp, require, tensor_type


@irdl_op_definition
class ReshapeOp(ViewOp):
    """`tw.reshape %a : A -> T`: the same elements in row-major order."""

    name = "tw.reshape"

    @staticmethod
    def make(source: SSAValue, shape: Sequence[IntExpr]) -> ReshapeOp:
        return ReshapeOp.create(
            operands=[source], result_types=[TensorType.get(shape, tensor_type(source).dtype)]
        )

    def verify_(self) -> None:
        super().verify_()
        numels = product(self.in_type.shape), product(self.out_type.shape)
        require(
            numels[0] == numels[1] or not all(isinstance(n, int) for n in numels),
            f"{numels[0]} elements cannot become {numels[1]}",
        )


@irdl_op_definition
class PermuteOp(ViewOp):
    """`tw.permute %a {dims = #tw.dims<[1, 0]>} : A -> T`: result dim i is source dim dims[i]."""

    name = "tw.permute"
    dims = prop_def(DimsAttr)

    @staticmethod
    def make(source: SSAValue, dims: Sequence[int]) -> PermuteOp:
        type = tensor_type(source)
        return PermuteOp.create(
            operands=[source],
            properties={"dims": DimsAttr(dims)},
            result_types=[TensorType.get([type.shape[d] for d in dims], type.dtype)],
        )

    def verify_(self) -> None:
        super().verify_()
        dims = self.dims.ints()
        require(sorted(dims) == list(range(self.in_type.rank)), f"{dims} is not a permutation")
        require(self.out_type.shape == tuple(self.in_type.shape[d] for d in dims), "wrong result shape")


@irdl_op_definition
class SliceOp(ViewOp):
    """`tw.slice %a {starts, steps} : A -> T`: element i is source element ``starts + i * steps``.

    Steps may be negative.
    """

    name = "tw.slice"
    starts = prop_def(DimsAttr)
    steps = prop_def(DimsAttr)

    @staticmethod
    def make(
        source: SSAValue, starts: Sequence[IntExpr], shape: Sequence[IntExpr], steps: Sequence[int] | None = None
    ) -> SliceOp:
        return SliceOp.create(
            operands=[source],
            properties={"starts": DimsAttr(starts), "steps": DimsAttr(steps or [1] * len(shape))},
            result_types=[TensorType.get(shape, tensor_type(source).dtype)],
        )

    def verify_(self) -> None:
        super().verify_()
        rank = self.in_type.rank
        require(self.out_type.rank == rank, "a slice keeps the rank")
        require(len(self.starts.data) == rank and len(self.steps.data) == rank, "one start and step per dim")
        for size, start, step, count in zip(
            self.in_type.shape, self.starts.data, self.steps.ints(), self.out_type.shape
        ):
            require(step != 0, "step 0")
            if isinstance(size, int) and isinstance(start, int) and isinstance(count, int) and count > 0:
                last = start + (count - 1) * step
                require(0 <= start < size and 0 <= last < size, f"slice [{start}, {last}] leaves [0, {size})")


@irdl_op_definition
class BroadcastOp(ViewOp):
    """`tw.broadcast %a : A -> T`: numpy-style expansion to the result's shape."""

    name = "tw.broadcast"

    @staticmethod
    def make(source: SSAValue, shape: Sequence[IntExpr]) -> BroadcastOp:
        return BroadcastOp.create(
            operands=[source], result_types=[TensorType.get(shape, tensor_type(source).dtype)]
        )

    def verify_(self) -> None:
        super().verify_()
        offset = self.out_type.rank - self.in_type.rank
        require(offset >= 0, "a broadcast cannot drop dims")
        for have, want in zip(self.in_type.shape, self.out_type.shape[offset:]):
            require(have == 1 or have == want, f"{dims_text(self.in_type.shape)} does not expand to "
                     f"{dims_text(self.out_type.shape)}")


@irdl_op_definition
class PadOp(ViewOp):
    """`tw.pad %a {low, high, value} : A -> T`: constant borders; negative amounts crop."""

    name = "tw.pad"
    low = prop_def(DimsAttr)
    high = prop_def(DimsAttr)
    value = prop_def(ScalarAttr)

    @staticmethod
    def make(
        source: SSAValue, low: Sequence[IntExpr], high: Sequence[IntExpr], value: bool | int | float
    ) -> PadOp:
        type = tensor_type(source)
        shape = [d + a + b for d, a, b in zip(type.shape, low, high)]
        return PadOp.create(
            operands=[source],
            properties={"low": DimsAttr(low), "high": DimsAttr(high), "value": ScalarAttr(value)},
            result_types=[TensorType.get(shape, type.dtype)],
        )

    def verify_(self) -> None:
        super().verify_()
        shape = tuple(d + a + b for d, a, b in zip(self.in_type.shape, self.low.data, self.high.data))
        require(shape == self.out_type.shape, f"the padded shape is {dims_text(shape)}")


@irdl_op_definition
class ConcatOp(TwOp):
    """`tw.concat %a, %b {dim = #tw.dims<[0]>} : (A, B) -> T`."""

    name = "tw.concat"
    args = var_operand_def(TensorType)
    dim = prop_def(DimsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$args attr-dict `:` functional-type($args, $result)"

    @staticmethod
    def make(args: Sequence[SSAValue], dim: int) -> ConcatOp:
        types = [tensor_type(a) for a in args]
        shape = list(types[0].shape)
        for type in types[1:]:
            shape[dim] = shape[dim] + type.shape[dim]
        return ConcatOp.create(
            operands=args,
            properties={"dim": DimsAttr([dim])},
            result_types=[TensorType.get(shape, types[0].dtype)],
        )

    def verify_(self) -> None:
        types = [tensor_type(a) for a in self.args]
        result = tensor_type(self.result)
        dim = self.dim.ints()[0]
        require(bool(types), "nothing to concatenate")
        total: IntExpr = 0
        for type in types:
            require(type.dtype == result.dtype, "concat keeps the dtype")
            require(
                type.rank == result.rank
                and all(i == dim or a == b for i, (a, b) in enumerate(zip(type.shape, result.shape))),
                "concat operands differ outside the dim",
            )
            total = total + type.shape[dim]
        require(total == result.shape[dim], f"the sizes add up to {total}, not {result.shape[dim]}")
