// loop
extern "C" int64_t mul_max(const float* __restrict x, float* __restrict p1) {
  float max[700];
  for (float& r : max) r = tw::Limits<float>::low;
  for (int64_t k0 = 0; k0 < 100; ++k0) {
    #pragma omp simd
    for (int64_t i0 = 0; i0 < 700; ++i0) {
      const float x_2 = x[i0 + k0 * 700];
      const float mul = x_2 * x_2;
      max[i0] = tw::maximum(max[i0], mul);
    }
  }
  #pragma omp simd
  for (int64_t i0 = 0; i0 < 700; ++i0) {
    p1[i0] = max[i0];
  }
  return 0;
}

// loop
extern "C" int64_t mul_neg_max(const float* __restrict x, float* __restrict p1) {
  for (int64_t i0 = 0; i0 < 100; ++i0) {
    float max = tw::Limits<float>::low;
    float max_lanes[64];
    for (float& r : max_lanes) r = tw::Limits<float>::low;
    for (int64_t k0_lanes = 0; k0_lanes < 640; k0_lanes += 64) {
      #pragma omp simd
      for (int64_t lane = 0; lane < 64; ++lane) {
        const int64_t k0 = k0_lanes + lane;
        const float x_2 = x[i0 * 700 + k0];
        const float mul = x_2 * x_2;
        const float neg = -mul;
        max_lanes[lane] = tw::maximum(max_lanes[lane], neg);
      }
    }
    #pragma omp simd
    for (int64_t lane = 0; lane < 60; ++lane) {
      const int64_t k0 = 640 + lane;
      const float x_2 = x[i0 * 700 + k0];
      const float mul = x_2 * x_2;
      const float neg = -mul;
      max_lanes[lane] = tw::maximum(max_lanes[lane], neg);
    }
    max = tw::maximum(max, tw::fold(max_lanes, tw::Maximum()));
    p1[i0] = max;
  }
  return 0;
}
