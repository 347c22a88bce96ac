"""What a run found, variant by variant: `benchmarks/results/operators.json`, and the page made of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .variants import CRASH, FORWARD, OK, SKIPPED, UNTRACED, WRONG, Record

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "operators.json"
PAGE = ROOT / "docs" / "operators.md"

NATIVE, PARTLY, FALLBACK, NOT_TRACED, NO_SAMPLES = (
    "native", "partly native", "fallback", "not traceable", "no samples",
)
STATUSES = {
    NATIVE: "every graph of every sample runs without ATen, but for products, convolutions and attention",
    PARTLY: "some samples do, others leave an op or the graph to ATen",
    FALLBACK: "in every sample something is left to ATen",
    NOT_TRACED: "AOTAutograd gives no graph for any sample; torch.compile leaves the call to Python",
    NO_SAMPLES: "no sample on a CPU in float32, bfloat16, int64 or bool that eager runs",
}
KEPT_EXAMPLES = 3


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """A variant's row: its status, how many samples ran by stage and dtype, why not all natively, what went wrong."""
    forward = [r for r in records if r.stage == FORWARD and r.status != SKIPPED]
    traced = [r for r in forward if r.status != UNTRACED]
    native = [r for r in traced if not r.reasons and r.status == OK]
    if not forward:
        status = NO_SAMPLES
    elif not traced:
        status = NOT_TRACED
    elif len(native) == len(forward):
        status = NATIVE
    else:
        status = PARTLY if native else FALLBACK
    row: dict[str, Any] = {"status": status, "samples": _counts(records)}
    if forward and status != NATIVE:
        row["native_samples"] = [len(native), len(forward)]
    for name, chosen in (("reasons", forward), ("backward_reasons", [r for r in records if r.stage == "backward"])):
        reasons = _reasons(chosen)
        if reasons:
            row[name] = dict(reasons.most_common())
    for name, kind in (("wrong", WRONG), ("crashes", CRASH)):
        bad = [r for r in records if r.status == kind]
        if bad:
            row[name] = {"count": len(bad), "examples": [_example(r) for r in bad[:KEPT_EXAMPLES]]}
    return row


def _counts(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for record in records:
        if record.status != SKIPPED:
            of_stage = counts.setdefault(record.stage, {})
            of_stage[record.dtype] = of_stage.get(record.dtype, 0) + 1
    return counts


def _reasons(records: Sequence[Record]) -> Counter[str]:
    """How many samples each reason keeps from running natively."""
    counts: Counter[str] = Counter()
    for record in records:
        found = {f"{op}: {reason}" for op, reason in record.reasons}
        if record.status == UNTRACED:
            found = {f"{UNTRACED}: {record.detail}"}
        counts.update(found)
    return counts


def _example(record: Record) -> dict[str, Any]:
    kept = record.as_dict()
    return {name: kept[name] for name in ("stage", "dtype", "index", "arguments", "detail")}


def totals(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many variants there are of each status."""
    counts = Counter(row["status"] for row in rows.values())
    return {status: counts[status] for status in STATUSES}


def save(rows: Mapping[str, Any], about: Mapping[str, Any], path: Path = RESULTS) -> None:
    path.write_text(json.dumps({**about, "totals": totals(rows), "variants": dict(rows)}, indent=1) + "\n")
