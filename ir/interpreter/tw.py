"""The `tw` dialect's meaning: one rule an op, `rule(op, env, *operands) -> result or results`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xdsl.ir import Operation

from .. import tw
from ..calls import SEED_CALL
from ..dtypes import compute_dtype
from ..errors import InterpreterError
from ..tw import tensor_type
from .elementwise import apply_reduction, apply_scalar, apply_scan, plain
from .environment import Environment, Rule, run_block
from .library import call, find_overload

if TYPE_CHECKING:
    import torch


def _constant(op: tw.ConstantOp, env: Environment) -> torch.Tensor:
    import torch

    type = tensor_type(op.result)
    return torch.full(env.shape(type.shape), op.value.data, dtype=env.dtype(type.dtype), device=env.device)


def _iota(op: tw.IotaOp, env: Environment) -> torch.Tensor:
    import torch

    type = tensor_type(op.result)
    shape, dim = env.shape(type.shape), op.dim.ints()[0]
    start, step = env.size(op.start.data[0]), env.size(op.step.data[0])
    line = start + step * torch.arange(shape[dim], device=env.device)
    line = line.view([-1 if d == dim else 1 for d in range(len(shape))])
    return line.to(env.dtype(type.dtype)).expand(shape)


def _size(op: tw.SizeOp, env: Environment) -> torch.Tensor:
    import torch

    return torch.tensor(env.size(op.value.data[0]), dtype=env.dtype(tensor_type(op.result).dtype), device=env.device)


def _seed(op: tw.SeedOp, env: Environment) -> Sequence[torch.Tensor]:
    return call(*SEED_CALL, [], [], env)


def _map(op: tw.MapOp, env: Environment, *args: torch.Tensor) -> torch.Tensor:
    return apply_scalar(op.fn.data, args, tensor_type(op.args[-1]).dtype, tensor_type(op.result).dtype, env)


def _reduce(op: tw.ReduceOp, env: Environment, x: torch.Tensor) -> torch.Tensor:
    dtypes = tensor_type(op.source).dtype, tensor_type(op.result).dtype
    return apply_reduction(op.fn.data, x, op.dims.ints(), *dtypes, env)


def _scan(op: tw.ScanOp, env: Environment, x: torch.Tensor) -> torch.Tensor:
    return apply_scan(op.fn.data, x, op.dim.ints()[0], tensor_type(op.source).dtype, env)


def _reshape(op: tw.ReshapeOp, env: Environment, x: torch.Tensor) -> torch.Tensor:
    return x.reshape(env.shape(op.out_type.shape))


def _permute(op: tw.PermuteOp, env: Environment, x: torch.Tensor) -> torch.Tensor:
    return x.permute(op.dims.ints())


def _slice(op: tw.SliceOp, env: Environment, x: torch.Tensor) -> torch.Tensor:
    import torch

    starts, counts = env.shape(op.starts.data), env.shape(op.out_type.shape)
    for dim, (start, step, count) in enumerate(zip(starts, op.steps.ints(), counts)):
        last = start + (count - 1) * step
        if count and not (0 <= start < x.shape[dim] and 0 <= last < x.shape[dim]):
            raise InterpreterError(f"slice [{start}, {last}] of dim {dim} leaves [0, {x.shape[dim]})")
        if count == 0:
            x = x.narrow(dim, 0, 0)
        elif step > 0:
            x = x[(slice(None),) * dim + (slice(start, last + 1, step),)]
        else:
            x = x.index_select(dim, torch.arange(start, last - 1, step, device=x.device))
    return x


def _broadcast(op: tw.BroadcastOp, env: Environment, x: torch.Tensor) -> torch.Tensor:
    return x.expand(env.shape(op.out_type.shape))


def _pad(op: tw.PadOp, env: Environment, x: torch.Tensor) -> torch.Tensor:
    import torch

    low, high = env.shape(op.low.data), env.shape(op.high.data)
    result = torch.full(env.shape(op.out_type.shape), op.value.data, dtype=x.dtype, device=x.device)
    inner = result
    for dim, (a, b) in enumerate(zip(low, high)):
        # A negative amount drops that many elements of the source; a positive one keeps clear of the border.
        count = max(0, x.shape[dim] + min(a, 0) + min(b, 0))
        x = x.narrow(dim, min(max(0, -a), x.shape[dim]), count)
        inner = inner.narrow(dim, min(max(0, a), inner.shape[dim]), count)
    inner.copy_(x)
    return result


def _concat(op: tw.ConcatOp, env: Environment, *args: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat(args, op.dim.ints()[0])


def _gather(op: tw.GatherOp, env: Environment, x: torch.Tensor, *indices: torch.Tensor) -> torch.Tensor:
    dims = op.dims.ints()
    positions = [
        checked_positions(index, x.shape[dim], bool(op.wrap.data)) for dim, index in zip(dims, indices)
    ]
    return x[(slice(None),) * dims[0] + tuple(positions)]


def _scatter(
    op: tw.ScatterOp, env: Environment, base: torch.Tensor, updates: torch.Tensor, *indices: torch.Tensor
) -> torch.Tensor:
    import torch

    dims = op.dims.ints()
    positions = [checked_positions(index, base.shape[dim], bool(op.wrap.data)) for dim, index in zip(dims, indices)]
    places = torch.arange(base.numel(), device=env.device).reshape(base.shape)
    result = base.clone(memory_format=torch.contiguous_format)
    addresses = places[(slice(None),) * dims[0] + tuple(positions)]
    update_memory(op.fn.data, result.view(-1), addresses.flatten(), updates.flatten())
    return result


def update_memory(fn: str, flat: torch.Tensor, addresses: torch.Tensor, values: torch.Tensor) -> None:
    """Combine `values` into `flat` at `addresses` (all of one dim), one after the other."""
    import torch

    if addresses.numel() == 0:
        return
    if fn == "set":
        last = torch.full_like(flat, -1, dtype=torch.int64)
        order = torch.arange(addresses.numel(), device=flat.device)
        last.scatter_reduce_(0, addresses, order, "amax")
        written = last >= 0
        flat[written] = values[last[written]]
    elif fn == "sum":
        flat.index_add_(0, addresses, values)
    else:
        target = flat.to(torch.uint8) if flat.dtype == torch.bool else flat.clone()
        names = {"prod": "prod", "max": "amax", "min": "amin"}
        flat.copy_(target.scatter_reduce(0, addresses, values.to(target.dtype), names[fn]))


def checked_positions(index: torch.Tensor, extent: int, wrap: bool) -> torch.Tensor:
    """`index` as int64 within ``[0, extent)``; with `wrap` negative ones count from the end. Raises IndexError."""
    import torch

    index = index.to(torch.int64)
    if wrap:
        index = torch.where(index < 0, index + extent, index)
    outside = (index < 0) | (index >= extent)
    if outside.any():
        raise IndexError(f"position {int(index[outside][0])} is out of range for a dim of size {extent}")
    return index


def _matmul(op: tw.MatmulOp, env: Environment, *args: torch.Tensor) -> torch.Tensor:
    import torch

    dtype = tensor_type(op.result).dtype
    a, b, *bias = (plain(x.to(env.dtype(compute_dtype(dtype)))) for x in args)
    result = torch.addmm(bias[0], a, b) if bias and a.dim() == 2 else torch.matmul(a, b)
    if bias and a.dim() > 2:
        result = result + bias[0]
    return result.to(env.dtype(dtype))


def _conv(op: tw.ConvOp, env: Environment, *args: torch.Tensor) -> torch.Tensor:
    import torch

    x, weight, *bias = (plain(a) for a in args)
    return torch.ops.aten.convolution.default(
        x, weight, bias[0] if bias else None, env.shape(op.stride.data), env.shape(op.padding.data),
        env.shape(op.dilation.data), bool(op.transposed.data), env.shape(op.output_padding.data),
        env.size(op.groups.data[0]),
    )


def _attention(op: tw.AttentionOp, env: Environment, *args: torch.Tensor) -> torch.Tensor:
    import torch

    q, k, v, *masks = (plain(a) for a in args)
    mask = masks[0] if masks else None
    causal = bool(op.causal.data)
    if causal and mask is not None:
        # The library takes one or the other, so the triangle goes into the mask.
        above = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        mask, causal = mask.masked_fill(above, float("-inf")), False
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=None if op.scale is None else float(op.scale.data)
    )


def _aten(op: tw.AtenOp, env: Environment, *args: torch.Tensor) -> Sequence[torch.Tensor]:
    if find_overload(op.target.data)._schema.is_mutable:
        raise InterpreterError("the call writes to its arguments, and this level has no writes")
    dtypes = [tensor_type(a).dtype for a in op.args]
    row_major = op.row_major()
    operands = [x.contiguous() if i in row_major else x for i, x in enumerate(args)]
    return call(op.target.data, op.arguments.data, operands, dtypes, env)


def _fused(op: tw.FusedOp, env: Environment) -> list[Any]:
    return run_block(op.body.block, env)


RULES: dict[type[Operation], Rule] = {
    tw.ConstantOp: _constant,
    tw.IotaOp: _iota,
    tw.SizeOp: _size,
    tw.SeedOp: _seed,
    tw.MapOp: _map,
    tw.ReduceOp: _reduce,
    tw.ScanOp: _scan,
    tw.ReshapeOp: _reshape,
    tw.PermuteOp: _permute,
    tw.SliceOp: _slice,
    tw.BroadcastOp: _broadcast,
    tw.PadOp: _pad,
    tw.ConcatOp: _concat,
    tw.GatherOp: _gather,
    tw.ScatterOp: _scatter,
    tw.MatmulOp: _matmul,
    tw.ConvOp: _conv,
    tw.AttentionOp: _attention,
    tw.AtenOp: _aten,
    tw.FusedOp: _fused,
}
