"""Fusion: groups of tensor ops become regions that run as one kernel each.

The decision is by time, as the target's facts give it: bytes that need not be moved, launches saved, against work done
twice. Whether ops fit one kernel at all is not decided by a table of cases: the walk that lowering will make is made on
trial (`lowering/walk.py`), and its objection is the reason that the report shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.expr import free_symbols, hint, product
from tilewright.ir.scalars import SCALARS
from tilewright.ir.text import file_lines
from tilewright.ir.types import DimsAttr

from .base import Pass, PassContext, register
from .frozen_values import frozen_values
from .fusion_graph import EXTERN_OPS, FusionGraph, Strides, argument_strides
from .fusion_regions import RegionBuilder
from .lowering.loops import AccessWalk
from .lowering.names import region_location, region_name
from .lowering.scatter import reads_what_it_overwrites, scatter_region, scatter_walks
from .lowering.walk import CannotFuse, Domain, domain_for


@register
@dataclass(frozen=True)
class Fuse(Pass):
    """Group ops into `tw.fused` regions.

    Before::

        %a = tw.map "mul" %x, %s        %m = tw.reduce "max" %a        %c = tw.map "sub" %a, %m

    after::

        %r = tw.fused {kind = "loop", numerics = "exact"} : T {
          %a = tw.map "mul" %x, %s      %m = tw.reduce "max" %a        %c = tw.map "sub" %a, %m
          tw.yield %c : T
        }

    Fuses maps with maps, maps into reductions, several reductions over the same rows, epilogues of reductions, siblings
    that share inputs, and views and gathers as index arithmetic; computes cheap producers twice when that saves bytes.
    `merge=false` gives each op a region of its own. Rejected pairs are recorded as remarks.
    """

    name: ClassVar[str] = "fuse"
    numerics: ClassVar[str] = "exact"
    merge: bool = True
    max_ops: int = 96
    max_pointers: int = 24

    def run(self, module: ModuleOp, context: PassContext) -> None:
        for op in module.body.block.ops:
            if isinstance(op, FuncOp):
                Fuser(op, self, context).run()


SIBLING_WINDOW = 4
"""How many earlier readers of a value each reader is compared with."""


class Group:
    """Compute ops that will be one kernel."""

    def __init__(self, ops: Iterable[Operation]):
        self.ops: set[Operation] = set(ops)


class Fuser:
    """Fuses one function."""

    def __init__(self, function: FuncOp, options: Fuse, context: PassContext):
        self.block = function.body.block
        self.options, self.context = options, context
        attribute = function.attributes.get("arg_strides")
        strides = [a for a in attribute if isinstance(a, DimsAttr)] if isinstance(attribute, ArrayAttr) else []
        self.frozen = frozen_values(function)
        self.graph = FusionGraph(self.block, argument_strides(self.block, strides))
        self.order = self.graph.order
        self.groups: dict[Operation, Group] = {op: Group([op]) for op in self.graph.compute}
        self.trials: dict[tuple[frozenset[Operation], frozenset[Operation]], str | None] = {}
        self.connect()

    def connect(self) -> None:
        """Find the edges between ops that run: through free ops, from what computes a value to what reads it."""
        self.sources = {op: self.graph.sources(op) for op in self.graph.compute}
        self.readers: dict[Operation, list[Operation]] = {}
        for op in self.block.ops:
            reads = self.sources.get(op) or (self.graph.sources(op) if isinstance(op, EXTERN_OPS) else [])
            for value in reads:
                if isinstance(value.owner, Operation):
                    self.readers.setdefault(value.owner, []).append(op)
        for earlier, later in zip(self.graph.effects, self.graph.effects[1:]):
            self.readers.setdefault(earlier, []).append(later)

    # Facts about groups
    def members(self, op: Operation) -> set[Operation]:
        return self.groups[op].ops if op in self.groups else {op}

    def outputs(self, ops: set[Operation]) -> list[SSAValue]:
        """The values of a group that something outside needs, in program order."""
        found: list[SSAValue] = []
        for op in sorted(ops, key=self.order.__getitem__):
            for result in op.results:
                outside = any(reader not in ops for reader in self.readers.get(op, ()))
                if outside or result in self.graph.demanded:
                    found.append(result)
        return found

    def inputs(self, ops: set[Operation]) -> list[SSAValue]:
        found: dict[SSAValue, None] = {}
        for op in sorted(ops, key=self.order.__getitem__):
            for value in self.sources[op]:
                if value.owner not in ops:
                    found[value] = None
        return list(found)

    def runs_once(self, ops: set[Operation]) -> bool:
        """Whether a group depends on frozen weights alone; groups do wholly or not at all."""
        return next(iter(ops)).results[0] in self.frozen

    def size(self, value: SSAValue) -> int:
        """Bytes, with symbols at their hints."""
        return hint(tw.tensor_type(value).nbytes, self.context.sizes)

    def reaches(self, start: set[Operation], goal: set[Operation]) -> bool:
        """Whether a path leads from `start` to `goal` through an op of neither."""
        limit = max(self.order[op] for op in goal)
        stack = [r for op in start for r in self.readers.get(op, ()) if r not in start and r not in goal]
        seen: set[Operation] = set()
        while stack:
            op = stack.pop()
            if op in seen:
                continue
            members = self.members(op)
            seen |= members
            if min(self.order[m] for m in members) > limit:
                continue
            for member in members:
                for reader in self.readers.get(member, ()):
                    if reader in goal:
                        return True
                    if reader not in start:
                        stack.append(reader)
        return False

    # Decisions
    def run(self) -> None:
        if self.options.merge:
            self.merge_producers()
            self.merge_siblings()
            self.repeat_cheap_producers()
        groups = {id(g): g.ops for g in self.groups.values()}
        RegionBuilder(self.graph, groups.values(), self.outputs).build()

    def merge_producers(self) -> None:
        """Join each group with the groups it reads from, in program order, the largest saving first."""
        for op in sorted(self.graph.compute, key=self.order.__getitem__):
            joined = True
            while joined:
                joined = False
                group = self.groups[op]
                producers = {
                    id(self.groups[v.owner]): self.groups[v.owner]
                    for v in self.inputs(group.ops)
                    if isinstance(v.owner, Operation) and v.owner in self.groups
                }
                ranked = sorted(producers.values(), key=lambda g: (-self.saving(g.ops, group.ops), self.first(g.ops)))
                for producer in ranked:
                    if self.try_merge(producer, group):
                        joined = True
                        break

    def merge_siblings(self) -> None:
        """Join groups that read the same large values and walk them alike."""
        by_input: dict[SSAValue, list[Operation]] = {}
        for op in sorted(self.graph.compute, key=self.order.__getitem__):
            for value in self.sources[op]:
                by_input.setdefault(value, []).append(op)
        for readers in by_input.values():
            groups = list({id(self.groups[op]): self.groups[op] for op in readers}.values())
            for place, second in enumerate(groups):
                for earlier in range(max(0, place - SIBLING_WINDOW), place):
                    if self.try_siblings(groups[earlier], second):
                        groups[earlier] = groups[place] = self.groups[next(iter(second.ops))]
                        break

    def try_siblings(self, first: Group, second: Group) -> bool:
        """Join two groups that do not feed each other, if they iterate over the same shape."""
        if any(self.groups[next(iter(g.ops))] is not g for g in (first, second)):
            return False  # joined with others meanwhile
        if self.domain(first.ops).shape != self.domain(second.ops).shape:
            return False
        if self.reaches(first.ops, second.ops) or self.reaches(second.ops, first.ops):
            return False
        if any(r in second.ops for op in first.ops for r in self.readers.get(op, ())):
            return False  # merge_producers has decided about these
        return self.try_merge(first, second)

    def first(self, ops: set[Operation]) -> int:
        return min(self.order[op] for op in ops)

    def domain(self, ops: set[Operation]) -> Domain:
        ordered = self.graph.with_free(ops)
        outputs = self.outputs(ops) or [ordered[-1].results[0]]
        return domain_for(ordered, outputs, self.loop_strides(ops, outputs[0]))

    def loop_strides(self, ops: set[Operation], output: SSAValue) -> Strides | None:
        """The layout that will order a kernel's loops: that of a convolution's result of the output's shape, if any."""
        shape = tw.tensor_type(output).shape
        for value in self.inputs(ops):
            if isinstance(value.owner, tw.ConvOp) and tw.tensor_type(value).shape == shape:
                return value.owner.strides.data
        return None

    def saving(self, producer: set[Operation], consumer: set[Operation]) -> int:
        """Bytes that need not be moved when the two are one kernel."""
        shared = set(self.inputs(producer)) & set(self.inputs(consumer))
        total = sum(self.size(v) for v in shared)
        both = producer | consumer
        after = set(self.outputs(both))
        for value in self.outputs(producer):
            if any(reader in consumer for reader in self.readers.get(value.owner, ())):  # type: ignore[arg-type]
                total += self.size(value) * (1 if value in after else 2)
        return total

    def try_merge(self, producer: Group, consumer: Group) -> bool:
        both = producer.ops | consumer.ops
        key = frozenset(producer.ops), frozenset(consumer.ops)
        if key not in self.trials:
            self.trials[key] = self.objection(producer.ops, consumer.ops)
            self.report(producer.ops, consumer.ops, self.trials[key])
        if self.trials[key] is not None:
            return False
        merged = Group(both)
        for op in both:
            self.groups[op] = merged
        return True

    def objection(self, producer: set[Operation], consumer: set[Operation]) -> str | None:
        """Why the two groups must not be one kernel, or None."""
        both = producer | consumer
        if self.runs_once(producer) != self.runs_once(consumer):
            return "one of them depends on frozen weights alone, and is computed once"
        if len(both) > self.options.max_ops:
            return f"more than {self.options.max_ops} ops"
        if self.reaches(producer, consumer):
            return "something that runs between them needs the first and feeds the second"
        outputs = self.outputs(both)
        if len(self.inputs(both)) + len(outputs) > self.options.max_pointers:
            return f"more than {self.options.max_pointers} tensors in one kernel"
        try:
            extra, domain = self.trial(both, outputs)
        except CannotFuse as reason:
            return str(reason)
        saved = self.saving(producer, consumer)
        target = self.context.target
        rows = hint(product(a.extent for a in domain.rows), self.context.sizes)
        if domain.cols and rows < target.cores:
            alone = self.domain(producer)
            if not alone.cols and sum(map(self.size, self.inputs(producer))) > target.l2_bytes:
                return "the reduction has too few rows to keep all cores at the producer's work"
        gain = saved / target.cache_bandwidth + target.launch_seconds
        before = self.extra_work(producer) + self.extra_work(consumer)
        loss = (extra - before) / (target.peak_flops / 4)
        if loss > gain:
            return f"it would compute {extra - before:.3g} flops again to save {saved} bytes"
        return None

    def trial(self, ops: set[Operation], outputs: Sequence[SSAValue]) -> tuple[float, Domain]:
        """Walk the kernel; the flops that it would spend beyond one evaluation of each element. Raises CannotFuse."""
        ordered = self.graph.with_free(ops)
        scatter = scatter_region(ordered, outputs)
        if scatter is not None:
            if reads_what_it_overwrites(scatter):
                raise CannotFuse("what is written to an argument in place is computed before")
            return sum(self.repeated_work(*part) for part in scatter_walks(scatter)), scatter.base
        domain = domain_for(ordered, outputs, self.loop_strides(ops, outputs[0]))
        walk = AccessWalk(ordered, domain)
        walk.run(outputs)
        return self.repeated_work(walk, domain), domain

    def repeated_work(self, walk: AccessWalk, domain: Domain) -> float:
        extra = 0.0
        axes = [*domain.rows, *domain.cols]
        names = {a.name for a in axes}
        for op, indices in walk.evaluations.items():
            evaluations = 0
            for index in indices:
                used: set[str] = set().union(*(free_symbols(i) for i in index)) if index else set()
                deepest = len(axes) if used - names else max(
                    (i + 1 for i, a in enumerate(axes) if a.name in used), default=0)
                evaluations += hint(product(a.extent for a in axes[:deepest]), self.context.sizes)
            needed = hint(tw.tensor_type(op.result).numel, self.context.sizes)
            extra += max(0, evaluations - needed) * SCALARS[op.fn.data].cost
        return extra

    def extra_work(self, ops: set[Operation]) -> float:
        try:
            return self.trial(ops, self.outputs(ops))[0]
        except CannotFuse:
            return 0.0

    def repeat_cheap_producers(self) -> None:
        """Compute a cheap value in each kernel that reads it, where reading its inputs again moves fewer bytes."""
        for op in sorted(self.graph.compute, key=lambda o: -self.order[o]):
            if op not in self.groups:
                continue  # repeated with a later op
            group = self.groups[op].ops
            cone = self.cone(op)
            readers = [r for o in cone for r in self.readers.get(o, ()) if r not in group]
            if not readers or any(r not in self.groups for r in readers):
                continue
            once = (tw.ReduceOp, tw.ScanOp, tw.ScatterOp)
            if self.runs_once(cone) or any(isinstance(o, once) or o.results[0] in self.graph.demanded for o in cone):
                continue
            outside = list({id(self.groups[r]): self.groups[r].ops for r in readers}.values())
            if self.pays_to_repeat(cone, group, outside):
                self.remark("applied", f"{self.describe(cone)} is computed in each kernel that reads it", cone)
                self.groups[op].ops -= cone
                for freed in cone:
                    del self.groups[freed]
                self.graph.free |= cone  # from now on part of whoever reads it
                self.graph.compute -= cone
                self.connect()

    def cone(self, op: Operation) -> set[Operation]:
        """What `op` is computed from within its group, itself included."""
        group = self.groups[op].ops
        found: set[Operation] = set()
        stack = [op]
        while stack:
            current = stack.pop()
            if current not in found:
                found.add(current)
                stack += [v.owner for v in self.sources[current] if v.owner in group]  # type: ignore[misc]
        return found

    def pays_to_repeat(self, cone: set[Operation], group: set[Operation], outside: list[set[Operation]]) -> bool:
        """Whether `outside`, groups that read values of `cone`, should compute them instead; `group` holds the cone."""
        target = self.context.target
        inputs = self.inputs(cone)
        written = [v for v in self.outputs(group) if v.owner in cone]
        rest = group - cone
        saved = sum(map(self.size, written)) + (0 if rest else sum(map(self.size, inputs)))
        for reader in outside:
            reads = self.inputs(reader)
            saved += sum(self.size(v) for v in written if v in reads)
            saved -= sum(self.size(v) for v in inputs if v not in reads)
        gain = saved / target.cache_bandwidth + (0 if rest else target.launch_seconds)
        if gain <= 0:
            return False
        extra = (len(outside) - (not rest)) * self.work(cone)
        try:
            for reader in outside:
                both = cone | reader
                if len(both) > self.options.max_ops:
                    raise CannotFuse(f"more than {self.options.max_ops} ops")
                if len(self.inputs(both)) + len(self.outputs(reader)) > self.options.max_pointers:
                    raise CannotFuse(f"more than {self.options.max_pointers} tensors in one kernel")
                extra += self.trial(both, self.outputs(reader))[0] - self.extra_work(reader)
            if rest:
                self.trial(group, [v for v in self.outputs(group) if v not in written])
        except CannotFuse as reason:
            self.report(cone, outside[0], f"not computed twice: {reason}")
            return False
        return extra / (target.peak_flops / 4) <= gain

    def work(self, ops: set[Operation]) -> float:
        return sum(
            SCALARS[op.fn.data].cost * hint(tw.tensor_type(op.result).numel, self.context.sizes)
            for op in ops if isinstance(op, tw.MapOp)
        )

    # Reports
    def report(self, producer: set[Operation], consumer: set[Operation], reason: str | None) -> None:
        names = f"{self.describe(producer)} and {self.describe(consumer)}"
        if reason is None:
            self.remark("applied", f"{names}: one kernel", producer | consumer)
        else:
            self.remark("rejected", f"{names}: {reason}", producer | consumer)

    def describe(self, ops: set[Operation]) -> str:
        return region_name(sorted(ops, key=self.order.__getitem__))

    def remark(self, kind: str, message: str, ops: set[Operation]) -> None:
        lines = file_lines(region_location(sorted(ops, key=self.order.__getitem__)))
        self.context.remark("fuse", kind, message, tuple(lines))
