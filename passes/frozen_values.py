"""Which values of a function depend on frozen weights alone: they are computed once, when the weights are bound."""

from __future__ import annotations

from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue
from xdsl.traits import is_side_effect_free

from tilewright.ir import tw
from tilewright.ir.function import frozen_arguments


def frozen_values(function: FuncOp) -> set[SSAValue]:
    """Frozen arguments, and results of known sizes that are computed from them, from constants, or from nothing.

    Empty where no argument is frozen. Opaque calls are left out: what they give may be memory of their operands.
    """
    block = function.body.block
    frozen: set[SSAValue] = {block.args[position] for position in frozen_arguments(function)}
    if frozen:
        for op in block.ops:
            if _is_computed(op) and all(operand in frozen for operand in _operands(op)):
                frozen.update(op.results)
    return frozen


def _operands(op: Operation) -> list[SSAValue]:
    return list(op.inputs() if isinstance(op, tw.FusedOp) else op.operands)


def _is_computed(op: Operation) -> bool:
    if isinstance(op, (tw.AtenOp, tw.SeedOp)) or not op.results or not is_side_effect_free(op):
        return False
    return all(isinstance(dim, int) for result in op.results for dim in tw.tensor_type(result).shape)
