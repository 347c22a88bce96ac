"""max_sub_sum_div: loop kernel for sm_90.

max_sub_sum_div[(s0,)](x_ptr, p1_ptr, s0, s1,
    COLS=4096, num_warps=16, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def max_sub_sum_div(x_ptr, p1_ptr, s0, s1, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64)
    max_lanes = tl.full((COLS,), float("-inf"), tl.float32)
    for k0_start in range(0, s1, COLS):
        k0 = k0_start + tl.arange(0, COLS)
        k0_mask = k0 < s1
        x = tl.load(x_ptr + i0 * s1 + k0, mask=k0_mask, other=float("-inf"), eviction_policy="evict_last").to(tl.float32)
        max_lanes = tw.maximum(max_lanes, x)
    max = tl.reduce(max_lanes, 0, tw.maximum)
    sum_lanes = tl.full((COLS,), 0.0, tl.float32)
    for k0_start in range(0, s1, COLS):
        k0 = k0_start + tl.arange(0, COLS)
        k0_mask = k0 < s1
        x = tl.load(x_ptr + i0 * s1 + k0, mask=k0_mask, eviction_policy="evict_last").to(tl.float32)
        sub = x - max
        exp = tl.exp(sub)
        sum_lanes = sum_lanes + tl.where(k0_mask, exp, 0.0)
    sum = tl.sum(sum_lanes, 0)
    for k0_start in range(0, s1, COLS):
        k0 = k0_start + tl.arange(0, COLS)
        k0_mask = k0 < s1
        x = tl.load(x_ptr + i0 * s1 + k0, mask=k0_mask, eviction_policy="evict_first").to(tl.float32)
        sub = x - max
        exp = tl.exp(sub)
        div = tl.div_rn(exp, sum)
        tl.store(p1_ptr + i0 * s1 + k0, div, mask=k0_mask)
