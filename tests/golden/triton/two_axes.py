"""sum_kernel: loop kernel for sm_90.

sum_kernel[(1,)](x_ptr, p1_ptr,
    ROWS=8, COLS_0=8, COLS=8, num_warps=2, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def sum_kernel(x_ptr, p1_ptr, ROWS: tl.constexpr, COLS_0: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.arange(0, ROWS)[:, None, None]
    i0_mask = i0 < 5
    k0 = tl.arange(0, COLS_0)[None, :, None]
    k0_mask = k0 < 6
    k1 = tl.arange(0, COLS)[None, None, :]
    k1_mask = k1 < 7
    x = tl.load(x_ptr + i0 * 7 + k0 * 35 + k1, mask=i0_mask & k0_mask & k1_mask, other=0.0)
    sum = tl.sum(tl.sum(x, 1, keep_dims=True), 2, keep_dims=True)
    tl.store(p1_ptr + i0, sum, mask=i0_mask)
