"""Measuring candidates in a worker process, which is started again when a candidate has ended it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import ModuleOp

from tilewright.ir.text import print_ir
from tilewright.ir.tile import KernelOp

# Of work; what waits gets more (`worker.py`: `PATIENCE`). A check may build.
OPEN_SECONDS, CHECK_SECONDS, SAMPLE_SECONDS = 120.0, 60.0, 30.0


@dataclass(frozen=True)
class Refused(Exception):
    """A candidate that is of no use: `outcome` is ``wrong`` or ``failed``, as in a record."""

    outcome: str
    reason: str


class Worker:
    """One process, which measures candidates of one kernel at a time."""

    def __init__(self, seconds: float | None = None):
        """`seconds`: a limit for each job, in place of the usual ones."""
        self.seconds = seconds
        self.process: subprocess.Popen[str] | None = None
        self.opened: dict[str, Any] = {}
        self.restarts = 0

    def open(
        self, kernel: KernelOp, shapes: Sequence[tuple[int, str]], sizes: Mapping[str, int], threads: int
    ) -> None:
        """Take up a kernel. Raises Refused where its default schedule fails."""
        copy = kernel.clone()
        copy.properties.pop("schedule", None)
        self.opened = {"kernel": print_ir(ModuleOp([copy])), "shapes": list(shapes), "sizes": dict(sizes),
                       "threads": threads}
        self._stop()
        self._ask("open", OPEN_SECONDS, **self.opened)

    def check(self, schedule: Mapping[str, int]) -> None:
        """Build a candidate and compare what it computes. Raises Refused."""
        self._ask("check", CHECK_SECONDS, schedule=dict(schedule))

    def sample(self, schedule: Mapping[str, int], calls: int) -> float:
        """Seconds per call, of `calls` calls one after the other. Raises Refused."""
        return float(self._ask("sample", SAMPLE_SECONDS, schedule=dict(schedule), calls=calls))

    def close(self) -> None:
        """End the process."""
        self._stop()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, job: str, limit: float, **values: Any) -> Any:
        if self.process is None:
            self._start()
            if job != "open":
                self._exchange({"job": "open", "limit": self.seconds or OPEN_SECONDS, **self.opened})
        answer = self._exchange({"job": job, "limit": self.seconds or limit, **values})
        if "ok" in answer:
            return answer["ok"]
        [(outcome, reason)] = answer.items()
        raise Refused(outcome, reason)

    def _exchange(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a job. Raises Refused where the process ends instead."""
        process = self.process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line.endswith("\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = process.wait()
        self.process = None
        self.restarts += 1
        if code in (-signal.SIGALRM, -signal.SIGPROF):
            raise Refused("failed", f"it took more than {job['limit']:g} s")
        name = signal.Signals(-code).name if code < 0 else f"status {code}"
        raise Refused("failed", f"its process ended with {name}")

    def _start(self) -> None:
        # Workers that spin while they wait would take each other's time.
        environment = {**os.environ, "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tilewright.autotune.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=environment,
        )

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None
