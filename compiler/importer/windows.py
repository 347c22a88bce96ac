"""Windows over the last dims of a tensor, as views: what pooling and unfolding read, and where their gradients go.

Along one dim, window o of size k with `step` and `dilation` d reads the positions ``o * step + i * d - padding`` for
i < k. All of it is index arithmetic in the kernel that reads it: nothing here makes a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product as combinations

from xdsl.ir import SSAValue

from tilewright.ir.builder import Builder
from tilewright.ir.expr import Expr, IntExpr

from .call import shape_of
from .table import refuse_if

MOST_SLOTS = 36
"""Windows of up to so many elements are read element by element, in one expression; larger ones by a loop."""


@dataclass(frozen=True)
class Window:
    """Windows along one dim: `count` of them, over a dim of `size`."""

    kernel: int
    step: int
    padding: int
    dilation: int
    size: IntExpr
    count: IntExpr

    @property
    def span(self) -> int:
        """Positions from a window's first element to past its last."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def reach(self) -> IntExpr:
        """Padded positions that all windows together need."""
        return (self.count - 1) * self.step + self.span

    @property
    def overhangs(self) -> bool:
        """Whether a window may stand over a border: by padding, or at the end, where ATen rounds their number up."""
        return self.padding > 0 or may_exceed(self.reach, self.size)

    @property
    def tiles(self) -> bool:
        """Whether the windows stand side by side, without overlap, padding or rest."""
        return self.step == self.kernel and self.dilation == 1 and self.padding == 0


def expanded(values: Sequence[int] | int | None, rank: int, default: Sequence[int]) -> list[int]:
    """ATen's way of giving a number for each dim: a single one stands for all, none for the default."""
    if values is None or (not isinstance(values, int) and not values):
        return list(default)
    given = [values] if isinstance(values, int) else list(values)
    refuse_if(any(isinstance(v, Expr) for v in given), "a symbolic window")
    return given * rank if len(given) == 1 else given


def windows_of(
    x_shape: Sequence[IntExpr], counts: Sequence[IntExpr], kernel: Sequence[int], step: Sequence[int] | None,
    padding: Sequence[int], dilation: Sequence[int] = (1,),
) -> list[Window]:
    """A `Window` for each of the last dims; `counts` are the result's sizes there."""
    rank = len(counts)
    sizes = expanded(kernel, rank, ())
    parts = zip(
        sizes, expanded(step, rank, sizes), expanded(padding, rank, [0] * rank), expanded(dilation, rank, [1] * rank),
        x_shape[len(x_shape) - rank :], counts,
    )
    return [Window(*part) for part in parts]


def padded(build: Builder, x: SSAValue, windows: Sequence[Window], value: bool | int | float) -> SSAValue:
    """`x` with borders of `value`, cut to what the windows need."""
    rest = len(shape_of(x)) - len(windows)
    low: list[IntExpr] = [0] * rest
    high: list[IntExpr] = [0] * rest
    for window in windows:
        low.append(window.padding)
        high.append(window.reach - window.size - window.padding)
    return build.pad(x, low, high, value)


def slots(build: Builder, x: SSAValue, windows: Sequence[Window]) -> Iterator[tuple[tuple[int, ...], SSAValue]]:
    """For each place in the window the elements there, one for each window. `x` is padded."""
    shape = shape_of(x)
    rest = len(shape) - len(windows)
    for place in combinations(*(range(w.kernel) for w in windows)):
        starts: list[IntExpr] = [*[0] * rest, *(i * w.dilation for i, w in zip(place, windows))]
        counts = [*shape[:rest], *(w.count for w in windows)]
        yield place, build.slice(x, starts, counts, [1] * rest + [w.step for w in windows])


Reader = tuple[SSAValue, SSAValue | None]
"""Positions (i64) along a dim, clamped so that they can be read, and which of them are meant; None: all."""


def line(build: Builder, size: IntExpr, axis: int, rank: int, start: int = 0, step: int = 1) -> SSAValue:
    """``start, start + step, ...`` along one of `rank` dims (i64)."""
    shape: list[IntExpr] = [size if d == axis else 1 for d in range(rank)]
    return build.iota(shape, "i64", axis, start, step)


def element(build: Builder, window: Window, place: int, axis: int, rank: int) -> Reader:
    """Where each window has the element of that place. The nearest one to a border is the window's own as well, where
    nothing is dilated."""
    start = place * window.dilation - window.padding
    position = at = line(build, window.count, axis, rank, start, window.step)
    inside: SSAValue | None = None
    if start < 0:
        zero = build.constant(0, "i64")
        at, inside = build.map("maximum", at, zero), build.map("ge", position, zero)
    if may_exceed((window.count - 1) * window.step + start, window.size - 1):
        last = build.size(window.size - 1)
        at, inside = build.map("minimum", at, last), both(build, inside, build.map("le", position, last))
    return at, inside


def readers(build: Builder, window: Window, axis: int, rank: int, certain: bool = False) -> list[Reader]:
    """The windows that read each position: so many entries as may do so. With `certain` the caller can tell whether a
    window reads a position, and wants each window once."""
    if window.dilation == 1:
        # Position y is read by window (y + padding) // step and by those before it, as far as they reach.
        offsets = [(first, min(window.step, window.kernel - first)) for first in range(0, window.kernel, window.step)]
    else:
        offsets, certain = [(place * window.dilation, 1) for place in range(window.kernel)], False
    found = []
    for offset, filled in offsets:
        first = window.padding - offset
        start = line(build, window.size, axis, rank, first)
        inside, step = None, build.constant(window.step, "i64")
        if first < 0:
            inside = build.map("ge", start, build.constant(0, "i64"))
            start = build.map("maximum", start, build.constant(0, "i64"))
        at = build.map("floor_div", start, step)
        if filled < window.step and not certain:
            rest = build.map("sub", start, build.map("mul", at, step))
            inside = both(build, inside, build.map("lt", rest, build.constant(filled, "i64")))
        if may_exceed(window.size - 1 + first, window.count * window.step - 1):
            last = build.size(window.count - 1)
            inside = both(build, inside, build.map("le", at, last))
            at = build.map("minimum", at, last)
        found.append((at, inside))
    return found


