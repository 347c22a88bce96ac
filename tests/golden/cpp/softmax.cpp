// loop: model.py:3
extern "C" int64_t softmax(const float* __restrict x, float* __restrict y, int64_t s0, int64_t s1) {
  tw::expect_writes(y, s0 * s1 * 4);
  #pragma omp parallel for schedule(static) if (parallel : s0 * s1 * 46 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float max = tw::Limits<float>::low;
    float max_lanes[64];
    for (float& r : max_lanes) r = tw::Limits<float>::low;
    const int64_t i1_full = s1 / 64 * 64;
    for (int64_t i1_lanes = 0; i1_lanes < i1_full; i1_lanes += 64) {
      #pragma omp simd
      for (int64_t lane = 0; lane < 64; ++lane) {
        const int64_t i1 = i1_lanes + lane;
        const float a = x[i0 * s1 + i1];
        max_lanes[lane] = tw::maximum(max_lanes[lane], a);
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < s1 - i1_full; ++lane) {
      const int64_t i1 = i1_full + lane;
      const float a = x[i0 * s1 + i1];
      max_lanes[lane] = tw::maximum(max_lanes[lane], a);
    }
    max = tw::maximum(max, tw::fold(max_lanes, tw::Maximum()));
    float sum = 0;
    float sum_lanes[64];
    for (float& r : sum_lanes) r = 0;
    const int64_t i1_full_2 = s1 / 64 * 64;
    for (int64_t i1_lanes = 0; i1_lanes < i1_full_2; i1_lanes += 64) {
      #pragma omp simd
      for (int64_t lane = 0; lane < 64; ++lane) {
        const int64_t i1 = i1_lanes + lane;
        const float a = x[i0 * s1 + i1];
        const float d = a - max;
        const float e = tw::exp(d);
        sum_lanes[lane] += e;
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < s1 - i1_full_2; ++lane) {
      const int64_t i1 = i1_full_2 + lane;
      const float a = x[i0 * s1 + i1];
      const float d = a - max;
      const float e = tw::exp(d);
      sum_lanes[lane] += e;
    }
    sum += tw::fold(sum_lanes, tw::Sum());
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
