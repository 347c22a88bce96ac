"""add_mul_sum_rsqrt: loop kernel for sm_90.

add_mul_sum_rsqrt[(triton.cdiv(s0, ROWS),)](x_ptr, z_ptr, y_ptr, p3_ptr, p4_ptr, s0,
    ROWS=32, COLS=32, num_warps=4, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def add_mul_sum_rsqrt(x_ptr, z_ptr, y_ptr, p3_ptr, p4_ptr, s0, ROWS: tl.constexpr, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    i0_mask = i0 < s0
    k0 = tl.arange(0, COLS)[None, :]
    k0_mask = k0 < 19
    x = tl.load(x_ptr + i0 * 19 + k0, mask=i0_mask & k0_mask).to(tl.float32)
    z = tl.load(z_ptr + i0 * 19 + k0, mask=i0_mask & k0_mask).to(tl.float32)
    add = x + z
    tl.store(p3_ptr + i0 * 19 + k0, add, mask=i0_mask & k0_mask)
    mul = add * add
    sum = tl.sum(tl.where(k0_mask, mul, 0.0), 1, keep_dims=True)
    add_2 = sum + 1e-06
    rsqrt = tl.rsqrt(add_2)
    mul_2 = add * rsqrt
    cast = mul_2.to(tl.bfloat16)
    cast_2 = cast.to(tl.float32)
    y = tl.load(y_ptr + k0, mask=k0_mask).to(tl.float32)
    mul_3 = cast_2 * y
    tl.store(p4_ptr + i0 * 19 + k0, mul_3, mask=i0_mask & k0_mask)
