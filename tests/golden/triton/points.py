"""sigmoid_mul: loop kernel for sm_90.

sigmoid_mul[(8,)](y_ptr, x_ptr, p2_ptr,
    BLOCK=1024, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def sigmoid_mul(y_ptr, x_ptr, p2_ptr, BLOCK: tl.constexpr):
    i0 = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i0).to(tl.float32)
    y = tl.load(y_ptr + i0).to(tl.float32)
    sigmoid = tl.sigmoid(y)
    mul = x * sigmoid
    tl.store(p2_ptr + i0, mul)
