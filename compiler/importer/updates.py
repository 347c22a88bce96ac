"""When a graph may change an argument: only as its last act, on memory that nothing else in the graph stands for."""

from __future__ import annotations

import torch

from .call import storage_of

aten = torch.ops.aten


def unsafe_update(node: torch.fx.Node, target: torch.fx.Node) -> str | None:
    """Why `node`, a call of ``copy_`` on the placeholder `target`, cannot be said as a new value of the argument.

    None where it can: no node after it reads the argument's memory, the caller gets no view of it (but the argument
    itself, as AOTAutograd does), and no two of its elements, and no two arguments, share memory.
    """
    traced = target.meta["val"]
    if traced.numel() > 1 and torch._debug_has_internal_overlap(traced) == 1:
        return "whose elements share memory"
    storage = storage_of(traced)
    sharing = [
        other for other in node.graph.nodes
        if other is not node and isinstance(other.meta.get("val"), torch.Tensor)
        and storage_of(other.meta["val"]) == storage
    ]
    if any(other.op == "placeholder" and other is not target for other in sharing):
        return "whose memory another argument shares"
    if any(other.target is aten.copy_.default for other in sharing):
        return "twice"
    aliases = {node, *sharing}
    later = node.next
    while later.op != "output":
        if aliases & set(later.all_input_nodes):
            return f"that {later.name} reads afterwards"
        later = later.next
    # The call itself stands for the argument as it is when the graph ends.
    if (aliases - {node}) & set(later.all_input_nodes):
        return "that the caller gets as it was, or a view of it"
    return None
