// loop
extern "C" int64_t pad_add(const int64_t* __restrict x, int64_t* __restrict p1, int64_t s0) {
  tw::expect_writes(p1, s0 * 56);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 105 >= tw::parallel_work)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    #pragma omp simd
    for (int64_t i1 = 0; i1 < 7; ++i1) {
      const int64_t x_2 = i1 >= 1 ? x[i0 * 7 + i1 - 1] : int64_t(0);
      const bool v = i1 >= 1;
      const int64_t where = v ? x_2 : int64_t(1);
      const int64_t x_3 = 5 >= i1 ? x[i0 * 7 + i1 + 1] : int64_t(0);
      const bool v_2 = 5 >= i1;
      const int64_t where_2 = v_2 ? x_3 : int64_t(1);
      const int64_t add = where + where_2;
      p1[i0 * 7 + i1] = add;
    }
  }
  return 0;
}
