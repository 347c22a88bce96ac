"""max_sub_sum_rsqrt: loop kernel for sm_90.

max_sub_sum_rsqrt[(s0,)](x_ptr, p1_ptr, s0, s1,
    COLS=4096, num_warps=16, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def max_sub_sum_rsqrt(x_ptr, p1_ptr, s0, s1, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64)
    max_lanes = tl.full((COLS,), float("-inf"), tl.float32)
    for k0_start in range(0, s1, COLS):
        k0 = k0_start + tl.arange(0, COLS)
        k0_mask = k0 < s1
        x = tl.load(x_ptr + i0 * s1 + k0, mask=k0_mask, other=float("-inf"), eviction_policy="evict_last")
        max_lanes = tw.maximum(max_lanes, x)
    max = tl.reduce(max_lanes, 0, tw.maximum)
    sum_lanes = tl.full((COLS,), 0.0, tl.float32)
    for k0_start in range(0, s1, COLS):
        k0 = k0_start + tl.arange(0, COLS)
        k0_mask = k0 < s1
        x = tl.load(x_ptr + i0 * s1 + k0, mask=k0_mask, eviction_policy="evict_last")
        sub = x - max
        mul = sub * sub
        sum_lanes = sum_lanes + tl.where(k0_mask, mul, 0.0)
    sum = tl.sum(sum_lanes, 0)
    rsqrt = tl.rsqrt(sum)
    for k0_start in range(0, s1, COLS):
        k0 = k0_start + tl.arange(0, COLS)
        k0_mask = k0 < s1
        x = tl.load(x_ptr + i0 * s1 + k0, mask=k0_mask, eviction_policy="evict_first")
        sub = x - max
        mul = sub * rsqrt
        tl.store(p1_ptr + i0 * s1 + k0, mul, mask=k0_mask)
