"""Reports: one HTML file about a compilation, the explanation of a kernel, the table of buffers."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.ir.errors import OptionValueError, nearest
from tilewright.ir.text import parse_ir
from tilewright.ir.types import dims_text
from tilewright.ir.version import VERSION

if TYPE_CHECKING:
    from .fallback import AnyCompilation
    from .signature import Signature

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 1.5rem } th, td { padding: .2rem .8rem .2rem 0; text-align: left;
vertical-align: top; border-bottom: 1px solid #ddd } summary { cursor: pointer; margin: .3rem 0 }
pre { background: #f6f6f4; padding: .8rem; overflow-x: auto; font-size: 13px }
"""


def buffers(compilation: AnyCompilation) -> list[dict[str, Any]]:
    """The temporaries: name (of parts: behind the part's), type, byte offset in the arena, first and last use."""
    rows = [
        {**row, "name": f"{name}/{row['name']}"} for name, part in compilation.parts.items() for row in buffers(part)
    ]
    if not compilation.prog_text:
        return rows
    for op in parse_ir(compilation.prog_text).walk():
        if op.name == "prog.buffer":
            rows.append({
                "name": op.results[0].name_hint or f"buffer_{len(rows)}",
                "type": str(op.results[0].type),
                "offset": dims_text(op.properties["offset"].data).strip("[]"),  # type: ignore[attr-defined]
                "live": list(op.properties["live"].ints()),  # type: ignore[attr-defined]
            })
    return rows


def explain(compilation: AnyCompilation, name: str) -> str:
    """Why a kernel is what it is, as text. Raises OptionValueError for a name that no kernel has."""
    by_name = {kernel.name: kernel for kernel in compilation.kernels}
    if name not in by_name:
        known = ", ".join(by_name) or "there are none"
        raise OptionValueError(f"no kernel {name!r}{nearest(name, by_name)} (kernels: {known})")
    kernel = by_name[name]
    facts = [
        f"{kernel.name}: a {kernel.kind} kernel",
        f"from {', '.join(kernel.lines) or 'unknown lines'}",
        f"moves {quantity(kernel.bytes)} bytes, computes {quantity(kernel.flops)} flops, "
        f"predicted {duration(kernel.predicted_s)}",
        *([f"schedule {kernel.schedule}"] if kernel.schedule else []),
    ]
    concerned = [r for r in compilation.remarks if set(r.lines) & set(kernel.lines)]
    decisions = [f"  {r.pass_name} {r.kind}: {r.message}" for r in concerned]
    if decisions:
        facts += ["decisions that touch its lines:", *decisions]
    return "\n".join([*facts, "", kernel.source])


def quantity(value: Any) -> str:
    """`1.5 M`: a count in a table; text stays text (a size that is symbolic)."""
    if not isinstance(value, (int, float)):
        return str(value)
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """`12.3 µs`: a time in a table."""
    if seconds is None:
        return "unknown"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def write_report(compilation: AnyCompilation, signature: Signature, path: Path) -> Path:
    """Write one HTML file that needs nothing else; gives its path."""
    stats = compilation.stats
    phases = stats.get("compile_seconds", {})
    body = [
        "<h1>Tilewright report</h1>",
        f"<p>Tilewright {VERSION}: {len(compilation.kernels)} kernels, "
        f"{sum(row['count'] for row in compilation.fallbacks)} calls left to ATen, "
        f"peak of temporaries {quantity(stats.get('peak_bytes'))} bytes.</p>",
        "<h2>Arguments</h2>", _table(("name", "type"), [(spec.name, spec.text()) for spec in signature.inputs]),
        "<h2>Time to compile</h2>", _table(("phase", "time"), [(k, duration(v)) for k, v in phases.items()]),
        "<h2>Passes</h2>", _records(stats.get("passes", [])),
        "<h2>Kernels</h2>",
        _table(
            ("name", "kind", "model lines", "bytes", "flops", "predicted"),
            [(k.name, k.kind, ", ".join(k.lines), quantity(k.bytes), quantity(k.flops), duration(k.predicted_s))
             for k in compilation.kernels],
        ),
        *(_details(kernel.name, kernel.source) for kernel in compilation.kernels),
        "<h2>Left to ATen</h2>", _records(compilation.fallbacks),
        "<h2>Decisions</h2>",
        _table(
            ("pass", "", "decision", "model lines"),
            [(r.pass_name, r.kind, r.message, ", ".join(r.lines)) for r in compilation.remarks],
        ),
        "<h2>Buffers</h2>", _records(buffers(compilation)),
        "<h2>IR after each stage</h2>", *(_details(name, text) for name, text in compilation.stages.items()),
        "<h2>Host program</h2>", _details("host.py", compilation.host_source),
        *([_details("host.cpp", text)] if (text := getattr(compilation, "host_cpp", "")) else []),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Tilewright report</title>"
        f"<style>{_STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )
    return path


def _records(rows: Sequence[dict[str, Any]]) -> str:
    """A table whose columns are the keys of the first row."""
    keys = list(rows[0]) if rows else []
    return _table(keys, [[_cell(key, row.get(key)) for key in keys] for row in rows])


def _cell(key: str, value: Any) -> str:
    if isinstance(value, float):
        return duration(value) if key.endswith("seconds") else f"{value:.4g}"
    return str(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    if not lines:
        return "<p>None.</p>"
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _details(title: str, text: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"
