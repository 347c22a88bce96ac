// loop
extern "C" int64_t column_sum(
    const float* __restrict x,
    float* __restrict y,
    float* __restrict z,
    int64_t s0,
    int64_t s1) {
  tw::expect_writes(y, s1 * 4);
  tw::expect_writes(z, s0 * s1 * 4);
  for (int64_t i1_start = 0; i1_start < s1; i1_start += 4096) {
    const int64_t lanes = tw::index_min(4096, s1 - i1_start);
    float sum[4096];
    for (float& r : sum) r = 0;
    float max[4096];
    for (float& r : max) r = tw::Limits<float>::low;
    double sum_total[4096];
    for (double& r : sum_total) r = 0;
    for (int64_t i0_start = 0; i0_start < s0; i0_start += 512) {
      const int64_t i0_stop = tw::index_min(i0_start + 512, s0);
      for (float& r : sum) r = 0;
      for (int64_t i0 = i0_start; i0 < i0_stop; ++i0) {
        #pragma omp simd
        for (int64_t lane = 0; lane < lanes; ++lane) {
          const int64_t i1 = i1_start + lane;
          const float a = x[i0 * s1 + i1];
          sum[lane] += a;
          max[lane] = tw::maximum(max[lane], a);
        }
      }
      #pragma omp simd
      for (int64_t lane = 0; lane < lanes; ++lane) {
        sum_total[lane] += sum[lane];
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < lanes; ++lane) {
      sum[lane] = float(sum_total[lane]);
    }
    float twice_lanes[4096];
    #pragma omp simd
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t i1 = i1_start + lane;
      const float twice = sum[lane] * 2.0f;
      twice_lanes[lane] = twice;
      y[i1] = twice;
    }
    for (int64_t i2 = 0; i2 < s0; ++i2) {
      #pragma omp simd
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t i1 = i1_start + lane;
        const float a = x[i1 + i2 * s1];
        const float d = a - twice_lanes[lane];
        z[i1 + i2 * s1] = d;
      }
    }
  }
  return 0;
}
