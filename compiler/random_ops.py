"""Operators of our own, which stand in FX graphs in the place of random calls: a seed, and bits made from it.

Those two have an implementation in torch as well, for graphs that run in ATen after all. The third, attention that
draws nothing, stands there only while a joint graph is cut in two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tilewright.ir.interpreter.philox import philox

_library = torch.library.Library("tilewright", "DEF")
_library.define("seed(*, Device device) -> Tensor", tags=[torch.Tag.nondeterministic_seeded])
_library.define("philox(Tensor seed, int stream, SymInt[] shape) -> Tensor")
_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_library.define("attention" + str(_ATTENTION._schema).partition("_for_cpu")[2])

SEED = torch.ops.tilewright.seed.default
"""64 bits from torch's default generator, as an int64 tensor of rank 0."""
PHILOX = torch.ops.tilewright.philox.default
"""64 random bits for each element of `shape`, as int64: by the seed, the stream, and the row-major position."""
UNRANDOM = {_ATTENTION: torch.ops.tilewright.attention.default}
"""Overloads that are tagged as drawing random numbers, and what they are called where their arguments draw none."""


def _draw_seed(*, device: torch.device) -> torch.Tensor:
    return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=device)


def _random_bits(seed: torch.Tensor, stream: int, shape: Sequence[int]) -> torch.Tensor:
    offsets = torch.arange(torch.Size(shape).numel(), device=seed.device)
    return philox(seed, torch.tensor(stream, device=seed.device), offsets).view(shape)


_library.impl("seed", _draw_seed, "CompositeExplicitAutograd")
_library.impl("philox", _random_bits, "CompositeExplicitAutograd")
torch.library.register_fake(
    "tilewright::seed", lambda *, device: torch.empty((), dtype=torch.int64, device=device), lib=_library
)
torch.library.register_fake("tilewright::philox", lambda seed, stream, shape: seed.new_empty(shape), lib=_library)
