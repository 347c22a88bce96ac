"""Models compiled with schedules from lockfiles and records, and the commands `tune` and `cache`, in this process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from record_cases import record

import tilewright
from tilewright import cli, pipeline, tuning
from tilewright.autotune.bundle import bundle, read_bundle
from tilewright.autotune.lockfile import Locked, read_lock, write_lock
from tilewright.autotune.measure import Worker
from tilewright.autotune.records import Trial
from tilewright.autotune.store import user_store
from tilewright.ir.errors import KernelBuildError, NumericMismatchError, OptionValueError, RecordError, UntunedError

X = torch.randn(24, 640)

SPEC = """
import torch

def function(x):
    return torch.softmax(x * 0.5, -1)

def make():
    return function, (torch.ones(24, 640),)
"""


def function(x):
    return torch.softmax(x * 0.5, -1)


def compiled(**options):
    return tilewright.compile(function, (X,), **options)


@pytest.fixture(scope="module")
def untuned():
    return compiled()


@pytest.fixture
def task(untuned):
    [made] = tuning.tasks_of(untuned.compilation)
    return made


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The records of a cache directory of this test's own; built kernels stay where they are."""
    monkeypatch.setattr("tilewright.autotune.store.cache_directory", lambda: tmp_path / "cache")
    return user_store()


@pytest.fixture
def nothing_is_measured(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a kernel was measured")

    monkeypatch.setattr(tuning, "tune", refuse)


def record_of(task, schedule, effort="quick"):
    asked = task.question
    return record(
        kernel=asked.kernel, family=asked.family, name=asked.name, kind=asked.kind, target=asked.target,
        threads=asked.threads, dtypes=asked.dtypes, schedule=schedule, found={**record().found, "effort": effort},
        trials=(Trial({}, "measured", (2e-5,)), Trial(schedule, "measured", (1e-5,))),
    )


def lock_line(task, schedule):
    asked = task.question
    return Locked(asked.kernel, asked.name, asked.target, asked.threads, {}, schedule)


def test_without_records_nothing_changes(untuned, store, nothing_is_measured):
    assert untuned.kernels[0].schedule == {}
    torch.testing.assert_close(untuned(X), function(X))


def test_a_record_is_used_and_nothing_measured(untuned, task, store, nothing_is_measured):
    store.add([record_of(task, {"LANES": 32})])
    for effort, schedule in (("off", {}), ("quick", {"LANES": 32})):
        model = compiled(autotune=effort)
        assert model.kernels[0].schedule == schedule
        assert (model.compilation.sources == untuned.compilation.sources) == (effort == "off")
        torch.testing.assert_close(model(X), function(X))
    assert "max_lanes[32]" in model.kernels[0].source
    assert compiled(autotune="quick", verify="numeric").kernels[0].schedule == {"LANES": 32}


def test_a_record_of_less_effort_does_not_do(task, store, monkeypatch):
    store.add([record_of(task, {"LANES": 32})])
    asked = []
    monkeypatch.setattr(tuning, "tune", lambda task, effort, *_, **__: asked.append(effort) or record_of(
        task, {"LANES": 16}, "full"))
    assert compiled(autotune="full").kernels[0].schedule == {"LANES": 16}
    assert compiled(autotune="full").kernels[0].schedule == {"LANES": 16}
    assert asked == ["full"]


def test_a_lockfile_makes_the_same_sources(task, store, tmp_path, nothing_is_measured):
    path = tmp_path / "tilewright.lock"
    write_lock(path, [lock_line(task, {"LANES": 16, "SIMDLEN": 8})])
    store.add([record_of(task, {"LANES": 32})])
    first = compiled(lockfile=path, locked=True)
    second = compiled(lockfile=str(path), autotune="quick")
    assert first.kernels[0].schedule == {"LANES": 16, "SIMDLEN": 8}
    assert first.compilation.sources == second.compilation.sources
    torch.testing.assert_close(first(X), function(X))


def test_locked_fails_where_something_would_be_tuned(task, store, tmp_path):
    path = tmp_path / "tilewright.lock"
    write_lock(path, [])
    with pytest.raises(UntunedError, match=rf"{task.question.name}: kernel: no line is for the IR"):
        compiled(lockfile=path, locked=True, autotune="quick")
    write_lock(path, [Locked(**{**vars(lock_line(task, {})), "threads": 4095})])
    with pytest.raises(UntunedError, match="4095 in the record"):
        compiled(lockfile=path, locked=True)
    assert compiled(lockfile=path).kernels[0].schedule == {}
    with pytest.raises(OptionValueError, match="needs a lockfile"):
        compiled(locked=True)
    with pytest.raises(RecordError, match="there is no lockfile"):
        compiled(lockfile=tmp_path / "none.lock")
    path.write_text("{")
    with pytest.raises(RecordError, match="not JSON"):
        compiled(lockfile=path)


def test_a_locked_model_through_torch_compile(task, store, tmp_path):
    path = tmp_path / "tilewright.lock"
    write_lock(path, [])
    with pytest.raises(Exception, match="locked, and"):
        torch.compile(function, backend="tilewright", options={"lockfile": path, "locked": True})(X)


def test_a_record_whose_kernel_does_not_build_is_set_aside(task, store, monkeypatch):
    made = record_of(task, {"LANES": 32})
    store.add([made])
    right = pipeline.native.build

    def build(source, target):
        if "max_lanes[32]" in source:
            raise KernelBuildError("the compiler has a bad day")
        return right(source, target)

    monkeypatch.setattr(pipeline.native, "build", build)
    assert compiled(autotune="quick").kernels[0].schedule == {}
    assert "a bad day" in store.read().asides[made.digest()].reason


def test_a_record_whose_kernel_is_wrong_is_set_aside(task, store, monkeypatch):
    made = record_of(task, {"LANES": 32})
    store.add([made])
    right = pipeline.print_files
    monkeypatch.setattr(pipeline, "print_files", lambda kernels, target, host: [
        text.replace("* 0.5f", "* 0.25f") if "max_lanes[32]" in text else text
        for text in right(kernels, target, host)
    ])
    with pytest.raises(NumericMismatchError) as raised:
        compiled(autotune="quick", verify="numeric")
    assert "set aside: compile again" in "".join(raised.value.__notes__)
    assert "is wrong" in store.read().asides[made.digest()].reason
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: record_of(task, {}))
    assert compiled(autotune="quick", verify="numeric").kernels[0].schedule == {}


