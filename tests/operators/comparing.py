"""What a sample gives, and whether it is what eager gives.

The rule is that of `tilewright.ir.numerics`: the same bits, or within an ulp, or an error against float64 of at most
twice eager's own (three times for gradients) and two ulps; integers and bools the same, NaN and infinities in the
same places. Results that are float64 themselves have no better oracle: they may differ from eager's by `F64_ULPS`.
The float64 results are eager's, of the operator on widened arguments. What the rule cannot be applied to is a row of
a table below.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from tilewright.ir.numerics import compare

from .samples import Sample, copies, widened

FACTOR, GRADIENT_FACTOR = 2.0, 3.0
F64_ULPS = 32.0  # of the largest element

UNINITIALISED = {
    "empty": "gives memory as it is",
    "empty_like": "gives memory as it is",
    "empty_permuted": "gives memory as it is",
    "empty_strided": "gives memory as it is",
    "new_empty": "gives memory as it is",
    "new_empty_strided": "gives memory as it is",
}
"""Variants whose results have a shape and a dtype, and no value."""


@dataclass
class Outcome:
    """The tensors that a call leaves, by name: its results, its arguments afterwards, gradients."""

    tensors: dict[str, torch.Tensor | None] = field(default_factory=dict)


Call = Callable[..., list[torch.Tensor]]


def outcome(call: Call, tensors: Sequence[torch.Tensor], *, grad: bool = False, seed: int = 1) -> Outcome:
    """Call it. With `grad` also ask for the gradients of the arguments, for random cotangents of the results."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = call(*tensors)
        found = {f"result {i}": x.detach() for i, x in enumerate(results)}
        found |= {f"argument {i} afterwards": x.detach() for i, x in enumerate(tensors)}
        if grad:
            found |= _gradients(results, tensors)
    return Outcome(found)


def _gradients(results: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(7)
    pairs = [
        (x, _cotangent(x, generator))
        for x in results
        if x.requires_grad and x.layout is torch.strided
    ]
    wanted = [i for i, x in enumerate(tensors) if x.requires_grad]
    if not pairs or not wanted:
        return {}
    given = torch.autograd.grad(
        [x for x, _ in pairs], [tensors[i] for i in wanted], [g for _, g in pairs], allow_unused=True
    )
    return {f"gradient of argument {i}": g for i, g in zip(wanted, given)}


def _cotangent(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same numbers in every precision."""
    dtype = torch.complex64 if x.is_complex() else torch.float32
    return torch.randn(x.shape, dtype=dtype, generator=generator).to(x.dtype)


def has_gradients(found: Outcome) -> bool:
    return any(name.startswith("gradient") for name in found.tensors)


def problems(sample: Sample, actual: Outcome, expected: Outcome, *, grad: bool = False) -> list[str]:
    """A line for each tensor that is wrong."""
    if actual.tensors.keys() != expected.tensors.keys():
        return [f"gives {sorted(actual.tensors)}, eager {sorted(expected.tensors)}"]
    wrong = [(name, line) for name in expected.tensors if (line := _problem(name, actual, expected, None))]
    if not wrong or sample.variant in UNINITIALISED:
        return [line for _, line in wrong if sample.variant not in UNINITIALISED or _other_type(line)]
    again = outcome(sample, copies(sample.tensors), grad=grad, seed=2)
    random = {name for name, _ in wrong if _problem(name, again, expected, None)}
    if random:
        return [line for name, _ in wrong if (line := _unlike(name, actual, expected, again))]
    try:
        exact = outcome(sample.in_float64, widened(sample.tensors), grad=grad)
    except Exception as error:  # whatever an operator raises that has no float64 form
        return [f"{line} (eager does not run in float64: {type(error).__name__})" for _, line in wrong]
    return [line for name, _ in wrong if (line := _problem(name, actual, expected, exact))]


def _problem(name: str, actual: Outcome, expected: Outcome, exact: Outcome | None) -> str | None:
    """What is wrong with a tensor; without float64 results whatever is not nearly the same."""
    a, e = (_dense(o.tensors[name]) for o in (actual, expected))
    if a is None or e is None:
        given = a if e is None else e
        zero = given is None or not bool(given.any())  # autograd says None or zeros
        return None if zero else f"{name}: {'no gradient' if a is None else 'a gradient'}, other than eager"
    oracle = _dense(exact.tensors.get(name)) if exact is not None else None
    if exact is not None and oracle is None:
        oracle = torch.zeros_like(e, dtype=torch.float64)  # a gradient that float64 says is none
    if exact is not None and e.dtype == a.dtype == torch.float64 and e.shape == a.shape and bool(
        ((a - e).abs() <= F64_ULPS * torch.finfo(torch.float64).eps * e.abs().max()).all()
    ):
        return None
    factor = GRADIENT_FACTOR if name.startswith("gradient") else FACTOR
    mismatch = compare(a, e, oracle, "reassociates", factor=factor)
    return None if mismatch is None else f"{name}: {mismatch}{_example(a, e, oracle)}"


def _dense(x: torch.Tensor | None) -> torch.Tensor | None:
    if x is None:
        return None
    x = x.resolve_conj().resolve_neg()
    return x if x.layout is torch.strided else x.to_dense()


def _other_type(line: str) -> bool:
    return ": got " in line and ", expected " in line


def _example(a: torch.Tensor, e: torch.Tensor, oracle: torch.Tensor | None) -> str:
    """The first element that differs most plainly."""
    if a.shape != e.shape or a.dtype != e.dtype or a.numel() == 0 or a.is_complex():
        return ""
    x, y = a.double(), e.double()
    difference = torch.where((x == y) | (x.isnan() & y.isnan()), 0.0, (x - y).abs().nan_to_num(math.inf))
    place = int(difference.flatten().argmax())
    exact = "" if oracle is None or oracle.shape != e.shape else f", exactly {oracle.flatten()[place].item()!r}"
    return f"; got {a.flatten()[place].item()!r}, eager {e.flatten()[place].item()!r}{exact}"


def _unlike(name: str, actual: Outcome, expected: Outcome, again: Outcome) -> str | None:
    """What is wrong with a random result: its type, a mean or a spread that two draws of eager's do not have."""
    a, e, f = (_dense(o.tensors[name]) for o in (actual, expected, again))
    if a is None or e is None or f is None:
        return None
    if a.shape != e.shape or a.dtype != e.dtype:
        return f"{name}: random; got {list(a.shape)} of {a.dtype}, expected {list(e.shape)} of {e.dtype}"
    if a.numel() < 2 or a.is_complex():
        return None
    x, y, z = (t.double().flatten() for t in (a, e, f))
    x, y, z = (t[t.isfinite()] for t in (x, y, z))
    if min(len(x), len(y), len(z)) < 2:
        return None
    both = torch.cat([y, z])
    # Within the range of most draws: the tails of some distributions have no mean.
    low, high = torch.quantile(both, torch.tensor([0.05, 0.95], dtype=both.dtype)).tolist()
    x, y, z, both = (t.clamp(low, high) for t in (x, y, z, both))
    deviation = float(both.std())
    slack = 6 * deviation / math.sqrt(len(x)) + abs(float(y.mean() - z.mean())) + 1e-9
    if abs(float(x.mean() - both.mean())) > slack:
        return f"{name}: random; mean {float(x.mean()):.4g}, eager's {float(both.mean()):.4g} ± {deviation:.4g}"
    if len(x) >= 50 and not deviation / 2 <= float(x.std()) <= deviation * 2 + 1e-9:
        return f"{name}: random; spread {float(x.std()):.4g}, eager's {deviation:.4g}"
    return None
