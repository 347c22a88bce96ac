"""The calls on which the import rules of resampling, unfolding and the gradients of padding are tested."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from importer_cases import BF16, F32, F64, Case, case, x
from training_cases import y

aten = torch.ops.aten
FLOATS = (F32, F64, BF16)


def upsampling_cases() -> Iterator[Case]:
    nearest = (aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d)
    exact = (aten._upsample_nearest_exact1d, aten._upsample_nearest_exact2d, aten._upsample_nearest_exact3d)
    linear = (aten.upsample_linear1d, aten.upsample_bilinear2d, aten.upsample_trilinear3d)
    backward = (aten.upsample_linear1d_backward, aten.upsample_bilinear2d_backward, aten.upsample_trilinear3d_backward)
    copies = (aten.upsample_nearest1d_backward, aten.upsample_nearest2d_backward, aten.upsample_nearest3d_backward)
    sizes = {
        1: [((2, 3, 5), [10]), ((2, 3, 7), [5]), ((1, 2, 4), [13])],
        2: [((2, 3, 4, 5), [8, 10]), ((1, 2, 7, 5), [4, 9]), ((2, 1, 3, 3), [7, 3]), ((1, 2, 4, 4), [1, 1])],
        3: [((1, 2, 2, 3, 4), [4, 6, 8]), ((1, 2, 4, 3, 5), [3, 5, 4])],
    }
    for dtype in FLOATS:
        for rank, pairs in sizes.items():
            none = [None] * rank
            for shape, counts in pairs:
                image = x(*shape, dtype=dtype)
                yield case(nearest[rank - 1].default, image, counts, *none)
                yield case(exact[rank - 1].default, image, counts, *none)
                for align in (False, True):
                    yield case(linear[rank - 1].default, image, counts, align, *none)
                    grad = y(*shape[:2], *counts, dtype=dtype)
                    yield case(backward[rank - 1].default, grad, counts, list(shape), align, *none)
            shape, counts = pairs[0]
            yield case(copies[rank - 1].default, y(*shape[:2], *counts, dtype=dtype), counts, list(shape), *none)
        for align in (False, True):
            for shape, counts in sizes[2]:
                yield case(aten.upsample_bicubic2d.default, x(*shape, dtype=dtype), counts, align, None, None)
        yield case(aten.upsample_nearest2d.default, x(1, 2, 5, 5, dtype=dtype), [9, 9], 1.8, 1.8)
        yield case(aten.upsample_bilinear2d.default, x(1, 2, 5, 5, dtype=dtype), [9, 9], False, 1.9, 1.9)
    yield case(aten.upsample_nearest1d_backward.default, y(1, 2, 7), [7], [1, 2, 5], None,
               reason="elements with different numbers of copies")


def unfolding_cases() -> Iterator[Case]:
    settings = [
        ([2, 3], [1, 1], [0, 0], [1, 1]), ([2, 2], [2, 1], [1, 1], [2, 2]), ([3, 3], [1, 1], [0, 0], [3, 3]),
        ([1, 1], [1, 1], [0, 0], [1, 1]),
    ]
    for dtype in FLOATS:
        for kernel, dilation, padding, step in settings:
            image = x(2, 3, 9, 6, dtype=dtype)
            columns = aten.im2col(image, kernel, dilation, padding, step)
            yield case(aten.im2col.default, image, kernel, dilation, padding, step)
            yield case(aten.im2col.default, image[0], kernel, dilation, padding, step)
            grad = y(*columns.shape, dtype=dtype)
            yield case(aten.col2im.default, grad, [9, 6], kernel, dilation, padding, step)
            yield case(aten.col2im.default, grad[0], [9, 6], kernel, dilation, padding, step)


def padding_gradient_cases() -> Iterator[Case]:
    reflection = (
        aten.reflection_pad1d_backward, aten.reflection_pad2d_backward, aten.reflection_pad3d_backward)
    replication = (
        aten.replication_pad1d_backward, aten.replication_pad2d_backward, aten.replication_pad3d_backward)
    for dtype in (F32, F64):
        for rank, shape, padding in (
            (1, (2, 3, 5), [2, 1]), (1, (3, 5), [0, 4]), (2, (2, 3, 4, 5), [2, 1, 3, 0]),
            (3, (1, 2, 3, 4, 5), [1, 2, 2, 1, 0, 2]),
        ):
            image = x(*shape, dtype=dtype)
            spatial = list(shape[-rank:])
            for i in range(rank):
                spatial[rank - 1 - i] += padding[2 * i] + padding[2 * i + 1]
            grad = y(*shape[:-rank], *spatial, dtype=dtype)
            for op in (reflection, replication):
                yield case(op[rank - 1].default, grad, image, padding)


FIXED_CASES = [*upsampling_cases(), *unfolding_cases(), *padding_gradient_cases()]
