"""What random ATen calls become: arithmetic on random bits, one function for each kind of distribution.

A function takes the `Draw` of one call and the overload's arguments as its schema lists them, and gives the node (or
the nodes) that takes the call's place, or None to leave the call to ATen: for arguments that ATen refuses, and for
those that are not known while compiling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils.checkpoint import CheckpointPolicy

from .random_ops import PHILOX

aten = torch.ops.aten
Node = torch.fx.Node
Results = Node | Sequence[Node] | None

# Streams of one call: what needs more than 64 bits for an element takes the next.
STREAMS_PER_CALL = 2
# A uniform number in [0, 1) has as many bits as its type has digits, as ATen's.
DIGITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
# The digits of a comparison with a probability.
_EVENT_DIGITS = 53
_WORD = 32


class Draw:
    """Inserts the nodes that take the place of one random call.

    `node` is the call, `value` what tracing knows of its (first) result, `seed` gives the graph's seed when it is
    needed, `stream` is the first of the call's own streams, `shape` the result's sizes, as numbers and nodes. With
    `replay` nodes that follow from the seed alone are marked to be computed again in the backward pass.
    """

    def __init__(
        self, node: Node, value: torch.Tensor, seed: Callable[[], Node], stream: int, shape: Sequence[int | Node],
        replay: bool,
    ):
        self.node = node
        self.dtype = value.dtype
        self.wide = torch.float64 if self.dtype not in DIGITS or self.dtype is torch.float64 else torch.float32
        self._seed = seed
        self._stream = stream
        self._shape = list(shape)
        self._replay = replay
        self._replayed: set[Node] = set()

    def call(self, target: OpOverload, *args: Any, **kwargs: Any) -> Node:
        """A call of `target` before the random one, with its traced value."""
        name = target._schema.name.partition("::")[2]
        node = self.node.graph.create_node("call_function", target, args, kwargs, name=name.strip("_"))
        node.meta = {k: v for k, v in self.node.meta.items() if k not in ("val", "tensor_meta")}
        known_args, known_kwargs = torch.fx.map_arg((args, kwargs), lambda n: n.meta["val"])
        node.meta["val"] = target(*known_args, **known_kwargs)
        tensors = [n for n in node.all_input_nodes if isinstance(n.meta["val"], torch.Tensor)]
        if self._replay and self._replayed.issuperset(tensors):
            self._replayed.add(node)
            node.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE
        return node

    # Bits.

    def bits(self, part: int = 0) -> Node:
        """64 random bits for each element, as int64."""
        seed = self._seed()
        self._replayed.add(seed)
        return self.call(PHILOX, seed, self._stream + part, self._shape)

    def low_bits(self, bits: Node, count: int) -> Node:
        """The last `count` bits (below 64), which are a number that is not negative."""
        return self.call(aten.bitwise_and.Scalar, bits, 2**count - 1)

    def high_word(self, bits: Node, count: int) -> Node:
        """The first `count` bits, at most 32."""
        return self.low_bits(self.call(aten.bitwise_right_shift.Tensor_Scalar, bits, 64 - count), count)

    # Numbers.

    def to(self, value: Node, dtype: torch.dtype) -> Node:
        return value if value.meta["val"].dtype is dtype else self.call(aten._to_copy.default, value, dtype=dtype)

    def real(self, number: Node, dtype: torch.dtype) -> Node:
        """A number of at most 53 bits (31 for float32, which more machines convert from int32 in lanes) as a float."""
        return self.to(self.to(number, torch.int32) if dtype is torch.float32 else number, dtype)

    def mul(self, a: Node, b: Node | float) -> Node:
        return self.call(aten.mul.Tensor, a, b)

    def add(self, a: Node, b: Node | float) -> Node:
        return self.call(aten.add.Tensor, a, b)

    def affine(self, value: Node, factor: Node | float, offset: Node | float) -> Node:
        """``value * factor + offset``."""
        return self.add(self.mul(value, factor), offset)

    def uniform(self, digits: int, dtype: torch.dtype) -> Node:
        """In [0, 1): a multiple of ``2 ** -digits``, exact in `dtype`."""
        return self.mul(self.real(self.low_bits(self.bits(), digits), dtype), 2.0**-digits)

    def inside(self, bits: Node, dtype: torch.dtype) -> Node:
        """In (0, 1], with small steps near 0: by the last 53 bits, for float32 31 bits."""
        digits = 53 if dtype is torch.float64 else 31
        return self.mul(self.add(self.real(self.low_bits(bits, digits), dtype), 1.0), 2.0**-digits)

    def negative_logarithm(self, dtype: torch.dtype) -> Node:
        """The logarithm of a uniform number in (0, 1): never 0, never infinite."""
        below_one = 1 - torch.finfo(dtype).eps / 2
        number = self.call(aten.clamp_max.default, self.inside(self.bits(), dtype), below_one)
        return self.call(aten.log.default, number)

    def normal(self, dtype: torch.dtype) -> Node:
        """Standard normal numbers (Box and Muller 1958), up to 6.5 deviations in float32 and 8.5 in float64.

        The angle is from [-pi/2, pi/2], whose sine is distributed as that of all angles.
        """
        bits = self.bits()
        radius = self.call(
            aten.sqrt.default, self.mul(self.call(aten.log.default, self.inside(bits, dtype)), -2.0)
        )
        if dtype is torch.float64:
            digits, second = 53, self.low_bits(self.bits(1), 53)
        else:
            digits, second = 24, self.high_word(bits, 24)
        step = math.pi * 2.0**-digits
        angle = self.affine(self.real(second, dtype), step, (step - math.pi) / 2)
        return self.mul(radius, self.sine(angle) if dtype is torch.float32 else self.call(aten.sin.default, angle))

    def sine(self, angle: Node) -> Node:
        """Of angles up to a right one: Taylor's series, whose rest is below 1e-9 there."""
        square = self.mul(angle, angle)
        *coefficients, last = [(-1) ** k / math.factorial(2 * k + 1) for k in range(1, 7)]
        series = self.mul(square, last)
        for coefficient in reversed(coefficients):
            series = self.mul(square, self.add(series, coefficient))
        return self.add(angle, self.mul(angle, series))

    def event(self, probability: float) -> Node:
        """True with that probability, in steps of 2**-53: always for 1, never for 0."""
        return self.call(aten.lt.Scalar, self.low_bits(self.bits(), _EVENT_DIGITS), _threshold(probability))


