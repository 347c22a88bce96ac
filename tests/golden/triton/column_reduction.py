"""max_neg: loop kernel for sm_90.

max_neg[(1,)](x_ptr, p1_ptr, s0,
    ROWS=8, COLS=32, num_warps=1, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def max_neg(x_ptr, p1_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < 7
    max_lanes = tl.full((ROWS, COLS), 0, tl.uint8)
    for k0_start in range(0, s0, COLS):
        k0 = k0_start + tl.arange(0, COLS)[None, :]
        k0_mask = k0 < s0
        x = tl.load(x_ptr + i0 + k0 * 7, mask=i0_mask & k0_mask, other=0, eviction_policy="evict_first")
        max_lanes = tw.maximum(max_lanes, x)
    max = tl.reduce(max_lanes, 1, tw.maximum, keep_dims=True)
    neg = -max
    tl.store(p1_ptr + i0, neg, mask=i0_mask)
