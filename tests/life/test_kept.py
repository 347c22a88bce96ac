"""Programs in AOTAutograd's cache: found where nothing differs, compiled anew where anything does, never foreign."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from processes import run
from torch._dynamo.utils import counters
from torch._functorch import config as functorch_config

import tilewright
from tilewright.codegen import native
from tilewright.ir import target
from tilewright.kept import KEPT

pytestmark = pytest.mark.skipif(not KEPT, reason="this torch's cache is not used")

X = torch.linspace(-2, 2, 60).view(10, 6)


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch) -> Iterator[None]:
    """Both caches, empty and switched on."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "tilewright"))
    # conftest.py switches it off by a variable, which torch has read by now.
    monkeypatch.setattr(functorch_config._config["enable_autograd_cache"], "env_value_force", True)
    yield
    torch._dynamo.reset()


def model(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.softmax(x @ weight, -1), torch.tanh(x) + torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5, 5.5])


def compiled(function: Callable[..., Any] = model, **options: Any) -> Callable[..., Any]:
    """The function compiled as in a fresh process: nothing but the caches on disk remembers it."""
    torch._dynamo.reset()
    counters.clear()
    return torch.compile(function, backend="tilewright", options=options)


def found() -> dict[str, int]:
    return {name: counters["aot_autograd"][f"autograd_cache_{name}"] for name in ("hit", "miss", "saved")}


def check(call: Callable[..., Any], *args: torch.Tensor, function: Callable[..., Any] = model) -> None:
    torch.testing.assert_close(call(*args), function(*args), rtol=1e-5, atol=1e-6)


WEIGHT = torch.linspace(-1, 1, 36).view(6, 6)


def test_a_program_is_found_again_and_answers_as_a_compiled_one():
    check(compiled(), X, WEIGHT)
    assert found() == {"hit": 0, "miss": 1, "saved": 1}
    first = tilewright.last_compilation()
    check(again := compiled(), X, WEIGHT)
    assert found() == {"hit": 1, "miss": 0, "saved": 0}
    second = tilewright.last_compilation()
    assert second is not first and list(second.seconds) == ["load"]
    assert second.prog_text == first.prog_text and second.host_source == first.host_source
    assert second.sources == first.sources and second.kernels == first.kernels
    assert second.stages == first.stages and second.remarks == first.remarks
    timeless = [{k: v for k, v in row.items() if "seconds" not in k} for row in first.stats["passes"]]
    assert [{k: v for k, v in row.items() if "seconds" not in k} for row in second.stats["passes"]] == timeless
    check(again, X * 3 + 1, WEIGHT * 2)


def test_what_shapes_a_program_is_in_the_key(monkeypatch):
    check(compiled(), X, WEIGHT)
    for options in ({"passes": "default,-fuse"}, {"rng": "eager"}, {"fallback": "error"}):
        check(compiled(**options), X, WEIGHT)
        assert found()["hit"] == 0, options
    check(compiled(), X[:5], WEIGHT)
    check(compiled(), X.double(), WEIGHT.double())
    check(compiled(), X.t().contiguous().t(), WEIGHT)
    assert found()["hit"] == 0
    elsewhere: dict[str, Any] = {"torch": torch}
    exec(compile("\n\ndef same(x, weight): return torch.tanh(x), x @ weight", "elsewhere.py", "exec"), elsewhere)
    for name in ("first.py", "second.py"):  # reports and kernels name the model's lines
        exec(compile("def same(x, weight): return torch.tanh(x), x @ weight", name, "exec"), elsewhere)
        check(compiled(elsewhere["same"]), X, WEIGHT, function=elsewhere["same"])
        assert found()["hit"] == 0
    monkeypatch.setattr("tilewright.kept.code_digest", lambda: "another version")
    check(compiled(), X, WEIGHT)
    assert found()["hit"] == 0


@pytest.mark.parametrize("options", [{"verify": "ir"}, {"verify": "numeric"}])
def test_a_compilation_that_is_to_be_watched_is_made(options):
    for _ in range(2):
        check(compiled(**options), X, WEIGHT)
        assert found() == {"hit": 0, "miss": 0, "saved": 0}


