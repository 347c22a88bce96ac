"""Build emitted C++ and load its functions: the system's compiler, and a checked cache on disk.

A cache entry is named by the hash of everything that shapes the binary (source, headers, compiler, flags, the target's
features, our version). Its manifest, written last, holds the binary's own hash, which is checked before loading: what
is damaged is built again, never run. Every write is atomic and nothing that another process may have found is deleted,
so processes may share a cache. Where the cache cannot be written, kernels are built into a directory of the process.
"""

from __future__ import annotations

import atexit
import errno
import glob
import hashlib
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tilewright.ir.errors import CompilerNotFoundError, KernelBuildError
from tilewright.ir.target import Target

from .libraries import check_features, load_library

log = logging.getLogger("tilewright")

HEADER_DIRECTORY = Path(__file__).parent / "cpp"

# Part of every key. Raise it when what a kernel file means changes without its text changing.
CACHE_VERSION = 1

# No -ffast-math: NaN and infinities keep their meaning. No contraction: `a * b + c` rounds twice, as in torch, so that
# a kernel agrees bit for bit with the ops it was fused from. -fwrapv: integers wrap, as torch's do.
FLAGS = (
    "-std=c++17", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fwrapv",
)

# How the compiler spells the features that `Target.features` names; the others do not change generated code.
FEATURE_FLAGS = {
    "avx": "-mavx", "avx2": "-mavx2", "fma": "-mfma", "f16c": "-mf16c", "bmi2": "-mbmi2", "avx512f": "-mavx512f",
    "avx512dq": "-mavx512dq", "avx512bw": "-mavx512bw", "avx512vl": "-mavx512vl", "avx512cd": "-mavx512cd",
    "sve": "-march=armv8.2-a+sve",
}

# A file of twelve kernels takes seconds; what takes this long does not end.
BUILD_SECONDS = 300

# What a killed process left in the cache is removed after this time; until then it may be at work.
_LEFTOVER_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: the command that runs it, and the first line of what it says about itself."""

    command: tuple[str, ...]
    version: str

    @property
    def is_clang(self) -> bool:
        return "clang" in self.version


@lru_cache(maxsize=8)
def _first_compiler(cxx: str | None, path: str | None) -> Compiler:
    """What is found is kept; that nothing was found (LookupError) is not, as one may be installed meanwhile."""
    for candidate in [cxx] if cxx else ["c++", "g++", "clang++"]:
        command = shlex.split(candidate)
        executable = shutil.which(command[0], path=path) if command else None
        if executable is None:
            continue
        try:
            answer = subprocess.run(
                [executable, *command[1:], "--version"], capture_output=True, text=True, timeout=60, check=True
            )
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        return Compiler((os.path.realpath(executable), *command[1:]), answer.stdout.partition("\n")[0])
    raise LookupError


def find_compiler() -> Compiler:
    """The compiler that `CXX` names, else the first of c++, g++, clang++ on `PATH`. Raises CompilerNotFoundError."""
    cxx = os.environ.get("CXX")
    try:
        return _first_compiler(cxx, os.environ.get("PATH"))
    except (LookupError, ValueError):
        tried = f"CXX={cxx} does not run" if cxx else "none of c++, g++, clang++ is on PATH"
        raise CompilerNotFoundError(
            f"no C++ compiler: {tried}. Install one (Debian and Ubuntu: `apt install g++`; Fedora: `dnf install "
            "gcc-c++`; conda: `conda install gxx`) or set CXX to one. Without it models run in ATen."
        ) from None


def compiler_available() -> bool:
    """Whether kernels can be built here."""
    try:
        find_compiler()
    except CompilerNotFoundError:
        return False
    return True


def cache_directory() -> Path:
    """`TILEWRIGHT_CACHE_DIR`, or `~/.cache/tilewright`."""
    return Path(os.environ.get("TILEWRIGHT_CACHE_DIR") or Path.home() / ".cache" / "tilewright")


def openmp_library() -> Path | None:
    """The OpenMP runtime that torch brings, which kernels must share: two would each start their own threads."""
    import torch

    root = Path(torch.__file__).parent
    found = sorted(glob.glob(f"{root}/lib/libgomp*.so*") + glob.glob(f"{root}.libs/libgomp*.so*"))
    return Path(found[0]) if found else None


def compile_flags(target: Target, compiler: Compiler) -> list[str]:
    """All flags but the files. Only the target's features are switched on, so an entry runs wherever they are."""
    flags = [*FLAGS, *(FEATURE_FLAGS[f] for f in target.features if f in FEATURE_FLAGS)]
    if target.isa == "avx512":
        flags.append("-mprefer-vector-width=512")
    # clang's `omp parallel` calls its own runtime, not torch's: there the kernels stay on one thread.
    flags.append("-fopenmp-simd" if compiler.is_clang else "-fopenmp")
    return flags


