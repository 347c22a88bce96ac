"""Random inputs for a module, made from its argument types: what verification runs on when the user gives nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from . import prog, tile, tw
from .calls import decode
from .dtypes import DTYPES
from .expr import IntExpr, evaluate
from .types import BufferType, DimsAttr, TensorType, contiguous_strides

# The scale of random floats: sums and exponentials of a few hundred of them stay far from overflow.
_FLOAT_SCALE = 0.5
# Library calls whose operand at `index` holds positions in dim 0 of the operand at `table`.
_LOOKUPS = {"aten.embedding.default": (0, 1), "aten.embedding.out": (0, 1)}


def random_inputs(module: ModuleOp, *, seed: int = 0, sizes: Mapping[str, int] | None = None) -> list[Any]:
    """Tensors and ints for the arguments of `@forward` (tw or prog), the same for the same seed.

    Floats are normal with standard deviation 0.5, bools fair. Integers are in [0, 2), unless they reach an index
    (through views, casts, arithmetic with constants): then within the smallest dim that they index. Symbols without an
    entry in `sizes` get 16, 24, 32 and so on, all different. Strides are those that the function states.
    """
    import torch

    from .interpreter import argument_symbols, find_function

    function = find_function(module)
    places = argument_symbols(function)
    values = {name: 8 * (k + 2) for k, name in enumerate(places)} | dict(sizes or {})
    ints = {place[0]: values[name] for name, place in places.items() if len(place) == 1}
    kernels = {op.sym_name.data: op for op in module.ops if isinstance(op, tile.KernelOp)}
    limits = _Limits(values, kernels)
    limits.walk(function.body.block.ops)
    generator = torch.Generator().manual_seed(seed)
    result: list[Any] = []
    for position, argument in enumerate(function.body.block.args):
        type = argument.type
        if not isinstance(type, (TensorType, BufferType)):
            result.append(ints.get(position, 2))
            continue
        shape = [evaluate(d, values) for d in type.shape]
        strides = [evaluate(s, values) for s in _strides(function, position, type)]
        result.append(_random_tensor(shape, strides, type.dtype, limits.of.get(argument, 2), generator))
    return result


def _strides(function: FuncOp, position: int, type: TensorType | BufferType) -> Sequence[IntExpr]:
    if isinstance(type, BufferType):
        return type.strides
    stated = function.attributes.get("arg_strides")
    if isinstance(stated, ArrayAttr) and isinstance(stated.data[position], DimsAttr):
        strides = stated.data[position].data
        if len(strides) == type.rank:
            return strides
    return contiguous_strides(type.shape)


def _random_tensor(shape: Sequence[int], strides: Sequence[int], dtype: str, limit: int, generator: Any) -> Any:
    import torch

    from .interpreter.memory import span

    row = DTYPES[dtype]
    count, wanted = span(shape, strides), getattr(torch, row.torch_name)
    if row.kind == "bool" or row.is_integer:
        flat = torch.randint(0, 2 if row.kind == "bool" else max(1, limit), (count,), generator=generator)
    elif row.kind == "complex":
        flat = torch.randn(count, generator=generator, dtype=torch.complex64) * _FLOAT_SCALE
    else:
        flat = torch.randn(count, generator=generator) * _FLOAT_SCALE
    return flat.to(wanted).as_strided(shape, strides)


class _Limits:
    """Exclusive upper limits of integer values, found by walking backwards from where they index.

    `of` maps values (tensors, buffers, pointers, elements) to their limit.
    """

    def __init__(self, sizes: Mapping[str, int], kernels: Mapping[str, tile.KernelOp]):
        self.sizes = sizes
        self.kernels = kernels
        self.of: dict[SSAValue, int] = {}

    def lower(self, value: SSAValue, limit: int) -> None:
        self.of[value] = max(1, min(limit, self.of.get(value, limit)))

    def walk(self, ops: Sequence[Operation] | Any) -> None:
        """Carry limits from results to operands, last op first."""
        for op in reversed(list(ops)):
            if (rule := _LIMIT_RULES.get(type(op))) is not None:
                rule(self, op)

    def size(self, expr: IntExpr) -> int:
        """The number, or no limit where it follows from data."""
        try:
            return evaluate(expr, self.sizes)
        except KeyError:
            return 1 << 62

    def pass_on(self, op: Operation) -> None:
        """Operands are what the result is."""
        for result in op.results:
            if result in self.of:
                for operand in op.operands:
                    self.lower(operand, self.of[result])

    def gather(self, op: tw.GatherOp) -> None:
        for dim, index in zip(op.dims.ints(), op.indices):
            self.lower(index, self.size(tw.tensor_type(op.source).shape[dim]))

    def scatter(self, op: tw.ScatterOp) -> None:
        for dim, index in zip(op.dims.ints(), op.indices):
            self.lower(index, self.size(tw.tensor_type(op.base).shape[dim]))
        if op.result in self.of:
            self.lower(op.base, self.of[op.result])
            self.lower(op.updates, self.of[op.result])

    def arithmetic(self, op: tw.MapOp | tile.MapOp) -> None:
        if op.result not in self.of:
            return
        limit = self.of[op.result]
        args = op.args[1:] if op.fn.data == "where" else op.args
        constants = [c for a in args if (c := _constant(a)) is not None]
        if op.fn.data == "add":
            # What a constant adds is known; of two unknown terms each gets half.
            limit = limit - int(constants[0]) if constants else (limit + 1) // 2
        elif op.fn.data == "mul" and constants and constants[0] > 0:
            limit = -(-limit // int(constants[0]))
        for operand in args:
            self.lower(operand, limit)

    def library_call(self, op: tw.AtenOp | prog.ExternOp) -> None:
        if op.target.data not in _LOOKUPS:
            return
        table, index = _LOOKUPS[op.target.data]
        args, _ = decode(op.arguments.data, lambda i: op.args[i], lambda size: None, lambda tag, name: None)
        type = args[table].type
        if isinstance(type, (TensorType, BufferType)):
            self.lower(args[index], self.size(type.shape[0]))

    def fused(self, op: tw.FusedOp) -> None:
        for result, inner in zip(op.outputs, op.terminator.args):
            if result in self.of:
                self.lower(inner, self.of[result])
        self.walk(op.body.block.ops)

    def launch(self, op: prog.LaunchOp) -> None:
        kernel = self.kernels.get(op.kernel.root_reference.data)
        if kernel is None:
            return
        inner = _Limits(self.sizes, self.kernels)
        for outer, pointer in zip(op.args, kernel.args):
            if outer in self.of:
                inner.lower(pointer, self.of[outer])
        inner.walk(kernel.body.block.ops)
        for outer, pointer in zip(op.args, kernel.args):
            if pointer in inner.of:
                self.lower(outer, inner.of[pointer])

    def loop(self, op: tile.ForOp) -> None:
        self.walk(op.body.block.ops)

    def index(self, op: tile.IndexOp) -> None:
        self.lower(op.value, self.size(op.extent.data[0]))

    def store(self, op: tile.StoreOp | tile.UpdateOp) -> None:
        if op.ref in self.of:
            self.lower(op.value, self.of[op.ref])


def _constant(value: SSAValue) -> float | None:
    """The number that a value is everywhere, seen through casts and broadcasts."""
    op = value.owner
    while isinstance(op, (tw.BroadcastOp, tw.ReshapeOp, tw.MapOp, tile.MapOp)):
        if isinstance(op, (tw.MapOp, tile.MapOp)) and op.fn.data != "cast":
            return None
        op = op.operands[0].owner
    return float(op.value.data) if isinstance(op, (tw.ConstantOp, tile.ConstantOp)) else None


_LIMIT_RULES: dict[type[Operation], Callable[[_Limits, Any], None]] = {
    **dict.fromkeys((*tw.VIEW_OPS, tw.ConcatOp, prog.ViewOp, tile.LoadOp), _Limits.pass_on),
    tw.GatherOp: _Limits.gather,
    tw.ScatterOp: _Limits.scatter,
    tw.MapOp: _Limits.arithmetic,
    tw.AtenOp: _Limits.library_call,
    tw.FusedOp: _Limits.fused,
    prog.ExternOp: _Limits.library_call,
    prog.LaunchOp: _Limits.launch,
    tile.ForOp: _Limits.loop,
    tile.IndexOp: _Limits.index,
    tile.StoreOp: _Limits.store,
    tile.UpdateOp: _Limits.store,
    tile.MapOp: _Limits.arithmetic,
}
