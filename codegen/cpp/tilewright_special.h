// Special functions in double, one element at a time; float ones round those. Series, recurrences and continued fractions
// from the handbook (Abramowitz and Stegun; NIST DLMF), each used where it converges fast. Included where a kernel needs it.
#pragma once

#include "tilewright_math.h"

namespace tw {

constexpr double pi = 0x1.921fb54442d18p+1, euler_gamma = 0x1.2788cfc6fb619p-1, unit_roundoff = 0x1p-53;

// ---- Gamma's derivatives ------------------------------------------------------------------------------------------

// cot(pi x) and 1 / sin(pi x)^2 from the distance to the nearest integer, which is exact.
inline double cotangent_pi(double x) { return 1.0 / __builtin_tan(pi * (x - __builtin_rint(x))); }

// A recurrence up to 10, the asymptotic series there, reflection below zero (A&S 6.3.5, 6.3.7, 6.3.18).
inline double digamma(double x) {
  if (x == 0) return __builtin_copysign(inf_f64, -x);
  if (x < 0) {
    if (x == __builtin_trunc(x)) return nan_f64;
    return digamma(1 - x) - pi * cotangent_pi(x);
  }
  double result = 0;
  for (; x < 10; x += 1) result -= 1 / x;
  if (x == inf_f64) return x;
  const double z = 1 / (x * x);
  double tail = 1.0 / 12;
  tail = tail * z - 691.0 / 32760;
  tail = tail * z + 1.0 / 132;
  tail = tail * z - 1.0 / 240;
  tail = tail * z + 1.0 / 252;
  tail = tail * z - 1.0 / 120;
  tail = tail * z + 1.0 / 12;
  return result + (__builtin_log(x) - 0.5 / x - tail * z);
}

// Hurwitz's zeta, the sum of (q + k)^-s over k >= 0: terms up to 9, the rest by Euler and Maclaurin (DLMF 25.11.28).
inline double zeta(double s, double q) {
  if (s == 1) return inf_f64;
  if (s < 1) return nan_f64;
  if (q <= 0) {
    if (q == __builtin_floor(q)) return inf_f64;
    if (s != __builtin_floor(s)) return nan_f64;
    if (s == 2) {
      // The derivative of digamma, which has a reflection (A&S 6.4.7).
      const double sine = __builtin_sin(pi * (q - __builtin_rint(q)));
      return pi * pi / (sine * sine) - zeta(2, 1 - q);
    }
  }
  if (q != q) return q;
  double sum = __builtin_pow(q, -s), a = q, term = sum;
  for (int i = 0; i < 9 || a <= 9; ++i) {
    a += 1;
    term = __builtin_pow(a, -s);
    sum += term;
    if (__builtin_fabs(term) < unit_roundoff * __builtin_fabs(sum)) return sum;
  }
  sum += term * a / (s - 1) - 0.5 * term;
  // B_2k / (2k)!
  static const double bernoulli[] = {
      0x1.5555555555555p-4,  -0x1.6c16c16c16c17p-10, 0x1.1566abc011567p-15,  -0x1.bbd779334ef0bp-21,
      0x1.66a8f2bf70ebep-26, -0x1.22805d644267fp-31, 0x1.d6db2c4e09162p-37,  -0x1.7da4e1f79955cp-42,
      0x1.355871d652e9ep-47, -0x1.f57d968caacf1p-53, 0x1.967e1f09c376fp-58,  -0x1.497d9033a2b5cp-63};
  double rising = s;
  term /= a;
  for (int k = 0; k < 12; ++k) {
    const double next = rising * term * bernoulli[k];
    sum += next;
    if (__builtin_fabs(next) < unit_roundoff * __builtin_fabs(sum)) break;
    rising *= (s + 2 * k + 1) * (s + 2 * k + 2);
    term /= a * a;
  }
  return sum;
}

// ---- Error function: scaled, inverse ------------------------------------------------------------------------------

// e^(x^2), with what the square rounds away.
inline double exp_square(double x) {
  const double square = x * x, lost = __builtin_fma(x, x, -square);
  return __builtin_exp(square) * (1 + lost);
}

// e^(x^2) erfc(x); far out by its asymptotic series (A&S 7.1.23).
inline double erfcx(double x) {
  if (x < -26.7) return inf_f64;
  if (x < 25) return exp_square(x) * __builtin_erfc(x);
  const double z = x == inf_f64 ? 0 : 0.5 / x / x;
  return 0x1.20dd750429b6dp-1 / x * (1 - z * (1 - 3 * z * (1 - 5 * z * (1 - 7 * z * (1 - 9 * z * (1 - 11 * z * (1 - 13 * z)))))));
}

// x > 0 with erfc(x) = w for 0 < w <= 1: a rational start (A&S 26.2.23), then Halley's steps.
inline double erfc_inverse(double w) {
  const double t = __builtin_sqrt(-2 * __builtin_log(0.5 * w));
  double x = (t - (2.515517 + t * (0.802853 + t * 0.010328)) /
                      (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)))) * 0x1.6a09e667f3bcdp-1;
  x = x < 0 ? 0 : x;
  for (int i = 0; i < 3; ++i) {
    // Near zero erf has the digits that erfc lacks.
    const double rest = x < 0.5 ? (1 - w) - __builtin_erf(x) : __builtin_erfc(x) - w;
    const double step = rest * exp_square(x) * 0x1.c5bf891b4ef6bp-1;
    x += x < 0.5 ? step / (1 - x * step) : step / (1 + x * step);
  }
  return x;
}
inline double erfinv(double y) {
  const double magnitude = __builtin_fabs(y);
  if (!(magnitude <= 1)) return nan_f64;
  if (magnitude == 1) return __builtin_copysign(inf_f64, y);
  if (magnitude < 0x1p-27) return y * 0x1.c5bf891b4ef6bp-1;
  double x;
  if (magnitude < 0.5) {
    // Newton on erf, which has all digits here.
    x = magnitude * 0x1.c5bf891b4ef6bp-1 * (1 + magnitude * magnitude * (pi / 12));
    for (int i = 0; i < 3; ++i) {
      const double step = (magnitude - __builtin_erf(x)) * __builtin_exp(x * x) * 0x1.c5bf891b4ef6bp-1;
      x += step / (1 - x * step);
    }
  } else {
    x = erfc_inverse(1 - magnitude);
  }
  return __builtin_copysign(x, y);
}
// The normal distribution's quantile.
inline double ndtri(double p) {
  if (p == 0) return -inf_f64;
  if (p == 1) return inf_f64;
  if (!(p > 0 && p < 1)) return nan_f64;
  constexpr double root2 = 0x1.6a09e667f3bcdp+0;
  if (p > 0.25 && p < 0.75) return root2 * erfinv(2 * (p - 0.5));
  return p < 0.5 ? -root2 * erfc_inverse(2 * p) : root2 * erfc_inverse(2 * (1 - p));
}

