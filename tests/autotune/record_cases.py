"""Records for the tests of this folder."""

from __future__ import annotations

import dataclasses
from typing import Any

from tilewright.autotune.lookup import Question, plain_facts
from tilewright.autotune.records import Record, Trial
from tilewright.ir.target import host_cpu


def record(number: int = 0, **changes: Any) -> Record:
    """A valid record of kernel `number`."""
    made = Record(
        kernel=f"{number:064x}", family=f"{number // 10:064x}", name=f"softmax_{number}", kind="loop",
        target=plain_facts(host_cpu()), threads=2, dtypes=("f32", "f32"), sizes={}, schedule={"LANES": 32},
        trials=(
            Trial({}, "measured", (2e-5, 2.1e-5)), Trial({"LANES": 32}, "measured", (1e-5, 1.1e-5)),
            Trial({"LANES": 128}, "failed", (), "SIGSEGV"),
        ),
        versions={"tilewright": "0.1.0", "compiler": "g++ (Debian 12.2.0) 12.2.0"},
        found={"effort": "quick", "search": "halving", "seconds": 1.5, "date": "2026-01-31"},
    )
    return dataclasses.replace(made, **changes)


def question(number: int = 0, **changes: Any) -> Question:
    """The question that `record(number)` answers."""
    asked = Question(
        kernel=f"{number:064x}", family=f"{number // 10:064x}", name=f"softmax_{number}", kind="loop",
        dtypes=("f32", "f32"), target=plain_facts(host_cpu()), threads=2,
    )
    return dataclasses.replace(asked, **changes)
