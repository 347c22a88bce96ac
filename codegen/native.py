"""Build emitted C++ and load its functions: the system's compiler, a checked cache on disk, one OpenMP runtime.

A cache entry is named by the hash of everything that shapes the binary (source, headers, compiler, flags, the target's
features, our version). Its manifest, written last, holds the binary's own hash, which is checked before loading: what
is damaged is deleted and built again, never run. Writing is atomic, so processes may share a cache.
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tilewright.ir.errors import CompilerNotFoundError, KernelBuildError
from tilewright.ir.target import Target, host_cpu

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

_SIGNATURE = re.compile(r'^extern "C" int64_t (\w+)\(([^)]*)\)', re.MULTILINE)


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: the command that runs it, and the first line of what it says about itself."""

    command: tuple[str, ...]
    version: str

    @property
    def is_clang(self) -> bool:
        return "clang" in self.version


@lru_cache(maxsize=8)
def _find_compiler(cxx: str | None, path: str | None) -> Compiler | None:
    for candidate in [cxx] if cxx else ["c++", "g++", "clang++"]:
        command = shlex.split(candidate)
        executable = shutil.which(command[0], path=path) if command else None
        if executable is None:
            continue
        try:
            answer = subprocess.run(
                [executable, *command[1:], "--version"], capture_output=True, text=True, timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return Compiler((os.path.realpath(executable), *command[1:]), answer.stdout.partition("\n")[0])
    return None


def find_compiler() -> Compiler:
    """The compiler that `CXX` names, else the first of c++, g++, clang++ on `PATH`. Raises CompilerNotFoundError."""
    cxx = os.environ.get("CXX")
    found = _find_compiler(cxx, os.environ.get("PATH"))
    if found is None:
        tried = f"CXX={cxx} does not run" if cxx else "none of c++, g++, clang++ is on PATH"
        raise CompilerNotFoundError(
            f"no C++ compiler: {tried}. Install one (Debian and Ubuntu: `apt install g++`; Fedora: `dnf install "
            "gcc-c++`; conda: `conda install gxx`) or set CXX to one. Without it models run in ATen."
        )
    return found


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
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(data)
    os.replace(file.name, path)


def _find_built(directory: Path, key: str, target: Target) -> Path | None:
    """The checked binary of an entry; an entry that is not as it was written is deleted."""
    manifest_path = directory / f"{key}.json"
    try:
        manifest = json.loads(manifest_path.read_text())
        library = directory / str(manifest["library"])
        intact = library.parent == directory and _digest(library) == manifest["sha256"]
        intact = intact and manifest["features"] == list(target.features)
    except FileNotFoundError:
        intact = False
    except (OSError, ValueError, KeyError, TypeError):
        intact = False
    if intact:
        return library
    for path in [manifest_path, *directory.glob(f"{key}-*.so")]:
        path.unlink(missing_ok=True)
    return None


def build(source: str, target: Target) -> Path:
    """The shared library of `source`, from the cache or from the compiler.

    Raises CompilerNotFoundError, and KernelBuildError with the compiler's message and the path of the source.
    """
    compiler = find_compiler()
    key = cache_key(source, target)
    directory = cache_directory() / "native" / key[:2]
    directory.mkdir(parents=True, exist_ok=True)
    found = _find_built(directory, key, target)
    if found is not None:
        return found
    source_path = directory / f"{key}.cpp"
    _write(source_path, source.encode())
    with tempfile.TemporaryDirectory(dir=directory) as work:
        built = Path(work) / "kernels.so"
        command = [
            *compiler.command, *compile_flags(target, compiler), f"-I{HEADER_DIRECTORY}", str(source_path), "-o",
            str(built), *_link_flags(compiler),
        ]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise KernelBuildError(f"the C++ compiler refused {source_path}:\n{result.stderr.strip()}")
        sha256 = _digest(built)
        # Named by content: a process that builds the same entry at the same time cannot swap it under the manifest.
        library = directory / f"{key}-{sha256[:16]}.so"
        os.replace(built, library)
    manifest = {
        "library": library.name, "sha256": sha256, "features": list(target.features), "compiler": compiler.version,
        "command": command,
    }
    _write(directory / f"{key}.json", json.dumps(manifest, indent=1).encode())
    return library


def _check_features(target: Target) -> None:
    missing = set(target.features) - set(host_cpu().features)
    if target.kind != "cpu" or missing:
        what = f"this machine lacks {', '.join(sorted(missing))}" if missing else "it is not a CPU"
        raise KernelBuildError(f"kernels for target {target.name!r} cannot be loaded here: {what}")


def load_library(path: Path, source: str, target: Target) -> dict[str, Callable[..., int]]:
    """Every kernel of the shared library at `path`, by name. `source` is its C++ text, which gives the signatures."""
    import torch  # noqa: F401  (loads the OpenMP runtime, which the library then finds by its name)

    _check_features(target)
    library = ctypes.CDLL(str(path))
    functions: dict[str, Callable[..., int]] = {}
    for name, parameters in _SIGNATURE.findall(source):
        function = library[name]
        function.argtypes = [
            ctypes.c_void_p if "*" in p else ctypes.c_int64 for p in parameters.split(",") if p.strip()
        ]
        function.restype = ctypes.c_int64
        functions[name] = function
    return functions


def build_all(sources: Sequence[str], target: Target) -> list[Path]:
    """The shared libraries of all sources, built in parallel. Raises CompilerNotFoundError and KernelBuildError."""
    _check_features(target)
    find_compiler()
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
