"""What the backward pass computes again although AOTAutograd's minimal cut would keep it."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import CheckpointPolicy

aten = torch.ops.aten

# By size the cut is a tie: the result, or the operand with two numbers per row. Keeping the result costs a kernel that
# writes it, for the loss of a language model the largest tensor of all; its exponential is needed again anyhow. Ops go
# by name: AOTAutograd copies metadata, and the overloads in it.
_KEEP_OPERAND = {str(aten._log_softmax.default)}
_ROW_BY_ROW = {aten.amax.default, aten.sum.dim_IntList, aten.log.default}


def mark_cheap_results(joint: torch.fx.GraphModule) -> None:
    """Mark in AOTAutograd's joint graph what is cheap to compute again from an operand and sums over rows."""
    marked: set[torch.fx.Node] = set()
    for node in joint.graph.nodes:
        result = str(node.meta.get("original_aten")) in _KEEP_OPERAND and node.target not in _ROW_BY_ROW
        if result or (node.target is aten.detach.default and node.args[0] in marked):
            marked.add(node)
            if node.meta.get("recompute") is None:
                node.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE
