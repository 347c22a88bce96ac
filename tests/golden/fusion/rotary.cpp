// loop
extern "C" int64_t neg_concat_mul_add(
    const bfloat16* __restrict x,
    const bfloat16* __restrict y,
    const bfloat16* __restrict z,
    bfloat16* __restrict p3,
    int64_t s0) {
  tw::expect_writes(p3, s0 * 16);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 232 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    #pragma omp simd
    for (int64_t i1 = 0; i1 < 8; ++i1) {
      const float x_2 = tw::to_float(x[i0 * 8 + i1]);
      const float y_2 = tw::to_float(y[i0 * 8 + i1]);
      const float mul = x_2 * y_2;
      const float x_3 = 3 >= i1 ? tw::to_float(x[i0 * 8 + i1 + 4]) : 0.0f;
      const float neg = -x_3;
      const float x_4 = i1 >= 4 ? tw::to_float(x[i0 * 8 + i1 - 4]) : 0.0f;
      const bool v = 3 >= i1;
      const float where = v ? neg : x_4;
      const float z_2 = tw::to_float(z[i0 * 8 + i1]);
      const float mul_2 = where * z_2;
      const float add = mul + mul_2;
      p3[i0 * 8 + i1] = tw::round_to<bfloat16>(add);
    }
  }
  return 0;
}
