"""The store: processes write at once, are killed, and disks damage lines; what was committed stays, and only that."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from record_cases import question, record

from tilewright.autotune.lookup import best, why
from tilewright.autotune.store import Store

HERE = Path(__file__).parent

# Adds records FIRST, FIRST + 1 … to the store, and says which are committed.
WRITER = """
import sys
sys.path.insert(0, {here!r})
from record_cases import record
from tilewright.autotune.store import Store
store = Store({directory!r})
for number in range({first}, {first} + {count}):
    store.add([record(number)])
    print(number, flush=True)
"""


def writer(directory: Path, first: int, count: int) -> subprocess.Popen[str]:
    text = WRITER.format(here=str(HERE), directory=str(directory), first=first, count=count)
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def test_records_are_kept_once(tmp_path):
    store = Store(tmp_path / "new" / "folder")
    assert store.read().records == {}
    assert store.add([record(1), record(2), record(1)]) == 2
    assert store.add([record(2), record(3)]) == 1
    assert list(store.read().records.values()) == [record(1), record(2), record(3)]


def test_what_is_set_aside_is_not_usable(tmp_path):
    store = Store(tmp_path)
    store.add([record(1), record(2)])
    store.set_aside(record(1).digest(), "softmax_1", "its kernel\ndoes not build")
    contents = store.read()
    assert list(contents.usable.values()) == [record(2)]
    assert contents.asides[record(1).digest()].reason == "its kernel does not build"
    assert why(contents.records, contents.asides, question(1)).endswith("its kernel does not build")


def test_failures_are_remembered_by_kernel_target_and_schedule(tmp_path):
    store, target = Store(tmp_path), dict(record().target)
    store.remember_failure("a" * 64, target, {"LANES": 16}, "failed", "SIGSEGV")
    contents = store.read()
    assert contents.failure("a" * 64, target, {"LANES": 16}) == "SIGSEGV"
    assert contents.failure("a" * 64, target, {"LANES": 32}) is None
    assert contents.failure("a" * 64, {**target, "cores": 99}, {"LANES": 16}) is None
    assert contents.failure("b" * 64, target, {"LANES": 16}) is None


@pytest.mark.parametrize("kept", [0, 1, 40, 200])
def test_what_a_killed_writer_has_begun_costs_nothing(tmp_path, kept):
    store = Store(tmp_path)
    store.add([record(1), record(2)])
    line = store.path.read_bytes().splitlines(keepends=True)[0]
    with open(store.path, "ab") as file:
        file.write(line[:kept])
    store.add([record(3)])
    contents = store.read()
    assert list(contents.records.values()) == [record(1), record(2), record(3)]
    assert contents.damaged == (kept > 0)


def test_a_flipped_bit_costs_its_line_only(tmp_path):
    store = Store(tmp_path)
    store.add([record(n) for n in range(5)])
    whole = store.path.read_bytes()
    known = {record(n).digest(): record(n) for n in range(5)}
    chance = random.Random(0)
    for _ in range(60):
        place = chance.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        store.path.write_bytes(damaged)
        found = store.read().records
        assert len(found) >= 3 and all(known[key] == value for key, value in found.items())


def test_a_truncated_file_keeps_what_is_whole(tmp_path):
    store = Store(tmp_path)
    store.add([record(n) for n in range(4)])
    whole = store.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for length in [0, 1, ends[0] - 1, ends[0], ends[2] + 5, len(whole) - 1]:
        store.path.write_bytes(whole[:length])
        found = store.read()
        complete = sum(end <= length + 1 for end in ends)  # a line without its end is whole as well
        assert len(found.records) == complete
        assert all(value == record(int(value.name[8:])) for value in found.records.values())


def test_binary_noise_is_no_entry(tmp_path):
    store = Store(tmp_path)
    tmp_path.mkdir(exist_ok=True)
    store.path.write_bytes(os.urandom(5000) + b"\n" + b"\n\n" + b"0" * 64 + b' {"record": {}}\n')
    contents = store.read()
    assert contents.records == {} and contents.damaged >= 1
    store.add([record(1)])
    assert list(store.read().records.values()) == [record(1)]


def test_an_entry_with_a_right_hash_and_a_bad_record_is_not_used(tmp_path):
    from tilewright.autotune.store import _line

    store = Store(tmp_path)
    store.path.write_bytes(_line({"record": {**record(1).as_dict(), "threads": 0}}) + b"\n")
    assert store.read().records == {} and store.read().damaged == 1


def test_gc_keeps_what_is_asked_for(tmp_path):
    store = Store(tmp_path)
    store.add([record(n) for n in range(4)])
    store.set_aside(record(0).digest(), "", "bad")
    store.set_aside(record(1).digest(), "", "bad")
    store.remember_failure("a" * 64, record().target, {}, "failed", "x")
    with open(store.path, "ab") as file:
        file.write(b"half a li")
    assert store.forget(lambda r: r.name != "softmax_0") == 3
    contents = store.read()
    assert len(contents.records) == 3 and list(contents.asides) == [record(1).digest()] and contents.damaged == 0
    assert contents.failure("a" * 64, record().target, {}) == "x"
    store.forget(lambda r: True, keep_failures=False)
    assert store.read().failures == {} and len(store.read().records) == 3


@pytest.mark.slow
def test_writers_at_once_lose_nothing(tmp_path):
    count, each = 8, 12
    processes = [writer(tmp_path, 100 * n, each) for n in range(count)]
    for process in processes:
        process.communicate(timeout=300)
        assert process.returncode == 0
    contents = Store(tmp_path).read()
    assert sorted(r.name for r in contents.records.values()) == sorted(
        f"softmax_{100 * n + k}" for n in range(count) for k in range(each)
    )
    assert contents.damaged == 0


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_loses_nothing_committed(tmp_path):
    chance = random.Random(1)
    committed: set[int] = set()
    for attempt in range(4):
        process = writer(tmp_path, 1000 * attempt, 100_000)
        assert process.stdout is not None
        committed.add(int(process.stdout.readline()))
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        committed |= {int(word) for word in process.stdout.read().split()}
        process.wait()
    contents = Store(tmp_path).read()
    names = {r.name for r in contents.records.values()}
    assert {f"softmax_{n}" for n in committed} <= names
    assert all(record(int(r.name[8:])) == r for r in contents.records.values())
    Store(tmp_path).add([record(7)])  # the lock went with its holder
    assert "softmax_7" in {r.name for r in Store(tmp_path).read().records.values()}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"threads": 8}, "threads: 8 here, 2 in the record"),
        ({"target": {**record().target, "cores": 64}}, "target.cores: 64 here"),
        ({"target": {**record().target, "features": ("x86_64",)}}, "target.features: x86_64 here"),
        ({"sizes": {"n0": 5}}, "sizes.n0: 5 here, 0 to -1 in the record"),
        ({"kernel": "f" * 64}, "kernel: the record is for other numbers in the same IR"),
        ({"kernel": "f" * 64, "family": "f" * 64}, "kernel: no record is for the IR ffff"),
    ],
)
def test_why_names_the_field(changes, told):
    records = {record().digest(): record()}
    assert best(records.values(), question()) == record()
    assert "found" in why(records, {}, question())
    assert best(records.values(), question(**changes)) is None
    assert told in why(records, {}, question(**changes))


def test_a_range_of_sizes_answers_for_what_is_in_it():
    made = record(sizes={"n0": (16, 64)})
    assert best([made], question(sizes={"n0": 16})) == made
    assert best([made], question(sizes={"n0": 65})) is None
    assert best([made], question()) is None
