"""What goes wrong on a machine while compiling: the model still runs, or a message says what to do."""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
from pathlib import Path

import pytest
import torch

import tilewright
from tilewright.codegen import libraries, native
from tilewright.ir.errors import CompilerNotFoundError, KernelBuildError
from tilewright.ir.target import host_cpu

X = torch.linspace(-2, 2, 24).view(4, 6)
_numbers = itertools.count(os.getpid())

pytestmark = pytest.mark.build_failure


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    native._tell_once.cache_clear()
    yield tmp_path / "cache"
    native._tell_once.cache_clear()


@pytest.fixture
def warnings(caplog):
    """The warnings of ours so far, as texts."""
    return lambda: [r.getMessage() for r in caplog.records if r.name == "tilewright" and r.levelname == "WARNING"]


def model(x):
    return torch.softmax(x * 2 + 1, -1)


def compiled() -> tilewright.CompiledModel:
    """A model that was never compiled before, called once, and right."""
    factor = next(_numbers)
    made = tilewright.compile(lambda x: torch.softmax(x * factor + 1, -1), (X,))
    torch.testing.assert_close(made(X), torch.softmax(X * factor + 1, -1))
    return made


def source() -> str:
    """A kernel that nobody has built before."""
    return f'extern "C" int64_t answer(int64_t* y) {{\n  y[0] = {next(_numbers)};\n  return 0;\n}}\n'.join(
        ["#include <cstdint>\n", ""]
    )


def answer(text: str) -> None:
    """Build, load and run what `source` gave."""
    y = torch.zeros(1, dtype=torch.int64)
    [function] = native.load_kernels(text, ["answer"], host_cpu()).values()
    assert function(y.data_ptr()) == 0 and f"= {y.item()};" in text


