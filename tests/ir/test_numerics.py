"""The comparison rules of each numerics class, and random inputs."""

import math
import re

import pytest
import torch

from tilewright.ir.interpreter import run
from tilewright.ir.numerics import compare, error_ratio, random_inputs
from tilewright.ir.text import parse_ir

NAN, INF = math.nan, math.inf
LOOSE = ("widens", "reassociates", "approximate")


def never() -> torch.Tensor:
    raise AssertionError("the oracle is not needed")


def tensor(*values, dtype=torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def test_equal_results_pass_in_every_class_without_an_oracle():
    for numerics in ("exact", *LOOSE):
        for x in (tensor(1.0, NAN, -INF, -0.0), tensor(1, 2, dtype=torch.int64), torch.zeros(0), torch.ones(2) * 1j):
            assert compare(x, x.clone(), never, numerics) is None
        assert compare(3, 3, never, numerics) is None
        assert compare(None, None, never, numerics) is None


@pytest.mark.parametrize("numerics", ["exact", *LOOSE])
@pytest.mark.parametrize("actual,expected,message", [
    (torch.zeros(2), torch.zeros(3), r"got \[2\] of float32, expected \[3\] of float32"),
    (torch.zeros(2), torch.zeros(2).double(), r"expected \[2\] of float64"),
    (3, torch.zeros(()), "got int, expected a tensor"),
    (3, 4, "got 3, expected 4"),
    (None, 4, "got None, expected 4"),
    (torch.zeros(()), None, "expected None"),
])
def test_results_of_different_types_never_agree(numerics, actual, expected, message):
    mismatch = compare(actual, expected, never, numerics)
    assert mismatch is not None and re.search(message, str(mismatch))


@pytest.mark.parametrize("actual,expected", [
    (tensor(0.0), tensor(-0.0)),
    (tensor(1.0), tensor(1.0 + 2**-23)),
    (tensor(NAN), tensor(1.0)),
    (tensor(INF), tensor(-INF)),
    (tensor(2**62, dtype=torch.int64), tensor(2**62 + 1, dtype=torch.int64)),
    (tensor(True, dtype=torch.bool), tensor(False, dtype=torch.bool)),
])
def test_exact_means_every_bit(actual, expected):
    assert compare(actual, expected, never, "exact") is not None


def test_exact_names_the_first_difference():
    mismatch = compare(tensor(1.0, 2.0, 3.0), tensor(1.0, 2.5, 4.0), never, "exact")
    assert str(mismatch) == "2 of 3 elements differ, the first at [1]: got 2.0, expected 2.5"


def test_nan_payloads_do_not_matter():
    other_nan = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32)
    assert compare(other_nan, tensor(NAN), never, "exact") is None


def test_one_ulp_passes_without_the_oracle():
    assert compare(tensor(1.0 + 2**-23), tensor(1.0), never, "widens") is None


def test_a_result_as_good_as_the_expected_one_passes_and_a_worse_one_does_not():
    oracle = torch.randn(1000, generator=torch.Generator().manual_seed(0)).double()
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(1)).double() * 1e-4
    expected = (oracle + noise).float()
    assert compare((oracle + 1.5 * noise.flip(0)).float(), expected, lambda: oracle, "reassociates") is None
    mismatch = compare((oracle + 3 * noise.flip(0)).float(), expected, lambda: oracle, "reassociates")
    assert mismatch is not None and mismatch.rms_error > 2.5 * mismatch.expected_rms_error
    assert compare((oracle + 3 * noise.flip(0)).float(), expected, oracle, "reassociates", factor=4.0) is None


def test_one_wrong_element_among_many_is_caught():
    oracle = torch.randn(10000, generator=torch.Generator().manual_seed(0)).double()
    actual = oracle.float()
    actual[77] += 1e-3
    mismatch = compare(actual, oracle.float(), oracle, "reassociates")
    assert mismatch is not None and "largest" in mismatch.reason


