// loop
extern "C" int64_t column_tile(const float* __restrict x, float* __restrict y, int64_t s0) {
  #pragma omp parallel for schedule(static) if (parallel : s0 * 512 + 512 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < 4; ++i0) {
    float sum[32];
    for (float& r : sum) r = 0;
    for (int64_t k0 = 0; k0 < s0; ++k0) {
      #pragma omp simd
      for (int64_t i1 = 0; i1 < 32; ++i1) {
        const float a = x[i0 * 32 + i1 + k0 * 128];
        sum[i1] += a;
      }
    }
    #pragma omp simd
    for (int64_t i1 = 0; i1 < 32; ++i1) {
      y[i0 * 32 + i1] = sum[i1];
    }
  }
  return 0;
}
