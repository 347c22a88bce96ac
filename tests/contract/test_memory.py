"""Tensors as memory: layouts that come in, what results share with arguments, changes in place."""

from __future__ import annotations

import pytest
import torch
from contracts import COMPILED, FALLS_BACK, check, compiled, same, tensors

X = torch.linspace(-2, 2, 24).view(4, 6)
IMAGE = torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)

LAYOUTS = {
    "0-d": torch.tensor(0.5),
    "empty": torch.empty(0, 3),
    "empty inside": torch.empty(3, 0, 2),
    "expanded": X[:1].expand(4, 6),
    "overlapping": torch.arange(10.0).as_strided((4, 3), (2, 1)),
    "transposed": X.t(),
    "strided": X[:, ::2],
    "offset": X[1:, 2:],
    "channels last": IMAGE.to(memory_format=torch.channels_last),
    "size one": torch.ones(1, 1),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_inputs(name):
    def layered(x):
        return x * 2 + 1, x.sum(), x.clone(), x.flatten(), x.exp().relu()

    check(layered, LAYOUTS[name])


def test_layouts_change_between_calls():
    call = compiled(lambda x: x * 2 + 1)
    for x in (X, X.t().contiguous().t(), X[:1].expand(4, 6), X.repeat(1, 2)[:, ::2]):
        result, expected = call(x), x * 2 + 1
        assert result.stride() == expected.stride()
        same(result, expected)


def test_memory_formats_are_preserved():
    image = LAYOUTS["channels last"]
    convolution = torch.nn.Conv2d(3, 4, 3, padding=1).eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        result = check(torch.nn.Sequential(convolution, torch.nn.ReLU()), image)
    assert result.is_contiguous(memory_format=torch.channels_last)
    check(lambda x: (x.relu(), x + x.mean((2, 3), keepdim=True), x.contiguous(memory_format=torch.channels_last)),
          IMAGE.contiguous())


VIEWS = {
    "transposed": lambda x: x.t(), "part": lambda x: x[1:, ::2], "reshaped": lambda x: x.view(-1),
    "diagonal": lambda x: x.diagonal(), "expanded": lambda x: x[:, :1].expand(4, 5), "split": lambda x: x.split(3, 1),
    "unfolded": lambda x: x.unfold(1, 3, 2), "bits": lambda x: x.view(torch.int32), "detached": lambda x: x.detach(),
}


# Shapes and strides say nothing of these: ATen makes the view, we the rest.
VIEWS_LEFT_TO_ATEN = {"diagonal": None, "unfolded": None, "bits": None}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_inputs_as_results(name):
    check(lambda x: (VIEWS[name](x), x * 2), X, expect=VIEWS_LEFT_TO_ATEN.get(name, COMPILED))


def test_an_input_returned_as_it_is():
    def given(x):
        return x, x * 2

    call = compiled(given)
    assert call(X)[0] is X
    check(given, X)
    check(given, X.clone().requires_grad_())


def test_the_same_tensor_twice():
    x = X.clone()
    check(lambda a, b: a * 2 + b, x, x)
    check(lambda a, b: (a.add_(1), b * 2), x, x)
    y = X.clone().requires_grad_()
    check(lambda a, b: a * b, y, y)


IN_PLACE = {
    "whole": lambda x: x.add_(1),
    "twice": lambda x: x.mul_(2).sub_(3),
    "row": lambda x: x[1].fill_(7),
    "assigned": lambda x: x.__setitem__((slice(None), slice(0, None, 2)), 0.0),
    "transposed": lambda x: x.t().mul_(torch.arange(6.0)[:, None]),
    "copied": lambda x: x.copy_(x.flip(0)),
    "view of a view": lambda x: x.view(-1)[3:9].view(2, 3).zero_(),
    "out": lambda x: torch.exp(x, out=x),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_changes_of_inputs(name):
    def change(x):
        before = x * 1
        IN_PLACE[name](x)
        return before, x * 2

    check(change, X)


def test_changes_of_views_given_as_inputs():
    """Parts of one tensor, apart from each other and over each other."""

    def change(a, b):
        a.add_(1)
        return a * b

    for parts in (lambda x: (x[0], x[1]), lambda x: (x[0], x.view(-1)[:6]), lambda x: (x[:2, 0], x[0, :2])):
        torch._dynamo.reset()
        bases = [X.clone(), X.clone()]
        same(compiled(change)(*parts(bases[0])), change(*parts(bases[1])))
        same(*bases)


def test_changes_of_metadata():
    def transpose(x):
        x.t_()
        return x * 2

    check(transpose, X)


def test_tied_weights():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(7, 6)
            self.head = torch.nn.Linear(6, 7, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            return self.head(torch.tanh(self.embedding(tokens)))

    check(Tied(), torch.tensor([[1, 2], [3, 6]]), expect=None)


def test_buffers_updated_in_place():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
            self.register_buffer("mean", torch.zeros(6))

        def forward(self, x):
            self.calls += 1
            self.mean.lerp_(x.mean(0), 0.1)
            return x - self.mean

    check(Counting(), X)
    model, plain = Counting(), Counting()
    call = compiled(model)
    for _ in range(3):
        same(call(X), plain(X))
    assert model.calls.item() == 3
    same(model.mean, plain.mean)


def test_batch_norm_in_training():
    # In float64: what is compared is the contract; how float32 rounds is the matter of other tests.
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    check(model.double(), IMAGE.double(), expect=None)


class Cached(torch.nn.Module):
    """One step of attention over a static cache, written in place at a position."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(5, 6))

    def forward(self, x, position):
        self.cache.index_copy_(0, position, x)
        scores = torch.softmax(x @ self.cache.t(), -1)
        return scores @ self.cache


def test_a_static_cache():
    model, plain = Cached(), Cached()
    call = compiled(model)
    address = model.cache.data_ptr()
    for step in range(5):
        position = torch.tensor([step])
        same(call(X[:1] + step, position), plain(X[:1] + step, position))
    same(model.cache, plain.cache)
    assert model.cache.data_ptr() == address


def test_a_growing_cache():
    def step(x, past):
        past = torch.cat([past, x])
        return torch.softmax(x @ past.t(), -1) @ past, past

    call, past, expected_past = compiled(step), X[:2], X[:2]
    for _ in range(4):
        result, past = call(X[:1], past)
        expected, expected_past = step(X[:1], expected_past)
        same(result, expected)
        same(past, expected_past)


def test_inputs_that_require_gradients():
    check(lambda x, y: (torch.tanh(x * 2) @ y, x.detach() * 3), X.clone().requires_grad_(), X.t().clone())
    check(lambda x: x.exp().reshape(-1), X.t().clone().requires_grad_())


def test_gradients_accumulate_and_graphs_may_wait():
    """Two calls forward, then both backward: each has its own saved tensors."""
    gradients = []
    for call in (compiled(lambda x: torch.softmax(x.sin(), -1)), lambda x: torch.softmax(x.sin(), -1)):
        x = X.clone().requires_grad_()
        first, second = call(x), call(x * 2)
        (first[:, 0] * 3).sum().backward()
        second[:, 1].cos().sum().backward()
        gradients.append(x.grad)
    same(*gradients)


def test_second_derivatives_are_refused():
    x = X.clone().requires_grad_()
    [gradient] = torch.autograd.grad(compiled(lambda x: x.sin().exp())(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        gradient.sum().backward()


def test_dtypes_of_every_kind():
    def compute(x):
        return x + x, x.view(-1)[1:], x == x, x.clone()

    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
                  torch.float32, torch.float64):
        for tensor in tensors(check(compute, X.to(dtype)))[:1]:
            assert tensor.dtype == dtype
    check(lambda x: (x & ~x, x.any(), x.view(-1)[1:], x == x), X > 0)


def test_unsigned_dtypes_that_eager_hardly_knows():
    for dtype in (torch.uint16, torch.uint32, torch.uint64):
        check(lambda x: (x.view(-1)[1:], x.clone(), x.to(torch.float32) * 2), X.abs().to(dtype), expect=None)


def test_values_that_eager_refuses():
    target = torch.tensor([0.0, 1.0, 1.0])
    call = torch.compile(torch.nn.functional.binary_cross_entropy, backend="tilewright")
    assert call(torch.tensor([-0.5, 0.5, 0.5]), target).isnan()
    assert call(torch.tensor([1.5, 0.5, 0.5]), target).isnan()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_as_storage(dtype):
    check(lambda x, y: (x.to(torch.float32) * 2, y.to(dtype).to(torch.float32)), X.to(dtype), X, expect=COMPILED)


def test_complex():
    check(lambda x: (torch.exp(x) * (1 + 2j), x.real * 2, x.abs()), torch.complex(X, X.flip(0)), expect=FALLS_BACK)
    check(lambda x: torch.fft.ifft(torch.fft.fft(x)).real * 2, X, expect=FALLS_BACK)
    check(lambda x: (x * x).abs(), torch.complex(X, X.flip(0)).requires_grad_(), expect=FALLS_BACK)
