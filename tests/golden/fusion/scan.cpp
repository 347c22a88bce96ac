// loop
extern "C" int64_t abs_sum_mul(const float* __restrict x, float* __restrict p1, int64_t s0) {
  tw::expect_writes(p1, s0 * 28);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 70 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    double scan_running = 0;
    for (int64_t k0 = 0; k0 < 7; ++k0) {
      const float x_2 = x[i0 * 7 + k0];
      const float abs = tw::abs(x_2);
      scan_running += double(abs);
      const float v = float(scan_running);
      const float mul = v * 0.5f;
      p1[i0 * 7 + k0] = mul;
    }
  }
  return 0;
}
