"""Builds printed kernels without a GPU: PTX and machine code for each, what they use, and a checked cache on disk.

An entry of the cache is named by the hash of all that shapes it: source, our library, Triton's version, target,
options. Its manifest is written last and holds the hashes of the files, which are checked before they are used.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright.ir.errors import CompilerNotFoundError, KernelBuildError
from tilewright.ir.target import Target

from ..native import cache_directory
from .printer import TritonKernel

CACHE_VERSION = 1
BUILD_SECONDS = 600
# What a multiprocessor of sm_80, sm_90 and sm_100 has (CUDA C++ Programming Guide, "Compute Capabilities").
REGISTERS, WARPS, PROGRAMS = 65536, 64, 32
REGISTER_UNIT = 256  # registers are given to warps in units of this
RESERVED_SHARED = 1024  # bytes of each program that the system takes
_FILES = ("kernel.ptx", "kernel.cubin", "resources.txt")


@dataclass(frozen=True)
class BuiltKernel:
    """A kernel for a GPU. `registers` are a thread's, `spill_bytes` what it writes to memory for want of more,
    `shared_bytes` a program's; `occupancy` is the share of a multiprocessor's warps that may be resident at once."""

    name: str
    ptx: Path
    cubin: Path
    registers: int
    spill_bytes: int
    shared_bytes: int
    occupancy: float


def triton_version() -> str:
    """The version of Triton that is installed. Raises CompilerNotFoundError where none is."""
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        raise CompilerNotFoundError(
            "Triton is not installed, which compiles kernels for GPUs: `pip install tilewright[gpu]`"
        ) from None


def build_kernels(
    kernels: Sequence[TritonKernel], aligned: Sequence[Collection[str]], target: Target
) -> list[BuiltKernel | str]:
    """Each kernel built, or what Triton said against it. `aligned` are the pointers that are multiples of 16 bytes.

    Raises CompilerNotFoundError where there is no Triton, KernelBuildError where its process dies.
    """
    version = triton_version()
    directories = [
        cache_directory() / "triton" / cache_key(kernel, names, target, version)
        for kernel, names in zip(kernels, aligned)
    ]
    missing = [i for i, directory in enumerate(directories) if not _is_intact(directory)]
    if missing:
        _build([(kernels[i], aligned[i], directories[i]) for i in missing], target)
    return [_built(kernel, directory, target) for kernel, directory in zip(kernels, directories)]


def cache_key(kernel: TritonKernel, aligned: Collection[str], target: Target, version: str) -> str:
    """The name of a kernel's cache entry."""
    library = (Path(__file__).parent / "library.py").read_text()
    parts = [
        str(CACHE_VERSION), version, target.name, library, kernel.source, *sorted(aligned),
        json.dumps([kernel.signature, kernel.constants, _options(kernel)]),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def _options(kernel: TritonKernel) -> dict[str, Any]:
    # No contraction: `a * b + c` rounds twice, as in torch and on CPUs.
    return {"num_warps": kernel.num_warps, "num_stages": kernel.num_stages, "enable_fp_fusion": False}


def _build(entries: Sequence[tuple[TritonKernel, Collection[str], Path]], target: Target) -> None:
    root = cache_directory() / "triton"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".work-", ignore_cleanup_errors=True) as work:
        jobs = []
        for number, (kernel, aligned, _) in enumerate(entries):
            place = Path(work) / str(number)
            place.mkdir()
            (place / "kernel.py").write_text(kernel.source)
            jobs.append({
                "source": str(place / "kernel.py"), "name": kernel.name, "signature": kernel.signature,
                "constants": kernel.constants, "aligned": sorted(aligned), "options": _options(kernel),
                "directory": str(place),
            })
        _run_worker({"arch": int(target.name.removeprefix("sm_")), "jobs": jobs})
        for number, (_, _, directory) in enumerate(entries):
            place = Path(work) / str(number)
            if all((place / name).is_file() for name in _FILES):
                hashes = {name: _digest(place / name) for name in _FILES}
                (place / "manifest.json").write_text(json.dumps(hashes, indent=1))
            _replace(place, directory)


def _run_worker(request: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "tilewright.codegen.triton.worker"]
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise KernelBuildError(f"Triton worked on {len(request['jobs'])} kernels for over {BUILD_SECONDS} s") from None
    if done.returncode:
        raise KernelBuildError(f"Triton's process ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")


def _replace(place: Path, directory: Path) -> None:
    """Put a finished entry where it belongs; another process may have been faster, and a damaged one may be there."""
    for _ in range(2):
        try:
            os.replace(place, directory)
            return
        except OSError:
            if _is_intact(directory):
                return
            _set_aside(directory)


def _set_aside(directory: Path) -> None:
    """Out of the way, under a name that leftovers have: what another process reads is not deleted."""
    if directory.exists():
        os.replace(directory, Path(tempfile.mkdtemp(dir=directory.parent, prefix=".work-")) / directory.name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_intact(directory: Path) -> bool:
    """Whether an entry is there as it was written."""
    try:
        hashes = json.loads((directory / "manifest.json").read_text())
        return set(hashes) == set(_FILES) and all(_digest(directory / n) == h for n, h in hashes.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _built(kernel: TritonKernel, directory: Path, target: Target) -> BuiltKernel | str:
    if not _is_intact(directory):
        error = directory / "error.txt"
        return error.read_text() if error.is_file() else "Triton wrote nothing"
    registers, spills, shared = resources((directory / "resources.txt").read_text())
    return BuiltKernel(
        kernel.name, directory / "kernel.ptx", directory / "kernel.cubin", registers, spills, shared,
        occupancy(registers, shared, kernel.num_warps, target),
    )


def resources(report: str) -> tuple[int, int, int]:
    """Registers of a thread, bytes that it spills, bytes of shared memory: from ptxas' report, and Triton's number."""

    def number(pattern: str) -> int:
        found = re.findall(pattern, report)
        if not found:
            raise KernelBuildError(f"ptxas tells nothing of {pattern!r}:\n{report}")
        return max(map(int, found))

    return number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes shared")


def occupancy(registers: int, shared_bytes: int, num_warps: int, target: Target) -> float:
    """The share of a multiprocessor's warps that registers and shared memory allow to be resident at once."""
    units = -(-max(1, registers) * 32 // REGISTER_UNIT)
    by_registers = REGISTERS // (units * REGISTER_UNIT * num_warps)
    # What one program may have at most is the multiprocessor's memory less the system's share of one.
    by_memory = (target.shared_bytes + RESERVED_SHARED) // (shared_bytes + RESERVED_SHARED)
    return min(by_registers, by_memory, WARPS // num_warps, PROGRAMS) * num_warps / WARPS


__all__ = ["BuiltKernel", "build_kernels", "occupancy", "resources", "triton_version"]