def _threshold(probability: float) -> int:
    return math.ceil(probability * 2**_EVENT_DIGITS)


# Numbers between bounds --------------------------------------------------------------------------------------------


def rand(draw: Draw, *_: Any, **__: Any) -> Results:
    if draw.dtype not in DIGITS:
        return None
    return draw.to(draw.uniform(DIGITS[draw.dtype], draw.wide), draw.dtype)


def uniform(draw: Draw, x: Node, low: Any, high: Any, **_: Any) -> Results:
    if draw.dtype not in DIGITS or not _numbers(low, high) or not low <= high or math.isinf(high - low):
        return None
    number = draw.uniform(DIGITS[draw.dtype], draw.wide)
    if (low, high) != (0, 1):
        number = draw.affine(number, high - low, low)
    return draw.to(number, draw.dtype)


def randint(draw: Draw, high: Any, *_: Any, **__: Any) -> Results:
    return integers(draw, 0, high)


def randint_low(draw: Draw, low: Any, high: Any, *_: Any, **__: Any) -> Results:
    return integers(draw, low, high)


def randint_like(draw: Draw, x: Node, high: Any, **_: Any) -> Results:
    return integers(draw, 0, high)


def randint_like_low(draw: Draw, x: Node, low: Any, high: Any, **_: Any) -> Results:
    return integers(draw, low, high)


def random(draw: Draw, x: Node, **_: Any) -> Results:
    """All that the type has from 0 on; floats: all integers up to where it has gaps."""
    return integers(draw, 0, _largest(draw.dtype) + 1)


