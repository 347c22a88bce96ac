"""Attention as a kernel: at every length and type, with what eager softmax makes of infinities and NaN; what the pass
says; which blocks are skipped. `tests/models/test_attention_corpus.py` has the spellings."""

from __future__ import annotations

import itertools
import math

import torch
from attention_corpus import SPELLINGS
from batched import build_programs, run_passes
from torch.fx.experimental.proxy_tensor import make_fx

from tilewright.codegen.cpp import print_file
from tilewright.codegen.native import load_kernels
from tilewright.decompositions import backend_table
from tilewright.importer import import_graph
from tilewright.ir.interpreter import run, run_kernel
from tilewright.ir.numerics import compare
from tilewright.ir.target import host_cpu
from tilewright.ir.text import parse_ir, print_ir
from tilewright.ir.tile import DotOp, KernelOp

INF = math.inf


def traced(function, *args):
    with torch.no_grad():
        graph = make_fx(function, decomposition_table=backend_table(), tracing_mode="fake")(*args)
    return import_graph(graph).module


def built(functions_and_args, pipeline="default"):
    """Before, the program, and the context, of each function."""
    made = []
    for function, args in functions_and_args:
        before = traced(function, *args)
        after = before.clone()
        made.append((before, after, run_passes(after, pipeline)))
    programs = build_programs([after for _, after, _ in made])
    return [(before, program, context) for (before, _, context), program in zip(made, programs)]


def tensors(*shapes, dtype=torch.float32):
    torch.manual_seed(sum(map(sum, shapes)))
    return [torch.randn(shape).to(dtype) for shape in shapes]


def masked(q, k, v, mask):
    return torch.softmax((q @ k.mT).masked_fill(mask, -INF), -1) @ v


def plain(q, k, v):
    return torch.softmax(q @ k.mT * 0.3, -1) @ v


def check(function, args, before, program, factor=4.0):
    [actual], expected = program(*args), function(*args)
    [exact] = run(before, args, precision="f64")
    problem = compare(actual, expected, exact, "reassociates", factor=factor)
    assert problem is None, problem


LENGTHS = [(1, 2, 1, 1), (2, 3, 8, 16), (64, 256, 16, 16), (65, 257, 17, 15), (63, 513, 1, 33), (130, 31, 40, 64)]


def test_lengths_and_types():
    """Whole blocks, one more and one less than a block, single rows, widths that fill no vector."""
    cases = []
    for queries, keys, inner, width in LENGTHS:
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)[:: 1 if queries == 65 else 4]:
            args = tensors((2, queries, inner), (2, keys, inner), (2, keys, width), dtype=dtype)
            cases.append((plain, args))
    for (function, args), (before, program, context) in zip(cases, built(cases)):
        assert context.statistics["attention"] == {"found": 1}
        check(function, args, before, program)


def test_layouts():
    """Operands and results are read and written where they lie: transposed, with gaps, repeated, in another order."""
    q, k, v = tensors((2, 33, 3, 16), (2, 3, 16, 37), (2, 74, 48))
    cases = [
        (plain, [q.transpose(1, 2), k.mT, v[:, ::2, :].unflatten(-1, (3, 16)).transpose(1, 2)]),
        (plain, [q.transpose(1, 2), k[:, :1].mT.expand(2, 3, 37, 16), v[:1, None, :37, :16].expand(2, 3, 37, 16)]),
        (lambda q, k, v: plain(q, k, v).permute(2, 0, 1, 3).flatten(2), [q.transpose(1, 2), k.mT, k.mT]),
        (lambda q, k, v: plain(q, k, v).mT, [q.transpose(1, 2), k.mT, k.mT]),
    ]
    for (function, args), (before, program, context) in zip(cases, built(cases)):
        assert context.statistics["attention"] == {"found": 1}
        check(function, args, before, program)


