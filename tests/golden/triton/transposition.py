"""exp_kernel: loop kernel for sm_90.

exp_kernel[(4,)](x_ptr, p1_ptr,
    ROWS=32, COLS=32, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def exp_kernel(x_ptr, p1_ptr, ROWS: tl.constexpr, COLS: tl.constexpr):
    program = tl.program_id(0)
    i1 = (program % 2) * COLS + tl.arange(0, COLS)[None, :]
    i1_mask = i1 < 40
    i0 = (program // 2) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < 50
    x = tl.load(x_ptr + i0 + i1 * 50, mask=i0_mask & i1_mask)
    exp = tl.exp(x)
    tl.store(p1_ptr + i0 * 40 + i1, exp, mask=i0_mask & i1_mask)