def wrapper(directory: Path, body: str) -> str:
    """A script that tells its version as the real compiler does, and else does what `body` says ($out: the output)."""
    real = native.find_compiler().command[0]
    path = directory / f"cxx{next(_numbers)}"
    path.write_text(
        f'#!/bin/sh\nreal={real}\nif [ "$1" = --version ]; then exec $real --version; fi\n'
        'for word; do [ "$last" = -o ] && out=$word; last=$word; done\n' + body + "\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


BROKEN = {
    "refuses": ("echo 'error: out of ideas' >&2; exit 1", "refused .*"),
    "speaks no UTF-8": (r"printf '\377\376 error' >&2; exit 1", "refused .*"),
    "writes garbage": ('echo garbage > "$out"', "not a shared library"),
    "writes nothing": ("exit 0", "wrote no file"),
    "writes an empty file": (': > "$out"', "not a shared library"),
    "stops in the middle": ('$real "$@" && head -c 5000 "$out" > "$out.cut" && mv "$out.cut" "$out"', "cut off"),
    "writes another library": (
        'echo "int other;" > "$out.cpp" && $real -shared -fPIC "$out.cpp" -o "$out"', "has no kernel"),
    "is killed": ("kill -9 $$", "SIGKILL.*out of memory"),
    "has a part that is killed": ("echo 'fatal error: Killed signal terminated program cc1plus' >&2; exit 1",
                                  "out of memory"),
    "hangs": ("exec sleep 60", "stopped: it worked"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_compiler(kind, tmp_path, cache, monkeypatch, warnings):
    body, message = BROKEN[kind]
    with monkeypatch.context() as patch:
        patch.setenv("CXX", wrapper(tmp_path, body))
        patch.setattr(native, "BUILD_SECONDS", 0.5 if kind == "hangs" else 60)
        made = compiled()
        assert not made.kernels and len(warnings()) == 1
        assert "in ATen as a whole" in warnings()[0]
        with pytest.raises(KernelBuildError, match=message):
            tilewright.compile(model, (X,), fallback="error")
        assert not list(cache.rglob("*.json")), "what cannot be loaded must not be found again"
    assert tilewright.compile(model, (X,)).kernels


@pytest.mark.parametrize("cxx", ["false", "/nowhere/c++", "'unbalanced"])
def test_no_compiler(cxx, monkeypatch, warnings):
    with monkeypatch.context() as patch:
        patch.setenv("CXX", cxx)
        assert not compiled().kernels
        assert len(warnings()) == 1 and "apt install" in warnings()[0]
        with pytest.raises(CompilerNotFoundError, match="set CXX"):
            tilewright.compile(model, (X,), fallback="error")
    assert tilewright.compile(model, (X,)).kernels


def test_a_compiler_that_is_installed_later_is_found(tmp_path, monkeypatch):
    real = native.find_compiler().command[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not native.compiler_available()
    (tmp_path / "c++").symlink_to(real)
    assert native.compiler_available()


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


def read_only(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "somewhere")


def once(function, real):
    """`function` at the first call, `real` later: the cache is full, the directory of the process is not."""
    calls = itertools.count()
    return lambda *args, **kwargs: (function if next(calls) == 0 else real)(*args, **kwargs)


SITES = {
    "directory": (Path, "mkdir"), "work directory": (native.tempfile, "TemporaryDirectory"),
    "file": (native.tempfile, "NamedTemporaryFile"), "rename": (native.os, "replace"),
    "library": (native, "_replace"), "file's data": (native, "_write"), "compiler": (native, "_run_compiler"),
}


@pytest.mark.parametrize("fault", [full, read_only])
@pytest.mark.parametrize("site", SITES)
def test_a_cache_that_cannot_be_written(site, fault, monkeypatch, warnings, cache):
    owner, name = SITES[site]
    text = source()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, once(fault, getattr(owner, name)))
        answer(text)
    assert len(warnings()) == 1 and "TILEWRIGHT_CACHE_DIR" in warnings()[0]
    assert not list(cache.rglob("*.json"))
    assert not list(cache.rglob(f"{native._WORK}*")), "nothing half done is left"
    answer(text)  # once there is space it is kept
    assert list(cache.rglob("*.json"))


@pytest.mark.parametrize("site", ["work directory", "rename", "file's data", "compiler"])
def test_no_place_at_all(site, monkeypatch, warnings):
    owner, name = SITES[site]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(KernelBuildError, match="Free some space, or set TILEWRIGHT_CACHE_DIR"):
            native.build(source(), host_cpu())
        assert not compiled().kernels
    assert "Free some space" in warnings()[-1]
    assert compiled().kernels


def test_a_full_disk_as_the_compiler_tells_it(tmp_path, monkeypatch, warnings):
    """The message of the linker; the second run, in another place, has space."""
    done = tmp_path / "done"
    body = (f'if [ -e {done} ]; then exec $real "$@"; fi; touch {done}\n'
            "echo 'ld: final link failed: No space left on device' >&2; exit 1")
    monkeypatch.setenv("CXX", wrapper(tmp_path, body))
    assert compiled().kernels
    assert "No space left" in warnings()[0]


def test_entries_of_a_read_only_cache_are_used(monkeypatch, warnings):
    text = source()
    answer(text)
    for owner, name in SITES.values():
        monkeypatch.setattr(owner, name, read_only)
    answer(text)
    assert not warnings()


def test_a_cache_that_is_a_file(cache, warnings):
    cache.write_text("not a directory")
    answer(source())
    assert len(warnings()) == 1 and str(cache) in warnings()[0]
    answer(source())
    assert len(warnings()) == 1


def entry(cache: Path, suffix: str) -> Path:
    [path] = cache.rglob(f"*{suffix}")
    return path


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.unlink()  # the old file may be mapped into this process
    path.write_bytes(data)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


DAMAGES = {
    "first byte": lambda cache: flip(entry(cache, ".so"), 0),
    "middle byte": lambda cache: flip(entry(cache, ".so"), 2000),
    "empty library": lambda cache: entry(cache, ".so").write_bytes(b""),
    "half a library": lambda cache: os.truncate(entry(cache, ".so"), 4000),
    "no library": lambda cache: entry(cache, ".so").unlink(),
    "library is a directory": lambda cache: replace_by_directory(entry(cache, ".so")),
    "library is a dead link": lambda cache: (entry(cache, ".so").unlink() or
                                             (cache / "x").symlink_to("nowhere")),
    "manifest is a directory": lambda cache: replace_by_directory(entry(cache, ".json")),
    "source is a directory": lambda cache: (replace_by_directory(entry(cache, ".cpp")),
                                            entry(cache, ".json").unlink()),
    "empty manifest": lambda cache: entry(cache, ".json").write_bytes(b""),
    "binary manifest": lambda cache: entry(cache, ".json").write_bytes(bytes(range(256))),
    "manifest of another kind": lambda cache: entry(cache, ".json").write_text("[1, 2]"),
    "manifest of elsewhere": lambda cache: entry(cache, ".json").write_text(
        json.dumps({"library": "/etc/passwd", "sha256": "0", "features": []})),
    "foreign files": lambda cache: [(entry(cache, ".so").parent / name).write_text("hello")
                                    for name in ("core", ".nfs1", ".work-old", "x.json")],
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_entries(kind, cache, warnings):
    text = source()
    path = native.build(text, host_cpu())
    assert path.is_file()
    DAMAGES[kind](cache)
    answer(text)
    key = native.cache_key(text, host_cpu())
    assert native._find_built(path.parent, key, host_cpu()) is not None, "the entry is whole again"
    assert not warnings()


def test_every_flipped_byte_of_a_manifest(cache):
    """What is loaded is what was built, or it is built again."""
    text = source()
    library = native.build(text, host_cpu())
    path, key = entry(cache, ".json"), native.cache_key(text, host_cpu())
    good, data = library.read_bytes(), path.read_bytes()
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        found = native._find_built(path.parent, key, host_cpu())
        assert found is None or found.read_bytes() == good


def test_what_killed_processes_left_is_removed_when_it_is_old(cache):
    answer(source())
    for text in (source() for _ in range(20)):
        directory = cache / "native" / native.cache_key(text, host_cpu())[:2]
        (directory / f"{native._WORK}dead").mkdir(parents=True, exist_ok=True)
        (directory / f"{native._WORK}file").write_text("half")
        os.utime(directory / f"{native._WORK}file", (0, 0))
        os.utime(directory / f"{native._WORK}dead", (0, 0))
        (directory / f"{native._WORK}busy").mkdir(exist_ok=True)
    answer(text)
    assert [p.name for p in directory.glob(f"{native._WORK}*")] == [f"{native._WORK}busy"]


@pytest.mark.parametrize("place", ["simplify", "fuse", "lower", "plan-memory", "import", "print"])
def test_out_of_memory_while_compiling(place, monkeypatch, warnings):
    from tilewright import pipeline
    from tilewright.passes.registry import find_pass

    def exhausted(*args, **kwargs):
        raise MemoryError

    with monkeypatch.context() as patch:
        owner, name = {"import": (pipeline, "import_graph"), "print": (pipeline, "print_files")}.get(
            place, (None, "run"))
        patch.setattr(owner or find_pass(place), name, exhausted)
        assert not compiled().kernels
        assert len(warnings()) == 1 and "out of memory while compiling; free some" in warnings()[0]
        with pytest.raises(MemoryError):
            tilewright.compile(model, (X,), fallback="error")
    assert compiled().kernels


def test_an_own_directory_is_removed_at_the_end(tmp_path):
    import subprocess
    import sys

    (tmp_path / "cache").write_text("")
    code = f"""
from tilewright.codegen import native
from tilewright.ir.target import host_cpu
native.load_kernels({source()!r}, ["answer"], host_cpu())
import os
if os.fork() == 0:
    raise SystemExit  # a child leaves what is its parent's
os.wait()
assert native._own_directory().is_dir() and list(native._own_directory().rglob("*.so"))
"""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TMPDIR": str(scratch)})
    assert not list(scratch.iterdir())


def test_libraries_are_opened_once_for_equal_content_and_closed_after_use(tmp_path):
    text = source()
    path = native.build(text, host_cpu())
    copy = tmp_path / "copy.so"
    copy.write_bytes(path.read_bytes())
    before = libraries.open_count()
    first, second = (libraries.load_library(p, text, host_cpu()) for p in (path, copy))
    assert libraries.open_count() == before + 1
    assert str(copy) not in Path("/proc/self/maps").read_text()
    del first
    assert libraries.open_count() == before + 1
    y = torch.zeros(1, dtype=torch.int64)
    assert second["answer"](y.data_ptr()) == 0 and y.item()
    del second
    assert libraries.open_count() == before
    assert str(path) not in Path("/proc/self/maps").read_text()
