"""max_kernel: loop kernel for sm_90.

max_kernel[(1,)](x_ptr, p1_ptr,
    ROWS=64, COLS=32, num_warps=8, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def max_kernel(x_ptr, p1_ptr, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < 40
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 30
    x = tl.load(x_ptr + i0 + k0 * 40, mask=i0_mask & k0_mask)
    v = tl.associative_scan(x, 1, tw.maximum)
    tl.store(p1_ptr + i0 + k0 * 40, v, mask=i0_mask & k0_mask)
