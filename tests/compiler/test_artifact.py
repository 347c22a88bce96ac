"""The artifact: what goes in comes out, tied and strided as it was; what is foreign or damaged is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest
import safetensors.torch
import torch

import tilewright
from tilewright import artifact
from tilewright.ir.errors import ArtifactError
from tilewright.ir.target import host_cpu


class Tied(torch.nn.Module):
    """An embedding that is its own output layer, a transposed weight, and a counter that the call changes."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 8)
        self.head = torch.nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight
        self.mix = torch.nn.Parameter(torch.randn(8, 8).t())
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens):
        self.calls.add_(1)
        hidden = torch.nn.functional.gelu(self.embedding(tokens) @ self.mix)
        return {"logits": self.head(hidden), "calls": self.calls + 0}


TOKENS = torch.tensor([[1, 2, 3], [4, 5, 10]])


def compiled() -> tilewright.CompiledModel:
    torch.manual_seed(0)
    return tilewright.compile(Tied().eval(), (TOKENS,))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved artifact and the logits it must give."""
    path = tmp_path_factory.mktemp("artifact") / "tied.tw"
    model = compiled()
    model.save(path)
    return path, model(TOKENS)["logits"]


def rewritten(path, to, change=lambda name, data: data, extra=(), compress=zipfile.ZIP_STORED, rehash=False):
    """A copy of the artifact with members changed; `rehash` makes the manifest agree with them."""
    with zipfile.ZipFile(path) as archive:
        members = {name: change(name, archive.read(name)) for name in archive.namelist()}
    members = {name: data for name, data in members.items() if data is not None}
    if rehash:
        manifest = json.loads(members["manifest.json"])
        for name, row in manifest["members"].items():
            row.update(bytes=len(members[name]), sha256=artifact._sha256(members[name]))
        members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(to, "w", compress) as archive:
        for name, data in [*members.items(), *extra]:
            archive.writestr(name, data)
    artifact.seal(to)
    return to


def with_manifest(path, to, **values):
    def change(name, data):
        return json.dumps({**json.loads(data), **values}).encode() if name == "manifest.json" else data

    return rewritten(path, to, change)


def test_loads_and_gives_the_same(saved):
    path, logits = saved
    model = tilewright.load(path)
    assert torch.equal(model(TOKENS)["logits"], logits)
    assert [kernel.name for kernel in model.kernels] == [kernel.name for kernel in compiled().kernels]


def test_tied_weights_are_stored_once(saved):
    with zipfile.ZipFile(saved[0]) as archive:
        weights = safetensors.torch.load(archive.read("weights.safetensors"))
    assert sum(tensor.shape == (11, 8) for tensor in weights.values()) == 1


def test_changes_of_buffers_survive_calls_and_saving(saved, tmp_path):
    model = compiled()
    model(TOKENS)
    model.save(tmp_path / "later.tw")
    again = tilewright.load(tmp_path / "later.tw")
    assert [int(again(TOKENS)["calls"]) for _ in range(3)] == [2, 3, 4]


def test_saving_twice_gives_the_same_bytes(tmp_path):
    model = compiled()
    assert model.save(tmp_path / "a.tw").read_bytes() == model.save(tmp_path / "b.tw").read_bytes()


def test_loads_in_a_fresh_process_without_the_source(saved):
    path, logits = saved
    code = (
        "import sys, torch, tilewright; m = tilewright.load(sys.argv[1]); "
        "print(m(torch.tensor([[1, 2, 3], [4, 5, 10]]))['logits'].double().sum().item())"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd="/",
                         env={**os.environ, "CXX": "/nonexistent"}, check=True)
    assert float(ran.stdout) == pytest.approx(logits.double().sum().item(), rel=1e-6)


def test_no_pickle_and_no_foreign_member_names(saved):
    with zipfile.ZipFile(saved[0]) as archive:
        assert all(artifact._MEMBER.fullmatch(n) or n == artifact.MANIFEST for n in archive.namelist())
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


@pytest.mark.parametrize("values, message", [
    ({"format": 99}, "artifact format 99"),
    ({"tilewright": "9.9"}, "made by Tilewright 9.9"),
    ({"torch": "1.0"}, "made by torch 1.0"),
    ({"target": {**host_cpu().facts(), "features": ["x86_64", "avx9000"]}}, "avx9000, which this one lacks"),
    ({"target": {**host_cpu().facts(), "kind": "gpu", "name": "sm_90"}}, "made for target sm_90"),
    ({"members": None}, "no 'members'"),
    ({"signature": {}}, "signature"),
])
def test_foreign_artifacts_are_refused(saved, tmp_path, values, message):
    with pytest.raises(ArtifactError, match=message):
        tilewright.load(with_manifest(saved[0], tmp_path / "foreign.tw", **values))


def test_every_difference_is_named(saved, tmp_path):
    with pytest.raises(ArtifactError, match=r"Tilewright 9\.9.*torch 1\.0"):
        tilewright.load(with_manifest(saved[0], tmp_path / "foreign.tw", tilewright="9.9", torch="1.0"))


def test_each_changed_member_is_refused(saved, tmp_path):
    with zipfile.ZipFile(saved[0]) as archive:
        names = [name for name in archive.namelist() if name != "manifest.json"]
    for name in names:
        def flip(member, data, name=name):
            return data[:-1] + bytes([data[-1] ^ 1]) if member == name else data

        with pytest.raises(ArtifactError, match="damaged"):
            tilewright.load(rewritten(saved[0], tmp_path / "damaged.tw", flip))


def test_missing_added_and_doubled_members_are_refused(saved, tmp_path):
    path, to = saved[0], tmp_path / "changed.tw"
    with pytest.raises(ArtifactError, match=r"differ: prog\.mlir"):
        tilewright.load(rewritten(path, to, lambda name, data: None if name == "prog.mlir" else data))
    with pytest.raises(ArtifactError, match=r"differ: kernels/more\.cpp"):
        tilewright.load(rewritten(path, to, extra=[("kernels/more.cpp", b"int x;")]))
    with pytest.warns(UserWarning, match="Duplicate"):
        doubled = rewritten(path, to, extra=[("prog.mlir", b"")])
    with pytest.raises(ArtifactError):
        tilewright.load(doubled)


@pytest.mark.parametrize(
    "name", ["../escape.so", "/etc/x.so", "kernels/../../x.so", "evil.py", "kernels/a.py", "kernels/.so"]
)
def test_names_that_lead_elsewhere_are_refused(saved, tmp_path, name):
    with pytest.raises(ArtifactError, match="not a member that an artifact has"):
        tilewright.load(rewritten(saved[0], tmp_path / "evil.tw", extra=[(name, b"x")]))


def test_compressed_members_are_refused(saved, tmp_path):
    with pytest.raises(ArtifactError, match="compressed"):
        tilewright.load(rewritten(saved[0], tmp_path / "bomb.tw", compress=zipfile.ZIP_DEFLATED))


def test_weights_that_do_not_fit_are_refused(saved, tmp_path):
    def change(name, data):
        if name != "weights.safetensors":
            return data
        return safetensors.torch.save({key: value.flatten()[:1].clone()
                                       for key, value in safetensors.torch.load(data).items()})

    with pytest.raises(ArtifactError, match="do not fit"):
        tilewright.load(rewritten(saved[0], tmp_path / "short.tw", change, rehash=True))


def test_truncated_and_random_files_are_refused(saved, tmp_path):
    data = saved[0].read_bytes()
    for name, content in (("half", data[: len(data) // 2]), ("empty", b""), ("noise", bytes(range(256)) * 40)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError, match="damaged or is not an artifact"):
            tilewright.load(tmp_path / name)
    with pytest.raises(ArtifactError, match="no file"):
        tilewright.load(tmp_path / "absent.tw")


def test_a_failed_save_leaves_the_old_file(saved, tmp_path, monkeypatch):
    path = tmp_path / "kept.tw"
    path.write_bytes(b"old")
    monkeypatch.setattr(artifact.zipfile.ZipFile, "writestr", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compiled().save(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_tensors_keep_values_strides_and_sharing():
    base = torch.randn(6, 4)
    mixed = torch.arange(8, dtype=torch.int32)
    tensors = [
        ("plain", base), ("tied", base), ("transposed", base.t()), ("row", base[2]), ("strided", torch.randn(9)[1::2]),
        ("scalar", torch.tensor(3.0)), ("empty", torch.empty(0, 3)), ("half", torch.randn(5).bfloat16()),
        ("expanded", torch.randn(1, 3).expand(4, 3)), ("bool", torch.tensor([True, False])), ("ints", mixed[3:]),
        ("bits", mixed.view(torch.float32)[:2]), ("plain", torch.randn(2)),
    ]
    rows, data = artifact.pack_tensors(tensors)
    loaded = artifact.unpack_tensors(rows, safetensors.torch.load(data))
    for (name, before), after in zip(tensors, loaded):
        assert (after.dtype, after.shape, after.stride()) == (before.dtype, before.shape, before.stride()), name
        assert torch.equal(after, before), name
    loaded[0][2, 1] = 7
    assert loaded[1][2, 1] == 7 and loaded[2][1, 2] == 7 and loaded[3][1] == 7


def test_a_row_outside_of_its_storage_is_refused():
    rows, data = artifact.pack_tensors([("x", torch.ones(4))])
    with pytest.raises(ValueError, match="reaches byte 1600 of 16"):
        artifact.unpack_tensors([{**rows[0], "shape": [400]}], safetensors.torch.load(data))
