"""The dumps of five models: each parses back, prints the same, and computes in the interpreter what the model does."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from zoo import MODELS

import tilewright
from tilewright.ir.text import parse_ir, print_ir
from tilewright.passes.pipelines import parse_pipeline
from tilewright.passes.verify import NumericVerifier

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
SLOW = {("minilm", "f32"), ("resnet", "bf16"), ("llama", "f32")}


@pytest.mark.parametrize(("name", "dtype"), [
    pytest.param(*case, marks=pytest.mark.slow if case in SLOW else pytest.mark.exhaustive)
    for case in itertools.product(MODELS, DTYPES)
])
def test_every_dump_is_the_model(name, dtype, tmp_path):
    row = MODELS[name]
    model = row.build(small=True, dtype=DTYPES[dtype])
    inputs = row.inputs(model, small=True)
    made = tilewright.compile(model, (), inputs, dump_ir=str(tmp_path))
    bound = made.signature.bind(made.signature.flatten((), inputs))
    values = [*bound, *made.compilation.constants]

    first, *others = sorted(tmp_path.glob("*.mlir"))
    passes = parse_pipeline("default")
    assert first.name == "00_import.mlir" and len(others) == len(passes)
    verifier = NumericVerifier(values, _parsed(first))
    for path, item in zip(others, passes):
        assert path.stem[3:] == item.name.replace("-", "_")
        verifier.check(_parsed(path), path.name, item.numerics)
    verifier.check_callable(lambda _: made.compilation(*bound), "kernels")
    assert verifier.skipped == []


def _parsed(path: Path):
    """The module in a dump, after it was printed again, but for the line that says where it comes from."""
    provenance, _, text = path.read_text().partition("\n")
    assert provenance.startswith("// tilewright ")
    module = parse_ir(text)
    assert print_ir(module) == text
    return module
