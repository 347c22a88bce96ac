"""Import rules of losses and their gradients. Halves compute in f32; a reduced loss rounds once."""

from __future__ import annotations

import torch
from xdsl.ir import SSAValue

from tilewright.ir.expr import IntExpr, product

from .call import Call, dtype_of, shape_of
from .reductions import mean_of
from .table import imports, refuse_if

aten = torch.ops.aten

MEAN, SUM = 1, 2
"""ATen's numbers of reductions; 0 keeps the elements."""


def reduced(call: Call, loss: SSAValue, reduction: int) -> SSAValue:
    """The elements' losses, their mean or their sum, rounded to the result's dtype."""
    axes = list(range(len(shape_of(loss))))
    if reduction == MEAN:
        loss = mean_of(call, loss, axes)
    elif reduction == SUM and axes:
        loss = call.build.reduce("sum", loss, axes)
    return call.narrow(call.reshape(loss))


def share(call: Call, reduction: int, x: SSAValue, scale: float = 1.0) -> SSAValue:
    """The factor of each element's gradient: `scale`, or with a mean that over the number of elements."""
    value = call.wide(scale)
    if reduction != MEAN:
        return value
    return call.build.map("div", value, call.wide(product(shape_of(x))))


def difference(call: Call, x: SSAValue, target: SSAValue) -> SSAValue:
    return call.build.map("sub", call.wide(x), call.wide(target))


@imports(aten.mse_loss.default)
def mse_loss(call: Call, x: SSAValue, target: SSAValue, reduction: int = MEAN) -> SSAValue:
    delta = difference(call, x, target)
    return reduced(call, call.build.map("mul", delta, delta), reduction)


@imports(aten.mse_loss_backward.default)
def mse_loss_backward(call: Call, grad: SSAValue, x: SSAValue, target: SSAValue, reduction: int) -> SSAValue:
    build = call.build
    delta = build.map("mul", difference(call, x, target), share(call, reduction, x, 2.0))
    return call.narrow(build.map("mul", delta, call.wide(grad)))


@imports(aten.smooth_l1_loss.default)
def smooth_l1_loss(
    call: Call, x: SSAValue, target: SSAValue, reduction: int = MEAN, beta: float = 1.0
) -> SSAValue:
    build, half, bound = call.build, call.wide(0.5), call.wide(beta)
    delta = build.map("abs", difference(call, x, target))
    if beta == 0:
        return reduced(call, delta, reduction)
    square = build.map("div", build.map("mul", build.map("mul", half, delta), delta), bound)
    line = build.map("sub", delta, build.map("mul", half, bound))
    return reduced(call, build.where(build.map("lt", delta, bound), square, line), reduction)


@imports(aten.huber_loss.default)
def huber_loss(call: Call, x: SSAValue, target: SSAValue, reduction: int = MEAN, bound: float = 1.0) -> SSAValue:
    build, half, limit = call.build, call.wide(0.5), call.wide(bound)
    delta = build.map("abs", difference(call, x, target))
    square = build.map("mul", build.map("mul", half, delta), delta)
    line = build.map("mul", limit, build.map("sub", delta, build.map("mul", half, limit)))
    return reduced(call, build.where(build.map("le", delta, limit), square, line), reduction)


def ramp_gradient(
    call: Call, grad: SSAValue, delta: SSAValue, factor: SSAValue, bound: SSAValue, inner: SSAValue, outer: SSAValue
) -> SSAValue:
    """``factor * inner`` within `bound`, beyond it ``±factor * outer``, both times `grad`."""
    build, low = call.build, call.build.map("neg", bound)
    slope = build.where(build.map("ge", delta, bound), outer, inner)
    slope = build.where(build.map("le", delta, low), build.map("neg", outer), slope)
    return call.narrow(build.map("mul", build.map("mul", factor, slope), grad))


