"""add_mul_tanh: loop kernel for sm_90.

add_mul_tanh[(triton.cdiv(s0, ROWS),)](x_ptr, y_ptr, p2_ptr, s0,
    ROWS=128, COLS=8, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton.library import libdevice


@triton.jit
def add_mul_tanh(x_ptr, y_ptr, p2_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i1 = tl.arange(0, COLS)[None, :]
    i1_mask = i1 < 7
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    x = tl.load(x_ptr + i0 * 7 + i1, mask=i0_mask & i1_mask).to(tl.float32)
    y = tl.load(y_ptr + i1, mask=i1_mask).to(tl.float32)
    add = x + y
    mul = add * 0.5
    tanh = libdevice.tanh(mul)
    mul_2 = add * tanh
    tl.store(p2_ptr + i0 * 7 + i1, mul_2, mask=i0_mask & i1_mask)
