"""Random torch programs: lists of steps over a growing pool of tensors, replayable on any inputs and printable.

A program is made by running it: each step is drawn among those that its operands allow. It says nothing that depends on
values, so it traces to one ATen graph.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

F32, BF16, F16, I64, BOOL = torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool
LARGEST = 20_000


@dataclass(frozen=True)
class Step:
    """`STEPS[name]` on the tensors at `operands` of the pool, with `options`."""

    name: str
    operands: tuple[int, ...]
    options: tuple[Any, ...] = ()

    def __call__(self, pool: Sequence[torch.Tensor]) -> torch.Tensor:
        return STEPS[self.name](*(pool[i] for i in self.operands), *self.options)


@dataclass(frozen=True)
class Input:
    """A tensor argument: `strides` as for `torch.as_strided`."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype = F32


@dataclass
class Program:
    """Steps over the inputs; `results` are positions in the pool (inputs first, then what each step gave)."""

    inputs: list[Input]
    steps: list[Step] = field(default_factory=list)
    results: list[int] = field(default_factory=list)

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        pool = list(tensors)
        for step in self.steps:
            pool.append(step(pool))
        return [pool[i] for i in self.results]

    def wide(self) -> Program:
        """The program with every float in float64: what rounding errors are measured against."""
        steps = [Step(s.name, s.operands, ()) if s.name == "to" and s.options[0] != I64 else s for s in self.steps]
        return Program(self.inputs, steps, self.results)

    def in_float64(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """The results of `wide` on the inputs, which stay as they are."""
        return self.wide()(*map(widened, tensors))

    def source(self) -> str:
        """A Python function of the same meaning, with `STEPS` in scope."""
        first = len(self.inputs)
        lines = [f"def program({', '.join(f't{i}' for i in range(first))}):"]
        for place, step in enumerate(self.steps, first):
            arguments = ", ".join([*(f"t{i}" for i in step.operands), *map(repr, step.options)])
            lines.append(f"    t{place} = STEPS[{step.name!r}]({arguments})")
        return "\n".join([*lines, f"    return [{', '.join(f't{i}' for i in self.results)}]"])

    def function(self) -> Callable[..., list[torch.Tensor]]:
        """`source` as a function with a code object of its own."""
        scope: dict[str, Any] = {"STEPS": STEPS, "torch": torch, "inf": float("inf")}
        exec(self.source(), scope)
        return scope["program"]

    def sample(self, seed: int, special: bool = False) -> list[torch.Tensor]:
        """Random inputs; `special` puts a NaN or an infinity among the floats."""
        generator = torch.Generator().manual_seed(seed)
        return [_sample(i, generator, special) for i in self.inputs]

    def __str__(self) -> str:
        lines = [f"Program([{', '.join(map(repr, self.inputs))}], ["]
        return "\n".join([*lines, *(f"    {s!r}," for s in self.steps), f"], {self.results})"])


def widened(x: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides, floats in float64: what is a view of it stays a view."""
    count = 0 if 0 in x.shape else 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride()))
    flat = x.detach().as_strided((count,), (1,))
    return flat.to(torch.float64 if x.dtype.is_floating_point else x.dtype, copy=True).as_strided(x.shape, x.stride())


def _sample(spec: Input, generator: torch.Generator, special: bool) -> torch.Tensor:
    count = 0 if 0 in spec.shape else 1 + sum((n - 1) * s for n, s in zip(spec.shape, spec.strides))
    if spec.dtype == BOOL:
        flat = torch.rand(count, generator=generator) < 0.5
    elif spec.dtype == I64:
        flat = torch.randint(-5, 9, (count,), generator=generator)
    else:
        flat = torch.randn(count, generator=generator)
        if special and count > 2:
            flat[count // 2] = (float("nan"), float("inf"), float("-inf"))[count % 3]
        flat = flat.to(spec.dtype)
    return flat.as_strided(spec.shape, spec.strides)


def _is_float(x: torch.Tensor) -> bool:
    return x.dtype.is_floating_point


# What the steps compute. A step on floats accepts float64 as well, for the oracle.
def _gather(x: torch.Tensor, index: torch.Tensor, dim: int) -> torch.Tensor:
    return x.index_select(dim, (index % x.shape[dim]).reshape(-1))


def _pick(x: torch.Tensor, index: torch.Tensor, dim: int) -> torch.Tensor:
    place = (index % x.shape[dim]).reshape(-1)
    return x[(slice(None),) * dim + (place - x.shape[dim],)]


def _rms_norm(x: torch.Tensor, dim: int) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(dim, keepdim=True) + 0.5)


def _layer_norm(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:])


STEPS: dict[str, Callable[..., torch.Tensor]] = {
    "neg": torch.neg, "abs": torch.abs, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "sin": torch.sin,
    "relu": torch.relu, "gelu": F.gelu, "not": torch.logical_not,
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "maximum": torch.maximum, "minimum": torch.minimum,
    "and": torch.logical_and, "or": torch.logical_or, "lt": torch.lt, "ge": torch.ge, "eq": torch.eq,
    "where": torch.where, "masked_fill": lambda c, x, v: x.masked_fill(c, v),
    "to": lambda x, d=torch.float64: x.to(d, copy=True),
    "sum": lambda x, d, k: x.sum(d, keepdim=k), "mean": lambda x, d, k: x.mean(d, keepdim=k),
    "amax": lambda x, d, k: x.amax(d, keepdim=k), "amin": lambda x, d, k: x.amin(d, keepdim=k),
    "any": lambda x, d, k: x.any(d, keepdim=k), "var": lambda x, d, k: x.var(d, keepdim=k, unbiased=False),
    "argmax": lambda x, d, k: x.argmax(d, keepdim=k), "cumsum": lambda x, d: x.cumsum(d),
    "softmax": lambda x, d: x.softmax(d), "rms_norm": _rms_norm, "layer_norm": _layer_norm,
    "reshape": lambda x, s: x.reshape(s), "permute": lambda x, d: x.permute(d), "flip": lambda x, d: x.flip(d),
    "slice": lambda x, d, a, b, s: x[(slice(None),) * d + (slice(a, b, s),)], "select": lambda x, d, i: x.select(d, i),
    "expand": lambda x, s: x.expand(s), "roll": lambda x, n, d: x.roll(n, d), "clone": torch.clone,
    "pad": lambda x, p, v: F.pad(x, p, value=v), "cat": lambda *a: torch.cat(a[:-1], a[-1]),
    "stack": lambda *a: torch.stack(a[:-1], a[-1]), "gather": _gather, "pick": _pick, "matmul": torch.matmul,
    "linear": lambda x, w: F.linear(x, w), "sort": lambda x, d: x.sort(d).values,
    "tril": lambda x, k: x.tril(k), "arange": lambda x, d: torch.arange(x.shape[d]) * 2 - 1,
    "contiguous": lambda x: x.contiguous(), "chunk": lambda x, d: x.chunk(2, d)[-1],
    # Indexed writes. Positions that are equal add up, or are written in order.
    "index_put": lambda x, i, v, d, add: torch.ops.aten.index_put(x, _at(x, i, d), v, add),
    "index_add": lambda x, i, v, d: x.index_add(d, (i % x.shape[d]).reshape(-1), v),
    "scatter_add": lambda x, i, v, d: x.scatter_add(d, i % x.shape[d], v),
    "scatter_reduce": lambda x, i, v, d, r: x.scatter_reduce(d, i % x.shape[d], v, r),
    # Layers: the weights are what the pool has.
    "log_softmax": lambda x, d: x.log_softmax(d), "logsumexp": lambda x, d: x.logsumexp(d),
    "cross_entropy": lambda x, i: F.cross_entropy(x, (i % x.shape[1]).reshape(-1)),
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True, eps=0.5),
    "group_norm": lambda x, n: F.group_norm(x, n, eps=0.5), "embedding": lambda x, i: F.embedding(i % x.shape[0], x),
    "max_pool": lambda x, k, s: F.max_pool1d(x, k, s), "avg_pool": lambda x, k, s: F.avg_pool1d(x, k, s),
    "attention": lambda q, k, v: F.scaled_dot_product_attention(q, k, v), "outer": lambda x, y: x[..., None] * y,
    "repeat": lambda x, n: x.repeat(n), "unfold": lambda x, d, n, s: x.unfold(d, n, s),
    "diagonal": lambda x: x.diagonal(0, 0, 1), "norm": lambda x, d: torch.linalg.vector_norm(x + 0.25, 2, d),
    "silu": F.silu, "softplus": F.softplus, "exp": torch.exp, "sqrt": lambda x: (x * x + 0.5).sqrt(),
    "div": lambda x, y: x / (y * y + 0.5), "topk": lambda x, k, d: x.topk(k, d).values,
    "remainder": lambda x, y: torch.remainder(x, y.abs() + 1), "bitwise": torch.bitwise_xor,
    "repeat_interleave": lambda x, n, d: x.repeat_interleave(n, d), "cumprod": lambda x, d: x.tanh().cumprod(d),
    # In place; what they give is the tensor that they change.
    "add_": lambda x, y: x.add_(y), "mul_": lambda x, y: x.mul_(y), "copy_": lambda x, y: x.copy_(y),
    "relu_": lambda x: x.relu_(), "neg_": lambda x: x.neg_(), "fill_": lambda x, v: x.fill_(v),
    "index_put_": lambda x, i, v, d, add: torch.ops.aten.index_put_(x, _at(x, i, d), v, add),
    "masked_fill_": lambda x, c, v: x.masked_fill_(c, v), "not_": lambda x: x.logical_not_(),
}


def _at(x: torch.Tensor, index: torch.Tensor, dim: int) -> list[torch.Tensor | None]:
    return [*[None] * dim, (index % x.shape[dim]).reshape(-1)]


class Maker:
    """Draws one program. `sizes` are the dims it starts from; `writes` says which tensors steps may write to: "none",
    "fresh" (those that share no memory with an input), "all"."""

    def __init__(
        self, choose: random.Random, length: int, floats: Sequence[torch.dtype], sizes: Sequence[int],
        writes: str = "none", layers: bool = True,
    ):
        self.random = choose
        self.layers = layers
        self.floats, self.sizes = list(floats), list(sizes)
        self.writes = writes
        self.draws = [*_DRAWS, *([] if writes == "none" else _WRITES)]
        # Of two halves that are equal after rounding, one may be larger before it.
        self.compares = self.floats == [F32]
        self.program = Program(self._inputs())
        self.pool = self.program.sample(choose.randrange(1 << 30))
        for _ in range(50 * length):
            if len(self.program.steps) == length:
                break
            self._step()
        read = {i for step in self.program.steps for i in step.operands}
        first = len(self.program.inputs)
        unread = [i for i in range(first, len(self.pool)) if i not in read]
        self.program.results = self.random.sample(unread, min(len(unread), 5))
        if len(self.pool) > first and self.random.random() < 0.3:
            self.program.results.append(self.random.randrange(len(self.pool)))  # something that is read, or an input

    def _inputs(self) -> list[Input]:
        choose = self.random
        base = [choose.choice(self.sizes) for _ in range(choose.randint(1, 3))]
        found = []
        for position in range(choose.randint(1, 4)):
            kind = choose.random() if position else 0.0
            shape = base if kind < 0.4 else [d if choose.random() < 0.6 else 1 for d in base] if kind < 0.6 else \
                base[choose.randint(0, len(base)):] if kind < 0.8 else \
                [choose.choice(self.sizes) for _ in range(choose.randint(0, 3))]
            dtype = choose.choice([*self.floats * 3, I64, BOOL]) if position else choose.choice(self.floats)
            found.append(Input(tuple(shape), self._strides(shape), dtype))
        return found

    def _strides(self, shape: Sequence[int]) -> tuple[int, ...]:
        order = list(range(len(shape)))
        kind = self.random.random()
        if kind < 0.2:
            self.random.shuffle(order)
        strides, step = [0] * len(shape), 2 if 0.2 < kind < 0.3 else 1
        for dim in reversed(order):
            strides[dim], step = step, step * max(1, shape[dim])
        if shape and kind > 0.93:
            strides[self.random.randrange(len(shape))] = 0
        return tuple(strides)

    # Drawing steps
    def _any(self, accepts: Callable[[torch.Tensor], bool] = lambda x: True) -> int | None:
        found = [i for i, x in enumerate(self.pool) if accepts(x)]
        return self.random.choice(found[-4:] if self.random.random() < 0.7 else found) if found else None

    def _step(self) -> None:
        step = self.random.choice(self.draws)(self)
        if step is None:
            return
        try:
            result = step(self.pool)
        except (RuntimeError, IndexError, ValueError):
            return  # torch does not take it
        if result.numel() <= LARGEST and result.dim() <= 5:
            self.program.steps.append(step)
            self.pool.append(result)

    def _draw_unary(self) -> Step | None:
        place = self._any()
        x = self.pool[place or 0]
        floats = ["tanh", "sigmoid", "sin", "relu", "gelu", "neg", "abs"]
        floats += ["silu", "softplus", "sqrt", "exp"] * self.layers
        names = floats if _is_float(x) else ["not"] if x.dtype == BOOL else ["neg", "abs"]
        return Step(self.random.choice(names), (place or 0,))

    def _draw_binary(self) -> Step | None:
        first = self._any() or 0
        second = self._any(lambda x: x.dtype == self.pool[first].dtype)
        names = ["and", "or"] if self.pool[first].dtype == BOOL else ["add", "sub", "mul", "maximum", "minimum"]
        if self.pool[first].dtype != BOOL and self.compares:
            names += ["lt", "ge", "eq"]
        if self.layers and self.pool[first].dtype != BOOL:
            names += ["div"] if _is_float(self.pool[first]) else ["remainder", "bitwise"]
        pair = [first, first if second is None else second]
        self.random.shuffle(pair)
        return Step(self.random.choice(names), tuple(pair))

    def _draw_where(self) -> Step | None:
        condition = self._any(lambda x: x.dtype == BOOL)
        first = self._any(lambda x: x.dtype != BOOL)
        if condition is None or first is None:
            return None
        if self.random.random() < 0.4:
            value = self.random.choice([0, 2, float("-inf")]) if _is_float(self.pool[first]) else 3
            return Step("masked_fill", (condition, first), (value,))
        second = self._any(lambda x: x.dtype == self.pool[first].dtype)
        return Step("where", (condition, first, first if second is None else second))

    def _draw_cast(self) -> Step | None:
        place = self._any() or 0
        source = self.pool[place].dtype
        # Floats stay floats: a difference in the last bit must not become a difference of one.
        wanted = [*self.floats, F32] if source.is_floating_point else [*self.floats, I64]
        return Step("to", (place,), (self.random.choice(wanted),))

    def _draw_reduction(self) -> Step | None:
        place = self._any(lambda x: x.dim() > 0)
        if place is None:
            return None
        x, keep = self.pool[place], self.random.random() < 0.6
        dims = sorted(self.random.sample(range(x.dim()), self.random.randint(1, min(2, x.dim()))))
        names = ["sum", "mean", "amax", "amin", "var", *["argmax"] * self.compares] if _is_float(x) else \
            ["any"] if x.dtype == BOOL else ["sum", "amax"]
        name = self.random.choice(names)
        where: Any = dims[0] if name in ("any", "argmax") else dims
        return Step(name, (place,), (where, keep))

    def _draw_rows(self) -> Step | None:
        place = self._any(lambda x: x.dim() > 0 and _is_float(x))
        if place is None:
            return None
        dim = self.random.randrange(self.pool[place].dim())
        if self.layers and self.random.random() < 0.4:
            return self._draw_layer(place)
        names = ["softmax", "rms_norm", "cumsum", "layer_norm"]
        names += ["log_softmax", "logsumexp", "norm", "cumprod"] * self.layers
        name = self.random.choice([*names, *["sort"] * self.compares])
        return Step(name, (place,), () if name == "layer_norm" else (dim,))

    def _draw_layer(self, place: int) -> Step | None:
        x, choose = self.pool[place], self.random
        dim, size = choose.randrange(x.dim()), choose.choice([2, 3])
        same = self._any(lambda y: y.dtype == x.dtype and y.dim() == x.dim() >= 2 and y.shape[-1] == x.shape[-1])
        index = self._any(lambda y: y.dtype == I64 and y.numel() <= 64)
        draws: list[tuple[str, tuple[int | None, ...], tuple[Any, ...]]] = [
            ("batch_norm", (place,), ()), ("group_norm", (place,), (choose.choice([1, 2, 3]),)),
            ("max_pool" if self.compares else "avg_pool", (place,), (size, choose.choice([1, 2]))),
            ("avg_pool", (place,), (size, choose.choice([1, 2]))), ("attention", (place, same, same), ()),
            ("outer", (place, self._any(lambda y: y.dtype == x.dtype)), ()), ("diagonal", (place,), ()),
            ("repeat", (place,), (tuple(choose.choice([1, 2]) for _ in x.shape),)),
            ("unfold", (place,), (dim, size, choose.choice([1, 2]))), ("embedding", (place, index), ()),
            ("cross_entropy", (place, index), ()), ("repeat_interleave", (place,), (size, dim)),
            *[("topk", (place,), (1, dim))] * self.compares,
        ]
        name, operands, options = choose.choice(draws)
        return None if None in operands else Step(name, operands, options)

    def _draw_reshape(self) -> Step | None:
        place = self._any()
        shape = list(self.pool[place or 0].shape)
        kind = self.random.random()
        if kind < 0.4 and len(shape) > 1:
            at = self.random.randrange(len(shape) - 1)
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        elif kind < 0.7 and shape:
            at = self.random.randrange(len(shape))
            factors = [f for f in range(2, shape[at]) if shape[at] % f == 0]
            if factors:
                factor = self.random.choice(factors)
                shape[at : at + 1] = [factor, shape[at] // factor]
        elif kind < 0.85:
            shape.insert(self.random.randint(0, len(shape)), 1)
        else:
            shape = [d for d in shape if d != 1]
        return Step("reshape", (place or 0,), (tuple(shape),))

    def _draw_view(self) -> Step | None:
        place = self._any(lambda x: x.dim() > 0)
        if place is None:
            return None
        x, choose = self.pool[place], self.random
        dim = choose.randrange(x.dim())
        size = x.shape[dim]
        draws: list[tuple[str, tuple[Any, ...]]] = [
            ("permute", (tuple(choose.sample(range(x.dim()), x.dim())),)), ("flip", ([dim],)),
            (
                "slice",
                (dim, choose.randint(0, size // 2), choose.randint(size // 2, size), choose.choice([1, 1, 2, 3])),
            ),
            ("roll", (choose.randint(0, 3), dim)), ("chunk", (dim,)), ("contiguous", ()), ("clone", ()),
            ("expand", (tuple(choose.choice(self.sizes) if d == 1 else d for d in x.shape),)),
            ("tril", (choose.randint(-1, 1),)), ("arange", (dim,)),
        ]
        if size:
            draws.append(("select", (dim, choose.randrange(size))))
        name, options = choose.choice(draws)
        return Step(name, (place,), options)

    def _draw_pad(self) -> Step | None:
        place = self._any(lambda x: x.dim() > 0 and x.dtype != BOOL)
        if place is None:
            return None
        amounts = [self.random.choice([0, 1, 2, -1]) for _ in range(2 * self.random.randint(1, self.pool[place].dim()))]
        return Step("pad", (place,), (tuple(amounts), self.random.choice([0.0, 1.5])))

    def _draw_cat(self) -> Step | None:
        first = self._any(lambda x: x.dim() > 0)
        if first is None:
            return None
        x = self.pool[first]
        dim = self.random.randrange(x.dim())
        count = self.random.randint(1, 2)
        others = [self._any(lambda y: y.dtype == x.dtype and y.dim() == x.dim()) for _ in range(count)]
        places = [first, *(o for o in others if o is not None)]
        self.random.shuffle(places)
        return Step(self.random.choice(["cat", "cat", "stack"]), tuple(places), (dim,))

    def _draw_gather(self) -> Step | None:
        place = self._any(lambda x: x.dim() > 0)
        index = self._any(lambda x: x.dtype == I64 and x.numel() <= 64)
        if place is None or index is None:
            return None
        name = self.random.choice(["gather", "pick"])
        return Step(name, (place, index), (self.random.randrange(self.pool[place].dim()),))

    def _may_write(self, x: torch.Tensor) -> bool:
        overlaps = any(stride == 0 and size > 1 for size, stride in zip(x.shape, x.stride()))
        inputs = self.pool[: len(self.program.inputs)]
        return not overlaps and (self.writes == "all" or not any(_shares(x, y) for y in inputs))

    def _writable(self) -> int | None:
        return self._any(self._may_write)

    def _draw_write(self) -> Step | None:
        place = self._writable()
        if place is None:
            return None
        x = self.pool[place]
        name = self.random.choice(["not_", "copy_"] if x.dtype == BOOL else [
            "add_", "mul_", "copy_", "neg_", "fill_", "masked_fill_", "relu_"])
        if name in ("neg_", "relu_", "not_"):
            return Step(name, (place,))
        if name == "fill_":
            return Step(name, (place,), (self.random.choice([0, 1, 3]),))
        other = self._any(lambda y: y.dtype == (BOOL if name == "masked_fill_" else x.dtype))
        if other is None:
            return None
        return Step(name, (place, other), (2,) if name == "masked_fill_" else ())

    def _draw_indexed_write(self) -> Step | None:
        place = self._writable() if self.random.random() < 0.5 else self._any(lambda x: x.dim() > 0)
        index = self._any(lambda x: x.dtype == I64 and x.numel() <= 64)
        if place is None or index is None or not self.pool[place].dim() or self.pool[place].dtype == BOOL:
            return None
        x, i = self.pool[place], self.pool[index]
        dim = self.random.randrange(x.dim())
        shape = [*x.shape[:dim], i.numel(), *x.shape[dim + 1 :]]
        values = self._any(lambda v: v.dtype == x.dtype and list(v.shape) in (shape, [], [1]))
        names = ["index_put", "index_add", "scatter_add", "scatter_reduce", *["index_put_"] * self._may_write(x)]
        name = self.random.choice(names)
        if name.startswith("scatter"):
            values = self._any(lambda v: v.dtype == x.dtype and v.dim() == x.dim())
        if values is None:
            return None
        options = (self.random.random() < 0.5,) if name.startswith("index_put") else \
            (self.random.choice(["sum", "amax", "amin"]),) if name == "scatter_reduce" else ()
        return Step(name, (place, index, values), (dim, *options))

    def _draw_product(self) -> Step | None:
        first = self._any(lambda x: x.dim() >= 2 and _is_float(x))
        if first is None:
            return None
        x = self.pool[first]
        second = self._any(lambda y: y.dim() >= 2 and y.dtype == x.dtype and y.shape[-2] == x.shape[-1])
        if second is not None:
            return Step("matmul", (first, second))
        weight = self._any(lambda y: y.dim() == 2 and y.dtype == x.dtype and y.shape[-1] == x.shape[-1])
        return Step("linear", (first, weight or first))


_DRAWS: list[Callable[[Maker], Step | None]] = [
    *[Maker._draw_unary] * 2, *[Maker._draw_binary] * 4, Maker._draw_where, Maker._draw_cast,
    *[Maker._draw_reduction] * 3, *[Maker._draw_rows] * 2, *[Maker._draw_reshape] * 2, *[Maker._draw_view] * 3,
    Maker._draw_pad, *[Maker._draw_cat] * 2, *[Maker._draw_gather] * 2, Maker._draw_product,
]

def _shares(x: torch.Tensor, y: torch.Tensor) -> bool:
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


_WRITES: list[Callable[[Maker], Step | None]] = [*[Maker._draw_write] * 4, *[Maker._draw_indexed_write] * 4]

FLOATS = [(F32,), (F32,), (BF16,), (F32, BF16), (F16,)]
SIZES = [(1, 2, 3, 4, 5, 7, 8, 16), (2, 3, 4, 6, 8, 12), (0, 1, 2, 3), (1, 17, 32, 64, 100)]


def random_program(seed: int | random.Random, writes: str = "none", layers: bool = True) -> Program:
    """The program of a seed, or of what is drawn; without `layers`, of plain steps alone."""
    choose = random.Random(seed) if isinstance(seed, int) else seed
    length, floats, sizes = choose.choice([4, 8, 12, 20]), choose.choice(FLOATS), choose.choice(SIZES)
    return Maker(choose, length, floats, sizes, writes, layers).program
