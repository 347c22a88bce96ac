"""Compiling for GPUs on a machine without one: what is written, the table, errors; with Triton, the machine code."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

from tilewright import offline
from tilewright.cli import main
from tilewright.codegen.triton.build import BuiltKernel, occupancy, resources
from tilewright.export import export_graph
from tilewright.ir.errors import KernelBuildError, UnsupportedTargetError
from tilewright.ir.target import target
from tilewright.offline import aligned_pointers, compile_offline
from tilewright.options import Options

WITH_TRITON = importlib.util.find_spec("triton") is not None
SPEC = """
import torch

def softmax(x):
    return torch.softmax(x * 2, -1)

def make():
    return softmax, (torch.randn(32, 1000),)

def special():
    return lambda x: torch.special.i0e(x) + 1, (torch.randn(32),)
"""
# As ptxas says it.
REPORT = """4096 bytes shared
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : Function properties for k
    24 bytes stack frame, 16 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(SPEC)
    return path


@pytest.fixture
def fake_build(monkeypatch, tmp_path):
    """Machine code for every kernel, as far as files go."""
    ptx, cubin = tmp_path / "x.ptx", tmp_path / "x.cubin"
    ptx.write_text(".target sm_90a")
    cubin.write_bytes(b"\x7fELF")
    seen = {}

    def build(kernels, aligned, where):
        seen.update(zip((k.name for k in kernels), aligned))
        return [BuiltKernel(k.name, ptx, cubin, 40, 0, 4096, 0.5) for k in kernels]

    monkeypatch.setattr(offline, "build_kernels", build)
    return seen


def test_everything_is_written_and_the_table_is_whole(spec, tmp_path, fake_build, capsys):
    out = tmp_path / "out"
    assert main(["compile", f"{spec}:make", "--target", "sm_90", "-o", str(out), "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats == json.loads((out / "stats.json").read_text())
    [kernel] = stats["kernels"]
    facts = [kernel[name] for name in ("registers", "spill_bytes", "shared_bytes", "occupancy")]
    assert facts == [40, 0, 4096, 0.5]
    assert kernel["schedule"] == {"COLS": 1024, "num_warps": 4, "num_stages": 1} and kernel["grid"] == "32"
    assert kernel["predicted_s"] > 0 and stats["target"]["name"] == "sm_90"
    place = out / "kernels" / kernel["name"]
    assert {p.name for p in place.iterdir()} == {"kernel.py", "kernel.mlir", "kernel.ptx", "kernel.cubin"}
    assert (place / "kernel.py").read_text() == kernel["source"]
    assert (out / "00_import.mlir").exists() and len(list(out.glob("*.mlir"))) == len(stats["passes"]) + 1
    assert fake_build == {kernel["name"]: ["x_ptr", "softmax_ptr"]}
    assert main(["compile", f"{spec}:make", "--target", "sm_90", "-o", str(out)]) == 0
    assert "4096" in capsys.readouterr().out


def test_what_triton_cannot_say_is_told_and_the_rest_is_written(spec, tmp_path, fake_build, capsys):
    out = tmp_path / "out"
    assert main(["compile", f"{spec}:special", "--target", "sm_90", "-o", str(out)]) == 1
    assert "i0e is a series" in capsys.readouterr().err
    assert list(out.glob("kernels/*/kernel.mlir"))


def test_outputs_and_runs_that_need_a_device_are_refused(spec, tmp_path, fake_build, capsys):
    assert main(["compile", f"{spec}:make", "--target", "sm_90", "-o", str(tmp_path / "m.tw")]) == 1
    assert "host program for GPUs" in capsys.readouterr().err
    assert main(["compile", f"{spec}:make", "--target", "sm_90", "-o", str(tmp_path / "out")]) == 0
    assert main(["run", str(tmp_path / "out")]) == 1
    assert "kernels for sm_90" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["run", str(tmp_path / "empty")]) == 1
    assert "is a directory" in capsys.readouterr().err


@pytest.mark.skipif(WITH_TRITON, reason="Triton is there")
def test_without_triton_the_sources_are_written_and_the_reason_is_told(spec, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["compile", f"{spec}:make", "--target", "sm_90", "-o", str(out)]) == 1
    assert "pip install tilewright[gpu]" in capsys.readouterr().err
    assert list(out.glob("kernels/*/kernel.py"))


@pytest.mark.skipif(not WITH_TRITON, reason="needs Triton")
@pytest.mark.parametrize("name", ["sm_80", "sm_90", "sm_100"])
def test_machine_code_for_each_target(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    exported = export_graph(lambda x: torch.softmax(x * 2, -1), (torch.randn(32, 1000),), None, None)
    for _ in range(2):  # the second time from the cache
        [kernel] = compile_offline(exported.graph_module, Options.make({}), name).kernels
        assert kernel.built is not None, kernel.reason
        assert kernel.built.spill_bytes == 0 < kernel.built.registers and 0 < kernel.built.occupancy <= 1
        assert kernel.built.cubin.read_bytes()[:4] == b"\x7fELF" and name in kernel.built.ptx.read_text()


def test_what_ptxas_says_is_read():
    assert resources(REPORT) == (40, 16, 4096)
    with pytest.raises(KernelBuildError, match="tells nothing"):
        resources("nothing")


@pytest.mark.parametrize("registers, shared, warps, expected", [
    (32, 0, 4, 1.0),  # all warps
    (128, 0, 4, 0.25),  # registers: 4 programs of 4 warps
    (32, 100 << 10, 4, 0.125),  # shared memory: 2 programs
    (16, 0, 1, 0.5),  # no more than 32 programs
    (255, 0, 16, 0.0),  # does not fit
])
def test_occupancy(registers, shared, warps, expected):
    assert occupancy(registers, shared, warps, target("sm_90")) == expected


def test_pointers_are_aligned_where_all_launches_are():
    def model(x):
        y = x * 2
        return y, y[1:] + 1, y[4:] + 3

    exported = export_graph(model, (torch.randn(9),), None, None)
    # As kernels of their own, the second reads a float after the beginning, the third four.
    options = Options.make({"passes": "default,-fuse"})
    module = compile_offline(exported.graph_module, options, "sm_90").module
    flags = aligned_pointers(module)
    assert all(flags[name][-1] for name in flags)
    assert sorted(pointers[0] for pointers in flags.values()) in ([False, True, True], [True] * len(flags))


def test_targets_differ_only_in_what_they_can():
    exported = export_graph(lambda x: x.float() + 1, (torch.randn(8).to(torch.float8_e4m3fn),), None, None)
    old, new = (compile_offline(exported.graph_module, Options.make({}), name).kernels for name in ("sm_80", "sm_90"))
    assert "no conversions" in old[0].reason and new[0].printed is not None


def test_other_ways_to_a_gpu_are_still_closed():
    with pytest.raises(Exception, match="not available"):
        Options.make({"target": "sm_90"})
    assert issubclass(UnsupportedTargetError, Exception)
