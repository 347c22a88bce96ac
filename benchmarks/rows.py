"""Row kernels against eager, Inductor and a copy: ``python benchmarks/rows.py [--only NAME] [--threads N] [--quick]``.

Each row of `ROWS` is a function that models spend their time in outside of products, measured in two dtypes and several
sizes (megabytes of its largest tensor). Beside each time stands the share of the bandwidth that a copy of as many bytes
reaches: into memory that is there already (``copy``), and into memory as fresh as the results of a call (``clone``).
Work that exceeds the caches goes through several sets of inputs in turn. Every result is compared with float64 first.
Where all rows run, leaves benchmarks/results/rows_THREADS_threads.json: machine, load, every sample.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import harness  # first: it settles the OpenMP policy before torch is imported
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from tilewright.report import duration

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
SIZES, DEFAULT_SIZES, QUICK_SIZES = (0.1, 1.0, 4.0, 16.0, 100.0), (0.1, 4.0, 100.0), (1.0,)
LARGE = 4.0  # megabytes: from here on the issue is bandwidth
CACHES = 64e6  # bytes: sets of inputs together exceed them where one alone exceeds the second-level cache
SECOND_LEVEL = 2e6
ERROR_FACTOR = 4.0  # times eager's error against float64, and a rounding of the largest result more
DROPPED = 0.1

Function = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """`inputs(elements, dtype)` gives the arguments, whose largest tensor has about so many elements. `moves` says how
    many bytes `function` must read and write, at least. `check` replaces the comparison with float64 where the results
    are random. Functions that differentiate run with `grad`."""

    function: Function
    inputs: Callable[[int, torch.dtype], tuple[Tensor, ...]]
    moves: Callable[..., int]
    check: Callable[..., None] | None = None
    grad: bool = False


def width(elements: int) -> int:
    """The length of a row."""
    return 1024 if elements < 1_000_000 else 4096


def rows_of(elements: int, dtype: torch.dtype, count: int = 1, length: int | None = None) -> tuple[Tensor, ...]:
    """`count` matrices."""
    length = length or width(elements)
    return tuple(torch.randn(max(1, elements // length), length).to(dtype) for _ in range(count))


def vectors(like: Tensor, count: int) -> tuple[Tensor, ...]:
    """`count` vectors as long as the rows of `like`."""
    return tuple(torch.randn(like.shape[-1]).to(like.dtype) for _ in range(count))


def size_of(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def rms_norm_residual(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = x + residual
    wide = total.float() if total.dtype == torch.bfloat16 else total
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
    return normed.to(x.dtype) * weight, total


def layer_norm_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(F.layer_norm(x, x.shape[-1:], weight, bias))


def cross_entropy_gradient(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    loss = F.cross_entropy(leaf, target)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    def rotated(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat((-second, first), -1) * sin
    return rotated(q), rotated(k)


def bias_dropout_residual(x: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    return residual + F.dropout(x + bias, DROPPED, training=True)


def check_dropout(result: Tensor, x: Tensor, bias: Tensor, residual: Tensor) -> None:
    """Dropped elements are the residual; the others are scaled; about as many are dropped as were to be."""
    dropped = result == residual
    kept = residual.double() + (x.double() + bias.double()) / (1 - DROPPED)
    tolerance = 2 ** (-5 if x.dtype == torch.bfloat16 else -18)
    torch.testing.assert_close(result[~dropped].double(), kept[~dropped], rtol=tolerance, atol=tolerance)
    share, spread = dropped.double().mean().item(), math.sqrt(DROPPED * (1 - DROPPED) / x.numel())
    # In bf16 a small summand may leave the residual as it is.
    if not DROPPED - 6 * spread < share < DROPPED + 6 * spread + (0.02 if x.dtype == torch.bfloat16 else 0):
        raise AssertionError(f"{share:.4f} of the elements are dropped, not {DROPPED}")


def batch_norm(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.batch_norm(x, mean, variance, weight, bias, training=True)


def images(elements: int, dtype: torch.dtype, layout: torch.memory_format) -> tuple[Tensor, ...]:
    side = 28 if elements < 1_000_000 else 56
    x = torch.randn(max(2, elements // (64 * side * side)), 64, side, side).to(dtype).to(memory_format=layout)
    wide = torch.float32  # running statistics and weights stay in f32 beside halves, as under autocast
    return x, torch.zeros(64, dtype=wide), torch.ones(64, dtype=wide), torch.rand(64), torch.randn(64)


def column_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), x.var(0)


def adamw(p: Tensor, g: Tensor, m: Tensor, v: Tensor) -> None:
    """One step in place, as the third."""
    p.mul_(1 - 1e-3 * 1e-2)
    m.lerp_(g, 1 - 0.9)
    v.mul_(0.999).addcmul_(g, g, value=1 - 0.999)
    p.addcdiv_(m, (v.sqrt() / math.sqrt(1 - 0.999**3)).add_(1e-8), value=-1e-3 / (1 - 0.9**3))


def classes(elements: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    (x,) = rows_of(elements, dtype, length=1000 if elements < 1_000_000 else 32000)
    return x, torch.randint(x.shape[-1], x.shape[:1])


def heads(elements: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    length = max(1, elements // (16 * 64))
    return tuple(torch.randn(s).to(dtype) for s in (*[(1, 16, length, 64)] * 2, *[(length, 64)] * 2))


def _norm_inputs(count: int, per_column: int) -> Callable[[int, torch.dtype], tuple[Tensor, ...]]:
    def inputs(elements: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        x = rows_of(elements, dtype, count)
        return (*x, *vectors(x[0], per_column))
    return inputs


def _matrices(count: int) -> Callable[[int, torch.dtype], tuple[Tensor, ...]]:
    return lambda elements, dtype: rows_of(elements, dtype, count)


ROWS: dict[str, Row] = {
    "rms_norm_residual": Row(rms_norm_residual, _norm_inputs(2, 1), lambda x, *_: 4 * size_of(x)),
    "layer_norm_gelu": Row(layer_norm_gelu, _norm_inputs(1, 2), lambda x, *_: 2 * size_of(x)),
    "softmax": Row(lambda x: torch.softmax(x, -1), _matrices(1), lambda x: 2 * size_of(x)),
    "log_softmax": Row(lambda x: torch.log_softmax(x, -1), _matrices(1), lambda x: 2 * size_of(x)),
    "cross_entropy": Row(lambda x, t: F.cross_entropy(x, t), classes, lambda x, t: size_of(x)),
    # Forward and backward are two calls: logits are read twice, their gradient is written.
    "cross_entropy_gradient": Row(cross_entropy_gradient, classes, lambda x, t: 3 * size_of(x), grad=True),
    "swiglu": Row(lambda gate, up: F.silu(gate) * up, _matrices(2), lambda x, _: 3 * size_of(x)),
    "rotary": Row(rotary, heads, lambda q, k, c, s: 2 * size_of(q, k) + size_of(c, s)),
    "bias_dropout_residual": Row(
        bias_dropout_residual, lambda n, d: (lambda x, r: (x, *vectors(x, 1), r))(*rows_of(n, d, 2)),
        lambda x, *_: 3 * size_of(x), check_dropout,
    ),
    # A channel of an image in rows fits the caches, so one reading does; channels side by side are read twice.
    "batch_norm": Row(batch_norm, lambda n, d: images(n, d, torch.contiguous_format), lambda x, *_: 2 * size_of(x)),
    "batch_norm_channels_last": Row(
        batch_norm, lambda n, d: images(n, d, torch.channels_last),
        lambda x, *_: (3 if size_of(x) > SECOND_LEVEL else 2) * size_of(x),
    ),
    "column_statistics": Row(column_statistics, _matrices(1), lambda x: size_of(x)),
    "adamw": Row(
        adamw, lambda n, d: (*rows_of(n, d, 3), rows_of(n, d)[0].abs()), lambda p, *_: 7 * size_of(p),
    ),
}


def measure(name: str, dtype: str, megabytes: float, rounds: int) -> dict[str, Any]:
    """Time one row in one dtype and size. Raises AssertionError where a result is wrong."""
    row = ROWS[name]
    elements = round(megabytes * 1e6 / DTYPES[dtype].itemsize)
    torch.manual_seed(0)
    inputs = row.inputs(elements, DTYPES[dtype])
    moved = row.moves(*inputs)
    torch._dynamo.reset()
    arms = {"eager": row.function}
    seconds = {}
    with torch.set_grad_enabled(row.grad):
        for backend in ("inductor", "tilewright"):
            arms[backend] = torch.compile(row.function, backend=backend, dynamic=False)
            copies = _cloned(inputs)
            seconds[backend] = harness.first_call(lambda call=arms[backend], given=copies: call(*given)).seconds
        errors = _errors(row, arms, inputs)
        count = 1 if moved <= SECOND_LEVEL else max(2, math.ceil(CACHES / moved))
        sets = [inputs, *(_cloned(inputs) for _ in range(count - 1))]
        calls = {arm: _in_turn(call, sets) for arm, call in arms.items()}
        calls |= _copies(moved // 2)
        compared = harness.compare(calls, rounds=rounds)
    return {
        "row": name, "dtype": dtype, "megabytes": megabytes, "shapes": [list(t.shape) for t in inputs],
        "bytes": moved, "input_sets": count, "first_call_seconds": seconds, "errors": errors,
        "speedup_over_eager": compared.speedup("tilewright", "eager"),
        "speedup_over_inductor": compared.speedup("tilewright", "inductor"),
        "share_of_copy": compared.speedup("tilewright", "copy"),
        "share_of_clone": compared.speedup("tilewright", "clone"), **compared.as_dict(),
    }


def _cloned(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(t.clone(memory_format=torch.preserve_format) for t in inputs)


def _in_turn(function: Function, sets: Sequence[tuple[Tensor, ...]]) -> harness.Call:
    turn: Iterator[tuple[Tensor, ...]] = itertools.cycle(sets)
    return lambda: function(*next(turn))


def _copies(count: int) -> dict[str, harness.Call]:
    """Copies that read and write `count` bytes each."""
    sets = 1 if 2 * count <= SECOND_LEVEL else max(2, math.ceil(CACHES / (2 * count)))
    sources = [torch.ones(count, dtype=torch.uint8) for _ in range(sets)]
    pairs = [(torch.ones_like(source), source) for source in sources]
    return {
        "copy": _in_turn(lambda target, source: target.copy_(source), pairs),
        "clone": _in_turn(lambda source: source.clone(), [(source,) for source in sources]),
    }


def _errors(row: Row, arms: dict[str, Function], inputs: tuple[Tensor, ...]) -> dict[str, float]:
    """The largest error of each arm's results and updated arguments against float64."""
    if row.check is not None:
        for arm in ("inductor", "tilewright"):
            row.check(arms[arm](*inputs), *inputs)
        return {}
    exact = _results(row.function, tuple(t.double() if t.is_floating_point() else t for t in _cloned(inputs)))
    errors: dict[str, list[float]] = {}
    for arm, call in arms.items():
        errors[arm] = [(a.double() - b).abs().max().item() for a, b in zip(_results(call, _cloned(inputs)), exact)]
    for own, eager, result in zip(errors["tilewright"], errors["eager"], exact):
        limit = ERROR_FACTOR * eager + result.abs().max().item() * torch.finfo(inputs[0].dtype).eps
        if not own <= limit:
            raise AssertionError(f"the error is {own:.3g}, eager's is {eager:.3g}")
    return {arm: max(found) for arm, found in errors.items()}


