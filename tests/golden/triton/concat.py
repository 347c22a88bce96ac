"""neg_concat_abs: loop kernel for sm_90.

neg_concat_abs[(triton.cdiv(s0, ROWS),)](y_ptr, x_ptr, p2_ptr, s0,
    ROWS=128, COLS=8, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def neg_concat_abs(y_ptr, x_ptr, p2_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i1 = tl.arange(0, COLS)[None, :]
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    x = tl.load(x_ptr + i0 * 3 + i1, mask=i0_mask & (i1 < 3), other=0)
    y = tl.load(y_ptr + i0 * 5 + i1 - 3, mask=i0_mask & (i1 >= 3), other=0)
    neg = -y
    v = i1 < 3
    where = tl.where(v, x, neg)
    abs = tl.abs(where)
    tl.store(p2_ptr + i0 * 8 + i1, abs, mask=i0_mask)
