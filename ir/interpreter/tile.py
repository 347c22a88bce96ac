"""The `tile` dialect's meaning: a kernel evaluated over all points of its loops at once.

Each enclosing loop is a dim of every tensor, outermost first, so a value inside d loops has d dims, each of the
loop's extent or 1. Loads gather, masks select, reductions reduce the last dim. Two kinds of loops run otherwise: one
that gives nothing runs in chunks when it has very many points, and one runs step by step that is serial and loads what
it stores, or that decides how long what stands inside is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xdsl.ir import Block, Operation, SSAValue

from .. import tile
from ..errors import InterpreterError
from ..expr import Expr, IntExpr, evaluate, free_symbols
from ..tile import KernelOp, value_dtype
from .elementwise import apply_reduction, apply_scalar, apply_scan, neutral
from .environment import Environment, located, value_name
from .memory import flat_view, poison, same_bits
from .tw import checked_positions, update_memory

if TYPE_CHECKING:
    import torch

# Points evaluated at once: some tens of MB a value.
_CHUNK_POINTS = 1 << 22

Name = Any  # an int (a size, a step of a serial loop) or an int64 tensor (an axis, a computed position)


@dataclass
class _Pointer:
    """`flat` is the memory; a point's element `offset` lies at ``base + offset``, for offsets in ``[0, extent)``."""

    name: str
    flat: torch.Tensor
    base: Name
    extent: int


@dataclass
class _Frame:
    """Where evaluation stands: names in scope, the size of each enclosing loop's dim, and the values so far."""

    env: Environment
    names: dict[str, Name]
    dims: tuple[int, ...] = ()
    values: dict[SSAValue, Any] = field(default_factory=dict)
    innermost_is_dim: bool = False

    def lift(self, x: Name) -> torch.Tensor:
        """A value of an enclosing loop (or an int) with a dim for each loop of this frame."""
        import torch

        if isinstance(x, int):
            x = torch.tensor(x, device=self.env.device)
        return x.reshape((*x.shape, *[1] * (len(self.dims) - x.dim())))

    def read(self, value: SSAValue) -> torch.Tensor:
        return self.lift(self.values[value])

    def position(self, expr: IntExpr) -> torch.Tensor:
        return self.lift(_evaluate(expr, {name: self._lifted(name) for name in free_symbols(expr)}))

    def _lifted(self, name: str) -> Name:
        value = self.names[name]
        return value if isinstance(value, int) else self.lift(value)

    def where(self, mask: Sequence[IntExpr]) -> torch.Tensor:
        """Whether all expressions are ≥ 0."""
        import torch

        result = torch.ones([1] * len(self.dims), dtype=torch.bool, device=self.env.device)
        for expr in mask:
            result = result & (self.position(expr) >= 0)
        return result

    def number(self, expr: IntExpr) -> int:
        """An expression over sizes only."""
        try:
            return evaluate(expr, {k: v for k, v in self.names.items() if isinstance(v, int)})
        except KeyError as error:
            raise InterpreterError(f"{error.args[0]}: an extent must follow from sizes") from None

    def inside(self, axis: str, values: Name) -> _Frame:
        """The frame of a loop's body, at the steps `values` (an int, or an int64 tensor of one dim)."""
        if isinstance(values, int):
            return _Frame(self.env, {**self.names, axis: values}, self.dims, self.values)
        steps = values.reshape((*[1] * len(self.dims), -1))
        dims = (*self.dims, values.numel())
        return _Frame(self.env, {**self.names, axis: steps}, dims, self.values, innermost_is_dim=True)


_OPERATORS: dict[str, Callable[[Name, Name], Name]] = {
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "max": lambda a, b: _choose(a, b, lambda x, y: x > y),
    "min": lambda a, b: _choose(a, b, lambda x, y: x < y),
}


def _choose(a: Name, b: Name, better: Callable[[Name, Name], Any]) -> Name:
    import torch

    chosen = better(a, b)
    return torch.where(chosen, a, b) if isinstance(chosen, torch.Tensor) else (a if chosen else b)


def _evaluate(expr: IntExpr, names: Mapping[str, Name]) -> Name:
    """The value of an integer expression whose names are ints or int64 tensors."""
    if not isinstance(expr, Expr):
        return expr
    total: Name = 0
    for monomial, coefficient in expr.terms:
        product: Name = coefficient
        for atom in monomial:
            if isinstance(atom, str):
                factor = names[atom]
            else:
                factor = _OPERATORS[atom[0]](_evaluate(atom[1], names), _evaluate(atom[2], names))
            product = product * factor
        total = total + product
    return total


