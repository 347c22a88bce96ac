"""gather_kernel: loop kernel for sm_90.

gather_kernel[(triton.cdiv(s0, ROWS),)](x_ptr, y_ptr, p2_ptr, s0, failed_ptr,
    ROWS=16, COLS=64, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def gather_kernel(x_ptr, y_ptr, p2_ptr, s0, failed_ptr, ROWS: tl.constexpr, COLS: tl.constexpr):
    i1 = tl.arange(0, COLS)[None, :]
    i1_mask = i1 < 40
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    y = tl.load(y_ptr + i0, mask=i0_mask)
    cast = y.to(tl.int64)
    j0 = tl.where(cast < 0, cast + 50, cast)
    j0_in_range = (j0 >= 0) & (j0 < 50)
    tw.report(failed_ptr, 0, i0_mask & ~j0_in_range)
    j0 = tl.where(j0_in_range, j0, 0)
    x = tl.load(x_ptr + i1 + j0 * 40, mask=i0_mask & i1_mask).to(tl.float32)
    tl.store(p2_ptr + i0 * 40 + i1, x, mask=i0_mask & i1_mask)