def test_a_cache_that_cannot_be_written_is_done_without(task, store, monkeypatch, caplog):
    store.directory.parent.mkdir(parents=True)
    store.directory.write_text("a file where the directory should be")
    monkeypatch.setattr(tuning, "tune", lambda task, *_, **__: record_of(task, {"LANES": 16}))
    assert compiled(autotune="quick").kernels[0].schedule == {"LANES": 16}
    assert "cannot be kept" in caplog.text and "cannot be read" in caplog.text


def test_gpu_kernels_are_not_tuned(tmp_path, capsys):
    (tmp_path / "spec.py").write_text(SPEC)
    command = ["compile", str(tmp_path / "spec.py"), "-o", str(tmp_path / "out"), "--target", "sm_90"]
    assert cli.main([*command, "--autotune", "quick"]) == 2
    assert "not tuned in this version" in capsys.readouterr().err


@pytest.mark.slow
def test_tuning_for_real(store, tmp_path, capsys):
    path = tmp_path / "spec.py"
    path.write_text(SPEC)
    lock = tmp_path / "tilewright.lock"
    command = ["tune", str(path), "--effort", "quick", "--workers", "2", "--lockfile", str(lock)]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "1 tuned now" in out and f"wrote {lock}" in out
    assert cli.main([*command, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert not row["is_new"] and row["measured"] >= 2
    text = lock.read_text()
    assert cli.main(["tune", str(path), "--locked", "--lockfile", str(lock)]) == 0
    assert cli.main(["compile", str(path), "-o", str(tmp_path / "m.tw"), "--locked", "--lockfile", str(lock)]) == 0
    assert lock.read_text() == text and len(read_lock(lock)) == 1
    assert cli.main(["cache", "why", str(path)]) == 0
    assert "1 of 1 kernels have a record" in capsys.readouterr().out


class Mortal(Worker):
    """A worker whose process is killed at every third candidate, though not at defaults."""

    def check(self, schedule):
        self.checks = getattr(self, "checks", 0) + bool(schedule)
        if schedule and self.checks % 3 == 0 and self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
        super().check(schedule)


@pytest.mark.slow
def test_workers_that_are_killed_lose_their_candidates_only(store, monkeypatch):
    monkeypatch.setattr(tuning, "Worker", Mortal)
    functions = [lambda x: torch.softmax(x, -1), lambda x: x.sum(-1), lambda x: torch.exp(x) + x, lambda x: x.amax(-1)]
    tasks = [t for f in functions for t in tuning.tasks_of(tilewright.compile(f, (X,)).compilation)]
    tuned = tuning.tune_all(tasks, "quick", store, workers=3)
    assert len(tuned) == len(functions) and all(each.record is not None for each in tuned)
    killed = [trial for each in tuned for trial in each.record.trials if "SIGKILL" in trial.reason]
    assert killed and all(trial.outcome == "failed" for trial in killed)
    assert len(store.read().records) == len(functions) and len(store.read().failures) == len(killed)


# `tilewright cache` --------------------------------------------------------------------------------------------------


def told(capsys, *words) -> str:
    """What the command says; it succeeds."""
    assert cli.main(["cache", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_records_travel_through_bundles_and_urls(store, tmp_path, capsys):
    assert "0 records" in told(capsys, "ls")
    store.add([record(1), record(2)])
    assert "2 records" in told(capsys, "ls")
    assert [row["name"] for row in json.loads(told(capsys, "ls", "--json"))] == ["softmax_1", "softmax_2"]
    file = tmp_path / "two.bundle"
    assert "wrote 2 records" in told(capsys, "export", file)
    assert "wrote 1 records" in told(capsys, "export", tmp_path / "one.bundle", "--kernel", "softmax_1")
    assert [r.name for r in read_bundle((tmp_path / "one.bundle").read_bytes())[0]] == ["softmax_1"]
    url = (tmp_path / "shared" / "team.bundle").as_uri()
    assert "2 new, 0 were there" in told(capsys, "push", url)
    store.add([record(3)])
    assert "1 new, 2 were there" in told(capsys, "push", url)
    store.path.unlink()
    assert "3 new, 0 known, 0 set aside" in told(capsys, "pull", url)
    assert "0 new, 2 known, 0 set aside" in told(capsys, "import", file)
    assert "2 kernels have the same schedule in both, 1 differ" in told(capsys, "diff", file)


def test_conflicts_are_told_and_the_rank_decides(store, tmp_path, capsys):
    other = tmp_path / "other"
    full = record(1, schedule={"LANES": 16}, trials=(Trial({"LANES": 16}, "measured", (1e-5,)),),
                  found={**record().found, "effort": "full"})
    store.add([record(1)])
    user_store(other).add([full, record(2)])
    assert "softmax_1: LANES=32 here, LANES=16 there" in told(capsys, "diff", other)
    out = told(capsys, "merge", other)
    assert f"softmax_1: LANES=16 (full) from {other} replaces LANES=32 (quick)" in out
    assert "2 new, 0 known" in out
    assert "removed 1 lines, kept 2 records" in told(capsys, "gc")
    assert "replaces" not in told(capsys, "merge", other)


def test_bad_records_are_set_aside_once(store, tmp_path, capsys):
    from test_sharing import forged

    from tilewright.autotune.records import canonical

    bad = canonical({**record(1).as_dict(), "threads": 0})
    (tmp_path / "x.bundle").write_bytes(forged(bad, record(2).text()))
    for _ in range(2):
        assert "set aside" in told(capsys, "import", tmp_path / "x.bundle")
    contents = store.read()
    assert [r.name for r in contents.records.values()] == ["softmax_2"] and len(contents.asides) == 1
    assert len(store.path.read_bytes().splitlines()) == 2


def test_records_for_other_machines_are_kept_and_told(store, tmp_path, capsys):
    foreign = record(1, target={**record().target, "isa": "avx2", "cores": 96})
    (tmp_path / "x.bundle").write_bytes(bundle([foreign]))
    assert "1 are for other machines (avx2 x2)" in told(capsys, "import", tmp_path / "x.bundle")


def test_gc_by_age_and_failures(store, capsys):
    old = record(1, found={**record().found, "date": "2001-01-01"})
    new = record(2, found={**record().found, "date": "2999-01-01"})
    store.add([old, new])
    store.remember_failure("a" * 64, {}, {}, "failed", "x")
    assert "removed 2 lines, kept 1 records" in told(capsys, "gc", "--older-than", 30, "--failures")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["import", "none.bundle"], "none.bundle"), (["pull", "none.bundle"], "not a URL"),
        (["pull", "file:///none/x.bundle"], "there is nothing at"), (["push", "http://localhost/x"], "pull only"),
        (["merge", "nowhere"], "no cache directory"), (["export", "x", "--kernel", "soft"], "no record is of a kernel"),
        (["diff", "nowhere"], "nowhere"),
    ],
)
def test_failures_are_messages(words, says, store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cache", *words]) == 1
    out, err = capsys.readouterr()
    assert says in err and "Traceback" not in err and out == ""


def test_a_damaged_bundle_leaves_the_records_alone(store, tmp_path, capsys):
    store.add([record(1)])
    before = store.path.read_bytes()
    data = bundle([record(2), record(3)])
    for name, bad in {"cut": data[:-5], "bit": data[:100] + bytes([data[100] ^ 1]) + data[101:]}.items():
        Path(tmp_path / name).write_bytes(bad)
        assert cli.main(["cache", "import", str(tmp_path / name)]) == 1
        assert "damaged" in capsys.readouterr().err or name == "cut"
    assert store.path.read_bytes() == before
