"""A builder of `tw` ops: inserts at a point of a block, gives every op its location, and returns values.

>>> build = Builder.at_end(block, location=NameLoc(...))
>>> y = build.map("mul", x, build.constant(2.0, "f32"))

Result types follow from the operands. A view, broadcast or cast that would change nothing returns its source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from xdsl.dialects.builtin import ArrayAttr, LocationAttr, StringAttr
from xdsl.ir import Block, Operation, SSAValue

from . import tw
from .dtypes import DTYPES, round_to
from .expr import IntExpr
from .text import UNKNOWN
from .tw import tensor_type
from .types import DimsAttr, ScalarAttr, TensorType

OpT = TypeVar("OpT", bound=Operation)


class Builder:
    """Inserts ops before `anchor`, or at the end of `block` where it is None.

    `location` is given to every op inserted; assign to it to move on to the next source line.
    `inserted` lists the ops in order.
    """

    def __init__(self, block: Block, anchor: Operation | None = None, location: LocationAttr = UNKNOWN):
        self.block = block
        self.anchor = anchor
        self.location = location
        self.inserted: list[Operation] = []

    @classmethod
    def at_end(cls, block: Block, location: LocationAttr = UNKNOWN) -> Builder:
        return cls(block, None, location)

    @classmethod
    def at_start(cls, block: Block, location: LocationAttr = UNKNOWN) -> Builder:
        return cls(block, block.first_op, location)

    @classmethod
    def before(cls, op: Operation) -> Builder:
        """Inserts before `op`, with its location. Raises ValueError where it stands in no block."""
        return cls(_block_of(op), op, op.location)

    @classmethod
    def after(cls, op: Operation) -> Builder:
        """Inserts after `op`, with its location. Raises ValueError where it stands in no block."""
        return cls(_block_of(op), op.next_op, op.location)

    def insert(self, op: OpT) -> OpT:
        """Put `op` at the insertion point; it takes the builder's location unless it has one."""
        if op.location == UNKNOWN:
            op.location = self.location
        if self.anchor is None:
            self.block.add_op(op)
        else:
            self.block.insert_op_before(op, self.anchor)
        self.inserted.append(op)
        return op

    def _value(self, op: Operation) -> SSAValue:
        return self.insert(op).results[0]

    # Leaves.

    def constant(self, value: bool | int | float, dtype: str, shape: Sequence[IntExpr] = ()) -> SSAValue:
        """A tensor whose every element is `value`, rounded to `dtype`."""
        return self._value(tw.ConstantOp.make(_element(dtype, value), TensorType.get(shape, dtype)))

    def iota(self, shape: Sequence[IntExpr], dtype: str, dim: int, start: IntExpr = 0, step: IntExpr = 1) -> SSAValue:
        """Element ``start + step * index[dim]``."""
        return self._value(tw.IotaOp.make(TensorType.get(shape, dtype), dim, start, step))

    def size(self, value: IntExpr) -> SSAValue:
        """A size as an i64 number of rank 0; a constant where it is known."""
        if isinstance(value, int):
            return self.constant(value, "i64")
        return self._value(
            tw.SizeOp.create(properties={"value": DimsAttr([value])}, result_types=[TensorType.get((), "i64")])
        )

    def seed(self) -> SSAValue:
        """64 random bits of torch's default generator, as an i64 number of rank 0."""
        return self._value(tw.SeedOp.create(result_types=[TensorType.get((), "i64")]))

    # Arithmetic.

    def map(self, fn: str, *args: SSAValue, dtype: str | None = None) -> SSAValue:
        """A scalar function of `ir/scalars.py`; shapes broadcast. `dtype`: the result's, for `cast` only."""
        return self._value(tw.MapOp.make(fn, args, dtype))

    def cast(self, source: SSAValue, dtype: str) -> SSAValue:
        if tensor_type(source).dtype == dtype:
            return source
        return self.map("cast", source, dtype=dtype)

    def where(self, condition: SSAValue, true: SSAValue, false: SSAValue) -> SSAValue:
        return self.map("where", condition, true, false)

    def reduce(self, fn: str, source: SSAValue, dims: Sequence[int]) -> SSAValue:
        """Combine over `dims` (non-negative), which stay with size 1."""
        return self._value(tw.ReduceOp.make(fn, source, dims))

    def scan(self, fn: str, source: SSAValue, dim: int) -> SSAValue:
        return self._value(tw.ScanOp.make(fn, source, dim))

    # Views.

    def reshape(self, source: SSAValue, shape: Sequence[IntExpr]) -> SSAValue:
        if tensor_type(source).shape == tuple(shape):
            return source
        return self._value(tw.ReshapeOp.make(source, shape))

    def permute(self, source: SSAValue, dims: Sequence[int]) -> SSAValue:
        """Result dim i is source dim ``dims[i]``."""
        if list(dims) == list(range(len(dims))):
            return source
        return self._value(tw.PermuteOp.make(source, dims))

    def slice(
        self,
        source: SSAValue,
        starts: Sequence[IntExpr],
        shape: Sequence[IntExpr],
        steps: Sequence[int] | None = None,
    ) -> SSAValue:
        """Element i is source element ``starts + i * steps``; `shape` is the result's."""
        whole = tensor_type(source).shape == tuple(shape) and all(start == 0 for start in starts)
        if whole and all(step == 1 for step in steps or ()):
            return source
        return self._value(tw.SliceOp.make(source, starts, shape, steps))

    def slice_dim(self, source: SSAValue, dim: int, start: IntExpr, count: IntExpr, step: int = 1) -> SSAValue:
        """`count` elements of one dim, from `start`; the other dims stay whole."""
        shape = list(tensor_type(source).shape)
        starts: list[IntExpr] = [0] * len(shape)
        steps = [1] * len(shape)
        shape[dim], starts[dim], steps[dim] = count, start, step
        return self.slice(source, starts, shape, steps)

    def broadcast(self, source: SSAValue, shape: Sequence[IntExpr]) -> SSAValue:
        if tensor_type(source).shape == tuple(shape):
            return source
        return self._value(tw.BroadcastOp.make(source, shape))

    def pad(
        self, source: SSAValue, low: Sequence[IntExpr], high: Sequence[IntExpr], value: bool | int | float
    ) -> SSAValue:
        """Borders of `value`, rounded to the source's dtype; negative amounts crop."""
        if all(amount == 0 for amount in (*low, *high)):
            return source
        return self._value(tw.PadOp.make(source, low, high, _element(tensor_type(source).dtype, value)))

    def concat(self, args: Sequence[SSAValue], dim: int) -> SSAValue:
        if len(args) == 1:
            return args[0]
        return self._value(tw.ConcatOp.make(args, dim))

    def gather(self, source: SSAValue, indices: Sequence[SSAValue], dims: Sequence[int], wrap: bool = True) -> SSAValue:
        """`source` read at `indices` (integers of one shape) along adjacent `dims`."""
        return self._value(tw.GatherOp.make(source, indices, dims, wrap))

    def scatter(
        self, fn: str, base: SSAValue, indices: Sequence[SSAValue], updates: SSAValue, dims: Sequence[int],
        wrap: bool = True,
    ) -> SSAValue:
        """`base` with `updates` combined into it at `indices` (integers of one shape) along adjacent `dims`."""
        return self._value(tw.ScatterOp.make(fn, base, indices, updates, dims, wrap))

    # Library calls.

    def matmul(self, lhs: SSAValue, rhs: SSAValue, bias: SSAValue | None = None) -> SSAValue:
        return self._value(tw.MatmulOp.make(lhs, rhs, bias))

    def conv(
        self,
        args: Sequence[SSAValue],
        result: TensorType,
        *,
        stride: Sequence[IntExpr],
        padding: Sequence[IntExpr],
        dilation: Sequence[IntExpr],
        transposed: bool,
        output_padding: Sequence[IntExpr],
        groups: int,
        strides: Sequence[IntExpr],
    ) -> SSAValue:
        """`args` is x, w and perhaps the bias; `strides` is the memory layout of the library's `result`."""
        properties = {
            "stride": DimsAttr(stride),
            "padding": DimsAttr(padding),
            "dilation": DimsAttr(dilation),
            "transposed": ScalarAttr(transposed),
            "output_padding": DimsAttr(output_padding),
            "groups": DimsAttr([groups]),
            "strides": DimsAttr(strides),
        }
        return self._value(tw.ConvOp.create(operands=args, properties=properties, result_types=[result]))

    def attention(
        self, args: Sequence[SSAValue], *, scale: float | None, causal: bool, strides: Sequence[IntExpr]
    ) -> SSAValue:
        """`args` is q, k, v and perhaps the mask; `strides` is the memory layout of the library's result."""
        q, v = tensor_type(args[0]), tensor_type(args[2])
        properties: dict[str, DimsAttr | ScalarAttr] = {
            "causal": ScalarAttr(causal),
            "strides": DimsAttr(strides),
        }
        if scale is not None:
            properties["scale"] = ScalarAttr(scale)
        result = TensorType.get((*q.shape[:-1], v.shape[-1]), q.dtype)
        return self._value(tw.AttentionOp.create(operands=args, properties=properties, result_types=[result]))

    def aten(
        self,
        target: str,
        args: Sequence[SSAValue],
        arguments: str,
        results: Sequence[TensorType],
        strides: Sequence[Sequence[IntExpr]],
        reason: str,
        strided: Sequence[int] = (),
    ) -> list[SSAValue]:
        """An opaque call; `arguments` is text of `ir/calls.py`, `strides` has an entry for each result, `strided` are
        the operands that need not be row-major."""
        op = tw.AtenOp.create(
            operands=args,
            properties={
                "target": StringAttr(target),
                "arguments": StringAttr(arguments),
                "strides": ArrayAttr([DimsAttr(s) for s in strides]),
                "reason": StringAttr(reason),
                **({"strided": DimsAttr(strided)} if strided else {}),
            },
            result_types=results,
        )
        return list(self.insert(op).results)

    # Terminators.

    def yield_(self, args: Sequence[SSAValue]) -> tw.YieldOp:
        return self.insert(tw.YieldOp.create(operands=args))

    def return_(self, args: Sequence[SSAValue]) -> tw.ReturnOp:
        return self.insert(tw.ReturnOp.create(operands=args))


def _element(dtype: str, value: bool | int | float) -> bool | int | float:
    """`value` as an element. 8-bit floats and complex numbers stay as given: they are rounded where stored."""
    row = DTYPES[dtype]
    return value if row.kind == "complex" or (row.is_float and row.itemsize == 1) else round_to(dtype, value)


def _block_of(op: Operation) -> Block:
    block = op.parent_block()
    if block is None:
        raise ValueError(f"{op.name} stands in no block")
    return block
