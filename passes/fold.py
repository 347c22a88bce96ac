"""Fold: compute while compiling what constants alone decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp

from .base import Pass, PassContext, register
from .rules.folding import FOLD


@register
@dataclass(frozen=True)
class Fold(Pass):
    """Replace maps and reductions of constants by constants (`rules/folding.py`).

    before::

        %a = tw.constant {value = #tw.scalar<2.0>} : !tw.tensor<[], f32>
        %b = tw.constant {value = #tw.scalar<3.0>} : !tw.tensor<[4], f32>
        %c = tw.map "mul" %a, %b : (!tw.tensor<[], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>

    after::

        %c = tw.constant {value = #tw.scalar<6.0>} : !tw.tensor<[4], f32>
    """

    name: ClassVar[str] = "fold"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        context.statistics[self.name] = FOLD.apply(module).as_dict()
