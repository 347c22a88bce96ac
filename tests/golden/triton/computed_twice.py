"""mul_max: loop kernel for sm_90.

mul_max[(11,)](x_ptr, p1_ptr,
    ROWS=64, COLS=128, num_warps=16, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def mul_max(x_ptr, p1_ptr, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < 700
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 100
    x = tl.load(x_ptr + i0 + k0 * 700, mask=i0_mask & k0_mask)
    mul = x * x
    max = tl.reduce(tl.where(k0_mask, mul, float("-inf")), 1, tw.maximum, keep_dims=True)
    tl.store(p1_ptr + i0, max, mask=i0_mask)


"""mul_neg_max: loop kernel for sm_90.

mul_neg_max[(100,)](x_ptr, p1_ptr,
    COLS=1024, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def mul_neg_max(x_ptr, p1_ptr, COLS: tl.constexpr):
    i0 = tl.program_id(0)
    k0 = tl.arange(0, COLS)
    k0_mask = k0 < 700
    x = tl.load(x_ptr + i0 * 700 + k0, mask=k0_mask)
    mul = x * x
    neg = -mul
    max = tl.reduce(tl.where(k0_mask, neg, float("-inf")), 0, tw.maximum)
    tl.store(p1_ptr + i0, max)
