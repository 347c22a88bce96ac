"""The documentation is true: its links, its names, what it says the compiler prints, the lines it says to add.

A block of code carries more than its language: a file that its text is for (`python ir/scalars.py`), or a stage that
prints it (`mlir fuse`). In what is printed `…` stands for anything within a line, and alone for any lines.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

import tilewright
from tilewright.ir import scalars
from tilewright.ir.rewrite import Rule
from tilewright.passes import registry
from tilewright.passes.base import PASSES
from tilewright.passes.pipelines import DEFAULT
from tilewright.passes.rules import algebra

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


@dataclass(frozen=True)
class Block:
    """A block of code: what stands after its language, the heading above it, its text."""

    name: str
    section: str
    text: str

    @property
    def lines(self) -> int:
        """How many lines there are to add: blank ones do not count."""
        return sum(bool(line.strip()) for line in self.text.splitlines())


def blocks(page: str) -> list[Block]:
    found, section = [], ""
    text = (ROOT / "docs" / page).read_text()
    for match in re.finditer(r"^## ([^\n]*)$|^```(\w+) ?(\S*)\n(.*?)^```$", text, re.M | re.S):
        if match[1]:
            section = match[1]
        else:
            found.append(Block(match[3] or match[2], section, match[4]))
    return found


def block(page: str, name: str, section: str | None = None) -> str:
    [text] = [b.text for b in blocks(page) if b.name == name and section in (None, b.section)]
    return text


def assert_printed(shown: str, printed: str) -> None:
    """Every shown line is printed, one after the other; where a `…` stands alone, anything may be between."""
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    patterns = [line.rstrip() for line in shown.splitlines() if line.strip()]
    position, free = 0, True
    for pattern in patterns:
        if pattern.strip() == "…":
            free = True
            continue
        regex = re.compile(".*".join(map(re.escape, pattern.split("…"))))
        matching = [i for i in range(position, len(lines)) if regex.fullmatch(lines[i])]
        assert matching and (free or matching[0] == position), f"not printed here: {pattern}\n{printed}"
        position, free = matching[0] + 1, False


def load_file(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Words.


@pytest.mark.parametrize("path", PAGES, ids=[p.name for p in PAGES])
def test_links_and_files_exist(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / target).exists(), target
    known = {p.relative_to(ROOT).as_posix() for folder in ("ir", "passes", "codegen", "autotune", "compiler", "tests",
             "docs", "examples", "benchmarks") for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".md", ".h")}
    for target in re.findall(r"`((?:\w+/)+\w+\.(?:py|md|h))`", text):
        assert target in known or target.startswith("build/"), target


@pytest.mark.parametrize("path", PAGES, ids=[p.name for p in PAGES])
def test_names_stand_in_the_files_they_are_said_to_be_in(path):
    for file, names in re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", path.read_text()):
        source = (ROOT / file).read_text()
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^\s*(def|class) {name}\b|^{name}\b", source, re.M), f"{file}: {name}"


def test_the_pipeline_is_the_default_one():
    rows = re.findall(r"^\| `([\w-]+)` \| `([\w/.]+)` \| (.*) \|$", (ROOT / "docs/architecture.md").read_text(), re.M)
    assert [(name, reason) for name, _, reason in rows] == DEFAULT
    modules = {name: module.removeprefix("tilewright.").replace(".", "/") + ".py"
               for name, module in registry.MODULES.items()}
    assert [file for _, file, _ in rows] == [modules[name] for name, _ in DEFAULT]


def test_the_reference_is_what_the_docstrings_say():
    generate = load_file(ROOT / "docs/generate_ir.py", "generate_ir")
    assert generate.PAGE.read_text() == generate.page(), "run `python docs/generate_ir.py`"


# The example at every level.


@pytest.fixture
def scores(tmp_path, monkeypatch):
    """The folder with `scores.py`, which is where the process is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores.py").write_text(block("architecture.md", "model"))
    return tmp_path


def test_the_example_is_what_the_compiler_prints(scores):
    module = load_file(scores / "scores.py", "scores")
    model = tilewright.compile(*module.make())
    printed = {stage: model.ir(stage) for stage in ("import", "fuse", "lower", "plan-memory")}
    printed = {stage: re.sub(r" loc\(.*\)$", "", text, flags=re.M) for stage, text in printed.items()}
    printed |= {"kernel": model.kernels[0].source, "host": model.compilation.host_cpp}
    printed["python"] = model.compilation.host_source
    shown = [b for b in blocks("architecture.md") if b.name in printed]
    assert len(shown) == len(printed)
    for part in shown:
        assert_printed(part.text, printed[part.name])


def test_what_is_not_printed_is_found():
    printed = "a\nb\n\nc d\ne"
    for shown in ("a\nb\nc …\n", "b\nc d", "…\nc d", "a\n…\ne", "a\n…\nc d\n…"):
        assert_printed(shown, printed)
    for shown in ("x", "a\nc d", "b\na", "c", "a\n…\na"):
        with pytest.raises(AssertionError):
            assert_printed(shown, printed)


# What to add.

