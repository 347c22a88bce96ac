"""Building and loading: the cache and what may be wrong with it, errors, and the one OpenMP runtime."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kernel_cases import read_kernel

from tilewright.codegen import native
from tilewright.codegen.cpp import print_file
from tilewright.ir.errors import CompilerNotFoundError, KernelBuildError
from tilewright.ir.target import host_cpu, target

SOURCE = """#include "tilewright.h"
extern "C" int64_t answer(int64_t* __restrict y, int64_t n) {
  y[0] = n;
  return 0;
}
"""


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    return tmp_path


def answer(source: str = SOURCE) -> int:
    y = torch.zeros(1, dtype=torch.int64)
    [function] = native.load_kernels(source, ["answer"], host_cpu()).values()
    assert function(y.data_ptr(), 2**40 + 1) == 0
    return int(y.item()) - 2**40


def test_a_kernel_is_built_once(cache, monkeypatch):
    assert answer() == 1
    files = {p: p.stat().st_mtime_ns for p in cache.rglob("*.*")}
    assert {p.suffix for p in files} == {".cpp", ".so", ".json"}

    def refuse(*args, **kwargs):
        raise AssertionError("compiled again")

    monkeypatch.setattr(native, "_run_compiler", refuse)
    assert answer() == 1
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.*")} == files


def damage_binary(cache: Path) -> None:
    [library] = cache.rglob("*.so")
    # A fresh file: the old one may be mapped into this process.
    data = bytearray(library.read_bytes())
    data[-100] ^= 1
    library.unlink()
    library.write_bytes(data)


def damage_manifest(cache: Path) -> None:
    [manifest] = cache.rglob("*.json")
    manifest.write_text(manifest.read_text()[:40])


def escape_directory(cache: Path) -> None:
    [manifest] = cache.rglob("*.json")
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(fields | {"library": f"../{manifest.parent.name}/{fields['library']}"}))


def lose_binary(cache: Path) -> None:
    [library] = cache.rglob("*.so")
    library.unlink()


def claim_features(cache: Path) -> None:
    [manifest] = cache.rglob("*.json")
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(fields | {"features": ["x86_64", "avx9000"]}))


@pytest.mark.parametrize("damage", [damage_binary, damage_manifest, escape_directory, lose_binary, claim_features])
def test_a_damaged_entry_is_built_again(cache, damage, monkeypatch):
    assert answer() == 1
    damage(cache)
    key = native.cache_key(SOURCE, host_cpu())
    [source] = cache.rglob("*.cpp")
    assert native._find_built(source.parent, key, host_cpu()) is None
    assert answer() == 1
    assert native._find_built(source.parent, key, host_cpu()) is not None


def test_the_key_depends_on_all_that_shapes_the_binary(cache, monkeypatch):
    host = host_cpu()
    keys = {
        native.cache_key(SOURCE, host),
        native.cache_key(SOURCE + " ", host),
        native.cache_key(SOURCE, replace(host, features=host.features[:1], isa="generic")),
    }
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-g"))
    keys.add(native.cache_key(SOURCE, host))
    monkeypatch.setattr(native, "_header_digest", lambda: "another header")
    keys.add(native.cache_key(SOURCE, host))
    assert len(keys) == 5


def test_code_that_does_not_compile_is_an_error_with_the_message_and_the_source(cache):
    with pytest.raises(KernelBuildError, match="no_such_thing") as error:
        native.build(SOURCE.replace("y[0]", "no_such_thing"), host_cpu())
    [path] = re.findall(r"refused (\S+\.cpp):", str(error.value))
    assert "no_such_thing" in Path(path).read_text()
    assert not list(cache.rglob("*.so")) and not list(cache.rglob("*.json"))


@pytest.mark.parametrize("cxx", ["/nowhere/c++", ""])
def test_no_compiler_is_an_error_that_says_what_to_install(cache, monkeypatch, cxx):
    monkeypatch.setenv("CXX", cxx)
    monkeypatch.setenv("PATH", str(cache))
    assert not native.compiler_available()
    with pytest.raises(CompilerNotFoundError, match="apt install"):
        native.load_kernels(SOURCE, ["answer"], host_cpu())


def test_a_target_that_this_machine_is_not_is_refused(cache):
    foreign = replace(host_cpu(), features=(*host_cpu().features, "avx9000"))
    with pytest.raises(KernelBuildError, match="avx9000"):
        native.load_kernels(SOURCE, ["answer"], foreign)
    with pytest.raises(KernelBuildError, match="sm_90"):
        native.load_kernels(SOURCE, ["answer"], target("sm_90"))


def test_several_sources_load_as_one(cache):
    names = ["softmax", "cumsum", "row_sum"]
    sources = [print_file([read_kernel(name)], host_cpu()) for name in names]
    assert list(native.load_kernels(sources, names, host_cpu())) == names


def test_kernels_share_torchs_openmp_runtime(cache):
    source = print_file([read_kernel("softmax")], host_cpu())
    functions = native.load_kernels(source, ["softmax"], host_cpu())  # what is not kept is closed
    maps = Path("/proc/self/maps").read_text()
    runtimes = {line.split()[-1] for line in maps.splitlines() if re.search(r"lib(gomp|iomp|omp)[^/]*\.so", line)}
    assert len(runtimes) == 1
    assert functions and any(str(cache) in line for line in maps.splitlines())


def test_a_fresh_process_finds_what_this_one_built(cache):
    assert answer() == 1
    code = (
        "from tilewright.codegen import native; from tilewright.ir.target import host_cpu\n"
        "native._run_compiler = None  # calling it fails\n"
        f"source = {SOURCE!r}\n"
        "print(native.load_kernels(source, ['answer'], host_cpu()).keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert result.returncode == 0, result.stderr
    assert "answer" in result.stdout