@imports(aten.smooth_l1_loss_backward.default)
def smooth_l1_loss_backward(
    call: Call, grad: SSAValue, x: SSAValue, target: SSAValue, reduction: int, beta: float
) -> SSAValue:
    delta, factor = difference(call, x, target), share(call, reduction, x)
    if beta == 0:
        sign = call.build.map("sign", delta)
        return call.narrow(call.build.map("mul", call.build.map("mul", factor, sign), call.wide(grad)))
    bound = call.wide(beta)
    return ramp_gradient(
        call, call.wide(grad), delta, factor, bound, call.build.map("div", delta, bound), call.wide(1)
    )


@imports(aten.huber_loss_backward.default)
def huber_loss_backward(
    call: Call, grad: SSAValue, x: SSAValue, target: SSAValue, reduction: int, bound: float
) -> SSAValue:
    delta, factor, limit = difference(call, x, target), share(call, reduction, x), call.wide(bound)
    return ramp_gradient(call, call.wide(grad), delta, factor, limit, delta, limit)


@imports(aten.binary_cross_entropy.default)
def binary_cross_entropy(
    call: Call, x: SSAValue, target: SSAValue, weight: SSAValue | None = None, reduction: int = MEAN
) -> SSAValue:
    """Logarithms are at least -100, as in ATen."""
    build, x, target, low = call.build, call.wide(x), call.wide(target), call.wide(-100)
    off = build.map("maximum", build.map("log1p", build.map("neg", x)), low)
    on = build.map("maximum", build.map("log", x), low)
    loss = build.map("sub", build.map("mul", build.map("sub", target, call.wide(1)), off), build.map("mul", target, on))
    if weight is not None:
        loss = build.map("mul", loss, call.wide(weight))
    return reduced(call, loss, reduction)


@imports(aten.binary_cross_entropy_backward.default)
def binary_cross_entropy_backward(
    call: Call, grad: SSAValue, x: SSAValue, target: SSAValue, weight: SSAValue | None = None, reduction: int = MEAN
) -> SSAValue:
    build, x = call.build, call.wide(x)
    spread = build.map("mul", build.map("sub", call.wide(1), x), x)
    slope = build.map("mul", call.wide(grad), difference(call, x, target))
    slope = build.map("div", slope, build.map("maximum", spread, call.wide(1e-12)))
    if weight is not None:
        slope = build.map("mul", slope, call.wide(weight))
    return call.narrow(build.map("mul", slope, share(call, reduction, x)) if reduction == MEAN else slope)


@imports(aten.binary_cross_entropy_with_logits.default)
def binary_cross_entropy_with_logits(
    call: Call, x: SSAValue, target: SSAValue, weight: SSAValue | None = None, positive_weight: SSAValue | None = None,
    reduction: int = MEAN,
) -> SSAValue:
    """``(1 - t) * x - (1 + (p - 1) * t) * log_sigmoid(x)``."""
    build, x, target, one = call.build, call.wide(x), call.wide(target), call.wide(1)
    decay = build.map("exp", build.map("neg", build.map("abs", x)))
    log_sigmoid = build.map("sub", build.map("minimum", x, call.wide(0)), build.map("log1p", decay))
    if positive_weight is not None:
        factor = build.map("mul", build.map("sub", call.wide(positive_weight), one), target)
        log_sigmoid = build.map("mul", log_sigmoid, build.map("add", factor, one))
    loss = build.map("sub", build.map("mul", build.map("sub", one, target), x), log_sigmoid)
    if weight is not None:
        loss = build.map("mul", loss, call.wide(weight))
    return reduced(call, loss, reduction)


@imports(aten.soft_margin_loss.default)
def soft_margin_loss(call: Call, x: SSAValue, target: SSAValue, reduction: int = MEAN) -> SSAValue:
    build = call.build
    product_ = build.map("mul", build.map("neg", call.wide(target)), call.wide(x))
    return reduced(call, build.map("log1p", build.map("exp", product_)), reduction)


@imports(aten.soft_margin_loss_backward.default)
def soft_margin_loss_backward(
    call: Call, grad: SSAValue, x: SSAValue, target: SSAValue, reduction: int
) -> SSAValue:
    build, target = call.build, call.wide(target)
    power = build.map("exp", build.map("neg", build.map("mul", target, call.wide(x))))
    slope = build.map("div", build.map("mul", target, power), build.map("add", call.wide(1), power))
    slope = build.map("mul", build.map("neg", share(call, reduction, x)), slope)
    return call.narrow(build.map("mul", slope, call.wide(grad)))


