"""The `.tw` artifact: one zip file with all that a compiled model needs. Nothing in it is executed but its kernels.

Members (stored, not compressed; every one but the manifest is listed there with its size and sha256)::

    manifest.json            versions, target, options, signature, what each constant is, statistics, remarks
    weights.safetensors      each distinct storage once
    program.json             the program as plain data (`ir/plain.py`): the host program is rebuilt from it
    prog.mlir                the same as text, for reading: buffers, launches, library calls
    stages/03_fuse.mlir      the IR after each pass, for reading
    kernels/*.cpp, *.so      sources for reading, and the built kernels
    host.py                  the host program, for reading

What is not in a listed member (the manifest and the zip format's own bytes) has its sha256 at the end of the file, so
that no byte of the file is without a hash.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import tempfile
import weakref
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import safetensors.torch
import torch

from tilewright.ir.dtypes import BY_TORCH_NAME, DTYPES
from tilewright.ir.errors import ArtifactError
from tilewright.ir.plain import to_plain
from tilewright.ir.target import host_cpu, target
from tilewright.ir.version import VERSION
from tilewright.passes.base import Remark

from .signature import Signature

if TYPE_CHECKING:
    from .compilation import Compilation
    from .fallback import AnyCompilation

FORMAT = 3
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
_LAST = "prog"  # the name of the last stage, which is a member of its own
_MANIFEST_LIMIT = 64 << 20  # bytes; a manifest of a large model has under 1 MiB
_MEMBER = re.compile(
    r"weights\.safetensors|program\.json|prog\.mlir|host\.py|stages/\d\d_[A-Za-z0-9_.-]+\.mlir|kernels/[A-Za-z0-9_][A-Za-z0-9_.-]*\.(cpp|so)"
)


def save(
    compilation: AnyCompilation,
    signature: Signature,
    captured: Mapping[str, torch.Tensor],
    options: Mapping[str, Any],
    path: Path,
) -> Path:
    """Write the artifact, in one step: `path` holds the whole file or is left as it was.

    `captured` are the model's own tensors by name: constants of the program take their names in the file from it.
    Raises ArtifactError where there is nothing to save, or where `path` cannot be written.
    """
    from .compilation import Compilation

    if not isinstance(compilation, Compilation):
        reason = getattr(compilation, "reason", "the model has no program")
        raise ArtifactError(f"an artifact holds one program, and {reason}")
    name_of = {_identity(tensor): name for name, tensor in captured.items()}
    constants = [(name_of.get(_identity(t), f"constant_{i}"), t) for i, t in enumerate(compilation.constants)]
    mutated = [(m.constant, captured[m.constant]) for m in signature.mutations if m.constant is not None]
    rows, weights = pack_tensors([*constants, *mutated])
    members = _members(compilation, weights)
    manifest = {
        "format": FORMAT,
        "tilewright": VERSION,
        "torch": torch.__version__,
        "target": target(options.get("target")).facts(),
        "options": dict(options),
        "signature": signature.as_dict(),
        "constants": rows[: len(constants)],
        "mutated": rows[len(constants) :],
        "stages": [stage for stage in compilation.stages if stage != _LAST],
        "stats": compilation.stats,
        "remarks": [vars(remark) for remark in compilation.remarks],
        "members": {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in members.items()},
    }
    try:
        _write(path, json.dumps(manifest, indent=1, default=str), members)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from None
    return path


def _write(path: Path, manifest: str, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_entry(MANIFEST), manifest)
                for name, data in members.items():
                    archive.writestr(_entry(name), data)
            file.close()
            seal(Path(file.name))
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


_HEX = 64  # digits of a sha256
_SEAL = b"sha256 of manifest and zip headers "


def seal(path: Path) -> None:
    """End a zip file with the hash of all that the manifest does not vouch for."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _SEAL + b"0" * _HEX
    with path.open("r+b") as file, zipfile.ZipFile(file) as archive:
        digest = _frame_digest(file, archive)
        file.seek(-_HEX, 2)
        file.write(digest.encode())


def _frame_digest(file: IO[bytes], archive: zipfile.ZipFile) -> str:
    """The sha256 of a sealed file without its members' data and the seal's digits. Raises BadZipFile."""
    end = file.seek(0, 2) - _HEX
    spans = []
    for info in archive.infolist():
        if info.filename != MANIFEST:
            start = _data_start(file, info)
            spans.append((start, start + info.compress_size))
    digest, position = hashlib.sha256(), 0
    for start, stop in [*sorted(spans), (end, end)]:
        if not position <= start <= stop <= end:
            raise zipfile.BadZipFile("its members overlap")
        file.seek(position)
        digest.update(b"%d " % (start - position) + file.read(start - position))
        position = stop
    return digest.hexdigest()


