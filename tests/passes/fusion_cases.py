"""Small functions, one for each way in which ops fuse into a kernel and for each reason why they do not.

`FUSED` cases become as many kernels as they say; `KEPT_APART` cases carry the reason that the report gives.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import SSAValue

from tilewright.ir.builder import Builder
from tilewright.ir.expr import symbol
from tilewright.ir.tw import tensor_type

from .rulecheck import Case

s0, s1 = symbol("s0"), symbol("s1")


@dataclass(frozen=True)
class Fusion:
    """`kernels`: how many regions the case becomes. `reason`: what a remark says about ops that stay apart."""

    case: Case
    kernels: int = 1
    reason: str = ""


def gelu(b: Builder, x: SSAValue, bias: SSAValue) -> SSAValue:
    """x + bias through a tanh gate: maps with maps."""
    dtype = tensor_type(x).dtype
    shifted = b.map("add", x, bias)
    return b.map("mul", shifted, b.map("tanh", b.map("mul", shifted, b.constant(0.5, dtype))))


def sum_of_squares(b: Builder, x: SSAValue) -> SSAValue:
    return b.reduce("sum", b.map("mul", x, x), [1])


def softmax(b: Builder, x: SSAValue, *, dims: tuple[int, ...] = (1,)) -> SSAValue:
    numerator = b.map("exp", b.map("sub", x, b.reduce("max", x, dims)))
    return b.map("div", numerator, b.reduce("sum", numerator, dims))


def layer_norm(b: Builder, x: SSAValue, weight: SSAValue) -> SSAValue:
    """Two reductions, the second over what the first gives; rows of a known length."""
    dtype, length = tensor_type(x).dtype, tensor_type(x).shape[1]
    assert isinstance(length, int)
    part = b.constant(1 / length, dtype)
    centered = b.map("sub", x, b.map("mul", b.reduce("sum", x, [1]), part))
    variance = b.map("mul", b.reduce("sum", b.map("mul", centered, centered), [1]), part)
    scale = b.map("rsqrt", b.map("add", variance, b.constant(1e-5, dtype)))
    return b.map("mul", b.map("mul", centered, scale), weight)


def rms_norm(b: Builder, x: SSAValue, weight: SSAValue, residual: SSAValue) -> list[SSAValue]:
    """In f32 over rows of any dtype; the sum with the residual is a result too."""
    total = b.map("add", x, residual)
    dtype = tensor_type(x).dtype
    wide = b.cast(total, "f32")
    scale = b.map("rsqrt", b.map("add", b.reduce("sum", b.map("mul", wide, wide), [1]), b.constant(1e-6, "f32")))
    return [b.map("mul", b.cast(b.map("mul", wide, scale), dtype), weight), total]


def rotate(b: Builder, x: SSAValue, cosine: SSAValue, sine: SSAValue) -> SSAValue:
    """Rotary positions: halves of a row swap places."""
    left, right = b.slice_dim(x, 1, 0, 4), b.slice_dim(x, 1, 4, 4)
    turned = b.concat([b.map("neg", right), left], 1)
    return b.map("add", b.map("mul", x, cosine), b.map("mul", turned, sine))


def embedding(b: Builder, table: SSAValue, rows: SSAValue, positions: SSAValue) -> SSAValue:
    """A gather at computed positions, an add, a norm over the row."""
    found = b.map("add", b.gather(table, [b.map("maximum", rows, b.constant(0, "i64"))], [0]), positions)
    return softmax(b, found)


def heads(b: Builder, x: SSAValue) -> SSAValue:
    """Rows split into heads and the heads brought forward, scaled on the way."""
    split = b.permute(b.reshape(x, [s0, 2, 3]), [1, 0, 2])
    return b.map("mul", split, b.constant(2.0, "f32"))


def siblings(b: Builder, x: SSAValue) -> list[SSAValue]:
    """Nothing but the input joins them."""
    return [b.map("tanh", x), b.reduce("max", x, [1]), b.reduce("sum", x, [1])]


def windows(b: Builder, x: SSAValue) -> SSAValue:
    """A border, and each element with its neighbour."""
    padded = b.pad(x, [0, 1], [0, 1], 1.0)
    return b.map("add", b.slice_dim(padded, 1, 0, 7), b.slice_dim(padded, 1, 2, 7))


def twice(b: Builder, x: SSAValue) -> list[SSAValue]:
    """A square that two kernels need, which cannot be one: it is computed in both."""
    square = b.map("mul", x, x)
    return [b.reduce("max", square, [0]), b.reduce("max", b.map("neg", square), [1])]


def running(b: Builder, x: SSAValue) -> SSAValue:
    return b.map("mul", b.scan("sum", b.map("abs", x), 1), b.constant(0.5, "f32"))


def causal(b: Builder, x: SSAValue) -> SSAValue:
    """A mask of positions, which costs no memory."""
    rows, columns = b.iota([s0, 1], "i64", 0), b.iota([1, 7], "i64", 1)
    return softmax(b, b.where(b.map("le", columns, rows), x, b.constant(float("-inf"), "f32")))


FUSED: dict[str, Fusion] = {
    "map_map": Fusion(Case("T[s0, 7] T[7]", gelu, "f32 bf16 f16")),
    "map_reduce": Fusion(Case("T[s0, 7]", sum_of_squares, "f32 bf16 i64")),
    "softmax": Fusion(Case("T[s0, s1]", softmax, "f32 bf16")),
    "softmax_of_columns": Fusion(Case("T[5, s0]", lambda b, x: softmax(b, x, dims=(0,)), "f32 bf16")),
    "softmax_of_matrices": Fusion(Case("T[s0, 3, 5]", lambda b, x: softmax(b, x, dims=(1, 2)))),
    "layer_norm": Fusion(Case("T[s0, 19] T[19]", layer_norm, "f32 bf16")),
    "rms_norm": Fusion(Case("T[s0, 19] T[19] T[s0, 19]", rms_norm, "f32 bf16")),
    "reduction_epilogue": Fusion(
        Case("T[s0, 7] T[s0, 1]", lambda b, x, y: b.map("tanh", b.map("add", b.reduce("sum", x, [1]), y)))
    ),
    "column_reduction": Fusion(Case("T[s0, 7]", lambda b, x: b.map("neg", b.reduce("max", x, [0])), "f32 bf16 i64 u8")),
    "siblings": Fusion(Case("T[s0, 1009]", siblings)),
    "views": Fusion(Case("T[s0, 6]", heads)),
    "rotary": Fusion(Case("T[s0, 8] T[s0, 8] T[s0, 8]", rotate, "f32 bf16")),
    "gather": Fusion(Case("T[9, 6] i64[s0] T[s0, 6]", embedding)),
    "pad": Fusion(Case("T[s0, 7]", windows, "f32 i64")),
    "concat": Fusion(
        Case("T[s0, 3] T[s0, 5]", lambda b, x, y: b.map("abs", b.concat([x, b.map("neg", y)], 1)), "f32 i64")
    ),
    "scan": Fusion(Case("T[s0, 7]", running)),
    "mask_of_positions": Fusion(Case("T[s0, 7]", causal)),
    "argmax": Fusion(Case("T[s0, 7]", lambda b, x: b.reduce("argmax", b.map("abs", x), [1]), "f32 i64")),
    "any_and_all": Fusion(Case("bool[s0, 7] bool[s0, 7]", lambda b, x, y: [
        b.reduce("any", b.map("and", x, y), [1]), b.reduce("all", b.map("or", x, y), [1])])),
    "computed_twice": Fusion(Case("T[100, 700]", twice), 2),
}


def through_matmul(b: Builder, x: SSAValue, w: SSAValue) -> SSAValue:
    a = b.map("exp", x)
    return b.map("add", a, b.matmul(a, w))


def other_rows(b: Builder, x: SSAValue) -> SSAValue:
    first = b.map("sub", x, b.reduce("max", x, [1]))
    return b.map("sub", first, b.reduce("max", first, [0]))


def spread(b: Builder, x: SSAValue, rows: SSAValue) -> SSAValue:
    """A costly function of ten elements, read a hundred thousand times."""
    return b.map("neg", b.gather(b.map("lgamma", x), [rows], [0]))


def many_inputs(b: Builder, *inputs: SSAValue) -> SSAValue:
    total = inputs[0]
    for value in inputs[1:]:
        total = b.map("add", total, value)
    return total


def long_chain(b: Builder, x: SSAValue) -> SSAValue:
    for _ in range(60):
        x = b.map("abs", b.map("neg", x))
    return x


def part_of_a_scan(b: Builder, x: SSAValue) -> SSAValue:
    return b.map("neg", b.slice_dim(b.scan("sum", x, 1), 1, 2, 3))


def reversed_rows(b: Builder, x: SSAValue) -> SSAValue:
    """The maximum of a row, added to the last row first."""
    return b.map("add", x, b.slice_dim(b.reduce("max", x, [1]), 0, 4, 5, -1))


def lengths(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    return b.map("add", b.reduce("max", x, [1]), b.reduce("max", y, [1]))


def one_long_row(b: Builder, x: SSAValue) -> list[SSAValue]:
    """All elements are changed and summed up: as one kernel, a single thread would do the work."""
    y = b.map("tanh", x)
    return [y, b.reduce("sum", y, [0])]


KEPT_APART: dict[str, Fusion] = {
    "cycle": Fusion(Case("T[5, 5] T[5, 5]", through_matmul), 2, "something that runs between them"),
    "rows": Fusion(Case("T[5, 6]", other_rows), 2, "reductions over different rows"),
    "recompute": Fusion(Case("T[10] i64[100000]", spread), 2, "flops again to save"),
    "pointers": Fusion(Case(" ".join(["T[40]"] * 26), many_inputs), 2, "more than 24 tensors"),
    "ops": Fusion(Case("T[40]", long_chain), 2, "more than 96 ops"),
    "scan": Fusion(Case("T[5, 7]", part_of_a_scan), 2, "different numbers of elements"),
    "other_row": Fusion(Case("T[5, 6]", reversed_rows), 2, "a reduction's result is read at another row"),
    "lengths": Fusion(Case("T[5, 6] T[5, 7]", lengths), 2, "reductions over different numbers of elements"),
    "few_rows": Fusion(Case("T[1000000]", one_long_row), 2, "too few rows"),
}
