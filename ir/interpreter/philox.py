"""Philox 4x32-10: random bits as a pure function of a seed, a stream and an offset.

Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011). Ten rounds mix a counter of four
32-bit words under a key of two. Here the key is the seed, and the counter is the offset (low words) and the stream
(high words), so that every element of every random tensor has a counter of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


def philox(seed: torch.Tensor, stream: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """The first two words of a block as one number (the first word lowest), for each element of the broadcast operands.

    Integers of one dtype; the counter and the key are their int64 values, and the result is cut to the dtype.
    """
    key = _words(seed)
    counter = [*_words(offset), *_words(stream)]
    for number in range(ROUNDS):
        if number:
            key = [(k + step) & _LOW for k, step in zip(key, KEY_STEPS)]
        # Products of 32-bit words wrap in int64, which loses no bit: shifts and masks see them as unsigned.
        first, second = counter[0] * MULTIPLIERS[0], counter[2] * MULTIPLIERS[1]
        counter = [
            ((second >> 32) & _LOW) ^ counter[1] ^ key[0], second & _LOW,
            ((first >> 32) & _LOW) ^ counter[3] ^ key[1], first & _LOW,
        ]
    return (counter[0] | counter[1] << 32).to(offset.dtype)


def _words(value: torch.Tensor) -> list[torch.Tensor]:
    """The low and the high 32 bits."""
    import torch

    value = value.to(torch.int64)
    return [value & _LOW, (value >> 32) & _LOW]
