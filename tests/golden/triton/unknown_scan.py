"""sum_kernel: loop kernel for sm_90.

sum_kernel[(triton.cdiv(s0, ROWS),)](x_ptr, p1_ptr, s0, s1,
    ROWS=64, num_warps=1, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def sum_kernel(x_ptr, p1_ptr, s0, s1, ROWS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    i0_mask = i0 < s0
    sum_running = tl.full((ROWS,), 0.0, tl.float32)
    for k0 in range(0, s1):
        x = tl.load(x_ptr + i0 * s1 + k0, mask=i0_mask)
        sum_running = sum_running + x
        tl.store(p1_ptr + i0 * s1 + k0, sum_running, mask=i0_mask)
