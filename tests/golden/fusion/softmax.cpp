// loop
extern "C" int64_t max_sub_sum_div(
    const bfloat16* __restrict x,
    bfloat16* __restrict p1,
    int64_t s0,
    int64_t s1) {
  #pragma omp parallel for schedule(static) if (parallel : s0 * s1 * 37 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float* __restrict exp_row = tw::scratch<float, 0>(s1);
    float max = tw::Limits<float>::low;
    #pragma omp simd reduction(maximum : max)
    for (int64_t k0 = 0; k0 < s1; ++k0) {
      const float x_2 = tw::to_float(x[i0 * s1 + k0]);
      max = tw::maximum(max, x_2);
    }
    float sum = 0;
    double sum_total = 0;
    for (int64_t k0_start = 0; k0_start < s1; k0_start += 256) {
      const int64_t k0_stop = tw::index_min(k0_start + 256, s1);
      sum = 0;
      #pragma omp simd reduction(+ : sum)
      for (int64_t k0 = k0_start; k0 < k0_stop; ++k0) {
        const float x_2 = tw::to_float(x[i0 * s1 + k0]);
        const float sub = x_2 - max;
        const float exp = tw::exp(sub);
        exp_row[k0] = exp;
        sum += exp;
      }
      sum_total += sum;
    }
    sum = float(sum_total);
    #pragma omp simd
    for (int64_t k0 = 0; k0 < s1; ++k0) {
      const float exp = exp_row[k0];
      const float div = exp / sum;
      p1[i0 * s1 + k0] = tw::round_to<bfloat16>(div);
    }
  }
  return 0;
}
