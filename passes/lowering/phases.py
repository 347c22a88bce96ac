"""Phases of a kernel: reductions that wait for each other run one after the other over the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.dtypes import compute_dtype, itemsize
from tilewright.ir.scalars import SCALARS

from .walk import Domain

RECOMPUTE_LIMIT = 4
"""Cost (adds and loads) up to which a value is computed again in a later phase instead of kept."""


@dataclass(frozen=True)
class KeptValue:
    """A value computed in `phase` that later ones read back: from result number `output`, or from scratch (None)."""

    phase: int
    output: int | None


class PhasePlan:
    """Which reductions and which outputs belong to which phase, and what is kept between phases."""

    def __init__(self, ops: Sequence[Operation], outputs: Sequence[SSAValue], domain: Domain):
        self.ordered, self.ops = list(ops), set(ops)
        self.results, self.domain = list(outputs), domain
        self.level: dict[SSAValue, int] = {}
        for op in self.ordered:
            level = max([0, *(self.level.get(o, 0) for o in op.operands)])
            for result in op.results:
                self.level[result] = level + 1 if isinstance(op, tw.ReduceOp) else level
        reduces = [op for op in self.ordered if isinstance(op, tw.ReduceOp)]
        self.levels = max([0, *(self.level[op.result] for op in reduces)])
        self.reductions: list[list[tw.ReduceOp]] = [
            [op for op in reduces if self.level[op.result] == level + 1] for level in range(self.levels)
        ]
        self.outputs: list[list[int]] = [[] for _ in range(self.levels + 1)]
        self.row_outputs: list[int] = []
        for position, value in enumerate(self.results):
            if self.domain.is_full(tw.tensor_type(value).shape):
                self.outputs[self.level.get(value, 0)].append(position)
            else:
                self.row_outputs.append(position)

    def roots(self, phase: int) -> list[SSAValue]:
        """The values that the phase's loop computes for their own sake."""
        sources = [op.source for op in self.reductions[phase]] if phase < self.levels else []
        return sources + [self.results[i] for i in self.outputs[phase]]

    def cone(self, roots: Sequence[SSAValue]) -> set[SSAValue]:
        """The region's values, one for each point of the domain, that the roots are computed from."""
        found: set[SSAValue] = set()
        stack = list(roots)
        while stack:
            value = stack.pop()
            op = value.owner
            if value in found or not isinstance(op, Operation) or op not in self.ops:
                continue
            if isinstance(op, tw.ReduceOp):
                continue
            found.add(value)
            stack.extend(op.operands)
        return found

    def cost(self, value: SSAValue) -> int:
        """Adds and loads to compute one element of the value from memory."""
        total = 0
        seen: set[SSAValue] = set()
        stack = [value]
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            op = current.owner
            if isinstance(op, tw.ReduceOp):
                continue
            full = self.domain.is_full(tw.tensor_type(current).shape)
            if not isinstance(op, Operation) or op not in self.ops:
                total += full * (1 if itemsize(tw.tensor_type(current).dtype) >= 4 else 2)
                continue
            if isinstance(op, tw.MapOp):
                total += full * SCALARS[op.fn.data].cost
            if isinstance(op, (tw.GatherOp, tw.ConcatOp, tw.PadOp)):
                total += 4
            stack.extend(op.operands)
        return total

    def kept(self) -> dict[SSAValue, KeptValue]:
        """What later phases read back instead of computing it again, with where it is first computed."""
        cones = [self.cone(self.roots(p)) for p in range(self.levels + 1)]
        phases = {v: [p for p, cone in enumerate(cones) if v in cone] for v in set().union(*cones)}
        found: dict[SSAValue, KeptValue] = {}
        # Last first: whether a reader is kept decides whether its operands are needed again.
        for op in reversed(self.ordered):
            value = op.results[0]
            used = phases.get(value, [])
            if len(used) < 2 or not isinstance(op, tw.MapOp):
                continue
            type = tw.tensor_type(value)
            if not self.domain.is_full(type.shape) or not self.entered(value, used[1:], phases, found):
                continue
            if self.cost(value) <= RECOMPUTE_LIMIT:
                continue
            output = next((i for i, v in enumerate(self.results) if v is value), None)
            stored = output is not None and compute_dtype(type.dtype) == type.dtype and self.level[value] == used[0]
            found[value] = KeptValue(used[0], output if stored else None)
        return found

    def entered(
        self, value: SSAValue, later: Sequence[int], phases: Mapping[SSAValue, list[int]],
        kept: Mapping[SSAValue, KeptValue],
    ) -> bool:
        """Whether a later phase needs the value itself, not only something kept that was computed from it."""
        for phase in later:
            if any(root is value for root in self.roots(phase)):
                return True
            for use in value.uses:
                reader = use.operation.results[0] if use.operation.results else None
                if reader is None or phase not in phases.get(reader, ()):
                    continue
                if phases[reader][0] == phase or reader not in kept:
                    return True
        return False
