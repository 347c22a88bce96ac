"""Choose the memory layout of convolutions: channels last, where the caller does not expect another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue

from tilewright.ir import tw
from tilewright.ir.expr import IntExpr, hint
from tilewright.ir.types import DimsAttr, contiguous_strides

from .base import Pass, PassContext, register
from .frozen_values import frozen_values
from .fusion_graph import PLAIN_VIEWS

LARGEST_WEIGHT = 12
"""Times the elements of an image batch: a weight larger than that costs more to lay out in each call than is saved."""
LARGEST_SHARE = 0.25
"""Of the bytes that convolutions read and write, the part that the caller may want as it was traced: it is copied."""


@register
@dataclass(frozen=True)
class Layout(Pass):
    """Let convolutions give their results with the channels side by side.

    Before::

        %y = tw.conv %x, %w {..., strides = #tw.dims<[2048, 64, 8, 1]>} : ... -> !tw.tensor<[1, 32, 8, 8], f32>

    after::

        %y = tw.conv %x, %w {..., strides = #tw.dims<[2048, 1, 256, 32]>} : ...

    The library's kernels are fastest there, and what follows of ours runs along the channels. Kernels that feed a
    convolution follow its layout (`preferred_strides`). Those of a function change together: where the
    caller wants much of what they read or write as it was traced (in training, for the backward pass), the copies
    would cost more than they save. Transposed convolutions stay as they are, and those whose weight, which the library
    lays out anew in each call, is much larger than their operand.
    """

    name: ClassVar[str] = "layout"
    numerics: ClassVar[str] = "reassociates"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        changed = 0
        for function in module.body.block.ops:
            if not isinstance(function, FuncOp):
                continue
            frozen = frozen_values(function)
            convolutions = [
                op for op in function.walk()
                if isinstance(op, tw.ConvOp) and _is_row_major(op) and _weight_is_small(op, frozen, context)
            ]
            values = dict.fromkeys(v for op in convolutions for v in (op.args[0], op.result))
            if _bytes(filter(_leaves, values), context) > LARGEST_SHARE * _bytes(values, context):
                continue
            for op in convolutions:
                op.properties["strides"] = DimsAttr(channels_last_strides(tw.tensor_type(op.result).shape))
            changed += len(convolutions)
        context.statistics[self.name] = {"channels_last": changed}


def channels_last_strides(shape: tuple[IntExpr, ...]) -> tuple[IntExpr, ...]:
    """Strides, in elements, of a tensor [N, C, *spatial] whose channels lie side by side."""
    n, *spatial, c = contiguous_strides((shape[0], *shape[2:], shape[1]))
    return (n, c, *spatial)


def _is_row_major(op: tw.ConvOp) -> bool:
    shape = tw.tensor_type(op.result).shape
    return not op.transposed.data and len(shape) == 4 and op.strides.data == contiguous_strides(shape)


def _weight_is_small(op: tw.ConvOp, frozen: set[SSAValue], context: PassContext) -> bool:
    x, weight = (tw.tensor_type(value) for value in op.args[:2])
    if all(size == 1 for size in weight.shape[2:]) or op.args[1] in frozen:
        return True  # in memory the two layouts are one, or it is laid out once
    return hint(weight.numel, context.sizes) <= LARGEST_WEIGHT * hint(x.numel, context.sizes)


def _bytes(values: Iterable[SSAValue], context: PassContext) -> int:
    return sum(hint(tw.tensor_type(value).nbytes, context.sizes) for value in values)


def _leaves(value: SSAValue) -> bool:
    """Whether the caller gets the value, as it is or seen through views."""
    users = [use.operation for use in value.uses]
    return any(
        isinstance(user, tw.ReturnOp) or (isinstance(user, PLAIN_VIEWS) and _leaves(user.results[0])) for user in users
    )
