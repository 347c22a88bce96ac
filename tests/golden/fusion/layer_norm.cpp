// loop
extern "C" int64_t sum_mul_add_rsqrt(
    const bfloat16* __restrict x,
    const bfloat16* __restrict y,
    bfloat16* __restrict p2,
    int64_t s0) {
  tw::expect_writes(p2, s0 * 38);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 486 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t k0 = 0; k0 < 19; ++k0) {
      const float x_2 = tw::to_float(x[i0 * 19 + k0]);
      sum += x_2;
    }
    const float mul = sum * 0.052734375f;
    float sum_2 = 0;
    #pragma omp simd reduction(+ : sum_2)
    for (int64_t k0 = 0; k0 < 19; ++k0) {
      const float x_2 = tw::to_float(x[i0 * 19 + k0]);
      const float sub = x_2 - mul;
      const float mul_2 = sub * sub;
      sum_2 += mul_2;
    }
    const float mul_2 = sum_2 * 0.052734375f;
    const float add = mul_2 + 1.001358e-05f;
    const float rsqrt = 1.0f / tw::sqrt(add);
    #pragma omp simd
    for (int64_t k0 = 0; k0 < 19; ++k0) {
      const float x_2 = tw::to_float(x[i0 * 19 + k0]);
      const float sub = x_2 - mul;
      const float mul_3 = sub * rsqrt;
      const float y_2 = tw::to_float(y[k0]);
      const float mul_4 = mul_3 * y_2;
      p2[i0 * 19 + k0] = tw::round_to<bfloat16>(mul_4);
    }
  }
  return 0;
}
