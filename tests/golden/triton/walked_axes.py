"""max_kernel: loop kernel for sm_90.

max_kernel[(5,)](x_ptr, p1_ptr, s0, s1,
    COLS=4096, num_warps=16, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def max_kernel(x_ptr, p1_ptr, s0, s1, COLS: tl.constexpr):
    i0 = tl.program_id(0)
    max = tl.full([], float("-inf"), tl.float32)
    for k0 in range(0, s0):
        max_lanes = tl.full((COLS,), float("-inf"), tl.float32)
        for k1_start in range(0, s1, COLS):
            k1 = k1_start + tl.arange(0, COLS)
            k1_mask = k1 < s1
            x = tl.load(x_ptr + i0 * s1 + k0 * s1 * 5 + k1, mask=k1_mask, other=float("-inf"), eviction_policy="evict_first")
            max_lanes = tw.maximum(max_lanes, x)
        max_2 = tl.reduce(max_lanes, 0, tw.maximum)
        max = tw.maximum(max, max_2)
    tl.store(p1_ptr + i0, max)
