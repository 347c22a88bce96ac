// loop
extern "C" int64_t max_neg(const uint8_t* __restrict x, uint8_t* __restrict p1, int64_t s0) {
  uint8_t max[7];
  for (uint8_t& r : max) r = tw::Limits<uint8_t>::low;
  for (int64_t k0 = 0; k0 < s0; ++k0) {
    #pragma omp simd
    for (int64_t i0 = 0; i0 < 7; ++i0) {
      const uint8_t x_2 = x[i0 + k0 * 7];
      max[i0] = tw::maximum(max[i0], x_2);
    }
  }
  #pragma omp simd
  for (int64_t i0 = 0; i0 < 7; ++i0) {
    const uint8_t neg = -max[i0];
    p1[i0] = neg;
  }
  return 0;
}
