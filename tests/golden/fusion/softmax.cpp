// loop
extern "C" int64_t max_sub_sum_div(
    const bfloat16* __restrict x,
    bfloat16* __restrict p1,
    int64_t s0,
    int64_t s1) {
  tw::expect_writes(p1, s0 * s1 * 2);
  #pragma omp parallel for schedule(static) if (parallel : s0 * s1 * 37 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float* __restrict exp_row = tw::scratch<float, 0>(s1);
    float max = tw::Limits<float>::low;
    float max_lanes[64];
    for (float& r : max_lanes) r = tw::Limits<float>::low;
    const int64_t k0_full = s1 / 64 * 64;
    for (int64_t k0_lanes = 0; k0_lanes < k0_full; k0_lanes += 64) {
      #pragma omp simd
      for (int64_t lane = 0; lane < 64; ++lane) {
        const int64_t k0 = k0_lanes + lane;
        const float x_2 = tw::to_float(x[i0 * s1 + k0]);
        max_lanes[lane] = tw::maximum(max_lanes[lane], x_2);
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < s1 - k0_full; ++lane) {
      const int64_t k0 = k0_full + lane;
      const float x_2 = tw::to_float(x[i0 * s1 + k0]);
      max_lanes[lane] = tw::maximum(max_lanes[lane], x_2);
    }
    max = tw::maximum(max, tw::fold(max_lanes, tw::Maximum()));
    float sum = 0;
    double sum_total = 0;
    for (int64_t k0_start = 0; k0_start < s1; k0_start += 1024) {
      const int64_t k0_stop = tw::index_min(k0_start + 1024, s1);
      sum = 0;
      float sum_lanes[64];
      for (float& r : sum_lanes) r = 0;
      const int64_t k0_full_2 = k0_start + (k0_stop - k0_start) / 64 * 64;
      for (int64_t k0_lanes = k0_start; k0_lanes < k0_full_2; k0_lanes += 64) {
        #pragma omp simd
        for (int64_t lane = 0; lane < 64; ++lane) {
          const int64_t k0 = k0_lanes + lane;
          const float x_2 = tw::to_float(x[i0 * s1 + k0]);
          const float sub = x_2 - max;
          const float exp = tw::exp(sub);
          exp_row[k0] = exp;
          sum_lanes[lane] += exp;
        }
      }
      #pragma omp simd
      for (int64_t lane = 0; lane < k0_stop - k0_full_2; ++lane) {
        const int64_t k0 = k0_full_2 + lane;
        const float x_2 = tw::to_float(x[i0 * s1 + k0]);
        const float sub = x_2 - max;
        const float exp = tw::exp(sub);
        exp_row[k0] = exp;
        sum_lanes[lane] += exp;
      }
      sum += tw::fold(sum_lanes, tw::Sum());
      sum_total += sum;
    }
    sum = float(sum_total);
    #pragma omp simd
    for (int64_t k0 = 0; k0 < s1; ++k0) {
      const float exp = exp_row[k0];
      const float div = exp / sum;
      p1[i0 * s1 + k0] = tw::round_to<bfloat16>(div);
    }
  }
  return 0;
}