def _data_start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a member's data begins in the file."""
    file.seek(info.header_offset + 26)  # in the member's own header: lengths of its name and its extra field
    return info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))


def _check_seal(file: IO[bytes], archive: zipfile.ZipFile, path: Path) -> None:
    if archive.comment != _SEAL + _frame_digest(file, archive).encode():
        raise ArtifactError(f"{path} is damaged: its manifest or its headers are not those that were written")


def load(path: Path) -> tuple[AnyCompilation, Signature, dict[str, torch.Tensor], dict[str, Any]]:
    """What `save` was given. Raises ArtifactError, naming what differs, before any of the file's code is loaded."""
    from .compilation import load_compilation

    directory = tempfile.TemporaryDirectory(prefix="tilewright-")
    folder = Path(directory.name)
    manifest, weights = unpack(path, folder)
    refuse_foreign(manifest, str(path))
    signature = Signature.from_dict(manifest["signature"])
    try:
        rows = [*manifest["constants"], *manifest["mutated"]]
        # At once, so that what the model changes is what the program reads.
        tensors = unpack_tensors(rows, stored_bytes(weights))
        stages = {name: (folder / _stage_member(i, name)).read_text() for i, name in enumerate(manifest["stages"])}
        parts = {
            "program": json.loads((folder / "program.json").read_text()),
            "sources": [file.read_text() for file in sorted((folder / "kernels").glob("*.cpp"))],
            "libraries": sorted((folder / "kernels").glob("*.so")),
            "constants": tensors[: len(manifest["constants"])],
            "weights": (),
            "fallbacks": manifest["stats"]["fallbacks"],
            "options": manifest["options"],
        }
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise ArtifactError(f"{path}: the artifact's parts do not fit together: {error}") from None
    compilation = load_compilation(parts)
    compilation.stages = {**stages, _LAST: (folder / "prog.mlir").read_text()}
    compilation.stats = manifest["stats"]
    compilation.seconds = manifest["stats"]["compile_seconds"]
    compilation.remarks = [
        Remark(row["pass_name"], row["kind"], row["message"], tuple(row["lines"])) for row in manifest["remarks"]
    ]
    # The libraries stay open by their path in some debuggers and profilers: keep the folder as long as the program.
    weakref.finalize(compilation, directory.cleanup)
    captured = {row["name"]: tensor for row, tensor in zip(rows, tensors)}
    return compilation, signature, captured, manifest["options"]


def _members(compilation: Compilation, weights: bytes) -> dict[str, bytes]:
    members = {
        "weights.safetensors": weights,
        "program.json": json.dumps(to_plain(compilation.module)).encode(),
        "prog.mlir": compilation.prog_text.encode(),
        "host.py": compilation.host_source.encode(),
    }
    for i, name in enumerate(stage for stage in compilation.stages if stage != _LAST):
        members[_stage_member(i, name)] = compilation.stages[name].encode()
    for i, source in enumerate(compilation.sources):
        members[f"kernels/kernels_{i:02}.cpp"] = source.encode()
    for i, library in enumerate(compilation.libraries):
        members[f"kernels/kernels_{i:02}.so"] = Path(library).read_bytes()
    return members


def _stage_member(index: int, name: str) -> str:
    return f"stages/{index:02}_{re.sub(r'[^A-Za-z0-9_-]', '_', name)}.mlir"


