"""maximum_gather_sum_div: loop kernel for sm_90.

maximum_gather_sum_div[(triton.cdiv(s0, ROWS),)](y_ptr, x_ptr, z_ptr, p3_ptr, s0, failed_ptr,
    ROWS=128, COLS=8, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def maximum_gather_sum_div(y_ptr, x_ptr, z_ptr, p3_ptr, s0, failed_ptr, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    y = tl.load(y_ptr + i0, mask=i0_mask)
    maximum = tw.maximum(y, 0)
    j0 = tl.where(maximum < 0, maximum + 9, maximum)
    j0_in_range = (j0 >= 0) & (j0 < 9)
    tw.report(failed_ptr, 0, i0_mask & ~j0_in_range)
    j0 = tl.where(j0_in_range, j0, 0)
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 6
    x = tl.load(x_ptr + j0 * 6 + k0, mask=i0_mask & k0_mask)
    z = tl.load(z_ptr + i0 * 6 + k0, mask=i0_mask & k0_mask)
    add = x + z
    max = tl.reduce(tl.where(k0_mask, add, float("-inf")), 1, tw.maximum, keep_dims=True)
    sub = add - max
    exp = tl.exp(sub)
    sum = tl.sum(tl.where(k0_mask, exp, 0.0), 1, keep_dims=True)
    div = tl.div_rn(exp, sum)
    tl.store(p3_ptr + i0 * 6 + k0, div, mask=i0_mask & k0_mask)