# Negative log likelihood: classes stand along dim 1, or are the only dim.


def kept_target(call: Call, target: SSAValue, ignore: IntExpr) -> tuple[SSAValue, SSAValue]:
    """Whether a target counts, and the target as a class that exists."""
    build = call.build
    kept = build.map("ne", target, call.value(ignore, dtype_of(target)))
    return kept, build.where(kept, target, call.value(0, dtype_of(target)))


def class_weights(call: Call, weight: SSAValue | None, place: SSAValue, kept: SSAValue) -> SSAValue:
    """What each target weighs, f32 for halves; 0 for those that do not count."""
    one = call.wide(1) if weight is None else call.wide(call.build.gather(weight, [place], [0], wrap=False))
    return call.build.where(kept, one, call.wide(0))


@imports(aten.nll_loss_forward.default, aten.nll_loss2d_forward.default)
def nll_loss(
    call: Call, x: SSAValue, target: SSAValue, weight: SSAValue | None, reduction: int, ignore: IntExpr
) -> list[SSAValue]:
    """The loss and the weight of all targets. Raises the index error at run time for a target that is no class."""
    build, shape = call.build, shape_of(x)
    refuse_if(reduction != 0 and len(shape_of(target)) > 1 and len(shape) < 3, "targets of several dims")
    kept, place = kept_target(call, target, ignore)
    if len(shape) == 1:
        place = build.reshape(place, [])
        picked = build.gather(x, [place], [0], wrap=False)
        kept = build.reshape(kept, [])
    else:
        rows = [build.iota(shape_of(target), "i64", d) for d in range(len(shape_of(target)))]
        wide_place = build.cast(place, "i64")
        picked = build.gather(x, [rows[0], wide_place, *rows[1:]], list(range(len(shape))), wrap=False)
    weights = class_weights(call, weight, place, kept)
    loss = build.map("mul", build.map("neg", call.wide(picked)), weights)
    # Infinite times a weight of zero would be NaN.
    loss = build.where(kept, loss, call.wide(0))
    axes = list(range(len(shape_of(loss))))
    if reduction == 0 and len(shape) > 1:
        # Nothing reads the weight of all, which ATen leaves at 0.
        return [call.narrow(call.reshape(loss)), call.value(0.0, call.type_of(1).dtype)]
    total, mass = ((build.reduce("sum", v, axes) if axes else v) for v in (loss, weights))
    if reduction == MEAN:
        total = build.map("div", total, mass)
    return [call.narrow(call.reshape(total)), call.narrow(call.reshape(mass, 1), 1)]


@imports(aten.nll_loss_backward.default, aten.nll_loss2d_backward.default)
def nll_loss_backward(
    call: Call, grad: SSAValue, x: SSAValue, target: SSAValue, weight: SSAValue | None, reduction: int, ignore: IntExpr,
    mass: SSAValue,
) -> SSAValue:
    """``-weight * grad`` at the target's class, 0 elsewhere: a comparison with the position, no scatter."""
    build, shape = call.build, shape_of(x)
    classes = 0 if len(shape) == 1 else 1
    kept, place = kept_target(call, target, ignore)
    slope = build.map("neg", class_weights(call, weight, place, kept))
    slope = build.map("mul", slope, call.wide(grad))
    if reduction == MEAN:
        slope = build.map("div", slope, call.wide(mass))
    slope = build.where(kept, slope, call.wide(0))
    spread = [1 if d == classes else size for d, size in enumerate(shape)]
    slope, place = (build.reshape(build.broadcast(v, shape_of(target)), spread) for v in (slope, place))
    position = build.iota([size if d == classes else 1 for d, size in enumerate(shape)], "i64", classes)
    hit = build.map("eq", position, build.cast(place, "i64"))
    return call.narrow(build.where(hit, slope, call.wide(0)))
