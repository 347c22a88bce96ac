"""Targets: a row of facts about a machine. Passes and cost models ask the target, never the machine."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from .errors import OptionValueError, nearest


@dataclass(frozen=True)
class Target:
    """`isa` is what kernels may use (``avx512``, ``avx2``, ``generic``, or a GPU arch); `features` what the code is
    compiled for and what a loaded artifact asks of a machine. Sizes in bytes, bandwidth in bytes/s, peak in flop/s."""

    name: str
    kind: str
    isa: str
    features: tuple[str, ...]
    cores: int
    vector_bytes: int
    l1_bytes: int
    l2_bytes: int
    shared_bytes: int
    bandwidth: float
    cache_bandwidth: float
    peak_flops: float
    launch_seconds: float

    def facts(self) -> dict[str, Any]:
        """The row as plain data, for records, artifacts and reports."""
        return asdict(self)


_GPU = {"kind": "gpu", "features": (), "vector_bytes": 16, "l1_bytes": 0, "cache_bandwidth": 5e12}
GPU_TARGETS: dict[str, Target] = {
    "sm_80": Target(name="sm_80", isa="sm_80", cores=108, l2_bytes=40 << 20, shared_bytes=163 << 10,
                    bandwidth=1.5e12, peak_flops=19.5e12, launch_seconds=4e-6, **_GPU),  # type: ignore[arg-type]
    "sm_90": Target(name="sm_90", isa="sm_90", cores=132, l2_bytes=50 << 20, shared_bytes=227 << 10,
                    bandwidth=3.3e12, peak_flops=67e12, launch_seconds=4e-6, **_GPU),  # type: ignore[arg-type]
    "sm_100": Target(name="sm_100", isa="sm_100", cores=148, l2_bytes=126 << 20, shared_bytes=227 << 10,
                     bandwidth=8e12, peak_flops=80e12, launch_seconds=4e-6, **_GPU),  # type: ignore[arg-type]
}

# The features that change generated CPU code, as /proc/cpuinfo spells them.
_CODE_FEATURES = (
    "avx", "avx2", "fma", "f16c", "bmi2", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "sve",
)


@lru_cache(maxsize=1)
def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


@lru_cache(maxsize=1)
def host_cpu() -> Target:
    """The machine this process runs on.

    Bandwidths and cache sizes are conservative constants, used to compare plans with each other: what is advertised
    (L3 above all) is often not there.
    """
    flags = _cpu_flags()
    features = tuple(f for f in _CODE_FEATURES if f in flags)
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        isa, vector = "avx512", 64
    elif {"avx2", "fma"} <= flags:
        isa, vector = "avx2", 32
    else:
        isa, vector = "generic", 16
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Target(
        name="cpu", kind="cpu", isa=isa, features=(platform.machine(), *features), cores=cores, vector_bytes=vector,
        l1_bytes=32 << 10, l2_bytes=1 << 20, shared_bytes=0, bandwidth=12e9, cache_bandwidth=60e9,
        peak_flops=cores * 2.5e9 * vector // 4 * 2, launch_seconds=2e-6,
    )


def target(name: str | None = None) -> Target:
    """The target called `name` (default: this machine's CPU). Raises OptionValueError for an unknown one."""
    if name in (None, "cpu"):
        return host_cpu()
    assert name is not None
    if name in GPU_TARGETS:
        return GPU_TARGETS[name]
    raise OptionValueError(f"unknown target {name!r}{nearest(name, ['cpu', *GPU_TARGETS])}")