def _entry(name: str) -> zipfile.ZipInfo:
    """A zip entry with a fixed date, so that saving the same model twice gives the same bytes."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    return entry


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def unpack(path: Path, folder: Path) -> tuple[dict[str, Any], torch.Tensor]:
    """Check an artifact's members against its manifest, write them into `folder`; gives the manifest.

    The weights, most of the file, are not written: they are given as the bytes of their member.

    Nothing is interpreted but the manifest's JSON. Raises ArtifactError for a file that is not an artifact of this
    format, is damaged, or holds anything that the manifest does not list.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            manifest = _read_manifest(archive, path)
            _check_seal(file, archive, path)
            listed: dict[str, Any] = manifest["members"]
            found = [info for info in archive.infolist() if info.filename != MANIFEST]
            _check_names(path, [info.filename for info in found], listed)
            weights = torch.empty(0, dtype=torch.uint8)
            for info in found:
                if info.filename == WEIGHTS:
                    weights = _read_weights(file, info, listed[WEIGHTS], path)
                    continue
                (folder / info.filename).parent.mkdir(exist_ok=True)
                _extract(archive, info, listed[info.filename], folder / info.filename, path)
            return manifest, weights
    except FileNotFoundError:
        raise ArtifactError(f"there is no file {path}") from None
    except ArtifactError:
        raise
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error) as error:
        raise ArtifactError(f"{path} is damaged or is not an artifact: {error}") from None


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        info = archive.getinfo(MANIFEST)
    except KeyError:
        raise ArtifactError(f"{path} is not an artifact: it has no {MANIFEST}") from None
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > _MANIFEST_LIMIT:
        raise ArtifactError(f"{path}: {MANIFEST} is compressed or too large")
    try:
        manifest = json.loads(archive.read(info))
    except ValueError as error:
        raise ArtifactError(f"{path}: {MANIFEST} does not read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        made = manifest.get("format") if isinstance(manifest, dict) else None
        raise ArtifactError(f"{path} has artifact format {made}; this version of Tilewright reads format {FORMAT}")
    for key, kind in _MANIFEST_KEYS.items():
        if not isinstance(manifest.get(key), kind):
            raise ArtifactError(f"{path}: {MANIFEST} has no {key!r}")
    return manifest


_MANIFEST_KEYS: dict[str, type] = {
    "tilewright": str, "torch": str, "target": dict, "options": dict, "signature": dict, "constants": list,
    "mutated": list, "stages": list, "stats": dict, "remarks": list, "members": dict,
}


def _check_names(path: Path, found: Sequence[str], listed: Mapping[str, Any]) -> None:
    for name in (*found, *listed):
        if not _MEMBER.fullmatch(name):
            raise ArtifactError(f"{path}: {name!r} is not a member that an artifact has")
    differ = sorted(set(found) ^ listed.keys())
    if differ or len(set(found)) != len(found):
        raise ArtifactError(f"{path}: members and manifest differ: {', '.join(differ) or 'a member is there twice'}")


def _expected_digest(info: zipfile.ZipInfo, row: Any, path: Path) -> Any:
    """The sha256 that the manifest's row gives, once the member's size is known to be the row's."""
    size, expected = (row.get("bytes"), row.get("sha256")) if isinstance(row, dict) else (None, None)
    # Stored members cannot be larger than the file, so a small file cannot fill a disk.
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != size or info.compress_size != size:
        raise ArtifactError(f"{path}: {info.filename} is compressed or not of the size that the manifest says")
    return expected


_READ = 1 << 24
"""Bytes of weights that are read at a time."""


def _read_weights(file: IO[bytes], info: zipfile.ZipInfo, row: Any, path: Path) -> torch.Tensor:
    """The bytes of the weights' member, read once; what is read is hashed beside the reading of the next block."""
    expected = _expected_digest(info, row, path)
    start = _data_start(file, info)
    if start + info.file_size > file.seek(0, 2):  # before memory is taken for it
        raise zipfile.BadZipFile("its weights are cut off")
    data = torch.empty(info.file_size, dtype=torch.uint8)
    file.seek(start)
    array: Any = data.numpy()
    buffer = memoryview(array)
    digest = hashlib.sha256()
    with ThreadPoolExecutor(1) as hashing:
        for position in range(0, info.file_size, _READ):
            block = buffer[position : position + _READ]
            if file.readinto(block) != len(block):  # type: ignore[attr-defined]
                raise zipfile.BadZipFile("its weights are cut off")
            hashing.submit(digest.update, block)
    if digest.hexdigest() != expected:
        raise ArtifactError(f"{path}: {info.filename} is damaged: its sha256 is not the manifest's")
    return data


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, row: Any, to: Path, path: Path) -> None:
    expected = _expected_digest(info, row, path)
    digest = hashlib.sha256()
    with archive.open(info) as source, to.open("wb") as sink:
        while block := source.read(1 << 20):
            digest.update(block)
            sink.write(block)
    if digest.hexdigest() != expected:
        raise ArtifactError(f"{path}: {info.filename} is damaged: its sha256 is not the manifest's")


def refuse_foreign(manifest: Mapping[str, Any], path: str) -> None:
    """Raise ArtifactError where versions or hardware differ from this process's, naming each difference."""
    here = host_cpu()
    differences = [
        f"made by {name} {manifest[key]}, this is {name} {version}"
        for key, name, version in (("tilewright", "Tilewright", VERSION), ("torch", "torch", torch.__version__))
        if manifest[key] != version
    ]
    facts = manifest["target"]
    if facts.get("kind") != here.kind:
        differences.append(f"made for target {facts.get('name')}, this machine is {here.name}")
    missing = [feature for feature in facts.get("features", ()) if feature not in here.features]
    if missing:
        differences.append(f"made for a machine with {', '.join(map(str, missing))}, which this one lacks")
    if differences:
        raise ArtifactError(f"{path}: {'; '.join(differences)}. Compile the model again here")


