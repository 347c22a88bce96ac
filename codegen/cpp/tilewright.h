// What emitted kernels stand on: element types, scalar functions with torch's meaning, scratch memory.
//
// Everything is inline and free of branches where loops over it should run in vector lanes. No standard header but the
// integer types and malloc: a kernel file then compiles in a tenth of a second.
#pragma once

#include <stdint.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define TW_INLINE static inline __attribute__((always_inline))
#define TW_SPECIAL inline __attribute__((always_inline))

namespace tw {

// Work (in elements times scalar cost, about 16 microseconds) below which waking the threads costs more than it saves:
// 2 microseconds where they still spin, 10 where they sleep, far more on a busy machine.
constexpr int64_t parallel_work = 1000000;

template <class To, class From>
TW_INLINE To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From), "reinterpreting needs equal sizes");
  To result;
  __builtin_memcpy(&result, &value, sizeof(To));
  return result;
}

template <class T> struct Limits;
template <> struct Limits<float> { static constexpr float low = -__builtin_inff(), high = __builtin_inff(); };
template <> struct Limits<double> { static constexpr double low = -__builtin_inf(), high = __builtin_inf(); };
template <> struct Limits<int64_t> { static constexpr int64_t low = INT64_MIN, high = INT64_MAX; };
template <> struct Limits<int32_t> { static constexpr int32_t low = INT32_MIN, high = INT32_MAX; };
template <> struct Limits<int16_t> { static constexpr int16_t low = INT16_MIN, high = INT16_MAX; };
template <> struct Limits<int8_t> { static constexpr int8_t low = INT8_MIN, high = INT8_MAX; };
template <> struct Limits<uint8_t> { static constexpr uint8_t low = 0, high = UINT8_MAX; };
template <> struct Limits<bool> { static constexpr bool low = false, high = true; };

constexpr float inf_f32 = __builtin_inff(), nan_f32 = __builtin_nanf("");
constexpr double inf_f64 = __builtin_inf(), nan_f64 = __builtin_nan("");

// ---- Element types: stored bits; arithmetic happens in float ------------------------------------------------------
// Enumerations and not structs, because gcc keeps temporaries of structs in memory and then gives up on vector lanes.

enum class bfloat16 : uint16_t {};
enum class float16 : uint16_t {};
enum class float8_e4m3fn : uint8_t {};
enum class float8_e5m2 : uint8_t {};

// The nearest element of type T, ties to even; NaN stays NaN.
template <class T> T round_to(float value);

template <> TW_SPECIAL bfloat16 round_to<bfloat16>(float value) {
  const uint32_t u = bits_as<uint32_t>(value);
  const uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  return bfloat16(value != value ? 0x7fc0 : rounded);
}
TW_INLINE float to_float(bfloat16 value) { return bits_as<float>(uint32_t(value) << 16); }

