"""How long the results of library calls are needed, which both host programs free where their last reader has run."""

from __future__ import annotations

from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from tilewright.ir import prog


def last_uses(function: FuncOp) -> dict[Operation, list[SSAValue]]:
    """The results of library calls, and views of them, by the op after which nothing needs them: their memory then
    serves the next call's result, while the caches still hold it.

    A view is not needed after its own last reader, what it is a view of not after that of its last view. What the
    program returns, or of which it returns a view, is needed for ever. A library's result may be a view of the call's
    operands: torch's own tensors know that, and keep the memory.
    """
    last: dict[SSAValue, Operation] = {}
    group: dict[SSAValue, SSAValue] = {}  # a view -> what it is a view of
    for op in function.body.block.ops:
        if isinstance(op, prog.ExternOp):
            last.update(dict.fromkeys(op.results, op))
        elif isinstance(op, prog.ViewOp) and op.source in last:
            last[op.result] = op
            group[op.result] = group.get(op.source, op.source)
        for operand in op.operands:
            if operand in last:
                last[operand] = last[group.get(operand, operand)] = op
    found: dict[Operation, list[SSAValue]] = {}
    for value, op in last.items():
        if not isinstance(op, prog.ReturnOp):
            found.setdefault(op, []).append(value)
    return found
