"""The functions that emitted Triton kernels call as ``tw.name``: what `triton.language` lacks, or means otherwise.

Like kernels they are compiled by Triton, and run in its interpreter. Operands are blocks or scalars of one type.
"""
# mypy: ignore-errors

import os

import triton
import triton.language as tl

if os.environ.get("TRITON_INTERPRET") == "1":
    from .interpreted import libdevice
else:
    from triton.language.extra.cuda import libdevice


# Combiners of reductions and scans ------------------------------------------------------------------------------------
@triton.jit
def add(a, b):
    return a + b


@triton.jit
def multiply(a, b):
    return a * b


@triton.jit
def either(a, b):
    return a | b


@triton.jit
def both(a, b):
    return a & b


@triton.jit
def maximum(a, b):
    """The larger one; NaN if either is, as in torch."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def larger(a, b):
    """The larger one; of a number and NaN the number."""
    return tl.maximum(a, b)


@triton.jit
def log_add_exp(a, b):
    """log(exp(a) + exp(b)), also of infinities."""
    high = maximum(a, b)
    low = minimum(a, b)
    same = (high == low) & (tl.abs(high) == float("inf"))
    return tl.where(same, high, high + libdevice.log1p(tl.exp(low - high)))


@triton.jit
def _beats(a, i, b, j):
    """Whether (a, i) comes before (b, j) among maxima: NaN is the largest, the first of equal ones wins."""
    a_nan = a != a
    b_nan = b != b
    equal = (a == b) | (a_nan & b_nan)
    return ((a > b) & ~b_nan) | (a_nan & ~b_nan) | (equal & (i < j))


@triton.jit
def first_max(a, i, b, j):
    """The larger of two values and its position; of equal ones the first."""
    left = _beats(a, i, b, j)
    return tl.where(left, a, b), tl.where(left, i, j)


@triton.jit
def first_min(a, i, b, j):
    a_nan = a != a
    b_nan = b != b
    equal = (a == b) | (a_nan & b_nan)
    left = ((a < b) & ~b_nan) | (a_nan & ~b_nan) | (equal & (i < j))
    return tl.where(left, a, b), tl.where(left, i, j)


@triton.jit
def last_max(a, i, b, j):
    """The running maximum and its position, (b, j) being later: of equal values the last."""
    right = (b >= a) | (b != b)
    right = right & ~((a != a) & (b == b))
    return tl.where(right, b, a), tl.where(right, j, i)


@triton.jit
def last_min(a, i, b, j):
    right = (b <= a) | (b != b)
    right = right & ~((a != a) & (b == b))
    return tl.where(right, b, a), tl.where(right, j, i)


# Integers. A divisor of zero is reported by the kernel; here it must do no harm. --------------------------------------
@triton.jit
def trunc_div(a, b):
    return a // tl.where(b == 0, 1, b).to(b.dtype)


@triton.jit
def trunc_mod(a, b):
    return a % tl.where(b == 0, 1, b).to(b.dtype)


@triton.jit
def floor_div(a, b):
    """The quotient rounded down; Triton's rounds towards zero."""
    b = tl.where(b == 0, 1, b)
    rest = a % b
    return (a // b).to(a.dtype) - ((rest != 0) & ((rest < 0) != (b < 0))).to(a.dtype)


@triton.jit
def floor_mod(a, b):
    b = tl.where(b == 0, 1, b)
    rest = a % b
    return (rest + tl.where((rest != 0) & ((rest < 0) != (b < 0)), b, 0)).to(a.dtype)


@triton.jit
def integer_pow(a, b):
    """a to the power of b, wrapping; of negative powers only those of 1 and -1 are not 0."""
    result = tl.where(b < 0, tl.where(a == 1, 1, tl.where(a == -1, 1 - 2 * (b & 1), 0)), 1).to(a.dtype)
    base = tl.where(b < 0, 1, a).to(a.dtype)
    left = tl.where(b < 0, 0, b).to(a.dtype)
    for _ in range(a.dtype.primitive_bitwidth):
        result = tl.where((left & 1) != 0, result * base, result).to(a.dtype)
        base = (base * base).to(a.dtype)
        left = (left >> 1).to(a.dtype)
    return result


@triton.jit
def gcd(a, b):
    """Euclid's: two i64 are through after 92 steps."""
    a = tl.abs(a)
    b = tl.abs(b)
    for _ in range(92):
        rest = a % tl.where(b == 0, 1, b).to(b.dtype)
        a, b = tl.where(b == 0, a, b).to(a.dtype), tl.where(b == 0, 0, rest).to(b.dtype)
    return a


@triton.jit
def shl(a, b):
    """Shifts by the width or more, or by less than nothing, give 0."""
    width: tl.constexpr = a.dtype.primitive_bitwidth
    inside = (b >= 0) & (b < width)
    return tl.where(inside, a << tl.where(inside, b, 0).to(b.dtype), 0).to(a.dtype)


@triton.jit
def shr(a, b):
    """Shifts by the width or more, or by less than nothing, leave the sign."""
    width: tl.constexpr = a.dtype.primitive_bitwidth
    inside = (b >= 0) & (b < width)
    return tl.where(inside, a >> tl.where(inside, b, 0).to(b.dtype), tl.where(a < 0, -1, 0)).to(a.dtype)


@triton.jit
def philox(seed, stream, offset):
    """The first two words of a block of Philox 4x32-10 (`ir/interpreter/philox.py`), as one int64."""
    low: tl.constexpr = 0xFFFFFFFF
    seed = seed.to(tl.int64)
    stream = stream.to(tl.int64)
    offset = offset.to(tl.int64)
    k0, k1 = seed & low, (seed >> 32) & low
    c0, c1 = offset & low, (offset >> 32) & low
    c2, c3 = stream & low, (stream >> 32) & low
    for _ in tl.static_range(10):
        first = c0 * 0xD2511F53
        second = c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            ((second >> 32) & low) ^ c1 ^ k0, second & low, ((first >> 32) & low) ^ c3 ^ k1, first & low,
        )
        k0 = (k0 + 0x9E3779B9) & low
        k1 = (k1 + 0xBB67AE85) & low
    return c0 | (c1 << 32)


