"""The memory of large results: kept from call to call, and never given again while somebody holds it."""

from __future__ import annotations

import ctypes
import gc
import io
import os
import subprocess
import sys
import threading

import pytest
import torch

import tilewright
from tilewright.codegen.results import KEPT_RESULTS, LEAST, Results, kept_results, storage_counts

ROWS = 1000  # of 512 f32: 2 MB
X = torch.randn(ROWS, 512, generator=torch.Generator().manual_seed(0))


def function(a):
    return torch.tanh(a) * 2


@pytest.fixture(scope="module")
def program():
    return tilewright.compile(function, (X,))


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Each test begins anew: what was not used for so many results is let go of with the next one."""
    if not any(storage_counts()):
        pytest.skip("this torch keeps the counts of storages elsewhere")
    monkeypatch.setattr(kept_results(), "least", 1 << 20)
    kept_results().clock += KEPT_RESULTS


def right(result, a=X):
    torch.testing.assert_close(result, function(a), rtol=1e-6, atol=1e-6)
    return result


def test_memory_serves_again_once_nobody_holds_it(program):
    first = right(program(X))
    address, older = first.data_ptr(), right(program(-X), -X)
    assert older.data_ptr() != address and kept_results().count == 2
    del first
    again = right(program(X * 3), X * 3)
    assert again.data_ptr() == address and kept_results().count == 2
    right(older, -X)


HOLDERS = {
    "view": lambda t: t[3:].t(), "detached": torch.Tensor.detach, "array": torch.Tensor.numpy,
    "storage": torch.Tensor.untyped_storage, "dlpack": torch.from_dlpack, "bits": lambda t: t.view(torch.int32),
    "saved for backward": lambda t: (t.requires_grad_() * t).sum().grad_fn, "closure": lambda t: (lambda: t),
    "copy on write": torch._lazy_clone,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_holds_a_result_keeps_its_elements(program, holder):
    result = program(X)
    address, elements = result.data_ptr(), result.clone()
    held = HOLDERS[holder](result)
    del result
    others = [right(program(a), a) for a in (-X, X * 3)]
    if holder == "copy on write":
        torch.testing.assert_close(held, elements, rtol=0, atol=0)
    else:
        assert all(other.data_ptr() != address for other in others)
        count = elements.numel() * 4
        assert ctypes.string_at(address, count) == elements.numpy().tobytes()


CHANGES = {
    "grown": lambda t: t.resize_(ROWS * 2, 512).fill_(7), "shrunk": lambda t: t.resize_(3).fill_(7),
    "storage": lambda t: t.untyped_storage().resize_(0), "shared": lambda t: t.share_memory_().fill_(7),
    "set": lambda t: t.set_(torch.full((3,), 7.0)), "data": lambda t: setattr(t, "data", torch.full((3,), 7.0)),
    "in place": lambda t: t.fill_(7), "as result of another call": lambda t: torch.cat([X, X], out=t.resize_(0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_results_can_be_changed_as_any_tensor(program, change):
    result, other = program(X), program(-X)
    CHANGES[change](result)
    shape, storage = result.shape, result.untyped_storage()
    if change == "shared":
        assert result.is_shared() and (result == 7).all()
    del result
    for a in (X, X * 3, -X):
        right(program(a), a)
    right(other, -X)
    expected = function(X)
    CHANGES[change](expected)
    assert shape == expected.shape and storage.nbytes() == expected.untyped_storage().nbytes()
    if change in ("shared", "in place", "grown"):  # what is held as a storage alone, other processes among it
        assert (torch.tensor([], dtype=torch.float32).set_(storage) == 7).all()


def test_memory_that_moved_to_other_processes_is_left_to_them(program):
    result = program(X).share_memory_()
    address, elements = result.data_ptr(), result.clone()
    keeper = result.untyped_storage()._share_filename_cpu_()  # another process opens it by its name
    del result
    results = [right(program(-X), -X) for _ in range(3)]
    assert all(r.data_ptr() != address for r in results)
    opened = torch.UntypedStorage._new_shared_filename_cpu(*keeper)
    same = torch.tensor([], dtype=torch.float32).set_(opened)[: X.numel()].view_as(X)
    torch.testing.assert_close(same, elements, rtol=0, atol=0)


def test_results_are_tensors_as_any(program):
    program(X)
    result = program(X)  # in memory that another result had
    assert kept_results().count == 1
    assert result._version == 0 and not result._is_view() and result.is_leaf and result.data_ptr() % 64 == 0
    assert result.untyped_storage().nbytes() == X.numel() * 4 and result.storage_offset() == 0
    saved = io.BytesIO()
    torch.save(result, saved)
    saved.seek(0)
    right(torch.load(saved))
    result.requires_grad_().sum().backward()
    assert (result.grad == 1).all()


def test_in_and_out_of_inference_mode(program):
    for mode in (False, True, True, False, False):
        with torch.inference_mode(mode):
            result = program(X)
            assert result.is_inference() == mode
        right(result)
    assert kept_results().count == 2


def test_types_and_sizes_have_memory_of_their_own():
    def several(a):
        return a.bfloat16(), a.half(), a > 0, a.double() * 2, a[:1] + 1, a[:0] * 2, (a * 2).t().contiguous()

    call = tilewright.compile(several, (X,))
    for _ in range(3):
        for given, expected in zip(call(X), several(X)):
            torch.testing.assert_close(given, expected)
            assert given.stride() == expected.stride()
    kept = kept_results()
    assert 0 < kept.count <= 8 and kept.bytes == sum(entry.bytes for entry in kept.kept[: kept.count])


def test_sizes_that_change():
    call = torch.compile(function, backend="tilewright", dynamic=True)
    for rows in (600, 701, 600, 3, 900):
        a = torch.randn(rows, 512)
        right(call(a), a)


def test_training_with_two_forwards_before_a_backward():
    compiled = torch.compile(lambda a, w: (torch.tanh(a * w).exp() * w).cos(), backend="tilewright")
    plain = lambda a, w: (torch.tanh(a * w).exp() * w).cos()  # noqa: E731
    for scale in (1.0, -0.5, 2.0):
        grads = []
        for call in (compiled, plain):
            weights = torch.linspace(-1, 1, 512).requires_grad_()
            a, b = (X * scale).requires_grad_(), (X + scale).requires_grad_()
            first, second = call(a, weights), call(b, weights)
            (first.sum() - second.square().sum()).backward()
            grads.append([a.grad, b.grad, weights.grad])
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-3)


def test_threads_that_call_and_free_at_once(program):
    failures, handed = [], []

    def work(number):
        for step in range(15):
            a = X * (number + step / 16)
            result = program(a)
            handed.append(result)  # the others free it
            for _ in range(2):
                if not torch.allclose(result, function(a), rtol=1e-5, atol=1e-6):
                    failures.append((number, step))
            del result
            if len(handed) > 3:
                del handed[:2]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and kept_results().locked == 0


def test_limits(program, monkeypatch):
    kept = kept_results()
    unlimited = kept.limit
    monkeypatch.setattr(kept, "limit", 2 * X.numel() * 4)
    results = [right(program(X)) for _ in range(4)]
    assert kept.count == 2 and kept.bytes <= kept.limit
    del results
    monkeypatch.setattr(kept, "limit", 0)
    right(program(X))
    assert kept.count == 2
    monkeypatch.setattr(kept, "limit", unlimited)
    for _ in range(KEPT_RESULTS + 1):
        used = program(X).data_ptr()
    assert kept.count == 1 and kept.kept[0].data == used  # what fits no call goes


def test_small_results_are_left_to_malloc(program):
    kept = kept_results()
    kept.least, before = LEAST, kept.clock
    program(X)
    assert kept.clock == before


def test_a_dead_program_lets_go():
    call = tilewright.compile(lambda a: torch.tanh(a) * 5, (X,))
    result = call(X)
    assert kept_results().count == 1
    del call
    gc.collect()
    assert kept_results().count == 0 == kept_results().bytes
    torch.testing.assert_close(result, torch.tanh(X) * 5)


def test_the_layouts_agree_with_the_header():
    """A loader with other ideas of it would be refused."""
    assert ctypes.sizeof(Results) == 8 * (7 + 5 * KEPT_RESULTS) == kept_results().size


PROCESS = """
import builtins, os, torch, tilewright
from tilewright.codegen.results import kept_results
kept_results().least = 1 << 20
x = torch.randn(700, 512)
call = tilewright.compile(lambda a: torch.tanh(a) * 2, (x,))
builtins.held = call, call(x), call(x).untyped_storage(), call(x)
child = os.fork()
right = torch.allclose(call(x), torch.tanh(x) * 2)
if child == 0:
    raise SystemExit(0 if right else 3)
assert right and os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_children_and_the_end_of_the_process():
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
