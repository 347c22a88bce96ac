"""The calls on which the import rules of training are tested: gradients, losses, statistics, pooling."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from importer_cases import BF16, F32, F64, I64, INF, NAN, Case, case, special, x

aten = torch.ops.aten
FLOATS = (F32, F64, BF16)


def y(*shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
    """As `x`, other elements."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + 91)).to(dtype)


def activation_gradient_cases() -> Iterator[Case]:
    for dtype in FLOATS:
        values = special(dtype)
        values = torch.cat([values, torch.tensor([3.0, -3.0, 2.9, -2.9, 6.0, 20.5, -100.0], dtype=dtype)])
        # Where the input is infinite or NaN, gradients are products of zero and infinity: the finite ones are compared.
        values = values[values.isfinite() & (values.abs() < 100)]
        grad = y(*values.shape, dtype=dtype)
        for overload in (aten.sigmoid_backward.default, aten.tanh_backward.default):
            yield case(overload, grad, values.tanh())
        for overload in (
            aten.gelu_backward.default, aten.silu_backward.default, aten.mish_backward.default,
            aten.hardswish_backward.default, aten.hardsigmoid_backward.default,
        ):
            yield case(overload, grad, values)
            yield case(overload, y(0, dtype=dtype), y(0, dtype=dtype))
            yield case(overload, y(5, 3, dtype=dtype).t(), y(3, 5, dtype=dtype))
        yield case(aten.gelu_backward.default, grad, values, approximate="tanh")
        for limit in (0, 0.5, -1):
            yield case(aten.threshold_backward.default, grad, values, limit)
        yield case(aten.hardtanh_backward.default, grad, values, -1, 1)
        yield case(aten.hardtanh_backward.default, grad, values, 0, 6)
        yield case(aten.leaky_relu_backward.default, grad, values, 0.01, False)
        yield case(aten.leaky_relu_backward.default, grad, values, 0.3, True)
        for is_result in (False, True):
            yield case(aten.elu_backward.default, grad, 1.3, 1.1, 0.7, is_result, values)
        yield case(aten.softplus_backward.default, grad, values, 1, 20)
        yield case(aten.softplus_backward.default, grad, values, 2.5, 5)
        buffer = torch.exp(-values.abs())
        yield case(aten.log_sigmoid_backward.default, grad, values, buffer)
        inside = torch.tensor([0.5, 0.1, 0.99, 0.25, 0.0, 1.0, -0.5, 1.5], dtype=dtype)
        for epsilon in (None, 1e-2, -1.0):
            yield case(aten.logit_backward.default, y(8, dtype=dtype), inside, epsilon)
        yield case(aten._prelu_kernel_backward.default, grad, values, y(1, dtype=dtype))
        noise = y(*values.shape, dtype=dtype)
        yield case(aten.rrelu_with_noise_backward.default, grad, values, noise, 0.1, 0.3, True, False)
        yield case(aten.rrelu_with_noise_backward.default, grad, values, noise, 0.1, 0.3, False, False)
        for dim in (0, -1):
            size = (2, 6) if dim else (1, 12)
            yield case(aten.glu_backward.default, y(*size, dtype=dtype), y(2, 12, dtype=dtype), dim)
        mask = y(3, 7) > 0
        yield case(aten.native_dropout_backward.default, y(3, 7, dtype=dtype), mask, 1.25)
        for shape, dim in itertools.product(((3, 4, 6), (1, 5), (2, 0), (7,), ()), (0, -1)):
            logits = x(*shape, dtype=dtype)
            for overload, result in (
                (aten._softmax_backward_data.default, torch.softmax(logits, dim)),
                (aten._log_softmax_backward_data.default, torch.log_softmax(logits, dim)),
            ):
                yield case(overload, y(*shape, dtype=dtype), result, dim, dtype)
    for grad, edge in ((NAN, 1.0), (1.0, NAN), (INF, 0.5)):
        operands = torch.tensor([grad]), torch.tensor([edge])
        for overload in (aten.gelu_backward.default, aten.silu_backward.default, aten.sigmoid_backward.default):
            yield case(overload, *operands)
        yield case(aten.threshold_backward.default, *operands, 0)
        yield case(aten.hardtanh_backward.default, *operands, -1, 1)


def shrink_gradient_cases() -> Iterator[Case]:
    for dtype in FLOATS:
        values = torch.tensor([0.5, -0.5, 0.0, 1.0, -2.0, 0.4, -INF, INF], dtype=dtype)
        for overload in (aten.hardshrink_backward.default, aten.softshrink_backward.default):
            yield case(overload, y(8, dtype=dtype), values, 0.5)


