// loop: norm.py:10, norm.py:11, norm.py:12, norm.py:13
extern "C" int64_t layer_norm(
    const float* __restrict x,
    const float* __restrict weight,
    float* __restrict y,
    int64_t s0,
    int64_t s1) {
  #pragma omp parallel for schedule(static) if (parallel : s0 * 21 + s0 * s1 * 33 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float* __restrict row = tw::scratch<float, 0>(s1);
    alignas(64) float small[4];
    const float n = float(s1);
    // norm.py:10
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t i1 = 0; i1 < s1; ++i1) {
      const float a = x[i0 * s1 + i1];
      row[i1] = a;
      sum += a;
    }
    const float mean = sum / n;
    // norm.py:11
    float squares = 0;
    #pragma omp simd reduction(+ : squares)
    for (int64_t i1 = 0; i1 < s1; ++i1) {
      const float a = row[i1];
      const float d = a - mean;
      const float d2 = d * d;
      squares += d2;
    }
    const float var = squares / n;
    const float safe = var + 1e-05f;
    const float rstd = 1.0f / tw::sqrt(safe);
    small[0] = rstd;
    // norm.py:12, norm.py:13
    #pragma omp simd
    for (int64_t i1 = 0; i1 < s1; ++i1) {
      const float a = row[i1];
      const float r = small[0];
      const float d = a - mean;
      const float u = d * r;
      const float w = weight[i1];
      const float out = u * w;
      y[i0 * s1 + i1] = out;
    }
  }
  return 0;
}
