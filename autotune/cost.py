"""The cost model: a roofline over the target's facts, for a kernel with a schedule. It ranks; it promises no time."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tilewright.codegen.cpp import cost as work_of
from tilewright.codegen.cpp.schedule import Schedule as Printed
from tilewright.ir.cost import kernel_cost
from tilewright.ir.dtypes import itemsize
from tilewright.ir.target import Target
from tilewright.ir.tile import ForOp, KernelOp, value_dtype

from .space import Schedule

WAKE_SECONDS = 1e-5
"""To wake the threads that sleep, and to wait for the last of them."""
LATENCY = 4
"""Vectors that must be under way for an addition to begin in every cycle."""


def predicted_seconds(kernel: KernelOp, schedule: Schedule, target: Target, threads: int) -> float:
    """Seconds of a call: the slower of arithmetic and memory, over the threads that run, and what waking them costs.

    Arithmetic slows down where a reduction has fewer lanes than keep the units busy, and where a vector is not full.
    """
    knobs, cost = Printed.make(schedule), kernel_cost(kernel)
    cores = max(1, min(threads, target.cores))
    work = max((total for op in kernel.body.block.ops if isinstance(total := work_of.work(op), int)), default=0)
    parallel = cores > 1 and work >= knobs.parallel_work and any(
        isinstance(op, ForOp) and op.kind.data == "parallel" for op in kernel.walk()
    )
    running = cores if parallel else 1
    elements = max(1, target.vector_bytes // _element_bytes(kernel))
    filled = 1.0 if knobs.simdlen == 0 else min(1.0, knobs.simdlen / elements)
    busy = min(1.0, knobs.lanes / (LATENCY * elements)) if _reduces(kernel) else 1.0
    peak = target.peak_flops / target.cores * running * max(filled, 1 / elements) * max(busy, 1 / (LATENCY * elements))
    bandwidth = target.cache_bandwidth if cost.bytes_moved <= target.l2_bytes else target.bandwidth
    share = bandwidth * (running / target.cores if cost.bytes_moved <= target.l2_bytes else 1.0)
    roof = max(cost.flops / peak, cost.bytes_moved / share)
    return roof + target.launch_seconds + (WAKE_SECONDS if parallel else 0.0)


def ranked(kernel: KernelOp, schedules: Iterable[Schedule], target: Target, threads: int) -> list[Schedule]:
    """Schedules, those that promise most first; equal ones in the order in which they came."""
    return sorted(schedules, key=lambda schedule: predicted_seconds(kernel, schedule, target, threads))


def _element_bytes(kernel: KernelOp) -> int:
    return max((itemsize(value_dtype(a)) for a in kernel.args), default=4)


def _reduces(kernel: KernelOp) -> bool:
    return any(isinstance(op, ForOp) and op.kind.data == "vector" and op.outputs for op in kernel.walk())


def rank_correlation(first: list[float], second: list[float]) -> float:
    """Spearman's: 1 where both lists order alike, -1 where they order oppositely, NaN where one is all equal."""
    a, b = _ranks(first), _ranks(second)
    mean = (len(a) - 1) / 2
    covariance = sum((x - mean) * (y - mean) for x, y in zip(a, b))
    spread = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return covariance / spread if spread else math.nan


def _ranks(values: list[float]) -> list[float]:
    """The rank of each value; equal ones share the mean of theirs."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for place in order[start:stop]:
            ranks[place] = (start + stop - 1) / 2
        start = stop
    return ranks
