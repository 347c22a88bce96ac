// loop
extern "C" int64_t max_neg(const uint8_t* __restrict x, uint8_t* __restrict p1, int64_t s0) {
  const int64_t k0_blocks = (s0 + 63) / 64;
  uint8_t* __restrict max_of_blocks = tw::scratch<uint8_t, 0>(k0_blocks * 7);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 28 >= tw::parallel_work)
  for (int64_t k0_block = 0; k0_block < k0_blocks; ++k0_block) {
    const int64_t k0_first = k0_block * 64;
    const int64_t k0_last = tw::index_min(k0_first + 64, s0);
    uint8_t max[7];
    for (uint8_t& r : max) r = tw::Limits<uint8_t>::low;
    for (int64_t k0 = k0_first; k0 < k0_last; ++k0) {
      #pragma omp simd
      for (int64_t i0 = 0; i0 < 7; ++i0) {
        const uint8_t x_2 = x[i0 + k0 * 7];
        max[i0] = tw::maximum(max[i0], x_2);
      }
    }
    #pragma omp simd
    for (int64_t i0 = 0; i0 < 7; ++i0) {
      max_of_blocks[k0_block * 7 + i0] = max[i0];
    }
  }
  uint8_t max[7];
  for (uint8_t& r : max) r = tw::Limits<uint8_t>::low;
  for (int64_t k0_block = 0; k0_block < k0_blocks; ++k0_block) {
    for (int64_t i0 = 0; i0 < 7; ++i0) {
      max[i0] = tw::maximum(max[i0], max_of_blocks[k0_block * 7 + i0]);
    }
  }
  #pragma omp simd
  for (int64_t i0 = 0; i0 < 7; ++i0) {
    const uint8_t neg = -max[i0];
    p1[i0] = neg;
  }
  return 0;
}
