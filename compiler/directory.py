"""A compiled model as a directory for reading: numbered IR, kernels, host program, report, statistics, artifact."""

from __future__ import annotations

import json
from pathlib import Path

from .api import CompiledModel


def write_directory(model: CompiledModel, directory: Path, name: str) -> list[Path]:
    """Write everything about `model` into `directory`; gives the paths.

    ::

        00_import.mlir …         the IR after each stage
        kernels/                 one folder a kernel: kernel.cpp, kernel.mlir, kernel.py (checks and times it)
        host.py                  the host program
        report.html, stats.json  what was decided, and the same as data
        NAME.tw                  the artifact
    """
    directory.mkdir(parents=True, exist_ok=True)
    compilation = model.compilation
    files = {f"{i:02}_{stage}.mlir": text for i, (stage, text) in enumerate(compilation.stages.items())}
    files["host.py"] = compilation.host_source
    files["stats.json"] = json.dumps(model.stats, indent=1, default=str) + "\n"
    written = []
    for file, text in files.items():
        if text:
            (directory / file).write_text(text)
            written.append(directory / file)
    written += write_kernels(model, directory / "kernels")
    written.append(model.report(directory / "report.html"))
    if compilation.prog_text:
        written.append(model.save(directory / f"{name}.tw"))
    return written
