"""scatter_kernel: loop kernel for sm_90.

scatter_kernel[(1,)](x_ptr, x_ptr_2,
    BLOCK=512, num_warps=2, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl


@triton.jit
def scatter_kernel(x_ptr, x_ptr_2, BLOCK: tl.constexpr):
    i0 = tl.arange(0, BLOCK)
    i0_mask = i0 < 360
    x = tl.load(x_ptr + i0, mask=i0_mask)
    tl.store(x_ptr_2 + i0, x, mask=i0_mask)


"""scatter_kernel_2: loop kernel for sm_90.

scatter_kernel_2[(1,)](y_ptr, z_ptr, p2_ptr, s0, failed_ptr,
    BLOCK=64, num_warps=1, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def scatter_kernel_2(y_ptr, z_ptr, p2_ptr, s0, failed_ptr, BLOCK: tl.constexpr):
    i1 = tl.arange(0, BLOCK)
    i1_mask = i1 < 40
    for i0 in range(0, s0):
        z = tl.load(z_ptr + i0)
        j0 = tl.where(z < 0, z + 9, z)
        j0_in_range = (j0 >= 0) & (j0 < 9)
        tw.report(failed_ptr, 0, ~j0_in_range)
        j0 = tl.where(j0_in_range, j0, 0)
        y = tl.load(y_ptr + i0 * 40 + i1, mask=i1_mask)
        old = tl.load(p2_ptr + i1 + j0 * 40, mask=i1_mask & j0_in_range)
        tl.store(p2_ptr + i1 + j0 * 40, old + y, mask=i1_mask & j0_in_range)