def may_exceed(position: IntExpr, last: IntExpr) -> bool:
    over = position - last
    return not isinstance(over, int) or over > 0


def both(build: Builder, a: SSAValue | None, b: SSAValue | None) -> SSAValue | None:
    """Where both conditions hold; None is a condition that always does."""
    return build.map("and", a, b) if a is not None and b is not None else b if a is None else a


def read_at(
    build: Builder, x: SSAValue, per_dim: Sequence[Sequence[Reader]], counts: Sequence[IntExpr]
) -> Iterator[tuple[SSAValue, list[SSAValue], SSAValue | None]]:
    """`x` looked up at every combination of positions along its last dims, which become `counts`: the values, their
    positions along each dim, and where the conditions of all of them hold.

    Refuses more than `MOST_SLOTS` combinations.
    """
    refuse_if(math.prod(map(len, per_dim)) > MOST_SLOTS, f"windows of more than {MOST_SLOTS} elements")
    rank = len(per_dim)
    first = len(shape_of(x)) - rank
    for chosen in combinations(*per_dim):
        inside: SSAValue | None = None
        for _, condition in chosen:
            inside = both(build, inside, condition)
        wide = [build.broadcast(at, counts) for at, _ in chosen]
        yield build.gather(x, wide, range(first, first + rank), wrap=False), [at for at, _ in chosen], inside


def elements(
    build: Builder, x: SSAValue, windows: Sequence[Window]
) -> Iterator[tuple[SSAValue, list[SSAValue], SSAValue | None]]:
    """As `slots`, for an `x` without borders: outside of it the nearest element, and the condition that says so."""
    rank = len(windows)
    per_dim = [[element(build, w, i, axis, rank) for i in range(w.kernel)] for axis, w in enumerate(windows)]
    return read_at(build, x, per_dim, [w.count for w in windows])


def unfolded(build: Builder, x: SSAValue, windows: Sequence[Window]) -> SSAValue:
    """All windows of `x`, which is padded: dims ``[*kernel, *rest, *counts]``."""
    rank = len(windows)
    rest = len(shape_of(x)) - rank
    for position, window in enumerate(windows):
        # Every dim done so far has become two.
        axis = rest + 2 * position
        shape: list[IntExpr] = [window.kernel, window.count]
        place = build.map(
            "add", build.iota([window.kernel, 1], "i64", 0, 0, window.dilation),
            build.iota([1, window.count], "i64", 1, 0, window.step),
        )
        x = build.gather(x, [build.broadcast(place, shape)], [axis], wrap=False)
    kernels = [rest + 2 * i for i in range(rank)]
    return build.permute(x, [*kernels, *range(rest), *(k + 1 for k in kernels)])


def tiled(build: Builder, x: SSAValue, windows: Sequence[Window]) -> tuple[SSAValue, list[int]]:
    """Windows that stand side by side: each dim as one of windows and one within them, and the latter dims."""
    shape = shape_of(x)
    rest = len(shape) - len(windows)
    cut = build.slice(x, [0] * len(shape), [*shape[:rest], *(w.reach for w in windows)])
    parts = [part for w in windows for part in (w.count, w.kernel)]
    return build.reshape(cut, [*shape[:rest], *parts]), [rest + 2 * i + 1 for i in range(len(windows))]


def slot_count(windows: Sequence[Window]) -> int:
    total = 1
    for window in windows:
        total *= window.kernel
    return total


def along(build: Builder, x: SSAValue, axis: int, low: IntExpr, size: IntExpr, value: bool | int | float) -> SSAValue:
    """`x` from position `low` on (which may be negative) of a dim of `size`, and `value` elsewhere."""
    rank = len(shape_of(x))
    lows: list[IntExpr] = [0] * rank
    highs: list[IntExpr] = [0] * rank
    lows[axis], highs[axis] = low, size - low - shape_of(x)[axis]
    return build.pad(x, lows, highs, value)


def spread(
    build: Builder, x: SSAValue, axis: int, step: int, filled: int, value: bool | int | float
) -> SSAValue:
    """Each element of a dim `filled` times, and then `value` up to `step` times."""
    if step == 1:
        return x
    shape = list(shape_of(x))
    parted = build.reshape(x, [*shape[: axis + 1], 1, *shape[axis + 1 :]])
    parted = build.broadcast(parted, [*shape[: axis + 1], filled, *shape[axis + 1 :]])
    parted = build.pad(
        parted, [0] * (len(shape) + 1), [step - filled if d == axis + 1 else 0 for d in range(len(shape) + 1)], value
    )
    shape[axis] = shape[axis] * step
    return build.reshape(parted, shape)


def covering(
    build: Builder, x: SSAValue, windows: Sequence[Window], certain: bool = False
) -> list[tuple[SSAValue, SSAValue | None]]:
    """For an `x` with an element for each window: tensors over the windows' positions which together hold, where their
    conditions do, the elements of all windows that read each position (`readers`)."""
    rank = len(windows)
    per_dim = [readers(build, w, axis, rank, certain) for axis, w in enumerate(windows)]
    return [(value, inside) for value, _, inside in read_at(build, x, per_dim, [w.size for w in windows])]
