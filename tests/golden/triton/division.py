"""floor_div: loop kernel for sm_90.

floor_div[(1,)](x_ptr, y_ptr, p2_ptr, failed_ptr,
    BLOCK=64, num_warps=1, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def floor_div(x_ptr, y_ptr, p2_ptr, failed_ptr, BLOCK: tl.constexpr):
    i0 = tl.arange(0, BLOCK)
    i0_mask = i0 < 40
    x = tl.load(x_ptr + i0, mask=i0_mask)
    y = tl.load(y_ptr + i0, mask=i0_mask)
    tw.report(failed_ptr, 1, i0_mask & (y == 0))
    floor_div_2 = tw.floor_div(x, y)
    tl.store(p2_ptr + i0, floor_div_2, mask=i0_mask)
