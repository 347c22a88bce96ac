// loop
extern "C" int64_t neg_concat_abs(
    const int64_t* __restrict y,
    const int64_t* __restrict x,
    int64_t* __restrict p2,
    int64_t s0) {
  tw::expect_writes(p2, s0 * 64);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 120 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    #pragma omp simd
    for (int64_t i1 = 0; i1 < 8; ++i1) {
      const int64_t x_2 = 2 >= i1 ? x[i0 * 3 + i1] : int64_t(0);
      const int64_t y_2 = i1 >= 3 ? y[i0 * 5 + i1 - 3] : int64_t(0);
      const int64_t neg = -y_2;
      const bool v = 2 >= i1;
      const int64_t where = v ? x_2 : neg;
      const int64_t abs = tw::abs(where);
      p2[i0 * 8 + i1] = abs;
    }
  }
  return 0;
}
