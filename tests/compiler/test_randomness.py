"""Random numbers: known answers, distributions, seeds, replay in the backward pass, and torch's own generator."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import tilewright
from tilewright.backend import compilations, last_compilation
from tilewright.ir import tw
from tilewright.ir.interpreter.philox import philox
from tilewright.ir.target import host_cpu
from tilewright.ir.text import parse_ir
from tilewright.passes.base import PassContext
from tilewright.passes.pipelines import parse_pipeline

COUNT = 100_000
aten = torch.ops.aten


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)


def compiled(function: Callable, dynamic: bool | None = None, **options: str) -> Callable:
    return torch.compile(function, backend="tilewright", dynamic=dynamic, fullgraph=True, options=options)


def seeded(seed: int, function: Callable, *args):
    torch.manual_seed(seed)
    return function(*args)


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# The generator ------------------------------------------------------------------------------------------------------

# Of Random123's `kat_vectors` for philox4x32-10: the counter, the key, and the first two words of the result.
KNOWN = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB)),
)


def as_int64(low: int, high: int) -> torch.Tensor:
    value = low | high << 32
    return torch.tensor(value - 2**64 if value >= 2**63 else value)


@pytest.mark.parametrize("counter, key, words", KNOWN)
def test_philox_gives_the_published_words(counter, key, words):
    bits = philox(as_int64(*key), as_int64(*counter[2:]), as_int64(*counter[:2]))
    assert torch.equal(bits, as_int64(*words))


def test_every_element_has_bits_of_its_own():
    """Each bit of seed, stream and offset matters, and about half of the result's bits change with it."""
    start = [torch.tensor(v) for v in (0x123456789ABCDEF, 7, 12345678901)]
    bits = philox(*start)
    for place in range(3):
        for bit in range(64):
            changed = list(start)
            changed[place] = changed[place] ^ (torch.tensor(1) << bit)
            flipped = (int(philox(*changed)) ^ int(bits)) & (2**64 - 1)
            assert 12 <= flipped.bit_count() <= 52


def test_a_seed_is_neither_dropped_nor_merged():
    text = """
      func.func @forward() -> !tw.tensor<[4], i64> {
        %unused = tw.seed : !tw.tensor<[], i64>
        %seed = tw.seed : !tw.tensor<[], i64>
        %four = tw.broadcast %seed : !tw.tensor<[], i64> -> !tw.tensor<[4], i64>
        tw.return %four : !tw.tensor<[4], i64>
      }
    """
    module = parse_ir(text)
    context = PassContext(host_cpu())
    for item in parse_pipeline("default"):
        item.run(module, context)
        module.verify()
    left = [op for op in module.walk() if isinstance(op, tw.SeedOp) or "randint" in str(op.properties.get("target"))]
    assert len(left) == 2


# Distributions ------------------------------------------------------------------------------------------------------


def normal_cdf(x: torch.Tensor) -> torch.Tensor:
    return torch.special.ndtr(x)


CONTINUOUS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = {
    "rand": (torch.rand_like, lambda x: x),
    "uniform": (lambda x: torch.empty_like(x).uniform_(-2, 3), lambda x: (x + 2) / 5),
    "randn": (torch.randn_like, normal_cdf),
    "normal_": (lambda x: torch.empty_like(x).normal_(3, 0.5), lambda x: normal_cdf((x - 3) / 0.5)),
    "normal": (lambda x: torch.normal(torch.full_like(x, 2), torch.full_like(x, 4)), lambda x: normal_cdf((x - 2) / 4)),
    "normal float tensor": (lambda x: torch.normal(1.0, torch.ones_like(x)), lambda x: normal_cdf(x - 1)),
    "normal tensor float": (lambda x: torch.normal(torch.ones_like(x), 2.0), lambda x: normal_cdf((x - 1) / 2)),
    "normal size": (lambda x: torch.normal(1.0, 2.0, x.shape, dtype=x.dtype), lambda x: normal_cdf((x - 1) / 2)),
    "exponential": (lambda x: torch.empty_like(x).exponential_(0.5), lambda x: 1 - torch.exp(-0.5 * x)),
    "log_normal": (lambda x: torch.empty_like(x).log_normal_(0.5, 0.25), lambda x: normal_cdf((x.log() - 0.5) / 0.25)),
    "cauchy": (lambda x: torch.empty_like(x).cauchy_(1, 2), lambda x: 0.5 + torch.atan((x - 1) / 2) / math.pi),
}


