"""Canonicalize: one way to write each thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp

from .base import Pass, PassContext, register
from .rules.canonical import CANONICAL


@register
@dataclass(frozen=True)
class Canonicalize(Pass):
    """Bring maps and views to their normal forms (`rules/canonical.py`).

    before::

        %c = tw.constant {value = #tw.scalar<2.0>} : !tw.tensor<[], f32>
        %b = tw.broadcast %c : !tw.tensor<[], f32> -> !tw.tensor<[4, 8], f32>
        %y = tw.map "mul" %b, %x : (!tw.tensor<[4, 8], f32>, !tw.tensor<[4, 8], f32>) -> !tw.tensor<[4, 8], f32>
        %z = tw.permute %y {dims = #tw.dims<[0, 1]>} : !tw.tensor<[4, 8], f32> -> !tw.tensor<[4, 8], f32>

    after::

        %c = tw.constant {value = #tw.scalar<2.0>} : !tw.tensor<[], f32>
        %y = tw.map "mul" %x, %c : (!tw.tensor<[4, 8], f32>, !tw.tensor<[], f32>) -> !tw.tensor<[4, 8], f32>
    """

    name: ClassVar[str] = "canonicalize"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        context.statistics[self.name] = CANONICAL.apply(module).as_dict()
