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

    def in_float64(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """The results with every float in float64: what rounding errors are measured against."""
        wide = [Step(s.name, s.operands, ()) if s.name == "to" and s.options[0] != I64 else s for s in self.steps]
        inputs = [x.double() if x.dtype.is_floating_point else x for x in tensors]
        return Program(self.inputs, wide, self.results)(*inputs)

    def sample(self, seed: int, special: bool = False) -> list[torch.Tensor]:
        """Random inputs; `special` puts a NaN or an infinity among the floats."""
        generator = torch.Generator().manual_seed(seed)
        return [_sample(i, generator, special) for i in self.inputs]

    def __str__(self) -> str:
        lines = [f"Program([{', '.join(map(repr, self.inputs))}], ["]
        return "\n".join([*lines, *(f"    {s!r}," for s in self.steps), f"], {self.results})"])


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
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


STEPS: dict[str, Callable[..., torch.Tensor]] = {
    "neg": torch.neg, "abs": torch.abs, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "sin": torch.sin,
    "relu": torch.relu, "gelu": torch.nn.functional.gelu, "not": torch.logical_not,
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "maximum": torch.maximum, "minimum": torch.minimum,
    "and": torch.logical_and, "or": torch.logical_or, "lt": torch.lt, "ge": torch.ge, "eq": torch.eq,
    "where": torch.where, "masked_fill": lambda c, x, v: x.masked_fill(c, v), "to": lambda x, d=torch.float64: x.to(d),
    "sum": lambda x, d, k: x.sum(d, keepdim=k), "mean": lambda x, d, k: x.mean(d, keepdim=k),
    "amax": lambda x, d, k: x.amax(d, keepdim=k), "amin": lambda x, d, k: x.amin(d, keepdim=k),
    "any": lambda x, d, k: x.any(d, keepdim=k), "var": lambda x, d, k: x.var(d, keepdim=k, unbiased=False),
    "argmax": lambda x, d, k: x.argmax(d, keepdim=k), "cumsum": lambda x, d: x.cumsum(d),
    "softmax": lambda x, d: x.softmax(d), "rms_norm": _rms_norm, "layer_norm": _layer_norm,
    "reshape": lambda x, s: x.reshape(s), "permute": lambda x, d: x.permute(d), "flip": lambda x, d: x.flip(d),
    "slice": lambda x, d, a, b, s: x[(slice(None),) * d + (slice(a, b, s),)], "select": lambda x, d, i: x.select(d, i),
    "expand": lambda x, s: x.expand(s), "roll": lambda x, n, d: x.roll(n, d), "clone": torch.clone,
    "pad": lambda x, p, v: torch.nn.functional.pad(x, p, value=v), "cat": lambda *a: torch.cat(a[:-1], a[-1]),
    "stack": lambda *a: torch.stack(a[:-1], a[-1]), "gather": _gather, "pick": _pick, "matmul": torch.matmul,
    "linear": lambda x, w: torch.nn.functional.linear(x, w), "sort": lambda x, d: x.sort(d).values,
    "tril": lambda x, k: x.tril(k), "arange": lambda x, d: torch.arange(x.shape[d]) * 2 - 1,
    "contiguous": lambda x: x.contiguous(), "chunk": lambda x, d: x.chunk(2, d)[-1],
}


class Maker:
    """Draws one program. `sizes` are the dims it starts from."""

    def __init__(self, seed: int, length: int, floats: Sequence[torch.dtype], sizes: Sequence[int]):
        self.random = random.Random(seed)
        self.floats, self.sizes = list(floats), list(sizes)
        # Of two halves that are equal after rounding, one may be larger before it.
        self.compares = self.floats == [F32]
        self.program = Program(self._inputs())
        self.pool = self.program.sample(seed)
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
        step = self.random.choice(_DRAWS)(self)
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
        names = ["tanh", "sigmoid", "sin", "relu", "gelu", "neg", "abs"] if _is_float(x) else \
            ["not"] if x.dtype == BOOL else ["neg", "abs"]
        return Step(self.random.choice(names), (place or 0,))

    def _draw_binary(self) -> Step | None:
        first = self._any() or 0
        second = self._any(lambda x: x.dtype == self.pool[first].dtype)
        names = ["and", "or"] if self.pool[first].dtype == BOOL else ["add", "sub", "mul", "maximum", "minimum"]
        if self.pool[first].dtype != BOOL and self.compares:
            names += ["lt", "ge", "eq"]
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
        name = self.random.choice(["softmax", "rms_norm", "cumsum", "layer_norm", *["sort"] * self.compares])
        return Step(name, (place,), () if name == "layer_norm" else (dim,))

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

FLOATS = [(F32,), (F32,), (BF16,), (F32, BF16), (F16,)]
SIZES = [(1, 2, 3, 4, 5, 7, 8, 16), (2, 3, 4, 6, 8, 12), (0, 1, 2, 3), (1, 17, 32, 64, 100)]


def random_program(seed: int) -> Program:
    """The program of a seed."""
    choose = random.Random(seed)
    return Maker(seed, choose.choice([4, 8, 12, 20]), choose.choice(FLOATS), choose.choice(SIZES)).program
