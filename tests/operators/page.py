"""`docs/operators.md`, made of `benchmarks/results/operators.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import report

Row = Mapping[str, Any]

# A variant stands under the first heading that one of its reasons fits; the last one takes the rest.
GROUPS: tuple[tuple[str, str, str], ...] = (
    ("Complex numbers", r"complex|conj|_fft_|\bneg(ated)?\b.*view", "Complex dtypes are ATen's."),
    ("Sparse tensors", r"sparse|crow_in|to_sparse|_indices", "Tensors of the IR are dense."),
    (
        "Linear algebra", r"aten\.(_?linalg_|cholesky|geqrf|ormqr|lu_|svd|qr|triangular_solve|lstsq|inverse)",
        "Factorisations and solvers are LAPACK's.",
    ),
    (
        "Sizes and numbers that depend on data",
        r"depends? on (the )?data|data-dependent|DataDependent|DynamicOutputShape|from the data|_local_scalar_dense",
        "A shape that only the numbers in a tensor tell, or a Python number read from one.",
    ),
    ("Memory layout", r"as_strided|memory layout|gets as a view|set_|resize", "What a tensor of the IR does not say."),
    ("Random numbers", r": random$|draws|rand", "Distributions that are drawn by ATen's generator."),
    ("Dtypes", r"integer|halves|bool|dtype|float8|uint", "The op runs natively in other dtypes."),
    ("No rule", r"", "The importer has no rule for the op, or the rule refuses these arguments."),
)


def page(results: Mapping[str, Any]) -> str:
    """The page's text."""
    rows: Mapping[str, Row] = results["variants"]
    parts = [_head(results), _totals(results), _stages(rows), _rest(rows), _backward(rows), _native(rows)]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _head(results: Mapping[str, Any]) -> str:
    machine, plan = results["machine"], results["plan"]
    every = "every sample" if plan["forward"] is None else f"the first {plan['forward']} samples"
    return f"""
# Operators

PyTorch's operator database (`torch.testing._internal.common_methods_invocations.op_db`) has {len(results["variants"])}
operator variants, with samples of arguments for each. This page says which of them run natively, and why the others do
not. It is generated: `make opdb` runs the database and writes `benchmarks/results/operators.json` and this page;
`tests/operators/` is the code, and CI runs a fixed slice of it.

Of each variant {every} in float32, bfloat16, int64 and bool went through AOTAutograd, importer and interpreter,
and up to {plan["compiled"]} of each dtype through the C++ kernels; in float32 backward as well, for random
cotangents. Results are compared with eager's: the same bits or within an ulp, or an error against float64 of at most
twice eager's own (three times for gradients) and two ulps; integers and bools the same; NaN and infinities in the same
places. A sample that fails this is wrong if most of five arguments next to it (each number moved to a neighbour of its
dtype) fail it too: where a result has few numbers, a single rounding decides its error. Random results are compared by
shape, dtype, mean and spread, uninitialised ones by shape and dtype.

A variant is *native* when no graph of any of its samples, in any of these dtypes, leaves an op to ATen. Products,
convolutions and attention that call a library through `tw.matmul`, `tw.conv` and `tw.attention` count as native.

Run with torch {machine["torch"]} on {machine["date"]} ({machine["processor"]}, {machine["cores"]} cores,
{machine["isa"]}) in {round(results["seconds"] / 60)} minutes.
"""


def _totals(results: Mapping[str, Any]) -> str:
    rows: Mapping[str, Row] = results["variants"]
    totals = results["totals"]
    run = len(rows) - totals[report.NO_SAMPLES]
    lines = ["## Totals", "", "| variants | status | meaning |", "|---:|---|---|"]
    lines += [f"| {totals[status]} | {status} | {meaning} |" for status, meaning in report.STATUSES.items()]
    native = totals[report.NATIVE]
    lines += [
        "",
        f"**{native / len(rows):.1%} of all variants are native**, {native / run:.1%} of those that have samples here.",
    ]
    return "\n".join(lines)