// ---- Bessel functions ---------------------------------------------------------------------------------------------

// e^-|x| I_n(x) for n = 0 or 1: the power series (A&S 9.6.10), from 20 on the asymptotic one (A&S 9.7.1).
inline double scaled_bessel_i(int n, double x) {
  const double size = __builtin_fabs(x);
  double sum = 1, term = 1;
  if (size < 20) {
    const double z = 0.25 * x * x;
    for (int k = 1; term > unit_roundoff * sum; ++k) sum += term *= z / (double(k) * (k + n));
    return sum * __builtin_exp(-size) * (n ? 0.5 * x : 1);
  }
  if (size == inf_f64) return __builtin_copysign(0.0, n ? x : 1.0);
  for (int k = 1; __builtin_fabs(term) > unit_roundoff * sum; ++k)
    sum += term *= ((2 * k - 1) * (2 * k - 1) - 4.0 * n) / (8 * size * k);
  sum *= 0x1.9884533d43651p-2 / __builtin_sqrt(size);  // 1 / sqrt(2 pi)
  return n ? __builtin_copysign(sum, x) : sum;
}
inline double i0e(double x) { return x != x ? x : scaled_bessel_i(0, x); }
inline double i1e(double x) { return x != x ? x : scaled_bessel_i(1, x); }
// The growth in two halves: e^|x| alone may overflow where the product does not.
inline double unscaled(double value, double x) {
  const double half = __builtin_exp(0.5 * __builtin_fabs(x));
  return value * half * half;
}
inline double i0(double x) { return unscaled(i0e(x), x); }
inline double i1(double x) { return unscaled(i1e(x), x); }

