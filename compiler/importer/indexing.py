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
    build = call.build
    x, place = (v if shape_of(v) else build.reshape(v, [1]) for v in (x, place))
    rank = len(shape_of(x))
    refuse_if(len(shape_of(place)) != rank, "an index of another rank")
    axis = normal_dim(dim, rank)
    if any(size == 0 for size in shape_of(place)):
        return build.constant(0, call.dtype, call.shape)
    return call.reshape(build.gather(x, positions_along(call, place, axis), list(range(rank)), wrap=False))


def positions_along(call: Call, place: SSAValue, axis: int) -> list[SSAValue]:
    """An index for each dim of `place`'s shape: `place` along `axis`, the element's own position along the others."""
    shape = shape_of(place)
    return [place if d == axis else call.build.iota(shape, "i64", d) for d in range(len(shape))]


@imports(aten.index_select.default)
def index_select(call: Call, x: SSAValue, dim: int, place: SSAValue) -> SSAValue:
    flat = call.build.reshape(place, [product(shape_of(place))])
    if not shape_of(x):
        return call.reshape(call.build.gather(call.build.reshape(x, [1]), [flat], [0], wrap=False))
    return call.build.gather(x, [flat], [normal_dim(dim, len(shape_of(x)))], wrap=False)


@imports(aten.take.default)
def take(call: Call, x: SSAValue, place: SSAValue) -> SSAValue:
    """Elements by their number in row-major order; negative ones count from the end."""
    return call.build.gather(call.build.reshape(x, [product(shape_of(x))]), [place], [0])


@imports(aten.embedding.default)
def embedding(call: Call, weight: SSAValue, place: SSAValue, *_: object) -> SSAValue:
    """The padding index and the gradient's scale matter backwards only."""
    return call.build.gather(weight, [place], [0], wrap=False)