def test_infinities_and_nan():
    """Hidden rows, hidden blocks before the first seen key, infinite and NaN scores, and scores that overflow."""
    q, k, v = tensors((70, 8), (600, 8), (600, 8))
    mask = torch.zeros(70, 600, dtype=torch.bool)
    mask[3] = True  # nothing to see
    mask[5, :300] = True  # the first block of keys is hidden
    mask[:, 590:] = True
    strange = q.clone()
    strange[7, 0], strange[8, 0], strange[9] = math.nan, INF, 1e38
    fill = torch.where(mask, torch.finfo(torch.float32).min, 0.0)
    cases = [
        (masked, [q, k, v, mask]), (masked, [strange, k, v, mask]),
        (lambda q, k, v, fill: torch.softmax(q @ k.mT + fill, -1) @ v, [q, k, v, fill]),
    ]
    by_name = {spelling.name: spelling.function for spelling in SPELLINGS}
    for name in ("no_maximum", "log_sum_exp", "padded_zero", "extra_zero", "divided_last", "masked_after"):
        cases.append((by_name[name], [strange, k, v]))
    for (function, args), (before, program, _) in zip(cases, built(cases)):
        [actual], expected = program(*args), function(*args)
        assert torch.equal(actual.isnan(), expected.isnan()) and torch.equal(actual.isinf(), expected.isinf())
        check(function, args, before, program)


def causal(q, k, v, low=-INF, window=None):
    row, column = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])
    seen = column <= row
    if window is not None:
        seen = seen & (column > row - window)
    return torch.softmax((q @ k.mT * 0.3).masked_fill(~seen, low), -1) @ v


LOWEST = torch.finfo(torch.float32).min
SKIPS = [
    (lambda q, k, v: causal(q, k, v), "key <= query"),
    (lambda q, k, v: causal(q, k, v, LOWEST), "key <= query"),
    (lambda q, k, v: causal(q, k, v, window=100), "key >= query - 99, key <= query"),
    (lambda q, k, v: causal(q, k, v, LOWEST, window=100), "key >= query - 99, key <= query"),
    # So small a number does not hide.
    (lambda q, k, v: causal(q, k, v, -100.0), None),
]


def test_blocks_that_a_mask_hides_are_skipped():
    args = tensors((2, 700, 8), (2, 700, 8), (2, 700, 8))
    cases = [(function, args) for function, _ in SKIPS]
    for (function, _), (_, said), (before, program, context) in zip(cases, SKIPS, built(cases)):
        [remark] = [r for r in context.remarks if r.pass_name == "attention"]
        assert ("other blocks are skipped" in remark.message) == (said is not None)
        assert said is None or f"a query sees {said}, other blocks" in remark.message
        computed = {None: 1, "key <= query": 0.55, "key >= query - 99, key <= query": 0.21}[said]
        assert said is None or f"{computed:.0%} of the scores" in remark.message
        check(function, args, before, program)


def test_skipped_keys_are_not_read():
    q, k, v = tensors((700, 8), (700, 8), (700, 8))
    k[512:] = math.nan  # the mask hides them from the first 512 queries
    [(_, program, _)] = built([(lambda q, k, v: causal(q, k, v), [q, k, v])])
    [actual] = program(q, k, v)
    assert actual[:512].isfinite().all() and actual[512:].isnan().all()
    assert torch.equal(actual.isnan(), causal(q, k, v).isnan())


def test_data_in_a_mask_of_large_numbers_keeps_all_blocks():
    """Where padding hides every key that the positions leave, eager softmax sees them all alike."""

    def padded(q, k, v, hidden):
        row, column = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])
        seen = (column <= row) & ~hidden
        return torch.softmax(torch.where(seen, q @ k.mT, LOWEST), -1) @ v

    q, k, v = tensors((300, 8), (300, 8), (300, 8))
    hidden = torch.arange(300) < 20
    [(before, program, _)] = built([(padded, [q, k, v, hidden])])
    check(padded, [q, k, v, hidden], before, program)


