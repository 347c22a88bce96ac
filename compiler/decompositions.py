"""Decompositions: what ATen takes apart before the importer sees it.

The importer knows ATen as AOTAutograd gives it (composite-implicit ops are gone, norms and activations are whole). This
table adds ops that it has no rule for and that ATen can say in terms of ones it has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch._decomp import get_decompositions
from torch._ops import OpOverload

from .importer.table import RULES

aten = torch.ops.aten

# Each of these is elementwise, a view, or a reduction of such: nothing that a library has a better kernel for. An
# overload that the importer has a rule for stays whole.
_DECOMPOSED = (
    aten.addcdiv, aten.addcmul, aten.celu, aten.deg2rad, aten.dist, aten.elu, aten.frac, aten.glu, aten.hardsigmoid,
    aten.hardswish, aten.hardtanh, aten.huber_loss, aten.leaky_relu, aten.lerp, aten.linalg_vector_norm,
    aten.log_sigmoid_forward, aten.logit, aten.logsumexp, aten.mish, aten.mse_loss, aten.nan_to_num, aten.norm,
    aten.rad2deg, aten.relu6, aten.selu, aten.sinc, aten.smooth_l1_loss, aten.softplus, aten.softshrink, aten.std,
    aten.std_mean, aten.threshold, aten.unfold, aten.xlogy,
)

Table = dict[OpOverload, Callable[..., Any]]


def _layer_norm_backward(grad: Any, input: Any, shape: Any, mean: Any, rstd: Any, weight: Any, *rest: Any) -> Any:
    """Taken apart only for halves with float weights, as autocast makes them: tracing says that mean and rstd are
    halves, and ATen's own kernel then wants floats."""
    if weight is None or weight.dtype == input.dtype:
        return NotImplemented
    op = aten.native_layer_norm_backward.default
    return get_decompositions([op])[op](grad, input, shape, mean, rstd, weight, *rest)


@lru_cache(maxsize=1)
def backend_table() -> Table:
    """For AOTAutograd behind torch.compile."""
    found = {**get_decompositions(_DECOMPOSED), aten.native_layer_norm_backward.default: _layer_norm_backward}
    return {op: function for op, function in found.items() if isinstance(op, OpOverload) and op not in RULES}


@lru_cache(maxsize=1)
def export_table() -> Table:
    """For torch.export: the backend's table, and composite-implicit ops (AOTAutograd takes those apart by itself)."""
    implicit = {
        op: function
        for op, function in torch.export.default_decompositions().items()
        if isinstance(op, OpOverload)
        and torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), "CompositeImplicitAutograd")
    }
    return {**implicit, **backend_table()}
