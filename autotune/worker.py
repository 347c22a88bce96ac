"""The process that builds and runs candidates: `python -m tilewright.autotune.worker`, a line of JSON for each job.

A candidate may crash, hang or corrupt memory: that ends this process, and no other. Each job comes with a limit of
seconds of work, after which the system's alarm ends the process, also in the midst of a kernel, and also when whoever
asked is gone. The clock on the wall may show `PATIENCE` times as much: a busy machine may stop a process for a while.
Jobs: ``open`` makes the kernel's inputs, and the results of the default schedule; ``check`` builds a candidate
and compares its results with those; ``sample`` times calls. Answers: ``{"ok": ...}`` or ``{"wrong"|"failed": reason}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PATIENCE = 10


class Bench:
    """A kernel with inputs, and the candidates that were built for it."""

    def __init__(self, text: str, shapes: Sequence[tuple[int, str]], sizes: Mapping[str, int], threads: int):
        import torch

        from tilewright.codegen.cpp.standalone import make_inputs
        from tilewright.ir.text import parse_ir
        from tilewright.ir.tile import KernelOp

        torch.set_num_threads(threads)
        [kernel] = parse_ir(text, "kernel.mlir").ops
        assert isinstance(kernel, KernelOp)
        self.kernel, self.sizes = kernel, [sizes[name] for name in kernel.size_names]
        self.inputs = make_inputs(kernel, shapes, sizes)
        self.functions: dict[str, Callable[..., int]] = {}
        self.expected = self.results(self.build({}))
        self.pointers = [t.data_ptr() for t in self.inputs]

    def build(self, schedule: Mapping[str, int]) -> Callable[..., int]:
        """The function of a candidate. Raises KernelBuildError."""
        from tilewright.codegen.cpp import print_file
        from tilewright.codegen.native import load_kernels
        from tilewright.ir.target import host_cpu

        key = json.dumps(schedule, sort_keys=True)
        if key not in self.functions:
            self.kernel.set_schedule(schedule)
            name = self.kernel.sym_name.data
            self.functions[key] = load_kernels(print_file([self.kernel], host_cpu()), [name], host_cpu())[name]
        return self.functions[key]

    def results(self, function: Callable[..., int]) -> list[Any]:
        """The buffers after a call on copies of the inputs. Raises NumericMismatchError for a call that fails."""
        from tilewright.ir.errors import NumericMismatchError

        buffers = [t.clone() for t in self.inputs]
        status = function(*(t.data_ptr() for t in buffers), *self.sizes)
        if status:
            raise NumericMismatchError(f"the kernel reports failure {status}")
        return buffers

    def check(self, schedule: Mapping[str, int]) -> None:
        """Raises NumericMismatchError for a candidate that computes something else."""
        from tilewright.codegen.cpp.standalone import compare

        compare(self.kernel, self.results(self.build(schedule)), self.expected)

    def sample(self, schedule: Mapping[str, int], calls: int) -> float:
        """Seconds per call."""
        function, arguments = self.build(schedule), (*self.pointers, *self.sizes)
        function(*arguments)
        started = time.perf_counter()
        for _ in range(calls):
            function(*arguments)
        return max((time.perf_counter() - started) / calls, 1e-9)


def main() -> None:
    """Answer jobs until there are no more."""
    from tilewright.ir.errors import NumericMismatchError

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    bench: Bench | None = None
    threads = 1
    for line in sys.stdin:
        job = json.loads(line)
        limit = job.pop("limit")
        threads = job.get("threads", threads)
        signal.setitimer(signal.ITIMER_PROF, limit * threads)
        signal.setitimer(signal.ITIMER_REAL, limit * PATIENCE)
        answer: dict[str, Any]
        try:
            if job["job"] == "open":
                bench = None  # the memory of the one before is free first
                bench = Bench(job["kernel"], job["shapes"], job["sizes"], job["threads"])
                answer = {"ok": None}
            elif job["job"] == "check":
                assert bench is not None
                bench.check(job["schedule"])
                answer = {"ok": None}
            else:
                assert bench is not None
                answer = {"ok": bench.sample(job["schedule"], job["calls"])}
        except NumericMismatchError as error:
            answer = {"wrong": str(error)}
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
