"""mul_sum: loop kernel for sm_90.

mul_sum[(triton.cdiv(s0, ROWS),)](x_ptr, p1_ptr, s0,
    ROWS=128, COLS=8, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def mul_sum(x_ptr, p1_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 7
    x = tl.load(x_ptr + i0 * 7 + k0, mask=i0_mask & k0_mask)
    mul = x * x
    sum = tl.sum(tl.where(k0_mask, mul, 0), 1, keep_dims=True)
    tl.store(p1_ptr + i0, sum, mask=i0_mask)
