"""Halves on which decisions hang: a kernel rounds them where it makes them, as memory would.

Elsewhere a half keeps in a register the digits that arithmetic in f32 gives it. Where a comparison, a floor or the
place of a maximum depends on it, these digits would decide otherwise than the element that is stored; and all that
reads such a value has to see one and the same, so that ``x - floor(x)`` stays below one.

The same holds from graph to graph. The gradient of a maximum asks which elements equal it, and divides by their number:
what the forward takes the maximum of, the backward may compute again, from halves that the forward has stored. So all
that such a value is computed from is rounded too, and the maximum of halves is itself a decision.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.dtypes import DTYPES, compute_dtype, round_to
from tilewright.ir.scalars import REDUCTIONS, SCANS, STEPS

_CHOOSE = frozenset({"maximum", "minimum", "fmax", "fmin", "neg", "abs", "where"})
"""Functions whose results are elements of their operands, but for the sign."""


def values_to_round(ops: Sequence[Operation]) -> set[SSAValue]:
    """The values of a region, whose ops come in order, that are to be rounded to their dtype where they are made."""
    deciding: set[SSAValue] = set()
    for op in reversed(ops):
        if _decides(op) or not deciding.isdisjoint(op.results):
            deciding.update(op.operands)
    inside = set(ops)
    return {value for value in deciding if value.owner in inside and _has_more_digits(value)}


def _decides(op: Operation) -> bool:
    """Whether the last digits of an operand may change the result by more than its last digits."""
    match op:
        case tw.MapOp():
            to_integer = op.fn.data == "cast" and not DTYPES[tw.tensor_type(op.result).dtype].is_float
            return to_integer or op.fn.data in STEPS
        case tw.ReduceOp():
            of_halves = _is_half(tw.tensor_type(op.result).dtype)
            return REDUCTIONS[op.fn.data].result == "i64" or (of_halves and op.fn.data in ("max", "min"))
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
