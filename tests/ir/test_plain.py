"""Modules as plain data: equal to what they were made of, to the last location and bit."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from xdsl.dialects.builtin import ModuleOp, UnitAttr

import tilewright
from tilewright.ir.plain import from_plain, to_plain
from tilewright.ir.text import parse_ir, print_ir
from tilewright.ir.types import RefType, ValueType

DATA = Path(__file__).parent.parent / "data"


@pytest.mark.parametrize("name", ["tw", "prog"])
def test_modules_come_back(name):
    text = print_ir(parse_ir((DATA / f"{name}.mlir").read_text()))
    module = from_plain(json.loads(json.dumps(to_plain(parse_ir(text)))))
    module.verify()
    assert print_ir(module) == text


def test_every_stage_of_a_model_comes_back():
    def model(x, index):
        y = torch.nn.functional.layer_norm(x, (x.shape[1],)) * float("inf")
        return torch.softmax(y[index], -1), x.cumsum(0).argmax(1)

    sizes = {"x": {0: torch.export.Dim("rows", min=2)}, "index": None}
    made = tilewright.compile(model, (torch.randn(6, 8), torch.tensor([1, 3])), dynamic_shapes=sizes)
    for stage, text in made.compilation.stages.items():
        assert print_ir(from_plain(json.loads(json.dumps(to_plain(parse_ir(text)))))) == text, stage


def test_constants_keep_every_bit():
    lines = "\n".join(
        f"    %{i} = tw.constant {{value = #tw.scalar<{value}>}} : !tw.tensor<[], {dtype}>"
        for i, (value, dtype) in enumerate([('"nan"', "f32"), ('"-inf"', "f32"), ("-0.0", "f32"), ("true", "bool"),
                                            ("1", "i64"), ("1.0", "f32"), ("0.1", "f64")])
    )
    text = f"builtin.module {{\n  func.func @forward() {{\n{lines}\n    tw.return\n  }}\n}}\n"
    back = from_plain(json.loads(json.dumps(to_plain(parse_ir(text)))))
    values = [op.value.data for op in back.walk() if op.name == "tw.constant"]
    assert math.isnan(values[0]) and math.copysign(1, values[2]) == -1
    assert [type(v) for v in values] == [float, float, float, bool, int, float, float]
    assert print_ir(back) == print_ir(parse_ir(text))


def test_what_has_no_plain_form_is_refused():
    module = ModuleOp([])
    module.attributes["flag"] = UnitAttr()
    assert from_plain(to_plain(module)).attributes == module.attributes
    from xdsl.dialects.builtin import BytesAttr

    module.attributes["bytes"] = BytesAttr(b"x")
    with pytest.raises(TypeError, match="no plain form"):
        to_plain(module)


@pytest.mark.parametrize("kind", [RefType, ValueType])
def test_element_types_differ_by_their_dtype(kind):
    assert kind.get("f32") != kind.get("i64") and kind.get("f32") == kind.get("f32")
