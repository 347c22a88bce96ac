"""Comparing results: what each numerics class allows, settled in float64.

`exact`: the same bits. NaN equals NaN whatever its payload; -0.0 differs from 0.0.

`widens` and `reassociates`: results within one ulp pass. Any others are settled against an oracle (the same
computation in float64): the error of `actual`, as maximum and as root mean square over the tensor, may be at most
`factor` times the error of `expected` plus `SLACK_ULPS` ulps of the result's dtype at the oracle's scale. A tensor of
few elements gives a poor estimate of an error, so n elements are allowed ``factor * (1 + 8 / n)``.

`approximate`: the root mean square error may be at most `APPROXIMATE_RMS` of the oracle's: a bound that tells an
approximation from a mistake. What such a pass costs is for the pass to report.

In all but `exact`:

* A NaN or an infinity must stand where `expected` has the same one, or where the oracle has; a finite element must
  stand where one of the two is finite.
* Integers and bools must be equal. Where rounding can flip a comparison or an argmax, an element may differ if the
  oracle differs from `expected` there as well; of the others at most `FLIPPED_FRACTION` may.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .interpreter.memory import same_bits
from .random_inputs import random_inputs
from .rewrite import NUMERICS

if TYPE_CHECKING:
    import torch

__all__ = ["NUMERICS", "Mismatch", "compare", "error_ratio", "random_inputs"]

CLOSE_ULPS = 1
SLACK_ULPS = 2
FLIPPED_FRACTION = 1e-3
APPROXIMATE_RMS = 0.1


@dataclass(frozen=True)
class Mismatch:
    """Why two results disagree. Errors are absolute, against the oracle; NaN where they were not needed."""

    reason: str
    max_error: float = math.nan
    rms_error: float = math.nan
    expected_max_error: float = math.nan
    expected_rms_error: float = math.nan

    def __str__(self) -> str:
        if math.isnan(self.max_error):
            return self.reason
        return (
            f"{self.reason}: max error {self.max_error:.3g} (expected's own {self.expected_max_error:.3g}), "
            f"rms error {self.rms_error:.3g} (expected's own {self.expected_rms_error:.3g})"
        )


def compare(
    actual: Any, expected: Any, oracle: Any, numerics_class: str, *, factor: float = 2.0
) -> Mismatch | None:
    """None when one result (a tensor, an int, or None) is as the numerics class asks; see the module's text.

    `oracle` is the result in float64, or a callable that computes it; it is called only when needed.
    """
    import torch

    if numerics_class not in NUMERICS:
        raise ValueError(f"a numerics class is one of {', '.join(NUMERICS)}, not {numerics_class!r}")
    if not isinstance(expected, torch.Tensor):
        same = type(actual) is type(expected) and actual == expected
        return None if same else Mismatch(f"got {actual!r}, expected {expected!r}")
    if not isinstance(actual, torch.Tensor):
        return Mismatch(f"got {type(actual).__name__}, expected a tensor")
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return Mismatch(f"got {_type_text(actual)}, expected {_type_text(expected)}")
    actual, expected = actual.detach(), expected.detach()
    if same_bits(actual, expected):
        return None
    if numerics_class == "exact":
        return _exact_mismatch(actual, expected)
    if not (expected.dtype.is_floating_point or expected.dtype.is_complex):
        return _compare_discrete(actual, expected, _value_of(oracle))
    if numerics_class != "approximate" and _close(actual, expected):
        return None
    return _compare_floats(actual, expected, _value_of(oracle), numerics_class, factor)


def error_ratio(actual: torch.Tensor, expected: torch.Tensor, oracle: torch.Tensor) -> float:
    """How many times the error of `expected` the error of `actual` is, against the oracle: the larger of the ratios of
    maximum and of root mean square error. 1 where neither has an error, inf where only `actual` has."""
    ours, theirs = _Errors.of(actual, oracle), _Errors.of(expected, oracle)
    return max(_ratio(ours.maximum, theirs.maximum), _ratio(ours.rms, theirs.rms))


def _ratio(ours: float, theirs: float) -> float:
    if theirs == 0:
        return 1.0 if ours == 0 else math.inf
    return ours / theirs


def _value_of(oracle: Any | Callable[[], Any]) -> Any:
    return oracle() if callable(oracle) else oracle


def _type_text(x: torch.Tensor) -> str:
    return f"{list(x.shape)} of {str(x.dtype).removeprefix('torch.')}"


def _wide(x: torch.Tensor) -> torch.Tensor:
    """As float64; complex numbers become pairs."""
    import torch

    return torch.view_as_real(x.to(torch.complex128)) if x.is_complex() else x.to(torch.float64)


def _exact_mismatch(actual: torch.Tensor, expected: torch.Tensor) -> Mismatch:
    a, e = _wide(actual), _wide(expected)
    differ = ~((a == e) & (a.signbit() == e.signbit()) | (a.isnan() & e.isnan()))
    count = int(differ.sum())
    if count == 0:  # 64-bit integers that float64 does not tell apart
        return Mismatch("elements differ")
    place = tuple(int(i) for i in differ.nonzero()[0])
    return Mismatch(
        f"{count} of {differ.numel()} elements differ, the first at {list(place)}: "
        f"got {float(a[place])!r}, expected {float(e[place])!r}"
    )


def _compare_discrete(actual: torch.Tensor, expected: torch.Tensor, oracle: Any) -> Mismatch | None:
    differ = actual != expected
    if oracle is not None and oracle.shape == expected.shape:
        differ &= oracle.to(expected.dtype) == expected
    flipped, allowed = int(differ.sum()), int(FLIPPED_FRACTION * expected.numel())
    if flipped <= allowed:
        return None
    return Mismatch(f"{flipped} of {expected.numel()} elements differ where float64 agrees with the expected ones")


def _close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether every element is within `CLOSE_ULPS`, without asking the oracle."""
    import torch

    a, e = _wide(actual), _wide(expected)
    near = (a - e).abs() <= CLOSE_ULPS * torch.finfo(expected.dtype).eps * e.abs()
    return bool(((near & e.isfinite()) | (a == e) | (a.isnan() & e.isnan())).all())


