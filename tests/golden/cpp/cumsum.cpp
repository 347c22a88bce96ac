// loop
extern "C" int64_t cumsum(const float* __restrict x, float* __restrict y, int64_t s0, int64_t s1) {
  tw::expect_writes(y, s0 * s1 * 4);
  #pragma omp parallel for schedule(static) if (parallel : s0 * s1 * 8 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    double total_running = 0;
    for (int64_t i1 = 0; i1 < s1; ++i1) {
      const float a = x[i0 * s1 + i1];
      total_running += double(a);
      const float total = float(total_running);
      y[i0 * s1 + i1] = total;
    }
  }
  return 0;
}
