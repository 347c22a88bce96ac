"""Index arithmetic of view ops: from a position in the result to a position in the source."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.ir.expr import IntExpr, Ranges, floordiv, mod
from tilewright.ir.types import contiguous_strides

Index = tuple[IntExpr, ...]


def linear(index: Sequence[IntExpr], shape: Sequence[IntExpr]) -> IntExpr:
    """The row-major position of `index` in a tensor of that shape."""
    return dot(index, contiguous_strides(shape))


def dot(index: Sequence[IntExpr], strides: Sequence[IntExpr]) -> IntExpr:
    total: IntExpr = 0
    for position, stride in zip(index, strides):
        total = total + position * stride
    return total


def broadcast_index(index: Index, shape: Sequence[IntExpr]) -> Index:
    """The position in an operand of `shape` that numpy-style broadcasting reads for `index`."""
    offset = len(index) - len(shape)
    return tuple(0 if dim == 1 else index[offset + i] for i, dim in enumerate(shape))


def reshape_groups(
    source: Sequence[IntExpr], target: Sequence[IntExpr]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """Split a reshape into independent parts: pairs of (source dims, target dims) with equal element counts.

    Dims of size 1 belong to no part. None where sizes are symbolic in a way that does not split, or where a dim is 0.
    """
    if any(d == 0 for d in (*source, *target)):
        return None
    left = [i for i, d in enumerate(source) if d != 1]
    right = [i for i, d in enumerate(target) if d != 1]
    groups: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        size_a, size_b = source[a[0]], target[b[0]]
        while size_a != size_b:
            ratio_a, ratio_b = mod(size_a, size_b), mod(size_b, size_a)
            if ratio_b == 0 and left:  # the target's part is larger
                a.append(left.pop(0))
                size_a = size_a * source[a[-1]]
            elif ratio_a == 0 and right:
                b.append(right.pop(0))
                size_b = size_b * target[b[-1]]
            elif left and (not right or len(a) <= len(b)):
                a.append(left.pop(0))
                size_a = size_a * source[a[-1]]
            elif right:
                b.append(right.pop(0))
                size_b = size_b * target[b[-1]]
            else:
                return None
        groups.append((tuple(a), tuple(b)))
    return None if left or right else groups


def reshape_index(index: Index, target: Sequence[IntExpr], source: Sequence[IntExpr], ranges: Ranges) -> Index:
    """The position in a tensor of shape `source` of element `index` of its reshape to `target`."""
    if tuple(source) == tuple(target):
        return index
    result: list[IntExpr] = [0] * len(source)
    if any(d == 0 for d in source):
        return tuple(result)
    groups = reshape_groups(source, target)
    if groups is None:
        groups = [(tuple(range(len(source))), tuple(range(len(target))))]
    for source_dims, target_dims in groups:
        if len(source_dims) == 1 and len(target_dims) == 1:
            result[source_dims[0]] = index[target_dims[0]]
            continue
        sizes = [source[d] for d in source_dims]
        position = linear([index[d] for d in target_dims], [target[d] for d in target_dims])
        for place, (dim, stride) in enumerate(zip(source_dims, contiguous_strides(sizes))):
            quotient = ranges.simplify(floordiv(position, stride))
            result[dim] = quotient if place == 0 else ranges.simplify(mod(quotient, sizes[place]))
    return tuple(result)


def reshape_strides(
    shape: Sequence[IntExpr], strides: Sequence[IntExpr], target: Sequence[IntExpr]
) -> tuple[IntExpr, ...] | None:
    """Strides that make a tensor of `shape` and `strides` look like `target` without a copy, or None."""
    if any(d == 0 for d in shape):
        return contiguous_strides(target)
    groups = reshape_groups(shape, target)
    if groups is None:
        return contiguous_strides(target) if is_contiguous(shape, strides) else None
    result: list[IntExpr] = [1] * len(target)
    for source_dims, target_dims in groups:
        inner = strides[source_dims[-1]]
        expected = inner
        for dim in reversed(source_dims):
            if strides[dim] != expected:
                return None
            expected = expected * shape[dim]
        step = inner
        for dim in reversed(target_dims):
            result[dim] = step
            step = step * target[dim]
    # A dim of size 1 may have any stride; what ATen's view would give keeps strides comparable.
    for dim in reversed(range(len(target))):
        if target[dim] == 1:
            result[dim] = result[dim + 1] * target[dim + 1] if dim + 1 < len(target) else 1
    return tuple(result)


def is_contiguous(shape: Sequence[IntExpr], strides: Sequence[IntExpr]) -> bool:
    """Row-major without gaps; strides of dims of size 1 do not matter."""
    if any(d == 0 for d in shape):
        return True
    return all(d == 1 or s == c for d, s, c in zip(shape, strides, contiguous_strides(shape)))


def equal_strides(shape: Sequence[IntExpr], left: Sequence[IntExpr], right: Sequence[IntExpr]) -> bool:
    """Whether two layouts place every element alike."""
    if any(d == 0 for d in shape):
        return True
    return all(d == 1 or a == b for d, a, b in zip(shape, left, right))


def span(shape: Sequence[IntExpr], strides: Sequence[IntExpr]) -> IntExpr:
    """Elements from the first to past the last that a layout with non-negative strides touches."""
    if any(d == 0 for d in shape):
        return 0
    total: IntExpr = 1
    for dim, stride in zip(shape, strides):
        total = total + (dim - 1) * stride
    return total


def is_dense(shape: Sequence[IntExpr], strides: Sequence[IntExpr]) -> bool:
    """Whether the layout covers its span without gaps or overlap: a permutation of row-major."""
    pairs = [(s, d) for s, d in zip(strides, shape) if d != 1]
    if any(d == 0 for d in shape):
        return True
    expected: IntExpr = 1
    while pairs:
        match = next((p for p in pairs if p[0] == expected), None)
        if match is None:
            return False
        pairs.remove(match)
        expected = expected * match[1]
    return True
