"""Cut long reductions of few rows into parts, so that all of a GPU works on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.dtypes import DTYPES, compute_dtype
from tilewright.ir.target import Target

from .base import Pass, PassContext, register

PROGRAMS_PER_CORE = 2
"""Programs that each multiprocessor should have: one waits for memory while the other computes."""
LEAST_PARTS = 4
"""Fewer parts than this do not pay for the second kernel."""
SHORTEST_ROW_PART, SHORTEST_COLUMN_PART = 8192, 128
"""Elements of a part, along memory and across it."""
LANES = 64
"""Neighbouring rows that one program sums up at once where the reduction runs across memory."""


@register
@dataclass(frozen=True)
class SplitReductions(Pass):
    """Reduce in parts, then the parts in order, where too few programs of a GPU would have all the work.

    Before::

        %s = tw.reduce "sum" %x {dims = #tw.dims<[0]>} : !tw.tensor<[1000000], f32> -> !tw.tensor<[1], f32>

    after (for 132 multiprocessors)::

        %p = tw.pad %x {…} : … -> !tw.tensor<[1000034], f32>
        %r = tw.reshape %p : … -> !tw.tensor<[122, 8197], f32>
        %t = tw.reduce "sum" %r {dims = #tw.dims<[1]>} : … -> !tw.tensor<[122, 1], f32>
        %u = tw.reduce "sum" %t {dims = #tw.dims<[0]>} : … -> !tw.tensor<[1, 1], f32>
        %s = tw.reshape %u : … -> !tw.tensor<[1], f32>

    The order of additions is fixed: no atomics, one result for every run. Parts of halves are kept in f32. CPUs split
    among threads inside of one kernel, and are left as they are.
    """

    name: ClassVar[str] = "split-reductions"
    numerics: ClassVar[str] = "reassociates"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        split = 0
        if context.target.kind == "gpu":
            for op in list(module.walk()):
                if isinstance(op, tw.ReduceOp) and (parts := parts_of(op, context.target)) is not None:
                    _split(op, parts)
                    split += 1
        context.statistics[self.name] = {"split": split}


def parts_of(op: tw.ReduceOp, target: Target) -> int | None:
    """How many parts a reduction is worth; None where it stays whole."""
    shape, dims = tw.tensor_type(op.source).shape, op.dims.ints()
    sizes = [d for d in shape if isinstance(d, int)]
    if len(sizes) < len(shape) or 0 in sizes or op.fn.data not in _NEUTRAL:
        return None
    length = rows = 1
    for dim, size in enumerate(sizes):
        length, rows = (length * size, rows) if dim in dims else (length, rows * size)
    along = all(sizes[dim] == 1 for dim in range(max(dims) + 1, len(sizes)))
    programs = rows if along else -(-rows // LANES)
    shortest = SHORTEST_ROW_PART if along else SHORTEST_COLUMN_PART
    parts = min(PROGRAMS_PER_CORE * target.cores // programs, length // shortest)
    return parts if parts >= LEAST_PARTS else None


def _lowest(dtype: str) -> int | float:
    row = DTYPES[dtype]
    return float("-inf") if row.is_float else -(1 << row.itemsize * 8 - 1) if row.kind == "int" else 0


def _highest(dtype: str) -> int | float:
    row = DTYPES[dtype]
    return float("inf") if row.is_float else (1 << row.itemsize * 8 - (row.kind == "int")) - 1


_NEUTRAL = {
    "sum": lambda dtype: 0, "prod": lambda dtype: 1, "any": lambda dtype: False, "all": lambda dtype: True,
    "max": lambda dtype: False if dtype == "bool" else _lowest(dtype),
    "fmax": _lowest,
    "min": lambda dtype: True if dtype == "bool" else _highest(dtype),
}


def _split(op: tw.ReduceOp, parts: int) -> None:
    build = Builder.before(op)
    fn, dims, result = op.fn.data, op.dims.ints(), tw.tensor_type(op.result)
    type = tw.tensor_type(op.source)
    shape = [d for d in type.shape if isinstance(d, int)]
    kept = [d for d in range(len(shape)) if d not in dims]
    length = 1
    for dim in dims:
        length *= shape[dim]
    rows = [shape[d] for d in kept]
    source: SSAValue = build.cast(op.source, compute_dtype(type.dtype))
    source = build.reshape(build.permute(source, [*kept, *dims]), [*rows, length])
    part = -(-length // parts)
    parts = -(-length // part)
    rank = len(rows)
    low, high = [0] * (rank + 1), [0] * rank + [parts * part - length]
    source = build.pad(source, low, high, _NEUTRAL[fn](compute_dtype(type.dtype)))
    source = build.reshape(source, [*rows, parts, part])
    source = build.reduce(fn, build.reduce(fn, source, [rank + 1]), [rank])
    source = build.cast(build.reshape(source, result.shape), result.dtype)
    source.name_hint = op.result.name_hint
    op.result.replace_all_uses_with(source)
    op.detach()
    op.erase()
