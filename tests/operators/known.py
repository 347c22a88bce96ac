"""Samples that are known to go wrong. Each row has a reason, and has to go when its sample comes out right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A sample, by the stage at which it goes wrong."""

    variant: str
    stage: str
    dtype: str
    index: int
    reason: str


KNOWN: tuple[Known, ...] = ()