def test_every_level_means_the_same():
    """The region, the tile program, and their texts, in the interpreter."""
    spellings = {s.name: s.function for s in SPELLINGS}
    q, k, v = tensors((2, 2, 70, 8), (2, 2, 300, 8), (2, 2, 300, 5))
    for name in ("plain", "sliding_window", "padded_zero"):
        before = traced(spellings[name], q, k, v)
        after = before.clone()
        [expected], [exact] = run(before, [q, k, v]), run(before, [q, k, v], precision="f64")
        for pipeline in ("canonicalize,fold,simplify,cse,dce,attention", "fuse,lower,plan-memory"):
            run_passes(after, pipeline)
            text = print_ir(after)
            assert print_ir(parse_ir(text)) == text
            [actual] = run(parse_ir(text), [q, k, v])
            assert compare(actual, expected, exact, "reassociates") is None
        [kernel] = [op for op in after.ops if isinstance(op, KernelOp)]
        assert kernel.kind.data == "attention" and sum(isinstance(op, DotOp) for op in kernel.walk()) == 2


def test_sizes_that_only_the_call_knows():
    import tilewright

    class Model(torch.nn.Module):
        def forward(self, q, k, v):
            return causal(q, k, v)

    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=4096)
    args = tensors((3, 40, 8), (3, 40, 8), (3, 40, 8))
    shapes = {name: {0: batch, 1: length} for name in ("q", "k", "v")}
    model = tilewright.compile(Model(), tuple(args), dynamic_shapes=shapes)
    assert [kernel.kind for kernel in model.kernels] == ["attention"]
    for size in (2, 63, 64, 65, 257, 300):
        args = tensors((2, size, 8), (2, size, 8), (2, size, 8))
        torch.testing.assert_close(model(*args), causal(*args))


SHAPES = [(1, 1, 1), (3, 5, 2), (8, 48, 16), (9, 49, 17), (4, 64, 3), (31, 100, 40)]
LAYOUTS = {"plain": ("k, 1", "n, 1"), "transposed": ("1, m", "1, k"), "gaps": ("2*k, 2", "2*n, 2")}
TYPES = {"f32": "f32", "f64": "f64", "bf16": "f32", "f16": "f32"}


def dot_kernel(name, dtype, a_strides, b_strides):
    a_strides, b_strides = (
        ", ".join(s if s.isdigit() else f'"{s}"' for s in text.split(", ")) for text in (a_strides, b_strides)
    )
    wide = TYPES[dtype]
    return f"""
      tile.kernel @{name}(%a: !tile.ref<{dtype}>, %b: !tile.ref<{dtype}>, %y: !tile.ref<{wide}>) {{kind = "loop",
          outputs = #tw.dims<[2]>, sizes = ["m", "n", "k"]}} {{
        %one = tile.constant 1.0 : {wide}
        %c = tile.alloc ["112*m"] : {wide}
        tile.for i in ["m"] serial {{ tile.for j in ["n"] serial {{ tile.store %c["112*i + j"], %one }} }}
        tile.dot %c[0] strides [112] += %a[1] strides [{a_strides}] x %b[2] strides [{b_strides}] in ["m", "n", "k"]
        tile.for i in ["m"] serial {{ tile.for j in ["n"] serial {{
          %v = tile.load %c["112*i + j"] : {wide}
          tile.store %y["n*i + j"], %v
        }} }}
      }}"""


def test_a_dot_adds_to_what_is_there():
    """`tile.dot` in C++ and in the interpreter: every layout, type, and length of rows that fills no vector."""
    cases = {f"{layout}_{dtype}": (dtype, *LAYOUTS[layout]) for layout in LAYOUTS for dtype in TYPES}
    text = "builtin.module {" + "".join(dot_kernel(name, *case) for name, case in cases.items()) + "}"
    kernels = {op.sym_name.data: op for op in parse_ir(text).ops}
    functions = load_kernels([print_file(kernels.values(), host_cpu())], list(kernels), host_cpu())
    types = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
    for (name, (dtype, _, _)), (m, n, k) in itertools.product(cases.items(), SHAPES):
        a, b = (torch.randn(count).to(types[dtype]) for count in (m * k * 2 + 1, n * k * 2 + 2))
        y, expected = (torch.empty(m, n, dtype=types[TYPES[dtype]]) for _ in range(2))
        run_kernel(kernels[name], [a, b, expected], {"m": m, "n": n, "k": k})
        assert functions[name](a.data_ptr(), b.data_ptr(), y.data_ptr(), m, n, k) == 0
        torch.testing.assert_close(y, expected, msg=lambda text, name=name: f"{name}: {text}")
