"""pad_add: loop kernel for sm_90.

pad_add[(triton.cdiv(s0, ROWS),)](x_ptr, p1_ptr, s0,
    ROWS=128, COLS=8, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def pad_add(x_ptr, p1_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i1 = tl.arange(0, COLS)[None, :]
    i1_mask = i1 < 7
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    x = tl.load(x_ptr + i0 * 7 + i1 - 1, mask=i0_mask & i1_mask & (i1 >= 1), other=0)
    v = i1 >= 1
    where = tl.where(v, x, 1)
    x_2 = tl.load(x_ptr + i0 * 7 + i1 + 1, mask=i0_mask & i1_mask & (i1 < 6), other=0)
    v_2 = i1 < 6
    where_2 = tl.where(v_2, x_2, 1)
    add = where + where_2
    tl.store(p1_ptr + i0 * 7 + i1, add, mask=i0_mask & i1_mask)
