"""Simplify: less to compute, with every bit the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp

from .base import Pass, PassContext, register
from .rules.algebra import ALGEBRA
from .rules.canonical import CANONICAL
from .rules.folding import FOLD
from .rules.views import VIEWS

# Together, because each makes work for the others: a mask of positions becomes a constant by all four.
RULES = FOLD + CANONICAL + ALGEBRA + VIEWS


@register
@dataclass(frozen=True)
class Simplify(Pass):
    """Apply algebra, view and position rules to a fixed point, together with normal forms and constant folding.

    The rules stand in `rules/algebra.py`, `rules/views.py`, `rules/canonical.py` and `rules/folding.py`.

    before::

        %i = tw.iota {dim = #tw.dims<[0]>, start = #tw.dims<[0]>, step = #tw.dims<[1]>} : !tw.tensor<[8], i64>
        %zero = tw.constant {value = #tw.scalar<0>} : !tw.tensor<[], i64>
        %ok = tw.map "ge" %i, %zero : (!tw.tensor<[8], i64>, !tw.tensor<[], i64>) -> !tw.tensor<[8], bool>
        %two = tw.constant {value = #tw.scalar<2.0>} : !tw.tensor<[], f32>
        %half = tw.map "div" %x, %two : (!tw.tensor<[8], f32>, !tw.tensor<[], f32>) -> !tw.tensor<[8], f32>
        %y = tw.map "where" %ok, %half, %x : (!tw.tensor<[8], bool>, ...) -> !tw.tensor<[8], f32>

    after::

        %c = tw.constant {value = #tw.scalar<0.5>} : !tw.tensor<[], f32>
        %y = tw.map "mul" %x, %c : (!tw.tensor<[8], f32>, !tw.tensor<[], f32>) -> !tw.tensor<[8], f32>
    """

    name: ClassVar[str] = "simplify"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        context.statistics[self.name] = RULES.only("exact").apply(module).as_dict()
