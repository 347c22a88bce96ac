"""Memory of a call's temporaries, and what is made in it once and not in each call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

ARENA_ALIGNMENT = 64


class SizedArena:
    """Memory for calls of any sizes, and what has been made in it for some: views of it, and addresses."""

    FRAMES = 64  # sizes that are remembered; each is some views, a few hundred bytes apiece

    def __init__(self) -> None:
        self.memory = torch.empty(0, dtype=torch.uint8)
        self.frames: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def frame(
        self, sizes: tuple[int, ...], arena_bytes: Callable[..., int], make_frame: Callable[..., Any]
    ) -> Any:
        """The frame for `sizes`, whose symbols come in the program's order."""
        found = self.frames.get(sizes)
        if found is not None:
            self.frames.move_to_end(sizes)
            return found
        needed = arena_bytes(*sizes) + ARENA_ALIGNMENT
        with torch.inference_mode(False):  # a tensor made in that mode could not be written outside of it
            if self.memory.numel() < needed:
                self.frames.clear()
                self.memory = torch.empty(needed, dtype=torch.uint8)
            elif len(self.frames) == self.FRAMES:
                self.frames.popitem(last=False)
            made = self.frames[sizes] = make_frame(aligned(self.memory), *sizes)
        return made


def aligned(arena: torch.Tensor) -> torch.Tensor:
    """The whole aligned units of the arena, so that it can be viewed as any dtype."""
    skip = -arena.data_ptr() % ARENA_ALIGNMENT
    return arena[skip : skip + (arena.numel() - skip) // ARENA_ALIGNMENT * ARENA_ALIGNMENT]
