"""Attention as models spell it, against eager, Inductor, and ATen's own: ``python benchmarks/attention.py [CASE ...]``.

Each case is the same attention in two ways: spelled with two products and a softmax (arms `eager`, `inductor` and
`ours`), and as one call of `scaled_dot_product_attention` (arm `sdpa`), where that can say it; a case of training is
forward and backward. ``--memory`` measures how the peak grows with the length instead, of a call and of a training
step. Writes one JSON for each number of threads to benchmarks/results/: machine, versions, every sample, the error of
each arm against float64, and the limits that the numbers are held against.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness  # first: it settles the OpenMP policy before torch is imported
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from tilewright.report import duration

LENGTHS = (1024, 2048, 4096, 8192, 16384)
LONGEST_TRAINING = 8192
MEASURED = ("eager", "ours", "eager training", "ours training")
INF = float("inf")
Tensor = torch.Tensor


@dataclass(frozen=True)
class Case:
    """`spelled` and `sdpa` (None where it cannot say it) on what `inputs` makes.

    `limits` are the least speedups that `ours` must have over other arms; `training` takes gradients of all inputs."""

    spelled: Callable[..., Tensor]
    sdpa: Callable[..., Tensor] | None
    inputs: Callable[[], tuple[Tensor, ...]]
    limits: dict[str, float]
    training: bool = False
    eager: bool = True  # False where eager would need too much memory or time


def heads(count: int, queries: int, keys: int | None = None, width: int = 64, dtype: torch.dtype = torch.float32):
    """q, k, v of one batch."""
    return tuple(torch.randn(1, count, n, width, dtype=dtype) for n in (queries, keys or queries, keys or queries))


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k), -1) @ v


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(scores(q, k).masked_fill(~mask, -INF), -1) @ v


def seen(q: Tensor, k: Tensor, window: int | None = None) -> Tensor:
    row, column = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])
    return column <= row if window is None else (column <= row) & (column > row - window)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k).masked_fill(~seen(q, k), -INF), -1) @ v


def window(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores(q, k).masked_fill(~seen(q, k, 256), -INF), -1) @ v


def softcap(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax((torch.tanh(scores(q, k) / 30) * 30).masked_fill(~seen(q, k), -INF), -1) @ v


def alibi(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Tensor:
    row, column = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])
    bias = slopes[:, None, None] * (column - row)
    return torch.softmax((scores(q, k) + bias).masked_fill(~seen(q, k), -INF), -1) @ v


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    return causal(q, k, v)


def _grouped_inputs() -> tuple[Tensor, ...]:
    return (*heads(8, 2048)[:1], *heads(2, 2048)[1:])


def sdpa_causal(q: Tensor, k: Tensor, v: Tensor, *_: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def sdpa_masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def sdpa_grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


_BOTH = {"eager": 3.0, "inductor": 2.0, "sdpa": 1.0}

CASES: dict[str, Case] = {
    "masked 2k": Case(masked, sdpa_masked, lambda: (*heads(8, 2048), torch.rand(2048, 2048) > 0.3), _BOTH),
    "plain 2k": Case(plain, F.scaled_dot_product_attention, lambda: heads(8, 2048), {"sdpa": 1.0}),
    "causal 2k": Case(causal, sdpa_causal, lambda: heads(8, 2048), {"sdpa": 1.0}),
    "causal 2k bf16": Case(causal, sdpa_causal, lambda: heads(8, 2048, dtype=torch.bfloat16), {}),
    "grouped 2k": Case(grouped, sdpa_grouped, _grouped_inputs, {"sdpa": 1.0}),
    "softcap 2k": Case(softcap, None, lambda: heads(8, 2048), {"inductor": 2.0}),
    "alibi 2k": Case(alibi, None, lambda: (*heads(8, 2048), 2.0 ** -torch.arange(8.0)), {"inductor": 2.0}),
    "plain 2k training": Case(plain, F.scaled_dot_product_attention, lambda: heads(8, 2048), {"sdpa": 1.0}, True),
    "causal 2k training": Case(causal, sdpa_causal, lambda: heads(8, 2048), {"sdpa": 1.0}, True),
    # The mask as SDPA can skip it best: all that is causal.
    "window 256 in 8k": Case(window, sdpa_causal, lambda: heads(2, 8192), {"sdpa": 8.0}, eager=False),
    "one query, 16k keys": Case(plain, F.scaled_dot_product_attention, lambda: heads(8, 1, 16384), {"sdpa": 1.0}),
}


def compiled(function: Callable[..., Tensor], backend: str, name: str) -> Callable[..., Tensor]:
    """The function, compiled by a backend on its own: Dynamo keeps the programs of one function together."""
    scope: dict[str, Any] = {"function": function}
    exec(compile("def run(*args): return function(*args)", f"<{name} {backend}>", "exec"), scope)
    return torch.compile(scope["run"], backend=backend, dynamic=False)  # type: ignore[no-any-return]


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Time one case's arms against each other, after checking each against float64."""
    case = CASES[name]
    torch.manual_seed(0)
    torch._dynamo.reset()
    inputs = case.inputs()
    arms: dict[str, Callable[..., Tensor]] = {"ours": compiled(case.spelled, "tilewright", name)}
    if case.eager:
        arms |= {"eager": case.spelled, "inductor": compiled(case.spelled, "inductor", name)}
    if case.sdpa is not None:
        arms["sdpa"] = case.sdpa
    if case.training:
        inputs = tuple(x.requires_grad_() for x in inputs)
        arms = {arm: trained(call) for arm, call in arms.items()}
    with torch.no_grad():
        head = [x[:, :1] if x.dim() == 4 else x[:1] if x.dim() == 1 else x for x in inputs]
        exact = case.spelled(*(x.double() if x.is_floating_point() else x for x in head))
        errors = {arm: float((call(*inputs)[:, :1].double() - exact).abs().max()) for arm, call in arms.items()}
        comparison = harness.compare({arm: lambda c=call: c(*inputs) for arm, call in arms.items()}, rounds=rounds)
    speedups = {arm: comparison.speedup("ours", arm) for arm in arms if arm != "ours"}
    if name.startswith("window"):
        errors.pop("sdpa")  # another mask
    return {
        "case": name, "speedups": speedups, "limits": case.limits, "errors": errors, **comparison.as_dict(),
        "met": {arm: speedups[arm] >= limit for arm, limit in case.limits.items() if arm in speedups},
    }


