"""`triton.language` as kernels of ours use it, evaluated with torch: what runs them where Triton is not installed.

It is stricter than Triton's own interpreter. An access outside of a buffer is an error, what a masked load does not
read is poison, ranks must agree, and blocks have powers of two. `install` puts it in the place of Triton in a process.
"""

from __future__ import annotations

import enum
import sys
import types
from dataclasses import dataclass
from typing import Any

import torch

from tilewright.codegen.triton.interpreted import REFERENCES, evaluate


@dataclass(frozen=True)
class DType:
    """A type: `rank` orders the types of one kind for promotion."""

    name: str
    torch: torch.dtype
    kind: int  # bool, unsigned, signed, float
    rank: int

    @property
    def primitive_bitwidth(self) -> int:
        return 1 if self.kind == 0 else self.torch.itemsize * 8


TYPES = {
    d.name: d
    for d in (
        DType("int1", torch.bool, 0, 0), DType("uint8", torch.uint8, 1, 0), DType("int8", torch.int8, 2, 0),
        DType("int16", torch.int16, 2, 1), DType("int32", torch.int32, 2, 2), DType("int64", torch.int64, 2, 3),
        DType("float8e4nv", torch.float8_e4m3fn, 3, 0), DType("float8e5", torch.float8_e5m2, 3, 0),
        DType("float16", torch.float16, 3, 1), DType("bfloat16", torch.bfloat16, 3, 2),
        DType("float32", torch.float32, 3, 3), DType("float64", torch.float64, 3, 4),
    )
}
BY_TORCH = {d.torch: d for d in TYPES.values()}
POISON = {0: True, 1: 171, 2: -85, 3: float("nan")}


