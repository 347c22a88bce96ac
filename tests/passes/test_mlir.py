"""Runs the text tests: each `tests/passes/*.mlir` says in its first lines how it is run and checked.

    // RUN: tilewright opt %s -p "simplify" | filecheck %s

The command runs in this process; `%s` is the file. A file may have several RUN lines, with a `--check-prefix` each.
"""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import parse_argv_options
from filecheck.parser import Parser

from tilewright.cli import main
from tilewright.passes.registry import MODULES

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.mlir"))


def run_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run every RUN line of a file. Raises AssertionError with FileCheck's message, or the command's."""
    lines = [line.partition("RUN:")[2] for line in path.read_text().splitlines() if line.startswith("// RUN:")]
    assert lines, f"{path.name} has no RUN line"
    for line in lines:
        words = [str(path) if word == "%s" else word for word in shlex.split(line)]
        bar = words.index("|")
        command, check = words[:bar], words[bar + 1 :]
        assert command[:2] == ["tilewright", "opt"] and check[0] == "filecheck", f"{path.name}: cannot run {line}"
        capsys.readouterr()
        status = main(command[1:])
        output = capsys.readouterr()
        assert status == 0, output.err
        options = parse_argv_options(check)
        matcher = Matcher(options, FInput("<output>", output.out), Parser.from_opts(options))
        matcher.stderr = io.StringIO()
        assert matcher.run() == 0, f"{matcher.stderr.getvalue()}\n{output.out}"


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_file(path, capsys):
    run_file(path, capsys)


@pytest.mark.parametrize("name", MODULES)
def test_every_pass_has_a_text_test_and_a_numeric_one(name):
    stem = name.replace("-", "_")
    assert (HERE / f"{stem}.mlir").exists()
    assert (HERE / f"test_{stem}.py").exists()


IR = """
func.func @forward(%x: !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> {
  %a = tw.map "neg" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
  tw.return %a : !tw.tensor<[4], f32>
}
"""
RUN = '// RUN: tilewright opt %s -p "cse" | filecheck %s\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RUN + '// CHECK: tw.map "neg" %x\n// CHECK-NOT: tw.map\n' + IR, None),
        (RUN + '// CHECK: tw.map "exp" %x\n' + IR, "error"),
        (RUN + "// CHECK-NOT: tw.map\n// CHECK: return\n" + IR, "error"),
        (RUN + IR, "No check strings"),
        ("// CHECK: tw.map\n" + IR, "has no RUN line"),
        (RUN.replace("cse", "no-such-pass") + "// CHECK: tw.map\n" + IR, "unknown pass"),
        (RUN + "// CHECK: tw.map\nfunc.func", "1"),
        (RUN.replace("filecheck %s", "filecheck %s --check-prefix=B") + "// B: neg\n// CHECK: exp\n" + IR, None),
        (RUN.replace("filecheck", "cat") + IR, "cannot run"),
    ],
)
def test_the_harness_itself(text, message, tmp_path, capsys):
    path = tmp_path / "case.mlir"
    path.write_text(text)
    if message is None:
        run_file(path, capsys)
    else:
        with pytest.raises(AssertionError, match=message):
            run_file(path, capsys)
