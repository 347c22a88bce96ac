"""le_where_sum_div: loop kernel for sm_90.

le_where_sum_div[(triton.cdiv(s0, ROWS),)](x_ptr, p1_ptr, s0,
    ROWS=128, COLS=8, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def le_where_sum_div(x_ptr, p1_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    v = i0.to(tl.int64)
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 7
    v_2 = k0.to(tl.int64)
    le = v_2 <= v
    x = tl.load(x_ptr + i0 * 7 + k0, mask=i0_mask & k0_mask)
    where = tl.where(le, x, float("-inf"))
    max = tl.reduce(tl.where(k0_mask, where, float("-inf")), 1, tw.maximum, keep_dims=True)
    sub = where - max
    exp = tl.exp(sub)
    sum = tl.sum(tl.where(k0_mask, exp, 0.0), 1, keep_dims=True)
    div = tl.div_rn(exp, sum)
    tl.store(p1_ptr + i0 * 7 + k0, div, mask=i0_mask & k0_mask)
