// loop: model.py:3
extern "C" int64_t softmax(const float* __restrict x, float* __restrict y, int64_t s0, int64_t s1) {
  #pragma omp parallel for schedule(static) if (parallel : s0 * s1 * 46 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float max = tw::Limits<float>::low;
    #pragma omp simd reduction(maximum : max)
    for (int64_t i1 = 0; i1 < s1; ++i1) {
      const float a = x[i0 * s1 + i1];
      max = tw::maximum(max, a);
    }
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t i1 = 0; i1 < s1; ++i1) {
      const float a = x[i0 * s1 + i1];
      const float d = a - max;
      const float e = tw::exp(d);
      sum += e;
    }
    #pragma omp simd
    for (int64_t i1 = 0; i1 < s1; ++i1) {
      const float a = x[i0 * s1 + i1];
      const float d = a - max;
      const float e = tw::exp(d);
      const float q = e / sum;
      y[i0 * s1 + i1] = q;
    }
  }
  return 0;
}