def view_gradient_cases() -> Iterator[Case]:
    for dtype in (F32, BF16):
        for dim, index in ((0, 0), (0, 2), (1, -1), (-1, 3)):
            shape = [3, 4, 5]
            kept = [s for d, s in enumerate(shape) if d != dim % 3]
            yield case(aten.select_backward.default, y(*kept, dtype=dtype), shape, dim, index)
        for start, end, step in ((0, 10, 1), (2, 9, 1), (0, 10, 2), (1, 10, 3), (3, 3, 1), (-4, 10, 1), (0, 99, 1)):
            count = len(range(10)[start:end:step])
            if step == 1:
                yield case(aten.slice_backward.default, y(3, count, dtype=dtype), [3, 10], 1, start, end, step)


def fixed_view_gradient_cases() -> Iterator[Case]:
    for start, end, step in ((0, 10, 2), (1, 10, 3), (0, 99, 4), (2, 3, 2)):
        count = len(range(10)[start:end:step])
        yield case(aten.slice_backward.default, y(3, count), [3, 10], 1, start, end, step)


def loss_cases() -> Iterator[Case]:
    for dtype, reduction in itertools.product(FLOATS, (0, 1, 2)):
        for shape in ((3, 5), (1,), (0, 4)):
            if 0 in shape and reduction == 1:
                continue  # tracing divides by the number of elements
            a, b = x(*shape, dtype=dtype), y(*shape, dtype=dtype)
            grad = y(*(shape if reduction == 0 else ()), dtype=dtype)
            for overload in (aten.mse_loss.default, aten.soft_margin_loss.default):
                yield case(overload, a, b, reduction)
            yield case(aten.mse_loss_backward.default, grad, a, b, reduction)
            yield case(aten.soft_margin_loss_backward.default, grad, a, b, reduction)
            for bound in (1.0, 0.4):
                for forward, backward in (
                    (aten.smooth_l1_loss.default, aten.smooth_l1_loss_backward.default),
                    (aten.huber_loss.default, aten.huber_loss_backward.default),
                ):
                    yield case(forward, a, b, reduction, bound)
                    yield case(backward, grad, a, b, reduction, bound)
            chance, goal = a.sigmoid(), (b > 0).to(dtype)
            for weight in (None, y(*shape, dtype=dtype).abs()):
                yield case(aten.binary_cross_entropy.default, chance, goal, weight, reduction)
                yield case(aten.binary_cross_entropy_backward.default, grad, chance, goal, weight, reduction)
                yield case(aten.binary_cross_entropy_with_logits.default, a, goal, weight, None, reduction)
        positive = y(5, dtype=dtype).abs()
        yield case(
            aten.binary_cross_entropy_with_logits.default, x(3, 5, dtype=dtype) * 30, (y(3, 5) > 0).to(dtype), None,
            positive, reduction,
        )
        yield case(aten.smooth_l1_loss.default, x(3, 5, dtype=dtype), y(3, 5, dtype=dtype), reduction, 0.0)
    edge, goal = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0, 0.0])
    yield case(aten.binary_cross_entropy.default, edge, goal, None, 0)
    yield case(aten.binary_cross_entropy_backward.default, torch.ones(4), edge, goal, None, 0)


def likelihood_cases() -> Iterator[Case]:
    def target(*shape: int, classes: int, ignored: bool = False) -> torch.Tensor:
        found = torch.randint(classes, shape, generator=torch.Generator().manual_seed(3))
        if ignored and found.numel():
            found.view(-1)[::2] = -100
        return found

    for dtype, reduction, weighted, ignored in itertools.product(FLOATS, (0, 1, 2), (False, True), (False, True)):
        for shape, goal, forward, backward in (
            ((4, 7), (4,), aten.nll_loss_forward.default, aten.nll_loss_backward.default),
            ((1, 1), (1,), aten.nll_loss_forward.default, aten.nll_loss_backward.default),
            ((7,), (), aten.nll_loss_forward.default, aten.nll_loss_backward.default),
            ((2, 5, 3, 4), (2, 3, 4), aten.nll_loss2d_forward.default, aten.nll_loss2d_backward.default),
        ):
            classes = shape[0] if len(shape) == 1 else shape[1]
            weight = y(classes, dtype=dtype).abs() if weighted else None
            logs, goals = x(*shape, dtype=dtype), target(*goal, classes=classes, ignored=ignored)
            result, mass = forward(logs, goals, weight, reduction, -100)
            yield case(forward, logs, goals, weight, reduction, -100)
            # ATen's own gradient for half types rounds in between; so does the comparison's.
            grad = y(*result.shape, dtype=dtype)
            yield case(backward, grad, logs, goals, weight, reduction, -100, mass)
    yield case(aten.nll_loss_forward.default, torch.tensor([[-INF, 0.0]]), torch.tensor([0]), None, 1, 0)
    yield case(aten.nll_loss_forward.default, x(0, 3), target(0, classes=3), None, 2, -100)
    yield case(aten.nll_loss_forward.default, x(0, 3), target(0, classes=3), None, 1, -100)