EXTENDING = blocks("extending.md")


def added(file: str, section: str) -> str:
    return block("extending.md", file, section)


@pytest.mark.parametrize("section", dict.fromkeys(b.section for b in EXTENDING))
def test_the_lines_are_counted(section):
    text = (ROOT / "docs/extending.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    [(code, tests)] = re.findall(r"\*\*(\d+) lines? of code, (\d+) of tests\.\*\*", text)
    parts = [b for b in EXTENDING if b.section == section]
    assert sum(b.lines for b in parts if not b.name.startswith("tests/")) == int(code)
    assert sum(b.lines for b in parts if b.name.startswith("tests/")) == int(tests)


def compiled_like_eager(function, *args):
    """Compiled without ATen, with every stage checked, and compared with eager."""
    model = tilewright.compile(function, args, fallback="error", verify="numeric")
    torch.testing.assert_close(model(*args), function(*args), equal_nan=True)
    return model


def stands_in_files(section):
    """Every line that the section shows is a line of the file it names."""
    parts = [b for b in EXTENDING if b.section == section]
    for part in parts:
        lines = set(map(str.strip, (ROOT / part.name).read_text().splitlines()))
        missing = [line for line in part.text.splitlines() if line.strip() not in lines]
        assert not missing, (part.name, missing)
    return len(parts)


def test_a_scalar_function():
    section = "A scalar function"
    assert stands_in_files(section) == 6
    [row] = eval(f"[{added('ir/scalars.py', section)}]", vars(scalars))
    assert scalars.SCALARS[row.name] == row
    values = torch.tensor([0.0, -3.0, 4.0, 1e20, float("inf"), -float("inf"), float("nan")])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = values.to(dtype)
        model = compiled_like_eager(lambda a, b: torch.hypot(a, b), x.unsqueeze(1).contiguous(), x)
        assert "tw::hypot" in model.kernels[0].source


def test_an_import_rule():
    assert stands_in_files("An import rule") == 2
    x = torch.tensor([0.0, -0.0, 3.0, -3.0, float("nan"), float("inf")])
    compiled_like_eager(lambda a, b: torch.heaviside(a, b), x.unsqueeze(1).contiguous(), x)
    compiled_like_eager(lambda a, b: torch.heaviside(a, b), torch.arange(-2, 3), torch.tensor(7))


def test_a_rewrite_rule():
    section = "A rewrite rule"
    [rule] = eval(f"[{added('passes/rules/algebra.py', section)}]", vars(algebra))
    assert isinstance(rule, Rule) and rule.name not in {r.name for r in algebra.ALGEBRA}
    check = load_file(ROOT / "tests/passes/rulecheck.py", "rulecheck_of_docs")
    names = {"Case": check.Case, "FLOATS": "f64 f32 bf16 f16"}
    cases = eval(f"{{{added('tests/passes/test_simplify.py', section)}}}", names)
    for case in cases[rule.name]:
        check.check_rule(rule, case, algebra.ALGEBRA + type(algebra.ALGEBRA)(rule))
    check.check_refused(rule, check.Case("T[3, 5]", cases[rule.name][0].build, "i64 i8"))


def test_a_pass(monkeypatch, tmp_path, capsys):
    files = {b.name: b.text for b in EXTENDING if b.section == "A pass"}
    for name, text in files.items():
        (tmp_path / Path(name).name).write_text(text)
    row = eval(f"{{{files['passes/registry.py']}}}")
    [(name, module)] = row.items()
    assert name not in registry.MODULES and not (ROOT / "passes/use_rsqrt.py").exists()
    monkeypatch.setitem(registry.MODULES, name, module)
    try:
        made = load_file(tmp_path / "use_rsqrt.py", module)
        assert registry.find_pass(name) is made.UseRsqrt
        load_file(ROOT / "tests/passes/test_mlir.py", "test_mlir_of_docs").run_file(tmp_path / "use_rsqrt.mlir", capsys)
        load_file(tmp_path / "test_use_rsqrt.py", "test_use_rsqrt").test_the_quotient_stays_near()
    finally:
        PASSES.pop(name, None)
        sys.modules.pop(module, None)


# Commands.


@pytest.mark.slow
@pytest.mark.parametrize("page", ["debugging.md", "tuning.md"])
def test_the_commands_print_what_is_shown(scores, page):
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100",
        "PYTHONPATH": str(scores), "OMP_WAIT_POLICY": "passive", "TILEWRIGHT_CACHE_DIR": str(scores / "cache"),
    }
    environment = {name: value for name, value in environment.items() if name != "TORCH_LOGS"}
    for part in blocks(page):
        if part.name != "console":
            (scores / part.name).write_text(part.text)
            continue
        for command in re.split(r"^\$ ", part.text, flags=re.M)[1:]:
            line, _, shown = command.partition("\n")
            done = subprocess.run(["bash", "-c", line], cwd=scores, env=environment, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=300)
            expected = 1 if "wrong.py" in line or "--fallback error" in line else 0
            assert done.returncode == expected, f"{line}\n{done.stdout}"
            assert_printed(shown, done.stdout)
