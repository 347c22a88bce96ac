// loop
extern "C" int64_t mul_max(const float* __restrict x, float* __restrict p1) {
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
extern "C" int64_t mul_neg_max(const float* __restrict x, float* __restrict p1) {
  for (int64_t i0 = 0; i0 < 100; ++i0) {
    float max = tw::Limits<float>::low;
    #pragma omp simd reduction(maximum : max)
    for (int64_t k0 = 0; k0 < 700; ++k0) {
      const float x_2 = x[i0 * 700 + k0];
      const float mul = x_2 * x_2;
      const float neg = -mul;
      max = tw::maximum(max, neg);
    }
    p1[i0] = max;
  }
  return 0;
}
