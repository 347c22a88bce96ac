// loop
extern "C" int64_t gather(
    const float* __restrict table,
    const int64_t* __restrict rows,
    float* __restrict y,
    int64_t s0,
    int64_t s1) {
  int64_t failed = 0;
  tw::expect_writes(y, s0 * s1 * 4);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 4 + s0 * s1 * 8 >= tw::parallel_work) reduction(| : failed)
  for (int64_t i0 = 0; i0 < s0; ++i0) {
    const int64_t row = rows[i0];
    const int64_t j0_wrapped = row < 0 ? row + 100 : row;
    const bool j0_in_range = tw::in_range(j0_wrapped, 100);
    failed |= j0_in_range ? 0 : 1;
    const int64_t j0 = j0_in_range ? j0_wrapped : 0;
    #pragma omp simd
    for (int64_t i1 = 0; i1 < s1; ++i1) {
      const float a = table[i1 + j0 * s1];
      y[i0 * s1 + i1] = a;
    }
  }
  return failed;
}