def run_kernel(
    kernel: KernelOp, buffers: Sequence[torch.Tensor], sizes: Mapping[str, int], precision: str = "native"
) -> None:
    """Run a kernel on `buffers`, one for each of its pointers, which it may write.

    A pointer reaches from its tensor's first element to the last that the tensor's sizes and strides allow. In f64
    precision buffers of float elements are float64.

    Raises IndexError for a `tile.index` position outside its extent, InterpreterError for an access outside a
    buffer, for iterations that write different values to one place, and for buffers or sizes that do not fit.
    """
    import torch

    device = buffers[0].device if buffers else torch.device("cpu")
    env = Environment(precision, device)
    with located(kernel), torch.no_grad():
        if len(buffers) != len(kernel.args):
            raise InterpreterError(f"takes {len(kernel.args)} pointers, got {len(buffers)}")
        missing = set(kernel.size_names) - sizes.keys()
        if missing:
            raise InterpreterError(f"needs a value for {', '.join(sorted(missing))}")
        frame = _Frame(env, {name: int(sizes[name]) for name in kernel.size_names})
        for position, (argument, buffer) in enumerate(zip(kernel.args, buffers)):
            if buffer.dtype != env.dtype(value_dtype(argument)):
                raise InterpreterError(
                    f"pointer {position} is to {value_dtype(argument)} elements, the buffer holds {buffer.dtype}"
                )
            flat = flat_view(buffer)
            frame.values[argument] = _Pointer(value_name(argument), flat, 0, flat.numel())
        _run_block(kernel.body.block, frame)


def _run_block(block: Block, frame: _Frame) -> list[torch.Tensor]:
    """Run a loop's body; the yielded values, with a dim for each loop."""
    frame.names = dict(frame.names)
    for op in block.ops:
        if isinstance(op, tile.YieldOp):
            return [frame.read(a) for a in op.args]
        with located(op):
            results = _RULES[type(op)](op, frame)
        for result, value in zip(op.results, results):
            frame.values[result] = value
    return []