@dataclass(frozen=True)
class _Errors:
    maximum: float
    rms: float

    @staticmethod
    def of(x: torch.Tensor, oracle: torch.Tensor) -> _Errors:
        """Over the elements that are finite in both."""
        a, o = _wide(x), _wide(oracle)
        finite = a.isfinite() & o.isfinite()
        error = (a - o)[finite]
        if error.numel() == 0:
            return _Errors(0.0, 0.0)
        return _Errors(float(error.abs().max()), float(error.square().mean().sqrt()))


def _compare_floats(
    actual: torch.Tensor, expected: torch.Tensor, oracle: torch.Tensor, numerics_class: str, factor: float
) -> Mismatch | None:
    import torch

    if not isinstance(oracle, torch.Tensor) or oracle.shape != expected.shape:
        return Mismatch("the float64 run gives another shape")
    ours, theirs = _Errors.of(actual, oracle), _Errors.of(expected, oracle)

    def mismatch(reason: str) -> Mismatch:
        return Mismatch(reason, ours.maximum, ours.rms, theirs.maximum, theirs.rms)

    wrong = ~(_same_kind(actual, expected) | _same_kind(actual, oracle))
    if wrong.any():
        place = [int(i) for i in wrong.nonzero()[0]]
        return mismatch(f"{int(wrong.sum())} elements are wrongly finite or wrongly not, the first at {place}")
    scale = _Errors.of(oracle, torch.zeros_like(oracle))
    if numerics_class == "approximate":
        within = ours.rms <= max(APPROXIMATE_RMS * scale.rms, factor * theirs.rms)
        return None if within else mismatch(f"the rms error is above {APPROXIMATE_RMS:.0%} of the values")
    slack = SLACK_ULPS * torch.finfo(expected.dtype).eps
    factor *= 1 + 8 / expected.numel()
    if ours.maximum > factor * theirs.maximum + slack * scale.maximum:
        return mismatch("the largest error is too large")
    if ours.rms > factor * theirs.rms + slack * scale.rms:
        return mismatch("the rms error is too large")
    return None


def _same_kind(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Where both are finite, both NaN, or the same infinity."""
    a, b = _wide(x), _wide(y)
    return (a.isfinite() & b.isfinite()) | (a.isnan() & b.isnan()) | (a.isinf() & (a == b))
