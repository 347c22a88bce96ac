// loop
extern "C" int64_t mul_kernel(const float* __restrict x, float* __restrict p1, int64_t s0) {
  tw::expect_writes(p1, s0 * 24);
  #pragma omp parallel for collapse(2) schedule(static) if (parallel : s0 * 54 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < 2; ++i0) {
    for (int64_t i1 = 0; i1 < s0; ++i1) {
      #pragma omp simd
      for (int64_t i2 = 0; i2 < 3; ++i2) {
        const float x_2 = x[i0 * 3 + i1 * 6 + i2];
        const float mul = x_2 * 2.0f;
        p1[i0 * s0 * 3 + i1 * 3 + i2] = mul;
      }
    }
  }
  return 0;
}
