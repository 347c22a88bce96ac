"""Writes docs/ir.md, the reference of the IR, from the docstrings of the ops and the tables of functions.

`python docs/generate_ir.py` writes the page; `tests/test_docs.py` fails where the page is not what this gives.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import ModuleType

from xdsl.ir import Dialect, Operation

from tilewright.ir import prog, stages, tile, tw
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.scalars import REDUCTIONS, SCALARS, SCANS

PAGE = Path(__file__).parent / "ir.md"

_INTRODUCTION = """\
# The IR

This page is written by `docs/generate_ir.py` from the code; edit the docstrings in `ir/` and run it again.

Three dialects, one for each question: [`tw`](#tw) says what is computed, [`tile`](#tile) how one kernel computes it,
[`prog`](#prog) when it runs and where its buffers are. How they follow each other is in
[architecture.md](architecture.md). Sizes, strides and positions are integers, names, or quoted expressions of both:
`[s0, 128, "2*s0 + 1"]`; the operators are `+ - * // %`, `min` and `max` (`ir/expr.py`). Text parses back to the same
IR (`ir/text.py`), and every op may carry its place in the model: `loc("mul"("model.py":12:0))`.
"""

_DIALECTS: tuple[tuple[Dialect, ModuleType], ...] = ((tw.Tw, tw), (tile.Tile, tile), (prog.Prog, prog))


def page() -> str:
    """The text of the reference."""
    parts = [_INTRODUCTION, *(section for dialect, module in _DIALECTS for section in _dialect(dialect, module))]
    return "\n".join([*parts, *_stages(), *_scalars(), *_reductions(), *_dtypes()])


def _documentation(thing: object) -> str:
    """A docstring as Markdown; `::` before an indented block is how our docstrings mark code."""
    text = inspect.getdoc(thing)
    assert text, f"{thing} has no docstring"
    return text.replace("::\n", ":\n")


def _dialect(dialect: Dialect, module: ModuleType) -> Iterable[str]:
    yield f"## {dialect.name}\n\n{_documentation(module)}\n"
    yield "### Types and attributes\n"
    for attribute in dialect.attributes:
        yield f"* **`{attribute.name}`** {_one_paragraph(_documentation(attribute))}"
    yield ""
    for operation in dialect.operations:
        yield f"### {operation.name}\n\n{_documentation(operation)}\n"


def _one_paragraph(text: str) -> str:
    return " ".join(text.split())


def _stages() -> Iterable[str]:
    yield "## Stages\n"
    yield f"{_documentation(stages)}\n"
    legal = {f"a function at `{stage}`": ops for stage, ops in stages.FUNCTION_OPS.items()}
    legal |= {"a `tw.fused` region": stages.REGION_OPS, "a `tile.kernel`": stages.KERNEL_OPS}
    legal |= {f"a module at `{stage}`": ops for stage, ops in stages.MODULE_OPS.items()}
    yield _table(("in", "are legal"), [(place, _names(ops)) for place, ops in legal.items()])


def _names(classes: Collection[type[Operation]]) -> str:
    """The ops by name; a dialect of which most are there by what is missing."""
    texts = []
    for dialect, _ in _DIALECTS:
        there = [op for op in dialect.operations if op in classes]
        missing = [op for op in dialect.operations if op not in classes]
        if len(there) > len(missing):
            without = f" but {_listed(missing)}" if missing else ""
            texts.append(f"all of `{dialect.name}`{without}")
        elif there:
            texts.append(_listed(there))
    ours = {op for dialect, _ in _DIALECTS for op in dialect.operations}
    others = [op for op in classes if op not in ours]
    return ", ".join([*([_listed(others)] if others else []), *texts])


def _listed(classes: Iterable[type[Operation]]) -> str:
    return ", ".join(f"`{op.name}`" for op in classes)


def _scalars() -> Iterable[str]:
    yield "## Scalar functions\n"
    yield "Of `tw.map` and `tile.map` (`ir/scalars.py`). Exact: the same bits on every target. Cost: in additions.\n"
    yield _table(
        ("function", "operands", "takes", "gives", "exact", "cost", "meaning, in torch"),
        [
            (f"`{row.name}`", row.arity, ", ".join(row.accepts), row.result, "yes" if row.exact else "no", row.cost,
             f"`{row.reference}`".replace("|", "\\|"))
            for row in SCALARS.values()
        ],
    )


def _reductions() -> Iterable[str]:
    yield "## Reductions and scans\n"
    yield _table(
        ("reduction", "takes", "gives", "exact", "meaning, in torch"),
        [
            (f"`{row.name}`", ", ".join(row.accepts), row.result, "yes" if row.exact else "no", f"`{row.reference}`")
            for row in REDUCTIONS.values()
        ],
    )
    yield _table(("scan", "meaning, in torch"), [(f"`{row.name}`", f"`{row.reference}`") for row in SCANS.values()])


def _dtypes() -> Iterable[str]:
    yield "## Dtypes\n"
    yield "Arithmetic on a type happens in its compute type; the result is rounded once, when it is stored.\n"
    yield _table(
        ("dtype", "torch", "bytes", "kind", "computes in"),
        [(f"`{row.name}`", f"`torch.{row.torch_name}`", row.itemsize, row.kind, f"`{row.compute}`")
         for row in DTYPES.values()],
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