def _stages(rows: Mapping[str, Row]) -> str:
    counts: dict[str, dict[str, int]] = {}
    for row in rows.values():
        for stage, by_dtype in row["samples"].items():
            for dtype, count in by_dtype.items():
                of_stage = counts.setdefault(stage, {})
                of_stage[dtype] = of_stage.get(dtype, 0) + count
    dtypes = ("f32", "bf16", "i64", "bool")
    lines = ["Samples that were run (those that eager refuses are left out):", ""]
    lines += [f"| | {' | '.join(dtypes)} |", "|---|" + "---:|" * len(dtypes)]
    names = {
        "forward": "forward, interpreter", "kernels": "forward, kernels",
        "backward": "backward, interpreter", "backward kernels": "backward, kernels",
    }
    for stage, name in names.items():
        lines.append(f"| {name} | " + " | ".join(str(counts.get(stage, {}).get(d, 0) or "") for d in dtypes) + " |")
    bad = {kind: sum(row[kind]["count"] for row in rows.values() if kind in row) for kind in ("wrong", "crashes")}
    lines += ["", f"Wrong results: {bad['wrong']}. Crashes: {bad['crashes']}."]
    for name, row in rows.items():
        for kind in ("wrong", "crashes"):
            for example in row.get(kind, {}).get("examples", [])[:1]:
                lines.append(f"* `{name}` {example['stage']} {example['dtype']}: {_escaped(example['detail'])[:300]}")
    return "\n".join(lines)


def _rest(rows: Mapping[str, Row]) -> str:
    """The variants that are not native, by the kind of what stands in the way."""
    grouped: dict[str, list[str]] = {title: [] for title, _, _ in GROUPS}
    for name, row in rows.items():
        if row["status"] in (report.PARTLY, report.FALLBACK, report.NOT_TRACED):
            grouped[_group(list(row.get("reasons", {})))].append(name)
    lines = ["## Why the rest does not run natively", "", "How many samples of a variant are native stands behind it."]
    for title, _, meaning in GROUPS:
        if not grouped[title]:
            continue
        lines += ["", f"### {title} ({len(grouped[title])})", "", meaning, "", "| variant | native | left to ATen |",
                  "|---|---:|---|"]
        for name in grouped[title]:
            row = rows[name]
            native, count = row.get("native_samples", [0, 0])
            lines.append(f"| `{name}` | {native} of {count} | {_reasons_text(list(row.get('reasons', {})))} |")
    empty = [name for name, row in rows.items() if row["status"] == report.NO_SAMPLES]
    if empty:
        lines += ["", f"### No samples ({len(empty)})", "", _names(empty)]
    return "\n".join(lines)


def _group(reasons: Sequence[str]) -> str:
    for title, pattern, _ in GROUPS[:-1]:
        if any(re.search(pattern, reason) for reason in reasons):
            return title
    return GROUPS[-1][0]


def _reasons_text(reasons: Sequence[str], limit: int = 4) -> str:
    """Reasons, ops of the same reason together."""
    ops: dict[str, list[str]] = {}
    for entry in reasons:
        op, _, reason = entry.partition(": ")
        ops.setdefault(_short(reason), []).append(op.removeprefix("aten.").removesuffix(".default"))
    shown = []
    for reason, names in list(ops.items())[:limit]:
        names = list(dict.fromkeys(names))
        listed = ", ".join(f"`{n}`" if n not in ("graph", "not traceable") else n for n in names[:5])
        shown.append(f"{listed}{', …' if len(names) > 5 else ''}: {reason}")
    return "; ".join(shown) + ("; …" if len(ops) > limit else "")


def _short(reason: str) -> str:
    reason = re.sub(r"\s+", " ", _escaped(reason))
    return reason if len(reason) <= 120 else reason[:119] + "…"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _backward(rows: Mapping[str, Row]) -> str:
    ran = {name: row for name, row in rows.items() if "backward" in row["samples"]}
    native = [name for name, row in ran.items() if "backward_reasons" not in row]
    by_reason: dict[str, list[str]] = {}
    for name, row in ran.items():
        for reason in row.get("backward_reasons", {}):
            if reason not in row.get("reasons", {}):
                by_reason.setdefault(reason, []).append(name)
    lines = [
        "## Backward", "",
        f"{len(ran)} variants have gradients in float32. Of {len(native)} the graphs of every sample, forward and "
        "backward, are native. What else is left to ATen only where gradients are wanted:", "",
        "| left to ATen | variants |", "|---|---|",
    ]
    for reason, names in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        lines.append(f"| {_reasons_text([reason])} | {_names(names[:6])}{more} |")
    return "\n".join(lines)


def _native(rows: Mapping[str, Row]) -> str:
    names = [name for name, row in rows.items() if row["status"] == report.NATIVE]
    return f"## Native ({len(names)})\n\n{_names(names)}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def write(results: Path = report.RESULTS, target: Path = report.PAGE) -> None:
    target.write_text(page(json.loads(results.read_text())))
