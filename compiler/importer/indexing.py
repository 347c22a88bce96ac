"""Import rules of look-ups at computed positions. All of them become `tw.gather`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from xdsl.ir import SSAValue

from tilewright.ir.dtypes import DTYPES
from tilewright.ir.expr import product
from tilewright.ir.types import broadcast_shapes

from .call import Call, dtype_of, normal_dim, shape_of
from .table import imports, refuse_if

aten = torch.ops.aten


@imports(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(call: Call, x: SSAValue, indices: Sequence[SSAValue | None]) -> SSAValue:
    """Index tensors broadcast to one shape, which stands where adjacent indexed dims stood, else at the front."""
    build = call.build
    dims = [d for d, i in enumerate(indices) if i is not None]
    positions = [i for i in indices if i is not None]
    refuse_if(any(not DTYPES[dtype_of(i)].is_integer or dtype_of(i) == "u8" for i in positions), "data-dependent size")
    shape = broadcast_shapes([shape_of(i) for i in positions])
    positions = [build.broadcast(i, shape) for i in positions]
    if dims != list(range(dims[0], dims[0] + len(dims))):
        rest = [d for d in range(len(shape_of(x))) if d not in dims]
        x, dims = build.permute(x, [*dims, *rest]), list(range(len(dims)))
    return build.gather(x, positions, dims)


@imports(aten.gather.default)
def gather(call: Call, x: SSAValue, dim: int, place: SSAValue, sparse_grad: bool = False) -> SSAValue:
    build, shape = call.build, shape_of(place)
    rank = len(shape_of(x))
    refuse_if(rank == 0 or len(shape) != rank, "gather from a number")
    axis = normal_dim(dim, rank)
    if any(size == 0 for size in shape):
        return build.constant(0, call.dtype, call.shape)
    positions = [place if d == axis else build.iota(shape, "i64", d) for d in range(rank)]
    return build.gather(x, positions, list(range(rank)), wrap=False)


@imports(aten.index_select.default)
def index_select(call: Call, x: SSAValue, dim: int, place: SSAValue) -> SSAValue:
    refuse_if(not shape_of(x), "index_select from a number")
    flat = call.build.reshape(place, [product(shape_of(place))])
    return call.build.gather(x, [flat], [normal_dim(dim, len(shape_of(x)))], wrap=False)


@imports(aten.embedding.default)
def embedding(call: Call, weight: SSAValue, place: SSAValue, *_: object) -> SSAValue:
    """The padding index and the gradient's scale matter backwards only."""
    return call.build.gather(weight, [place], [0], wrap=False)
