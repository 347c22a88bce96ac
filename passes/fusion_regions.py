"""Writing what fusion decided: regions, library calls and views, in an order that respects who needs whom."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.dtypes import compute_dtype

from .fusion_graph import FusionGraph, operands_of
from .lowering.names import region_location


class RegionBuilder:
    """Rewrites a function. `groups` are the ops of each region, and which of their values others need."""

    def __init__(self, graph: FusionGraph, groups: Sequence[tuple[set[Operation], list[SSAValue]]]):
        self.graph = graph
        self.block = graph.block
        self.groups = [ops for ops, _ in groups]
        self.outputs = {op: outputs for ops, outputs in groups for op in ops}

    def build(self) -> None:
        order = self.graph.order
        items: list[tuple[int, set[Operation]]] = [(max(order[o] for o in ops), ops) for ops in self.groups]
        rest = [op for op in self.block.ops if op not in self.graph.compute]
        top_level = self.needed_outside(rest)
        items += [(order[op], {op}) for op in rest if op in top_level]
        values: dict[SSAValue, SSAValue] = {arg: arg for arg in self.block.args}
        built: list[Operation] = []
        for ops in self.schedule(items):
            if next(iter(ops)) in self.graph.compute:
                built.append(self.region(ops, values))
            else:
                (op,) = ops
                built.append(clone(op, values))
        old = list(self.block.ops)
        for op in reversed(old):
            op.detach()
            op.drop_all_references()
        self.block.add_ops(built)

    def needed_outside(self, rest: list[Operation]) -> set[Operation]:
        """Free ops whose value a library call, a return or nothing but memory needs."""
        found: set[Operation] = set()
        stack = [op for op in rest if op not in self.graph.free]
        while stack:
            op = stack.pop()
            if op in found:
                continue
            found.add(op)
            for operand in operands_of(op):
                owner = operand.owner
                if isinstance(owner, Operation) and owner in self.graph.free:
                    stack.append(owner)
        return found

    def schedule(self, items: list[tuple[int, set[Operation]]]) -> list[set[Operation]]:
        """Topological order, as close to the program's as it can be."""
        home: dict[Operation, int] = {op: i for i, (_, ops) in enumerate(items) for op in ops}
        waits: list[set[int]] = []
        followers: dict[int, list[int]] = {}
        earlier = dict(zip(self.graph.effects[1:], self.graph.effects))
        for place, (_, ops) in enumerate(items):
            needs: set[int] = set()
            for op in ops:
                if op in earlier:
                    needs.add(home[earlier[op]])
                reads = self.graph.sources(op) if op in self.graph.compute else operands_of(op)
                needs |= {home[v.owner] for v in reads if isinstance(v.owner, Operation) and v.owner in home}
            needs.discard(place)
            waits.append(needs)
            for need in needs:
                followers.setdefault(need, []).append(place)
        ready = [(items[i][0], i) for i, needs in enumerate(waits) if not needs]
        heapq.heapify(ready)
        result: list[set[Operation]] = []
        while ready:
            _, place = heapq.heappop(ready)
            result.append(items[place][1])
            for follower in followers.get(place, ()):
                waits[follower].discard(place)
                if not waits[follower]:
                    heapq.heappush(ready, (items[follower][0], follower))
        assert len(result) == len(items), "fusion made a cycle"
        return result

    def region(self, ops: set[Operation], values: dict[SSAValue, SSAValue]) -> tw.FusedOp:
        ordered = self.graph.with_free(ops)
        outputs = self.outputs[next(iter(ops))]
        inner = dict(values)
        body = Block()
        for op in ordered:
            body.add_op(clone(op, inner))
        body.add_op(tw.YieldOp.create(operands=[inner[v] for v in outputs]))
        widens = any(
            tw.tensor_type(r).dtype != compute_dtype(tw.tensor_type(r).dtype) and r not in outputs
            for op in ordered for r in op.results
        )
        fused = tw.FusedOp.make("loop", "widens" if widens else "exact", body, [v.type for v in outputs])
        fused.location = region_location(ordered)
        for value, result in zip(outputs, fused.outputs):
            result.name_hint = value.name_hint
            values[value] = result
        return fused


def clone(op: Operation, values: dict[SSAValue, SSAValue]) -> Operation:
    """A copy of an op over mapped operands, at the same location; its results enter the map."""
    if op.regions:
        copy = op.clone(values)
        for old_op, new_op in zip(op.walk(), copy.walk()):
            new_op.location = old_op.location
        return copy
    new = type(op).create(
        operands=[values[o] for o in op.operands], result_types=[r.type for r in op.results],
        properties=op.properties, attributes=op.attributes, location=op.location,
    )
    for old, result in zip(op.results, new.results):
        result.name_hint = old.name_hint
        values[old] = result
    return new
