"""mul_sum: loop kernel for sm_90.

mul_sum[(2,)](x_ptr, p1_ptr,
    ROWS=64, COLS=32, num_warps=8, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def mul_sum(x_ptr, p1_ptr, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < 96
    sum_lanes = tl.full((ROWS, COLS), 0.0, tl.float32)
    for k0_start in range(0, 700, COLS):
        k0 = k0_start + tl.arange(0, COLS)[None, :]
        k0_mask = k0 < 700
        x = tl.load(x_ptr + i0 + k0 * 96, mask=i0_mask & k0_mask, eviction_policy="evict_first").to(tl.float32)
        mul = x * x
        sum_lanes = sum_lanes + tl.where(k0_mask, mul, 0.0)
    sum = tl.sum(sum_lanes, 1, keep_dims=True)
    tl.store(p1_ptr + i0, sum, mask=i0_mask)
