"""200 models compiled one after the other in one process: what of them stays.

    python benchmarks/life.py [--count 200]    leaves benchmarks/results/life.json and docs/life.svg

Each model differs from the one before. After each, `torch.compiler.reset()` drops it, as a program does that compiles
again and again. What is counted: resident memory, compilations that are alive, libraries of kernels that are open. The
backend `aot_eager`, which compiles nothing, shows what torch itself keeps.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tilewright.backend import compilations
from tilewright.codegen.libraries import open_count

ROOT = Path(__file__).parent.parent


def model(number: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that is like no other: its kernel has another constant."""
    return lambda x: torch.softmax(x * (1 + number / 1000), -1) + torch.tanh(x)


def resident_bytes() -> int:
    """The memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def samples(count: int, backend: str = "tilewright") -> list[dict[str, Any]]:
    """Compile and drop `count` models; what is there after each."""
    rows = []
    x = torch.linspace(-2, 2, 64).view(4, 16)
    for number in range(count):
        function = model(number)
        result = torch.compile(function, backend=backend)(x)
        torch.testing.assert_close(result, function(x), rtol=1e-5, atol=1e-5)
        torch.compiler.reset()
        del function, result
        gc.collect()
        rows.append({
            "compiled": number + 1, "resident_bytes": resident_bytes(), "compilations": len(compilations()),
            "libraries": open_count(), "mapped": Path("/proc/self/maps").read_text().count("/native/"),
        })
    return rows


COLOURS = {"tilewright": "#1f6feb", "aot_eager": "#999999"}


def picture(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Resident memory over the number of compiled models, a line for each backend, as an SVG image."""
    width, height, left, bottom, right = 640, 260, 60, 40, 20
    count = max(len(rows) for rows in runs.values())
    top = 1.15 * max(row["resident_bytes"] for rows in runs.values() for row in rows) / 2**20

    def x(number: int) -> float:
        return left + (width - left - right) * (number - 1) / max(1, count - 1)

    def y(mebibytes: float) -> float:
        return height - bottom - (height - bottom - 20) * mebibytes / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{left} 20V{height - bottom}H{width - right}" fill="none" stroke="#888"/>',
        f'<text x="{left}" y="14">resident memory, MiB</text>',
        f'<text x="{width - right}" y="{height - 6}" text-anchor="end">models compiled and dropped</text>',
    ]
    for tick in range(5):
        value = top * tick / 4
        parts.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.0f}</text>')
        number = max(1, count * tick // 4)
        parts.append(f'<text x="{x(number):.1f}" y="{height - bottom + 18}" text-anchor="middle">{number}</text>')
    for position, (backend, rows) in enumerate(runs.items()):
        line = " ".join(f"{x(row['compiled']):.1f},{y(row['resident_bytes'] / 2**20):.1f}" for row in rows)
        colour = COLOURS[backend]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{width - right}" y="{height - bottom - 30 + 16 * position}" text-anchor="end" '
                     f'fill="{colour}">{backend}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def run_alone(backend: str, count: int) -> list[dict[str, Any]]:
    """`samples` in a process of its own, with a cold cache."""
    with tempfile.TemporaryDirectory() as cache:
        words = [sys.executable, __file__, "--count", str(count), "--backend", backend]
        environment = {**os.environ, "TILEWRIGHT_CACHE_DIR": cache}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--backend", choices=COLOURS, help="print the samples of this one as JSON, and write nothing")
    given = parser.parse_args()
    if given.backend:
        print(json.dumps(samples(given.count, given.backend)))
        return
    runs = {backend: run_alone(backend, given.count) for backend in COLOURS}
    write(runs)
    for backend, rows in runs.items():
        grown = rows[-1]["resident_bytes"] - rows[len(rows) // 10]["resident_bytes"]
        print(f"{backend}: {rows[-1]}, {grown / 1024 / len(rows) / 0.9:.0f} KiB more for each model")


def write(runs: dict[str, list[dict[str, Any]]]) -> None:
    lines = [f" {json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(r)}" for r in rows) + "\n ]"
             for name, rows in runs.items()]
    (ROOT / "benchmarks" / "results" / "life.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    (ROOT / "docs" / "life.svg").write_text(picture(runs))


if __name__ == "__main__":
    main()
