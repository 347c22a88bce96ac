"""Decompositions: what ATen takes apart before the importer sees it.

The importer knows ATen as AOTAutograd gives it (composite-implicit ops are gone, norms and activations are whole). This
table adds the few ops that it does not know and that ATen can say in terms of ones it does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch._decomp import get_decompositions
from torch._ops import OpOverload

aten = torch.ops.aten

# Each of these is elementwise, a view, or a reduction of such: nothing that a library has a better kernel for.
_DECOMPOSED = (
    aten.addcdiv, aten.addcmul, aten.addmv, aten.celu, aten.deg2rad, aten.dist, aten.elu, aten.frac, aten.glu,
    aten.hardsigmoid, aten.hardswish, aten.hardtanh, aten.huber_loss, aten.leaky_relu, aten.lerp,
    aten.linalg_vector_norm, aten.log_sigmoid_forward, aten.logit, aten.logsumexp, aten.mish, aten.mse_loss, aten.mv, aten.nan_to_num,
    aten.norm, aten.rad2deg, aten.relu6, aten.selu, aten.sinc, aten.smooth_l1_loss, aten.softplus, aten.softshrink,
    aten.std, aten.std_mean, aten.threshold, aten.trace, aten.unfold, aten.xlogy,
)


@lru_cache(maxsize=1)
def backend_table() -> dict[OpOverload, Callable[..., Any]]:
    """For AOTAutograd behind torch.compile."""
    return {op: fn for op, fn in get_decompositions(_DECOMPOSED).items() if isinstance(op, OpOverload)}


@lru_cache(maxsize=1)
def export_table() -> dict[OpOverload, Callable[..., Any]]:
    """For torch.export: the backend's table, and every composite-implicit op (AOTAutograd takes those apart by itself)."""
    implicit = {
        op: function
        for op, function in torch.export.default_decompositions().items()
        if isinstance(op, OpOverload)
        and torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), "CompositeImplicitAutograd")
    }
    return {**implicit, **backend_table()}
