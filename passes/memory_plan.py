"""Memory planning: temporaries that are not alive together share bytes of one arena."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from tilewright.ir import prog
from tilewright.ir.dtypes import itemsize
from tilewright.ir.expr import IntExpr, floordiv

from .base import Pass, PassContext, register
from .lowering.indexing import span

ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """A temporary, its bytes (a multiple of the alignment), and the first and last op that touches it."""

    op: prog.AllocOp
    size: IntExpr
    first: int
    last: int


@register
@dataclass(frozen=True)
class PlanMemory(Pass):
    """Give each temporary an offset in one arena.

    Before::

        %a = prog.alloc : !prog.buffer<[8], [1], f32>      prog.launch @f %x, %a      prog.launch @g %a, %out

    after::

        %arena = prog.arena {size = #tw.dims<[64]>} : !prog.arena_type
        %a = prog.buffer %arena {offset = #tw.dims<[0]>, live = #tw.dims<[0, 1]>} : !prog.buffer<[8], [1], f32>

    Largest first, each at the lowest offset that is free for its whole life. Symbolic sizes come after the others, and
    share bytes where they are multiples of one expression: ``1024*s0`` and ``256*s0``, but not ``64*s1``.
    """

    name: ClassVar[str] = "plan-memory"
    numerics: ClassVar[str] = "exact"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        for op in module.body.block.ops:
            if isinstance(op, FuncOp):
                plan_function(op, context)


def plan_function(function: FuncOp, context: PassContext) -> None:
    lifetimes = find_lifetimes(function)
    if not lifetimes:
        return
    offsets, total = place(lifetimes)
    block = function.body.block
    arena = prog.ArenaOp.make(total)
    first = block.first_op
    assert first is not None
    block.insert_op_before(arena, first)
    for life in lifetimes:
        type = prog.buffer_type(life.op.result)
        buffer = prog.BufferOp.make(arena.result, offsets[life.op], (life.first, life.last), type)
        buffer.location = life.op.location
        buffer.result.name_hint = life.op.result.name_hint
        block.insert_op_before(buffer, life.op)
        life.op.result.replace_all_uses_with(buffer.result)
        life.op.detach()
        life.op.erase()
    context.statistics["plan-memory"] = {
        "temporaries": len(lifetimes), "arena_bytes": total if isinstance(total, int) else str(total),
        "unshared_bytes": sum(life.size for life in lifetimes if isinstance(life.size, int)),
    }


def find_lifetimes(function: FuncOp) -> list[Lifetime]:
    """The temporaries with the positions (counting launches and calls) of their first and last use, through views."""
    position: dict[Operation, int] = {}
    count = 0
    for op in function.body.block.ops:
        position[op] = count
        count += isinstance(op, (prog.LaunchOp, prog.ExternOp, prog.ReturnOp))

    def uses(value: SSAValue) -> list[int]:
        found: list[int] = []
        stack, seen = [value], {value}
        while stack:
            for use in stack.pop().uses:
                user = use.operation
                if not isinstance(user, prog.ViewOp):
                    found.append(position[user])
                if isinstance(user, prog.ViewOp) or (isinstance(user, prog.ExternOp) and "reason" in user.attributes):
                    aliases = [r for r in user.results if r not in seen]  # an opaque call may return a view
                    seen.update(aliases)
                    stack += aliases
        return found

    lifetimes = []
    for op in function.body.block.ops:
        if isinstance(op, prog.AllocOp):
            type = prog.buffer_type(op.result)
            touched = uses(op.result) or [position[op]]
            size = span(type.shape, type.strides) * itemsize(type.dtype)
            lifetimes.append(Lifetime(op, align(size), min(touched), max(touched)))
    return lifetimes


def align(size: IntExpr) -> IntExpr:
    return floordiv(size + (ALIGNMENT - 1), ALIGNMENT) * ALIGNMENT


def place(lifetimes: list[Lifetime]) -> tuple[dict[prog.AllocOp, IntExpr], IntExpr]:
    """Offsets in bytes, and the size of the arena."""
    families: dict[IntExpr, list[tuple[int, Lifetime]]] = {1: []}
    for life in lifetimes:
        unit, count = in_units(life.size)
        families.setdefault(unit, []).append((count, life))
    offsets: dict[prog.AllocOp, IntExpr] = {}
    total: IntExpr = 0
    for unit, members in families.items():
        within, top = pack(members)
        offsets |= {op: total + unit * offset for op, offset in within.items()}
        total = total + unit * top
    return offsets, total


def in_units(size: IntExpr) -> tuple[IntExpr, int]:
    """`(unit, count)`: a size as a multiple of its symbolic part. Those of one unit compare for any symbols."""
    if isinstance(size, int):
        return 1, size
    if len(size.terms) > 1:
        return size, 1
    ((_, count),) = size.terms
    return floordiv(size, count), count


def pack(members: list[tuple[int, Lifetime]]) -> tuple[dict[prog.AllocOp, int], int]:
    """Offsets of temporaries with these sizes, and where the last of them ends."""
    offsets: dict[prog.AllocOp, int] = {}
    placed: list[tuple[int, int, Lifetime]] = []
    for size, life in sorted(members, key=lambda pair: (-pair[0], pair[1].first)):
        offset = 0
        for start, end, other in sorted(placed, key=lambda item: item[0]):
            alive_together = other.first <= life.last and life.first <= other.last
            if alive_together and start < offset + size and offset < end:
                offset = end
        placed.append((offset, offset + size, life))
        offsets[life.op] = offset
    return offsets, max((end for _, end, _ in placed), default=0)
