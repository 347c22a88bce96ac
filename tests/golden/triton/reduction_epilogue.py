"""sum_add_tanh: loop kernel for sm_90.

sum_add_tanh[(triton.cdiv(s0, ROWS),)](x_ptr, y_ptr, p2_ptr, s0,
    ROWS=128, COLS=8, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton.library import libdevice


@triton.jit
def sum_add_tanh(x_ptr, y_ptr, p2_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    y = tl.load(y_ptr + i0, mask=i0_mask)
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 7
    x = tl.load(x_ptr + i0 * 7 + k0, mask=i0_mask & k0_mask, other=0.0)
    sum = tl.sum(x, 1, keep_dims=True)
    add = sum + y
    tanh = libdevice.tanh(add)
    tl.store(p2_ptr + i0, tanh, mask=i0_mask)
