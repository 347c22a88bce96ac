// loop
extern "C" int64_t and_any_or_all(
    const uint8_t* __restrict x,
    const uint8_t* __restrict y,
    uint8_t* __restrict p2,
    uint8_t* __restrict p3,
    int64_t s0) {
  tw::expect_writes(p2, s0);
  tw::expect_writes(p3, s0);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 78 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    bool any = false;
    bool all = true;
    #pragma omp simd reduction(|| : any) reduction(&& : all)
    for (int64_t k0 = 0; k0 < 7; ++k0) {
      const bool x_2 = x[i0 * 7 + k0] != 0;
      const bool y_2 = y[i0 * 7 + k0] != 0;
      const bool and_2 = x_2 & y_2;
      const bool or_2 = x_2 | y_2;
      any = any || and_2;
      all = all && or_2;
    }
    p2[i0] = uint8_t(any);
    p3[i0] = uint8_t(all);
  }
  return 0;
}