def test_a_few_elements_are_a_poor_estimate_of_the_error():
    """With one element the expected result may be close by luck; with many it may not."""
    one, error = torch.ones(1).double(), 1e-5
    assert compare((one + 30 * error).float(), (one + error).float(), one, "reassociates") is not None
    assert compare((one + 8 * error).float(), (one + error).float(), one, "reassociates") is None
    many = torch.ones(1000).double()
    assert compare((many + 8 * error).float(), (many + error).float(), many, "reassociates") is not None


@pytest.mark.parametrize("actual,expected,oracle,passes", [
    (NAN, 1.0, 1.0, False),
    (INF, 1.0, 1.0, False),
    (1.0, NAN, NAN, False),
    (1.0, INF, 1.0, True),  # the expected one overflowed on the way
    (INF, INF, 1e39, True),  # too large for the dtype
    (-INF, INF, 1e39, False),
    (NAN, INF, NAN, True),  # float64 says what is right
])
def test_nan_and_inf_stand_where_one_of_the_references_has_them(actual, expected, oracle, passes):
    values = [tensor(v, 2.0) for v in (actual, expected)]
    mismatch = compare(*values, tensor(oracle, 2.0, dtype=torch.float64), "reassociates")
    assert (mismatch is None) == passes


def test_integers_may_differ_only_where_float64_differs_from_the_expected_or_rarely():
    expected = torch.zeros(2000, dtype=torch.int64)
    one = expected.clone()
    one[5] = 1
    many = expected.clone()
    many[:3] = 1
    assert compare(one, expected, expected, "widens") is None
    assert compare(many, expected, expected, "widens") is not None
    assert compare(many, expected, many, "widens") is None
    assert compare(one[:100], expected[:100], expected[:100], "widens") is not None


def test_approximate_bounds_the_rms_error():
    oracle = torch.linspace(-1, 1, 100).double()
    assert compare((oracle * 1.05).float(), oracle.float(), oracle, "approximate") is None
    assert compare((oracle * 1.2).float(), oracle.float(), oracle, "approximate") is not None


def test_complex_results():
    oracle = torch.randn(50, dtype=torch.complex128)
    assert compare(oracle.to(torch.complex64), oracle.to(torch.complex64) * (1 + 1e-7), oracle, "widens") is None
    assert compare(oracle.to(torch.complex64) + 0.1j, oracle.to(torch.complex64), oracle, "widens") is not None


def test_an_unknown_class_is_refused():
    with pytest.raises(ValueError, match="'fast'"):
        compare(tensor(1.0), tensor(2.0), never, "fast")


def test_error_ratio():
    oracle = torch.zeros(4).double()
    assert error_ratio(torch.full((4,), 3.0), torch.full((4,), 2.0), oracle) == 1.5
    assert error_ratio(torch.zeros(4), torch.zeros(4), oracle) == 1.0
    assert error_ratio(torch.zeros(4), torch.ones(4), oracle) == 0.0
    assert error_ratio(torch.ones(4), torch.zeros(4), oracle) == INF


# Random inputs.

EMBEDDING = """
builtin.module {
  func.func @forward(%table: !tw.tensor<[5, 4], f32>, %ids: !tw.tensor<[s0, s1], i32>, %free: !tw.tensor<[3], i64>,
                     %mask: !tw.tensor<[s0], bool>, %n: index, %w: !tw.tensor<[2, 3], bf16>)
      -> !tw.tensor<["s0*s1", 4], f32>
      attributes {arg_strides = [#tw.dims<[4, 1]>, #tw.dims<[s1, 1]>, #tw.dims<[0]>, #tw.dims<[1]>, #tw.dims<[]>,
                                 #tw.dims<[1, 2]>],
                  symbols = {s0 = #tw.dims<[1, 0]>, s1 = #tw.dims<[4]>}} {
    %wide = tw.map "cast" %ids : (!tw.tensor<[s0, s1], i32>) -> !tw.tensor<[s0, s1], i64>
    %two = tw.constant {value = #tw.scalar<2>} : !tw.tensor<[], i64>
    %shifted = tw.map "add" %wide, %two
      : (!tw.tensor<[s0, s1], i64>, !tw.tensor<[], i64>) -> !tw.tensor<[s0, s1], i64>
    %flat = tw.reshape %shifted : !tw.tensor<[s0, s1], i64> -> !tw.tensor<["s0*s1"], i64>
    %r = tw.gather %table at %flat {dims = #tw.dims<[0]>, wrap = #tw.scalar<true>}
      : !tw.tensor<[5, 4], f32>, !tw.tensor<["s0*s1"], i64> -> !tw.tensor<["s0*s1", 4], f32>
    tw.return %r : !tw.tensor<["s0*s1", 4], f32>
  }
}"""


