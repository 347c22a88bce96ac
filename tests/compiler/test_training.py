"""Training through torch.compile: losses, gradients, parameters and buffers against eager, settled in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from training_models import MODELS, Batch, make

from tilewright.backend import compilations
from tilewright.ir.numerics import compare

GRADIENT_FACTOR = 3.0


@pytest.fixture(autouse=True)
def fresh_dynamo() -> None:
    torch._dynamo.reset()


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="tilewright", dynamic=False)


def double(batch: Batch) -> Batch:
    return tuple(t.double() if t.is_floating_point() else t for t in batch)


def same(actual: Any, expected: Any, oracle: Any, what: str, factor: float = GRADIENT_FACTOR) -> None:
    mismatch = compare(actual, expected, oracle, "reassociates", factor=factor)
    assert mismatch is None, f"{what}: {mismatch}"


def check_state(ours: nn.Module, eager: nn.Module, oracle: nn.Module, what: str) -> None:
    """Gradients, with their strides, parameters and buffers."""
    for (name, a), b, c in zip(ours.named_parameters(), eager.parameters(), oracle.parameters(), strict=True):
        same(a.data, b.data, c.data, f"{what}, {name}")
        assert (a.grad is None) == (b.grad is None), f"{what}, gradient of {name}"
        if a.grad is not None:
            same(a.grad, b.grad, c.grad, f"{what}, gradient of {name}")
            assert a.grad.stride() == b.grad.stride(), f"{what}, gradient of {name}"
    for (name, a), b, c in zip(ours.named_buffers(), eager.buffers(), oracle.buffers(), strict=True):
        same(a, b, c, f"{what}, {name}")


def run_beside_eager(name: str, train: Callable[[nn.Module, Callable[..., Any], Batch], Any]) -> None:
    """`train(model, forward, batch)` gives results to compare, for the compiled model, eager, and eager in float64."""
    model, batch = make(name)
    models = [model, copy.deepcopy(model), copy.deepcopy(model).double()]
    forwards = [compiled(models[0]), models[1], models[2]]
    batches = [batch, batch, double(batch)]
    results = [train(*each) for each in zip(models, forwards, batches)]
    for place, (a, b, c) in enumerate(zip(*results, strict=True)):
        same(a, b, c, f"{name}, result {place}")
    check_state(*models, name)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_runs_without_fallbacks(name: str) -> None:
    """Forward and backward run in our kernels, and in libraries on purpose."""
    known = set(map(id, compilations()))

    def step(model: nn.Module, forward: Callable[..., Any], batch: Batch) -> list[torch.Tensor]:
        loss = forward(*batch)
        loss.backward()
        return [loss.detach()]

    run_beside_eager(name, step)
    made = [c for c in compilations() if id(c) not in known]
    assert [row["op"] for c in made for row in c.fallbacks] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_three_steps_of_momentum(name: str) -> None:
    def steps(model: nn.Module, forward: Callable[..., Any], batch: Batch) -> list[torch.Tensor]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = forward(*batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses

    run_beside_eager(name, steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.AdamW(p, lr=1e-2, fused=False)],
    ids=["sgd", "adamw"],
)
def test_a_compiled_optimizer(optimizer: Callable[[Any], torch.optim.Optimizer]) -> None:
    """Its foreach ops become kernels. Gradients are given, so that errors do not feed back."""
    torch.manual_seed(0)
    start = [torch.randn(7, 5), torch.randn(5), torch.randn(3, 2, 3)]
    gradients = [[torch.randn_like(p) for p in start] for _ in range(3)]
    outcomes = []
    for dtype, wrap in ((torch.float32, compiled), (torch.float32, lambda f: f), (torch.float64, lambda f: f)):
        parameters = [nn.Parameter(p.to(dtype)) for p in start]
        made = optimizer(parameters)
        step = wrap(made.step)
        for grads in gradients:
            for parameter, grad in zip(parameters, grads):
                parameter.grad = grad.to(dtype)
            step()
        outcomes.append([p.detach() for p in parameters])
    for ours, eager, oracle in zip(*outcomes, strict=True):
        same(ours, eager, oracle, "parameter")


def test_gradients_accumulate() -> None:
    def train(model: nn.Module, forward: Callable[..., Any], batch: Batch) -> list[torch.Tensor]:
        losses = [forward(*batch), forward(*batch)]  # two forwards before the first backward
        (losses[0] * 2).backward(retain_graph=True)
        losses[1].backward()
        losses[0].backward()
        return [loss.detach() for loss in losses]

    run_beside_eager("recommender", train)


def test_frozen_parameters_get_no_gradient() -> None:
    def train(model: nn.Module, forward: Callable[..., Any], batch: Batch) -> list[torch.Tensor]:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("layers.0" not in name and "users" not in name)
        loss = forward(*batch)
        loss.backward()
        return [loss.detach()]

    run_beside_eager("recommender", train)


def test_gradients_only_where_they_are_asked_for() -> None:
    def train(model: nn.Module, forward: Callable[..., Any], batch: Batch) -> list[torch.Tensor]:
        with torch.no_grad():
            first = forward(*batch)
        loss = forward(*batch)
        loss.backward()
        with torch.inference_mode():
            last = forward(*batch)
        assert not first.requires_grad and not last.requires_grad
        return [first, loss.detach(), last.clone()]

    run_beside_eager("recommender", train)


def rows(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.silu(F.layer_norm(x, [x.shape[-1]], weight, bias)).transpose(0, 1) * x.transpose(0, 1).sigmoid()


@pytest.mark.parametrize("layout", ["plain", "transposed", "expanded"])
def test_gradients_of_inputs(layout: str) -> None:
    """For cotangents of every layout, with the strides that autograd gives."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(5, 7), torch.randn(7), torch.randn(7)
    cotangent = {
        "plain": torch.randn(7, 5), "transposed": torch.randn(5, 7).t(), "expanded": torch.randn(7, 1).expand(7, 5),
    }[layout]
    outcomes = []
    for dtype, function in ((torch.float32, compiled(rows)), (torch.float32, rows), (torch.float64, rows)):
        leaves = [t.detach().clone().to(dtype).requires_grad_() for t in (x, weight, bias)]
        function(*leaves).backward(cotangent.to(dtype))
        outcomes.append([leaf.grad for leaf in leaves])
    for ours, eager, oracle in zip(*outcomes, strict=True):
        same(ours, eager, oracle, layout)
        assert ours.stride() == eager.stride()