# Floats ---------------------------------------------------------------------------------------------------------------
@triton.jit
def _quotient(a, b):
    if a.dtype == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def remainder(a, b):
    """The remainder with the divisor's sign."""
    rest = libdevice.fmod(a, b)
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)


@triton.jit
def floor_quotient(a, b):
    """The quotient rounded down, from the exact remainder, as in ATen."""
    rest = libdevice.fmod(a, b)
    whole = _quotient(a - rest, b)
    whole = tl.where((rest != 0) & ((b < 0) != (rest < 0)), whole - 1.0, whole)
    down = tl.floor(whole)
    down = tl.where(whole - down > 0.5, down + 1.0, down)
    plain = _quotient(a, b)
    return tl.where(b == 0, plain, tl.where(whole != 0, down, libdevice.copysign(whole * 0.0, plain)))


@triton.jit
def frexp_exponent(a):
    """The exponent e, as int32, of a = m * 2^e with 0.5 <= |m| < 1; 0 for zeros, infinities and NaN."""
    ordinary = (a == a) & (a != 0) & (tl.abs(a) != float("inf"))
    return tl.where(ordinary, libdevice.ilogb(tl.where(ordinary, a, 1.0)) + 1, 0)


# Failures -------------------------------------------------------------------------------------------------------------
@triton.jit
def report(failed_ptr, number: tl.constexpr, wrong):
    """Set flag `number` where anything is wrong; every writer writes the same."""
    tl.store(failed_ptr + tl.full(wrong.shape, number, tl.int32), 1, mask=wrong)
