// loop
extern "C" int64_t concat(
    const float* __restrict left,
    const float* __restrict right,
    float* __restrict y,
    int64_t s0,
    int64_t s1) {
  tw::expect_writes(y, s0 * 20 + s0 * s1 * 4);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 65 + s0 * s1 * 13 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    #pragma omp simd
    for (int64_t i1 = 0; i1 < s1 + 5; ++i1) {
      const float a = s1 > i1 ? left[i0 * s1 + i1] : 0.0f;
      const float b = i1 >= s1 ? right[i0 * 5 + i1 - s1] : 0.0f;
      const bool first = s1 > i1;
      const float c = first ? a : b;
      y[i0 * 5 + i0 * s1 + i1] = c;
    }
  }
  return 0;
}
