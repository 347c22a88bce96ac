"""frozen=True: folded and packed weights are as right as eager's, and are made anew when a weight has changed."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn

import tilewright
from tilewright.ir.numerics import compare


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


def settled(model: nn.Module) -> nn.Module:
    """Statistics as training leaves them."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            nn.init.normal_(module.running_mean, 0, 0.3), nn.init.uniform_(module.running_var, 0.3, 2)
            if module.affine:
                nn.init.normal_(module.weight), nn.init.normal_(module.bias)
    return model


def same(ours, model, *inputs) -> None:
    """At most a small factor of eager's error against float64 (folding rounds a weight once more)."""
    expected = model(*inputs)
    if expected.dtype == torch.float64:  # nothing finer tells which rounding is better
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-14)
        return
    exact = copy.deepcopy(model).double()(*[x.double() if x.is_floating_point() else x for x in inputs])
    assert (ours.stride(), ours.dtype) == (expected.stride(), expected.dtype)
    assert (mismatch := compare(ours, expected, exact, "reassociates", factor=4.0)) is None, mismatch


def freeze(model, **options):
    return torch.compile(model, backend="tilewright", options={"frozen": True, **options})


def folded() -> int:
    return tilewright.last_compilation().stats["statistics"]["freeze"]["folded"]


def packed() -> int:
    return tilewright.last_compilation().prog_text.count("._reorder_")


class Scaled(nn.Module):
    """A library call with something applied to its result."""

    def __init__(self, inner: nn.Module, apply):
        super().__init__()
        self.inner, self.apply_to = inner, apply
        self.scale = nn.Parameter(torch.randn(5))

    def forward(self, x):
        return torch.tanh(self.apply_to(self.inner(x), self.scale))


CONVOLUTIONS = {  # model, how many ops of it are folded
    "conv and norm": (lambda: (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), 3),
    "no bias": (lambda: (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)), 3),
    "no affine": (lambda: (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, affine=False)), 2),
    "groups": (lambda: (nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8)), 3),
    "one channel a group": (lambda: (nn.Conv2d(8, 8, 5, groups=8, stride=2, padding=2), nn.BatchNorm2d(8)), 3),
    "one channel": (lambda: (nn.Conv2d(3, 1, 1, dilation=2), nn.BatchNorm2d(1)), 3),
    "batch statistics": (lambda: (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)), 0),
    "transposed": (lambda: (nn.ConvTranspose2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)), 0),
    "one dim": (lambda: (nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)), 3),
    "two in a row": (lambda: (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)), 6),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_with_batch_norm(name, dtype):
    layers, expected = CONVOLUTIONS[name]
    model = settled(nn.Sequential(*layers(), nn.ReLU())).eval().to(dtype)
    shape = (2, model[0].in_channels, 11) if name == "one dim" else (2, model[0].in_channels, 11, 7)
    x = torch.randn(shape, dtype=dtype)
    with torch.no_grad():
        same(freeze(model)(x), model, x)
    if dtype == torch.float32:
        assert (folded() > 0) == (expected > 0)