def _for(op: tile.ForOp, frame: _Frame) -> list[torch.Tensor]:
    import torch

    extent = frame.number(op.trip_count)
    device, block, axis = frame.env.device, op.body.block, op.axis.data
    if extent <= 0:
        return [
            torch.full(
                [1] * len(frame.dims), neutral(fn, value_dtype(output)),
                dtype=frame.env.dtype(value_dtype(output)), device=device,
            )
            for fn, output in zip(op.combiners, op.outputs)
        ]
    if _carries_memory(op) or _decides_extents(op):
        steps = [_run_block(block, frame.inside(axis, step)) for step in range(extent)]
        yielded = [torch.stack(torch.broadcast_tensors(*column), -1) for column in zip(*steps)]
    else:
        together = op.outputs or op.kind.data == "block"
        at_once = extent if together else max(1, _CHUNK_POINTS // max(1, _points(op, frame) // extent))
        for start in range(0, extent, at_once):
            steps_tensor = torch.arange(start, min(start + at_once, extent), device=device)
            yielded = _run_block(block, frame.inside(axis, steps_tensor))
    results = []
    for fn, value, source, output in zip(op.combiners, yielded, op.yielded, op.outputs):
        value = value.expand(*value.shape[:-1], extent)
        dtypes = value_dtype(source), value_dtype(output)
        results.append(apply_reduction(fn, value, [value.dim() - 1], *dtypes, frame.env).squeeze(-1))
    return results


def _points(op: tile.ForOp, frame: _Frame) -> int:
    """How many points the largest nest of loops inside `op` has, with the loops around it."""

    def nested(loop: tile.ForOp, frame: _Frame) -> int:
        # What depends on an axis is as long as in its first step.
        inside = frame.inside(loop.axis.data, 0)
        inner = [nested(o, inside) for o in loop.body.block.ops if isinstance(o, tile.ForOp)]
        return max(1, frame.number(loop.trip_count)) * max(inner, default=1)

    result = nested(op, frame)
    for size in frame.dims:
        result *= size
    return result


def _carries_memory(op: tile.ForOp) -> bool:
    """Whether a serial loop may read what an earlier iteration stored."""
    if op.kind.data != "serial":
        return False
    loaded, stored, own = set(), set(), set()
    for inner in op.walk():
        if isinstance(inner, tile.LoadOp):
            loaded.add(inner.ref)
        elif isinstance(inner, (tile.StoreOp, tile.UpdateOp)):
            stored.add(inner.ref)
        elif isinstance(inner, tile.DotOp):
            loaded.update((inner.a, inner.b))
            stored.add(inner.c)
            if inner.adds:
                loaded.add(inner.c)
        elif isinstance(inner, tile.AllocOp):
            own.add(inner.result)
    return bool((loaded & stored) - own)


def _decides_extents(op: tile.ForOp) -> bool:
    """Whether the size of something inside depends on the axis: iterations then have different shapes."""
    axis = op.axis.data
    for inner in op.body.walk():
        sizes: Sequence[IntExpr] = ()
        if isinstance(inner, tile.ForOp):
            sizes = inner.extent.data
        elif isinstance(inner, tile.DotOp):
            sizes = inner.shape.data
        if any(axis in free_symbols(size) for size in sizes):
            return True
    return False


def _load(op: tile.LoadOp, frame: _Frame) -> list[torch.Tensor]:
    import torch

    pointer: _Pointer = frame.values[op.ref]
    offset = frame.position(op.offset.data[0])
    mask = None if op.mask is None else frame.where(op.mask.data)
    _check_offsets(pointer, offset, mask)
    dtype = frame.env.dtype(value_dtype(op.result))
    if mask is None:
        return [pointer.flat[frame.lift(pointer.base) + offset].to(dtype)]
    assert op.other is not None
    offset, mask = torch.broadcast_tensors(offset, mask)
    other = torch.tensor(op.other.data, dtype=dtype, device=frame.env.device)
    if pointer.extent == 0:
        return [other.expand(mask.shape)]
    value = pointer.flat[frame.lift(pointer.base) + torch.where(mask, offset, 0)].to(dtype)
    return [torch.where(mask, value, other)]


def _check_offsets(pointer: _Pointer, offset: torch.Tensor, mask: torch.Tensor | None) -> None:
    outside = (offset < 0) | (offset >= pointer.extent)
    if mask is not None:
        outside = outside & mask
    if outside.any():
        first = int(offset.expand(outside.shape)[outside][0])
        raise InterpreterError(f"offset {first} is outside the {pointer.extent} elements of {pointer.name}")


def _store(op: tile.StoreOp, frame: _Frame) -> list[torch.Tensor]:
    import torch

    pointer: _Pointer = frame.values[op.ref]
    offset = frame.position(op.offset.data[0])
    _check_offsets(pointer, offset, None)
    value = frame.read(op.value).to(pointer.flat.dtype)
    address, value = torch.broadcast_tensors(frame.lift(pointer.base) + offset, value)
    pointer.flat[address] = value
    if not same_bits(pointer.flat[address], value):
        raise InterpreterError(f"different iterations store different values in one place of {pointer.name}")
    return []


def _update(op: tile.UpdateOp, frame: _Frame) -> list[torch.Tensor]:
    pointer: _Pointer = frame.values[op.ref]
    offset = frame.position(op.offset.data[0])
    _check_offsets(pointer, offset, None)
    value = frame.read(op.value).to(pointer.flat.dtype)
    # Also a value that is the same in all iterations takes effect in each of them.
    address = (frame.lift(pointer.base) + offset).expand(frame.dims)
    update_memory(op.fn.data, pointer.flat, address.flatten(), value.expand(frame.dims).flatten())
    return []


def _dot(op: tile.DotOp, frame: _Frame) -> list[torch.Tensor]:
    import torch

    m, n, k = (max(0, frame.number(size)) for size in op.shape.data)
    c_m, a_m, a_k, b_k, b_n = op.strides.data

    def block(ref: SSAValue, offset: IntExpr, sizes: tuple[int, int], steps: tuple[IntExpr, IntExpr]) -> Any:
        """The pointer, and the places in it, with the two dims of the block behind those of the loops."""
        pointer: _Pointer = frame.values[ref]
        rows, columns = (torch.arange(size, device=frame.env.device) for size in sizes)
        inside = frame.position(offset)[..., None, None]
        inside = inside + frame.position(steps[0])[..., None, None] * rows[:, None]
        inside = inside + frame.position(steps[1])[..., None, None] * columns
        _check_offsets(pointer, inside, None)
        return pointer, frame.lift(pointer.base)[..., None, None] + inside

    c, a, b = (
        block(ref, offset, sizes, steps) for ref, offset, sizes, steps in zip(
            op.operands, op.offsets.data, ((m, n), (m, k), (k, n)), ((c_m, 1), (a_m, a_k), (b_k, b_n))
        )
    )
    (c_memory, places), dtype = c, c[0].flat.dtype
    product = torch.matmul(a[0].flat[a[1]].to(dtype), b[0].flat[b[1]].to(dtype))
    places, product = torch.broadcast_tensors(places, product)
    c_memory.flat[places] = c_memory.flat[places] + product if op.adds else product
    return []


def _alloc(op: tile.AllocOp, frame: _Frame) -> list[_Pointer]:
    import torch

    extent = frame.number(op.extent.data[0])
    count = 1
    for size in frame.dims:
        count *= size
    flat = torch.empty(count * extent, dtype=frame.env.dtype(value_dtype(op.result)), device=frame.env.device)
    poison(flat)
    base = torch.arange(count, device=frame.env.device).reshape(frame.dims) * extent
    return [_Pointer(value_name(op.result), flat, base, extent)]


def _constant(op: tile.ConstantOp, frame: _Frame) -> list[torch.Tensor]:
    import torch

    dtype = frame.env.dtype(value_dtype(op.result))
    return [frame.lift(torch.tensor(op.value.data, dtype=dtype, device=frame.env.device))]


def _expr(op: tile.ExprOp, frame: _Frame) -> list[torch.Tensor]:
    return [frame.position(op.offset.data[0]).to(frame.env.dtype(value_dtype(op.result)))]


def _cond(op: tile.CondOp, frame: _Frame) -> list[torch.Tensor]:
    return [frame.where(op.mask.data)]


def _index(op: tile.IndexOp, frame: _Frame) -> list[torch.Tensor]:
    import torch

    value = frame.read(op.value).to(torch.int64)
    extent = frame.number(op.extent.data[0])
    if op.mask is not None:
        value, mask = torch.broadcast_tensors(value, frame.where(op.mask.data))
        inside = checked_positions(value[mask], extent, bool(op.wrap.data))
        value = torch.zeros_like(value).masked_scatter(mask, inside)
    else:
        value = checked_positions(value, extent, bool(op.wrap.data))
    frame.names[op.label.data] = value
    return []


def _map(op: tile.MapOp, frame: _Frame) -> list[torch.Tensor]:
    args = [frame.read(a) for a in op.args]
    return [apply_scalar(op.fn.data, args, value_dtype(op.args[-1]), value_dtype(op.result), frame.env)]


def _scan(op: tile.ScanOp, frame: _Frame) -> list[torch.Tensor]:
    if not frame.innermost_is_dim:
        raise InterpreterError("a scan in a loop that loads what it stores is not supported")
    value = frame.read(op.value)
    value = value.expand(*value.shape[:-1], frame.dims[-1])
    return [apply_scan(op.fn.data, value, value.dim() - 1, value_dtype(op.value), frame.env)]


def _reduce(op: tile.ReduceOp, frame: _Frame) -> list[torch.Tensor]:
    dims = [frame.names[axis].dim() - 1 for axis in op.axis_names]
    value = frame.read(op.value)
    value = value.expand([frame.dims[d] if d in dims else size for d, size in enumerate(value.shape)])
    return [apply_reduction(op.fn.data, value, dims, value_dtype(op.value), value_dtype(op.result), frame.env)]


_RULES: dict[type[Operation], Callable[[Any, _Frame], list[Any]]] = {
    tile.ForOp: _for,
    tile.LoadOp: _load,
    tile.StoreOp: _store,
    tile.UpdateOp: _update,
    tile.DotOp: _dot,
    tile.AllocOp: _alloc,
    tile.ConstantOp: _constant,
    tile.ExprOp: _expr,
    tile.CondOp: _cond,
    tile.IndexOp: _index,
    tile.MapOp: _map,
    tile.ScanOp: _scan,
    tile.ReduceOp: _reduce,
}
