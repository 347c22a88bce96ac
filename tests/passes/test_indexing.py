"""Index arithmetic of views against torch: where elements come from, and which views are had by strides alone."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from xdsl.ir import Block

from tilewright.ir import tw
from tilewright.ir.expr import Ranges, evaluate, symbol
from tilewright.ir.types import TensorType, contiguous_strides
from tilewright.passes.fusion_graph import view_strides
from tilewright.passes.lowering.indexing import (
    broadcast_index,
    equal_strides,
    is_contiguous,
    is_dense,
    linear,
    reshape_groups,
    reshape_index,
    reshape_strides,
    span,
)

s0, s1 = symbol("s0"), symbol("s1")


@st.composite
def reshapes(draw, smallest=1):
    """Two shapes with equally many elements: both made of one list of factors."""
    factors = draw(st.lists(st.integers(smallest, 4), max_size=5))

    def shape():
        cuts = sorted(draw(st.lists(st.integers(0, len(factors)), max_size=4)))
        return tuple(math.prod(factors[a:b]) for a, b in itertools.pairwise([0, *cuts, len(factors)]))

    return shape(), shape()


@st.composite
def layouts(draw):
    """A shape and strides as torch makes them: permuted, sliced with steps, expanded."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    order = draw(st.permutations(range(len(shape))))
    strides, step = [0] * len(shape), draw(st.sampled_from([1, 1, 2]))
    for dim in order:
        strides[dim] = step
        step *= max(1, shape[dim]) * draw(st.sampled_from([1, 1, 2]))
    for dim in range(len(shape)):
        if draw(st.integers(0, 9)) == 0:
            strides[dim] = 0
    return tuple(shape), tuple(strides)


def memory(shape, strides):
    """A tensor whose elements are their own positions in memory."""
    size = 1 + sum(max(0, n - 1) * s for n, s in zip(shape, strides))
    return torch.arange(size).as_strided(shape, strides)


def axes(shape):
    """Names for the position in a tensor, the ranges they have, and all the values they take."""
    index = tuple(symbol(f"i{d}") for d in range(len(shape)))
    ranges = Ranges({f"i{d}": n for d, n in enumerate(shape)})
    values = [{f"i{d}": v for d, v in enumerate(place)} for place in itertools.product(*map(range, shape))]
    return index, ranges, values


@given(reshapes(smallest=0))
def test_reshape_index_finds_the_element_that_torch_does(shapes):
    source, target = shapes
    index, ranges, values = axes(target)
    found = reshape_index(index, target, source, ranges)
    elements = torch.arange(math.prod(source)).reshape(source)
    reshaped = elements.reshape(target)
    for value in values:
        at = tuple(evaluate(i, value) for i in found)
        assert elements[at] == reshaped[tuple(value.values())]


@given(reshapes(), st.sampled_from([0, 1, 2, 3, 7]), st.integers(0, 5), st.integers(0, 5))
def test_reshape_index_with_a_symbolic_size(shapes, size, first, second):
    """`s0` stands somewhere in both shapes; no size of it divides anything."""
    source, target = (list(s) for s in shapes)
    place, other = min(first, len(source)), min(second, len(target))
    if math.prod(source[:place]) != math.prod(target[:other]):
        place, other = 0, 0
    symbolic_source, symbolic_target = tuple(source), tuple(target)
    symbolic_source = (*source[:place], s0, *source[place:])
    symbolic_target = (*target[:other], s0, *target[other:])
    index = tuple(symbol(f"i{d}") for d in range(len(symbolic_target)))
    ranges = Ranges({f"i{d}": n for d, n in enumerate(symbolic_target)})
    found = reshape_index(index, symbolic_target, symbolic_source, ranges)
    sizes = {"s0": size}
    shape = [evaluate(d, sizes) for d in symbolic_source]
    wanted = [evaluate(d, sizes) for d in symbolic_target]
    elements = torch.arange(math.prod(shape)).reshape(shape)
    for at in itertools.product(*map(range, wanted)):
        value = {**sizes, **{f"i{d}": v for d, v in enumerate(at)}}
        assert elements[tuple(evaluate(i, value) for i in found)] == elements.reshape(wanted)[at]


@pytest.mark.parametrize("source, target", [
    ((s0, s1), (s0 * s1,)), ((s0 * s1,), (s0, s1)), ((s0, 6), (s0 * 2, 3)), ((s0 * 2, 3), (s0, 6)),
    ((s0, s1, 4), (s0 * s1 * 2, 2)), ((2, s0, 3), (s0 * 6,)), ((s0 * 6,), (2, s0, 3)), ((s0, 4, s1), (4, s0, s1)),
    ((s0 + 1, 3), ((s0 + 1) * 3,)), ((1, s0), (s0, 1, 1)),
])
def test_reshape_index_with_products_of_symbols(source, target):
    index = tuple(symbol(f"i{d}") for d in range(len(target)))
    found = reshape_index(index, target, source, Ranges({f"i{d}": n for d, n in enumerate(target)}))
    for sizes in ({"s0": 3, "s1": 5}, {"s0": 1, "s1": 2}, {"s0": 4, "s1": 1}, {"s0": 0, "s1": 3}):
        shape, wanted = ([evaluate(d, sizes) for d in s] for s in (source, target))
        elements = torch.arange(math.prod(shape)).reshape(shape)
        for at in itertools.product(*map(range, wanted)):
            value = {**sizes, **{f"i{d}": v for d, v in enumerate(at)}}
            assert elements[tuple(evaluate(i, value) for i in found)] == elements.reshape(wanted)[at]


