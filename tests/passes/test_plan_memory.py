"""Memory planning: what is alive together never shares a byte, what is not does, and nothing changes."""

from __future__ import annotations

import pytest
import torch
from batched import run_passes
from hypothesis import given
from hypothesis import strategies as st

from tilewright.ir import prog
from tilewright.ir.dtypes import itemsize
from tilewright.ir.expr import evaluate, symbol
from tilewright.ir.interpreter import run
from tilewright.passes.lowering.indexing import span
from tilewright.passes.memory_plan import ALIGNMENT, Lifetime, align, place

from .random_modules import random_module
from .rulecheck import Case, assert_same_bits, case_module

s0, s1 = symbol("s0"), symbol("s1")


def buffers(module):
    return [op for op in module.walk() if isinstance(op, prog.BufferOp)]


def arena_size(module, sizes):
    arenas = [op for op in module.walk() if isinstance(op, prog.ArenaOp)]
    return evaluate(arenas[0].size.data[0], sizes) if arenas else 0


def assert_no_overlap(module, sizes):
    """By the lifetimes and bytes that the buffers state."""
    placed = []
    for op in buffers(module):
        type = prog.buffer_type(op.result)
        size = evaluate(span(type.shape, type.strides), sizes) * itemsize(type.dtype)
        start = evaluate(op.offset.data[0], sizes)
        assert start % ALIGNMENT == 0 and start + size <= arena_size(module, sizes)
        placed.append((start, start + size, *op.live.ints()))
    for i, (start, end, first, last) in enumerate(placed):
        for other_start, other_end, other_first, other_last in placed[:i]:
            together = first <= other_last and other_first <= last
            assert not together or end <= other_start or other_end <= start


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_keep_every_bit_and_share_nothing_alive(seed):
    made = random_module(seed)
    inputs = made.inputs()
    run_passes(made.module, "fuse{merge=false},lower")
    before = run(made.module, inputs)
    run_passes(made.module, "plan-memory")
    assert not any(isinstance(op, prog.AllocOp) for op in made.module.walk())
    assert_no_overlap(made.module, made.sizes)
    assert_same_bits(before, run(made.module, inputs))


def test_a_long_chain_needs_two_places():
    def build(b, x):
        for _ in range(20):
            x = b.map("tanh", x)
        return x

    module = case_module(Case("T[1000]", build), "f32")
    context = run_passes(module, "fuse{merge=false},lower,plan-memory")
    assert arena_size(module, {}) == 2 * 4032  # 1000 floats, to the next 64 bytes
    assert context.statistics["plan-memory"] == {
        "temporaries": 19, "arena_bytes": 2 * 4032, "unshared_bytes": 19 * 4032}


def test_symbolic_sizes_share_with_equal_ones_only():
    def build(b, x, y):
        for _ in range(6):
            x, y = b.map("tanh", x), b.map("tanh", y)
        return [x, y]

    module = case_module(Case("T[s0] T[s1]", build), "f32")
    run_passes(module, "fuse{merge=false},lower,plan-memory")
    for sizes in ({"s0": 5, "s1": 3}, {"s0": 0, "s1": 100}, {"s0": 1, "s1": 1}):
        assert_no_overlap(module, sizes)
        assert arena_size(module, sizes) <= 4 * 64 * -(-4 * max(sizes.values()) // 64)
        inputs = [torch.randn(n) for n in sizes.values()]
        assert len(run(module, inputs)) == 2


def test_multiples_of_one_symbolic_size_share():
    large, small = 1024 * s0 * s1, 256 * s0 * s1
    sizes = [large, small, large, small, 64 * s1, 64]
    lifetimes = [Lifetime(prog.AllocOp.create(), size, i, i + 1) for i, size in enumerate(sizes)]
    offsets, total = place(lifetimes)
    assert total == 64 + large + small + 64 * s1
    assert offsets[lifetimes[0].op] == offsets[lifetimes[2].op] == 64
    assert offsets[lifetimes[1].op] == offsets[lifetimes[3].op] == 64 + large


def test_results_and_their_views_are_not_in_the_arena():
    """What the caller keeps must not be written by the next call."""
    def build(b, x, w):
        y = b.map("tanh", x)
        alias = b.aten("aten.alias.default", [y], "(['%0'], {})", [y.type], [[5, 1]], "a test")[0]
        product = b.matmul(x, w)
        return [b.slice_dim(b.permute(y, [1, 0]), 0, 1, 2), alias, b.reshape(product, [20])]

    module = case_module(Case("T[4, 5] T[5, 5]", build), "f32")
    run_passes(module, "fuse,lower,plan-memory")
    assert not buffers(module)
    assert sum(isinstance(op, prog.OutputOp) for op in module.walk()) == 2


def test_a_program_without_temporaries_has_no_arena():
    module = case_module(Case("T[4]", lambda b, x: b.map("neg", x)), "f32")
    run_passes(module, "fuse,lower,plan-memory")
    assert not any(isinstance(op, (prog.ArenaOp, prog.BufferOp)) for op in module.walk())


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_any_lifetimes_get_places_of_their_own(lives):
    lifetimes = [
        Lifetime(prog.AllocOp.create(), align(size), min(a, b), max(a, b)) for size, a, b in lives
    ]
    offsets, total = place(lifetimes)
    for i, one in enumerate(lifetimes):
        assert offsets[one.op] % ALIGNMENT == 0 and offsets[one.op] + one.size <= total
        for other in lifetimes[:i]:
            if one.first <= other.last and other.first <= one.last and one.size and other.size:
                assert (offsets[one.op] + one.size <= offsets[other.op]
                        or offsets[other.op] + other.size <= offsets[one.op])


SYMBOLIC_SIZES = [64, s0 * 4, s1 * 4, s0 * 8, s0 * 256, s0 * 64, s0 * s1 * 128, s0 * s1 * 64, s0 * 64 + s1 * 4]


@given(st.lists(st.tuples(st.sampled_from(SYMBOLIC_SIZES), st.integers(0, 9), st.integers(0, 9)),
                max_size=12), st.integers(0, 40), st.integers(0, 40))
def test_any_symbolic_lifetimes_get_places_of_their_own(lives, first_size, second_size):
    values = {"s0": first_size, "s1": second_size}
    lifetimes = [Lifetime(prog.AllocOp.create(), align(size), min(a, b), max(a, b)) for size, a, b in lives]
    offsets, total = place(lifetimes)
    spans = [(evaluate(offsets[x.op], values), evaluate(x.size, values), x) for x in lifetimes]
    for i, (start, size, one) in enumerate(spans):
        assert start + size <= evaluate(total, values)
        for other_start, other_size, other in spans[:i]:
            if one.first <= other.last and other.first <= one.last and size and other_size:
                assert start + size <= other_start or other_start + other_size <= start
