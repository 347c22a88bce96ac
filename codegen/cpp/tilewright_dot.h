// Products of small blocks, for kernels that need one between their loops: `tile.dot`.
//
// A block of the result stays in registers while the whole inner dim goes by; what is not laid out so that lanes read
// it side by side is packed first. Fused multiply-adds are allowed here and nowhere else: as in a library's product,
// the order of additions is not the model's, and one rounding fewer is closer to the true sum.
#pragma once

#include "tilewright.h"

#if defined(__clang__)
#define TW_FUSED_MULTIPLY_ADD __attribute__((noinline))
#define TW_CONTRACT _Pragma("clang fp contract(fast)")
#else
#define TW_FUSED_MULTIPLY_ADD __attribute__((noinline, noclone, optimize("fp-contract=fast")))
#define TW_CONTRACT
#endif

namespace tw {

// Rows and vectors of a block of the result in registers: 24 of 32, or 12 of 16.
#if defined(__AVX512F__)
constexpr int dot_bytes = 64, dot_rows = 8, dot_vectors = 3;
#else
constexpr int dot_bytes = 32, dot_rows = 4, dot_vectors = 3;
#endif

constexpr int dot_slot = -1;  // of scratch, downwards; kernels count theirs from 0

typedef float dot_f32 __attribute__((vector_size(dot_bytes), aligned(4), may_alias));
typedef double dot_f64 __attribute__((vector_size(dot_bytes), aligned(8), may_alias));
template <class T> struct DotVector;
template <> struct DotVector<float> { typedef dot_f32 type; };
template <> struct DotVector<double> { typedef dot_f64 type; };

TW_INLINE float dot_value(float x) { return x; }
TW_INLINE double dot_value(double x) { return x; }
TW_INLINE float dot_value(bfloat16 x) { return to_float(x); }
TW_INLINE float dot_value(float16 x) { return to_float(x); }

template <class A, class B> struct SameType { static constexpr bool value = false; };
template <class A> struct SameType<A, A> { static constexpr bool value = true; };

// c[Rows, Vectors * lanes] (+)= a[Rows, k] b[k, ...]; rows of `b` lie `b_k` apart, lanes side by side.
template <class T, int Rows, int Vectors>
TW_FUSED_MULTIPLY_ADD void dot_block(
    T* c, int64_t c_m, const T* a, int64_t a_m, const T* b, int64_t b_k, int64_t k, bool accumulate) {
  TW_CONTRACT
  typedef typename DotVector<T>::type Vector;
  constexpr int lanes = dot_bytes / sizeof(T);
  Vector sum[Rows][Vectors] = {};
  for (int64_t p = 0; p < k; ++p) {
    Vector row[Vectors];
    for (int j = 0; j < Vectors; ++j) row[j] = *reinterpret_cast<const Vector*>(b + p * b_k + j * lanes);
    for (int i = 0; i < Rows; ++i)
      for (int j = 0; j < Vectors; ++j) sum[i][j] = sum[i][j] + row[j] * a[i * a_m + p];
  }
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Vectors; ++j) {
      Vector* place = reinterpret_cast<Vector*>(c + i * c_m + j * lanes);
      *place = accumulate ? *place + sum[i][j] : sum[i][j];
    }
}

// The rows that are left, in halves of a block.
template <class T, int Vectors, int Rows = dot_rows / 2>
TW_INLINE void dot_last_rows(
    T* c, int64_t c_m, const T* a, int64_t a_m, const T* b, int64_t b_k, int64_t m, int64_t k, bool accumulate) {
  if (m >= Rows) {
    dot_block<T, Rows, Vectors>(c, c_m, a, a_m, b, b_k, k, accumulate);
    c += Rows * c_m, a += Rows * a_m, m -= Rows;
  }
  if constexpr (Rows > 1) dot_last_rows<T, Vectors, Rows / 2>(c, c_m, a, a_m, b, b_k, m, k, accumulate);
}

