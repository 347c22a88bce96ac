"""Import rules of random bits: a seed, and what `philox` makes of it at each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from tilewright.ir.expr import IntExpr, product

from ..random_ops import PHILOX, SEED
from .call import Call
from .table import imports


@imports(SEED)
def seed(call: Call, *, device: Any) -> SSAValue:
    return call.build.seed()


@imports(PHILOX)
def philox(call: Call, seed: SSAValue, stream: int, shape: Sequence[IntExpr]) -> SSAValue:
    """64 bits for each element, by its row-major position."""
    build = call.build
    offsets = build.iota([product(call.shape)], "i64", 0)
    return build.map("philox", seed, build.constant(stream, "i64"), build.reshape(offsets, call.shape))
