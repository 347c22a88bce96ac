// loop
extern "C" int64_t max_sub_sum_div(const bfloat16* __restrict x, bfloat16* __restrict p1, int64_t s0) {
  tw::expect_writes(p1, s0 * 10);
  for (int64_t i0_start = 0; i0_start < s0; i0_start += 4096) {
    const int64_t lanes = tw::index_min(4096, s0 - i0_start);
    float max[4096];
    for (float& r : max) r = tw::Limits<float>::low;
    for (int64_t k0 = 0; k0 < 5; ++k0) {
      #pragma omp simd
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t i0 = i0_start + lane;
        const float x_2 = tw::to_float(x[i0 + k0 * s0]);
        max[lane] = tw::maximum(max[lane], x_2);
      }
    }
    float sum[4096];
    for (float& r : sum) r = 0;
    for (int64_t k0 = 0; k0 < 5; ++k0) {
      #pragma omp simd
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t i0 = i0_start + lane;
        const float x_2 = tw::to_float(x[i0 + k0 * s0]);
        const float sub = x_2 - max[lane];
        const float exp = tw::exp(sub);
        sum[lane] += exp;
      }
    }
    for (int64_t k0 = 0; k0 < 5; ++k0) {
      #pragma omp simd
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t i0 = i0_start + lane;
        const float x_2 = tw::to_float(x[i0 + k0 * s0]);
        const float sub = x_2 - max[lane];
        const float exp = tw::exp(sub);
        const float div = exp / sum[lane];
        p1[i0 + k0 * s0] = tw::round_to<bfloat16>(div);
      }
    }
  }
  return 0;
}
