// loop
extern "C" int64_t maximum_gather_sum_div(
    const int64_t* __restrict y,
    const float* __restrict x,
    const float* __restrict z,
    float* __restrict p3,
    int64_t s0) {
  int64_t failed = 0;
  tw::expect_writes(p3, s0 * 24);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 281 >= tw::parallel_work) reduction(| : failed)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    alignas(64) float exp_row[6];
    alignas(64) float add_row[6];
    const int64_t y_2 = y[i0];
    const int64_t maximum = tw::maximum(y_2, int64_t(0));
    const int64_t j0_wrapped = maximum < 0 ? maximum + 9 : maximum;
    const bool j0_in_range = tw::in_range(j0_wrapped, 9);
    failed |= j0_in_range ? 0 : 1;
    const int64_t j0 = j0_in_range ? j0_wrapped : 0;
    float max = tw::Limits<float>::low;
    #pragma omp simd reduction(maximum : max)
    for (int64_t k0 = 0; k0 < 6; ++k0) {
      const float x_2 = x[j0 * 6 + k0];
      const float z_2 = z[i0 * 6 + k0];
      const float add = x_2 + z_2;
      add_row[k0] = add;
      max = tw::maximum(max, add);
    }
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t k0 = 0; k0 < 6; ++k0) {
      const float add = add_row[k0];
      const float sub = add - max;
      const float exp = tw::exp(sub);
      exp_row[k0] = exp;
      sum += exp;
    }
    #pragma omp simd
    for (int64_t k0 = 0; k0 < 6; ++k0) {
      const float exp = exp_row[k0];
      const float div = exp / sum;
      p3[i0 * 6 + k0] = div;
    }
  }
  return failed;
}