// e^x K_n(x) for n = 0 or 1: the series with a logarithm up to 2 (A&S 9.6.11), then Temme's continued fraction
// (J. Comput. Phys. 19 (1975), 324), which gives both.
inline double scaled_bessel_k(int n, double x) {
  if (x == 0) return inf_f64;
  if (!(x > 0)) return nan_f64;
  if (x <= 2) {
    const double z = 0.25 * x * x, logarithm = __builtin_log(0.5 * x) + euler_gamma;
    double term = 1, harmonic = 0, sum = 0;
    for (int k = 0; k < 20; ++k) {
      sum += term * (n ? 2 * (harmonic - logarithm) + 1.0 / (k + 1) : harmonic - logarithm);
      harmonic += 1.0 / (k + 1);
      term *= z / (double(k + 1) * (k + 1 + n));
    }
    return (n ? 1 / x - 0.25 * x * sum : sum) * __builtin_exp(x);
  }
  if (x > 1e8) return 0x1.40d931ff62706p+0 / __builtin_sqrt(x) * (1 + (4 * n - 1) / (8 * x));  // sqrt(pi / 2)
  double b = 2 * (1 + x), d = 1 / b, h = d, delta = d, q1 = 0, q2 = 1, q = 0.25, c = 0.25, a = -0.25, sum = 1 + q * delta;
  for (int i = 2; i < 500; ++i) {
    a -= 2 * (i - 1);
    c = -a * c / i;
    const double next = (q1 - b * q2) / a;
    q1 = q2, q2 = next;
    q += c * next;
    b += 2;
    d = 1 / (b + a * d);
    delta *= b * d - 1;
    h += delta;
    sum += q * delta;
    if (__builtin_fabs(q * delta) < unit_roundoff * __builtin_fabs(sum)) break;
  }
  const double k0 = __builtin_sqrt(pi / (2 * x)) / sum;
  return n ? k0 * (x + 0.5 - 0.25 * h) / x : k0;
}
inline double scaled_modified_bessel_k0(double x) { return scaled_bessel_k(0, x); }
inline double scaled_modified_bessel_k1(double x) { return scaled_bessel_k(1, x); }

// ---- Orthogonal polynomials of degree n (rounded towards zero): 0 below degree 0 ----------------------------------

inline bool is_degree(double n) { return n > -1 && n < 0x1p63; }
inline bool is_even(double n) { return int64_t(n) % 2 == 0; }

