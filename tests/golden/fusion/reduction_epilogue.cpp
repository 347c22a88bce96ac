// loop
extern "C" int64_t sum_add_tanh(
    const float* __restrict x,
    const float* __restrict y,
    float* __restrict p2,
    int64_t s0) {
  tw::expect_writes(p2, s0 * 4);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 57 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t k0 = 0; k0 < 7; ++k0) {
      const float x_2 = x[i0 * 7 + k0];
      sum += x_2;
    }
    const float y_2 = y[i0];
    const float add = sum + y_2;
    const float tanh = tw::tanh(add);
    p2[i0] = tanh;
  }
  return 0;
}
