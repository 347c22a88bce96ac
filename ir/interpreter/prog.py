"""The `prog` dialect's meaning: buffers are views of one arena, launches run kernels of the module, calls run torch.

The arena starts poisoned, and a record of who wrote which bytes last turns a read of memory that was never written, or
that another buffer has taken since, into an error. In f64 precision buffers have memory of their own (the arena's
offsets are for native sizes); the record still goes by the arena's offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xdsl.ir import Operation, SSAValue

from .. import prog
from ..dtypes import itemsize
from ..errors import InterpreterError
from ..expr import symbol
from ..prog import buffer_type
from ..types import PackedType
from .environment import F64, Environment, Rule, value_name
from .library import call, written_operands
from .memory import allocate, poison, span, strides_agree, with_strides
from .tile import run_kernel

if TYPE_CHECKING:
    import torch

_NEVER_WRITTEN = "was never written"


@dataclass
class _Allocation:
    """Bytes ``[start, stop)`` of an arena (of its own, before memory is planned).

    `spoiled` says why they do not hold the buffer's elements, if they do not.
    """

    name: str
    arena: SSAValue
    start: int
    stop: int
    spoiled: str | None = _NEVER_WRITTEN

    def overlaps(self, other: _Allocation) -> bool:
        return self.arena is other.arena and self.start < other.stop and other.start < self.stop


def _arena(op: prog.ArenaOp, env: Environment) -> torch.Tensor:
    import torch

    arena = torch.empty(env.size(op.size.data[0]), dtype=torch.uint8, device=env.device)
    poison(arena)
    return arena


def _buffer(op: prog.BufferOp, env: Environment, arena: torch.Tensor) -> torch.Tensor:
    type = buffer_type(op.result)
    shape, strides = env.shape(type.shape), env.shape(type.strides)
    start, width = env.size(op.offset.data[0]), itemsize(type.dtype)
    stop = start + span(shape, strides) * width
    if start < 0 or stop > arena.numel():
        raise InterpreterError(f"bytes [{start}, {stop}) leave the arena of {arena.numel()} bytes")
    if start % width:
        raise InterpreterError(f"byte {start} is not aligned for {type.dtype}")
    env.memory[op.result] = _Allocation(value_name(op.result), op.arena, start, stop)
    if env.precision == F64:
        return allocate(shape, strides, env.dtype(type.dtype), env.device)
    return arena[start:stop].view(env.dtype(type.dtype)).as_strided(shape, strides)


def _alloc(op: prog.AllocOp, env: Environment) -> torch.Tensor:
    type = buffer_type(op.result)
    shape, strides = env.shape(type.shape), env.shape(type.strides)
    stop = span(shape, strides) * itemsize(type.dtype)
    env.memory[op.result] = _Allocation(value_name(op.result), op.result, 0, stop)
    return allocate(shape, strides, env.dtype(type.dtype), env.device)


def _output(op: prog.OutputOp, env: Environment) -> torch.Tensor:
    type = buffer_type(op.result)
    return allocate(env.shape(type.shape), env.shape(type.strides), env.dtype(type.dtype), env.device)


def _view(op: prog.ViewOp, env: Environment, source: torch.Tensor) -> torch.Tensor:
    type, source_type = buffer_type(op.result), buffer_type(op.source)
    if type.dtype != source_type.dtype:
        raise InterpreterError(f"a view of {source_type.dtype} elements cannot have {type.dtype} ones")
    shape, strides, offset = env.shape(type.shape), env.shape(type.strides), env.size(op.offset.data[0])
    stop, limit = offset + span(shape, strides), span(source.shape, source.stride())
    if 0 not in shape and not 0 <= offset < stop <= limit:
        raise InterpreterError(f"elements [{offset}, {stop}) leave the source's {limit}")
    if op.source in env.memory:
        env.memory[op.result] = env.memory[op.source]
    return source.as_strided(shape, strides, source.storage_offset() + (0 if 0 in shape else offset))


def _launch(op: prog.LaunchOp, env: Environment, *args: torch.Tensor) -> None:
    name = op.kernel.root_reference.data
    kernel = env.kernels.get(name)
    if kernel is None:
        raise InterpreterError(f"the module has no kernel @{name}")
    sizes = {size: env.size(symbol(size)) for size in kernel.size_names}
    written = [op.args[i] for i in kernel.outputs.ints()]
    _touch(env, op.args, written)
    run_kernel(kernel, args, sizes, env.precision)


def _touch(env: Environment, used: Sequence[SSAValue], written: Sequence[SSAValue]) -> None:
    """Check that what is read holds what was written to it, then note the writes.

    Raises InterpreterError when read memory was never written, or was taken by another buffer, also by one that
    this very op writes.
    """
    read = [value for value in used if value not in written]
    targets = [env.memory[v] for v in written if v in env.memory]
    for value in read:
        allocation = env.memory.get(value)
        if allocation is None or allocation.start == allocation.stop:
            continue
        if allocation.spoiled is not None:
            raise InterpreterError(f"reads {allocation.name}, which {allocation.spoiled}")
        for target in targets:
            if target is not allocation and target.overlaps(allocation):
                raise InterpreterError(f"reads {allocation.name} while writing {target.name} over it")
    for target in targets:
        for other in env.memory.values():
            if other is not target and other.overlaps(target) and other.spoiled is None:
                other.spoiled = f"{target.name} has overwritten"
    for target in targets:
        target.spoiled = None


def _extern(op: prog.ExternOp, env: Environment, *args: torch.Tensor) -> list[torch.Tensor]:
    target, arguments = op.target.data, op.arguments.data
    written = written_operands(target, arguments)
    _touch(env, op.args, [op.args[i] for i in written])
    before = [(args[i].data_ptr(), args[i].shape, args[i].stride()) for i in written]
    outputs = call(target, arguments, args, [a.type.dtype for a in op.args], env)  # type: ignore[attr-defined]
    if before != [(args[i].data_ptr(), args[i].shape, args[i].stride()) for i in written]:
        raise InterpreterError("the result does not have the shape of the buffer it is written to")
    if not op.outputs:
        return []  # an out= call gives its own argument back
    if len(outputs) != len(op.outputs):
        raise InterpreterError(f"gave {len(outputs)} results, the op has {len(op.outputs)}")
    for value, result in zip(outputs, op.outputs):
        for operand, tensor in zip(op.args, args):
            if operand in env.memory and _begins_in(value, tensor):
                env.memory[result] = env.memory[operand]  # a view: valid as long as what it views
    return [_library_result(value, result, env) for value, result in zip(outputs, op.outputs)]


def _begins_in(value: torch.Tensor, tensor: torch.Tensor) -> bool:
    start = tensor.data_ptr()
    length = span(tensor.shape, tensor.stride()) * tensor.element_size()
    return start <= value.data_ptr() < start + length


def _library_result(value: torch.Tensor, result: SSAValue, env: Environment) -> torch.Tensor:
    if isinstance(result.type, PackedType):
        return value
    type = buffer_type(result)
    env.bind(type.shape, value)
    env.check_tensor(value, type.shape, type.dtype)
    strides = env.shape(type.strides)
    if strides_agree(value, strides):
        return value
    # Libraries choose layouts by dtype and by those of their operands: the host program lays the result out again.
    return with_strides(value, strides, value.dtype).as_strided(value.shape, strides)


RULES: dict[type[Operation], Rule] = {
    prog.ArenaOp: _arena,
    prog.BufferOp: _buffer,
    prog.AllocOp: _alloc,
    prog.OutputOp: _output,
    prog.ViewOp: _view,
    prog.LaunchOp: _launch,
    prog.ExternOp: _extern,
}
