"""and_any_or_all: loop kernel for sm_90.

and_any_or_all[(triton.cdiv(s0, ROWS),)](x_ptr, y_ptr, p2_ptr, p3_ptr, s0,
    ROWS=128, COLS=8, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def and_any_or_all(x_ptr, y_ptr, p2_ptr, p3_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 7
    x = tl.load(x_ptr + i0 * 7 + k0, mask=i0_mask & k0_mask)
    y = tl.load(y_ptr + i0 * 7 + k0, mask=i0_mask & k0_mask)
    and_2 = x & y
    any = tl.reduce(tl.where(k0_mask, and_2, False), 1, tw.either, keep_dims=True)
    tl.store(p2_ptr + i0, any, mask=i0_mask)
    or_2 = x | y
    all = tl.reduce(tl.where(k0_mask, or_2, True), 1, tw.both, keep_dims=True)
    tl.store(p3_ptr + i0, all, mask=i0_mask)