def test_random_inputs_fit_the_module():
    module = parse_ir(EMBEDDING)
    table, ids, free, mask, n, w = inputs = random_inputs(module)
    assert table.dtype == torch.float32 and 0.3 < table.std() < 0.8
    assert ids.shape == (16, 24) and ids.dtype == torch.int32 and n == 24
    assert ids.min() == 0 and ids.max() == 2  # 2 is added before the table of 5 is read
    assert free.stride() == (0,) and 0 <= free[0] < 2
    assert mask.dtype == torch.bool and mask.any() and not mask.all()
    assert w.dtype == torch.bfloat16 and w.stride() == (1, 2)
    assert run(module, inputs)[0].shape == (16 * 24, 4)


def test_random_inputs_follow_the_seed_and_the_sizes():
    module = parse_ir(EMBEDDING)
    first, again, other = (random_inputs(module, seed=s, sizes={"s0": 3}) for s in (1, 1, 2))
    assert first[1].shape == (3, 24)
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])


def test_random_positions_of_a_program_stay_inside():
    """The limit is found through the kernel that looks up, and through the one that computes the positions."""
    module = parse_ir("""
builtin.module {
  tile.kernel @shift(%i: !tile.ref<i64>, %j: !tile.ref<i64>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = []} {
    tile.for i0 in [50] vector {
      %a = tile.load %i[i0] : i64
      %c = tile.constant 1 : i64
      %b = tile.map "add" %a, %c : i64
      tile.store %j[i0], %b
    }
  }
  tile.kernel @look_up(%x: !tile.ref<f32>, %j: !tile.ref<i64>, %y: !tile.ref<f32>)
      {kind = "loop", outputs = #tw.dims<[2]>, sizes = []} {
    tile.for i0 in [50] parallel {
      %p = tile.load %j[i0] : i64
      tile.index j0 = %p in [7]
      %a = tile.load %x[j0] : f32
      tile.store %y[i0], %a
    }
  }
  func.func @forward(%x: !prog.buffer<[7], [1], f32>, %i: !prog.buffer<[50], [1], i64>)
      -> !prog.buffer<[50], [1], f32> {
    %arena = prog.arena {size = #tw.dims<[400]>} : !prog.arena_type
    %j = prog.buffer %arena {offset = #tw.dims<[0]>, live = #tw.dims<[0, 1]>} : !prog.buffer<[50], [1], i64>
    %y = prog.output : !prog.buffer<[50], [1], f32>
    prog.launch @shift %i, %j : !prog.buffer<[50], [1], i64>, !prog.buffer<[50], [1], i64>
    prog.launch @look_up %x, %j, %y
      : !prog.buffer<[7], [1], f32>, !prog.buffer<[50], [1], i64>, !prog.buffer<[50], [1], f32>
    prog.return %y : !prog.buffer<[50], [1], f32>
  }
}""")
    x, i = random_inputs(module)
    assert i.max() == 5 and torch.equal(run(module, [x, i])[0], x[i + 1])


def test_positions_of_an_opaque_embedding_stay_inside():
    module = parse_ir("""
builtin.module {
  func.func @forward(%w: !tw.tensor<[6, 2], f32>, %i: !tw.tensor<[40], i64>) -> !tw.tensor<[40, 2], f32> {
    %r = tw.aten "aten.embedding.default" %w, %i
      {arguments = "(['%0', '%1'], {})", strides = [#tw.dims<[2, 1]>], reason = "test"}
      : (!tw.tensor<[6, 2], f32>, !tw.tensor<[40], i64>) -> !tw.tensor<[40, 2], f32>
    tw.return %r : !tw.tensor<[40, 2], f32>
  }
}""")
    assert random_inputs(module)[1].max() == 5
