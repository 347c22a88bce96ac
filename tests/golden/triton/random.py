"""philox_kernel: loop kernel for sm_90.

philox_kernel[(1,)](x_ptr, y_ptr, p2_ptr,
    BLOCK=256, num_warps=1, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def philox_kernel(x_ptr, y_ptr, p2_ptr, BLOCK: tl.constexpr):
    i0 = tl.arange(0, BLOCK)
    i0_mask = i0 < 200
    x = tl.load(x_ptr)
    y = tl.load(y_ptr + i0, mask=i0_mask)
    philox = tw.philox(x, tl.full([], 3, tl.int64), y).to(tl.int64)
    tl.store(p2_ptr + i0, philox, mask=i0_mask)
