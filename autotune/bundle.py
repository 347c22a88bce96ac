"""Bundles: records in one file that travels, with a manifest of hashes; and the places they travel to.

The first line is the manifest: the number of the format, the sha256 of each record, and that of the manifest itself.
Each line after it is a record. A bundle that is not as it was written is refused as a whole. One that is, and holds a
record that is not valid, gives the others, and that one's reason.
"""

from __future__ import annotations

import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tilewright.ir.errors import RecordError

from .records import Record, canonical, digest, parse_json, parse_record
from .store import Aside

FORMAT = 1
BUNDLE_BYTES = 1 << 28
TIMEOUT = 60  # seconds, for a server to answer

# Where `push` and `pull` are tested. What else fsspec knows should work, and is said to be untested.
TESTED = ("file", "memory", "http", "https")
READ_ONLY = ("http", "https")


def bundle(records: Iterable[Record]) -> bytes:
    """The bundle of records; the same for the same set of them."""
    texts = {digest(text): text for text in (record.text() for record in records)}
    manifest: dict[str, Any] = {"bundle": FORMAT, "records": sorted(texts)}
    manifest["sha256"] = digest(canonical(manifest))
    return "".join(f"{line}\n" for line in [canonical(manifest), *(texts[key] for key in sorted(texts))]).encode()


def read_bundle(data: bytes) -> tuple[list[Record], list[Aside]]:
    """The records of a bundle, and those in it that are not valid. Raises RecordError for a bundle that is damaged."""
    if len(data) > BUNDLE_BYTES:
        raise RecordError(f"the bundle has more than {BUNDLE_BYTES} bytes")
    head, *lines = data.split(b"\n")
    try:
        manifest = parse_json(head, BUNDLE_BYTES)
    except RecordError as error:
        raise RecordError(f"it is not a bundle: its first line is no manifest ({error})") from None
    match manifest:
        case {"bundle": int(number), "records": list(keys), "sha256": str(known), **rest} if not rest:
            pass
        case _:
            raise RecordError("it is not a bundle: its first line is no manifest")
    if number != FORMAT:
        raise RecordError(f"the bundle has format {number}; this version reads {FORMAT}")
    if digest(canonical({"bundle": number, "records": keys})) != known:
        raise RecordError("the bundle is damaged: its manifest is not as it was written")
    if len(lines) != len(keys) + 1 or lines[-1] != b"":
        raise RecordError(f"the bundle is cut off: its manifest names {len(keys)} records, it has {len(lines) - 1}")
    records, asides = [], []
    for key, line in zip(keys, lines):
        text = line.decode(errors="replace")
        if digest(text) != key:
            raise RecordError(f"the bundle is damaged: a record is not as its hash {key[:12]} says")
        try:
            record = parse_record(text)
            if record.text() != text:
                raise RecordError("it is not written as records are")
            records.append(record)
        except RecordError as error:
            asides.append(Aside(key, "", str(error)))
    return records, asides


def write_file(path: Path, data: bytes) -> None:
    """The whole file or the one that was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=".work-", delete=False)  # noqa: SIM115
    try:
        with file:
            file.write(data)
        os.replace(file.name, path)
    except BaseException:
        Path(file.name).unlink(missing_ok=True)
        raise


def read_file(path: Path) -> bytes:
    """The bytes of a bundle. Raises RecordError where it is too large, OSError where it cannot be read."""
    with open(path, "rb") as file:
        data = file.read(BUNDLE_BYTES + 1)
    if len(data) > BUNDLE_BYTES:
        raise RecordError(f"{path} has more than {BUNDLE_BYTES} bytes")
    return data


# URLs ----------------------------------------------------------------------------------------------------------------


def protocol(url: str) -> str:
    """The protocol of a URL. Raises RecordError for what is none."""
    name = urlsplit(url).scheme
    if not name:
        raise RecordError(f"{url} is not a URL; for a file, write {Path(url).absolute().as_uri()}")
    return name


def _path(url: str) -> Path:
    """The file that a file:// URL names, whose escapes fsspec would leave as they are."""
    return Path(urllib.request.url2pathname(urlsplit(url).path))


def fetch(url: str) -> bytes | None:
    """The bytes at `url`; None where there is nothing. Raises RecordError for what cannot be reached."""
    try:
        if protocol(url) in READ_ONLY:
            return _fetch_http(url)
        if protocol(url) == "file":
            return read_file(_path(url))
        import fsspec

        with fsspec.open(url, "rb") as file:
            data: bytes = file.read(BUNDLE_BYTES + 1)
            return data
    except FileNotFoundError:
        return None
    except RecordError:
        raise
    except Exception as error:  # what fsspec's file systems raise is theirs
        raise RecordError(f"{url} cannot be read: {_told(error)}") from None


def _fetch_http(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            data: bytes = answer.read(BUNDLE_BYTES + 1)
            return data
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def check_writable(url: str) -> None:
    """Raises RecordError for a URL that `put` cannot write to."""
    if protocol(url) in READ_ONLY:
        raise RecordError(f"{url}: {protocol(url)} is for pull only; push to a file:// URL that the server serves")


def put(url: str, data: bytes) -> None:
    """Write `data` to `url`. Raises RecordError where that cannot be done."""
    check_writable(url)
    try:
        if protocol(url) == "file":
            write_file(_path(url), data)
            return
        import fsspec

        with fsspec.open(url, "wb") as file:
            file.write(data)
    except Exception as error:
        raise RecordError(f"{url} cannot be written: {_told(error)}") from None


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
