"""argmax_kernel: loop kernel for sm_90.

argmax_kernel[(s0,)](x_ptr, p1_ptr, s0, s1,
    COLS=4096, num_warps=16, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def argmax_kernel(x_ptr, p1_ptr, s0, s1, COLS: tl.constexpr):
    i0 = tl.program_id(0).to(tl.int64)
    argmax_best = tl.full((COLS,), float("-inf"), tl.float32)
    argmax_lanes = tl.full((COLS,), 0, tl.int64)
    for k0_start in range(0, s1, COLS):
        k0 = k0_start + tl.arange(0, COLS)
        k0_mask = k0 < s1
        x = tl.load(x_ptr + i0 * s1 + k0, mask=k0_mask, other=float("-inf"), eviction_policy="evict_first")
        argmax_best, argmax_lanes = tw.first_max(argmax_best, argmax_lanes, x, k0)
    argmax = tl.reduce((argmax_best, argmax_lanes), 0, tw.first_max)[1]
    tl.store(p1_ptr + i0, argmax)
