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

from .foreach import foreach_table
from .importer.table import RULES

aten = torch.ops.aten

# Each of these is elementwise, a view, or a reduction of such: nothing that a library has a better kernel for. An
# overload that the importer has a rule for stays whole.
_DECOMPOSED = (
    aten.addcdiv, aten.addcmul, aten.celu, aten.deg2rad, aten.dist, aten.elu, aten.frac, aten.glu,
    aten.hardsigmoid, aten.hardswish, aten.hardtanh, aten.huber_loss, aten.leaky_relu, aten.lerp,
    aten.linalg_vector_norm, aten.log_sigmoid_forward, aten.logit, aten.logsumexp, aten.mish, aten.mse_loss,
    aten.nan_to_num, aten.norm, aten.rad2deg, aten.relu6, aten.selu, aten.sinc, aten.smooth_l1_loss,
    aten.softplus, aten.softshrink, aten.std, aten.std_mean, aten.threshold, aten.unfold,
    # products and sums
    aten._chunk_cat, aten.addmv, aten.block_diag, aten.linalg_cross, aten.renorm, aten.vdot,
    # losses
    aten.binary_cross_entropy, aten.multi_margin_loss, aten.multilabel_margin_loss_forward,
    aten.nll_loss2d_forward, aten.nll_loss_forward, aten.soft_margin_loss,
    # views and look-ups
    aten._unsafe_masked_index, aten.channel_shuffle, aten.diag_embed, aten.grid_sampler_2d,
    aten.pixel_shuffle, aten.pixel_unshuffle, aten.reflection_pad1d, aten.reflection_pad2d,
    aten.reflection_pad3d, aten.replication_pad1d, aten.replication_pad2d, aten.replication_pad3d, aten.rot90,
    aten.unfold_copy,
    # numbers
    aten.index_fill, aten.ldexp, aten.logspace, aten.mvlgamma, aten.tril_indices, aten.triu_indices,
)

Table = dict[OpOverload, Callable[..., Any]]


def _in_float32(op: OpOverload) -> Callable[..., Any]:
    """A norm of halves with float parameters, as autocast makes it, in f32; left whole in one dtype.

    Tracing says of such a call that its statistics are halves (of group norm's gradient also that it is f32), where
    eager keeps f32: gradients would lose what the halves round away.
    """

    def decomposed(*args: Any, **kwargs: Any) -> Any:
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        half = tensors[0].dtype
        if half not in (torch.bfloat16, torch.float16) or all(t.dtype == half for t in tensors):
            return NotImplemented
        wide = [a.float() if isinstance(a, torch.Tensor) and a.dtype == half else a for a in args]
        first, *rest = op(*wide, **kwargs)
        return first.to(half), *rest

    return decomposed


# Whole for the importer, which has rules for them, and yet better apart before forward and backward are: the backward
# pass then keeps a maximum and a logarithm per row beside the operand, and not the result as well.
_APART_FOR_TRAINING = (aten._log_softmax.default,)
_MIXED = (
    aten.native_layer_norm.default, aten.native_group_norm.default, aten.native_group_norm_backward.default,
    aten._native_batch_norm_legit_functional.default, aten._native_batch_norm_legit.no_stats,
    aten._batch_norm_with_update_functional.default,
)


def _pdist(x: Any, p: float = 2.0) -> Any:
    """The distance of each row to each later one."""
    rows = x.shape[0]
    pairs = torch.triu_indices(rows, rows, 1, device=x.device)
    return torch.linalg.vector_norm(x[pairs[0]] - x[pairs[1]], p, -1)


def _multiply_add(a: Any, b: Any, c: Any) -> Any:
    """What Dynamo makes of `addcmul_` and `addcdiv_` with a factor: it computes as in eager, with both roundings."""
    return a * b + c


@lru_cache(maxsize=1)
def backend_table() -> Table:
    """For AOTAutograd behind torch.compile."""
    # Dynamo imports it, and nothing else does.
    from torch._inductor.inductor_prims import fma

    found = {
        op: function for op, function in get_decompositions(_DECOMPOSED).items()
        if isinstance(op, OpOverload) and op not in RULES
    }
    found[aten._pdist_forward.default] = _pdist
    found[fma] = _multiply_add
    whole: Table = {op: _in_float32(op) for op in _MIXED}
    apart = get_decompositions(_APART_FOR_TRAINING)
    apart_for_training = {op: function for op, function in apart.items() if isinstance(op, OpOverload)}
    return {**foreach_table(), **found, **whole, **apart_for_training}


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
