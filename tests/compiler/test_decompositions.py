"""What ATen takes apart for the importer: nothing is left to ATen, and the results are eager's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from importer_cases import BF16, BOOL, F32, F64, I64, special, x
from torch.fx.experimental.proxy_tensor import make_fx

from tilewright.decompositions import backend_table
from tilewright.importer import import_graph
from tilewright.ir import interpreter, tw


@dataclass(frozen=True)
class Composite:
    """A function of tensors that torch takes apart."""

    name: str
    function: Callable[..., Any]
    args: tuple[torch.Tensor, ...]

    def __str__(self) -> str:
        return f"{self.name}{[f'{a.dtype}{list(a.shape)}' for a in self.args]}".replace("torch.", "")


def composite(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Composite:
    """`function` of `args`, of which the tensors are operands."""
    tensors = tuple(a for a in args if isinstance(a, torch.Tensor))

    def call(*operands: torch.Tensor) -> Any:
        left = iter(operands)
        return function(*(next(left) if isinstance(a, torch.Tensor) else a for a in args), **kwargs)

    return Composite(function.__name__, call, tensors)


def chunk_cat(*tensors: torch.Tensor) -> torch.Tensor:
    return torch.ops.aten._chunk_cat.default(list(tensors), 0, 2)


def product_cases() -> Iterator[Composite]:
    for dtype in (F32, BF16, I64):
        yield composite(torch.addmv, x(3, dtype=dtype), x(3, 4, dtype=dtype), x(4, dtype=dtype))
        yield composite(torch.vdot, x(5, dtype=dtype), x(5, dtype=dtype))
        yield composite(torch.linalg.cross, x(4, 3, dtype=dtype), x(1, 3, dtype=dtype))
        yield composite(torch.block_diag, x(2, 3, dtype=dtype), x(dtype=dtype), x(4, dtype=dtype))
    yield composite(torch.addmv, x(3), x(3, 4), x(4), beta=0.5, alpha=2)
    yield composite(torch.renorm, x(3, 4, 5) * 9, 2, 1, 5.0)
    yield composite(torch.renorm, x(3, 4, dtype=BF16), 1, 0, 0.5)
    yield composite(torch.pdist, x(5, 3), 2.0)
    yield composite(torch.pdist, x(5, 3), 0.5)
    yield composite(torch.pdist, x(1, 3), 1.0)
    yield composite(chunk_cat, x(3, 4), x(5, 4))


def weighted_nll_loss(scores: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, reduction: str) -> torch.Tensor:
    return F.nll_loss(scores, labels, weight, reduction=reduction)


def loss_cases() -> Iterator[Composite]:
    labels = torch.tensor([0, 3, 2, 1, 3, -100])
    for reduction, dtype in itertools.product(("none", "mean", "sum"), (F32, F64)):
        scores = x(6, 4, dtype=dtype)
        yield composite(F.nll_loss, scores, labels, reduction=reduction)
        yield composite(F.nll_loss, scores, labels.abs() % 4, ignore_index=2, reduction=reduction)
        yield composite(weighted_nll_loss, scores, labels, x(4, dtype=dtype).abs(), reduction=reduction)
        yield composite(F.multi_margin_loss, scores, labels.abs() % 4, reduction=reduction)
        several = labels.abs().unsqueeze(1).expand(6, 4) % 4
        yield composite(F.multilabel_margin_loss, scores, several, reduction=reduction)
        yield composite(F.soft_margin_loss, scores, scores.sign(), reduction=reduction)
        yield composite(F.binary_cross_entropy, scores.sigmoid(), (scores > 0).to(dtype), reduction=reduction)
        yield composite(F.nll_loss, x(2, 4, 3, 2, dtype=dtype), labels.abs().view(1, 3, 2).expand(2, 3, 2) % 4,
                        reduction=reduction)


def view_cases() -> Iterator[Composite]:
    for dtype in (F32, BF16, I64, BOOL):
        image = x(2, 8, 4, 6, dtype=dtype)
        yield composite(torch.channel_shuffle, image, 4)
        yield composite(torch.pixel_shuffle, image, 2)
        yield composite(torch.pixel_unshuffle, image, 2)
        yield composite(torch.rot90, image, 1, [2, 3])
        yield composite(torch.rot90, image, -1, [0, 1])
        yield composite(torch.rot90, image, 2, [1, 3])
        yield composite(torch.diag_embed, x(2, 3, dtype=dtype), 1, 0, 2)
        yield composite(torch.diag_embed, x(3, dtype=dtype), -2)
        yield composite(torch.unfold_copy, image, 1, 3, 2)
    for shape, pad in (((2, 5), [3, 4]), ((2, 3, 4, 5), [1, 2, 3, 0]), ((1, 2, 3, 4, 5), [1, 0, 2, 1, 0, 2])):
        yield composite(F.pad, x(*shape), pad, mode="reflect")
        yield composite(F.pad, x(*shape, dtype=F64), pad, mode="replicate")


def sampling_cases() -> Iterator[Composite]:
    modes, paddings = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
    for mode, padding, corners in zip(modes, paddings, (False, True, True)):
        yield composite(F.grid_sample, x(2, 3, 4, 5), x(2, 3, 2, 2), mode, padding, corners)
    yield composite(F.grid_sample, x(1, 2, 4, 5), x(1, 3, 1, 2), "bilinear", "zeros", True)


def number_cases() -> Iterator[Composite]:
    for dtype in (F32, F64):
        for start, end, steps in ((0, 3, 5), (-2, 2.5, 9), (1, 4, 0)):
            yield composite(torch.logspace, start, end, steps, dtype=dtype)
        yield composite(torch.logspace, x(dtype=dtype), 3, 7)
        yield composite(torch.logspace, 1, x(dtype=dtype), 7)
        yield composite(torch.mvlgamma, x(7, dtype=dtype).abs() + 3, 3)
        yield composite(torch.ldexp, special(dtype).unsqueeze(1), torch.tensor([-3, 0, 5]))
    for rows, columns, offset in ((3, 4, 0), (5, 3, 2), (3, 5, -1), (4, 4, -9), (1, 1, 0)):
        yield composite(torch.tril_indices, rows, columns, offset)
        yield composite(torch.triu_indices, rows, columns, offset)


CASES = [*product_cases(), *loss_cases(), *view_cases(), *sampling_cases(), *number_cases()]
BY_NAME = {name: [case for case in CASES if case.name == name] for name in sorted({case.name for case in CASES})}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_composite_is_imported_whole(name: str) -> None:
    for case in BY_NAME[name]:
        graph = make_fx(case.function, decomposition_table=backend_table(), tracing_mode="fake")(*case.args)
        graph.graph.eliminate_dead_code()
        imported = import_graph(graph)
        reasons = [(op.target.data, op.reason.data) for op in imported.module.walk() if isinstance(op, tw.AtenOp)]
        assert not reasons, str(case)
        [got] = interpreter.run(imported.module, [*case.args, *imported.constants])
        want = case.function(*case.args)
        torch.testing.assert_close(got, want, equal_nan=True, msg=f"{case}: {got} is not {want}")
