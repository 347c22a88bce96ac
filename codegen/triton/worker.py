"""Compiles Triton kernels for a GPU that need not be there: `python -m tilewright.codegen.triton.worker < jobs.json`.

A process of its own: Triton's compiler does not share one with its interpreter, and what it does when it fails is its
own matter. Jobs come as JSON, `{"arch", "jobs": [{"source", "name", "signature", "constants", "aligned", "options",
"directory"}]}`; into each job's directory go ``kernel.ptx``, ``kernel.cubin`` and ``resources.txt`` (what ptxas says),
or ``error.txt``.
"""
# mypy: ignore-errors

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Compile every job of standard input."""
    os.environ.pop("TRITON_INTERPRET", None)
    request = json.load(sys.stdin)
    for job in request["jobs"]:
        directory = Path(job["directory"])
        try:
            compile_kernel(job, request["arch"], directory)
        except Exception as error:
            (directory / "error.txt").write_text(f"{type(error).__name__}: {error}")


def compile_kernel(job, arch: int, directory: Path) -> None:
    """One kernel, whose source is a file of its own: Triton reads it there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    spec = importlib.util.spec_from_file_location(job["name"], job["source"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, job["name"])
    names = list(job["signature"])
    signature = {**job["signature"], **dict.fromkeys(job["constants"], "constexpr")}
    source = ASTSource(
        fn=function, signature=signature, constexprs=job["constants"],
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in job["aligned"]},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=job["options"])
    (directory / "kernel.ptx").write_text(compiled.asm["ptx"])
    (directory / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    shared = f"{compiled.metadata.shared} bytes shared\n"
    (directory / "resources.txt").write_text(shared + ptxas_report(directory / "kernel.ptx", arch))


def ptxas_report(ptx: Path, arch: int) -> str:
    """What the assembler tells about registers and spills."""
    from triton.backends.nvidia.compiler import get_ptxas

    [machine] = re.findall(r"^\.target (\w+)", ptx.read_text(), re.MULTILINE)
    command = [get_ptxas(arch).path, "-v", "--fmad=false", f"--gpu-name={machine}", str(ptx), "-o", os.devnull]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


if __name__ == "__main__":
    main()
