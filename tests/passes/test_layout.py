"""Convolutional graphs channels-last: as right as eager whatever the shapes, the operands' layouts and the readers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import tilewright
from tilewright.ir.numerics import compare


class Block(nn.Module):
    """A residual block with what surrounds convolutions: statistics, pooling, a sum, a gate, a mean."""

    def __init__(self, channels: int, groups: int = 1, kernel: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, kernel, stride=2, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.last = nn.Conv2d(channels, 4, 1)
        nn.init.normal_(self.norm.running_mean, 0, 0.1), nn.init.uniform_(self.norm.running_var, 0.5, 1.5)

    def forward(self, x):
        y = torch.relu(self.norm(self.stem(x)))
        y = nn.functional.max_pool2d(y, 3, 2, 1)
        gate = torch.sigmoid(y.mean((2, 3), keepdim=True))
        y = torch.relu(self.conv(y * gate) + y)
        return self.last(torch.cat([y[:, :1], y[:, 1:] * 2], 1)).flatten(2).softmax(-1), y.mean((2, 3))


def changed() -> int:
    return tilewright.last_compilation().stats["statistics"]["layout"]["channels_last"]


def check(model, x, **settings):
    """At most twice eager's error against float64, in eager's layout."""
    torch._dynamo.reset()
    with torch.no_grad():
        results = torch.compile(model, backend="tilewright", **settings)(x)
        expected, exact = model(x), copy.deepcopy(model).double()(x.double())
    for ours, theirs, oracle in zip(results, expected, exact, strict=True):
        assert ours.stride() == theirs.stride()
        assert compare(ours, theirs, oracle, "reassociates") is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("channels", "groups", "kernel", "size"),
    [(8, 1, 3, (2, 16, 16)), (7, 7, 3, (1, 9, 13)), (6, 2, 1, (3, 5, 4)), (16, 16, 7, (2, 11, 8))],
)
def test_as_right_as_eager(dtype, channels, groups, kernel, size):
    torch.manual_seed(0)
    model = Block(channels, groups, kernel).eval().to(dtype)
    check(model, torch.randn(size[0], 3, *size[1:], dtype=dtype))
    assert changed() == 3


@pytest.mark.parametrize("settings", [{}, {"dynamic": True}, {"options": {"verify": "numeric"}}], ids=str)
def test_operands_in_any_layout(settings):
    torch.manual_seed(0)
    model = Block(8).eval()
    x = torch.randn(2, 3, 14, 18)
    layouts = (x.transpose(2, 3), x, x.to(memory_format=torch.channels_last), x[:, :, ::2, 1:])
    for given in layouts[: 4 if not settings else 1]:
        check(model, given, **settings)


def test_what_is_not_finite_stays_where_it_is():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.AvgPool2d(2)).eval()
    x = torch.randn(2, 3, 9, 9)
    x[0, 1, 4, 4], x[1, 0, 0, 0] = float("nan"), float("inf")
    with torch.no_grad():
        ours, theirs = torch.compile(model, backend="tilewright")(x), model(x)
    assert changed() == 2
    torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=1e-5, atol=1e-5)


def test_no_images():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(2)).eval()
    with torch.no_grad():
        assert torch.compile(model, backend="tilewright")(torch.randn(0, 3, 9, 9)).shape == (0, 8, 3, 3)


def test_training_keeps_what_was_traced():
    """The backward pass gets nearly all that convolutions read: as it was traced."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    other = copy.deepcopy(model)
    x = torch.randn(2, 3, 9, 9)
    made = torch.compile(model, backend="tilewright")(x)
    assert changed() == 0
    made.sum().backward(), other(x).sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_memory_of_library_results_is_given_back_before_the_call_ends():
    model = nn.Sequential(*[nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)], nn.ReLU()).eval()
    compiled = tilewright.compile(model, (torch.randn(1, 4, 8, 8),))
    source = compiled.compilation.host_source
    assert source.count("del convolution") == 3
    x = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(compiled(x), model(x).detach())
