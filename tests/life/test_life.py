"""Compiling again and again: what is dropped is gone."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import tilewright
from tilewright.codegen.libraries import open_count


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parent.parent.parent / "benchmarks" / "life.py"
    spec = importlib.util.spec_from_file_location("benchmark_life", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_memory_stays_flat(benchmark):
    """No compilation, library or mapping is left of any; memory grows by no more than torch's tracing keeps."""
    rows = benchmark.run_alone("tilewright", 30)
    assert all(row["compilations"] == row["libraries"] == row["mapped"] == 0 for row in rows)
    assert rows[-1]["resident_bytes"] - rows[14]["resident_bytes"] < 6 << 20


def test_the_picture_shows_every_run(benchmark):
    row = {"compiled": 1, "resident_bytes": 100 << 20}
    drawn = benchmark.picture({"tilewright": [row, {**row, "compiled": 2}], "aot_eager": [row]})
    assert drawn.count("<polyline") == 2 and "tilewright</text>" in drawn


def test_a_model_that_is_dropped_closes_its_libraries():
    import gc

    gc.collect()
    before, x = open_count(), torch.linspace(-2, 2, 24).view(4, 6)
    models = [tilewright.compile(lambda x, i=i: torch.softmax(x * (i + 0.123), -1), (x,)) for i in range(3)]
    assert open_count() == before + 3
    again = tilewright.compile(lambda x: torch.softmax(x * 0.123, -1), (x,))
    assert open_count() == before + 3, "equal kernels are open once"
    del models
    gc.collect()
    assert open_count() == before + 1
    torch.testing.assert_close(again(x), torch.softmax(x * 0.123, -1))
    del again
    gc.collect()
    assert open_count() == before
