"""docs/performance.md and its pictures, from what the benchmarks left: ``python benchmarks/page.py``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import RESULTS

DOCS = Path(__file__).resolve().parents[1] / "docs"
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#888888")

Rows = list[dict[str, Any]]


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def frame(width: int, height: int, parts: Iterable[str]) -> str:
    size = f'width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, f'<rect {size} fill="white"/>', *parts, "</svg>"]) + "\n"


def bars(title: str, rows: Sequence[tuple[str, float]], goal: float, largest: float = 4.0) -> str:
    """A bar for each row, cut at `largest`, with lines at 1 and at the goal."""
    left, step, width = 190, 15, 720
    scale = (width - left - 60) / largest
    bottom = 30 + step * len(rows)
    parts = [text(10, 14, title)]
    for place, (label, value) in enumerate(rows):
        y, length = 24 + step * place, scale * min(value, largest)
        colour = COLOURS[0] if value >= 1 else COLOURS[1]
        parts += [
            text(left - 6, y + 10, label, "end"),
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{step - 3}" fill="{colour}"/>',
            text(left + length + 4, y + 10, f"{value:.2f}"),
        ]
    for value in (1.0, goal):
        x = left + scale * value
        parts.append(f'<path d="M{x:.1f} 20V{bottom}" stroke="#333" stroke-dasharray="3 2"/>')
        parts.append(text(x, bottom + 12, f"{value:g}", "middle"))
    return frame(width, bottom + 20, parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], across: str) -> str:
    """A line for each series of (x, y)."""
    width, height, left, bottom = 640, 260, 60, 40
    right = max(x for points in series.values() for x, _ in points)
    top = 1.1 * max(y for points in series.values() for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (width - left - 30) * x / right, height - bottom - (height - bottom - 20) * y / top

    parts = [
        text(left, 14, title), text(width - 20, height - 6, across, "end"),
        f'<path d="M{left} 20V{height - bottom}H{width - 20}" fill="none" stroke="#888"/>',
    ]
    for tick in range(5):
        _, y = place(0, top * tick / 4)
        parts.append(text(left - 6, y + 4, f"{top * tick / 4:.0f}", "end"))
    for x in sorted({x for points in series.values() for x, _ in points}):
        parts.append(text(place(x, 0)[0], height - bottom + 16, f"{x:g}", "middle"))
    for number, (name, points) in enumerate(series.items()):
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        colour = COLOURS[number]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{left + 20}" y="{40 + 16 * number}" fill="{colour}">{name}</text>')
    return frame(width, height, parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows), ""]


def duration(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def on(found: Mapping[str, Any]) -> str:
    """The machine of a result, in a line."""
    m = found["machine"]
    threads = f"{m['threads']} thread{'s' if m['threads'] > 1 else ''} of {m['cores']} cores"
    return f"{m['processor']} ({m['isa']}), {threads}; torch {m['torch']}, Python {m['python']}; {m['date']}."


def geomean(values: Iterable[float]) -> float:
    return statistics.geometric_mean(list(values))


def of_rows(found: Mapping[str, Any], name: str) -> list[str]:
    rows = found["rows"]
    label: Callable[[Mapping[str, Any]], str] = lambda r: f"{r['row']} {r['dtype']} {r['megabytes']:g} MB"  # noqa: E731
    drawn = bars("times faster than Inductor", [(label(r), r["speedup_over_inductor"]) for r in rows], 1.5)
    (DOCS / f"{name}.svg").write_text(drawn)
    large = [r for r in rows if r["megabytes"] > 4]
    low = [label(r) for r in rows if r["speedup_over_inductor"] < 0.95]
    return [
        f"Over Inductor: geometric mean {geomean(r['speedup_over_inductor'] for r in rows):.2f} of {len(rows)} rows, "
        f"least {min(r['speedup_over_inductor'] for r in rows):.2f}; {len(low)} below 0.95"
        + (f": {', '.join(low)}." if low else "."),
        *([f"Over 4 MB: {geomean(r['share_of_copy'] for r in large):.2f} of the bandwidth of a copy into memory that "
           f"is there (least {min(r['share_of_copy'] for r in large):.2f}), "
           f"{geomean(r['share_of_clone'] for r in large):.2f} of one into fresh memory, as results are."]
          if large else []),
        "", f"![times faster than Inductor]({name}.svg)", "",
        *table(
            ["row", "dtype", "MB", "eager", "Inductor", "ours", "over Inductor", "of copy", "of clone"],
            ([r["row"], r["dtype"], f"{r['megabytes']:g}",
              *(duration(r["medians"][arm]) for arm in ("eager", "inductor", "tilewright")),
              f"{r['speedup_over_inductor']:.2f}", f"{r['share_of_copy']:.2f}", f"{r['share_of_clone']:.2f}"]
             for r in rows),
        ),
    ]


def of_models(found: Mapping[str, Any], name: str) -> list[str]:
    rows = found["rows"]
    made = []
    for mode in dict.fromkeys(r["mode"] for r in rows):
        mine = [r for r in rows if r["mode"] == mode]
        low = [f"{r['model']} {r['dtype']}" for r in mine if r["speedup_over_inductor"] < 0.95]
        made.append(
            f"* {mode}: {geomean(r['speedup_over_inductor'] for r in mine):.2f} times Inductor, "
            f"{geomean(r['speedup_over_eager'] for r in mine):.2f} times eager (geometric means of {len(mine)})"
            + (f"; below 0.95 of Inductor: {', '.join(low)}." if low else ".")
        )
    labels = [(f"{r['model']} {r['dtype']} {r['mode']}", r["speedup_over_inductor"]) for r in rows]
    (DOCS / f"{name}.svg").write_text(bars("times faster than Inductor", labels, 1.1, 2.0))
    return [
        *made, "", f"![times faster than Inductor]({name}.svg)", "",
        *table(
            ["model", "dtype", "mode", "eager", "Inductor", "ours", "over eager", "over Inductor",
             "first call: Inductor, ours"],
            ([r["model"], r["dtype"], r["mode"],
              *(duration(r["medians"][arm]) for arm in ("eager", "inductor", "tilewright")),
              f"{r['speedup_over_eager']:.2f}", f"{r['speedup_over_inductor']:.2f}",
              ", ".join(f"{r['first_call_seconds'][arm]:.1f} s" for arm in ("inductor", "tilewright"))] for r in rows),
        ),
    ]


def of_overhead(found: Mapping[str, Any], name: str) -> list[str]:
    rows = found["rows"]
    arms = list(rows[0]["medians"])
    return table(
        ["µs a call", *(r["case"] for r in rows)],
        [*([arm, *(f"{r['medians'][arm] * 1e6:.2f}" for r in rows)] for arm in arms),
         *([f"{arm}, a kernel", *(f"{r['seconds_per_launch'][arm] * 1e6:.2f} (of {r['launches']})" for r in rows)]
           for arm in rows[0]["seconds_per_launch"])],
    )


def of_attention(found: Mapping[str, Any], name: str) -> list[str]:
    others = ("eager", "inductor", "sdpa")
    return table(
        ["case", "ours", *(f"over {arm}" for arm in others), "goals"],
        ([r["case"], duration(r["medians"]["ours"]),
          *(f"{r['speedups'][arm]:.2f}" if arm in r["speedups"] else "" for arm in others),
          ", ".join(f"{arm} {goal:g}: {'met' if r['met'].get(arm) else 'missed'}" for arm, goal in r["limits"].items())]
         for r in found["rows"]),
    )


def of_attention_memory(found: Mapping[str, Any], name: str) -> list[str]:
    rows = found["rows"]
    arms = [arm for arm in ("ours", "eager", "ours training", "eager training") if arm in rows[0]]
    series = {arm: [(r["length"] / 1024, r[arm] / 2**20) for r in rows if arm in r] for arm in arms}
    (DOCS / f"{name}.svg").write_text(lines("peak memory of a call, MiB", series, "length, thousands of tokens"))
    return [
        f"![peak memory over length]({name}.svg)", "",
        *table(["length", *(f"{arm}, MB" for arm in arms)],
               ([str(r["length"]), *(f"{r[arm] / 1e6:.1f}" if arm in r else "" for arm in arms)] for r in rows)),
    ]


def of_dynamic(found: Mapping[str, Any], name: str) -> list[str]:
    ratios = [r["ratio"] for r in found["rows"]]
    return [f"Geometric mean {geomean(ratios):.2f} times the time of the static program, at most {max(ratios):.2f}, "
            f"over {len(ratios)} rows.", ""]


def of_compile_time(found: Mapping[str, Any], name: str) -> list[str]:
    def median(kind: str, part: str) -> str:
        return f"{statistics.median(r[part] for r in found['rows'][kind]):.2f} s"

    kinds = [f"{kind} {backend}" for kind in ("cold", "warm") for backend in ("inductor", "tilewright")]
    return [
        *table(["start", "whole", "after Dynamo"],
               ([kind, median(kind, "whole"), median(kind, "after_dynamo")] for kind in kinds)),
        *table(["ratio", "median of pairs"], ([k, f"{v:.3f}"] for k, v in found["ratios"].items())),
    ]


SECTIONS: dict[str, tuple[str, str, Callable[[Mapping[str, Any], str], list[str]]]] = {
    "models": ("Models", "`benchmarks/models.py`: real sizes, random weights (`benchmarks/sizes.py`).", of_models),
    "rows": ("Row kernels", "`benchmarks/rows.py`: megabytes are those of the largest tensor.", of_rows),
    "attention": ("Attention", "`benchmarks/attention.py`", of_attention),
    "attention_memory": ("Memory of attention", "`benchmarks/attention.py --memory`", of_attention_memory),
    "overhead": ("Overhead", "`benchmarks/overhead.py`: tensors of 32 elements.", of_overhead),
    "dynamic": ("Dynamic sizes", "`benchmarks/dynamic.py`", of_dynamic),
    "compile_time": ("Compile time of GPT-2", "`benchmarks/compile_time.py`: fresh processes.", of_compile_time),
}


def page() -> str:
    made = [
        "# Performance", "",
        "Made by `python benchmarks/page.py` from `benchmarks/results/`, which holds every sample. All arms of a row",
        "run in one process and take turns; ratios are medians of paired ratios. The machines are shared: read ratios,",
        "not times.", "",
    ]
    for name, (title, source, section) in SECTIONS.items():
        paths = sorted([*RESULTS.glob(f"{name}_[0-9]_threads.json"), *RESULTS.glob(f"{name}.json")])
        if not paths:
            continue
        made += [f"## {title}", "", source, ""]
        for path in paths:
            found = json.loads(path.read_text())
            made += [on(found), "", *section(found, path.stem)]
    return "\n".join(made).rstrip("\n") + "\n"


if __name__ == "__main__":
    (DOCS / "performance.md").write_text(page())
    print(f"wrote {DOCS / 'performance.md'}")