def statistics_cases() -> Iterator[Case]:
    """Norms in training and their gradients, in one dtype and mixed as autocast makes them."""
    for dtype, parameters in ((F32, F32), (F64, F64), (BF16, BF16), (BF16, F32)):
        for shape in ((2, 6, 5, 3), (4, 6), (3, 6, 1, 1), (2, 6, 7)):
            image, grad = x(*shape, dtype=dtype), y(*shape, dtype=dtype)
            weight, bias = y(6, dtype=parameters), x(6, dtype=parameters)
            running = (x(6, dtype=parameters), x(6, dtype=parameters).abs() + 0.5)
            for pair in ((weight, bias), (None, None)):
                # Of running statistics in halves, and of mean and deviation of mixed types, tracing and eager disagree
                # on the dtype: the result alone is compared there.
                only: dict[str, Any] = {} if dtype == parameters and dtype != BF16 else {"only": 0}
                yield case(
                    aten._native_batch_norm_legit_functional.default, image, *pair, *running, True, 0.1, 1e-5, **only)
                yield case(
                    aten._native_batch_norm_legit_functional.default, image, *pair, *running, False, 0.1, 1e-5, **only)
                yield case(
                    aten._batch_norm_with_update_functional.default, image, weight, bias, *running, 0.1, 1e-5, **only)
                yield case(aten._native_batch_norm_legit.no_stats, image, *pair, True, 0.1, 1e-5, **only)
            _, mean, factor, _, _ = aten._native_batch_norm_legit_functional(
                image, weight, bias, *running, True, 0.1, 1e-5)
            for train, mask in ((True, [True] * 3), (False, [True] * 3), (True, [True, False, False])):
                yield case(
                    aten.native_batch_norm_backward.default, grad, image, weight, *running, mean, factor, train, 1e-5,
                    mask)
            yield case(
                aten.native_batch_norm_backward.default, grad, image, None, None, None, mean, factor, True, 1e-5,
                [True, False, False])
            if parameters == F32 and dtype == F32:
                yield case(
                    aten.batch_norm_backward.default, grad, image, weight, *running, mean, factor, True, 1e-5,
                    [True] * 3, torch.empty(0, dtype=torch.uint8))
        rows, grad = x(3, 4, 6, dtype=dtype), y(3, 4, 6, dtype=dtype)
        for dims, mask in itertools.product(([6], [4, 6]), ([True] * 3, [True, False, True], [False, True, False])):
            weight, bias = y(*dims, dtype=parameters), y(*dims, dtype=parameters)
            _, mean, factor = aten.native_layer_norm(rows, dims, weight, bias, 1e-5)
            yield case(
                aten.native_layer_norm_backward.default, grad, rows, dims, mean, factor, weight, bias, list(mask))
        _, mean, factor = aten.native_layer_norm(rows, [6], None, None, 1e-5)
        if dtype == parameters:
            yield case(
                aten.native_layer_norm_backward.default, grad, rows, [6], mean, factor, None, None,
                [True, False, False])
            image, grad = x(2, 6, 5, 3, dtype=dtype), y(2, 6, 5, 3, dtype=dtype)
            weight = y(6, dtype=parameters)
            for groups, scale in ((3, weight), (1, weight), (6, weight), (2, None)):
                _, mean, factor = aten.native_group_norm(image, scale, scale, 2, 6, 15, groups, 1e-5)
                for mask in ([True] * 3, [True, False, False]):
                    if scale is not None or not mask[1]:
                        yield case(
                            aten.native_group_norm_backward.default, grad, image, mean, factor, scale, 2, 6, 15,
                            groups, mask)


