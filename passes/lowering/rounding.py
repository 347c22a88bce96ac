"""Halves on which decisions hang: a kernel rounds them where it makes them, as memory would.

Elsewhere a half keeps in a register the digits that arithmetic in f32 gives it. Where a comparison, a floor or the
place of a maximum depends on it, these digits would decide otherwise than the element that is stored; and all that
reads such a value has to see one and the same, so that ``x - floor(x)`` stays below one.

The same holds from graph to graph. The gradient of a maximum asks which elements equal it, and divides by their number:
of what the forward takes the maximum, the backward may compute again from other halves that were stored, in other
kernels. So all halves of a graph from which such a maximum is computed, or the operands of such a question, are rounded
wherever they are made: `mark_identified` marks them before there are kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import UnitAttr
from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.dtypes import DTYPES, compute_dtype, round_to
from tilewright.ir.scalars import REDUCTIONS, SCANS, STEPS

_CHOOSE = frozenset({"maximum", "minimum", "fmax", "fmin", "neg", "abs", "where"})
"""Functions whose results are elements of their operands, but for the sign."""

MARK = "rounded"
"""The attribute of ops whose results are rounded to their dtype where they are made."""


def values_to_round(ops: Sequence[Operation]) -> set[SSAValue]:
    """The values of a region, whose ops come in order, that are to be rounded to their dtype where they are made."""
    deciding: set[SSAValue] = set()
    for op in reversed(ops):
        if _decides(op) or (_passes_on(op) and not deciding.isdisjoint(op.results)):
            deciding.update(op.operands)
    inside = set(ops)
    marked = {result for op in ops if MARK in op.attributes for result in op.results}
    return marked | {value for value in deciding if value.owner in inside and _has_more_digits(value)}


def mark_identified(block: Block) -> None:
    """Mark what makes the halves from which values come that are found again by what they are."""
    origins: set[SSAValue] = set()
    for op in reversed(list(block.ops)):
        if _identifies(op) or not origins.isdisjoint(op.results):
            origins.update(op.operands)
        computes = isinstance(op, (tw.MapOp, tw.ReduceOp, tw.ScanOp))
        if computes and not origins.isdisjoint(op.results) and _has_more_digits(op.results[0]):
            op.attributes[MARK] = UnitAttr()


def _identifies(op: Operation) -> bool:
    """Whether a result is an element that equality may find again, or the answer of such a search."""
    if isinstance(op, tw.MapOp) and op.fn.data in ("eq", "ne"):
        return DTYPES[tw.tensor_type(op.args[0]).dtype].is_float and not any(
            isinstance(value.owner, tw.ConstantOp) for value in op.args
        )
    if isinstance(op, tw.ReduceOp) and op.fn.data in ("max", "min"):
        casts = [use.operation for use in op.result.uses if isinstance(use.operation, tw.MapOp)]
        kept = [op.result, *(cast.result for cast in casts if cast.fn.data == "cast")]
        return any(_is_half(tw.tensor_type(value).dtype) for value in kept)
    return False


def _decides(op: Operation) -> bool:
    """Whether the last digits of an operand may change the result by more than its last digits."""
    match op:
        case tw.MapOp():
            to_integer = op.fn.data == "cast" and not DTYPES[tw.tensor_type(op.result).dtype].is_float
            return to_integer or op.fn.data in STEPS
        case tw.ReduceOp():
            return REDUCTIONS[op.fn.data].result == "i64"
        case tw.ScanOp():
            return SCANS[op.fn.data].result == "i64"
    return False


def _passes_on(op: Operation) -> bool:
    """Whether the result's elements are elements of the operands."""
    if isinstance(op, (tw.MapOp, tw.ReduceOp, tw.ScanOp)):
        return op.fn.data in (_CHOOSE if isinstance(op, tw.MapOp) else ("max", "min"))
    return isinstance(op, (*tw.VIEW_OPS, tw.ConcatOp))


def _has_more_digits(value: SSAValue) -> bool:
    """Whether a kernel would hold more digits of a value than its dtype has, were its operands rounded."""
    dtype, op = tw.tensor_type(value).dtype, value.owner
    if not _is_half(dtype):
        return False
    if isinstance(op, (tw.ConstantOp, tw.PadOp)):
        number = float(op.value.data)
        return number == number and round_to(dtype, number) != number
    assert isinstance(op, Operation)
    return not (_passes_on(op) or (isinstance(op, tw.MapOp) and op.fn.data == "cast"))


def _is_half(dtype: str) -> bool:
    """Whether kernels compute with more digits than the dtype has."""
    return compute_dtype(dtype) != dtype