def _link_flags(compiler: Compiler) -> list[str]:
    library = None if compiler.is_clang else openmp_library()
    return ["-Wl,--as-needed", str(library)] if library else []


@lru_cache(maxsize=1)
def _header_digest() -> str:
    digest = hashlib.sha256()
    for header in sorted(HEADER_DIRECTORY.glob("*.h")):
        digest.update(header.name.encode() + b"\0" + header.read_bytes())
    return digest.hexdigest()


def cache_key(source: str, target: Target) -> str:
    """The name of the cache entry that `source` built for `target` has. Raises CompilerNotFoundError."""
    compiler = find_compiler()
    parts = [
        str(CACHE_VERSION), source, _header_digest(), *compiler.command, compiler.version,
        *compile_flags(target, compiler), *(os.path.basename(f) for f in _link_flags(compiler)), *target.features,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    """The whole file or none, also for who reads it at this moment."""
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=_WORK, delete=False)  # noqa: SIM115
    try:
        with file:
            file.write(data)
        _replace(file.name, path)
    except BaseException:
        Path(file.name).unlink(missing_ok=True)
        raise


def _replace(file: str | Path, path: Path) -> None:
    try:
        os.replace(file, path)
    except IsADirectoryError:
        shutil.rmtree(path)
        os.replace(file, path)


def _find_built(directory: Path, key: str, target: Target) -> Path | None:
    """The checked binary of an entry; None where the entry is not there or is not as it was written."""
    try:
        manifest = json.loads((directory / f"{key}.json").read_text())
        library = directory / str(manifest["library"])
        intact = library.parent == directory and _digest(library) == manifest["sha256"]
        return library if intact and manifest["features"] == list(target.features) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# Names of what is being made begin so.
_WORK = ".work-"


def _remove_leftovers(directory: Path) -> None:
    """Remove what processes that were killed have left, once it is old."""
    for path in directory.glob(f"{_WORK}*"):
        try:
            if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # another process was faster, or may


def build(source: str, target: Target) -> Path:
    """The shared library of `source`, from the cache or from the compiler.

    A cache that cannot be written is told once and then done without. Raises CompilerNotFoundError, and
    KernelBuildError with the compiler's message and the path of the source, or with what stopped the compiler.
    """
    compiler = find_compiler()
    key = cache_key(source, target)
    root = cache_directory()
    try:
        return _build_in(root, key, source, target, compiler)
    except OSError as error:
        _tell_once(f"{root}: {error.strerror}")
        own = _own_directory()
        try:
            return _build_in(own, key, source, target, compiler)
        except OSError as again:
            raise KernelBuildError(
                f"kernels can be kept neither in {root} ({error}) nor in {own} ({again}). Free some space, or set "
                "TILEWRIGHT_CACHE_DIR (or TMPDIR) to a directory that can be written"
            ) from None


def _build_in(root: Path, key: str, source: str, target: Target, compiler: Compiler) -> Path:
    """`build` with the cache at `root`. Raises OSError where `root` cannot be written."""
    directory = root / "native" / key[:2]
    found = _find_built(directory, key, target)
    if found is not None:
        return found
    directory.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(directory)
    source_path = directory / f"{key}.cpp"
    _write(source_path, source.encode())
    with tempfile.TemporaryDirectory(dir=directory, prefix=_WORK, ignore_cleanup_errors=True) as work:
        built = Path(work) / "kernels.so"
        command = [
            *compiler.command, *compile_flags(target, compiler), f"-I{HEADER_DIRECTORY}", str(source_path), "-o",
            str(built), *_link_flags(compiler),
        ]
        _run_compiler(command, source_path, built)
        # Before the entry is one: what cannot be loaded must not be found by the next process.
        load_library(built, source, target)
        sha256 = _digest(built)
        # Named by content: a process that builds the same entry at the same time cannot swap it under the manifest.
        library = directory / f"{key}-{sha256[:16]}.so"
        _replace(built, library)
    manifest = {
        "library": library.name, "sha256": sha256, "features": list(target.features), "compiler": compiler.version,
        "command": command,
    }
    _write(directory / f"{key}.json", json.dumps(manifest, indent=1).encode())
    return library


