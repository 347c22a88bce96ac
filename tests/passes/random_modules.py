"""Random tw modules: graphs that no model has, with every op that fuses, any strides, symbolic sizes, sizes 0 and 1."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Region, SSAValue

from tilewright.ir.builder import Builder
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.expr import IntExpr, evaluate, floordiv, mod, product, symbol
from tilewright.ir.interpreter.memory import span
from tilewright.ir.scalars import kind_of
from tilewright.ir.text import parse_ir, print_ir
from tilewright.ir.tw import tensor_type
from tilewright.ir.types import DimsAttr, TensorType, broadcast_shapes, contiguous_strides

LARGEST = 20_000
FLOATS = [("f32",), ("f32",), ("bf16",), ("f32", "bf16"), ("f16",)]
SIZES = [(1, 2, 3, 4, 5, 7, 8, 16), (2, 3, 4, 6, 8, 12), (0, 1, 2, 3), (1, 17, 32, 64, 100)]
_SPECIAL = (float("nan"), float("inf"), float("-inf"))


@dataclass(frozen=True)
class RandomModule:
    """A module and the values of its symbols. `special`: NaN or an infinity is among the floats."""

    module: ModuleOp
    sizes: dict[str, int]
    seed: int
    special: bool

    def inputs(self) -> list[torch.Tensor]:
        """Tensors for @forward in the strides that it states."""
        [function] = self.module.ops
        generator = torch.Generator().manual_seed(self.seed)
        strides = function.attributes["arg_strides"].data
        return [self._tensor(a.type, s.data, generator) for a, s in zip(function.body.block.args, strides)]

    def _tensor(self, type: TensorType, strides: Sequence[IntExpr], generator: torch.Generator) -> torch.Tensor:
        shape = [evaluate(d, self.sizes) for d in type.shape]
        steps = [evaluate(s, self.sizes) for s in strides]
        count, row = span(shape, steps), DTYPES[type.dtype]
        if row.kind == "bool":
            flat = torch.rand(count, generator=generator) < 0.5
        elif row.is_integer:
            flat = torch.randint(-5, 9, (count,), generator=generator)
        else:
            flat = torch.randn(count, generator=generator)
            if self.special and count > 2:
                flat[count // 2] = _SPECIAL[count % 3]
        return flat.to(getattr(torch, row.torch_name)).as_strided(shape, steps)


def random_module(seed: int) -> RandomModule:
    """The module of a seed."""
    return _Maker(seed).make()


class _Maker:
    def __init__(self, seed: int):
        self.seed = seed
        self.random = random.Random(seed)
        self.symbolic = self.random.random() < 0.3
        self.floats = self.random.choice(FLOATS)
        self.choices = self.random.choice(SIZES)
        self.length = self.random.choice([4, 8, 12, 20])
        self.sizes: dict[str, int] = {}
        if self.symbolic:
            self.sizes = {"s0": self.random.choice([0, 1, 2, 3, 5, 8]), "s1": self.random.choice([2, 4, 7])}

    def make(self) -> RandomModule:
        types, strides, symbols = self.arguments()
        block = Block(arg_types=types)
        self.build = Builder.at_end(block)
        self.pool: list[SSAValue] = list(block.args)
        for _ in range(30 * self.length):
            if len(self.pool) == len(types) + self.length:
                break
            value = self.random.choice(_DRAWS)(self)
            if value is not None and product(evaluate(d, self.sizes) for d in tensor_type(value).shape) <= LARGEST:
                self.pool.append(value)
        results = [v for v in self.pool if not v.uses and v.owner is not block][:5] or [self.pool[-1]]
        if self.random.random() < 0.5:
            results.append(self.random.choice(self.pool))
        self.build.return_(results)
        function = FuncOp("forward", (types, [v.type for v in results]), Region(block))
        function.attributes |= {
            "arg_strides": ArrayAttr(strides), "result_kinds": ArrayAttr([StringAttr("tensor")] * len(results)),
            "result_strides": ArrayAttr([self.layout(tensor_type(v).shape, dense=True) for v in results]),
        }
        if symbols:
            function.attributes["symbols"] = DictionaryAttr(symbols)
        module = parse_ir(print_ir(ModuleOp([function])))
        return RandomModule(module, self.sizes, self.seed, self.random.random() < 0.15)

    def arguments(self) -> tuple[list[TensorType], list[DimsAttr], dict[str, DimsAttr]]:
        base: list[IntExpr] = [self.size() for _ in range(self.random.randint(1, 3))]
        shapes: list[Sequence[IntExpr]] = [base]
        for _ in range(self.random.randint(0, 3)):
            shapes.append(self.random.choice([
                base, [d if self.random.random() < 0.6 else 1 for d in base], base[self.random.randint(0, len(base)) :],
                [self.size() for _ in range(self.random.randint(0, 3))],
            ]))
        mixed = [*self.floats * 3, "i64", "bool"]
        dtypes = [self.random.choice(mixed if i else self.floats) for i in range(len(shapes))]
        if self.symbolic:  # each symbol is some argument's dim
            shapes += [[symbol("s0")], [symbol("s1")]]
            dtypes += [self.floats[0]] * 2
        types = [TensorType.get(s, d) for s, d in zip(shapes, dtypes)]
        symbols = {f"s{k}": DimsAttr([len(types) - 2 + k, 0]) for k in range(2)} if self.symbolic else {}
        return types, [self.layout(s) for s in shapes], symbols

    def layout(self, shape: Sequence[IntExpr], dense: bool = False) -> DimsAttr:
        """Row-major, permuted, and (unless `dense`) with gaps or a stride of 0."""
        kind = self.random.random()
        order = list(range(len(shape)))
        if kind < 0.2:
            self.random.shuffle(order)
        strides: list[IntExpr] = [0] * len(shape)
        step: IntExpr = 2 if 0.2 < kind < 0.3 and not dense else 1
        for dim in reversed(order):
            strides[dim] = step
            step = step * shape[dim] if shape[dim] != 0 else step
        if shape and kind > 0.95 and not dense:
            strides[self.random.randrange(len(shape))] = 0
        return DimsAttr(strides)

    # Drawing values and ops; None where nothing in the pool fits.
    def size(self) -> IntExpr:
        if self.symbolic and self.random.random() < 0.4:
            return symbol(self.random.choice(["s0", "s1"]))
        return self.random.choice(self.choices)

    def draw(self, accepts: Callable[[TensorType], bool] = lambda type: True) -> SSAValue | None:
        """A value of the pool, more often a late one."""
        found = [v for v in self.pool if accepts(tensor_type(v))]
        return self.random.choice(found[-4:] if self.random.random() < 0.7 else found) if found else None

    def partner(self, value: SSAValue, *, dtype: str | None = None) -> SSAValue:
        """A value that broadcasts with `value`: itself at the worst."""
        type = tensor_type(value)

        def fits(other: TensorType) -> bool:
            try:
                broadcast_shapes([type.shape, other.shape])
                return other.dtype == (dtype or type.dtype)
            except ValueError:
                return False

        return self.draw(fits) or value

    def unary(self) -> SSAValue | None:
        value = self.draw(lambda t: t.dtype != "u8")
        if value is None:
            return None
        kind = kind_of(tensor_type(value).dtype)
        names = {"float": ["neg", "abs", "tanh", "sigmoid", "sin"], "int": ["neg", "abs"], "bool": ["not"]}[kind]
        if kind == "float" and self.random.random() < 0.2:
            return self.build.map("sqrt", self.build.map("abs", value))
        return self.build.map(self.random.choice(names), value)

    def binary(self) -> SSAValue | None:
        value = self.draw()
        if value is None:
            return None
        pair = [value, self.partner(value)]
        self.random.shuffle(pair)
        on_bool, on_numbers = ["and", "or", "xor"], ["add", "sub", "mul", "maximum", "minimum"]
        names = on_bool if tensor_type(value).dtype == "bool" else on_numbers
        if tensor_type(value).dtype in ("f32", "i64"):  # of two halves one may be larger before rounding
            names += ["lt", "ge"]
        return self.build.map(self.random.choice(names), *pair)

    def select(self) -> SSAValue | None:
        condition = self.draw(lambda t: t.dtype == "bool")
        value = condition and self.partner(condition, dtype=self.random.choice([*self.floats, "i64"]))
        if condition is None or value is None or value is condition:
            return None
        dtype = tensor_type(value).dtype
        if self.random.random() < 0.5:
            number = 1 if dtype == "i64" else self.random.choice([0.0, float("-inf"), 2.5])
            return self.build.where(condition, value, self.build.constant(number, dtype))
        return self.build.where(condition, value, value)

    def cast(self) -> SSAValue | None:
        value = self.draw()
        if value is None:
            return None
        kind = kind_of(tensor_type(value).dtype)  # a float stays one: rounding must not become a difference of 1
        wanted = [*self.floats, "f32"] + {"float": [], "int": ["i32", "i64", "u8"], "bool": ["i64"]}[kind]
        return self.build.cast(value, self.random.choice(wanted))

    def reduce(self) -> SSAValue | None:
        value = self.draw(lambda t: t.rank > 0)
        if value is None:
            return None
        type = tensor_type(value)
        dims = sorted(self.random.sample(range(type.rank), self.random.randint(1, min(2, type.rank))))
        by_kind = {"float": ["sum", "sum", "max", "min"], "int": ["sum", "max"], "bool": ["any", "all"]}
        names = by_kind[kind_of(type.dtype)]
        if type.dtype in ("f32", "i64") and self.random.random() < 0.2:
            if any(evaluate(type.shape[d], self.sizes) == 0 for d in dims):
                return None
            return self.build.reduce(self.random.choice(["argmax", "argmin"]), value, dims[:1])
        return self.build.reduce(self.random.choice(names), value, dims)

    def rows(self) -> SSAValue | None:
        """Softmax or a root-mean-square norm along one dim."""
        value = self.draw(lambda t: t.rank > 0 and kind_of(t.dtype) == "float")
        if value is None:
            return None
        b, dtype, dims = self.build, tensor_type(value).dtype, [self.random.randrange(tensor_type(value).rank)]
        if self.random.random() < 0.5:
            numerator = b.map("exp", b.map("sub", value, b.reduce("max", value, dims)))
            return b.map("div", numerator, b.reduce("sum", numerator, dims))
        wide = b.cast(value, "f32")
        total = b.map("add", b.reduce("sum", b.map("mul", wide, wide), dims), b.constant(0.5, "f32"))
        return b.cast(b.map("mul", wide, b.map("rsqrt", total)), dtype)

    def reshape(self) -> SSAValue | None:
        value = self.draw(lambda t: t.rank > 0)
        if value is None:
            return None
        shape = list(tensor_type(value).shape)
        at = self.random.randrange(len(shape))
        factors = [f for f in (2, 3, 4, symbol("s0"), symbol("s1")) if shape[at] != f and self.divides(f, shape[at])]
        forms: list[list[IntExpr]] = [[*shape[:at], 1, *shape[at:]], [d for d in shape if d != 1], [product(shape)]]
        if at + 1 < len(shape):
            forms += [[*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]]] * 3
        if factors:
            factor = self.random.choice(factors)
            parts = [factor, floordiv(shape[at], factor)]
            self.random.shuffle(parts)
            forms += [[*shape[:at], *parts, *shape[at + 1 :]]] * 3
        return self.build.reshape(value, self.random.choice(forms))

    def divides(self, factor: IntExpr, size: IntExpr) -> bool:
        return size != 0 and mod(size, factor) == 0

    def permute(self) -> SSAValue | None:
        value = self.draw(lambda t: t.rank > 1)
        if value is None:
            return None
        rank = tensor_type(value).rank
        return self.build.permute(value, self.random.sample(range(rank), rank))

    def slice(self) -> SSAValue | None:
        value = self.draw(lambda t: t.rank > 0)
        if value is None:
            return None
        dim = self.random.randrange(tensor_type(value).rank)
        size = tensor_type(value).shape[dim]
        if evaluate(size, self.sizes) < 2:
            return None
        if not isinstance(size, int):
            start, count, step = self.random.choice([(0, 1, 1), (1, 1, 1), (0, size - 1, 1), (size - 1, size, -1)])
            return self.build.slice_dim(value, dim, start, count, step)
        start, step = self.random.randrange(size), self.random.choice([1, 1, 2, 3, -1, -2])
        most = (size - 1 - start) // step + 1 if step > 0 else start // -step + 1
        return self.build.slice_dim(value, dim, start, self.random.randint(1, most), step)

    def broadcast(self) -> SSAValue | None:
        value = self.draw(lambda t: t.rank < 4)
        if value is None:
            return None
        shape = [self.size() if d == 1 else d for d in tensor_type(value).shape]
        return self.build.broadcast(value, [self.size(), *shape] if self.random.random() < 0.3 else shape)

    def pad(self) -> SSAValue | None:
        value = self.draw(lambda t: t.rank > 0)
        if value is None:
            return None
        type = tensor_type(value)
        low, high = ([self.random.choice([0, 0, 1, 2]) for _ in range(type.rank)] for _ in range(2))
        dim = self.random.randrange(type.rank)
        if isinstance(type.shape[dim], int) and type.shape[dim] > 3:  # type: ignore[operator]
            low[dim] = self.random.choice([-1, 1])
        number = {"float": self.random.choice([0.0, 1.5, float("-inf")]), "int": 3, "bool": True}[kind_of(type.dtype)]
        return self.build.pad(value, low, high, number)

    def concat(self) -> SSAValue | None:
        value = self.draw(lambda t: t.rank > 0)
        if value is None:
            return None
        type = tensor_type(value)
        dim = self.random.randrange(type.rank)

        def fits(other: TensorType) -> bool:
            return (other.dtype, other.rank) == (type.dtype, type.rank) and all(
                i == dim or a == b for i, (a, b) in enumerate(zip(type.shape, other.shape)))

        args = [value, *(self.draw(fits) or value for _ in range(self.random.randint(1, 3)))]
        self.random.shuffle(args)
        return self.build.concat(args, dim)

    def gather(self) -> SSAValue | None:
        value = self.draw(lambda t: 0 < t.rank < 4)
        if value is None:
            return None
        b, dim = self.build, self.random.randrange(tensor_type(value).rank)
        size = tensor_type(value).shape[dim]
        if evaluate(size, self.sizes) == 0:
            return None
        index = self.draw(lambda t: t.dtype in ("i64", "i32") and t.rank < 2)
        if index is None or self.random.random() < 0.3:
            index = b.iota([size if self.random.random() < 0.5 else self.size()], "i64", 0)
        limit = b.cast(b.size(size), tensor_type(index).dtype)
        index = b.map("remainder", index, limit)
        if self.random.random() < 0.3:
            index = b.map("sub", index, limit)  # counted from the end
        return b.gather(value, [index], [dim])

    def scan(self) -> SSAValue | None:
        value = self.draw(lambda t: t.rank > 0 and t.dtype not in ("bool", "u8"))
        return value and self.build.scan("sum", value, self.random.randrange(tensor_type(value).rank))

    def matmul(self) -> SSAValue | None:
        left = self.draw(lambda t: t.rank >= 2 and t.dtype in self.floats)
        if left is None:
            return None
        type = tensor_type(left)
        right = self.draw(lambda t: t.dtype == type.dtype and t.shape[:-2] == type.shape[:-2] and t.rank == type.rank
                          and t.shape[-2] == type.shape[-1])
        if right is None:
            right = self.build.permute(left, [*range(type.rank - 2), type.rank - 1, type.rank - 2])
        width = tensor_type(right).shape[-1]
        bias = self.draw(lambda t: t.shape == (width,) and t.dtype == type.dtype) if type.rank == 2 else None
        return self.build.matmul(left, right, bias)

    def opaque(self) -> SSAValue | None:
        """A library call; an alias shares the memory of its operand."""
        value = self.draw(lambda t: t.rank > 0 and kind_of(t.dtype) == "float")
        if value is None:
            return None
        type = tensor_type(value)
        target = self.random.choice(["aten.alias.default", "aten.relu.default"])
        return self.build.aten(target, [value], "(['%0'], {})", [type], [contiguous_strides(type.shape)], "a test")[0]


_DRAWS: list[Callable[[_Maker], Any]] = [
    *[_Maker.unary] * 2, *[_Maker.binary] * 4, _Maker.select, _Maker.cast, *[_Maker.reduce] * 3, _Maker.rows,
    *[_Maker.reshape] * 2, *[_Maker.permute] * 2, *[_Maker.slice] * 2, _Maker.broadcast, _Maker.pad,
    *[_Maker.concat] * 2, *[_Maker.gather] * 2, _Maker.scan, _Maker.matmul, _Maker.opaque,
]
