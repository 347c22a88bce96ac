// loop: model.py:7, model.py:8
extern "C" int64_t map_chain(
    const float* __restrict x,
    const float* __restrict bias,
    float* __restrict y,
    int64_t s0,
    int64_t s1) {
  tw::expect_writes(y, s0 * s1 * 4);
  #pragma omp parallel for schedule(static) if (parallel : s0 * s1 * 41 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    #pragma omp simd
    for (int64_t i1 = 0; i1 < s1; ++i1) {
      const float a = x[i0 * s1 + i1];
      const float b = bias[i1];
      const float sum = a + b;
      const float scaled = sum * 0.70710677f;
      const float erf = tw::erf(scaled);
      const float shifted = erf + 1.0f;
      const float halved = sum * 0.5f;
      const float gelu = halved * shifted;
      y[i0 * s1 + i1] = gelu;
    }
  }
  return 0;
}