def with_nan(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Ties, NaNs and infinities in one tensor."""
    values = x(*shape, dtype=dtype).round()
    flat = values.view(-1)
    flat[::7], flat[3::11], flat[5::13] = NAN, -INF, INF
    return values


POOLS: dict[int, list[tuple[Any, ...]]] = {
    2: [
        ([3, 3], [2, 2], [1, 1], [1, 1], False), ([2, 2], [], [0, 0], [1, 1], False),
        ([3, 2], [2, 1], [1, 0], [1, 1], True),
        ([2], [3], [1], [1], True), ([2, 3], [1, 1], [1, 1], [2, 2], False), ([3, 3], [3, 3], [0, 0], [1, 1], False),
        ([1, 1], [1, 1], [0, 0], [1, 1], False),
    ],
    3: [([2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1], False), ([3, 2, 2], [2, 2, 1], [1, 1, 0], [1, 1, 1], True)],
}


CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def pooling_cases() -> Iterator[Case]:
    forward = {2: aten.max_pool2d_with_indices.default, 3: aten.max_pool3d_with_indices.default}
    backward = {2: aten.max_pool2d_with_indices_backward.default, 3: aten.max_pool3d_with_indices_backward.default}
    for rank, dtype in itertools.product((2, 3), FLOATS):
        shape = (2, 3, 7, 9) if rank == 2 else (2, 3, 5, 6, 7)
        for pool in POOLS[rank]:
            image = x(*shape, dtype=dtype)
            for value in (image, image[0], with_nan(shape, dtype)):
                yield case(forward[rank], value, *pool)
            yield case(forward[rank], image, *pool, only=0)
            if rank == 2:
                yield case(forward[rank], image.to(memory_format=torch.channels_last), *pool)
            result, place = forward[rank](image, *pool)
            for format in (torch.contiguous_format, CHANNELS_LAST[rank]):
                yield case(backward[rank], y(*result.shape, dtype=dtype), image.to(memory_format=format), *pool, place)
    yield case(aten.max_pool2d_with_indices.default, x(2, 1, 20, 20), [7, 7], [3, 3], [2, 2], [1, 1], False, only=0)
    yield case(aten.max_pool2d_with_indices.default, x(2, 1, 20, 20), [7, 7], [3, 3], [2, 2], [1, 1], False,
               reason="positions in windows of more than 36 elements")
    yield case(aten.max_pool2d_with_indices.default, x(1, 2, 8, 8, dtype=I64), [3, 3], [2, 2], [1, 1], [1, 1], False)
    # Dilated windows over the end, whose number is rounded up: the nearest element is not theirs.
    yield case(aten.max_pool2d_with_indices.default, x(1, 2, 9, 11), [3, 3], [2, 2], [0, 0], [2, 2], True)
    yield case(aten.max_pool3d_with_indices.default, x(1, 2, 3, 6, 5), [3, 3, 3], [2, 2, 2], [0, 0, 0], [1, 2, 1], True)
    yield case(aten.max_pool2d_with_indices.default, x(0, 2, 8, 8), [2, 2], only=0, reason="no windows")
    means = {2: (aten.avg_pool2d.default, aten.avg_pool2d_backward.default),
             3: (aten.avg_pool3d.default, aten.avg_pool3d_backward.default)}
    for rank, dtype in itertools.product((2, 3), FLOATS):
        shape = (2, 3, 7, 9) if rank == 2 else (2, 3, 5, 6, 7)
        for kernel, step, padding, _, ceil in POOLS[rank]:
            if len(kernel) == rank and kernel[-1] > 1 and not (rank == 3 and dtype == BF16):  # not in ATen
                for include, override in ((True, None), (False, None), (True, 5)):
                    arguments = (kernel, step, padding, ceil, include, override)
                    yield case(means[rank][0], x(*shape, dtype=dtype), *arguments)
                    result = means[rank][0](x(*shape, dtype=dtype), *arguments)
                    yield case(means[rank][1], y(*result.shape, dtype=dtype), x(*shape, dtype=dtype), *arguments)
    yield case(aten.avg_pool2d.default, x(2, 1, 20, 20), [7, 7], [3, 3], [2, 2], False, False, None)
    yield case(aten.avg_pool2d.default, x(2, 1, 20, 20), [20, 20])


def adaptive_pooling_cases() -> Iterator[Case]:
    for dtype in FLOATS:
        for rank, shape, counts in (
            (2, (2, 3, 6, 9), [3, 3]), (2, (2, 3, 7, 9), [3, 4]), (2, (3, 7, 5), [1, 1]), (2, (1, 2, 4, 4), [6, 5]),
            (3, (2, 2, 4, 6, 5), [2, 3, 5]), (3, (1, 2, 5, 4, 3), [2, 3, 2]),
        ):
            image = x(*shape, dtype=dtype)
            mean = (aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d)[rank - 2].default
            yield case(mean, image, counts)
            grad = y(*mean(image, counts).shape, dtype=dtype)
            yield case((aten._adaptive_avg_pool2d_backward, aten._adaptive_avg_pool3d_backward)[rank - 2].default,
                       grad, image)
            top = (aten.adaptive_max_pool2d, aten.adaptive_max_pool3d)[rank - 2].default
            for value in (image, with_nan(shape, dtype)):
                yield case(top, value, counts)
            yield case((aten.adaptive_max_pool2d_backward, aten.adaptive_max_pool3d_backward)[rank - 2].default,
                       grad, image, top(image, counts)[1])


# With sizes that the rules, or tracing, need as numbers.
FIXED_CASES = [*adaptive_pooling_cases(), *fixed_view_gradient_cases(), *shrink_gradient_cases()]
CASES = [
    *activation_gradient_cases(), *view_gradient_cases(), *loss_cases(), *likelihood_cases(), *statistics_cases(),
    *pooling_cases(),
]