@given(reshapes(smallest=0))
def test_reshape_groups_split_both_shapes_alike(shapes):
    source, target = shapes
    groups = reshape_groups(source, target)
    if groups is None:
        assert 0 in source
        return
    assert 0 not in source
    for left, right in groups:
        assert math.prod(source[d] for d in left) == math.prod(target[d] for d in right)
    for shape, part in ((source, 0), (target, 1)):
        assert [d for g in groups for d in g[part]] == [d for d, n in enumerate(shape) if n != 1]


@given(layouts(), st.data())
def test_reshape_strides_are_those_of_a_view(layout, data):
    """Where we find strides they place every element as torch's copy does; where we find none torch has no view."""
    shape, strides = layout
    factors = [f for n in shape for f in ([2, 2] if n == 4 else [n])]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(factors)), max_size=4)))
    target = tuple(math.prod(factors[a:b]) for a, b in itertools.pairwise([0, *cuts, len(factors)]))
    x = memory(shape, strides)
    found = reshape_strides(shape, strides, target)
    if found is None:
        with pytest.raises(RuntimeError):
            x.view(target)
    elif x.numel():
        assert torch.equal(memory(shape, strides).as_strided(target, found), x.reshape(target))


@pytest.mark.parametrize("shape, strides, target, wanted", [
    ((s0, 6), (6, 1), (s0, 2, 3), (6, 3, 1)), ((s0, 2, 3), (6, 3, 1), (s0 * 2, 3), (3, 1)),
    ((s0, 2, 3), (12, 3, 1), (s0, 6), (12, 1)), ((s0, 2, 3), (12, 3, 1), (s0 * 2, 3), None),
    ((6, s0), (1, 6), (2, 3, s0), (3, 1, 6)), ((s0, s1), (s1, 1), (s0 * s1,), (1,)),
    ((s0, s1), (1, s0), (s0 * s1,), None), ((s0, 6), (0, 0), (s0 * 6,), (0,)),
])
def test_reshape_strides_with_symbols(shape, strides, target, wanted):
    assert reshape_strides(shape, strides, target) == wanted


@given(layouts(), st.data())
def test_strides_of_views_are_torchs(layout, data):
    shape, strides = layout
    source = Block(arg_types=[TensorType.get(shape, "f32")]).args[0]
    x = memory(shape, strides)
    kind = data.draw(st.sampled_from(["permute", "slice", "broadcast"]))
    if kind == "permute":
        dims = data.draw(st.permutations(range(len(shape))))
        op, expected = tw.PermuteOp.make(source, dims), x.permute(tuple(dims))
    elif kind == "slice":
        bounds = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
        steps = [data.draw(st.integers(1, 3)) for _ in shape]
        expected = x[tuple(slice(a, b, s) for (a, b), s in zip(bounds, steps))]
        op = tw.SliceOp.make(source, [a for a, _ in bounds], expected.shape, steps)
    else:
        wanted = [*data.draw(st.lists(st.integers(0, 3), max_size=1)),
                  *(data.draw(st.integers(0, 3)) if n == 1 else n for n in shape)]
        op, expected = tw.BroadcastOp.make(source, wanted), x.expand(wanted)
    found = view_strides(op, strides)
    assert found is not None
    if expected.numel():
        assert torch.equal(x.as_strided(expected.shape, found[0], found[1]), expected)


def test_a_slice_backwards_is_no_view():
    source = Block(arg_types=[TensorType.get((4,), "f32")]).args[0]
    assert view_strides(tw.SliceOp.make(source, [3], [4], [-1]), (1,)) is None


@given(layouts())
def test_span_reaches_the_last_element(layout):
    shape, strides = layout
    positions = memory(shape, strides).flatten().tolist()
    assert span(shape, strides) == (max(positions) + 1 if positions else 0)


@given(layouts())
def test_dense_layouts_cover_their_span_once(layout):
    shape, strides = layout
    positions = sorted(memory(shape, strides).flatten().tolist())
    assert is_dense(shape, strides) == (positions == list(range(len(positions))))


@given(layouts())
def test_contiguous_is_what_torch_calls_it(layout):
    shape, strides = layout
    assert is_contiguous(shape, strides) == memory(shape, strides).is_contiguous()


@given(layouts(), layouts())
def test_equal_strides_place_elements_alike(one, other):
    shape, strides = one
    for candidate in (other[1], contiguous_strides(shape)):
        if len(candidate) == len(shape) and equal_strides(shape, strides, candidate):
            assert torch.equal(memory(shape, strides), memory(shape, candidate))


@given(layouts())
def test_linear_counts_row_major(layout):
    shape, _ = layout
    index, _, values = axes(shape)
    expr = linear(index, shape)
    assert [evaluate(expr, value) for value in values] == list(range(len(values)))


@given(st.lists(st.integers(1, 3), max_size=3), st.data())
def test_broadcast_index_reads_what_torch_expands(shape, data):
    operand = [1 if data.draw(st.booleans()) else n for n in shape][data.draw(st.integers(0, len(shape))) :]
    x = torch.arange(math.prod(operand)).reshape(operand)
    for at in itertools.product(*map(range, shape)):
        assert x[tuple(broadcast_index(at, operand))] == x.expand(shape)[at]
