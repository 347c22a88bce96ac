// loop
extern "C" int64_t row_sum(const float* __restrict x, float* __restrict y, int64_t s0, int64_t s1) {
  tw::expect_writes(y, s0 * 4);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 4 + s0 * s1 * 4 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float sum = 0;
    double sum_total = 0;
    for (int64_t i1_start = 0; i1_start < s1; i1_start += 512) {
      const int64_t i1_stop = tw::index_min(i1_start + 512, s1);
      sum = 0;
      float sum_lanes[64];
      for (float& r : sum_lanes) r = 0;
      const int64_t i1_full = i1_start + (i1_stop - i1_start) / 64 * 64;
      for (int64_t i1_lanes = i1_start; i1_lanes < i1_full; i1_lanes += 64) {
        #pragma omp simd
        for (int64_t lane = 0; lane < 64; ++lane) {
          const int64_t i1 = i1_lanes + lane;
          const float a = x[i0 * s1 + i1];
          sum_lanes[lane] += a;
        }
      }
      #pragma omp simd
      for (int64_t lane = 0; lane < i1_stop - i1_full; ++lane) {
        const int64_t i1 = i1_full + lane;
        const float a = x[i0 * s1 + i1];
        sum_lanes[lane] += a;
      }
      sum += tw::fold(sum_lanes, tw::Sum());
      sum_total += sum;
    }
    sum = float(sum_total);
    y[i0] = sum;
  }
  return 0;
}