@pytest.mark.parametrize("train", [False, True])
def test_statistics_of_the_batch_are_no_constants(train):
    model = settled(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))).train(train)
    other, x = copy.deepcopy(model), torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        made = freeze(model)
        for _ in range(2):
            torch.testing.assert_close(made(x), other(x), rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(model.state_dict().values(), other.state_dict().values()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


LINEAR = [
    (lambda y, s: y, nn.Linear(7, 5)), (lambda y, s: y, nn.Linear(7, 5, bias=False)),
    (lambda y, s: y * s, nn.Linear(7, 5)), (lambda y, s: y / s, nn.Linear(7, 5, bias=False)),
    (lambda y, s: y * 0.125, nn.Linear(7, 5)), (lambda y, s: s - y, nn.Linear(7, 5)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("case", range(len(LINEAR)))
def test_products(case, dtype):
    apply, inner = LINEAR[case]
    model = Scaled(copy.deepcopy(inner), apply).eval().to(dtype)
    with torch.no_grad():
        made = freeze(model)
        for rows in ((1, 7), (13, 7), (2, 3, 7), (0, 7)):
            x = torch.randn(rows, dtype=dtype)
            torch._dynamo.reset()
            same(made(x), model, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("by_rows", [False, True])
def test_products_with_packed_weights(by_rows, bias, dtype):
    """The weight as `nn.Linear` has it, and as a matrix that is multiplied from the right."""
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(*((1024, 601) if by_rows else (601, 1024))) / 32)
            self.bias = nn.Parameter(torch.randn(601)) if bias else None

        def forward(self, x):
            y = x @ self.weight if by_rows else x @ self.weight.t()
            return torch.tanh(y if self.bias is None else y + self.bias)

    model = Product().to(dtype)
    with torch.no_grad():
        for rows in (1, 13):
            torch._dynamo.reset()
            x = torch.randn(rows, 1024, dtype=dtype)
            same(freeze(model)(x), model, x)
            assert packed() == (tilewright.last_compilation().target.isa == "avx512" or dtype == torch.float32)


def test_weights_are_packed_and_stay_outside_of_the_call():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        same(freeze(model)(x), model, x)
    if tilewright.last_compilation().target.isa in ("avx2", "avx512"):
        assert packed() == 1
        assert "_reorder" not in tilewright.last_compilation().host.rest.source


CHANGES = {
    "in place": lambda m: m[0].weight.mul_(2),
    "a statistic": lambda m: m[1].running_mean.add_(1),
    "other data": lambda m: setattr(m[0].weight, "data", torch.randn_like(m[0].weight)),
    "another layout": lambda m: setattr(m[3].weight, "data", m[3].weight.data.t()),
    "another parameter": lambda m: setattr(m[0], "weight", nn.Parameter(torch.randn_like(m[0].weight))),
    "a state": lambda m: m.load_state_dict({k: v + 1 for k, v in m.state_dict().items()}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_weight_is_seen(change):
    model = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(5, 5))).eval()
    x = torch.randn(2, 3, 7, 7)
    with torch.no_grad():
        made = freeze(model)
        before = made(x)
        same(before, model, x)
        CHANGES[change](model)
        same(made(x), model, x)
        assert not torch.equal(made(x), before)


def test_what_depends_on_weights_alone_is_computed_when_one_has_changed_and_else_never(monkeypatch):
    model = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).eval()
    x = torch.randn(2, 3, 7, 7)
    with torch.no_grad():
        made = freeze(model)
        made(x)
        program, runs = tilewright.last_compilation().host, []
        prologue = program.prologue
        program.prologue = lambda *args: runs.append(1) or prologue(*args)
        made(x), made(x)
        assert runs == []
        model[1].bias.add_(1)
        made(x), made(x)
        assert runs == [1]


def test_weights_made_in_inference_mode_count_as_changed():
    """torch counts no changes of theirs."""
    with torch.inference_mode():
        model = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).eval()
        x = torch.randn(2, 3, 7, 7)
        made = freeze(model)
        same(made(x), model, x)
        model[0].weight.mul_(3)
        same(made(x), model, x)


def test_a_convolution_of_weights_alone():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.conv = nn.Parameter(torch.randn(1, 3, 9, 9)), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return torch.relu(self.conv(self.image.transpose(2, 3))) + x

    model, x = Own(), torch.randn(2, 4, 7, 7)
    with torch.no_grad():
        made = freeze(model)
        for _ in range(2):
            same(made(x), model, x)
            model.image.mul_(2)


def test_tied_weights_and_a_table():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(11, 6)
            self.head = nn.Linear(6, 11, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens):
            return self.head(torch.tanh(self.table(tokens)))

    model, tokens = Tied().eval(), torch.randint(0, 11, (2, 5))
    with torch.no_grad():
        made = freeze(model)
        same(made(tokens), model, tokens)
        model.table.weight.add_(1)
        same(made(tokens), model, tokens)


def test_a_result_that_is_a_frozen_value_is_the_callers_own():
    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            return torch.exp(self.weight), x @ torch.exp(self.weight)

    model, x = Weights(), torch.randn(3, 4)
    with torch.no_grad():
        made = freeze(model)
        made(x)[0].zero_()
        for ours, theirs in zip(made(x), model(x)):
            torch.testing.assert_close(ours, theirs)


def test_ahead_of_time_and_saved(tmp_path):
    model = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(5, 3))).eval()
    x = torch.randn(2, 3, 7, 7)
    made = tilewright.compile(model, (x,), frozen=True, verify="numeric")
    with torch.no_grad():
        same(made(x), model, x)
        made.save(tmp_path / "model.tw")
        assert torch.equal(tilewright.load(tmp_path / "model.tw")(x), made(x))
        model[0].weight.neg_()
        same(made(x), model, x)


def test_any_batch_size():
    model = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(100, 3))).eval()
    with torch.no_grad():
        made = torch.compile(model, backend="tilewright", options={"frozen": True}, dynamic=True)
        for batch in (2, 3, 5):
            x = torch.randn(batch, 3, 7, 7)
            same(made(x), model, x)


def test_gradients_are_those_of_weights_that_change(caplog):
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    other, x = copy.deepcopy(model), torch.randn(3, 4)
    with caplog.at_level(logging.WARNING, logger="tilewright"):
        freeze(model)(x).sum().backward()
    assert "frozen=True is for inference" in caplog.text
    other(x).sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_not_finite_values_stay():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(6, 3), nn.ReLU()).eval()
    x = torch.randn(1, 3, 6, 6)
    x[0, 0, 2, 3], x[0, 1, 4, 0] = float("nan"), float("inf")
    with torch.no_grad():
        torch.testing.assert_close(freeze(model)(x), model(x), equal_nan=True)
