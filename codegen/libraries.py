"""Shared libraries of kernels in this process: opened once for equal content, closed with their last kernel; and forks.

A kernel holds the library that it is in. So a library is closed when no compiled model has a kernel of it any more,
which keeps a process flat that compiles again and again.
"""

from __future__ import annotations

import _ctypes
import ctypes
import hashlib
import os
import re
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from tilewright.ir.errors import KernelBuildError
from tilewright.ir.target import Target, host_cpu

_SIGNATURE = re.compile(r'^extern "C" int64_t (\w+)\(([^)]*)\)', re.MULTILINE)

_open_libraries: weakref.WeakValueDictionary[str, ctypes.CDLL] = weakref.WeakValueDictionary()
_lock = threading.Lock()
_follows_forks = False


def open_count() -> int:
    """How many libraries of kernels are open in this process."""
    return len(_open_libraries)


def load_library(path: Path, source: str, target: Target) -> dict[str, Callable[..., int]]:
    """Every kernel of the shared library at `path`, by name. `source` is its C++ text, which gives the signatures.

    Raises KernelBuildError for a file that is no library, or lacks a kernel, or is for another machine.
    """
    import torch  # noqa: F401  (loads the OpenMP runtime, which the library then finds by its name)

    check_features(target)
    library = open_library(path)
    functions: dict[str, Callable[..., int]] = {}
    for name, parameters in _SIGNATURE.findall(source):
        types = [ctypes.c_void_p if "*" in p else ctypes.c_int64 for p in parameters.split(",") if p.strip()]
        try:
            address = _ctypes.dlsym(library._handle, name)
        except OSError:
            raise KernelBuildError(f"{path} has no kernel {name}, which its source has") from None
        # Not `library[name]`: ctypes makes that one hold itself, so that only the garbage collector would close it.
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *types)(address)
        function.library = library  # type: ignore[attr-defined]
        functions[name] = function
    return functions


def check_features(target: Target) -> None:
    """Raise KernelBuildError where this machine cannot run kernels for `target`."""
    missing = set(target.features) - set(host_cpu().features)
    if target.kind != "cpu" or missing:
        what = f"this machine lacks {', '.join(sorted(missing))}" if missing else "it is not a CPU"
        raise KernelBuildError(f"kernels for target {target.name!r} cannot be loaded here: {what}")


def open_library(path: Path) -> ctypes.CDLL:
    """The shared library at `path`, open for as long as it is held. Raises KernelBuildError for what is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KernelBuildError(f"the built kernels cannot be read: {error}") from None
    _check_whole(path, data)
    key = hashlib.sha256(data).hexdigest()
    with _lock:
        library = _open_libraries.get(key)
        if library is None:
            try:
                library = ctypes.CDLL(str(path))
            except OSError as error:
                raise KernelBuildError(
                    f"the built kernels cannot be loaded: {error}. If {path.parent} does not allow programs (noexec), "
                    "set TILEWRIGHT_CACHE_DIR to a directory that does"
                ) from None
            # At exit the operating system closes it, when no thread can be in it any more.
            weakref.finalize(library, _ctypes.dlclose, library._handle).atexit = False
            _open_libraries[key] = library
        _follow_forks()
        return library


def _check_whole(path: Path, data: bytes) -> None:
    """Refuse an ELF file that was cut off: opening it would end the process with a bus error, not with a message."""
    if not data.startswith(b"\x7fELF"):
        raise KernelBuildError(f"{path}, which the C++ compiler wrote, is not a shared library")
    if len(data) < 64:
        raise KernelBuildError(f"{path} is cut off: it has {len(data)} bytes")
    # The table of sections is written last (ELF-64: offset at byte 40, size and number of entries at 58 and 60).
    start, size, count = (int.from_bytes(data[at : at + n], "little") for at, n in ((40, 8), (58, 2), (60, 2)))
    if start + size * count > len(data):
        raise KernelBuildError(f"{path} is cut off: {len(data)} of {start + size * count} bytes are there")


def _follow_forks() -> None:
    """From the first loaded kernel on, forked children run on one thread.

    A child has none of its parent's OpenMP threads, and would wait for them for ever in its first parallel region: in a
    kernel of ours or, eager torch does it too, in one of ATen's. With one thread nothing waits.
    """
    global _follows_forks
    if not _follows_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_serve_child)
    _follows_forks = True


def _serve_child() -> None:
    import torch

    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    torch.set_num_threads(1)
