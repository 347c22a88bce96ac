"""neg_concat_mul_add: loop kernel for sm_90.

neg_concat_mul_add[(triton.cdiv(s0, ROWS),)](x_ptr, y_ptr, z_ptr, p3_ptr, s0,
    ROWS=128, COLS=8, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def neg_concat_mul_add(x_ptr, y_ptr, z_ptr, p3_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i1 = tl.arange(0, COLS)[None, :]
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    x = tl.load(x_ptr + i0 * 8 + i1, mask=i0_mask).to(tl.float32)
    y = tl.load(y_ptr + i0 * 8 + i1, mask=i0_mask).to(tl.float32)
    mul = x * y
    x_2 = tl.load(x_ptr + i0 * 8 + i1 + 4, mask=i0_mask & (i1 < 4), other=0.0).to(tl.float32)
    neg = -x_2
    x_3 = tl.load(x_ptr + i0 * 8 + i1 - 4, mask=i0_mask & (i1 >= 4), other=0.0).to(tl.float32)
    v = i1 < 4
    where = tl.where(v, neg, x_3)
    z = tl.load(z_ptr + i0 * 8 + i1, mask=i0_mask).to(tl.float32)
    mul_2 = where * z
    add = mul + mul_2
    tl.store(p3_ptr + i0 * 8 + i1, add, mask=i0_mask)
