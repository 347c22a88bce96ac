"""max_sub: loop kernel for sm_90.

max_sub[(3,)](x_ptr, p1_ptr,
    COLS=4096, num_warps=16, num_stages=1, enable_fp_fusion=False)
"""

import triton
import triton.language as tl

from tilewright.codegen.triton import library as tw


@triton.jit
def max_sub(x_ptr, p1_ptr, COLS: tl.constexpr):
    i0 = tl.program_id(0)
    max_lanes = tl.full((COLS,), float("-inf"), tl.float32)
    for k0_start in range(0, 40000, COLS):
        k0 = k0_start + tl.arange(0, COLS)
        k0_mask = k0 < 40000
        x = tl.load(x_ptr + i0 * 40000 + k0, mask=k0_mask, other=float("-inf"), eviction_policy="evict_last").to(tl.float32)
        max_lanes = tw.maximum(max_lanes, x)
    max = tl.reduce(max_lanes, 0, tw.maximum)
    for k0_start in range(0, 40000, COLS):
        k0 = k0_start + tl.arange(0, COLS)
        k0_mask = k0 < 40000
        x = tl.load(x_ptr + i0 * 40000 + k0, mask=k0_mask, eviction_policy="evict_first").to(tl.float32)
        sub = x - max
        tl.store(p1_ptr + i0 * 40000 + k0, sub, mask=k0_mask)