def _identity(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Equal for tensors that are the same view of the same memory."""
    pointer = tensor.untyped_storage().data_ptr()
    return (pointer, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def pack_tensors(tensors: Sequence[tuple[str, torch.Tensor]]) -> tuple[list[dict[str, Any]], bytes]:
    """Rows that say what each tensor is (storage name, dtype, shape, strides, offset), and the safetensors file.

    Tensors that share memory share it again after `unpack_tensors`. A storage is written once: as the tensor itself
    where it is one contiguous tensor, else as the flat span that its tensors reach.
    """
    groups: dict[int, list[int]] = {}
    for index, (_, tensor) in enumerate(tensors):
        # Empty tensors have no address: each is its own storage.
        pointer = tensor.untyped_storage().data_ptr() if tensor.numel() else -1 - index
        groups.setdefault(pointer, []).append(index)
    bases: dict[str, torch.Tensor] = {}
    rows: list[dict[str, Any]] = [{} for _ in tensors]
    for members in groups.values():
        name, first = tensors[members[0]]
        while name in bases:
            name += "_"
        alone = first.is_contiguous() and all(_identity(tensors[i][1]) == _identity(first) for i in members)
        start = _bytes_from(first) if alone else min(_bytes_from(tensors[i][1]) for i in members) // _ALIGNED * _ALIGNED
        bases[name] = first.detach() if alone else _span(first, start, max(_bytes_to(tensors[i][1]) for i in members))
        for i in members:
            given, tensor = tensors[i]
            rows[i] = {
                "name": given,
                "storage": name,
                "dtype": BY_TORCH_NAME[str(tensor.dtype).removeprefix("torch.")],
                "shape": list(tensor.shape),
                "strides": list(tensor.stride()),
                "offset": (_bytes_from(tensor) - start) // tensor.element_size(),
            }
    return rows, safetensors.torch.save(bases)


def stored_bytes(data: torch.Tensor) -> dict[str, torch.Tensor]:
    """The bytes of each tensor in a safetensors file, which `data` is. Raises ValueError or KeyError for another one.

    The library's own reader takes a file, or copies all of it first.
    """
    if len(data) < 8:
        raise ValueError("there are no weights")
    start = 8 + int.from_bytes(data[:8].numpy().tobytes(), "little")
    header = json.loads(data[8:start].numpy().tobytes())
    header.pop("__metadata__", None)
    spans = {name: [start + offset for offset in row["data_offsets"]] for name, row in header.items()}
    if not all(start <= first <= last <= len(data) for first, last in spans.values()):
        raise ValueError("the weights reach beyond their file")
    return {name: data[first:last] for name, (first, last) in spans.items()}


def unpack_tensors(rows: Sequence[Mapping[str, Any]], weights: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """The tensors that `pack_tensors` was given. Raises ValueError or KeyError where rows and weights disagree."""
    # A fresh copy has an aligned address and does not change with the file.
    storages = {name: tensor.clone().untyped_storage() for name, tensor in weights.items()}
    tensors = []
    for row in rows:
        dtype, storage = getattr(torch, DTYPES[row["dtype"]].torch_name), storages[row["storage"]]
        shape, strides, offset = row["shape"], row["strides"], row["offset"]
        size = storage.nbytes()
        if not all(isinstance(n, int) and n >= 0 for n in (*shape, *strides, offset)) or len(shape) != len(strides):
            raise ValueError(f"{row['name']} has no such place in memory: {dict(row)}")
        # set_ would make the storage larger, with bytes of nobody.
        end = (offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) + 1) * dtype.itemsize
        if 0 not in shape and end > size:
            raise ValueError(f"{row['name']} reaches byte {end} of {size}")
        tensors.append(torch.empty(0, dtype=dtype).set_(storage, offset, tuple(shape), tuple(strides)))
    return tensors


# A span of a storage starts at a multiple of this, so that elements of every dtype keep their alignment in it.
_ALIGNED = 16


def _bytes_from(tensor: torch.Tensor) -> int:
    return int(tensor.storage_offset()) * tensor.element_size()


def _bytes_to(tensor: torch.Tensor) -> int:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return _bytes_from(tensor) + (last + 1) * tensor.element_size() if tensor.numel() else _bytes_from(tensor)


def _span(tensor: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Bytes `start` to `end` of the tensor's storage."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage(), start, (end - start,), (1,))
