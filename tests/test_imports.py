"""Who may import whom: the table of the architecture, read from the sources; and what importing us drags along."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("ir", "passes", "codegen", "autotune", "compiler")
MAY_IMPORT = {
    "ir": {"ir"},
    "passes": {"passes", "ir"},
    "codegen": {"codegen", "ir"},
    "autotune": {"autotune", "ir", "codegen"},
    "compiler": set(FOLDERS),
}
# What must not be imported when a module of these folders is: it is imported by the functions that need it.
NOT_AT_IMPORT = {"ir": {"torch", "sympy", "networkx", "numpy"}, "passes": {"torch", "sympy", "networkx", "numpy"}}
# Reference code that runs IR with torch; nothing imports it at import time.
TORCH_MODULES = ("ir/interpreter/", "ir/numerics.py", "ir/random_inputs.py")

FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """The full name that a file imports as: ``tilewright.ir.expr``."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(["tilewright", *(parts[1:] if parts[0] == "compiler" else parts)])


def imported(tree: ast.AST, path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Full names of everything a file imports, wherever it stands, with the statement."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node


def folder_of(name: str) -> str | None:
    """The folder that a full name of ours lives in, None for what is not ours."""
    first, *rest = name.split(".")
    if first != "tilewright":
        return None
    return rest[0] if rest and rest[0] in FOLDERS and rest[0] != "compiler" else "compiler"


def at_import_time(tree: ast.Module) -> set[ast.stmt]:
    """The statements that run when the module is imported: not in a function, nor for type checkers only."""
    found: set[ast.stmt] = set()
    stack: list[ast.stmt] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            stack.extend(node.orelse)
            continue
        found.add(node)
        stack.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
        for handler in getattr(node, "handlers", []):
            stack.extend(handler.body)
    return found


def violations(path: Path, source: str) -> list[str]:
    """What a file imports against the table."""
    tree = ast.parse(source)
    folder = path.relative_to(ROOT).parts[0]
    early = at_import_time(tree)
    reference = path.relative_to(ROOT).as_posix().startswith(TORCH_MODULES)
    found = []
    for name, node in imported(tree, path):
        where = f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        home = folder_of(name)
        if home is not None and home not in MAY_IMPORT[folder]:
            found.append(f"{where}: {folder} may not import {home}")
        if name.split(".")[0] in FOLDERS:
            found.append(f"{where}: import it as tilewright")
        if name.split(".")[0] in NOT_AT_IMPORT.get(folder, ()) and node in early and not reference:
            found.append(f"{where}: import it in the function that needs it")
    return found


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(ROOT).as_posix() for path in FILES])
def test_imports_follow_the_table(path):
    assert violations(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("ir/x.py", "import tilewright.passes.base", True),
        ("ir/x.py", "from tilewright import passes", True),
        ("ir/x.py", "from tilewright.api import compile", True),
        ("ir/x.py", "from ..passes import base", True),
        ("ir/x.py", "from . import expr", False),
        ("ir/interpreter/x.py", "from .. import tw", False),
        ("ir/interpreter/x.py", "from ...codegen import host", True),
        ("ir/interpreter/x.py", "import torch", False),
        ("ir/x.py", "import torch", True),
        ("ir/x.py", "try:\n    import torch\nexcept ImportError:\n    pass", True),
        ("ir/x.py", "class A:\n    import sympy", True),
        ("ir/x.py", "def f():\n    import torch", False),
        ("ir/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", False),
        ("passes/x.py", "from tilewright.codegen import host", True),
        ("passes/x.py", "def f():\n    from tilewright.codegen import host", True),
        ("passes/lowering/x.py", "from ..base import Pass", False),
        ("codegen/x.py", "import torch", False),
        ("codegen/x.py", "from tilewright.passes.base import Pass", True),
        ("compiler/x.py", "from tilewright.passes.base import Pass", False),
        ("compiler/x.py", "from passes.base import Pass", True),
        ("compiler/x.py", "import ir", True),
    ],
)
def test_the_check_itself(file, source, found):
    assert bool(violations(ROOT / file, source)) is found


def loaded_after(statement: str) -> set[str]:
    """The top-level modules in `sys.modules` of a fresh process after `statement`."""
    program = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/")
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import tilewright",
        "import tilewright.ir.text, tilewright.passes.registry",
        "import tilewright.ir.cost, tilewright.ir.stages, tilewright.passes.manager",
        "from tilewright.passes.pipelines import default_pipeline; default_pipeline()",
        "from tilewright import list_passes; list_passes()",
        "import tilewright.cli, tilewright.cli_opt",
    ],
)
def test_importing_us_leaves_heavy_packages_out(statement):
    assert loaded_after(statement) & {"torch", "numpy", "sympy", "networkx", "rich"} == set()


def test_every_public_name_is_there():
    import tilewright

    assert all(hasattr(tilewright, name) for name in tilewright.__all__)
    assert {*tilewright.__all__} <= {*dir(tilewright)}
    with pytest.raises(AttributeError, match="no attribute 'compole'"):
        _ = tilewright.compole


def test_the_version_is_one():
    import tilewright

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert tilewright.__version__ == project["version"]


def test_every_package_is_in_the_build():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {module_name(path) for path in FILES if path.name == "__init__.py"}
    assert packages == set(setuptools["packages"])
    for package in packages:
        # The nearest name with a folder of its own leads to the others.
        parent, rest = package, ""
        while parent not in setuptools["package-dir"]:
            parent, _, last = parent.rpartition(".")
            rest = f"/{last}{rest}"
        assert (ROOT / (setuptools["package-dir"][parent] + rest) / "__init__.py").exists()
