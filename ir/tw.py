"""The `tw` dialect: a graph of tensors. Few ops, open tables.

Semantics shared by all ops:

* Shapes of `tw.map` operands broadcast as in numpy. All operands have one dtype (`where` takes a bool first; `cast`
  converts). Halves compute in f32 and the result is rounded once.
* `tw.reduce` and `tw.scan` keep the reduced dims (size 1), so that results broadcast back without a reshape. Halves
  accumulate in f32.
* View ops take their target shape from the result type.
* Memory layout is not a matter of this level. Where it enters or leaves it is an attribute: `arg_strides` and
  `result_strides` of the function, `strides` of results of opaque calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ArrayAttr, StringAttr
from xdsl.ir import Attribute, Block, Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsTerminator, Pure
from xdsl.utils.exceptions import VerifyException

from .dtypes import DTYPES
from .expr import IntExpr, product
from .scalars import REDUCTIONS, SCALARS, SCANS, kind_of
from .types import DimsAttr, ScalarAttr, TensorType, broadcast_shapes, dims_text

Tensor = TensorType


def tensor_type(value: SSAValue) -> TensorType:
    """The tensor type of a value. Raises VerifyException where it is not a tensor."""
    if not isinstance(value.type, TensorType):
        raise VerifyException(f"expected a tw.tensor, got {value.type}")
    return value.type


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise VerifyException(message)


class TwOp(IRDLOperation):
    """Base of the dialect's ops."""

    irdl_options = (ParsePropInAttrDict(),)


class ViewOp(TwOp):
    """An op that only says where elements come from."""

    source = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$source attr-dict `:` type($source) `->` type($result)"

    @property
    def in_type(self) -> TensorType:
        return tensor_type(self.source)

    @property
    def out_type(self) -> TensorType:
        return tensor_type(self.result)

    def verify_(self) -> None:
        _require(self.in_type.dtype == self.out_type.dtype, "a view keeps the dtype")


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
        _require(DTYPES[type.dtype].is_integer, "iota counts in integers")
        _require(0 <= self.dim.ints()[0] < type.rank, "dim out of range")


