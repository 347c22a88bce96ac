"""Fold what is known of frozen weights into them: scales and shifts of a convolution's or a product's result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.expr import IntExpr, product

from .base import Pass, PassContext, register
from .frozen_values import frozen_values

SCALES = ("mul", "div")
SHIFTS = ("add", "sub")


@register
@dataclass(frozen=True)
class Freeze(Pass):
    """Fold scales and shifts of library results into frozen weights and biases.

    Before (`%w`, `%s` and `%t` frozen: batch normalization is a scale and a shift for each channel)::

        %y = tw.conv %x, %w : ...    %z = tw.map "mul" %y, %s : ...    %r = tw.map "add" %z, %t : ...

    after::

        %v = tw.map "mul" %w, %s : ...          %r = tw.conv %x, %v, %t : ...

    What depends on frozen weights alone is computed once, so the new weight costs nothing in a call. Only in f32 and
    f64 (a half would be rounded once more), and where nothing else reads the result. Does nothing in functions
    without frozen arguments. Transposed convolutions stay as they are.
    """

    name: ClassVar[str] = "freeze"
    numerics: ClassVar[str] = "reassociates"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        folded = 0
        for function in module.body.block.ops:
            if isinstance(function, FuncOp) and (frozen := frozen_values(function)):
                folded += sum(fold(op, frozen) for op in list(function.body.block.ops) if isinstance(op, tw.MapOp))
        context.statistics[self.name] = {"folded": folded}


def fold(op: tw.MapOp, frozen: set[SSAValue]) -> bool:
    """Fold one addition, subtraction, product or quotient into what computes its operand; whether that was done."""
    fn = op.fn.data
    if fn not in SCALES + SHIFTS:
        return False
    for place in (0, 1) if fn in ("add", "mul") else (0,):
        library, factor = op.args[place].owner, op.args[1 - place]
        if not isinstance(library, (tw.ConvOp, tw.MatmulOp)) or factor not in frozen or not _foldable(library, frozen):
            continue
        if tw.tensor_type(op.result) != tw.tensor_type(library.result):
            continue
        if (by_channel := _by_channel(library, factor, Builder.before(op))) is None:
            continue
        new = _with_folded(library, fn, by_channel, Builder.before(op), frozen)
        new.results[0].name_hint = op.result.name_hint
        op.result.replace_all_uses_with(new.results[0])
        for old in (op, library):
            old.detach()
            old.erase()
        return True
    return False


def _channel_dim(op: tw.ConvOp | tw.MatmulOp) -> int:
    return 1 if isinstance(op, tw.ConvOp) else tw.tensor_type(op.result).rank - 1


def _foldable(op: tw.ConvOp | tw.MatmulOp, frozen: set[SSAValue]) -> bool:
    """Whether weight and bias may be others: frozen, read for this one reader, in a dtype that has the digits."""
    if tw.tensor_type(op.result).dtype not in ("f32", "f64") or len(list(op.result.uses)) != 1:
        return False
    if not all(operand in frozen for operand in op.args[1:]):
        return False
    if isinstance(op, tw.ConvOp):
        return not op.transposed.data
    ranks = [tw.tensor_type(operand).rank for operand in op.args[1:]]
    return ranks in ([2], [2, 1])


def _by_channel(op: tw.ConvOp | tw.MatmulOp, factor: SSAValue, build: Builder) -> SSAValue | None:
    """The factor as a tensor [C] or of one element, or None where it is not one number for each channel."""
    result, shape = tw.tensor_type(op.result), tw.tensor_type(factor).shape
    if product(shape) == 1:
        return build.reshape(factor, [1])
    dim = _channel_dim(op) - (result.rank - len(shape))
    channels = result.shape[_channel_dim(op)]
    if dim < 0 or any(size != (channels if place == dim else 1) for place, size in enumerate(shape)):
        return None
    return build.reshape(factor, [channels])


def _with_folded(
    op: tw.ConvOp | tw.MatmulOp, fn: str, factor: SSAValue, build: Builder, frozen: set[SSAValue]
) -> Operation:
    """The library call with the factor in its weight and bias. What is made on the way is frozen, too."""
    channels = tw.tensor_type(op.result).shape[_channel_dim(op)]
    weight, *biases = op.args[1:]
    if fn in SCALES:
        weight = build.map(fn, weight, build.reshape(factor, _along_outputs(op, weight, factor)))
        biases = [build.map(fn, bias, factor) for bias in biases]
    elif biases:
        biases = [build.map(fn, biases[0], factor)]
    else:
        shift = factor if fn == "add" else build.map("neg", factor)
        biases = [build.broadcast(shift, [channels])]
    new = op.create(operands=[op.args[0], weight, *biases], properties=op.properties, result_types=[op.result.type])
    new.location = op.location
    build.insert(new)
    frozen.update(result for made in build.inserted[:-1] for result in made.results)
    return new


def _along_outputs(op: tw.ConvOp | tw.MatmulOp, weight: SSAValue, factor: SSAValue) -> Sequence[IntExpr]:
    """The factor's shape against the weight: [O, 1, ...] for convolutions, [1, N] for products."""
    [size] = tw.tensor_type(factor).shape
    ones = [1] * (tw.tensor_type(weight).rank - 1)
    return [size, *ones] if isinstance(op, tw.ConvOp) else [*ones, size]