def test_one_module_twice_in_a_step() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.LayerNorm(6))
    models = [layer, copy.deepcopy(layer), copy.deepcopy(layer).double()]
    for model, forward in zip(models, (compiled(layer), models[1], models[2])):
        x = torch.linspace(-1, 1, 18, dtype=next(model.parameters()).dtype).view(3, 6)
        forward(forward(x) + x).square().sum().backward()
    check_state(*models, "twice")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["language", "convolutions"])
def test_autocast(name: str) -> None:
    """Half-precision products, f32 parameters: errors against float64 are those of eager's own rounding."""

    def train(model: nn.Module, forward: Callable[..., Any], batch: Batch) -> list[torch.Tensor]:
        wide = next(model.parameters()).dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16, enabled=not wide):
            loss = forward(*batch)
        loss.backward()
        return [loss.detach().float()]

    run_beside_eager(name, train)


class Checkpointed(nn.Module):
    def __init__(self, keep: bool):
        super().__init__()
        self.keep = keep
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)) for _ in range(3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + (layer(x) if self.keep else checkpoint(layer, x, use_reentrant=False))
        return x.square().mean()


def saved_bytes(model: nn.Module, x: torch.Tensor) -> tuple[int, torch.Tensor]:
    """What autograd keeps for a step of the compiled model, parameters aside, and the loss."""
    own = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = compiled(model)(x)
    loss.backward()
    return sum(kept.values()), loss.detach()


def test_checkpoints_are_computed_again() -> None:
    torch.manual_seed(0)
    plain, x = Checkpointed(keep=True), torch.randn(33, 16)
    tagged = Checkpointed(keep=False)
    tagged.load_state_dict(plain.state_dict())
    eager, oracle = copy.deepcopy(tagged), copy.deepcopy(tagged).double()
    before, _ = saved_bytes(plain, x)
    torch._dynamo.reset()
    after, loss = saved_bytes(tagged, x)
    assert after < before / 2  # the hidden layers, four times as wide as the rest, are not kept
    eager(x).backward()
    oracle(x.double()).backward()
    check_state(tagged, eager, oracle, "checkpointed")
    same(loss, eager(x).detach(), oracle(x.double()).detach(), "loss")


def test_cross_entropy_keeps_one_large_tensor() -> None:
    """Of the logits' size only the logits themselves: no logarithms of probabilities."""
    torch.manual_seed(0)
    weight, x = nn.Parameter(torch.randn(9, 211)), torch.randn(50, 9)
    targets = torch.randint(211, (50,))
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = compiled(lambda: F.cross_entropy(x @ weight, targets))()
    assert sum(size >= 50 * 211 for size in kept.values()) == 1
    loss.backward()
    ours, weight.grad = weight.grad, None
    F.cross_entropy(x @ weight, targets).backward()
    wide = weight.detach().double().requires_grad_()
    F.cross_entropy(x.double() @ wide, targets).backward()
    same(ours, weight.grad, wide.grad, "gradient")


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_statistics_are_as_precise_as_eagers(mean: float) -> None:
    """Variance, layer and batch norm of long rows, also far from zero: at most twice eager's error."""

    def statistics(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        channels = torch.ones(x.shape[1], dtype=x.dtype)
        normal = F.batch_norm(x, None, None, training=True)
        row, center, factor = torch.ops.aten.native_layer_norm(x, [x.shape[1]], channels, None, 1e-5)
        return *torch.var_mean(x, 1), *torch.var_mean(x, 0), x.sum(0), x.sum(1), row, center, factor, normal

    torch.manual_seed(0)
    function = compiled(statistics)
    for shape in ((512, 64), (3, 65536)):
        x = torch.randn(shape) + mean
        for ours, eager, oracle in zip(function(x), statistics(x), statistics(x.double()), strict=True):
            same(ours, eager, oracle, f"{shape}", factor=2.0)