def _results(function: Function, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    result = function(*inputs)
    given = [] if result is None else [result] if isinstance(result, Tensor) else list(result)
    return [t.detach() for t in (*given, *inputs) if t.is_floating_point()]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the rows come to together."""
    over = [row["speedup_over_inductor"] for row in rows]
    large = [row for row in rows if row["megabytes"] > LARGE]
    return {
        "speedup_over_inductor": _spread(over),
        "below_0.95": [f"{r['row']} {r['dtype']} {r['megabytes']:g}" for r, o in zip(rows, over) if o < 0.95],
        **{share: _spread([r[share] for r in large]) for share in ("share_of_copy", "share_of_clone") if large},
    }


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    return {"geomean": statistics.geometric_mean(ratios), "least": min(ratios)}


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=ROWS, action="append", metavar="NAME", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: f32 and bf16")
    parser.add_argument("--sizes", type=float, nargs="+", metavar="MB", help=f"default: {DEFAULT_SIZES}; all: {SIZES}")
    parser.add_argument("--threads", type=int, default=1, help="threads of every arm (default: 1)")
    parser.add_argument("--rounds", type=int, default=20, help="samples of each arm (default: 20)")
    parser.add_argument("--quick", action="store_true", help=f"one size, {QUICK_SIZES[0]:g} MB")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    load = os.getloadavg()
    rows = []
    console = Console(width=max(Console().width, 130))
    table = Table("row", "dtype", "MB", "eager", "inductor", "tilewright", "copy", "over eager", "over inductor",
                  "of copy", "of clone")
    started = time.perf_counter()
    for name, dtype, size in itertools.product(
        args.only or ROWS, args.dtype or DTYPES, args.sizes or (QUICK_SIZES if args.quick else DEFAULT_SIZES)
    ):
        row = measure(name, dtype, size, args.rounds)
        rows.append(row)
        times = [duration(row["medians"][arm]) for arm in ("eager", "inductor", "tilewright", "copy")]
        ratios = [f"{row[f'speedup_over_{arm}']:.2f}x" for arm in ("eager", "inductor")]
        shares = [f"{row[f'share_of_{arm}']:.2f}" for arm in ("copy", "clone")]
        table.add_row(name, dtype, f"{size:g}", *times, *ratios, *shares)
        console.print(f"{name} {dtype} {size:g} MB: {', '.join(times)}; {', '.join(ratios + shares)}", highlight=False)
    console.print(table)
    console.print(summary(rows))
    if not (args.only or args.quick or args.dtype):
        more = {"load": load, "seconds": time.perf_counter() - started, "summary": summary(rows)}
        console.print(f"wrote {harness.write('rows', rows, **more)}")


if __name__ == "__main__":
    main()
