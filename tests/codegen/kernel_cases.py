"""The kernels of `tests/golden/cpp`, one a fusion kind, with what each computes in torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tilewright.ir.text import parse_ir
from tilewright.ir.tile import KernelOp

GOLDEN = Path(__file__).parent.parent / "golden" / "cpp"


def read_kernel(name: str) -> KernelOp:
    """The kernel of the golden file called `name`."""
    return only_kernel((GOLDEN / f"{name}.mlir").read_text())


def only_kernel(text: str) -> KernelOp:
    [kernel] = parse_ir(text).ops
    assert isinstance(kernel, KernelOp)
    return kernel


@dataclass(frozen=True)
class Case:
    """`inputs(m, n)` and `expected(*inputs)` for a kernel over sizes (m, n), of which it may use the first only."""

    inputs: Callable[[int, int], list[torch.Tensor]]
    expected: Callable[..., list[torch.Tensor]]


def _matrix(m: int, n: int) -> list[torch.Tensor]:
    return [torch.randn(m, n)]


def _column_sum(x: torch.Tensor) -> list[torch.Tensor]:
    twice = (x.double().sum(0) * 2).float()
    return [twice, x - twice]


def _total(x: torch.Tensor) -> list[torch.Tensor]:
    if x.numel() == 0:
        return [torch.zeros(1), torch.zeros(1, dtype=torch.int64), torch.tensor([2**31 - 1], dtype=torch.int32)]
    return [x.double().sum().float().reshape(1), x.argmax().reshape(1), x.int().min().reshape(1)]


CASES: dict[str, Case] = {
    "map_chain": Case(
        lambda m, n: [torch.randn(m, n), torch.randn(n)],
        lambda x, b: [(x + b) * 0.5 * (1 + torch.erf((x + b) * 0.5**0.5))],
    ),
    "softmax": Case(_matrix, lambda x: [x.softmax(-1)]),
    "layer_norm": Case(
        lambda m, n: [torch.randn(m, n), torch.randn(n)],
        lambda x, w: [torch.nn.functional.layer_norm(x, x.shape[-1:], w) if x.numel() else x],
    ),
    "row_sum": Case(_matrix, lambda x: [x.double().sum(-1).float()]),
    "column_sum": Case(_matrix, _column_sum),
    "column_tile": Case(lambda m, n: [torch.randn(m, 128)], lambda x: [x.sum(0)]),
    "gather": Case(
        lambda m, n: [torch.randn(100, n), torch.randint(-100, 100, (m,))], lambda table, rows: [table[rows]]
    ),
    "concat": Case(
        lambda m, n: [torch.randn(m, n), torch.randn(m, 5)], lambda left, right: [torch.cat([left, right], 1)]
    ),
    "cumsum": Case(_matrix, lambda x: [x.cumsum(1)]),
    "column_cumsum": Case(_matrix, lambda x: [x.cumsum(0)]),
    "half": Case(
        lambda m, n: [torch.randn(m * n).bfloat16()], lambda x: [torch.nn.functional.silu(x)]
    ),
    "total": Case(lambda m, n: [torch.randn(m * n) * 100], _total),
}


def sizes_of(name: str, inputs: list[torch.Tensor], m: int, n: int) -> list[int]:
    """The values of the kernel's sizes."""
    names = read_kernel(name).size_names
    return [inputs[0].numel()] if inputs[0].dim() == 1 else [m, n][: len(names)]