def integers(draw: Draw, low: Any, high: Any) -> Results:
    """Integers in [low, high).

    The last bits where `high - low` is a power of 2; else ``bits * (high - low) / 2**64`` for up to 2**31 values, and
    the remainder of 63 bits for more. No value is more likely than another by more than one part in 2**63 / count.
    """
    if type(low) is not int or type(high) is not int or draw.dtype.is_complex:
        return None
    count, largest = high - low, _largest(draw.dtype)
    smallest = -largest if draw.dtype in DIGITS else 0 if draw.dtype is torch.bool else torch.iinfo(draw.dtype).min
    if not (0 < count <= 2**63 and smallest <= low and high - 1 <= largest):
        return None
    bits = draw.bits()
    if count & (count - 1) == 0:
        number = draw.low_bits(bits, count.bit_length() - 1)
    elif count <= 2**31:
        # floor(bits * count / 2**64), in two words; nothing overflows.
        carry = draw.call(
            aten.bitwise_right_shift.Tensor_Scalar, draw.mul(draw.low_bits(bits, _WORD), count), _WORD
        )
        product = draw.add(draw.mul(draw.high_word(bits, _WORD), count), carry)
        number = draw.call(aten.bitwise_right_shift.Tensor_Scalar, product, _WORD)
    else:
        number = draw.call(aten.remainder.Scalar, draw.low_bits(bits, 63), count)
    return draw.to(draw.add(number, low) if low else number, draw.dtype)


def _largest(dtype: torch.dtype) -> int:
    """The largest integer up to which the type has them all."""
    return 2 ** DIGITS[dtype] if dtype in DIGITS else 1 if dtype is torch.bool else torch.iinfo(dtype).max


# Events ------------------------------------------------------------------------------------------------------------


def dropout(draw: Draw, x: Node, probability: Any, train: Any) -> Results:
    """``x * mask / (1 - probability)`` and the mask; as ATen multiplies, NaN and infinities stay NaN where dropped."""
    if draw.dtype not in DIGITS or not _numbers(probability) or train is False or not 0 < probability <= 1:
        return None
    kept = draw.call(aten.ge.Scalar, draw.low_bits(draw.bits(), _EVENT_DIGITS), _threshold(probability))
    scale = 0.0 if probability == 1 else 1 / (1 - probability)
    factors = [draw.call(aten.scalar_tensor.default, value, dtype=draw.wide) for value in (scale, 0.0)]
    return draw.to(draw.mul(draw.to(x, draw.wide), draw.call(aten.where.self, kept, *factors)), draw.dtype), kept


def bernoulli_number(draw: Draw, x: Node, probability: Any, **_: Any) -> Results:
    if draw.dtype.is_complex or not _numbers(probability) or not 0 <= probability <= 1:
        return None
    return draw.to(draw.event(probability), draw.dtype)


def bernoulli_tensor(draw: Draw, x: Node, probability: Node | None = None, **_: Any) -> Results:
    """By a probability for each element. Those outside of [0, 1] are taken for the nearest, and NaN for 0."""
    given = x if probability is None else probability
    if draw.dtype.is_complex or not given.meta["val"].is_floating_point():
        return None
    number = draw.uniform(_EVENT_DIGITS, torch.float64)
    return draw.to(draw.call(aten.lt.Tensor, number, draw.to(given, torch.float64)), draw.dtype)


def geometric(draw: Draw, x: Node, probability: Any, **_: Any) -> Results:
    """The number of the first success, by the inverse of the distribution function."""
    if draw.dtype.is_complex or draw.dtype is torch.bool or not _numbers(probability) or not 0 < probability < 1:
        return None
    trials = draw.mul(draw.negative_logarithm(draw.wide), 1 / math.log1p(-probability))
    return draw.to(draw.call(aten.ceil.default, trials), draw.dtype)


# Bells and tails ---------------------------------------------------------------------------------------------------


def randn(draw: Draw, *_: Any, **__: Any) -> Results:
    return draw.to(draw.normal(draw.wide), draw.dtype) if draw.dtype in DIGITS else None


def normal(draw: Draw, mean: Any, deviation: Any, *_: Any, **__: Any) -> Results:
    """``mean + deviation * standard``, of numbers and tensors."""
    numbers = [v for v in (mean, deviation) if not isinstance(v, Node)]
    if draw.dtype not in DIGITS or not _numbers(*numbers) or (deviation in numbers and not deviation >= 0):
        return None
    factor, offset = (draw.to(v, draw.wide) if isinstance(v, Node) else v for v in (deviation, mean))
    return draw.to(draw.affine(draw.normal(draw.wide), factor, offset), draw.dtype)


