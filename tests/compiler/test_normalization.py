"""Normalisations of values far from zero: against float64, no worse than eager's."""

from __future__ import annotations

import pytest
import torch
from importer_cases import case
from importer_checks import results, trace

from tilewright.importer import import_graph
from tilewright.ir import interpreter

aten = torch.ops.aten


@pytest.mark.parametrize("mean", [0.0, 10.0, -1000.0, 3e5])
def test_batch_norm_of_given_statistics(mean):
    """The mean is taken off before anything is rounded."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 6, 9, 7, generator=generator) + mean
    weight, bias = torch.randn(2, 6, generator=generator)
    arguments = [x, weight, bias, torch.full((6,), mean), torch.full((6,), 0.7)]
    overload = aten._native_batch_norm_legit_no_training.default
    narrow = case(overload, *arguments, 0.1, 1e-5, only=0)
    [exact] = results(case(overload, *(a.double() for a in arguments), 0.1, 1e-5, only=0))
    module, tensors = trace(narrow, False)
    [ours] = interpreter.run(import_graph(module).module, tensors)
    [eagers] = results(narrow)
    ulp = torch.finfo(torch.float32).eps * exact.abs().max()
    assert (ours - exact).abs().max() <= 2 * (eagers - exact).abs().max() + 2 * ulp