class Block:
    """A block or, without dims, a scalar."""

    def __init__(self, data: torch.Tensor):
        self.data = data

    @property
    def dtype(self) -> DType:
        return BY_TORCH[self.data.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    def to(self, dtype: DType) -> Block:
        if dtype.kind == 0:
            return Block(self.data != 0)
        return Block(self.data.to(dtype.torch))

    def __getitem__(self, places: Any) -> Block:
        assert all(p is None or p == slice(None) for p in places)
        return Block(self.data[places])

    def __neg__(self) -> Block:
        return Block((0 - self.data.to(torch.int64)).to(self.data.dtype)) if self.dtype.kind == 1 else Block(-self.data)

    def __invert__(self) -> Block:
        return Block(~self.data)


def computation_type(a: Any, b: Any) -> DType:
    """Triton's promotion: a bare number of no higher kind takes the block's type."""
    if not isinstance(a, Block) or not isinstance(b, Block):
        block, number = (a, b) if isinstance(a, Block) else (b, a)
        mine = as_block(number).dtype
        if not isinstance(block, Block):
            other = as_block(block).dtype
            return max(mine, other, key=lambda d: (d.kind, d.rank))
        return block.dtype if mine.kind <= block.dtype.kind else mine
    if a.dtype.kind == 3 and b.dtype.kind == 3 and a.dtype != b.dtype and max(a.dtype.rank, b.dtype.rank) < 3:
        return TYPES["float32"]
    left, right = a.dtype, b.dtype
    if {left.kind, right.kind} == {1, 2}:
        signed, unsigned = (left, right) if left.kind == 2 else (right, left)
        return unsigned if unsigned.rank >= signed.rank else signed
    return max(left, right, key=lambda d: (d.kind, d.rank))


def as_block(value: Any) -> Block:
    if isinstance(value, Block):
        return value
    if isinstance(value, bool):
        return Block(torch.tensor(value))
    if isinstance(value, int):
        return Block(torch.tensor(value, dtype=torch.int32 if -(2**31) <= value < 2**31 else torch.int64))
    return Block(torch.tensor(value, dtype=torch.float32))


def legalized(a: Any, b: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The operands in one type and one shape."""
    dtype = computation_type(a, b).torch
    left, right = (
        x.data.to(dtype) if isinstance(x, Block) else torch.tensor(x, dtype=dtype) for x in (a, b)
    )
    return broadcast(left, right)


def broadcast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    ranks = {t.dim() for t in tensors if t.dim()}
    assert len(ranks) <= 1, f"ranks {[tuple(t.shape) for t in tensors]} do not agree"
    return torch.broadcast_tensors(*tensors)


def _binary(function: Any) -> Any:
    def apply(a: Any, b: Any) -> Any:
        if isinstance(b, Pointer):
            return NotImplemented
        return Block(function(*legalized(a, b)))

    return apply


def _c_div(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    assert not a.dtype.is_floating_point, "// is of integers"
    return torch.div(a, torch.where(b == 0, 1, b), rounding_mode="trunc")


def _c_mod(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    assert not a.dtype.is_floating_point, "% is of integers"
    return torch.fmod(a, torch.where(b == 0, 1, b))


def _divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    assert a.dtype == torch.float64, "/ of float32 is not rounded correctly: tl.div_rn is"
    return a / b


_OPERATORS = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "truediv": _divide, "floordiv": _c_div, "mod": _c_mod,
    "and": torch.bitwise_and, "or": torch.bitwise_or, "xor": torch.bitwise_xor, "lshift": torch.bitwise_left_shift,
    "rshift": torch.bitwise_right_shift,
}
for _name, _function in _OPERATORS.items():
    setattr(Block, f"__{_name}__", _binary(_function))
    setattr(Block, f"__r{_name}__", _binary(lambda a, b, f=_function: f(b, a)))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Block, f"__{_name}__", _binary(getattr(torch, _name)))


@dataclass
class Pointer:
    """A place in a buffer, or a block of places."""

    buffer: torch.Tensor
    offset: Block

    def __add__(self, other: Any) -> Pointer:
        moved = self.offset + other
        assert moved.dtype.kind in (1, 2), "a pointer moves by integers"
        return Pointer(self.buffer, moved)

    def __sub__(self, other: Any) -> Pointer:
        return self + (-other)

    def places(self, mask: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Offsets, and which of them are touched. Raises IndexError for one outside of the buffer."""
        offset = self.offset.data.to(torch.int64)
        wanted = torch.ones_like(offset, dtype=torch.bool)
        if mask is not None:
            data = as_block(mask).data
            assert data.dtype == torch.bool and (data.dim() == 0 or offset.dim()), "a mask with more dims than pointers"
            wanted = torch.broadcast_to(data, offset.shape)
        touched = offset[wanted]
        if touched.numel() and (touched.min() < 0 or touched.max() >= self.buffer.numel()):
            raise IndexError(f"offsets {int(touched.min())} to {int(touched.max())} of {self.buffer.numel()} elements")
        return offset, wanted


def load(pointer: Pointer, mask: Any = None, other: Any = None, eviction_policy: str = "") -> Block:
    assert mask is not None or other is None
    offset, wanted = pointer.places(mask)
    dtype = BY_TORCH[pointer.buffer.dtype]
    fill = other if other is not None else POISON[dtype.kind]
    result = torch.full(offset.shape, fill, dtype=torch.float32 if dtype.kind == 3 and dtype.rank < 3 else dtype.torch)
    result = result.to(dtype.torch)
    result[wanted] = pointer.buffer[offset[wanted]]
    return Block(result)


def store(pointer: Pointer, value: Any, mask: Any = None) -> None:
    offset, wanted = pointer.places(mask)
    data = as_block(value).data.to(pointer.buffer.dtype)
    assert data.dim() in (0, offset.dim()), "a block stored through a scalar pointer"
    data = torch.broadcast_to(data, offset.shape)
    pointer.buffer[offset[wanted]] = data[wanted]


class PropagateNan(enum.Enum):
    NONE = 0
    ALL = 1


def _power_of_two(size: int) -> None:
    assert size > 0 and size & (size - 1) == 0, f"{size} is no power of two"


def arange(start: int, stop: int) -> Block:
    _power_of_two(stop - start)
    return Block(torch.arange(start, stop, dtype=torch.int32))


def full(shape: Any, value: Any, dtype: DType) -> Block:
    for size in shape:
        _power_of_two(size)
    data = value.data.to(dtype.torch) if isinstance(value, Block) else torch.tensor(value, dtype=dtype.torch)
    return Block(data.expand(tuple(shape)).clone())


def broadcast_to(value: Any, shape: Any) -> Block:
    return Block(torch.broadcast_to(as_block(value).data, tuple(shape)))


def where(condition: Any, a: Any, b: Any) -> Block:
    left, right = legalized(a, b)
    mask, left, right = broadcast(as_block(condition).data, left, right)
    return Block(torch.where(mask, left, right))


def _extreme(nan: Any, plain: Any) -> Any:
    def apply(a: Any, b: Any, propagate_nan: PropagateNan = PropagateNan.NONE) -> Block:
        left, right = legalized(as_block(a), as_block(b)) if not isinstance(a, Block) and not isinstance(b, Block) \
            else legalized(a, b)
        return Block((nan if propagate_nan is PropagateNan.ALL else plain)(left, right))

    return apply


def _parts(value: Any) -> list[torch.Tensor]:
    parts = [x.data for x in value] if isinstance(value, tuple) else [value.data]
    assert all(p.shape == parts[0].shape for p in parts), "blocks of different shapes are reduced"
    return parts


def _combined(function: Any, left: list[torch.Tensor], right: list[torch.Tensor]) -> list[torch.Tensor]:
    result = function(*map(Block, left), *map(Block, right))
    result = result if isinstance(result, tuple) else (result,)
    assert all(r.data.dtype == p.dtype for r, p in zip(result, left)), "a combiner changes the type"
    return [r.data for r in result]


def reduce(value: Any, axis: int | None, function: Any, keep_dims: bool = False) -> Any:
    parts = _parts(value)
    assert parts[0].dim(), "a scalar is reduced"
    if axis is None:
        parts, axis = [p.reshape(-1) for p in parts], 0
    while (size := parts[0].shape[axis]) > 1:
        halves = [p.split(size // 2, axis) for p in parts]
        parts = _combined(function, [h[0] for h in halves], [h[1] for h in halves])
    result = tuple(Block(p if keep_dims else p.squeeze(axis)) for p in parts)
    return result if isinstance(value, tuple) else result[0]


def sum(value: Block, axis: int | None, keep_dims: bool = False) -> Block:
    if value.dtype.kind in (0, 1, 2) and value.data.dtype.itemsize < 4:
        value = value.to(TYPES["int32"])
    return reduce(value, axis, lambda a, b: a + b, keep_dims)


def associative_scan(value: Any, axis: int, function: Any) -> Any:
    parts = [p.clone() for p in _parts(value)]
    size, step = parts[0].shape[axis], 1
    while step < size:
        left = [p.narrow(axis, 0, size - step) for p in parts]
        right = [p.narrow(axis, step, size - step) for p in parts]
        new = _combined(function, left, right)
        parts = [torch.cat([p.narrow(axis, 0, step), n], axis) for p, n in zip(parts, new)]
        step *= 2
    result = tuple(map(Block, parts))
    return result if isinstance(value, tuple) else result[0]


def _math(function: Any, *names: str) -> Any:
    def apply(*args: Any) -> Block:
        blocks = [a for a in args if isinstance(a, Block)]
        assert blocks and all(b.dtype.name in names for b in blocks), f"{function} of {[b.dtype.name for b in blocks]}"
        if len(args) == 2:
            return Block(function(*legalized(*args)))
        return Block(function(args[0].data))

    return apply


_FLOATS = ("float32", "float64")
_LANGUAGE: dict[str, Any] = {
    **TYPES, "constexpr": int, "load": load, "store": store, "PropagateNan": PropagateNan, "arange": arange,
    "full": full, "zeros": lambda shape, dtype: full(shape, 0, dtype), "broadcast_to": broadcast_to, "where": where,
    "maximum": _extreme(torch.maximum, torch.fmax), "minimum": _extreme(torch.minimum, torch.fmin), "reduce": reduce,
    "sum": sum, "associative_scan": associative_scan, "static_range": range, "cdiv": lambda a, b: -(-a // b),
    "abs": lambda x: Block(torch.abs(x.data)),
    "div_rn": _math(torch.div, "float32"), "sqrt_rn": _math(torch.sqrt, "float32"),
    **{name: _math(getattr(torch, name), *_FLOATS) for name in (
        "exp", "exp2", "log", "log2", "sin", "cos", "sqrt", "rsqrt", "floor", "ceil", "erf", "sigmoid",
    )},
}
_LIBDEVICE = {
    name: lambda *args, name=name: Block(evaluate(name, [a.data for a in args])) for name in REFERENCES
}


class Kernel:
    """What `triton.jit` gives: callable from kernels, launched with a grid in brackets."""

    def __init__(self, function: Any):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __getitem__(self, grid: tuple[int]) -> Any:
        def launch(*args: Any, **constants: Any) -> None:
            for name in ("num_warps", "num_stages", "enable_fp_fusion"):
                constants.pop(name, None)
            given = [Pointer(a, as_block(0)) if isinstance(a, torch.Tensor) else a for a in args]
            for number in range(grid[0]):
                _LANGUAGE_MODULE.program_id = lambda axis, n=number: Block(torch.tensor(n, dtype=torch.int32))
                self.function(*given, **constants)

        return launch


_LANGUAGE_MODULE: Any = types.ModuleType("triton.language")


def install() -> None:
    """Be `triton` in this process."""
    for name, value in _LANGUAGE.items():
        setattr(_LANGUAGE_MODULE, name, value)
    modules = {name: types.ModuleType(name) for name in (
        "triton", "triton.language.extra", "triton.language.extra.cuda", "triton.language.extra.cuda.libdevice")}
    modules["triton.language"] = _LANGUAGE_MODULE
    for name, value in _LIBDEVICE.items():
        setattr(modules["triton.language.extra.cuda.libdevice"], name, value)
    modules["triton"].jit = Kernel  # type: ignore[attr-defined]
    modules["triton"].cdiv = lambda a, b: -(-a // b)  # type: ignore[attr-defined]
    modules["triton"].__stand_in__ = True  # type: ignore[attr-defined]
    for name, module in modules.items():
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(modules[parent], own, module)
    sys.modules.update(modules)