def normal_functional(draw: Draw, x: Node, mean: Any, deviation: Any, **_: Any) -> Results:
    return normal(draw, mean, deviation)


def log_normal(draw: Draw, x: Node, mean: Any, deviation: Any, **_: Any) -> Results:
    if draw.dtype not in DIGITS or not _numbers(mean, deviation) or not deviation > 0:
        return None
    return draw.to(draw.call(aten.exp.default, draw.affine(draw.normal(draw.wide), deviation, mean)), draw.dtype)


def exponential(draw: Draw, x: Node, rate: Any, **_: Any) -> Results:
    """By the inverse of the distribution function; never 0."""
    if draw.dtype not in DIGITS or not _numbers(rate) or not 0 < rate < math.inf:
        return None
    return draw.to(draw.mul(draw.negative_logarithm(draw.wide), -1 / rate), draw.dtype)


def cauchy(draw: Draw, x: Node, median: Any, sigma: Any, **_: Any) -> Results:
    """By the inverse of the distribution function, in float64, whose steps do not show in the tails."""
    if draw.dtype not in DIGITS or not _numbers(median, sigma) or not sigma > 0:
        return None
    number = draw.real(draw.low_bits(draw.bits(), 53), torch.float64)
    angle = draw.affine(number, math.pi * 2.0**-53, math.pi * (2.0**-54 - 0.5))
    return draw.to(draw.affine(draw.call(aten.tan.default, angle), sigma, median), draw.dtype)


def rrelu(
    draw: Draw, x: Node, noise: Node, low: Any, high: Any, training: bool, generator: object = None
) -> Results:
    """Slopes below zero: random ones, which are the second result, in training; else their mean."""
    if draw.dtype not in DIGITS or not _numbers(low, high) or not low <= high:
        return None
    if not training:
        return draw.call(aten.leaky_relu.default, x, (low + high) / 2), noise
    slope = uniform(draw, x, low, high)
    one = draw.call(aten.scalar_tensor.default, 1.0, dtype=draw.dtype)
    factor = draw.call(aten.where.self, draw.call(aten.le.Scalar, x, 0), slope, one)
    return draw.mul(x, factor), factor


def _numbers(*values: Any) -> bool:
    """Whether all are finite Python numbers."""
    return all(type(v) in (int, float) and math.isfinite(v) for v in values)


DISTRIBUTIONS: dict[OpOverload, Callable[..., Results]] = {
    aten.rand.default: rand,
    aten.rand.generator: rand,
    aten.rand_like.default: rand,
    aten.rand_like.generator: rand,
    aten.randn.default: randn,
    aten.randn.generator: randn,
    aten.randn_like.default: randn,
    aten.randn_like.generator: randn,
    aten.uniform.default: uniform,
    aten.randint.default: randint,
    aten.randint.generator: randint,
    aten.randint.low: randint_low,
    aten.randint.low_generator: randint_low,
    aten.randint_like.default: randint_like,
    aten.randint_like.generator: randint_like,
    aten.randint_like.low_dtype: randint_like_low,
    aten.randint_like.low_generator_dtype: randint_like_low,
    aten.random.to: randint_like,
    aten.random.default: random,
    aten.native_dropout.default: dropout,
    aten.bernoulli.p: bernoulli_number,
    aten.bernoulli.Tensor: bernoulli_tensor,
    aten.bernoulli.default: bernoulli_tensor,
    aten.geometric.default: geometric,
    aten.normal.Tensor_Tensor: normal,
    aten.normal.Tensor_float: normal,
    aten.normal.float_Tensor: normal,
    aten.normal.float_float: normal,
    aten.normal_functional.default: normal_functional,
    aten.log_normal.default: log_normal,
    aten.exponential.default: exponential,
    aten.cauchy.default: cauchy,
    aten.rrelu_with_noise_functional.default: rrelu,
}
"""What takes the place of each random overload; all others draw from torch's generator."""
