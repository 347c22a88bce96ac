// loop
extern "C" int64_t total(
    const float* __restrict x,
    float* __restrict sum,
    int64_t* __restrict position,
    int32_t* __restrict low,
    int64_t s0) {
  const int64_t i_blocks = (s0 + 1023) / 1024;
  float* __restrict s_of_blocks = tw::scratch<float, 0>(i_blocks);
  int64_t* __restrict p_of_blocks = tw::scratch<int64_t, 1>(i_blocks);
  float* __restrict p_best_of_blocks = tw::scratch<float, 2>(i_blocks);
  int32_t* __restrict l_of_blocks = tw::scratch<int32_t, 3>(i_blocks);
  #pragma omp parallel for schedule(static) if (parallel : s0 * 5 >= tw::parallel_work)
  for (int64_t i_block = 0; i_block < i_blocks; ++i_block) {
    const int64_t i_start = i_block * 1024;
    const int64_t i_stop = tw::index_min(i_start + 1024, s0);
    float s_of_block = 0;
    int64_t p_of_block = 0;
    float p_best_of_block = tw::Limits<float>::low;
    int32_t l_of_block = tw::Limits<int32_t>::high;
    for (int64_t i = i_start; i < i_stop; ++i) {
      const float a = x[i];
      const int32_t n = int32_t(a);
      s_of_block += a;
      if (tw::beats_max(a, p_best_of_block)) p_best_of_block = a, p_of_block = i;
      l_of_block = tw::minimum(l_of_block, n);
    }
    s_of_blocks[i_block] = s_of_block;
    p_of_blocks[i_block] = p_of_block;
    p_best_of_blocks[i_block] = p_best_of_block;
    l_of_blocks[i_block] = l_of_block;
  }
  double s = 0;
  int64_t p = 0;
  float p_best = tw::Limits<float>::low;
  int32_t l = tw::Limits<int32_t>::high;
  for (int64_t i_block = 0; i_block < i_blocks; ++i_block) {
    s += s_of_blocks[i_block];
    if (tw::beats_max(p_best_of_blocks[i_block], p_best)) p_best = p_best_of_blocks[i_block], p = p_of_blocks[i_block];
    l = tw::minimum(l, l_of_blocks[i_block]);
  }
  sum[0] = float(s);
  position[0] = p;
  low[0] = l;
  return 0;
}
