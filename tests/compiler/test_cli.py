"""The commands `compile` and `run`, in this process: what they write, print and answer."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from tilewright import cli
from tilewright.cli_run import make_leaves, name_leaves
from tilewright.ir.text import parse_ir, print_ir

SOURCE = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(8, 4)
        self.table = torch.nn.Embedding(6, 8)

    def forward(self, x, index, *, scale=1.0):
        return {"probabilities": torch.softmax(self.linear(x + self.table(index)) * scale, -1), "index": index + 1}

def make():
    return Model().eval(), (torch.ones(3, 8), torch.tensor([0, 1, 5])), {"scale": 2.0}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "tiny.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def artifact(file):
    path = file.parent / "tiny.tw"
    assert cli.main(["compile", str(file), "-o", str(path)]) == 0
    return path


def test_compile_to_an_artifact_prints_tables(file, tmp_path, capsys):
    assert cli.main(["compile", str(file), "-o", str(tmp_path / "m.tw")]) == 0
    out, err = capsys.readouterr()
    assert "softmax" in out and "wrote" in out and "loop" in out
    assert (tmp_path / "m.tw").is_file() and err == ""


def test_compile_json_is_the_statistics(file, tmp_path, capsys):
    assert cli.main(["compile", str(file), "-o", str(tmp_path / "m.tw"), "--json", "--verify", "numeric"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["kernels"] and stats["fallbacks"] == [] and stats["passes"] and stats["compile_seconds"]


def test_compile_to_a_directory(file, tmp_path, capsys):
    assert cli.main(["compile", str(file), "-o", str(tmp_path), "--dump-ir", str(tmp_path / "dumps")]) == 0
    names = sorted(path.name for path in tmp_path.glob("*.mlir"))
    assert names[0] == "00_import.mlir" and names[-1].endswith("_plan_memory.mlir")
    for name in names:
        text = (tmp_path / name).read_text()
        assert text == (tmp_path / "dumps" / name).read_text()
        provenance, _, module = text.partition("\n")
        assert provenance.startswith("// tilewright ") and print_ir(parse_ir(text, name)) == module
    assert (tmp_path / "tiny.tw").is_file() and "<html" in (tmp_path / "report.html").read_text()
    assert "def run(" in (tmp_path / "host.py").read_text()
    assert json.loads((tmp_path / "stats.json").read_text())["kernels"]
    assert list((tmp_path / "dumps").rglob("00_import.mlir"))
    kernels = list((tmp_path / "kernels").iterdir())
    assert kernels and all((folder / "kernel.cpp").is_file() for folder in kernels)
    command = [sys.executable, kernels[0] / "kernel.py", "--seconds", "0.01"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("words, status, message", [
    (["compile", "{file}"], 2, "-o"),
    (["compile", "{file}:absent", "-o", "{dir}/m.tw"], 1, "no function 'absent'"),
    (["compile", "{dir}/absent.py", "-o", "{dir}/m.tw"], 1, "no file"),
    (["compile", "{file}", "-o", "{dir}/m.tw", "--verify", "numerc"], 2, "did you mean 'numeric'"),
    (["compile", "{file}", "-o", "{dir}/m.tw", "--quantize", "int8"], 2, "not available in this version"),
    (["compile", "{file}", "-o", "{dir}/m.tw", "--passes", "cse,simplfy"], 2, "did you mean 'simplify'"),
    (["compile", "{file}", "-o", "{dir}/m.tw", "--verfy", "ir"], 2, "--verfy ir; did you mean '--verify'"),
    (["compile", "{file}", "-o", "{dir}/m.tw", "--verfy=ir"], 2, "did you mean '--verify'"),
    (["compile", "{file}", "-o", "{dir}/m.tw", "--passes", "cse"], 2, "lower and plan-memory are needed"),
    (["compile", "{file}", "-o", "{dir}/m.tw", "--passes", "default,-lower"], 2, "lower and plan-memory are needed"),
    (["compile", "{file}", "-o", "{dir}/m.tw", "--passes", "default,-plan-memory"], 2, "plan-memory are needed"),
    (["run", "{dir}/absent.tw"], 1, "no file"),
    (["run", "{file}"], 1, "not an artifact"),
    (["run", "{artifact}", "--repeat", "0"], 2, "at least 1"),
    (["run", "{artifact}", "--input", "{dir}/absent.safetensors"], 1, "no file"),
    (["run", "{artifact}", "--input", "{file}"], 1, "not a safetensors file"),
    (["rum"], 2, "did you mean 'run'"),
])
def test_failures_are_messages_with_a_status(file, artifact, tmp_path, capsys, words, status, message):
    assert cli.main([w.format(file=file, dir=tmp_path, artifact=artifact) for w in words]) == status
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_run_with_random_inputs(artifact, capsys):
    assert cli.main(["run", str(artifact), "--repeat", "3"]) == 0
    out = capsys.readouterr().out
    assert "probabilities" in out and "median of 3 calls" in out


def test_run_with_given_inputs_writes_outputs(artifact, tmp_path, capsys):
    x, index = torch.randn(3, 8), torch.tensor([5, 0, 2])
    save_file({"x": x, "index": index}, tmp_path / "x.safetensors")
    words = ["run", str(artifact), "--input", str(tmp_path / "x.safetensors"),
             "--output", str(tmp_path / "y.safetensors"), "--repeat", "2", "--json"]
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told["outputs"]] == ["probabilities", "index"] and len(told["seconds"]) == 2
    results = load_file(tmp_path / "y.safetensors")
    namespace: dict = {}
    exec(SOURCE, namespace)
    model, _, kwargs = namespace["make"]()
    torch.testing.assert_close(results["probabilities"], model(x, index, **kwargs)["probabilities"])
    assert torch.equal(results["index"], index + 1)


@pytest.mark.parametrize("tensors, message", [
    ({"x": torch.zeros(3, 8)}, "no tensor is given for index"),
    ({"y": torch.zeros(3, 8)}, "no argument 'y'"),
    ({"x": torch.zeros(3, 8), "index": torch.zeros(3)}, "'index' is float32[3]"),
    ({"x": torch.zeros(2, 8), "index": torch.zeros(3, dtype=torch.int64)}, "'x' is of size [2, 8]"),
])
def test_wrong_inputs_are_named(artifact, tmp_path, capsys, tensors, message):
    save_file(tensors, tmp_path / "x.safetensors")
    assert cli.main(["run", str(artifact), "--input", str(tmp_path / "x.safetensors")]) == 1
    assert message in capsys.readouterr().err


def test_random_inputs_are_the_same_for_a_seed(artifact):
    import tilewright

    signature = tilewright.load(artifact).signature
    first, again, other = (make_leaves(signature, None, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    assert first[1].dtype == torch.int64 and set(first[1].tolist()) <= {0, 1}


def test_leaves_are_named_by_their_paths():
    assert name_leaves({"a": (1, {"b": 2})}) == {"a.0": 1, "a.1.b": 2}
    assert name_leaves(5) == {"result": 5}
