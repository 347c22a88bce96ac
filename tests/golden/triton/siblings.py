"""tanh_max_sum: loop kernel for sm_90.

tanh_max_sum[(s0,)](x_ptr, p1_ptr, p2_ptr, p3_ptr, s0,
    COLS=1024, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw
from tilewright.codegen.triton.library import libdevice


@triton.jit
def tanh_max_sum(x_ptr, p1_ptr, p2_ptr, p3_ptr, s0, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64)
    k0 = tl.arange(0, COLS)
    k0_mask = k0 < 1009
    x = tl.load(x_ptr + i0 * 1009 + k0, mask=k0_mask, other=0.0)
    tanh = libdevice.tanh(x)
    tl.store(p1_ptr + i0 * 1009 + k0, tanh, mask=k0_mask)
    max = tl.reduce(tl.where(k0_mask, x, float("-inf")), 0, tw.maximum)
    tl.store(p2_ptr + i0, max)
    sum = tl.sum(x, 0)
    tl.store(p3_ptr + i0, sum)
