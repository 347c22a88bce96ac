"""SPEC: each way to name a model, and each way in which that can fail."""

from __future__ import annotations

import pytest
import torch

from tilewright.ir.errors import SpecError
from tilewright.spec import load_spec

SOURCE = """
import torch
from neighbour import SIZE

class Model(torch.nn.Module):
    def forward(self, x, scale=1.0):
        return x * scale

value = 3

def make():
    return Model(), (torch.ones(SIZE),)

def scaled():
    return Model(), [torch.ones(SIZE)], {"scale": 2.0}

def failing():
    raise ValueError("no weights here")

def single():
    return (Model(),)

def nothing():
    return None

def no_model():
    return 3, ()

def no_args():
    return Model(), torch.ones(2)

def bad_kwargs():
    return Model(), (), {1: 2}

def needy(path):
    return Model(), ()
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "neighbour.py").write_text("SIZE = 4\n")
    path = tmp_path / "tiny_model.py"
    path.write_text(SOURCE)
    return path


def test_file_means_its_make(file):
    spec = load_spec(str(file))
    assert spec.name == "tiny_model" and spec.kwargs == {}
    assert spec.model(*spec.args).shape == (4,)


def test_function_of_a_file_with_kwargs(file):
    spec = load_spec(f"{file}:scaled")
    assert (spec.name, spec.kwargs) == ("scaled", {"scale": 2.0})
    assert isinstance(spec.args, tuple)


def test_module_and_function(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    monkeypatch.syspath_prepend(str(file.parent))
    spec = load_spec("tiny_model:make")
    assert spec.name == "tiny_model" and torch.equal(spec.args[0], torch.ones(4))


def test_exported_program(tmp_path):
    program = torch.export.export(torch.nn.Linear(2, 3), (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / "linear.pt2")
    spec = load_spec(str(tmp_path / "linear.pt2"))
    assert spec.name == "linear" and spec.args[0].shape == (1, 2)


@pytest.mark.parametrize("text, message", [
    ("{dir}/absent.py", "no file"),
    ("{dir}/absent.pt2", "no file"),
    ("{file}:mkae", "has no function 'mkae'; did you mean 'make'"),
    ("{file}:value", "not a function"),
    ("{file}:failing", "no weights here"),
    ("{file}:needy", "path"),
    ("{file}:single", r"a tuple of 1, not \(model, args\)"),
    ("{file}:nothing", "a NoneType, not"),
    ("{file}:no_model", "cannot be called"),
    ("{file}:no_args", "args is a Tensor"),
    ("{file}:bad_kwargs", "names as keys"),
    ("{dir}/broken.py", "SyntaxError"),
    ("{dir}/broken.pt2", "not a model that torch.export.load reads"),
    ("no_such_module_at_all:make", "ModuleNotFoundError"),
    ("just_a_word", "is not a SPEC"),
    ("", "is not a SPEC"),
])
def test_failures_are_told(file, text, message):
    (file.parent / "broken.py").write_text("def make(:\n")
    (file.parent / "broken.pt2").write_bytes(b"not a zip")
    with pytest.raises(SpecError, match=message):
        load_spec(text.format(dir=file.parent, file=file))
