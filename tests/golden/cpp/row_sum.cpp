// loop
extern "C" int64_t row_sum(const float* __restrict x, float* __restrict y, int64_t s0, int64_t s1) {
  #pragma omp parallel for schedule(static) if (parallel : s0 * 4 + s0 * s1 * 4 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float sum = 0;
    double sum_total = 0;
    for (int64_t i1_start = 0; i1_start < s1; i1_start += 512) {
      const int64_t i1_stop = tw::index_min(i1_start + 512, s1);
      sum = 0;
      #pragma omp simd reduction(+ : sum)
      for (int64_t i1 = i1_start; i1 < i1_stop; ++i1) {
        const float a = x[i0 * s1 + i1];
        sum += a;
      }
      sum_total += sum;
    }
    sum = float(sum_total);
    y[i0] = sum;
  }
  return 0;
}