// p_0 = 1, p_1 = first, p_(k+1) = (a(k) p_k - b(k) p_(k-1)) / c(k).
template <class Step>
inline double recurrence(double degree, double first, Step step) {
  if (!is_degree(degree)) return 0;
  const int64_t n = int64_t(degree);
  if (n == 0) return 1;
  double previous = 1, value = first;
  for (int64_t k = 1; k < n && value == value; ++k) {
    const double next = step(double(k), value, previous);
    previous = value, value = next;
  }
  return value;
}
// All four kinds of Chebyshev's; within (-1, 1) high degrees by their trigonometric form (DLMF 18.5).
inline double chebyshev(double x, double degree, double first) {
  return recurrence(degree, first, [x](double, double p, double q) { return 2 * x * p - q; });
}
inline bool trigonometric(double x, double degree) { return degree >= 9 && is_degree(degree) && x > -1 && x < 1; }
inline double chebyshev_polynomial_t(double x, double n) {
  if (trigonometric(x, n)) return __builtin_cos(__builtin_trunc(n) * __builtin_acos(x));
  if (x * x == 1) return is_degree(n) ? (x > 0 || is_even(n) ? 1 : -1) : 0;
  return chebyshev(x, n, x);
}
inline double chebyshev_polynomial_u(double x, double n) {
  const double m = __builtin_trunc(n) + 1;
  if (trigonometric(x, n)) return __builtin_sin(m * __builtin_acos(x)) / __builtin_sqrt((1 - x) * (1 + x));
  if (x * x == 1) return is_degree(n) ? (x > 0 || is_even(n) ? m : -m) : 0;
  return chebyshev(x, n, 2 * x);
}
inline double chebyshev_polynomial_v(double x, double n) {
  const double m = __builtin_trunc(n) + 0.5, angle = __builtin_acos(x);
  if (trigonometric(x, n)) return __builtin_cos(m * angle) / __builtin_cos(0.5 * angle);
  if (x * x == 1) return is_degree(n) ? (x > 0 ? 1 : is_even(n) ? 2 * m : -2 * m) : 0;
  return chebyshev(x, n, 2 * x - 1);
}
inline double chebyshev_polynomial_w(double x, double n) {
  const double m = __builtin_trunc(n) + 0.5, angle = __builtin_acos(x);
  if (trigonometric(x, n)) return __builtin_sin(m * angle) / __builtin_sin(0.5 * angle);
  if (x * x == 1) return is_degree(n) ? (x > 0 ? 2 * m : is_even(n) ? 1 : -1) : 0;
  return chebyshev(x, n, 2 * x + 1);
}
// Beyond `highest` degrees torch gives NaN.
inline double hermite_polynomial_h(double x, double n, double highest = 512) {
  if (n >= highest + 1 && is_degree(n)) return nan_f64;
  return recurrence(n, 2 * x, [x](double k, double p, double q) { return 2 * (x * p - k * q); });
}
inline double hermite_polynomial_he(double x, double n, double highest = 512) {
  if (n >= highest + 1 && is_degree(n)) return nan_f64;
  return recurrence(n, x, [x](double k, double p, double q) { return x * p - k * q; });
}
inline double laguerre_polynomial_l(double x, double n) {
  if (x == 0 && is_degree(n)) return 1;
  return recurrence(n, 1 - x, [x](double k, double p, double q) { return ((2 * k + 1 - x) * p - k * q) / (k + 1); });
}
inline double legendre_polynomial_p(double x, double n) {
  if (x * x == 1) return is_degree(n) ? (x > 0 || is_even(n) ? 1 : -1) : 0;
  return recurrence(n, x, [x](double k, double p, double q) { return ((2 * k + 1) * x * p - k * q) / (k + 1); });
}

// ---- In float: the double rounded ---------------------------------------------------------------------------------

#define TW_ROUNDED_1(name) inline float name(float x) { return float(name(double(x))); }
#define TW_ROUNDED_2(name) inline float name(float a, float b) { return float(name(double(a), double(b))); }
TW_ROUNDED_1(digamma)
TW_ROUNDED_2(zeta)
TW_ROUNDED_1(erfcx)
TW_ROUNDED_1(erfinv)
TW_ROUNDED_1(ndtri)
TW_ROUNDED_1(i0)
TW_ROUNDED_1(i0e)
TW_ROUNDED_1(i1)
TW_ROUNDED_1(i1e)
TW_ROUNDED_1(scaled_modified_bessel_k0)
TW_ROUNDED_1(scaled_modified_bessel_k1)
TW_ROUNDED_2(chebyshev_polynomial_t)
TW_ROUNDED_2(chebyshev_polynomial_u)
TW_ROUNDED_2(chebyshev_polynomial_v)
TW_ROUNDED_2(chebyshev_polynomial_w)
TW_ROUNDED_2(laguerre_polynomial_l)
TW_ROUNDED_2(legendre_polynomial_p)
inline float hermite_polynomial_h(float x, float n) { return float(hermite_polynomial_h(double(x), double(n), 128)); }
inline float hermite_polynomial_he(float x, float n) { return float(hermite_polynomial_he(double(x), double(n), 128)); }
#undef TW_ROUNDED_1
#undef TW_ROUNDED_2

}  // namespace tw
