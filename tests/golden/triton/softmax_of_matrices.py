"""max_sub_sum_div: loop kernel for sm_90.

max_sub_sum_div[(triton.cdiv(s0, ROWS),)](x_ptr, p1_ptr, s0,
    ROWS=64, COLS=16, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def max_sub_sum_div(x_ptr, p1_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 15
    x = tl.load(x_ptr + i0 * 15 + k0, mask=i0_mask & k0_mask, other=float("-inf"))
    max = tl.reduce(x, 1, tw.maximum, keep_dims=True)
    sub = x - max
    exp = tl.exp(sub)
    sum = tl.sum(tl.where(k0_mask, exp, 0.0), 1, keep_dims=True)
    div = tl.div_rn(exp, sum)
    tl.store(p1_ptr + i0 * 15 + k0, div, mask=i0_mask & k0_mask)