def _run_compiler(command: Sequence[str], source: Path, built: Path) -> None:
    """Run the compiler. Raises KernelBuildError where it makes nothing, OSError where the disk is full."""
    elsewhere = "Set CXX to another C++ compiler"
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=BUILD_SECONDS)
    except OSError as error:
        raise KernelBuildError(f"{command[0]} cannot be run: {error}. {elsewhere}") from None
    except subprocess.TimeoutExpired:
        raise KernelBuildError(
            f"{command[0]} was stopped: it worked on {source} for more than {BUILD_SECONDS} s. {elsewhere}"
        ) from None
    said = result.stderr.strip()
    if result.returncode and os.strerror(errno.ENOSPC) in said:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(built))
    if result.returncode < 0 or (result.returncode and "Killed signal" in said):
        name = signal.Signals(-result.returncode).name if result.returncode < 0 else "a signal"
        raise KernelBuildError(
            f"{command[0]} was ended by {name} while it worked on {source}: the machine may be out of memory. Free "
            f"some, or compile fewer models at once\n{said}".rstrip()
        )
    if result.returncode:
        raise KernelBuildError(f"the C++ compiler refused {source}:\n{said}")
    if not built.is_file():
        raise KernelBuildError(f"{command[0]} reports success and wrote no file for {source}. {elsewhere}")


@lru_cache(maxsize=16)
def _tell_once(what: str) -> None:
    log.warning(
        "built kernels cannot be kept (%s): they are built again by each process. Free some space, or set "
        "TILEWRIGHT_CACHE_DIR to a directory that can be written", what
    )


_own: dict[int, Path] = {}  # by process: a forked child must not remove its parent's
_own_lock = threading.Lock()


def _own_directory() -> Path:
    """A directory of this process for what the cache does not take, removed at its end. Raises KernelBuildError."""
    with _own_lock:
        process = os.getpid()
        if process not in _own:
            try:
                _own[process] = Path(tempfile.mkdtemp(prefix="tilewright-"))
            except OSError as error:
                raise KernelBuildError(
                    f"there is no place to build kernels in: {error}. Set TILEWRIGHT_CACHE_DIR to a directory that can "
                    "be written"
                ) from None
            atexit.register(_remove_own, process)
        return _own[process]


def _remove_own(process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(_own.pop(process), ignore_errors=True)


def build_all(sources: Sequence[str], target: Target) -> list[Path]:
    """The shared libraries of all sources, built in parallel. Raises CompilerNotFoundError and KernelBuildError."""
    check_features(target)
    find_compiler()
    if len(sources) == 1:
        return [build(sources[0], target)]
    with ThreadPoolExecutor(max_workers=max(1, target.cores)) as pool:
        return list(pool.map(lambda text: build(text, target), sources))


def load_kernels(
    source: str | Sequence[str], names: Iterable[str], target: Target
) -> dict[str, Callable[..., int]]:
    """The kernels `names` of one source or of several (built in parallel), as callables on addresses and ints.

    A kernel returns 0, or bits that say what went wrong (see `printer.FAILURES`). Raises CompilerNotFoundError,
    KernelBuildError, and KeyError for a name that no source has.
    """
    sources = [source] if isinstance(source, str) else list(source)
    functions: dict[str, Callable[..., int]] = {}
    for path, text in zip(build_all(sources, target), sources):
        functions |= load_library(path, text, target)
    return {name: functions[name] for name in names}


__all__ = ["build", "build_all", "compiler_available", "find_compiler", "load_kernels", "load_library"]
