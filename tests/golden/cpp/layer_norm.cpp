// loop: norm.py:10, norm.py:11, norm.py:12, norm.py:13
extern "C" int64_t layer_norm(
    const float* __restrict x,
    const float* __restrict weight,
    float* __restrict y,
    int64_t s0,
    int64_t s1) {
  tw::expect_writes(y, s0 * s1 * 4);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 21 + s0 * s1 * 33 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float* __restrict row = tw::scratch<float, 0>(s1);
    alignas(64) float small[4];
    const float n = float(s1);
    // norm.py:10
    float sum = 0;
    float sum_lanes[64];
    for (float& r : sum_lanes) r = 0;
    const int64_t i1_full = s1 / 64 * 64;
    for (int64_t i1_lanes = 0; i1_lanes < i1_full; i1_lanes += 64) {
      #pragma omp simd
      for (int64_t lane = 0; lane < 64; ++lane) {
        const int64_t i1 = i1_lanes + lane;
        const float a = x[i0 * s1 + i1];
        row[i1] = a;
        sum_lanes[lane] += a;
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < s1 - i1_full; ++lane) {
      const int64_t i1 = i1_full + lane;
      const float a = x[i0 * s1 + i1];
      row[i1] = a;
      sum_lanes[lane] += a;
    }
    sum += tw::fold(sum_lanes, tw::Sum());
    const float mean = sum / n;
    // norm.py:11
    float squares = 0;
    float squares_lanes[64];
    for (float& r : squares_lanes) r = 0;
    const int64_t i1_full_2 = s1 / 64 * 64;
    for (int64_t i1_lanes = 0; i1_lanes < i1_full_2; i1_lanes += 64) {
      #pragma omp simd
      for (int64_t lane = 0; lane < 64; ++lane) {
        const int64_t i1 = i1_lanes + lane;
        const float a = row[i1];
        const float d = a - mean;
        const float d2 = d * d;
        squares_lanes[lane] += d2;
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < s1 - i1_full_2; ++lane) {
      const int64_t i1 = i1_full_2 + lane;
      const float a = row[i1];
      const float d = a - mean;
      const float d2 = d * d;
      squares_lanes[lane] += d2;
    }
    squares += tw::fold(squares_lanes, tw::Sum());
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