def trained(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The result of a call, after the gradients of what it is given were taken."""

    def step(*inputs: Tensor) -> Tensor:
        with torch.enable_grad():
            result = call(*inputs)
        wanted = [x for x in inputs if x.requires_grad]
        torch.autograd.grad(result, wanted, torch.ones_like(result))
        return result.detach()

    return step


def peak_bytes(arm: str, length: int, training: bool) -> int:
    """The most memory, in bytes, that a call, or a training step, has at once beside what was there before it."""
    q, k, v = (x.requires_grad_(training) for x in heads(1, length))
    # A mask of keys alone: the operands grow with the length, not with its square.
    mask = torch.arange(length) % 10 > 2
    call = {"eager": masked, "ours": compiled(masked, "tilewright", "memory")}[arm]
    call = trained(call) if training else call
    with torch.no_grad():
        if arm == "ours":
            call(q, k, v, mask)  # compiles
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
        before = _status("VmRSS")
        call(q, k, v, mask)
        return (_status("VmHWM") - before) << 10


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise KeyError(field)


def memory() -> list[dict[str, Any]]:
    """Peaks by length; each in a process of its own, because a process keeps what it once had."""
    rows = []
    for length in LENGTHS:
        row: dict[str, Any] = {"length": length}
        for name in MEASURED:
            arm, _, training = name.partition(" ")
            if training and length > LONGEST_TRAINING:
                continue
            command = [sys.executable, __file__, "--peak", arm, str(length), training]
            row[name] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=20, help="samples of each arm (default: 20)")
    parser.add_argument("--memory", action="store_true", help="the peaks of memory by length instead of times")
    parser.add_argument("--peak", nargs=3, metavar=("ARM", "LENGTH", "TRAINING"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak_bytes(args.peak[0], int(args.peak[1]), bool(args.peak[2])))
        return
    unknown = [name for name in args.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}")
    console = Console(width=max(Console().width, 110))
    if args.memory:
        table, rows = Table("length", *MEASURED), memory()
        for row in rows:
            table.add_row(str(row["length"]), *(f"{row[arm] / 1e6:.1f} MB" if arm in row else "" for arm in MEASURED))
        name = "attention_memory"
    else:
        table, rows = Table("case", "ours", "over eager", "over inductor", "over sdpa", "limits"), []
        for name in args.cases or CASES:
            row = measure(name, args.rounds)
            rows.append(row)
            others = row["speedups"]
            ratios = [f"{others[arm]:.2f}" if arm in others else "" for arm in ("eager", "inductor", "sdpa")]
            limits = " ".join(f"{arm} {'met' if met else 'MISSED'}" for arm, met in row["met"].items())
            table.add_row(name, duration(row["medians"]["ours"]), *ratios, limits)
        name = "attention"
    console.print(table)
    if not args.cases:
        console.print(f"wrote {harness.write(name, rows)}")


if __name__ == "__main__":
    main()