def kolmogorov(sample: torch.Tensor, cdf: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The largest distance of the distribution functions, times sqrt(n): above 1.95 one time in a thousand."""
    expected = cdf(sample.double().sort().values)
    n = len(expected)
    above = (torch.arange(1, n + 1) / n - expected).max()
    below = (expected - torch.arange(n) / n).max()
    return float(torch.maximum(above, below)) * math.sqrt(n)


def correlation(x: torch.Tensor, y: torch.Tensor) -> float:
    """In standard deviations of what independent samples give; of ranks, so that tails do not matter."""
    x, y = (v.double().argsort().argsort().double() for v in (x, y))
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1]) * math.sqrt(len(x))


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def continuous(request):
    """Two calls of one program with all continuous distributions."""
    torch._dynamo.reset()
    program = compiled(lambda x: [make(x) for make, _ in CONTINUOUS.values()], fallback="error")
    x = torch.empty(COUNT, dtype=request.param)
    first, second = seeded(1, program, x), program(x)
    return dict(zip(CONTINUOUS, zip(first, second)))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distributions(continuous, name):
    first, second = continuous[name]
    assert first.dtype in (torch.float32, torch.float64) and first.isfinite().all()
    assert kolmogorov(first, CONTINUOUS[name][1]) < 1.95 and kolmogorov(second, CONTINUOUS[name][1]) < 1.95
    # Calls, neighbours and rows do not know of each other.
    assert abs(correlation(first, second)) < 4
    assert abs(correlation(first[1:], first[:-1])) < 4
    assert abs(correlation(first[100:], first[:-100])) < 4


def test_calls_of_one_graph_do_not_know_of_each_other(continuous):
    names = list(continuous)
    for a, b in pairwise(names):
        assert abs(correlation(continuous[a][0], continuous[b][0])) < 4


def test_tails_and_ends(continuous):
    uniform, normal, exponential = (continuous[n][0] for n in ("rand", "randn", "exponential"))
    assert 0 <= uniform.min() < 1e-4 and 1 - 1e-4 < uniform.max() < 1
    assert 3.7 < normal.abs().max() < 6
    assert exponential.min() > 0
    beyond_three = float((normal.abs() > 3).double().mean())
    assert abs(beyond_three - 0.0027) < 4 * math.sqrt(0.0027 / COUNT)


def discrete(x: torch.Tensor) -> dict[str, torch.Tensor]:
    whole = torch.empty_like(x, dtype=torch.int64)
    return {
        "randint 10": torch.randint(10, x.shape), "randint -3 5": torch.randint(-3, 5, x.shape),
        "randint_like 7": torch.randint_like(x, 7), "randint_like 2 4": torch.randint_like(whole, 2, 4),
        "randint of many": torch.randint(3 * 2**40, x.shape) // 2**40,
        "random": aten.random(whole.to(torch.uint8)) // 32, "random 9": aten.random.to(whole, 9),
        "random bool": aten.random(whole.bool()),
        "bernoulli .25": torch.empty_like(x).bernoulli_(0.25), "bernoulli bool": whole.bool().bernoulli_(0.75),
        "bernoulli tensor": torch.bernoulli(torch.full_like(x, 0.125)),
        "geometric": torch.empty_like(x).geometric_(0.5),
        "geometric int": whole.clone().geometric_(0.5), "never": whole.clone().bernoulli_(0.0),
        "always": torch.empty_like(x).bernoulli_(1.0), "one value": torch.randint(4, 5, x.shape),
    }


EVEN: dict[str, range] = {
    "randint 10": range(10), "randint -3 5": range(-3, 5), "randint_like 7": range(7), "randint_like 2 4": range(2, 4),
    "randint of many": range(3), "random": range(8), "random 9": range(9), "random bool": range(2),
    "one value": range(4, 5),
}
WEIGHTS: dict[str, dict[int, float]] = {
    **{name: dict.fromkeys(values, 1 / len(values)) for name, values in EVEN.items()},
    "bernoulli .25": {0: 0.75, 1: 0.25}, "bernoulli bool": {0: 0.25, 1: 0.75}, "bernoulli tensor": {0: 0.875, 1: 0.125},
    "never": {0: 1.0}, "always": {1: 1.0},
    **{name: {**{k: 2.0**-k for k in range(1, 12)}, 12: 2.0**-11} for name in ("geometric", "geometric int")},
}


def test_discrete_distributions():
    program = compiled(discrete, fallback="error")
    found, types = program(torch.empty(COUNT)), discrete(torch.empty(2))
    assert found.keys() == WEIGHTS.keys()
    for name, weights in WEIGHTS.items():
        assert found[name].dtype == types[name].dtype, name
        values = found[name].to(torch.int64)
        if name.startswith("geometric"):
            values = values.clamp(max=12)
        counts = {v: int((values == v).sum()) for v in weights}
        assert sum(counts.values()) == COUNT, (name, values.unique())
        chi_square = sum((counts[v] - COUNT * w) ** 2 / (COUNT * w) for v, w in weights.items())
        freedom = len(weights) - 1
        assert chi_square <= freedom + 5 * math.sqrt(2 * freedom), (name, counts)


@pytest.mark.parametrize("dtype, digits", [(torch.bfloat16, 8), (torch.float16, 11)])
def test_halves_have_the_steps_of_torch(dtype, digits):
    program = compiled(lambda x: (torch.rand_like(x), torch.randn_like(x), F.dropout(x, 0.5)), fallback="error")
    uniform, normal, dropped = program(torch.ones(COUNT, dtype=dtype))
    assert uniform.dtype == normal.dtype == dropped.dtype == dtype
    steps = uniform.double() * 2**digits
    assert torch.equal(steps, steps.round()) and steps.min() >= 0 and steps.max() == 2**digits - 1
    assert kolmogorov(normal.float() + (torch.rand(COUNT) - 0.5) * normal.float().abs() * 2**-digits, normal_cdf) < 2.5
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


# Dropout ------------------------------------------------------------------------------------------------------------


def test_dropout_and_its_gradient_have_one_mask_which_is_not_kept():
    program = compiled(lambda x: F.dropout(x, 0.25), verify="numeric", fallback="error")
    x = torch.randn(50, 40, requires_grad=True)
    y = program(x)
    kept = y != 0
    assert torch.equal(y, torch.where(kept, x * torch.tensor(1 / 0.75), 0))
    assert 0.65 < kept.double().mean() < 0.85
    saved = [(t.dtype, tuple(t.shape)) for t in y.grad_fn.saved_tensors]
    assert saved == [(torch.int64, ())]
    cotangent = torch.randn_like(y)
    [gradient] = torch.autograd.grad(y, x, cotangent)
    assert torch.equal(gradient, torch.where(kept, cotangent * torch.tensor(1 / 0.75), 0))


def test_dropout_treats_special_numbers_as_torch_does():
    """What is dropped is multiplied by 0: NaN and infinities do not become 0."""
    x = torch.tensor([math.nan, math.inf, -math.inf, 1.0]).repeat(100)
    zero, half, all_ = compiled(lambda x: [F.dropout(x, p) for p in (0.0, 0.5, 1.0)])(x)
    assert torch.equal(zero.nan_to_num(9), x.nan_to_num(9))
    assert torch.equal(all_.isnan(), torch.tensor([True, True, True, False]).repeat(100)) and not all_[3::4].any()
    assert half[::4].isnan().all()
    assert 0 < half[1::4].isnan().sum() < 100 and half[1::4][~half[1::4].isnan()].eq(math.inf).all()


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 32), torch.nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.second(F.dropout(torch.relu(self.first(x)), 0.3)), 0.1) + x


def step(function: Callable, x: torch.Tensor, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    torch.manual_seed(4)
    y = function(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *parameters])]


def test_a_checkpointed_block_drops_the_same_again():
    block, x = Block(), torch.randn(16, 8, requires_grad=True)
    parameters = list(block.parameters())
    before = compilations()  # held, so that they stay where they are
    whole, in_two = compiled(block), compiled(lambda x: checkpoint(block, x, use_reentrant=False), verify="numeric")
    plain, checkpointed = step(whole, x, parameters), step(in_two, x, parameters)
    for a, b in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(a, b)
    assert [c.fallbacks for c in compilations()[len(before):]] == [[]] * 4
    # The gradient is that of the function with these masks, which dropout of ones shows.
    torch.manual_seed(4)
    ones = compiled(lambda x: (F.dropout(torch.ones(16, 32), 0.3), F.dropout(torch.ones(16, 8), 0.1)))(x)
    expected = step(lambda x: block.second(torch.relu(block.first(x)) * ones[0]) * ones[1] + x, x, parameters)
    for a, b in zip(plain, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_checkpointed_attention_keeps_no_state_of_the_generator():
    """Its operator is tagged as random, for the dropout that it does not have on a CPU."""
    q = torch.randn(2, 3, 5, 8, requires_grad=True)

    def attend(x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x.sin(), x.cos()).square().sum()

    program = compiled(lambda x: checkpoint(attend, x, use_reentrant=False), fallback="error")
    [ours], [eager] = (torch.autograd.grad(f(q), q) for f in (program, attend))
    torch.testing.assert_close(ours, eager)


def test_random_factors_are_made_again_in_the_backward_pass():
    def noisy(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.randn_like(x)
        return (x * noise).sin(), noise

    x = torch.randn(30, 7, requires_grad=True)
    y, noise = compiled(noisy)(x)
    assert all(t.numel() <= 1 or t.shape == x.shape for t in y.grad_fn.saved_tensors)
    [gradient] = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, (x * noise).cos() * noise)


# Seeds --------------------------------------------------------------------------------------------------------------


def several(x: torch.Tensor) -> list[torch.Tensor]:
    return [F.dropout(x, 0.5), torch.rand_like(x), torch.rand_like(x), torch.randn(4, 5)]


def test_the_seed_follows_torchs_generator():
    program = compiled(several)
    x = torch.randn(6, 5)
    first, second = seeded(7, program, x), program(x)
    assert not torch.equal(first[1], first[2])
    assert not any(torch.equal(a, b) for a, b in zip(first, second))
    assert equal(seeded(7, program, x), first) and equal(program(x), second)
    state = torch.get_rng_state()
    third = program(x)
    assert not torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(state)
    assert equal(program(x), third)


def test_compiling_and_verifying_leave_the_generator_alone():
    def drawn(verify: str) -> tuple[list[torch.Tensor], torch.Tensor]:
        torch._dynamo.reset()
        return seeded(3, compiled(several, verify=verify), torch.ones(6, 5)), torch.get_rng_state()

    (plain, after), (verified, after_verified) = drawn("off"), drawn("numeric")
    assert equal(plain, verified) and torch.equal(after, after_verified)


def test_numbers_do_not_depend_on_threads():
    program = compiled(lambda x: (torch.randn_like(x), F.dropout(x, 0.5).sum(1)))
    x, threads = torch.ones(1500, 1001), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = seeded(2, program, x)
        torch.set_num_threads(2)
        two = seeded(2, program, x)
    finally:
        torch.set_num_threads(threads)
    assert equal(one, two)


def test_threads_draw_seeds_of_their_own():
    program = compiled(lambda x: torch.rand_like(x))
    x = torch.empty(64)
    program(x)
    drawn: list[torch.Tensor] = []

    def work() -> None:
        drawn.extend(program(x) for _ in range(100))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len({tuple(t.tolist()) for t in drawn}) == 200


def test_sizes_may_change():
    program = compiled(lambda x: (torch.rand_like(x), F.dropout(x, 0.5), torch.randn(x.shape[1], 3)), dynamic=True)
    for shape in ((4, 6), (5, 6), (130, 7), (2, 2)):
        uniform, dropped, normal = seeded(5, program, torch.ones(shape))
        assert uniform.shape == dropped.shape == shape and normal.shape == (shape[1], 3)
        assert len(uniform.unique()) == uniform.numel()
        # An element's number follows from its place in row-major order.
        torch.testing.assert_close(uniform.flatten()[:4], seeded(5, program, torch.ones(9, 9))[0].flatten()[:4])


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (7, 1, 13)], ids=str)
def test_shapes(shape):
    def draws(x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.rand(shape), torch.randn_like(x), F.dropout(x, 0.5), torch.randint(5, shape), torch.bernoulli(x)]

    results = compiled(draws, verify="numeric", fallback="error")(torch.ones(shape))
    assert [(r.shape, r.dtype) for r in results] == [(r.shape, r.dtype) for r in draws(torch.ones(shape))]


def test_results_lie_in_memory_as_torchs_do():
    def draws(x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.rand_like(x), F.dropout(x, 0.5), torch.randn_like(x), torch.empty_like(x).uniform_()]

    channels_last = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    for x in (torch.ones(5, 7).t(), channels_last, torch.ones(8, 9)[::2, 1:]):
        results = compiled(draws, dynamic=False)(x)
        assert [r.stride() for r in results] == [r.stride() for r in draws(x)]


def test_an_artifact_draws_fresh_seeds(tmp_path):
    class Noise(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return F.dropout(x, 0.5), torch.rand(3)

    model = tilewright.compile(Noise().train(), (torch.ones(8, 4),), fallback="error")
    model.save(tmp_path / "noise.tw")
    loaded = tilewright.load(tmp_path / "noise.tw")
    x = torch.ones(8, 4)
    first, second = seeded(1, loaded, x), loaded(x)
    assert not torch.equal(first[1], second[1])
    assert equal(first, seeded(1, model, x)) and equal(second, model(x))


# What stays torch's -------------------------------------------------------------------------------------------------


def test_other_draws_stay_torchs_and_say_so():
    program = compiled(lambda x: (torch.randperm(9), torch.multinomial(x, 3), torch.poisson(x), torch.rand_like(x)))
    program(torch.ones(4, 5))
    found = last_compilation().fallbacks
    assert {row["op"] for row in found} == {
        "aten.randperm.default", "aten.multinomial.default", "aten.poisson.default"
    }
    assert {row["reason"] for row in found} == {"draws from torch's generator"}


@pytest.mark.parametrize("draw", [
    lambda x: torch.empty_like(x).bernoulli_(1.5), lambda x: torch.empty_like(x).exponential_(-1.0),
    lambda x: torch.empty_like(x).uniform_(3, 2), lambda x: torch.empty_like(x).normal_(0, -1),
    lambda x: torch.empty_like(x).geometric_(0.0), lambda x: torch.empty_like(x).cauchy_(0, -1),
    lambda x: torch.randint(0, 500, x.shape, dtype=torch.int8),
])
def test_what_torch_refuses_is_refused(draw):
    with pytest.raises((RuntimeError, ValueError)) as expected:
        draw(torch.ones(3))
    with pytest.raises(Exception) as error:
        compiled(draw)(torch.ones(3))
    assert str(expected.value).splitlines()[0][:30] in str(error.value)


def draw_everything(x: torch.Tensor) -> list[torch.Tensor]:
    drawn = [
        F.dropout(x, 0.3), torch.rand_like(x), torch.rand_like(x), torch.randn_like(x), torch.randn_like(x),
        torch.randn(7, 3), torch.bernoulli(x.detach().sigmoid()), torch.multinomial(x.detach().sigmoid(), 5),
        torch.randperm(11), torch.poisson(x.detach().exp()), torch.randint(10, (5,)),
    ]
    for _ in range(2):
        fresh = torch.zeros(9)
        drawn += [fresh.clone().uniform_(2, 3), fresh.clone().exponential_(), fresh.clone().normal_(1, 2)]
        drawn += [torch.randint_like(fresh, 10), fresh.clone().cauchy_(), fresh.clone().log_normal_()]
        drawn += [fresh.clone().geometric_(0.2), fresh.clone().bernoulli_(0.5), F.rrelu(x, training=True)]
    return [*drawn, sum(d.double().sum() for d in drawn) * x.sum()]


@pytest.mark.parametrize("train", [False, True])
def test_the_eager_generator_is_kept_bit_for_bit(train):
    """Equal draws are two draws, none is dropped, and all happen in the model's order: forward and backward."""
    x = torch.randn(6, 8, requires_grad=train)
    expected, state = seeded(6, draw_everything, x), torch.get_rng_state()
    results = seeded(6, compiled(draw_everything, rng="eager"), x)
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(results[:-1], expected[:-1])
    torch.testing.assert_close(results[-1], expected[-1], rtol=1e-5, atol=0)
    if train:
        gradients = [torch.autograd.grad(r[0].sum() + r[-1], x)[0] for r in (results, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-4)


def test_the_eager_generator_makes_kernels_read_what_torch_drew():
    program = compiled(lambda x: (torch.rand_like(x) + x).relu() * torch.rand_like(x), rng="eager")
    x = torch.randn(20, 30)
    expected = seeded(8, lambda: (torch.rand_like(x) + x).relu() * torch.rand_like(x))
    assert torch.equal(seeded(8, program, x), expected)
    assert last_compilation().kernels and len(last_compilation().fallbacks) == 1
