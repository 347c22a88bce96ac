"""argmax_kernel: loop kernel for sm_90.

argmax_kernel[(1,)](x_ptr, p1_ptr,
    ROWS=8, COLS=64, num_warps=2, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def argmax_kernel(x_ptr, p1_ptr, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < 5
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 40
    x = tl.load(x_ptr + i0 * 40 + k0, mask=i0_mask & k0_mask)
    v = tl.associative_scan((x, tl.broadcast_to(k0, (ROWS, COLS))), 1, tw.last_max)[1].to(tl.int64)
    tl.store(p1_ptr + i0 * 40 + k0, v, mask=i0_mask & k0_mask)
