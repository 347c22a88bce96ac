// loop
extern "C" int64_t column_cumsum(const float* __restrict x, float* __restrict y, int64_t s0, int64_t s1) {
  tw::expect_writes(y, s0 * s1 * 4);
  for (int64_t i1_start = 0; i1_start < s1; i1_start += 4096) {
    const int64_t lanes = tw::index_min(4096, s1 - i1_start);
    double total_running[4096];
    for (double& r : total_running) r = 0;
    for (int64_t i0 = 0; i0 < s0; ++i0) {
      #pragma omp simd
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t i1 = i1_start + lane;
        const float a = x[i0 * s1 + i1];
        total_running[lane] += double(a);
        const float total = float(total_running[lane]);
        y[i0 * s1 + i1] = total;
      }
    }
  }
  return 0;
}
