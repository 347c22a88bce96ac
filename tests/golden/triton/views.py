"""mul_kernel: loop kernel for sm_90.

mul_kernel[(triton.cdiv(s0, ROWS) * 2,)](x_ptr, p1_ptr, s0,
    ROWS=256, COLS=4, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def mul_kernel(x_ptr, p1_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    i2 = tl.arange(0, COLS)[None, :]
    i2_mask = i2 < 3
    i1 = (program % tl.cdiv(s0, ROWS)) * ROWS + tl.arange(0, ROWS)[:, None]
    i1_mask = i1 < s0
    i0 = program // tl.cdiv(s0, ROWS)
    x = tl.load(x_ptr + i0 * 3 + i1 * 6 + i2, mask=i1_mask & i2_mask)
    mul = x * 2.0
    tl.store(p1_ptr + i0 * s0 * 3 + i1 * 3 + i2, mul, mask=i1_mask & i2_mask)
