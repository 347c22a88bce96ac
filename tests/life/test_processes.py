"""Several threads and processes, forks, kills and interrupts while models are compiled and called."""

from __future__ import annotations

import threading

import pytest
import torch
from processes import run, start

import tilewright

# Ten rounds, each with a cold cache and all caches of torch.compile dropped; four threads compile and call one model.
ROUNDS = """
for i in range(10):
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    cache = sys.stdin.readline().strip()
    os.environ["TILEWRIGHT_CACHE_DIR"] = cache
    torch._dynamo.reset()
    model = fresh(i + 1)
    call = compiled(model)
    gate, failures = threading.Barrier(4), []
    def work(rows):
        gate.wait()
        try:
            for _ in range(5):
                check(call, model, X[:rows])
        except BaseException as error:
            failures.append(error)
    threads = [threading.Thread(target=work, args=(rows,)) for rows in (64, 64, 31, 1)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not failures, failures
"""


@pytest.mark.slow
def test_two_processes_and_four_threads_share_a_cold_cache(tmp_path):
    running = [start(ROUNDS, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="passive") for _ in range(2)]
    for i in range(10):
        for process in running:
            assert process.stdout.readline() == "ready\n", process.stderr.read()[-3000:]
        for process in running:
            process.stdin.write(f"{tmp_path / str(i)}\n")
            process.stdin.flush()
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
    assert all(list((tmp_path / str(i)).rglob("*.so")) for i in range(10))
    assert not list(tmp_path.rglob(".work-*"))


def test_threads_compile_and_call_one_model():
    """Ahead of time and through torch.compile, with sizes of their own, all at once."""
    torch._dynamo.reset()
    x, failures, gate = torch.linspace(-2, 2, 60).view(10, 6), [], threading.Barrier(4)
    by_dynamo = torch.compile(lambda x: torch.softmax(x * 1.7, -1), backend="tilewright")

    def work(rows: int) -> None:
        gate.wait()
        try:
            expected = torch.softmax(x[:rows] * 1.7, -1)
            ahead = tilewright.compile(lambda x: torch.softmax(x * 1.7, -1), (x[:rows],))
            for _ in range(20):
                torch.testing.assert_close(by_dynamo(x[:rows]), expected)
                torch.testing.assert_close(ahead(x[:rows]), expected)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(rows,)) for rows in (2, 2, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


FORK = """
import multiprocessing, torch.utils.data
torch.set_num_threads(2)
model = fresh(2)
call, ahead = compiled(model), tilewright.compile(model, (X,))
big = X.repeat(40, 1)
check(call, model); check(ahead, model); check(call, model, big)  # parallel regions, of ours and of ATen
check(lambda x: (x @ x.t()).exp().relu(), lambda x: (x @ x.t()).exp().relu(), big)
assert torch.get_num_threads() == 2

def child(lines):
    check(call, model); check(ahead, model); check(call, model, big)
    other = fresh(5)
    check(compiled(other), other)
    threads = [threading.Thread(target=check, args=(ahead, model)) for _ in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    lines.put(torch.get_num_threads())

context = multiprocessing.get_context("fork")
lines = context.Queue()
process = context.Process(target=child, args=(lines,))
process.start(); process.join(120)
assert process.exitcode == 0, ("hangs" if process.exitcode is None else process.exitcode)
print("child", lines.get())

class Rows(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return X[i] * 2

for batch in torch.utils.data.DataLoader(Rows(), batch_size=4, num_workers=2, multiprocessing_context="fork"):
    check(compiled(fresh(3)), fresh(3), batch)

class Calls(Rows):
    def __getitem__(self, i): return ahead(X)[i]

[batch] = torch.utils.data.DataLoader(Calls(), batch_size=8, num_workers=1, multiprocessing_context="fork")
torch.testing.assert_close(batch, model(X)[:8])
check(call, model); check(ahead, model, X)
print("parent", torch.get_num_threads())
"""


def test_fork_after_use():
    """A forked child computes on one thread, ours and ATen's; its parent is as it was."""
    assert run(FORK, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="passive").split("\n")[:2] == ["child 1", "parent 2"]


# A process that has imported all forks children, which compile models into one cache and are killed at some time.
KILLED = """
def child(seed):
    model = fresh(seed)
    check(compiled(model), model)

generator = random.Random(0)
ended = []
for attempt in range(12):
    seed = attempt // 3
    pid = os.fork()
    if pid == 0:
        child(seed)
        os._exit(0)
    time.sleep(generator.random() * 1.5)
    os.kill(pid, signal.SIGKILL)
    ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert -9 in ended, "every child was faster"
for seed in range(4):
    child(seed)
print(ended)
"""


@pytest.mark.slow
def test_compiles_that_are_killed_leave_nothing_that_hurts(tmp_path):
    run(KILLED, TILEWRIGHT_CACHE_DIR=str(tmp_path), OMP_NUM_THREADS="1")


INTERRUPTED = """
generator, interrupted = random.Random(0), 0
for attempt in range(4):
    model = fresh(attempt)
    call = compiled(model)
    timer = threading.Timer(generator.random() * 0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        check(call, model)
        timer.join()
        time.sleep(0.05)
    except KeyboardInterrupt:
        interrupted += 1
    timer.join()
    check(call, model)
    check(tilewright.compile(model, (X,)), model)
assert interrupted, "every compilation was faster"
import gc
assert gc.isenabled()
print(interrupted)
"""


@pytest.mark.slow
def test_interrupted_compiles_can_be_made_again(tmp_path):
    run(INTERRUPTED, TILEWRIGHT_CACHE_DIR=str(tmp_path), OMP_NUM_THREADS="1")
