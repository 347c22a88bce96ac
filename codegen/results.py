"""The memory of large results that host programs in C++ keep from call to call: `cpp/tilewright_results.h`."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache

import torch

# Bytes of a result from which on it is kept: the system clears each page of what is fresh. What is smaller malloc keeps
# by itself (glibc gives back at once only what is larger).
LEAST = 32 << 20
# Bytes that are kept at most, and their share of the machine's memory.
LIMIT, SHARE = 1 << 30, 16

KEPT_RESULTS = 128


class KeptResult(ctypes.Structure):
    """As in C++. `used` is the clock when it was last given to a call."""

    _fields_ = (
        ("tensor", ctypes.c_void_p), ("data", ctypes.c_void_p), ("dtype", ctypes.c_int64), ("bytes", ctypes.c_int64),
        ("used", ctypes.c_int64),
    )


class Results(ctypes.Structure):
    """As in C++: the `count` first of `kept`, of `bytes` together. A `limit` of 0 turns the keeping off."""

    _fields_ = (
        ("size", ctypes.c_int64), ("least", ctypes.c_int64), ("limit", ctypes.c_int64), ("locked", ctypes.c_int64),
        ("clock", ctypes.c_int64), ("bytes", ctypes.c_int64), ("count", ctypes.c_int64),
        ("kept", KeptResult * KEPT_RESULTS),
    )


@lru_cache(maxsize=1)
def kept_results() -> Results:
    """Those of this process."""
    limit = min(LIMIT, _memory() // SHARE) if any(storage_counts()) else 0
    results = Results(size=ctypes.sizeof(Results), least=LEAST, limit=limit)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(results))  # programs that die with the interpreter still read it
    return results


def _memory() -> int:
    """Bytes of the machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return LIMIT


@lru_cache(maxsize=1)
def storage_counts() -> tuple[int, int, int]:
    """Where what an at::Tensor points to has its storage, where a storage has its counts, and what these are where one
    tensor alone has the storage. Zeros for a torch that keeps them elsewhere: nothing is kept there."""
    probe = torch.empty(1)
    storage = probe.untyped_storage()._cdata
    at = 2 * ctypes.sizeof(ctypes.c_void_p)  # behind the table of virtual functions and the counts of the tensor itself
    counts = ctypes.sizeof(ctypes.c_void_p)
    if ctypes.c_size_t.from_address(probe._cdata + at).value != storage:
        return 0, 0, 0
    tensor = torch.empty(1)  # of whose storage Python has no object

    def read() -> int:
        return ctypes.c_int64.from_address(ctypes.c_size_t.from_address(tensor._cdata + at).value + counts).value

    alone = read()
    views = [tensor.view(1), tensor.detach()]
    shared = read()
    del views
    works = shared == alone + 2 and read() == alone and alone & 0xffffffff == 1
    return (at, counts, alone) if works else (0, 0, 0)
