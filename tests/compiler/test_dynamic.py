"""Dynamic sizes: compiled once for all sizes from 2 on, right at every size, primes and 1 included."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import tilewright

# One program has to be right at all of these: primes, powers of two and their neighbours, block and vector tails. The
# first is what is traced with: with 2, torch itself would fix the sizes that are 1 then.
SIZES = (19, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 23, 31, 32, 33, 64, 65, 97, 128, 131)


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def graphs():
    """How many graphs Dynamo has compiled since the test began."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def same(actual, expected, **tolerance):
    torch.testing.assert_close(actual, expected, **({"rtol": 2e-5, "atol": 2e-5} | tolerance))


def attention(x):
    rows = x[:, :8].unsqueeze(0).unsqueeze(0)
    return F.scaled_dot_product_attention(rows, rows, rows, is_causal=True)


def windows(x):
    s = x.shape[0]
    return x[: s // 2] * 2 + x[(s + 1) // 2 :], x[: (s + 1) // 2].softmax(0), x[s // 2 :: 2].sum(0)


FUNCTIONS = {
    "pointwise": lambda x: F.gelu(x) * 2 + x,
    "reduce rows": lambda x: x.sum(0) + x.amax(0),
    "reduce columns": lambda x: torch.softmax(x, 1) + x.mean(1, keepdim=True),
    "reduce all": lambda x: (x.var() + x.sum(), x.argmax(0)),
    "transpose": lambda x: (x.t().contiguous() + 1, x.t().softmax(0)),
    "reshape to twice": lambda x: x.reshape(2 * x.shape[0], -1).exp().sum(1),
    "reshape to all": lambda x: (x.flatten() * 2).view(x.shape[1], x.shape[0]).cumsum(0),
    "halves": windows,
    "cat": lambda x: torch.cat([x, x[1:] * 2, torch.relu(x)]).sum(1),
    "pad": lambda x: F.pad(x, (1, 2, 3, 0), value=-1.0).softmax(0),
    "outer": lambda x: (x[:, :1] * x[:, 1].unsqueeze(0)).sum(0),
    "grid": lambda x: torch.arange(x.shape[0]).unsqueeze(1).eq(torch.arange(x.shape[0])).float() @ x,
    "attention": attention,
    "layer norm": lambda x: F.layer_norm(x, x.shape[1:]) @ x.t(),
    "half": lambda x: F.silu(x.bfloat16()).float() + x.half().float().log_softmax(0),
    "broadcast": lambda x: x.unsqueeze(1).expand(x.shape[0], x.shape[0], x.shape[1]).amax(0) + x,
    "gather": lambda x: x[torch.arange(x.shape[0] - 1, -1, -1)] - x.flip(0),
    "size as number": lambda x: x / x.shape[0] + x.numel() + x.shape[0] ** 0.5,
}


# torch compiles these once more where a part of the size is 1, which it may have to broadcast.
GRAPHS = {"halves": 4, "cat": 2}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_are_dynamic(name):
    function = FUNCTIONS[name]
    call = torch.compile(function, backend="tilewright")
    for size in SIZES:
        x = torch.randn(size, 12)
        torch._dynamo.maybe_mark_dynamic(x, 0)
        same(call(x), function(x), **({"rtol": 2e-2, "atol": 2e-2} if name == "half" else {}))
    assert graphs() <= GRAPHS.get(name, 1)
    assert tilewright.last_compilation().parts == {}  # one program
    same(call(torch.ones(1, 12)), function(torch.ones(1, 12)))


class Block(torch.nn.Module):
    """Attention over padded rows, a norm and a feed-forward net: what a transformer's layer does with its sizes."""

    def __init__(self):
        super().__init__()
        self.heads, self.norm = 2, torch.nn.LayerNorm(16)
        self.project, self.out = torch.nn.Linear(16, 48), torch.nn.Linear(16, 16)
        self.positions = torch.nn.Embedding(64, 16)

    def forward(self, x, mask):
        batch, length, width = x.shape
        x = x + self.positions(torch.arange(length))
        q, k, v = self.project(self.norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = torch.where(mask[:, None, None, :], 0.0, float("-inf"))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return x + F.gelu(self.out(attended.transpose(1, 2).reshape(batch, length, width)))


def block_inputs(batch, length):
    mask = torch.arange(length) < torch.tensor([[length], [max(1, length // 2)]])[torch.arange(batch) % 2]
    return torch.randn(batch, length, 16), mask


@pytest.mark.parametrize("mark", ["marked", "dynamic=True"])
def test_batch_and_length_are_dynamic(mark):
    torch.manual_seed(0)
    block = Block().eval()
    call = torch.compile(block, backend="tilewright", dynamic=True if mark == "dynamic=True" else None)
    for batch, length in ((3, 19), (2, 2), (4, 3), (7, 61), (5, 32)):
        x, mask = block_inputs(batch, length)
        if mark == "marked":
            for tensor in (x, mask):
                torch._dynamo.mark_dynamic(tensor, (0, 1))
        with torch.no_grad():
            same(call(x, mask), block(x, mask))
    assert graphs() == 1


def gradients(call, block, x, mask, weights):
    block.zero_grad()
    x = x.clone().requires_grad_()
    (call(x, mask) * weights).sum().backward()
    return [x.grad, *(p.grad.clone() for p in block.parameters())]


def test_training_with_dynamic_sizes():
    torch.manual_seed(0)
    block = Block()
    call = torch.compile(block, backend="tilewright", dynamic=True)
    for batch, length in ((3, 19), (2, 2), (5, 13), (4, 32), (7, 3)):
        x, mask = block_inputs(batch, length)
        weights = torch.randn(batch, length, 16)
        expected = gradients(block, block, x, mask, weights)
        same(gradients(call, block, x, mask, weights), expected, rtol=1e-4, atol=1e-4)
    assert graphs() == 1


@pytest.mark.parametrize("dynamic, compiled", [(False, 4), (True, 1), (None, 2)])
def test_how_often_is_compiled(dynamic, compiled):
    call = torch.compile(lambda x: torch.softmax(x, 0) * x.shape[0], backend="tilewright", dynamic=dynamic)
    for size in (5, 7, 11, 13):
        x = torch.randn(size, 3)
        same(call(x), torch.softmax(x, 0) * size)
    assert graphs() == compiled


def test_equal_sizes_in_two_forms():
    """Only a guard says that the sizes of `x` and `y` agree."""
    call = torch.compile(lambda x, y: (x.flatten() + y).view(-1, 4).sum(0), backend="tilewright", dynamic=True)
    for size in (3, 5, 8, 13):
        x, y = torch.randn(size, 4), torch.randn(4 * size)
        same(call(x, y), (x.flatten() + y).view(-1, 4).sum(0))
    assert graphs() == 1


@pytest.mark.parametrize("number", [3, 1, 0, -2])
def test_numbers_may_be_negative(number):
    def function(x, n):
        return x * n + n, x[n:].sum(), x.roll(n, 0)

    call = torch.compile(function, backend="tilewright", dynamic=True)
    x = torch.randn(7, 3)
    for n in (number, 5, number - 2):
        same(call(x, n), function(x, n))


def test_unbacked_sizes_of_inputs():
    call = torch.compile(lambda x: torch.softmax(x * 2, 1) + x.sum(0), backend="tilewright", fullgraph=True)
    for size in (5, 2, 17, 1, 0):
        x = torch.randn(size, 6)
        torch._dynamo.decorators.mark_unbacked(x, 0)
        same(call(x), torch.softmax(x * 2, 1) + x.sum(0))
    assert graphs() == 1


def test_exported_sizes_that_are_multiples():
    """The argument's dim is twice the symbol, which is the size of nothing else."""
    half = torch.export.Dim("half", min=2, max=64)
    model = tilewright.compile(
        lambda x: x.view(2, -1, 3).softmax(1), (torch.randn(10, 3),), dynamic_shapes={"x": {0: 2 * half}}
    )
    for size in (4, 6, 22, 26, 128):
        x = torch.randn(size, 3)
        same(model(x), x.view(2, -1, 3).softmax(1))
    with pytest.raises(tilewright.TilewrightError):
        model(torch.randn(7, 3))


def test_rows_of_any_length_are_kept_between_phases():
    """The exponentials are computed once, as in a program for one length."""
    call = torch.compile(lambda x: torch.softmax(x, 1), backend="tilewright", dynamic=True)
    for length in (5, 70_001):
        x = torch.randn(3, length)
        same(call(x), torch.softmax(x, 1))
    (kernel,) = tilewright.last_compilation().kernels
    # In whole vectors, and in what is left of the row.
    assert kernel.source.count("tw::exp(") == 2 and "tw::scratch<" in kernel.source
