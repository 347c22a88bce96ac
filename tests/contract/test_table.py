"""The table in docs/contract.md and the tests name each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "contract.md"
STATES = {"compiled", "falls back", "refused"}


def rows() -> list[list[str]]:
    """The cells of each row of the page's tables, heads left out."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "what"]


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_row_names_a_state_and_a_test(row):
    assert len(row) == 4 and row[1] in STATES, row
    file, name = re.fullmatch(r"`(\S+\.py)::(\w+)`", row[3]).groups()
    assert name in functions_of(HERE / file)


def test_each_test_of_the_contract_has_a_row():
    named = {row[3].strip("`") for row in rows()}
    files = [path for path in HERE.glob("test_*.py") if path != Path(__file__)]
    own = {f"{path.name}::{name}" for path in files for name in functions_of(path)}
    assert own - named == set()
