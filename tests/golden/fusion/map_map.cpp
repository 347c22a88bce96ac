// loop
extern "C" int64_t add_mul_tanh(
    const float16* __restrict x,
    const float16* __restrict y,
    float16* __restrict p2,
    int64_t s0) {
  tw::expect_writes(p2, s0 * 14);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 245 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    #pragma omp simd
    for (int64_t i1 = 0; i1 < 7; ++i1) {
      const float x_2 = tw::to_float(x[i0 * 7 + i1]);
      const float y_2 = tw::to_float(y[i1]);
      const float add = x_2 + y_2;
      const float mul = add * 0.5f;
      const float tanh = tw::tanh(mul);
      const float mul_2 = add * tanh;
      p2[i0 * 7 + i1] = tw::round_to<float16>(mul_2);
    }
  }
  return 0;
}
