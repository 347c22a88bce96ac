// loop
extern "C" int64_t mul_max_neg(const float* __restrict x, float* __restrict p1, float* __restrict p2) {
  for (int64_t i0_start = 0; i0_start < 700; i0_start += 64) {
    const int64_t lanes = tw::index_min(64, 700 - i0_start);
    float max[64];
    for (float& r : max) r = tw::Limits<float>::low;
    for (int64_t k0 = 0; k0 < 100; ++k0) {
      #pragma omp simd
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t i0 = i0_start + lane;
        const float x_2 = x[i0 + k0 * 700];
        const float mul = x_2 * x_2;
        const float neg = -mul;
        p2[i0 + k0 * 700] = neg;
        max[lane] = tw::maximum(max[lane], mul);
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t i0 = i0_start + lane;
      p1[i0] = max[lane];
    }
  }
  return 0;
}

// loop
extern "C" int64_t max_kernel(const float* __restrict p0, float* __restrict p1) {
  for (int64_t i0 = 0; i0 < 100; ++i0) {
    float max = tw::Limits<float>::low;
    float max_lanes[64];
    for (float& r : max_lanes) r = tw::Limits<float>::low;
    for (int64_t k0_lanes = 0; k0_lanes < 640; k0_lanes += 64) {
      #pragma omp simd
      for (int64_t lane = 0; lane < 64; ++lane) {
        const int64_t k0 = k0_lanes + lane;
        const float x_value = p0[i0 * 700 + k0];
        max_lanes[lane] = tw::maximum(max_lanes[lane], x_value);
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < 60; ++lane) {
      const int64_t k0 = 640 + lane;
      const float x_value = p0[i0 * 700 + k0];
      max_lanes[lane] = tw::maximum(max_lanes[lane], x_value);
    }
    max = tw::maximum(max, tw::fold(max_lanes, tw::Maximum()));
    p1[i0] = max;
  }
  return 0;
}
