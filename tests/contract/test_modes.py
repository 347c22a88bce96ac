"""Modes of torch around and inside a compiled call: autocast, gradients on and off, transforms, hooks, profiling."""

from __future__ import annotations

import pytest
import torch
from contracts import FALLS_BACK, check, compiled, same, state_of

import tilewright
from tilewright.backend import compilations

X = torch.linspace(-2, 2, 24).view(4, 6)


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.GELU(), torch.nn.Linear(5, 2))


def chain(x):
    return torch.softmax(x * 2 + 1, -1)


@pytest.mark.parametrize("where", ["around", "inside"])
def test_autocast(where):
    model = small()

    def inside(x):
        with torch.autocast("cpu", torch.bfloat16):
            return model(x)

    def around(x):
        with torch.autocast("cpu", torch.bfloat16):
            return compiled(model)(x)

    expected = inside(X)
    result = around(X) if where == "around" else compiled(inside)(X)
    assert result.dtype == torch.bfloat16 and result.requires_grad
    same(result, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes(mode):
    model = small()
    call = compiled(model)
    with mode():
        result, expected = call(X), model(X)
    same(result, expected)
    assert result.requires_grad == expected.requires_grad
    assert result.is_inference() == expected.is_inference()
    # The same call again outside of the mode: gradients are what they would have been.
    call(X).square().sum().backward()
    gradient = model[0].weight.grad.clone()
    model.zero_grad()
    model(X).square().sum().backward()
    same(gradient, model[0].weight.grad)


def test_inference_mode_does_not_stay_with_a_model_compiled_ahead_of_time():
    """Memory of its own that a call makes in that mode serves later calls outside of it."""
    model = small().eval()
    dynamic = ({0: torch.export.Dim("rows", min=2)},)
    for call in (tilewright.compile(model, (X,)), tilewright.compile(model, (X,), dynamic_shapes=dynamic)):
        with torch.inference_mode():
            result = call(X)
            assert result.is_inference()
            same(result, model(X))
        result = call(X)
        assert not result.is_inference()
        same(result, model(X).detach())


def test_no_grad_inside():
    def partly(x, w):
        with torch.no_grad():
            y = (x * w).exp()
        return y * w

    check(partly, X.clone().requires_grad_(), torch.ones(6, requires_grad=True))


def test_deterministic_algorithms():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        check(lambda x: chain(x).sum(0), X)
        check(lambda x, i: torch.zeros(4, 6).index_add(0, i, x), X, torch.tensor([0, 1, 1, 3]), expect=None)
    finally:
        torch.use_deterministic_algorithms(before)


def test_profiler():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        check(chain, X)
    assert profile.key_averages()


def test_functional_call():
    model = small()
    weights = {name: p.detach() * 2 for name, p in model.named_parameters()}

    def call(weights, x):
        return torch.func.functional_call(model, weights, (x,))

    check(call, weights, X)


TRANSFORMS = {
    "vmap": lambda f: torch.func.vmap(f),
    "grad": lambda f: torch.func.grad(lambda x: f(x).sin().sum()),
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (torch.ones_like(x),)),
    "vjp": lambda f: lambda x: torch.func.vjp(f, x)[1](torch.ones_like(x)),
    "jacrev": lambda f: torch.func.jacrev(f),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_inside(name):
    check(TRANSFORMS[name](chain), X)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_around(name):
    """A transform around a compiled function: right, as torch runs what is inside in eager."""
    same_tree(TRANSFORMS[name](compiled(chain))(X), TRANSFORMS[name](chain)(X))


def same_tree(actual, expected):
    for a, b in zip(torch.utils._pytree.tree_leaves(actual), torch.utils._pytree.tree_leaves(expected)):
        same(a, b)


def test_compiled_autograd():
    model, plain = small(), small()
    call = compiled(model)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="tilewright")):
        call(X).square().sum().backward()
    plain(X).square().sum().backward()
    for a, b in zip(model.parameters(), plain.parameters()):
        same(a.grad, b.grad)


def test_forward_hooks():
    seen = []
    model, plain = small(), small()
    for one in (model, plain):
        one[0].register_forward_hook(lambda module, args, output: output * 2)
        one[2].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
        one.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    same(compiled(model)(X), plain(X))
    assert seen == [torch.Size([4, 2])] * 2


def test_backward_hooks():
    model, plain = small(), small()
    for one in (model, plain):
        one[1].register_full_backward_hook(lambda module, given, taken: (given[0] * 3,))
        one[0].weight.register_hook(lambda gradient: gradient * 2)
    call = compiled(model)
    call(X).square().sum().backward()
    plain(X).square().sum().backward()
    for a, b in zip(model.parameters(), plain.parameters()):
        same(a.grad, b.grad)


def test_tensor_hooks():
    def hooked(x):
        y = x * 2
        y.register_hook(lambda gradient: gradient * 10)
        return y.exp()

    check(hooked, X.clone().requires_grad_(), expect=None)
    results = []
    for call in (compiled(chain), chain):
        x = X.clone().requires_grad_()
        x.register_hook(lambda gradient: gradient * 5)
        y = call(x)
        y.register_hook(lambda gradient: gradient + 1)
        y.sin().sum().backward()
        results.append(x.grad)
    same(*results)


def test_post_accumulate_hooks():
    def step(parameter):
        parameter.data.sub_(parameter.grad, alpha=0.1)

    steps = []
    for wrap in (compiled, lambda model: model):
        model = small()
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(step)
        wrap(model)(X).square().sum().backward()
        steps.append(model[0].weight.detach())
    same(*steps)


def test_training_steps():
    finals = []
    for wrap in (compiled, lambda model: model):
        model = small()
        call, optimizer = wrap(model), torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            call(X).square().mean().backward()
            optimizer.step()
        finals.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*finals, rtol=1e-4, atol=1e-4)


def test_checkpoint():
    from torch.utils.checkpoint import checkpoint

    model = small()
    check(lambda x: checkpoint(model, x, use_reentrant=False), X.clone().requires_grad_(), expect=None)


def test_custom_autograd_functions():
    class Clipped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(-1, 1)

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            return gradient * 0.5 * x

    check(lambda x: Clipped.apply(x * 2) + 1, X.clone().requires_grad_())


def test_random_seeds_are_obeyed():
    call = compiled(lambda x: torch.nn.functional.dropout(x, 0.5) + torch.rand_like(x))
    torch.manual_seed(3)
    first, second = call(X), call(X)
    torch.manual_seed(3)
    assert torch.equal(call(X), first) and not torch.equal(first, second)


def test_ops_left_to_aten():
    check(lambda x: torch.linalg.svdvals(x) + 1, X, expect=FALLS_BACK)
    assert state_of(compilations()[-1:]) == FALLS_BACK
