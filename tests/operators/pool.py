"""Worker processes that may crash or hang: what they were doing is recorded, and the run goes on."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from .variants import CRASH, Plan, Record, run_variant

SECONDS_PER_SAMPLE = 180.0  # between two signs of life; the C++ of all samples of a variant is one step
VARIANTS_PER_PROCESS = 50  # loaded kernels and caches of tracing are never freed


@dataclass
class Finished:
    """A variant and all its records."""

    variant: str
    records: list[Record]
    seconds: float


def _work(connection: Connection) -> None:
    """A worker: takes ``(variant, plan)``, sends what `run_variant` announces and yields, until it is told None."""
    import torch

    torch.set_num_threads(1)
    while (task := connection.recv()) is not None:
        variant, plan = task
        for record in run_variant(variant, plan, lambda *place: connection.send(("at", place))):
            connection.send(("record", record))
        connection.send(("done", None))


Work = Callable[[Connection], None]


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    tasks: int = 0
    variant: str = ""
    plan: Plan = field(default_factory=Plan)
    records: list[Record] = field(default_factory=list)
    at: tuple[str, str, int] | None = None
    started: float = 0.0
    heard: float = 0.0

    @staticmethod
    def start(work: Work) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def give(self, variant: str, plan: Plan, records: list[Record], started: float) -> None:
        self.variant, self.plan, self.records, self.at = variant, plan, records, None
        self.started, self.heard = started, time.monotonic()
        self.tasks += 1
        self.connection.send((variant, plan))

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_all(
    variants: Sequence[str], plan: Plan, *, processes: int = 2, seconds_per_sample: float = SECONDS_PER_SAMPLE,
    work: Work = _work,
) -> Iterator[Finished]:
    """Run the variants, in any order. A sample that ends its process or that takes too long is recorded as a crash."""
    waiting = list(reversed(variants))
    again: list[tuple[str, Plan, list[Record], float]] = []
    workers: list[_Worker] = []
    try:
        while waiting or again or workers:
            while len(workers) < processes and (waiting or again):
                workers.append(_Worker.start(work))
                _next_task(workers[-1], waiting, again, plan)
            ready = set(wait([w.connection for w in workers], timeout=1.0))
            for worker in list(workers):
                ended: str | None = None
                if worker.connection in ready:
                    worker.heard = time.monotonic()
                    try:
                        kind, content = worker.connection.recv()
                    except (EOFError, ConnectionError):
                        worker.process.join()
                        ended = f"the process ended with {worker.process.exitcode}"
                    else:
                        if kind == "at":
                            worker.at = content
                        elif kind == "record":
                            worker.records.append(content)
                        else:
                            yield Finished(worker.variant, worker.records, time.monotonic() - worker.started)
                            if worker.tasks >= VARIANTS_PER_PROCESS or not (waiting or again):
                                worker.stop()
                                workers.remove(worker)
                            else:
                                _next_task(worker, waiting, again, plan)
                        continue
                elif time.monotonic() - worker.heard > seconds_per_sample:
                    ended = f"took more than {seconds_per_sample:.0f} s"
                if ended is not None:
                    worker.stop()
                    workers.remove(worker)
                    finished = _crashed(worker, ended, again)
                    if finished is not None:
                        yield finished
    finally:
        for worker in workers:
            worker.stop()


def _next_task(worker: _Worker, waiting: list[str], again: list[Any], plan: Plan) -> None:
    if again:
        worker.give(*again.pop())
    else:
        worker.give(waiting.pop(), plan, [], time.monotonic())


def _crashed(worker: _Worker, reason: str, again: list[Any]) -> Finished | None:
    """Record it against the sample at hand; the rest of the variant goes to another process."""
    stage, dtype, index = worker.at or ("start", "", -1)
    worker.records.append(Record(stage, dtype, index, CRASH, reason))
    if worker.at is None:
        return Finished(worker.variant, worker.records, time.monotonic() - worker.started)
    seen = frozenset((r.stage, r.dtype, r.index) for r in worker.records)
    again.append((worker.variant, replace(worker.plan, skip=worker.plan.skip | seen), worker.records, worker.started))
    return None