// All rows against `vectors` vectors of columns, at most `Vectors`.
template <class T, int Vectors = dot_vectors>
TW_INLINE void dot_panel(
    T* c, int64_t c_m, const T* a, int64_t a_m, const T* b, int64_t b_k, int64_t m, int64_t k, int64_t vectors,
    bool accumulate) {
  if (vectors == Vectors) {
    int64_t i = 0;
    for (; i + dot_rows <= m; i += dot_rows)
      dot_block<T, dot_rows, Vectors>(c + i * c_m, c_m, a + i * a_m, a_m, b, b_k, k, accumulate);
    dot_last_rows<T, Vectors>(c + i * c_m, c_m, a + i * a_m, a_m, b, b_k, m - i, k, accumulate);
  } else if constexpr (Vectors > 1) {
    dot_panel<T, Vectors - 1>(c, c_m, a, a_m, b, b_k, m, k, vectors, accumulate);
  }
}

// As many elements as there are lanes, side by side.
template <class T, class From>
TW_INLINE typename DotVector<T>::type dot_vector(const From* from) {
  constexpr int lanes = dot_bytes / sizeof(T);
  T values[lanes];
  for (int j = 0; j < lanes; ++j) values[j] = dot_value(from[j]);
  return *reinterpret_cast<const typename DotVector<T>::type*>(values);
}

// A square of rows whose lanes change places with them: in each step lanes and rows that differ in one bit.
template <class T>
TW_INLINE void dot_transpose(typename DotVector<T>::type* rows) {
  typedef typename DotVector<T>::type Vector;
  constexpr int lanes = dot_bytes / sizeof(T);
  #pragma GCC unroll 8
  for (int bit = 1; bit < lanes; bit *= 2) {
#if defined(__clang__)
    for (int i = 0; i < lanes; ++i)
      for (int j = 0; j < lanes; ++j)
        if ((i & bit) == 0 && (j & bit) != 0) {
          const T kept = rows[i][j];
          rows[i][j] = rows[i | bit][j ^ bit];
          rows[i | bit][j ^ bit] = kept;
        }
#else
    typedef decltype(Vector() < Vector()) Lanes;
    Lanes first = {}, second = {};
    #pragma GCC unroll 16
    for (int j = 0; j < lanes; ++j) {
      first[j] = j & bit ? lanes + (j ^ bit) : j;
      second[j] = j & bit ? lanes + j : j ^ bit;
    }
    #pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i)
      if ((i & bit) == 0) {
        const Vector upper = rows[i], lower = rows[i | bit];
        rows[i] = __builtin_shuffle(upper, lower, first);
        rows[i | bit] = __builtin_shuffle(upper, lower, second);
      }
#endif
  }
}

// out[p, j] = b[p, j] for p < k and j < width; columns from `n` on are zero.
template <class T, class From>
__attribute__((noinline)) void dot_pack(T* out, const From* b, int64_t b_k, int64_t b_n, int64_t n, int64_t k, int64_t width) {
  typedef typename DotVector<T>::type Vector;
  constexpr int lanes = dot_bytes / sizeof(T);
  if (b_n == 1) {
    for (int64_t p = 0; p < k; ++p) {
      #pragma omp simd
      for (int64_t j = 0; j < n; ++j) out[p * width + j] = dot_value(b[p * b_k + j]);
      for (int64_t j = n; j < width; ++j) out[p * width + j] = 0;
    }
    return;
  }
  for (int64_t first = 0; first < width; first += lanes)
    for (int64_t start = 0; start < k; start += lanes) {
      const int64_t columns = index_min(lanes, n - first), rows = index_min(lanes, k - start);
      const From* from = b + start * b_k + first * b_n;
      T* to = out + start * width + first;
      if (b_k == 1 && columns == lanes && rows == lanes) {
        Vector square[lanes];
        #pragma GCC unroll 16
        for (int j = 0; j < lanes; ++j) square[j] = dot_vector<T>(from + j * b_n);
        dot_transpose<T>(square);
        #pragma GCC unroll 16
        for (int p = 0; p < lanes; ++p) *reinterpret_cast<Vector*>(to + p * width) = square[p];
      } else {
        for (int64_t p = 0; p < rows; ++p)
          for (int64_t j = 0; j < lanes; ++j) to[p * width + j] = j < columns ? dot_value(from[j * b_n + p * b_k]) : T(0);
      }
    }
}

