// loop
extern "C" int64_t tanh_max_sum(
    const float* __restrict x,
    float* __restrict p1,
    float* __restrict p2,
    float* __restrict p3,
    int64_t s0) {
  #pragma omp parallel for schedule(static) if (parallel : s0 * 28260 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float max = tw::Limits<float>::low;
    float sum = 0;
    double sum_total = 0;
    for (int64_t k0_start = 0; k0_start < 1009; k0_start += 256) {
      const int64_t k0_stop = tw::index_min(k0_start + 256, 1009);
      sum = 0;
      #pragma omp simd reduction(maximum : max) reduction(+ : sum)
      for (int64_t k0 = k0_start; k0 < k0_stop; ++k0) {
        const float x_2 = x[i0 * 1009 + k0];
        const float tanh = tw::tanh(x_2);
        p1[i0 * 1009 + k0] = tanh;
        max = tw::maximum(max, x_2);
        sum += x_2;
      }
      sum_total += sum;
    }
    sum = float(sum_total);
    p2[i0] = max;
    p3[i0] = sum;
  }
  return 0;
}
