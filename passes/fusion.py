"""Fusion: groups of tensor ops become regions that run as one kernel each.

The decision is by time, as the target's facts give it: bytes that need not be moved, launches saved, against work done
twice. Whether ops fit one kernel at all is not decided by a table of cases: the walk that lowering will make is made on
trial (`lowering/walk.py`), and its objection is the reason that the report shows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.expr import hint, product
from tilewright.ir.scalars import SCALARS
from tilewright.ir.text import file_lines
from tilewright.ir.types import DimsAttr

from .base import Pass, PassContext, Remark, register
from .frozen_values import frozen_values
from .fusion_graph import EXTERN_OPS, FusionGraph, Strides, argument_strides
from .fusion_regions import RegionBuilder
from .lowering.loops import AccessWalk
from .lowering.names import region_location, region_name
from .lowering.rounding import mark_identified
from .lowering.scatter import reads_what_it_overwrites, scatter_region, scatter_walks
from .lowering.walk import CannotFuse, Domain, domain_for
from .structure import Structure


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


@dataclass(frozen=True, eq=False)
class Group:
    """Compute ops that will be one kernel.

    A group does not change: two that are joined become a third one, so what was found out about a group stays true.
    `ordered` are its ops and the free ones that they need, in program order, as are the `outputs`, which something
    outside needs.
    """

    ops: set[Operation]
    ordered: list[Operation]
    inputs: Mapping[SSAValue, None]
    outputs: list[SSAValue]
    first: int
    last: int


class Fuser:
    """Fuses one function."""

    def __init__(self, function: FuncOp, options: Fuse, context: PassContext):
        self.block = function.body.block
        mark_identified(self.block)
        self.options, self.context = options, context
        attribute = function.attributes.get("arg_strides")
        strides = [a for a in attribute if isinstance(a, DimsAttr)] if isinstance(attribute, ArrayAttr) else []
        self.frozen = frozen_values(function)
        self.graph = FusionGraph(self.block, argument_strides(self.block, strides))
        self.order = self.graph.order
        self.groups: dict[Operation, Group] = {}
        self.trials: dict[tuple[Group, Group], str | None] = {}
        # Equal layers are walked once: what a walk found, by the structure of what it walked.
        self.structure = Structure()
        self.walks: dict[Hashable, tuple[float, Domain] | str] = {}
        self.sizes: dict[SSAValue, int] = {}
        self.connect()
        self.regroup([{op} for op in self.graph.compute])

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

    # Groups
    def regroup(self, groups: Iterable[set[Operation]]) -> None:
        """Make the groups anew, of these ops: edges have changed."""
        self.groups = {op: group for group in map(self.group, groups) for op in group.ops}

    def group(self, ops: set[Operation]) -> Group:
        in_order = sorted(ops, key=self.order.__getitem__)
        inputs = {v: None for op in in_order for v in self.sources[op] if v.owner not in ops}
        outputs = self.needed_outside(ops, (result for op in in_order for result in op.results))
        first, last = self.order[in_order[0]], self.order[in_order[-1]]
        return Group(ops, self.graph.with_free(ops), inputs, outputs, first, last)

    def joined(self, first: Group, second: Group) -> Group:
        """The group of both groups' ops."""
        ops = first.ops | second.ops
        inputs = {v: None for v in (*first.inputs, *second.inputs) if v.owner not in ops}
        given = sorted((*first.outputs, *second.outputs), key=lambda v: self.order[v.owner])  # type: ignore[index]
        outputs = self.needed_outside(ops, given)
        ordered = sorted({*first.ordered, *second.ordered}, key=self.order.__getitem__)
        return Group(ops, ordered, inputs, outputs, min(first.first, second.first), max(first.last, second.last))

    def needed_outside(self, ops: set[Operation], values: Iterable[SSAValue]) -> list[SSAValue]:
        """Those of the values, results of `ops`, that something outside of `ops` needs."""
        return [
            value for value in values
            if value in self.graph.demanded or any(r not in ops for r in self.readers.get(value.owner, ()))  # type: ignore[arg-type]
        ]

    def runs_once(self, ops: set[Operation]) -> bool:
        """Whether a group depends on frozen weights alone; groups do wholly or not at all."""
        return next(iter(ops)).results[0] in self.frozen

    def size(self, value: SSAValue) -> int:
        """Bytes, with symbols at their hints."""
        if value not in self.sizes:
            self.sizes[value] = hint(tw.tensor_type(value).nbytes, self.context.sizes)
        return self.sizes[value]

    def reaches(self, start: Group, goal: Group) -> bool:
        """Whether a path leads from `start` to `goal` through an op of neither."""
        stack = [r for op in start.ops for r in self.readers.get(op, ()) if r not in start.ops and r not in goal.ops]
        seen: set[Operation] = set()
        while stack:
            op = stack.pop()
            if op in seen:
                continue
            group = self.groups.get(op)
            members = group.ops if group else {op}
            seen |= members
            if (group.first if group else self.order[op]) > goal.last:
                continue
            for member in members:
                for reader in self.readers.get(member, ()):
                    if reader in goal.ops:
                        return True
                    if reader not in start.ops:
                        stack.append(reader)
        return False

    # Decisions
    def run(self) -> None:
        if self.options.merge:
            self.merge_producers()
            self.merge_siblings()
            self.repeat_cheap_producers()
        RegionBuilder(self.graph, [(g.ops, g.outputs) for g in dict.fromkeys(self.groups.values())]).build()

    def merge_producers(self) -> None:
        """Join each group with the groups it reads from, in program order, the largest saving first."""
        for op in sorted(self.graph.compute, key=self.order.__getitem__):
            joined = True
            while joined:
                joined = False
                group = self.groups[op]
                producers = dict.fromkeys(self.groups[v.owner] for v in group.inputs if v.owner in self.groups)  # type: ignore[index]
                for producer in sorted(producers, key=lambda g: (-self.saving(g, group), g.first)):
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
            groups = list(dict.fromkeys(self.groups[op] for op in readers))
            for place, second in enumerate(groups):
                for earlier in range(max(0, place - SIBLING_WINDOW), place):
                    if self.try_siblings(groups[earlier], second):
                        groups[earlier] = groups[place] = self.groups[next(iter(second.ops))]
                        break

    def try_siblings(self, first: Group, second: Group) -> bool:
        """Join two groups that do not feed each other, if they iterate over the same shape."""
        if any(self.groups[next(iter(g.ops))] is not g for g in (first, second)):
            return False  # joined with others meanwhile
        if self.domain(first).shape != self.domain(second).shape:
            return False
        if self.reaches(first, second) or self.reaches(second, first):
            return False
        if any(r in second.ops for op in first.ops for r in self.readers.get(op, ())):
            return False  # merge_producers has decided about these
        return self.try_merge(first, second)

    def domain(self, group: Group) -> Domain:
        outputs = group.outputs or [group.ordered[-1].results[0]]
        return domain_for(group.ordered, outputs, self.loop_strides(group.ordered, outputs))

    def loop_strides(self, ordered: Sequence[Operation], outputs: Sequence[SSAValue]) -> Strides | None:
        """The layout that will order a kernel's loops: that of a convolution's result of the output's shape, if any."""
        shape = tw.tensor_type(outputs[0]).shape if outputs else ()
        for value in (v for op in ordered for v in op.operands):
            if isinstance(value.owner, tw.ConvOp) and tw.tensor_type(value).shape == shape:
                return value.owner.strides.data
        return None

    def saving(self, producer: Group, consumer: Group) -> int:
        """Bytes that need not be moved when the two are one kernel."""
        total = sum(self.size(v) for v in producer.inputs if v in consumer.inputs)
        both = producer.ops | consumer.ops
        for value in producer.outputs:
            if any(reader in consumer.ops for reader in self.readers.get(value.owner, ())):  # type: ignore[arg-type]
                total += self.size(value) * (1 if self.needed_outside(both, [value]) else 2)
        return total

    def try_merge(self, producer: Group, consumer: Group) -> bool:
        both = None
        if (producer, consumer) not in self.trials:
            both = self.joined(producer, consumer)
            objection = self.trials[producer, consumer] = self.objection(producer, consumer, both)
            self.report(producer.ops, consumer.ops, objection)
        if self.trials[producer, consumer] is not None:
            return False
        both = both or self.joined(producer, consumer)
        self.groups.update(dict.fromkeys(both.ops, both))
        return True

    def objection(self, producer: Group, consumer: Group, both: Group) -> str | None:
        """Why the two groups must not be one kernel, which is `both`; None if nothing speaks against it."""
        if self.runs_once(producer.ops) != self.runs_once(consumer.ops):
            return "one of them depends on frozen weights alone, and is computed once"
        if len(both.ops) > self.options.max_ops:
            return f"more than {self.options.max_ops} ops"
        if self.reaches(producer, consumer):
            return "something that runs between them needs the first and feeds the second"
        if len(both.inputs) + len(both.outputs) > self.options.max_pointers:
            return f"more than {self.options.max_pointers} tensors in one kernel"
        try:
            extra, domain = self.trial(both.ordered, both.outputs)
        except CannotFuse as reason:
            return str(reason)
        saved = self.saving(producer, consumer)
        target = self.context.target
        rows = hint(product(a.extent for a in domain.rows), self.context.sizes)
        if domain.cols and rows < target.cores:
            alone = self.domain(producer)
            if not alone.cols and sum(map(self.size, producer.inputs)) > target.l2_bytes:
                return "the reduction has too few rows to keep all cores at the producer's work"
        gain = saved / target.cache_bandwidth + target.launch_seconds
        before = self.extra_work(producer) + self.extra_work(consumer)
        loss = (extra - before) / (target.peak_flops / 4)
        if loss > gain:
            return f"it would compute {extra - before:.3g} flops again to save {saved} bytes"
        return None

    def trial(self, ordered: Sequence[Operation], outputs: Sequence[SSAValue]) -> tuple[float, Domain]:
        """Walk the kernel; the flops that it would spend beyond one evaluation of each element. Raises CannotFuse."""
        if any(isinstance(op, tw.ScatterOp) for op in ordered):  # depends on which arguments the function updates
            return self.walk(ordered, outputs)
        key = self.structure.key(ordered, outputs), self.loop_strides(ordered, outputs)
        if key not in self.walks:
            try:
                self.walks[key] = self.walk(ordered, outputs)
            except CannotFuse as reason:
                self.walks[key] = str(reason)
        found = self.walks[key]
        if isinstance(found, str):
            raise CannotFuse(found)
        return found

    def walk(self, ordered: Sequence[Operation], outputs: Sequence[SSAValue]) -> tuple[float, Domain]:
        """`trial` of what has not been walked before."""
        scatter = scatter_region(ordered, outputs)
        if scatter is not None:
            if reads_what_it_overwrites(scatter):
                raise CannotFuse("what is written to an argument in place is computed before")
            return sum(self.repeated_work(*part) for part in scatter_walks(scatter)), scatter.base
        domain = domain_for(ordered, outputs, self.loop_strides(ordered, outputs))
        walk = AccessWalk(ordered, domain)
        walk.run(outputs)
        return self.repeated_work(walk, domain), domain

    def repeated_work(self, walk: AccessWalk, domain: Domain) -> float:
        extra = 0.0
        axes = [*domain.rows, *domain.cols]
        for op, indices in walk.evaluations.items():
            evaluations = 0
            for index in indices:
                used = walk.axes(index)
                deepest = max((i + 1 for i, a in enumerate(axes) if a.name in used), default=0)
                evaluations += hint(product(a.extent for a in axes[:deepest]), self.context.sizes)
            needed = hint(tw.tensor_type(op.result).numel, self.context.sizes)
            extra += max(0, evaluations - needed) * SCALARS[op.fn.data].cost
        return extra

    def extra_work(self, group: Group) -> float:
        try:
            return self.trial(group.ordered, group.outputs)[0]
        except CannotFuse:
            return 0.0

    def repeat_cheap_producers(self) -> None:
        """Compute a cheap value in each kernel that reads it, where reading its inputs again moves fewer bytes."""
        for op in sorted(self.graph.compute, key=lambda o: -self.order[o]):
            if op not in self.groups:
                continue  # repeated with a later op
            group = self.groups[op]
            cone = self.cone(op)
            readers = [r for o in cone for r in self.readers.get(o, ()) if r not in group.ops]
            if not readers or any(r not in self.groups for r in readers):
                continue
            once = (tw.ReduceOp, tw.ScanOp, tw.ScatterOp)
            if self.runs_once(cone) or any(isinstance(o, once) or o.results[0] in self.graph.demanded for o in cone):
                continue
            outside = list(dict.fromkeys(self.groups[r] for r in readers))
            if self.pays_to_repeat(cone, group, outside):
                self.report_repeated(cone)
                self.graph.free |= cone  # from now on part of whoever reads it
                self.graph.compute -= cone
                self.connect()
                left = [g.ops - cone if g is group else g.ops for g in dict.fromkeys(self.groups.values())]
                self.regroup(filter(None, left))

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

    def pays_to_repeat(self, cone: set[Operation], group: Group, outside: list[Group]) -> bool:
        """Whether `outside`, groups that read values of `cone`, should compute them instead; `group` holds the cone."""
        target = self.context.target
        inputs = self.group(cone).inputs
        written = [v for v in group.outputs if v.owner in cone]
        rest = group.ops - cone
        saved = sum(map(self.size, written)) + (0 if rest else sum(map(self.size, inputs)))
        for reader in outside:
            saved += sum(self.size(v) for v in written if v in reader.inputs)
            saved -= sum(self.size(v) for v in inputs if v not in reader.inputs)
        gain = saved / target.cache_bandwidth + (0 if rest else target.launch_seconds)
        if gain <= 0:
            return False
        extra = (len(outside) - (not rest)) * self.work(cone)
        try:
            for reader in outside:
                both = self.group(cone | reader.ops)
                if len(both.ops) > self.options.max_ops:
                    raise CannotFuse(f"more than {self.options.max_ops} ops")
                if len(both.inputs) + len(reader.outputs) > self.options.max_pointers:
                    raise CannotFuse(f"more than {self.options.max_pointers} tensors in one kernel")
                extra += self.trial(both.ordered, reader.outputs)[0] - self.extra_work(reader)
            if rest:
                self.trial(group.ordered, [v for v in group.outputs if v not in written])
        except CannotFuse as reason:
            self.report(cone, outside[0].ops, f"not computed twice: {reason}")
            return False
        return extra / (target.peak_flops / 4) <= gain

    def work(self, ops: set[Operation]) -> float:
        return sum(
            SCALARS[op.fn.data].cost * hint(tw.tensor_type(op.result).numel, self.context.sizes)
            for op in ops if isinstance(op, tw.MapOp)
        )

    # Reports
    def report(self, producer: set[Operation], consumer: set[Operation], reason: str | None) -> None:
        kind, what = ("applied", "one kernel") if reason is None else ("rejected", reason)
        self.remark(kind, lambda: f"{self.describe(producer)} and {self.describe(consumer)}: {what}",
                    producer | consumer)

    def report_repeated(self, cone: set[Operation]) -> None:
        self.remark("applied", lambda: f"{self.describe(cone)} is computed in each kernel that reads it", cone)

    def describe(self, ops: set[Operation]) -> str:
        return region_name(sorted(ops, key=self.order.__getitem__))

    def remark(self, kind: str, message: Callable[[], str], ops: set[Operation]) -> None:
        def make() -> Remark:
            lines = file_lines(region_location(sorted(ops, key=self.order.__getitem__)))
            return Remark("fuse", kind, message(), tuple(lines))

        self.context.remark(make)