// Few rows against columns that lie along the inner dim (one query against keys): sums run along the lanes, nothing is
// packed.
template <class T>
TW_FUSED_MULTIPLY_ADD void dot_few_rows(
    T* c, int64_t c_m, const T* a, int64_t a_m, const T* b, int64_t b_n, int64_t m, int64_t n, int64_t k,
    bool accumulate) {
  TW_CONTRACT
  typedef typename DotVector<T>::type Vector;
  constexpr int lanes = dot_bytes / sizeof(T), columns = 4;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; j += columns) {
      const int64_t have = index_min(columns, n - j);
      Vector sums[columns] = {};
      const T* column[columns];
      for (int64_t q = 0; q < columns; ++q) column[q] = b + index_min(j + q, n - 1) * b_n;
      int64_t p = 0;
      for (; p + lanes <= k; p += lanes) {
        const Vector row = *reinterpret_cast<const Vector*>(a + i * a_m + p);
        for (int q = 0; q < columns; ++q) sums[q] = sums[q] + row * *reinterpret_cast<const Vector*>(column[q] + p);
      }
      for (int64_t q = 0; q < have; ++q) {
        T total = 0;
        for (int lane = 0; lane < lanes; ++lane) total += sums[q][lane];
        for (int64_t rest = p; rest < k; ++rest) total += a[i * a_m + rest] * column[q][rest];
        T* place = c + i * c_m + j + q;
        *place = accumulate ? *place + total : total;
      }
    }
}

// c[m, n] (+)= a[m, k] b[k, n], each with a stride for each dim; `c` has room for whole vectors of columns in each row.
template <class T, class A, class B>
void dot(
    T* c, int64_t c_m, const A* a, int64_t a_m, int64_t a_k, const B* b, int64_t b_k, int64_t b_n, int64_t m, int64_t n,
    int64_t k, bool accumulate) {
  constexpr int64_t lanes = dot_bytes / sizeof(T), panel = lanes * dot_vectors;
  const T* rows;
  if constexpr (SameType<A, T>::value) rows = a;
  if (!SameType<A, T>::value || a_k != 1) {
    const int64_t step = (k + lanes - 1) / lanes * lanes;
    T* packed = scratch<T, dot_slot>(m * step);
    dot_pack(packed, a, a_m, a_k, k, m, step);
    rows = packed;
    a_m = step;
  }
  if constexpr (SameType<B, T>::value) {
    if (m < dot_rows && b_k == 1 && b_n != 1) {
      dot_few_rows(c, c_m, rows, a_m, b, b_n, m, n, k, accumulate);
      return;
    }
  }
  T* packed = nullptr;
  for (int64_t j = 0; j < n; j += panel) {
    const int64_t have = index_min(panel, n - j), vectors = (have + lanes - 1) / lanes;
    const T* columns;
    int64_t step = b_k;
    if constexpr (SameType<B, T>::value) columns = b + j;
    if (!SameType<B, T>::value || b_n != 1 || have % lanes != 0) {
      if (packed == nullptr) packed = scratch<T, dot_slot - 1>(panel * k);
      step = vectors * lanes;
      dot_pack(packed, b + j * b_n, b_k, b_n, have, k, step);
      columns = packed;
    }
    dot_panel<T>(c + j, c_m, rows, a_m, columns, step, m, k, vectors, accumulate);
  }
}

}  // namespace tw
