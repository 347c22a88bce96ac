// loop
extern "C" int64_t max_sub_sum_div(const float* __restrict x, float* __restrict p1, int64_t s0) {
  tw::expect_writes(p1, s0 * 60);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 555 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    alignas(64) float exp_row[15];
    float max = tw::Limits<float>::low;
    #pragma omp simd reduction(maximum : max)
    for (int64_t k0 = 0; k0 < 15; ++k0) {
      const float x_2 = x[i0 * 15 + k0];
      max = tw::maximum(max, x_2);
    }
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t k0 = 0; k0 < 15; ++k0) {
      const float x_2 = x[i0 * 15 + k0];
      const float sub = x_2 - max;
      const float exp = tw::exp(sub);
      exp_row[k0] = exp;
      sum += exp;
    }
    #pragma omp simd
    for (int64_t k0 = 0; k0 < 15; ++k0) {
      const float exp = exp_row[k0];
      const float div = exp / sum;
      p1[i0 * 15 + k0] = div;
    }
  }
  return 0;
}