def test_graphs_that_are_not_one_program_and_training_are_not_kept():
    def parts(x):
        return torch.nonzero(x > 0).sum() + x.tanh().sum()

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        for _ in range(2):
            check(compiled(parts), X, function=parts)
            assert tilewright.last_compilation().parts and found()["saved"] == found()["hit"] == 0
    for _ in range(2):
        x = X.clone().requires_grad_()
        compiled(lambda x: torch.tanh(x).sum())(x).backward()
        torch.testing.assert_close(x.grad, 1 - torch.tanh(X) ** 2)
        assert found() == {"hit": 0, "miss": 0, "saved": 0}


def test_dynamic_sizes_and_changed_arguments_come_back():
    def step(cache, x):
        cache.add_(x.sum(0))
        return x * x.shape[0] + cache

    for _ in range(2):
        call = compiled(step)
        for rows in (4, 10, 7):
            mine, theirs = torch.zeros(6), torch.zeros(6)
            x = X[:rows].clone()
            torch._dynamo.mark_dynamic(x, 0)
            torch.testing.assert_close(call(mine, x), step(theirs, X[:rows]))
            torch.testing.assert_close(mine, theirs)
    assert found()["hit"] == 1


def test_random_numbers_of_a_kept_program_follow_the_seed():
    drop = torch.nn.Dropout(0.5)
    results = []
    for _ in range(2):
        call = compiled(lambda x: drop(x))
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            results.append(call(X))
    assert found()["hit"] == 1
    assert all(torch.equal(a, b) for a, b in zip(results[:3], results[3:]))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_lost_kernels_are_built_again(tmp_path):
    check(compiled(), X, WEIGHT)
    for file in (tmp_path / "tilewright").rglob("*.so"):
        file.unlink()  # not in its place: this process has it open
        file.write_bytes(b"damaged")
    check(compiled(), X, WEIGHT)
    assert found()["hit"] == 1


def test_a_damaged_entry_leads_to_a_new_compilation(tmp_path):
    check(compiled(), X, WEIGHT)
    entries = [file for file in (tmp_path / "torch" / "aotautograd").rglob("*") if file.is_file()]
    assert entries
    for file in entries:
        file.write_bytes(file.read_bytes()[:1000])
    check(compiled(), X, WEIGHT)
    assert found()["hit"] == 0


# A machine with fewer features --------------------------------------------------------------------------------------


def narrow_machine(patch: pytest.MonkeyPatch) -> None:
    """From here on this machine is one without its widest vectors."""
    flags = target._cpu_flags()
    lacking = {f for f in flags if f.startswith(("avx512", "amx"))} or {"avx2", "fma"}
    patch.setattr(target, "_cpu_flags", lambda: flags - lacking)
    target.host_cpu.cache_clear()


@pytest.fixture
def machines() -> Iterator[dict[str, Callable[[pytest.MonkeyPatch], None]]]:
    yield {"wide": lambda patch: target.host_cpu.cache_clear(), "narrow": narrow_machine}
    target.host_cpu.cache_clear()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="features of x86")
@pytest.mark.parametrize("order", [("wide", "narrow"), ("narrow", "wide")])
def test_one_directory_serves_machines_of_different_features(order, machines):
    libraries = []
    for name in (*order, *order):
        with pytest.MonkeyPatch.context() as patch:
            machines[name](patch)
            check(compiled(), X, WEIGHT)
            made = tilewright.last_compilation()
            assert made.target == target.host_cpu()
            libraries.append((found()["hit"], [path.name for path in made.libraries]))
            for source, library in zip(made.sources, made.libraries):
                assert native.build(source, made.target) == library
        target.host_cpu.cache_clear()
    (cold, first), (foreign, second), *warm = libraries
    assert (cold, foreign) == (0, 0) and not set(first) & set(second)
    assert warm == [(1, first), (1, second)]


@pytest.mark.slow
def test_another_process_finds_the_program(tmp_path):
    program = """
from torch._dynamo.utils import counters
check(compiled(model := fresh(2)), model)
print(counters["aot_autograd"]["autograd_cache_hit"])
"""
    environment = {"TORCHINDUCTOR_AUTOGRAD_CACHE": "1"}
    assert [run(program, **environment).strip() for _ in range(2)] == ["0", "1"]
