// loop
extern "C" int64_t add_mul_sum_rsqrt(
    const bfloat16* __restrict x,
    const bfloat16* __restrict z,
    const bfloat16* __restrict y,
    bfloat16* __restrict p3,
    bfloat16* __restrict p4,
    int64_t s0) {
  tw::expect_writes(p3, s0 * 38);
  tw::expect_writes(p4, s0 * 38);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 655 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    alignas(64) float cast_row[19];
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t k0 = 0; k0 < 19; ++k0) {
      const float x_2 = tw::to_float(x[i0 * 19 + k0]);
      const float z_2 = tw::to_float(z[i0 * 19 + k0]);
      const float add = x_2 + z_2;
      cast_row[k0] = add;
      const float mul = add * add;
      p3[i0 * 19 + k0] = tw::round_to<bfloat16>(add);
      sum += mul;
    }
    const float add = sum + 1e-06f;
    const float rsqrt = 1.0f / tw::sqrt(add);
    #pragma omp simd
    for (int64_t k0 = 0; k0 < 19; ++k0) {
      const float cast = cast_row[k0];
      const float mul = cast * rsqrt;
      const bfloat16 cast_2 = tw::round_to<bfloat16>(mul);
      const float cast_3 = tw::to_float(cast_2);
      const float y_2 = tw::to_float(y[k0]);
      const float mul_2 = cast_3 * y_2;
      p4[i0 * 19 + k0] = tw::round_to<bfloat16>(mul_2);
    }
  }
  return 0;
}
