"""Compiled against eager in all that a caller can see: values, dtypes, strides, shared memory, changes, gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree

from tilewright.backend import compilations
from tilewright.fallback import AtenGraph

COMPILED, FALLS_BACK = "compiled", "falls back"


def compiled(function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
    return torch.compile(function, backend="tilewright", **settings)


def state_of(made: Sequence[Any]) -> str:
    """What the table calls it: `compiled` where no op at all is left to ATen."""
    assert made, "nothing was compiled"
    left = [row for one in made for row in one.fallbacks]
    return FALLS_BACK if left or any(isinstance(one, AtenGraph) for one in made) else COMPILED


def check(function: Callable[..., Any], *args: Any, expect: str | None = COMPILED, **settings: Any) -> Any:
    """Call `function` in eager and compiled, on copies of `args`, with `backward` where there are gradients.

    Gives what the compiled call gave. `expect` is the state of all that was compiled on the way (None: anything).
    """
    torch._dynamo.reset()
    before = set(map(id, compilations()))
    kept = compilations()  # so that no id is given twice
    models = [function, copy.deepcopy(function)] if isinstance(function, torch.nn.Module) else [function] * 2
    inputs = [copy.deepcopy(args) for _ in range(2)]
    eager = models[0](*inputs[0])
    result = compiled(models[1], **settings)(*inputs[1])
    same_outside(result, eager, inputs[1], inputs[0])
    backward(eager), backward(result)
    for actual, expected in zip(tensors(inputs[1]), tensors(inputs[0])):
        same_gradient(actual, expected)
    if isinstance(function, torch.nn.Module):
        for module, other in [(models[1], models[0])]:
            for (name, actual), (_, expected) in zip(module.state_dict(keep_vars=True).items(),
                                                     other.state_dict(keep_vars=True).items()):
                same(actual.detach(), expected.detach(), name)
                same_gradient(actual, expected)
    if expect is not None:
        state = state_of([one for one in compilations() if id(one) not in before])
        assert state == expect, [one.fallbacks for one in compilations() if id(one) not in before]
    del kept
    return result


def tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def same(actual: torch.Tensor, expected: torch.Tensor, where: str = "") -> None:
    if expected.dtype.itemsize == 1 and expected.dtype.is_floating_point:
        actual, expected = actual.view(torch.uint8), expected.view(torch.uint8)
    tolerance = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(expected.dtype, 1e-5)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True,
                               msg=lambda text: f"{where}: {text}")


def same_gradient(actual: torch.Tensor, expected: torch.Tensor) -> None:
    if not expected.is_leaf:
        return
    assert (actual.grad is None) == (expected.grad is None)
    if expected.grad is not None:
        same(actual.grad, expected.grad, "gradient")
        assert actual.grad.dtype == expected.grad.dtype


def same_outside(result: Any, eager: Any, given: Sequence[Any], given_eager: Sequence[Any]) -> None:
    """All that can be seen of results and of arguments without going backward."""
    assert pytree.tree_structure(result) == pytree.tree_structure(eager)
    for actual, expected in zip(pytree.tree_leaves((result, given)), pytree.tree_leaves((eager, given_eager))):
        assert type(actual) is type(expected), (type(actual), type(expected))
        if not isinstance(expected, torch.Tensor):
            assert actual == expected or (actual != actual and expected != expected)
            continue
        assert (actual.shape, actual.dtype, actual.layout) == (expected.shape, expected.dtype, expected.layout)
        assert actual.requires_grad == expected.requires_grad
        if expected.layout == torch.strided:
            assert actual.numel() == 0 or strides(actual) == strides(expected), (actual.stride(), expected.stride())
        same(actual.detach(), expected.detach())
    assert places(tensors((result, given))) == places(tensors((eager, given_eager)))


def strides(tensor: torch.Tensor) -> list[int]:
    """The strides that matter: those of dims with more than one element."""
    return [stride for size, stride in zip(tensor.shape, tensor.stride()) if size > 1]


def places(found: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    """For each tensor the first one with its memory, and where in it the tensor begins."""
    found = [t for t in found if t.layout == torch.strided and type(t) in (torch.Tensor, torch.nn.Parameter)]
    pointers = [t.untyped_storage().data_ptr() if t.numel() else -i for i, t in enumerate(found)]
    first = [pointers.index(pointer) for pointer in pointers]
    return [(at, (t.data_ptr() - pointers[at]) if t.numel() else 0) for at, t in zip(first, found)]


def backward(result: Any) -> None:
    leaves = [t for t in tensors(result) if t.requires_grad and (t.is_floating_point() or t.is_complex())]
    if leaves:
        total = sum((torch.view_as_real(t) if t.is_complex() else t).float().cos().sum() for t in leaves)
        total.backward()
