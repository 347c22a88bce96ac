"""Where `verify="numeric"` fails, the error names the rule, the node or the kernel."""

from __future__ import annotations

import pytest
import torch

import tilewright
from tilewright import pipeline
from tilewright.importer.table import RULES
from tilewright.ir.errors import NumericMismatchError
from tilewright.ir.patterns import captures, map_
from tilewright.ir.rewrite import Rule, RuleSet
from tilewright.passes import simplify

aten = torch.ops.aten


class Model(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        scaled = torch.softmax(x * 3, -1).sum(-1)
        return scaled @ (y - 1).tanh()


def compile_it() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(shape, generator=generator) for shape in ((5, 7, 6), (7, 4)))
    tilewright.compile(Model(), (x, y), verify="numeric")


def test_a_right_compiler_is_not_blamed():
    compile_it()


def test_a_wrong_rule_is_named(monkeypatch):
    x, y = captures("x y")
    wrong = Rule("exp x -> tanh x", map_("exp", x), lambda x, build: build.map("tanh", x))
    unused = Rule("sin x -> x", map_("sin", y), lambda y: y)
    monkeypatch.setattr(simplify, "RULES", simplify.RULES + RuleSet(wrong, unused))
    with pytest.raises(NumericMismatchError, match=r"^simplify claims to be 'exact'") as error:
        compile_it()
    [notes] = error.value.__notes__
    assert "rules that fired in it: " in notes and repr(wrong.name) in notes and unused.name not in notes


def test_a_wrong_import_is_named(monkeypatch):
    monkeypatch.setitem(RULES, aten.tanh.default, RULES[aten.exp.default])
    with pytest.raises(NumericMismatchError, match=r"^import claims") as error:
        compile_it()
    assert "the first to differ is %tanh, aten.tanh.default at test_blame.py:22: " in str(error.value)


def test_a_wrong_kernel_is_named(monkeypatch):
    def wrong(*args):
        return [source.replace("tw::tanh(", "tw::exp(") for source in pipeline_print(*args)]

    pipeline_print = pipeline.print_files
    monkeypatch.setattr(pipeline, "print_files", wrong)
    with pytest.raises(NumericMismatchError, match=r"^kernel emission claims") as error:
        compile_it()
    [line] = [line for line in str(error.value).splitlines() if "kernel" in line and "interpreter" in line]
    assert "tanh" in line
