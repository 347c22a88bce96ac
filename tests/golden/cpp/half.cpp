// loop
extern "C" int64_t half(const bfloat16* __restrict x, bfloat16* __restrict y, int64_t s0) {
  tw::expect_writes(y, s0 * 2);
  #pragma omp parallel for simd schedule(static) if (parallel : s0 * 27 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    const float a = tw::to_float(x[i0]);
    const float s = tw::sigmoid(a);
    const float p = a * s;
    y[i0] = tw::round_to<bfloat16>(p);
  }
  return 0;
}
