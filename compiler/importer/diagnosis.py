"""Which nodes of a graph the IR does not express, and why: the import, going on where it would stop."""

from __future__ import annotations

from typing import Any

import torch

from tilewright.ir.errors import UnsupportedGraphError

from .graph import Importer, Opaque, where


def unsupported_nodes(graph_module: torch.fx.GraphModule) -> dict[torch.fx.Node, str]:
    """The calls of the graph for which `import_graph` would raise UnsupportedGraphError, each with the reason.

    What such a call gives is taken to be an argument of what follows, so that every reason is the call's own.
    """
    return _Diagnosis(graph_module, None).diagnose()


class _Diagnosis(Importer):
    def diagnose(self) -> dict[torch.fx.Node, str]:
        reasons: dict[torch.fx.Node, str] = {}
        steps = {"placeholder": self.placeholder, "get_attr": self.get_attr}
        for node in self.graph_module.graph.nodes:
            if node.op == "output":
                continue
            try:
                steps.get(node.op, self.call_function)(node)
            except UnsupportedGraphError as error:
                # Arguments and attributes are there in any case; what matters is who reads them.
                reason = str(error).removesuffix(f": {where(node)}")  # the reader knows the call
                if node.op not in steps:
                    reasons[node] = reason
                self.values[node] = self.outside(node.meta.get("val"), node, reason)
        return reasons

    def outside(self, value: Any, node: torch.fx.Node, reason: str) -> Any:
        """The value of a node that is computed elsewhere."""
        if isinstance(value, (list, tuple)):
            return [self.outside(item, node, reason) for item in value]
        try:
            if isinstance(value, torch.Tensor):
                return self.tensor_argument(value, node.name, node)
            if isinstance(value, torch.SymInt):
                self.sizes.accept([value])
                return self.sizes.convert(value)
        except UnsupportedGraphError as error:
            reason = str(error)
        return value if type(value) is int else Opaque(reason)
