// loop
extern "C" int64_t tanh_max_sum(
    const float* __restrict x,
    float* __restrict p1,
    float* __restrict p2,
    float* __restrict p3,
    int64_t s0) {
  tw::expect_writes(p1, s0 * 4036);
  tw::expect_writes(p2, s0 * 4);
  tw::expect_writes(p3, s0 * 4);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 28260 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    float max = tw::Limits<float>::low;
    float sum = 0;
    float max_lanes[64];
    for (float& r : max_lanes) r = tw::Limits<float>::low;
    float sum_lanes[64];
    for (float& r : sum_lanes) r = 0;
    for (int64_t k0_lanes = 0; k0_lanes < 960; k0_lanes += 64) {
      #pragma omp simd
      for (int64_t lane = 0; lane < 64; ++lane) {
        const int64_t k0 = k0_lanes + lane;
        const float x_2 = x[i0 * 1009 + k0];
        const float tanh = tw::tanh(x_2);
        p1[i0 * 1009 + k0] = tanh;
        max_lanes[lane] = tw::maximum(max_lanes[lane], x_2);
        sum_lanes[lane] += x_2;
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < 49; ++lane) {
      const int64_t k0 = 960 + lane;
      const float x_2 = x[i0 * 1009 + k0];
      const float tanh = tw::tanh(x_2);
      p1[i0 * 1009 + k0] = tanh;
      max_lanes[lane] = tw::maximum(max_lanes[lane], x_2);
      sum_lanes[lane] += x_2;
    }
    max = tw::maximum(max, tw::fold(max_lanes, tw::Maximum()));
    sum += tw::fold(sum_lanes, tw::Sum());
    p2[i0] = max;
    p3[i0] = sum;
  }
  return 0;
}
