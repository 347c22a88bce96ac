"""Ops that ATen computes: products, convolutions, attention, and every other call."""

from __future__ import annotations

from xdsl.dialects.builtin import ArrayAttr, StringAttr
from xdsl.ir import SSAValue
from xdsl.irdl import (
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import Pure

from ..types import DimsAttr, ScalarAttr, TensorType
from .base import TwOp, require, tensor_type


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
        require(len(self.args) in (2, 3), "matmul takes two or three operands")
        a, b, result = tensor_type(self.args[0]), tensor_type(self.args[1]), tensor_type(self.result)
        require(a.dtype == b.dtype == result.dtype, "matmul operands differ in dtype")
        require(a.rank == b.rank >= 2, "matmul operands have one rank, at least 2")
        require(a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2], "matmul shapes do not fit")
        require(result.shape == (*a.shape[:-1], b.shape[-1]), "wrong result shape")


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
        require(len(self.args) in (2, 3), "conv takes two or three operands")
        require(len({tensor_type(a).dtype for a in self.args}) == 1, "conv operands differ in dtype")


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
        require(len(self.args) in (3, 4), "attention takes q, k, v and perhaps a mask")
        q, v, result = tensor_type(self.args[0]), tensor_type(self.args[2]), tensor_type(self.result)
        require(result.shape == (*q.shape[:-1], v.shape[-1]), "wrong result shape")


@irdl_op_definition
class AtenOp(TwOp):
    """`tw.aten "aten.sort.default" %x {arguments, strides, reason}`: any other ATen call, opaque.

    `arguments` is the text of `ir/calls.py`; `strides` has an entry for each result. `reason` says why it was not
    imported. The call gets its operands row-major, as some of ATen's functions take for granted, but for those of
    `strided`, which were not so when it was traced: they come in whatever layout they have.
    """

    name = "tw.aten"
    target = prop_def(StringAttr)
    args = var_operand_def(TensorType)
    arguments = prop_def(StringAttr)
    strides = prop_def(ArrayAttr[DimsAttr])
    reason = prop_def(StringAttr)
    strided = opt_prop_def(DimsAttr)
    outputs = var_result_def(TensorType)
    assembly_format = "$target $args attr-dict `:` functional-type($args, $outputs)"

    def row_major(self) -> list[int]:
        """The positions of the operands that the call gets row-major."""
        strided = self.strided.ints() if self.strided is not None else ()
        return [i for i, a in enumerate(self.args) if i not in strided and tensor_type(a).rank > 0]
