// loop
extern "C" int64_t mul_sum(const int64_t* __restrict x, int64_t* __restrict p1, int64_t s0) {
  tw::expect_writes(p1, s0 * 8);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 39 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    int64_t sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t k0 = 0; k0 < 7; ++k0) {
      const int64_t x_2 = x[i0 * 7 + k0];
      const int64_t mul = x_2 * x_2;
      sum += mul;
    }
    p1[i0] = sum;
  }
  return 0;
}
