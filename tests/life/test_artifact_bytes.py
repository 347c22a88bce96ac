"""The artifact under damage: bytes of its frame and its body, parts swapped, cut, added; and many loaders at once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import tilewright
from tilewright import artifact, compilation
from tilewright.ir.errors import ArtifactError

X = torch.linspace(-2, 2, 24).view(4, 6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.GELU(), torch.nn.Linear(5, 2)).eval()
    return tilewright.compile(model, (X,)).save(tmp_path_factory.mktemp("artifact") / "model.tw")


@pytest.fixture
def refused(saved, tmp_path, monkeypatch):
    """Load an artifact made of these bytes: it must be refused, and before anything of it is run."""
    path = tmp_path / "changed.tw"
    # `load` imports it when it is asked to: whatever goes on from there is code of the file.
    monkeypatch.setattr(compilation, "load_compilation", lambda parts: pytest.fail("what was damaged would be run"))

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with pytest.raises(ArtifactError):
            tilewright.load(path)

    return check


def regions(path: Path) -> dict[str, list[int]]:
    """Positions of the file's bytes: of its frame (zip headers and seal), the manifest, each kind of member."""
    found: dict[str, list[int]] = {}
    with zipfile.ZipFile(path) as archive:
        frame = set(range(path.stat().st_size))
        for info in archive.infolist():
            start = info.header_offset + 30 + len(info.filename)
            span = range(start, start + info.file_size)
            frame -= set(span)
            kind = "manifest" if info.filename == artifact.MANIFEST else Path(info.filename).suffix
            found.setdefault(kind, []).extend(span)
    return {"frame": sorted(frame), **found}


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_every_region_is_there(saved):
    assert set(regions(saved)) == {"frame", "manifest", ".json", ".mlir", ".py", ".cpp", ".so", ".safetensors"}


def test_flipped_bytes(saved, refused):
    data, generator = saved.read_bytes(), random.Random(0)
    for positions in regions(saved).values():
        for at in generator.sample(positions, 40):
            refused(flipped(data, at, generator.randrange(8)))


@pytest.mark.slow
def test_every_flipped_byte_of_the_frame(saved, refused):
    data, generator = saved.read_bytes(), random.Random(1)
    for at in regions(saved)["frame"]:
        refused(flipped(data, at, generator.randrange(8)))


@pytest.mark.slow
def test_many_flipped_bytes_of_manifest_and_body(saved, refused):
    data, generator = saved.read_bytes(), random.Random(2)
    for positions in regions(saved).values():
        for at in generator.sample(positions, min(150, len(positions))):
            refused(flipped(data, at, generator.randrange(8)))


def test_several_changed_bytes(saved, refused):
    """Bytes that no checksum of 32 bits need notice: zeros over a span, and noise."""
    data, generator = saved.read_bytes(), random.Random(3)
    for _ in range(60):
        start = generator.randrange(len(data) - 64)
        for fill in (bytes(64), generator.randbytes(64)):
            changed = data[:start] + fill + data[start + 64 :]
            if changed != data:
                refused(changed)


def test_truncated(saved, refused):
    data = saved.read_bytes()
    for length in (0, 1, 21, 22, 100, *range(200, len(data), len(data) // 60), len(data) - 1):
        refused(data[:length])


def test_bytes_added(saved, refused):
    data = saved.read_bytes()
    for extra in (b"\0", b"x" * 100, data):
        refused(data + extra)
        refused(extra + data)
    middle = len(data) // 2
    refused(data[:middle] + b"\0" + data[middle:])
    refused(data[:middle] + data[middle + 1 :])


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes], to: Path, sealed: bool = True) -> bytes:
    with zipfile.ZipFile(to, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    if sealed:
        artifact.seal(to)
    return to.read_bytes()


def test_parts_swapped(saved, refused, tmp_path):
    """Also where the zip file is made anew around them, checksums and seal included."""
    members = members_of(saved)
    names = [name for name in members if name != artifact.MANIFEST]
    different = [(a, b) for a, b in zip(names, names[1:] + names[:1]) if members[a] != members[b]]
    assert len(different) > 4
    for a, b in different:
        refused(packed({**members, a: members[b], b: members[a]}, tmp_path / "swapped"))
    refused(packed(members, tmp_path / "unsealed", sealed=False))


def test_parts_of_another_artifact(saved, refused, tmp_path):
    other = tilewright.compile(lambda x: x * 3 + 1, (X,)).save(tmp_path / "other.tw")
    mine, others = members_of(saved), members_of(other)
    for name in mine.keys() & others.keys():
        if mine[name] != others[name]:
            refused(packed({**mine, name: others[name]}, tmp_path / "mixed"))


def test_manifests_that_lie(saved, refused, tmp_path):
    members = members_of(saved)
    manifest = json.loads(members[artifact.MANIFEST])
    rows = manifest["members"]
    kernel = next(name for name in rows if name.endswith(".so"))
    for changed in (
        {**rows, kernel: {**rows[kernel], "bytes": rows[kernel]["bytes"] - 1}},
        {**rows, kernel: {**rows[kernel], "sha256": "0" * 64}}, {**rows, kernel: None}, {**rows, kernel: {}},
        {name: row for name, row in rows.items() if name != kernel}, {**rows, "../x.so": rows[kernel]}, {},
    ):
        text = json.dumps({**manifest, "members": changed}).encode()
        refused(packed({**members, artifact.MANIFEST: text}, tmp_path / "lies"))
    refused(packed({**members, artifact.MANIFEST: b"[" * 100_000}, tmp_path / "deep"))


def test_paths_that_are_no_files(saved, tmp_path):
    (tmp_path / "folder.tw").mkdir()
    (tmp_path / "dead.tw").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.tw").symlink_to(tmp_path / "loop.tw")
    (tmp_path / "live.tw").symlink_to(saved)
    for name, message in (("folder", "cannot be read"), ("dead", "no file"), ("loop", "cannot be read")):
        with pytest.raises(ArtifactError, match=message):
            tilewright.load(tmp_path / f"{name}.tw")
    assert tilewright.load(tmp_path / "live.tw")(X).shape == (4, 2)


def test_places_that_cannot_be_written(saved, tmp_path, monkeypatch):
    model = tilewright.load(saved)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder", tmp_path / "file" / "model.tw"):
        with pytest.raises(ArtifactError, match="cannot be written"):
            model.save(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ArtifactError, match="Permission denied"):
        tilewright.load(saved)


LOADER = """
import sys, torch, tilewright
print("ready", flush=True)
sys.stdin.readline()
for _ in range(3):
    result = tilewright.load(sys.argv[1])(torch.linspace(-2, 2, 24).view(4, 6))
print(result.double().sum().item())
"""


@pytest.mark.slow
def test_saved_by_one_process_and_loaded_in_ten_at_once(saved):
    expected = tilewright.load(saved)(X).double().sum().item()
    running = [
        subprocess.Popen([sys.executable, "-c", LOADER, str(saved)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         text=True, env={**os.environ, "CXX": "/nowhere/c++", "OMP_NUM_THREADS": "1"})
        for _ in range(10)
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [float(process.communicate(timeout=300)[0]) for process in running] == [expected] * 10
    assert all(process.returncode == 0 for process in running)
