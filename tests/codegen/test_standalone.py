"""A kernel that stands alone runs, agrees with the interpreter, and says when it does not."""

from __future__ import annotations

import subprocess
import sys

from kernel_cases import read_kernel

from tilewright.codegen.cpp.standalone import write_standalone
from tilewright.ir.text import parse_ir, print_ir

SHAPES = {
    "softmax": ([(700, "f32"), (700, "f32")], {"s0": 7, "s1": 100}),
    "gather": ([(400, "f32"), (30, "i64"), (120, "f32")], {"s0": 30, "s1": 4}),
}


def run(path):
    return subprocess.run(
        [sys.executable, str(path), "--seconds", "0.01"], capture_output=True, text=True, timeout=300
    )


def test_the_folder_holds_the_program_the_source_and_the_script(tmp_path):
    kernel = read_kernel("softmax")
    path = write_standalone(kernel, *SHAPES["softmax"], tmp_path / "softmax_0")
    assert sorted(p.name for p in path.parent.iterdir()) == ["kernel.cpp", "kernel.mlir", "kernel.py"]
    text = (path.parent / "kernel.mlir").read_text()
    assert print_ir(parse_ir(text)) == text
    assert "from model.py:3" in path.read_text()
    result = run(path)
    assert result.returncode == 0, result.stderr
    assert "softmax: agrees with the interpreter" in result.stdout and "GB/s" in result.stdout


def test_positions_are_made_in_range(tmp_path):
    result = run(write_standalone(read_kernel("gather"), *SHAPES["gather"], tmp_path))
    assert result.returncode == 0, result.stderr


def test_a_wrong_kernel_is_caught(tmp_path):
    path = write_standalone(read_kernel("softmax"), *SHAPES["softmax"], tmp_path)
    source = tmp_path / "kernel.cpp"
    text = source.read_text()
    assert "e / sum" in text
    source.write_text(text.replace("e / sum", "e * sum"))
    result = run(path)
    assert result.returncode != 0
    assert "kernel softmax: pointer 1 differs from the interpreter" in result.stderr
