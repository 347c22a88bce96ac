// Scalar functions with torch's meaning. Those that models spend time in are inline polynomials without branches, within
// 2 ulp, right for NaN, infinities and subnormals; the rest call the C library. Coefficients are our own minimax fits.
#pragma once

namespace tw {

#ifdef __FMA__
TW_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
TW_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
TW_INLINE float fma(float a, float b, float c) { return a * b + c; }
TW_INLINE double fma(double a, double b, double c) { return a * b + c; }
#endif

// ---- Comparisons, rounding, division ------------------------------------------------------------------------------

// NaN wins, as in torch.maximum and torch.amax. Two choices, one after the other: gcc 12 does not vectorise a chain of
// these where one condition is made of both comparisons.
template <class T> TW_INLINE T maximum(T a, T b) { const T extreme = a > b ? a : b; return a != a ? a : extreme; }
template <class T> TW_INLINE T minimum(T a, T b) { const T extreme = a < b ? a : b; return a != a ? a : extreme; }
// NaN loses.
template <class T> TW_INLINE T fmax(T a, T b) { const T extreme = a > b ? a : b; return b != b ? a : extreme; }
template <class T> TW_INLINE T fmin(T a, T b) { const T extreme = a < b ? a : b; return b != b ? a : extreme; }
// `a` where `b` is NaN; NaN stays in `a`.
template <class T> TW_INLINE T larger(T a, T b) { return b > a ? b : a; }

struct Sum { template <class T> TW_SPECIAL T operator()(T a, T b) const { return T(a + b); } };
struct Product { template <class T> TW_SPECIAL T operator()(T a, T b) const { return T(a * b); } };
struct Maximum { template <class T> TW_SPECIAL T operator()(T a, T b) const { return maximum(a, b); } };
struct Larger { template <class T> TW_SPECIAL T operator()(T a, T b) const { return larger(a, b); } };
struct Minimum { template <class T> TW_SPECIAL T operator()(T a, T b) const { return minimum(a, b); } };

// All of `lanes` as one, by halves.
template <int Count, class T, class Merge> TW_INLINE T fold(const T (&lanes)[Count], Merge merge) {
  if constexpr (Count == 1) {
    return lanes[0];
  } else {
    T half[Count / 2];
#pragma omp simd
    for (int i = 0; i < Count / 2; ++i) half[i] = merge(lanes[i], lanes[i + Count / 2]);
    return fold(half, merge);
  }
}

// Whether `value` takes the place of `best` in argmax or argmin: the first NaN, else the first extreme.
template <class T> TW_INLINE bool beats_max(T value, T best) {
  return (value > best) | ((value != value) & (best == best));
}
template <class T> TW_INLINE bool beats_min(T value, T best) {
  return (value < best) | ((value != value) & (best == best));
}

// The same for running extremes, where the last of equal ones counts, and the last NaN.
template <class T> TW_INLINE bool reaches_max(T value, T best) {
  return (value != value) | ((value >= best) & (best == best));
}
template <class T> TW_INLINE bool reaches_min(T value, T best) {
  return (value != value) | ((value <= best) & (best == best));
}

TW_INLINE float abs(float x) { return __builtin_fabsf(x); }
TW_INLINE double abs(double x) { return __builtin_fabs(x); }
template <class T> TW_INLINE T abs(T x) { return T(x < 0 ? -x : x); }

TW_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
TW_INLINE double sqrt(double x) { return __builtin_sqrt(x); }
TW_INLINE float floor(float x) { return __builtin_floorf(x); }
TW_INLINE double floor(double x) { return __builtin_floor(x); }
TW_INLINE float ceil(float x) { return __builtin_ceilf(x); }
TW_INLINE double ceil(double x) { return __builtin_ceil(x); }
TW_INLINE float trunc(float x) { return __builtin_truncf(x); }
TW_INLINE double trunc(double x) { return __builtin_trunc(x); }
TW_INLINE float round(float x) { return __builtin_rintf(x); }  // half to even
TW_INLINE double round(double x) { return __builtin_rint(x); }
TW_INLINE float copysign(float a, float b) { return __builtin_copysignf(a, b); }
TW_INLINE double copysign(double a, double b) { return __builtin_copysign(a, b); }
TW_INLINE float fmod(float a, float b) { return __builtin_fmodf(a, b); }
TW_INLINE double fmod(double a, double b) { return __builtin_fmod(a, b); }

// The sign of the divisor, as in torch.remainder.
template <class T> TW_INLINE T remainder_float(T a, T b) {
  const T rest = fmod(a, b);
  return rest != 0 && (b < 0) != (rest < 0) ? rest + b : rest;
}
TW_INLINE float remainder(float a, float b) { return remainder_float(a, b); }
TW_INLINE double remainder(double a, double b) { return remainder_float(a, b); }

// Python's floor division: the quotient that belongs to that remainder, exact where a / b would round up.
template <class T> TW_INLINE T floor_div_float(T a, T b) {
  if (b == 0) return a / b;
  const T rest = fmod(a, b);
  T quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
  if (quotient == 0) return copysign(T(0), a / b);
  const T whole = floor(quotient);
  return quotient - whole > T(0.5) ? whole + 1 : whole;
}
TW_INLINE float floor_div(float a, float b) { return floor_div_float(a, b); }
TW_INLINE double floor_div(double a, double b) { return floor_div_float(a, b); }

// Integer division never traps: by zero it gives 0 (the kernel reports it), and the lowest number by -1 wraps.
template <class T> TW_INLINE T trunc_div(T a, T b) {
  return b == 0 ? T(0) : b == T(-1) ? T(0 - uint64_t(a)) : T(a / (b == 0 ? T(1) : b));
}
template <class T> TW_INLINE T fmod(T a, T b) { return b == 0 || b == T(-1) ? T(0) : T(a % (b == 0 ? T(1) : b)); }
template <> inline uint8_t trunc_div(uint8_t a, uint8_t b) { return b == 0 ? 0 : uint8_t(a / b); }
template <> inline uint8_t fmod(uint8_t a, uint8_t b) { return b == 0 ? 0 : uint8_t(a % b); }
template <class T> TW_INLINE T remainder(T a, T b) {
  const T rest = fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? T(rest + b) : rest;
}
template <class T> TW_INLINE T floor_div(T a, T b) {
  const T quotient = trunc_div(a, b), rest = fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? T(quotient - 1) : quotient;
}

// The greatest common divisor, never negative but for the lowest number, whose magnitude wraps.
template <class T> inline T gcd(T a, T b) {
  for (a = abs(a), b = abs(b); a != 0;) {
    const T rest = T(b % a);
    b = a, a = rest;
  }
  return b;
}

// A shift by a negative count or by the width and more shifts everything out.
template <class T> TW_INLINE T shl(T a, T b) {
  constexpr int width = int(sizeof(T)) * 8;
  return uint64_t(int64_t(b)) >= width ? T(0) : T(uint64_t(a) << (uint64_t(b) & 63));
}
template <class T> TW_INLINE T shr(T a, T b) {
  constexpr int width = int(sizeof(T)) * 8, last = T(-1) < T(0) ? width - 1 : width;
  return T(int64_t(a) >> (uint64_t(int64_t(b)) >= width ? last : int(b)));
}

// ---- Random bits --------------------------------------------------------------------------------------------------

// The first two words of a block of Philox 4x32-10 (`ir/interpreter/philox.py`). Words lie in lanes of 64 bits, which
// is what their products need.
TW_INLINE int64_t philox(int64_t seed, int64_t stream, int64_t offset) {
  constexpr uint64_t low = 0xffffffff;
  uint64_t c0 = uint64_t(offset) & low, c1 = uint64_t(offset) >> 32;
  uint64_t c2 = uint64_t(stream) & low, c3 = uint64_t(stream) >> 32;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(uint64_t(seed) >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = 0xD2511F53u * c0, second = 0xCD9E8D57u * c2;
    c0 = (second >> 32) ^ c1 ^ k0, c1 = second & low;
    c2 = (first >> 32) ^ c3 ^ k1, c3 = first & low;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return int64_t(c0 | c1 << 32);
}

// ---- Exponentials -------------------------------------------------------------------------------------------------

// x brought into [-limit, limit]; NaN stays. Each choice is one instruction, but gcc would make one of both conditions.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define TW_APART(x) __builtin_assoc_barrier(x)
#else
#define TW_APART(x) (x)
#endif
template <class T> TW_INLINE T clamp(T x, T limit) {
  x = TW_APART(x > limit ? limit : x);
  return x < -limit ? -limit : x;
}

// e^x = (1 + expm1) * 2^exponent, with x brought into the range where floats neither overflow to infinity nor vanish.
struct ExpParts {
  float expm1;
  uint32_t bits;  // whose low nine bits are exponent + 254; the tenth is 0

  TW_SPECIAL int32_t exponent() const { return int32_t(bits) - 0x4b4000fe; }
};
TW_INLINE ExpParts exp_parts_within(float x) {
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
  const float magic = 0x1.8p23f + 254.0f;
  const float shifted = fma(x, 0x1.715476p+0f, magic), n = shifted - magic;
  float r = fma(n, -0x1.62e4p-1f, x);
  r = fma(n, -0x1.7f7d1cp-20f, r);
  float p = 0x1.6a2354p-10f;
  p = fma(p, r, 0x1.123a6cp-7f);
  p = fma(p, r, 0x1.5558f4p-5f);
  p = fma(p, r, 0x1.555490p-3f);
  p = fma(p, r, 0x1.fffffcp-2f);
  return {fma(r * r, p, r), bits_as<uint32_t>(shifted)};
}
TW_INLINE ExpParts exp_parts(float x) { return exp_parts_within(clamp(x, 104.0f)); }
TW_INLINE float power_of_two(int32_t exponent) { return bits_as<float>((exponent + 127) << 23); }

// The scale is applied in two halves, since 2^exponent alone may not be a float where the product is one. Each half's
// biased exponent is half of exponent + 254. What vanishes (what a mask hides, say) is not computed at all: a product
// that is subnormal takes 100 times as long.
TW_INLINE float exp(float x) {
  const bool vanishes = x < -104.0f;
  const float kept = TW_APART(vanishes ? 0.0f : x);
  const ExpParts e = exp_parts_within(kept > 104.0f ? 104.0f : kept);
  const uint32_t half = e.bits >> 1;
  const float first = bits_as<float>(half << 23), second = bits_as<float>((e.bits - half) << 23);
  const float result = fma(e.expm1, first, first) * second;
  return vanishes ? 0.0f : result;
}
TW_INLINE double exp(double x) { return __builtin_exp(x); }
#undef TW_APART

// The double versions below carry float functions: about 40 correct bits, to be rounded to float once.
struct WideExpParts {
  double expm1, scale;  // e^x = (1 + expm1) * scale
};
TW_INLINE WideExpParts exp_parts(double x) {
  x = clamp(x, 200.0);
  const double shifted = x * 0x1.71547652b82fep+0 + 0x1.8p52, n = shifted - 0x1.8p52;
  const double r = x - n * 0x1.62e42ffp-1 + n * 0x1.718432a1b0e26p-35;
  double p = 0x1.9e887a568d27fp-16;
  p = fma(p, r, 0x1.a1860731ee298p-13);
  p = fma(p, r, 0x1.6c18d51b508a4p-10);
  p = fma(p, r, 0x1.1110a1f98a954p-7);
  p = fma(p, r, 0x1.5555541ca1d79p-5);
  p = fma(p, r, 0x1.5555557e0b10ep-3);
  p = fma(p, r, 0x1.000000005e9bap-1);
  return {fma(r * r, p, r), bits_as<double>((bits_as<uint64_t>(shifted) << 52) + bits_as<uint64_t>(1.0))};
}
TW_INLINE double exp_wide(double x) {
  const WideExpParts e = exp_parts(x);
  return fma(e.expm1, e.scale, e.scale);
}

TW_INLINE float exp2(float x) { return float(exp_wide(double(x) * 0x1.62e42fefa39efp-1)); }
TW_INLINE double exp2(double x) { return __builtin_exp2(x); }
TW_INLINE float expm1(float x) {
  const WideExpParts e = exp_parts(double(x));
  return x == 0.0f ? x : float(fma(e.expm1, e.scale, e.scale - 1.0));
}
TW_INLINE double expm1(double x) { return __builtin_expm1(x); }

// 1 / (1 + e^-x), both sides of the division scaled so that e^-x need not fit a float.
TW_INLINE float sigmoid(float x) {
  const ExpParts e = exp_parts(-x);
  const int32_t half = e.exponent() >> 1;
  const float numerator = power_of_two(-half), scale = power_of_two(e.exponent() - half);
  const float sum = scale + numerator, lost = numerator - (sum - scale);
  return numerator / (sum + fma(scale, e.expm1, lost));
}
TW_INLINE double sigmoid(double x) { return 1.0 / (1.0 + __builtin_exp(-x)); }

TW_INLINE float tanh(float x) {
  const float magnitude = abs(x), z = x * x;
  float p = -0x1.76ac18p-8f;
  p = fma(p, z, 0x1.5256d8p-6f);
  p = fma(p, z, -0x1.b844d4p-5f);
  p = fma(p, z, 0x1.110768p-3f);
  p = fma(p, z, -0x1.555534p-2f);
  const float near_zero = fma(x * z, p, x);
  const float far = 1.0f - 2.0f / (exp(2.0f * magnitude) + 1.0f);
  return magnitude < 0.625f ? near_zero : copysign(far, x);
}
TW_INLINE double tanh(double x) { return __builtin_tanh(x); }

// Near zero x + x q(x^2); elsewhere a polynomial around 2.5; beyond 3.92 the nearest float is 1.
TW_INLINE float erf(float x) {
  const float magnitude = abs(x), z = x * x, t = magnitude - 2.5f;
  float p = 0x1.496a2ep-14f;
  p = fma(p, z, -0x1.a3f6fep-11f);
  p = fma(p, z, 0x1.5405b2p-8f);
  p = fma(p, z, -0x1.b7f90ep-6f);
  p = fma(p, z, 0x1.ce2cf8p-4f);
  p = fma(p, z, -0x1.81273ep-2f);
  p = fma(p, z, 0x1.06eba8p-3f);
  float q = -0x1.2ea258p-17f;
  q = fma(q, t, 0x1.624922p-16f);
  q = fma(q, t, 0x1.00feb4p-14f);
  q = fma(q, t, -0x1.24dc28p-12f);
  q = fma(q, t, 0x1.2dd3d6p-12f);
  q = fma(q, t, 0x1.2b6ae2p-11f);
  q = fma(q, t, -0x1.718efap-9f);
  q = fma(q, t, 0x1.8ff1e2p-8f);
  q = fma(q, t, -0x1.1a498ap-7f);
  q = fma(q, t, 0x1.11b98ap-7f);
  q = fma(q, t, -0x1.64f546p-8f);
  q = fma(q, t, 0x1.1d7bbap-9f);
  q = fma(q, t, 0x1.ffcaaap-1f);
  q = magnitude > 3.92f ? 1.0f : q;
  return magnitude < 1.0f ? fma(x, p, x) : copysign(q, x);
}
TW_INLINE double erf(double x) { return __builtin_erf(x); }

// ---- Logarithms ---------------------------------------------------------------------------------------------------

// log(1 + f) + e * log(2) for 1 + f in [sqrt(1/2), sqrt(2)], through log((1 + s) / (1 - s)).
TW_INLINE double log_of_parts(double f, double e) {
  const double s = f / (2.0 + f), z = s * s;
  double p = 0x1.911c930568db7p-4;
  p = fma(p, z, 0x1.c62aa066d2500p-4);
  p = fma(p, z, 0x1.2494133626dabp-3);
  p = fma(p, z, 0x1.999996a67c27bp-3);
  p = fma(p, z, 0x1.555555561f32ap-2);
  return fma(2.0 * s * z, p, 2.0 * s) + e * 0x1.62e42fefa39efp-1;
}

// log of a positive normal double; zero, infinities and NaN are `log_edges`' business.
TW_INLINE double log_positive(double x) {
  const uint64_t shifted = bits_as<uint64_t>(x) + 0x00095f619980c434;  // 1.0 - sqrt(1/2), as bits
  const double e = bits_as<double>((shifted >> 52) | 0x4330000000000000) - (0x1p52 + 1023.0);
  const double m = bits_as<double>((shifted & 0x000fffffffffffff) + 0x3fe6a09e667f3bcc);
  return log_of_parts(m - 1.0, e);
}
TW_INLINE double log_edges(double x, double log_x) {
  log_x = x == 0.0 ? -inf_f64 : log_x;
  log_x = x < 0.0 ? nan_f64 : log_x;
  return x < inf_f64 ? log_x : x;  // infinity and NaN stay
}
TW_INLINE double log_wide(double x) { return log_edges(x, log_positive(x)); }

TW_INLINE float log(float x) { return float(log_wide(x)); }
TW_INLINE double log(double x) { return __builtin_log(x); }
TW_INLINE float log2(float x) { return float(log_wide(x) * 0x1.71547652b82fep+0); }
TW_INLINE double log2(double x) { return __builtin_log2(x); }
TW_INLINE float log10(float x) { return float(log_wide(x) * 0x1.bcb7b1526e50ep-2); }
TW_INLINE double log10(double x) { return __builtin_log10(x); }

TW_INLINE float log1p(float value) {
  const double x = value, u = 1.0 + x;
  const uint64_t shifted = bits_as<uint64_t>(u) + 0x00095f619980c434;
  const double e = bits_as<double>((shifted >> 52) | 0x4330000000000000) - (0x1p52 + 1023.0);
  const double scale = bits_as<double>((2046 - (shifted >> 52)) << 52);  // 2^-e
  // What 1 + x rounded away comes back; where e is 0 this is x itself.
  const double f = (u * scale - 1.0) + (x - (u - 1.0)) * scale;
  return value == 0.0f ? value : float(log_edges(u, log_of_parts(f, e)));
}
TW_INLINE double log1p(double x) { return __builtin_log1p(x); }

// log(e^a + e^b) from the larger up; of two equal infinities that.
inline double log_add_exp(double a, double b) {
  if (a == b && a - a != 0) return a;
  return maximum(a, b) + __builtin_log1p(__builtin_exp(-abs(a - b)));
}

// ---- Powers -------------------------------------------------------------------------------------------------------

TW_INLINE float pow(float base, float exponent) {
  const double x = base, y = exponent, magnitude = x < 0.0 ? -x : x;
  const bool whole = __builtin_floor(y) == y, odd = whole & (__builtin_floor(y * 0.5) != y * 0.5);
  double result = exp_wide(y * log_wide(magnitude));
  result = (y == 0.0) | (x == 1.0) | ((x == -1.0) & ((y == inf_f64) | (y == -inf_f64))) ? 1.0 : result;
  result = (x < 0.0) & (x > -inf_f64) & !whole ? nan_f64 : result;
  const uint32_t sign = odd ? bits_as<uint32_t>(base) & 0x80000000 : 0;
  return bits_as<float>(bits_as<uint32_t>(float(result)) ^ sign);
}
TW_INLINE double pow(double a, double b) { return __builtin_pow(a, b); }

// Integer powers wrap; a negative exponent gives what truncation leaves of the fraction.
template <class T> inline T pow_int(T base, T exponent) {
  if (exponent < 0) return base == 1 ? T(1) : base == T(-1) ? (exponent & 1 ? T(-1) : T(1)) : T(0);
  T result = 1;
  for (; exponent; exponent = T(exponent >> 1), base = T(base * base))
    if (exponent & 1) result = T(result * base);
  return result;
}
TW_INLINE int64_t pow(int64_t a, int64_t b) { return pow_int(a, b); }
TW_INLINE int32_t pow(int32_t a, int32_t b) { return pow_int(a, b); }
TW_INLINE int16_t pow(int16_t a, int16_t b) { return pow_int(a, b); }
TW_INLINE int8_t pow(int8_t a, int8_t b) { return pow_int(a, b); }
TW_INLINE uint8_t pow(uint8_t a, uint8_t b) { return pow_int(a, b); }

// ---- The C library's ----------------------------------------------------------------------------------------------

#define TW_LIBRARY_1(name)                                                \
  TW_INLINE float name(float x) { return __builtin_##name##f(x); }        \
  TW_INLINE double name(double x) { return __builtin_##name(x); }
TW_LIBRARY_1(erfc)
TW_LIBRARY_1(lgamma)
TW_LIBRARY_1(tan)
TW_LIBRARY_1(asin)
TW_LIBRARY_1(acos)
TW_LIBRARY_1(atan)
TW_LIBRARY_1(sinh)
TW_LIBRARY_1(cosh)
TW_LIBRARY_1(asinh)
TW_LIBRARY_1(acosh)
TW_LIBRARY_1(atanh)
#undef TW_LIBRARY_1
TW_INLINE double sin(double x) { return __builtin_sin(x); }
TW_INLINE double cos(double x) { return __builtin_cos(x); }
TW_INLINE float atan2(float a, float b) { return __builtin_atan2f(a, b); }
TW_INLINE double atan2(double a, double b) { return __builtin_atan2(a, b); }
TW_INLINE float hypot(float a, float b) { return __builtin_hypotf(a, b); }
TW_INLINE double hypot(double a, double b) { return __builtin_hypot(a, b); }
TW_INLINE float nextafter(float a, float b) { return __builtin_nextafterf(a, b); }
TW_INLINE double nextafter(double a, double b) { return __builtin_nextafter(a, b); }

// x as mantissa * 2^exponent, with a mantissa in [0.5, 1); zeros, infinities and NaN have exponent 0.
TW_INLINE double frexp_mantissa(double x) {
  int exponent;
  return __builtin_frexp(x, &exponent);
}
TW_INLINE double frexp_exponent(double x) {
  int exponent = 0;
  __builtin_frexp(x, &exponent);
  return x - x == 0 ? exponent : 0;
}
TW_INLINE float frexp_mantissa(float x) { return float(frexp_mantissa(double(x))); }
TW_INLINE float frexp_exponent(float x) { return float(frexp_exponent(double(x))); }

}  // namespace tw

#include "tilewright_trig.h"

// Reductions over lanes that C++ has no operator for (integers have no NaN and take the built-in max and min).
#pragma omp declare reduction(maximum : float : omp_out = tw::maximum(omp_out, omp_in)) initializer(omp_priv = -tw::inf_f32)
#pragma omp declare reduction(minimum : float : omp_out = tw::minimum(omp_out, omp_in)) initializer(omp_priv = tw::inf_f32)
#pragma omp declare reduction(maximum : double : omp_out = tw::maximum(omp_out, omp_in)) initializer(omp_priv = -tw::inf_f64)
#pragma omp declare reduction(minimum : double : omp_out = tw::minimum(omp_out, omp_in)) initializer(omp_priv = tw::inf_f64)
