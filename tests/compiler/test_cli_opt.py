"""`tilewright opt`, and the frame of the command: status, what goes to which stream, no torch."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright import __version__
from tilewright.cli import COMMANDS, main
from tilewright.ir.text import parse_ir, print_ir
from tilewright.passes.registry import MODULES

DATA = Path(__file__).parents[1] / "data"
TEXT = """func.func @forward(%x: !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> {
  %a = tw.map "neg" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> loc("model.py":3:0)
  %b = tw.map "neg" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> loc("model.py":4:0)
  %c = tw.map "add" %a, %b : (!tw.tensor<[4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
  tw.return %c : !tw.tensor<[4], f32>
}"""


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / "in.mlir"
    path.write_text(TEXT)
    return str(path)


@pytest.mark.parametrize("name", ["tw", "prog"])
def test_without_passes_the_text_comes_back(name, capsys):
    assert main(["opt", str(DATA / f"{name}.mlir")]) == 0
    assert capsys.readouterr().out == (DATA / f"{name}.mlir").read_text()


def test_passes_run(file, capsys):
    assert main(["opt", file, "-p", "cse,dce"]) == 0
    out, err = capsys.readouterr()
    assert out.count('tw.map "neg"') == 1 and err == ""


def test_standard_input_is_the_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(TEXT))
    assert main(["opt"]) == 0
    assert capsys.readouterr().out == print_ir(parse_ir(TEXT))


def test_output_goes_to_a_file(file, tmp_path, capsys):
    target = tmp_path / "out.mlir"
    assert main(["opt", file, "-o", str(target)]) == 0
    assert target.read_text() == print_ir(parse_ir(TEXT)) and capsys.readouterr().out == ""


@pytest.mark.parametrize("flag", ["--verify-each", "--verify-each=ir", "--verify-each=numeric", "--verify-each=off"])
def test_verify_each(flag, file, capsys):
    assert main(["opt", flag, file, "-p", "cse,dce"]) == 0
    assert capsys.readouterr().out.count('tw.map "neg"') == 1


def test_verify_each_checks_what_stages_ask(tmp_path, capsys):
    path = tmp_path / "unbound.mlir"
    path.write_text(TEXT.replace("[4]", "[s0]"))
    assert main(["opt", str(path)]) == 0
    capsys.readouterr()
    assert main(["opt", str(path), "--verify-each"]) == 1
    assert "s0 in s0 is not among the function's symbols" in capsys.readouterr().err


def test_print_ir_after_all(file, capsys):
    assert main(["opt", file, "-p", "cse,dce", "--print-ir-after-all"]) == 0
    out, err = capsys.readouterr()
    assert err.count("builtin.module") == 2
    assert "// after pass 1 of 2: cse" in err and "// after pass 2 of 2: dce" in err
    assert parse_ir(err.partition("// after pass 2 of 2: dce\n")[2]).is_structurally_equivalent(parse_ir(out))


def test_time_passes_stands_apart_from_the_ir(file, tmp_path, capsys):
    assert main(["opt", file, "-p", "cse,dce", "--time-passes"]) == 0
    out, err = capsys.readouterr()
    parse_ir(out)
    assert "kernels" in err and "3 → 2" in err
    assert main(["opt", file, "-p", "cse", "--time-passes", "-o", str(tmp_path / "o")]) == 0
    out, err = capsys.readouterr()
    assert "3 → 2" in out and err == ""


def test_time_passes_as_json(file, tmp_path, capsys):
    assert main(["opt", file, "-p", "cse,dce", "--time-passes", "--json", "-o", str(tmp_path / "o")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["ops_before"], row["ops_after"]) for row in rows] == [("cse", 3, 2), ("dce", 2, 2)]


def test_dump_ir(file, tmp_path, capsys):
    assert main(["opt", file, "-p", "cse,dce", "--dump-ir", str(tmp_path / "dumps")]) == 0
    assert sorted(path.name for path in (tmp_path / "dumps").iterdir()) == [
        "00_import.mlir", "01_cse.mlir", "02_dce.mlir"
    ]
    assert (tmp_path / "dumps" / "02_dce.mlir").read_text().partition("\n")[2] == capsys.readouterr().out


def test_the_target_is_named_in_dumps(file, tmp_path, capsys):
    assert main(["opt", file, "--target", "sm_90", "--dump-ir", str(tmp_path)]) == 0
    assert "; target sm_90" in (tmp_path / "00_import.mlir").read_text().splitlines()[0]


def test_list_passes(capsys):
    assert main(["opt", "--list-passes"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in MODULES)
    assert main(["opt", "--list-passes", "--json"]) == 0
    assert {*MODULES} <= {row["name"] for row in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        ([], 2, "a command is needed"),
        (["ot"], 2, "unknown command 'ot'; did you mean 'opt'?"),
        (["opt", "FILE", "-p", "csee"], 2, "unknown pass 'csee'; did you mean 'cse'?"),
        (["opt", "FILE", "-p", "cse{a=1}"], 2, "has no option 'a'"),
        (["opt", "FILE", "-p", "cse,"], 2, "expected a pass"),
        (["opt", "FILE", "--target", "sm_91"], 2, "unknown target 'sm_91'"),
        (["opt", "FILE", "--verify-each=no"], 2, "invalid choice: 'no'"),
        (["opt", "FILE", "--verify"], 2, "--verify"),
        (["opt", "FILE", "FILE"], 2, "unrecognized arguments"),
        (["opt", "no/such/file.mlir"], 1, "no/such/file.mlir: No such file or directory"),
        (["opt", "FILE", "-o", "/no/such/folder/o"], 1, "/no/such/folder/o: No such file or directory"),
        (["opt", "BAD"], 1, "bad.mlir:1:9"),
        (["opt", "BYTES"], 1, "is not UTF-8 text"),
    ],
)
def test_errors_are_messages(argv, status, message, file, tmp_path, capsys):
    (tmp_path / "bad.mlir").write_text("nonsense")
    (tmp_path / "bytes.mlir").write_bytes(b"\xff\xfe")
    files = {"FILE": file, "BAD": str(tmp_path / "bad.mlir"), "BYTES": str(tmp_path / "bytes.mlir")}
    assert main([files.get(word, word) for word in argv]) == status
    out, err = capsys.readouterr()
    assert out == "" and message in err and "Traceback" not in err


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tilewright {__version__}\n"
    assert main(["opt", "--help"]) == 0
    assert "--verify-each" in capsys.readouterr().out


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tilewright", *words], input=stdin, capture_output=True, text=True, cwd="/", timeout=60
    )


def test_a_fresh_process_reads_writes_and_fails_like_a_command():
    done = run("opt", "-p", "canonicalize,simplify,cse,dce", stdin=TEXT)
    assert done.returncode == 0 and done.stderr == ""
    parse_ir(done.stdout)
    failed = run("opt", stdin="nonsense")
    assert failed.returncode == 1 and failed.stdout == "" and "Traceback" not in failed.stderr


def test_a_reader_that_leaves_is_no_failure_of_ours():
    command = f"{sys.executable} -m tilewright opt {DATA / 'tw.mlir'} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd="/", timeout=60)
    assert done.stderr == ""


def test_opt_needs_neither_torch_nor_numpy_nor_sympy():
    program = (
        "import sys\nfrom tilewright.cli import main\n"
        f"assert main(['opt', {str(DATA / 'tw.mlir')!r}, '-p', 'canonicalize,fold,simplify,cse,dce,fuse', "
        "'--verify-each', '-o', '/dev/null']) == 0\n"
        "print(sorted({'torch', 'numpy', 'sympy', 'networkx', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/", timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
