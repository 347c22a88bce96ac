"""Weights that change after compiling, and copies of compiled models."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from contracts import compiled, same

import tilewright
from tilewright.ir.errors import TilewrightError

X = torch.linspace(-2, 2, 24).view(4, 6)


def small(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).eval()


def set_data(model):
    model[0].weight.data = torch.linspace(0, 1, 30).view(5, 6)


def set_data_strided(model):
    model[0].weight.data = torch.linspace(0, 1, 30).view(6, 5).t()


def load_state(model):
    model.load_state_dict(small(1).state_dict())


def load_state_assigning(model):
    model.load_state_dict(small(1).state_dict(), assign=True)


def new_parameter(model):
    model[0].weight = torch.nn.Parameter(torch.linspace(0, 1, 30).view(5, 6))


def another_shape(model):
    model[0], model[2] = torch.nn.Linear(6, 3), torch.nn.Linear(3, 2)


def to_bfloat16(model):
    model.to(torch.bfloat16)


def to_double_and_back(model):
    model.double().float()


def in_place(model):
    with torch.no_grad():
        model[0].weight.mul_(2)


def swapped_module(model):
    model[1] = torch.nn.GELU()


CHANGES = [set_data, set_data_strided, load_state, load_state_assigning, new_parameter, another_shape, to_bfloat16,
           to_double_and_back, in_place, swapped_module]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_weights_replaced_after_compile(change, training):
    """The next call uses the new weights."""
    model = small()
    call = compiled(model)
    with torch.set_grad_enabled(training):
        call(X)
        change(model)
        x = X.to(model[2].weight.dtype)
        same(call(x), model(x))
        in_place(model)
        same(call(x), model(x))
    if training:
        call(x).sum().backward()
        gradient = model[0].weight.grad.clone()
        model.zero_grad()
        model(x).sum().backward()
        same(gradient, model[0].weight.grad)


def test_weights_of_a_model_compiled_ahead_of_time():
    """`tilewright.compile` follows changes in place, not tensors put in the weights' place."""
    model = small()
    call = tilewright.compile(model, (X,))
    for change in (in_place, load_state):
        change(model)
        same(call(X), model(X).detach())


def test_deepcopy_of_a_compiled_module():
    model = compiled(small())
    with torch.no_grad():
        before = model(X)
        copied = copy.deepcopy(model)
        in_place(copied._orig_mod)
        same(model(X), before)
        same(copied(X), copied._orig_mod(X))
        assert not torch.equal(copied(X), before)


def test_pickle_of_a_compiled_module():
    """The wrapper of torch.compile is pickled as the module that it wraps; weights go by `state_dict` as well."""
    model = compiled(small())
    expected = model(X)
    again = pickle.loads(pickle.dumps(model))
    same(again(X), expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = compiled(small(1))
    other.load_state_dict(torch.load(file))
    same(other(X), expected)


@pytest.mark.parametrize("way", [pickle.dumps, copy.deepcopy, lambda m: torch.save(m, io.BytesIO())],
                         ids=["pickle", "deepcopy", "torch.save"])
def test_copies_of_a_model_compiled_ahead_of_time_are_refused(way):
    model = tilewright.compile(small(), (X,))
    with pytest.raises(TilewrightError, match=r"\.save\("):
        way(model)


def test_torch_jit_is_refused():
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace a dynamo-optimized function"):
        torch.jit.trace(compiled(small()), (X,))
    with pytest.raises((RuntimeError, ValueError)):
        torch.jit.script(compiled(small()))
    ahead = tilewright.compile(small(), (X,))
    with pytest.raises(TilewrightError, match=r"torch\.jit"):
        torch.jit.script(ahead)
    with pytest.raises(TilewrightError, match=r"torch\.jit"):
        torch.jit.trace(lambda x: ahead(x) + 1, (X,))


def test_torch_package_is_refused():
    with torch.package.PackageExporter(io.BytesIO()) as exporter, pytest.raises(TilewrightError, match=r"\.save\("):
        exporter.save_pickle("model", "model.pkl", tilewright.compile(small(), (X,)))


def test_a_model_compiled_ahead_of_time_inside_of_torch_compile():
    """The graph breaks there; what is machine code already is called as it is."""
    ahead = tilewright.compile(small(), (X,))
    same(compiled(lambda x: torch.exp(ahead(x * 2)) + 1)(X), torch.exp(small()(X * 2)).detach() + 1)


def test_tensors_that_a_model_compiled_ahead_of_time_does_not_take():
    model = tilewright.compile(lambda x: x * 2 + 1, (X,))
    odd = torch.complex(X, X.flip(0)).conj().imag  # stored with the other sign
    assert odd.is_neg()
    same(model(odd), odd * 2 + 1)
    with pytest.raises(TilewrightError, match="another kind"):
        model(X.to_sparse())
    with pytest.raises(TilewrightError, match="another kind"):
        model(torch.masked.masked_tensor(X, X > 0))
    with pytest.raises(RuntimeError):
        torch.vmap(tilewright.compile(lambda x: x * 2 + 1, (X[0],)))(X)