template <> TW_SPECIAL float16 round_to<float16>(float value) {
  const uint32_t u = bits_as<uint32_t>(value), magnitude = u & 0x7fffffff;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // The last bit of 0.5 + x is the smallest subnormal half.
  const uint32_t subnormal = bits_as<uint32_t>(bits_as<float>(magnitude) + 0.5f) - bits_as<uint32_t>(0.5f);
  uint32_t half = magnitude < (113u << 23) ? subnormal : normal;
  half = magnitude >= 0x477ff000 ? 0x7c00 : half;  // 65520 and above round to infinity
  half = magnitude > 0x7f800000 ? 0x7e00 : half;
  return float16(half | ((u >> 16) & 0x8000));
}
TW_INLINE float to_float(float16 value) {
  const uint32_t bits = uint32_t(value), magnitude = (bits & 0x7fff) << 13;
  const uint32_t scaled = bits_as<uint32_t>(bits_as<float>(magnitude) * 0x1p112f);
  const uint32_t special = (bits & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
  return bits_as<float>(scaled | special | (bits & 0x8000) << 16);
}

// 8-bit floats of `Mantissa` bits. `HasInf`: overflow gives infinity; else (the "fn" formats) the largest number, as
// torch saturates.
template <int Mantissa, int Bias, bool HasInf>
TW_INLINE uint32_t float8_bits(float value) {
  constexpr int shift = 23 - Mantissa;
  constexpr uint32_t overflow = HasInf ? 0x7c : 0x7e;
  const uint32_t u = bits_as<uint32_t>(value), magnitude = u & 0x7fffffff;
  const uint32_t normal =
      (magnitude - (uint32_t(127 - Bias) << 23) + ((1u << (shift - 1)) - 1) + ((magnitude >> shift) & 1)) >> shift;
  // Adding this constant leaves the subnormal's bits at the bottom of the sum, rounded to even.
  const float magic = bits_as<float>(uint32_t(127 - Bias + 1 + shift) << 23);
  const uint32_t subnormal = bits_as<uint32_t>(bits_as<float>(magnitude) + magic) - bits_as<uint32_t>(magic);
  uint32_t result = magnitude < (uint32_t(128 - Bias) << 23) ? subnormal : normal;
  result = (magnitude >= 0x7f800000) | (result > overflow) ? overflow : result;
  result = magnitude > 0x7f800000 ? 0x7f : result;
  return result | ((u >> 24) & 0x80);
}
template <int Mantissa, int Bias, bool HasInf>
TW_INLINE float float8_value(uint32_t bits) {
  const uint32_t magnitude = bits & 0x7f;
  uint32_t u = bits_as<uint32_t>(bits_as<float>(magnitude << (23 - Mantissa)) * bits_as<float>(uint32_t(254 - Bias) << 23));
  u = HasInf && magnitude == 0x7c ? 0x7f800000 : u;
  u = magnitude > (HasInf ? 0x7c : 0x7e) ? 0x7fc00000 : u;
  return bits_as<float>(u | (bits & 0x80) << 24);
}
template <> TW_SPECIAL float8_e4m3fn round_to<float8_e4m3fn>(float value) {
  return float8_e4m3fn(float8_bits<3, 7, false>(value));
}
template <> TW_SPECIAL float8_e5m2 round_to<float8_e5m2>(float value) {
  return float8_e5m2(float8_bits<2, 15, true>(value));
}
TW_INLINE float to_float(float8_e4m3fn value) { return float8_value<3, 7, false>(uint32_t(value)); }
TW_INLINE float to_float(float8_e5m2 value) { return float8_value<2, 15, true>(uint32_t(value)); }

// ---- Integer helpers of index expressions -------------------------------------------------------------------------

TW_INLINE int64_t index_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }
TW_INLINE int64_t index_mod(int64_t a, int64_t b) { return a - index_div(a, b) * b; }
TW_INLINE int64_t index_max(int64_t a, int64_t b) { return a > b ? a : b; }
TW_INLINE int64_t index_min(int64_t a, int64_t b) { return a < b ? a : b; }
TW_INLINE bool in_range(int64_t position, int64_t extent) { return uint64_t(position) < uint64_t(extent); }

// ---- Scratch memory that outgrows the stack: one block per thread and slot, kept between calls -------------------

template <class T, int Slot>
T* scratch(int64_t count) {
  struct Block {
    void* data = nullptr;
    size_t size = 0;
    ~Block() { free(data); }
  };
  static thread_local Block block;
  const size_t bytes = (size_t(count) * sizeof(T) + 63) / 64 * 64;
  if (bytes > block.size) {
    free(block.data);
    block.data = aligned_alloc(64, bytes);
    if (block.data == nullptr) abort();
    block.size = bytes;
  }
  return static_cast<T*>(block.data);
}

// ---- Large results ------------------------------------------------------------------------------------------------

// Bytes from which on memory comes fresh from the system in each call (malloc keeps what is smaller).
constexpr int64_t large_bytes = 8 << 20;

// Ask for large pages where `bytes` of memory at `start` are about to be written, probably for the first time. What is
// written already stays as it is, and a system that has no large pages ignores it.
inline void expect_writes(void* start, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t page = 4096;
  if (bytes < large_bytes) return;
  const uintptr_t first = (uintptr_t(start) + page - 1) / page * page, last = (uintptr_t(start) + bytes) / page * page;
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace tw

#include "tilewright_math.h"