@irdl_op_definition
class SizeOp(TwOp):
    """`tw.size {value = #tw.dims<["2*s0"]>} : !tw.tensor<[], i64>`: a symbolic size as a number."""

    name = "tw.size"
    value = prop_def(DimsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($result)"


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
        _require(len(types) == row.arity, f"{row.name} takes {row.arity} operands, got {len(types)}")
        operands = types
        if row.name == "where":
            _require(types[0].dtype == "bool", "the condition of where is bool")
            operands = types[1:]
        _require(len({t.dtype for t in operands}) == 1, f"operands of {row.name} differ in dtype")
        _require(
            kind_of(operands[0].dtype) in row.accepts, f"{row.name} does not take {operands[0].dtype}"
        )
        expected = {"bool": "bool", "any": result.dtype, "same": operands[0].dtype}[row.result]
        _require(result.dtype == expected, f"{row.name} gives {expected}, not {result.dtype}")
        try:
            shape = broadcast_shapes([t.shape for t in types])
        except ValueError as error:
            raise VerifyException(str(error)) from None
        _require(shape == result.shape, f"operands broadcast to {dims_text(shape)}, not {dims_text(result.shape)}")


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
        _require(kind_of(source.dtype) in row.accepts, f"{row.name} does not take {source.dtype}")
        _require(
            list(dims) == sorted(set(dims)) and all(0 <= d < source.rank for d in dims),
            f"dims {dims} are not sorted dims of a rank-{source.rank} tensor",
        )
        _require(row.result != "i64" or len(dims) == 1, f"{row.name} takes one dim")
        shape = tuple(1 if i in dims else d for i, d in enumerate(source.shape))
        _require(result.shape == shape, f"the result has shape {dims_text(shape)}, not {dims_text(result.shape)}")
        _require(result.dtype == (row.result if row.result != "same" else source.dtype), "wrong result dtype")


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
        return ScanOp.create(
            operands=[source],
            properties={"fn": StringAttr(fn), "dim": DimsAttr([dim])},
            result_types=[source.type],
        )

    def verify_(self) -> None:
        _require(self.fn.data in SCANS, f"{self.fn.data!r} is not a scan")
        _require(self.source.type == self.result.type, "a scan keeps the type")


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
        _require(
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
        _require(sorted(dims) == list(range(self.in_type.rank)), f"{dims} is not a permutation")
        _require(self.out_type.shape == tuple(self.in_type.shape[d] for d in dims), "wrong result shape")


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
        _require(self.out_type.rank == rank, "a slice keeps the rank")
        _require(len(self.starts.data) == rank and len(self.steps.data) == rank, "one start and step per dim")
        for size, start, step, count in zip(
            self.in_type.shape, self.starts.data, self.steps.ints(), self.out_type.shape
        ):
            _require(step != 0, "step 0")
            if isinstance(size, int) and isinstance(start, int) and isinstance(count, int) and count > 0:
                last = start + (count - 1) * step
                _require(0 <= start < size and 0 <= last < size, f"slice [{start}, {last}] leaves [0, {size})")


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
        _require(offset >= 0, "a broadcast cannot drop dims")
        for have, want in zip(self.in_type.shape, self.out_type.shape[offset:]):
            _require(have == 1 or have == want, f"{dims_text(self.in_type.shape)} does not expand to "
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
        _require(shape == self.out_type.shape, f"the padded shape is {dims_text(shape)}")


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
        _require(bool(types), "nothing to concatenate")
        total: IntExpr = 0
        for type in types:
            _require(type.dtype == result.dtype, "concat keeps the dtype")
            _require(
                type.rank == result.rank
                and all(i == dim or a == b for i, (a, b) in enumerate(zip(type.shape, result.shape))),
                "concat operands differ outside the dim",
            )
            total = total + type.shape[dim]
        _require(total == result.shape[dim], f"the sizes add up to {total}, not {result.shape[dim]}")


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
        dims = self.dims.ints()
        types = [tensor_type(i) for i in self.indices]
        _require(len(types) == len(dims) >= 1, "one index tensor per dim")
        _require(list(dims) == list(range(dims[0], dims[0] + len(dims))), "gathered dims are adjacent")
        _require(dims[0] >= 0 and dims[-1] < source.rank, "gathered dim out of range")
        _require(all(t.shape == types[0].shape for t in types), "index tensors differ in shape")
        _require(all(DTYPES[t.dtype].is_integer for t in types), "indices are integers")
        shape = (*source.shape[: dims[0]], *types[0].shape, *source.shape[dims[-1] + 1 :])
        _require(result.shape == shape and result.dtype == source.dtype, f"the result is {dims_text(shape)}")


@irdl_op_definition
class MatmulOp(TwOp):
    """`tw.matmul %a, %b[, %bias] : (A, B) -> T`: ``[..., M, K] x [..., K, N]``, equal batch dims, f32 accumulation.

    `bias` (shape [N] or broadcastable to the result) is added before the one rounding.
    """

    name = "tw.matmul"
    args = var_operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$args attr-dict `:` functional-type($args, $result)"

    @staticmethod
    def make(lhs: SSAValue, rhs: SSAValue, bias: SSAValue | None = None) -> MatmulOp:
        a, b = tensor_type(lhs), tensor_type(rhs)
        return MatmulOp.create(
            operands=[lhs, rhs] + ([bias] if bias is not None else []),
            result_types=[TensorType.get((*a.shape[:-1], b.shape[-1]), a.dtype)],
        )

    @property
    def bias(self) -> SSAValue | None:
        return self.args[2] if len(self.args) == 3 else None

    def verify_(self) -> None:
        _require(len(self.args) in (2, 3), "matmul takes two or three operands")
        a, b, result = tensor_type(self.args[0]), tensor_type(self.args[1]), tensor_type(self.result)
        _require(a.dtype == b.dtype == result.dtype, "matmul operands differ in dtype")
        _require(a.rank == b.rank >= 2, "matmul operands have one rank, at least 2")
        _require(a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2], "matmul shapes do not fit")
        _require(result.shape == (*a.shape[:-1], b.shape[-1]), "wrong result shape")


@irdl_op_definition
class ConvOp(TwOp):
    """`tw.conv %x, %w[, %b] {stride, padding, ..., strides} : (X, W) -> T`: ATen's convolution.

    `x` is [N, C, *spatial]; `w` is [O, C/groups, *kernel] (transposed: [C, O/groups, *kernel]). `strides` is the memory
    layout in which the library returns the result.
    """

    name = "tw.conv"
    args = var_operand_def(TensorType)
    stride = prop_def(DimsAttr)
    padding = prop_def(DimsAttr)
    dilation = prop_def(DimsAttr)
    transposed = prop_def(ScalarAttr)
    output_padding = prop_def(DimsAttr)
    groups = prop_def(DimsAttr)
    strides = prop_def(DimsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$args attr-dict `:` functional-type($args, $result)"

    def verify_(self) -> None:
        _require(len(self.args) in (2, 3), "conv takes two or three operands")
        _require(len({tensor_type(a).dtype for a in self.args}) == 1, "conv operands differ in dtype")


@irdl_op_definition
class AttentionOp(TwOp):
    """`tw.attention %q, %k, %v[, %mask] {scale, causal, strides}`: softmax(q kᵀ scale + mask) v.

    q [..., L, E], k [..., S, E], v [..., S, Ev]; the mask is additive, of q's dtype, broadcastable to [..., L, S].
    `strides` is the memory layout of the library's result.
    """

    name = "tw.attention"
    args = var_operand_def(TensorType)
    scale = opt_prop_def(ScalarAttr)
    causal = prop_def(ScalarAttr)
    strides = prop_def(DimsAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$args attr-dict `:` functional-type($args, $result)"

    def verify_(self) -> None:
        _require(len(self.args) in (3, 4), "attention takes q, k, v and perhaps a mask")
        q, v, result = tensor_type(self.args[0]), tensor_type(self.args[2]), tensor_type(self.result)
        _require(result.shape == (*q.shape[:-1], v.shape[-1]), "wrong result shape")


@irdl_op_definition
class AtenOp(TwOp):
    """`tw.aten "aten.sort.default" %x {arguments, strides, reason}`: any other ATen call, opaque.

    `arguments` is the text of `ir/calls.py`; `strides` has an entry for each result. `reason` says why it was not
    imported.
    """

    name = "tw.aten"
    target = prop_def(StringAttr)
    args = var_operand_def(TensorType)
    arguments = prop_def(StringAttr)
    strides = prop_def(ArrayAttr[DimsAttr])
    reason = prop_def(StringAttr)
    outputs = var_result_def(TensorType)
    assembly_format = "$target $args attr-dict `:` functional-type($args, $outputs)"


@irdl_op_definition
class YieldOp(TwOp):
    """`tw.yield %a, %b : A, B`: what a fused region gives."""

    name = "tw.yield"
    args = var_operand_def(TensorType)
    traits = traits_def(IsTerminator())
    assembly_format = "($args^ `:` type($args))? attr-dict"


@irdl_op_definition
class FusedOp(TwOp):
    """`%r = tw.fused {kind, numerics} : T { ... tw.yield }`: what will run as one kernel. Uses outer values directly.

    Inside, intermediate halves may stay in f32 (`numerics = "widens"`).
    """

    name = "tw.fused"
    kind = prop_def(StringAttr)
    numerics = prop_def(StringAttr)
    outputs = var_result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($outputs) $body"

    @staticmethod
    def make(kind: str, numerics: str, body: Block, result_types: Sequence[Attribute]) -> FusedOp:
        return FusedOp.create(
            properties={"kind": StringAttr(kind), "numerics": StringAttr(numerics)},
            result_types=result_types,
            regions=[Region(body)],
        )

    @property
    def terminator(self) -> YieldOp:
        last = self.body.block.last_op
        assert isinstance(last, YieldOp)
        return last

    def inputs(self) -> list[SSAValue]:
        """The outer values used inside, each once, in order of first use."""
        inside: set[SSAValue] = set()
        found: dict[SSAValue, None] = {}
        for op in self.body.block.ops:
            inside.update(op.results)
            for operand in op.operands:
                if operand not in inside:
                    found[operand] = None
        return list(found)

    def verify_(self) -> None:
        last = self.body.block.last_op
        _require(isinstance(last, YieldOp), "a fused region ends in tw.yield")
        assert last is not None
        _require(
            [o.type for o in last.operands] == [r.type for r in self.outputs], "tw.yield and the results differ"
        )


@irdl_op_definition
class ReturnOp(TwOp):
    """`tw.return %a, %b : A, B`: what a function gives."""

    name = "tw.return"
    args = var_operand_def(TensorType)
    traits = traits_def(IsTerminator())
    assembly_format = "($args^ `:` type($args))? attr-dict"


VIEW_OPS: tuple[type[Operation], ...] = (ReshapeOp, PermuteOp, SliceOp, BroadcastOp, PadOp)

Tw = Dialect(
    "tw",
    [
        ConstantOp, IotaOp, SizeOp, MapOp, ReduceOp, ScanOp, ReshapeOp, PermuteOp, SliceOp, BroadcastOp, PadOp,
        ConcatOp, GatherOp, MatmulOp, ConvOp, AttentionOp, AtenOp, YieldOp, FusedOp, ReturnOp,
    ],
    [TensorType, DimsAttr, ScalarAttr],
)

