"""Bundles, URLs and lockfiles: what travels arrives whole or not at all."""

from __future__ import annotations

import functools
import http.server
import json
import random
import threading
from pathlib import Path

import pytest
from record_cases import question, record

from tilewright.autotune.bundle import bundle, fetch, put, read_bundle
from tilewright.autotune.lockfile import (
    Locked,
    lock_text,
    locked_schedule,
    merged,
    read_lock,
    why_not_locked,
    write_lock,
)
from tilewright.autotune.records import canonical, digest
from tilewright.ir.errors import RecordError


def test_a_bundle_comes_back_and_does_not_depend_on_order():
    data = bundle([record(1), record(2), record(1)])
    assert data == bundle([record(2), record(1)])
    records, asides = read_bundle(data)
    assert sorted(r.name for r in records) == ["softmax_1", "softmax_2"] and asides == []
    assert read_bundle(bundle([])) == ([], [])


def test_a_truncated_bundle_is_refused():
    data = bundle([record(1), record(2)])
    for length in [0, 1, 50, data.index(b"\n"), data.index(b"\n") + 1, len(data) // 2, len(data) - 1]:
        with pytest.raises(RecordError, match=r"cut off|no manifest|damaged"):
            read_bundle(data[:length])


def test_a_bundle_with_a_flipped_bit_is_refused():
    data, chance = bundle([record(1), record(2)]), random.Random(0)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with pytest.raises(RecordError):
            read_bundle(bytes(damaged))


def test_a_bundle_with_lines_swapped_or_added_is_refused():
    head, first, second, end = bundle([record(1), record(2)]).split(b"\n")
    for lines in ([head, second, first, end], [head, first, second, second, end], [head, first, end]):
        with pytest.raises(RecordError):
            read_bundle(b"\n".join(lines))


def forged(*texts: str) -> bytes:
    """A bundle whose hashes are right, with any texts as records."""
    keys = [digest(text) for text in texts]
    manifest = {"bundle": 1, "records": keys}
    manifest["sha256"] = digest(canonical(manifest))
    return "".join(f"{line}\n" for line in [canonical(manifest), *texts]).encode()


def test_a_bad_record_is_set_aside_with_its_reason_and_the_others_are_read():
    bad = {**record(1).as_dict(), "schedule": {"LANES": 1 << 40}}
    records, asides = read_bundle(forged(canonical(bad), record(2).text(), "[" * 5000, json.dumps(record(3).as_dict())))
    assert [r.name for r in records] == ["softmax_2"]
    assert "schedule.LANES" in asides[0].reason
    assert len(asides) == 3 and asides[0].digest == digest(canonical(bad))


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"[]", b"PK\3\4", b'{"bundle":2,"records":[],"sha256":""}\n'])
def test_what_is_no_bundle_is_refused(data):
    with pytest.raises(RecordError, match=r"not a bundle|format 2"):
        read_bundle(data)


def test_a_file_url(tmp_path):
    url = (tmp_path / "folder" / "team records.bundle").as_uri()
    assert fetch(url) is None
    put(url, b"one")
    put(url, b"two")
    assert fetch(url) == b"two"
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["team records.bundle"]


def test_a_memory_url():
    assert fetch("memory://tests/none.bundle") is None
    put("memory://tests/some.bundle", b"data")
    assert fetch("memory://tests/some.bundle") == b"data"


@pytest.fixture
def server(tmp_path):
    """Serves a folder on loopback; the URL of it, and the folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}", tmp_path
    made.shutdown()
    thread.join()
    made.server_close()


def test_an_http_url_is_for_pull(server):
    url, folder = server
    (folder / "r.bundle").write_bytes(bundle([record(1)]))
    data = fetch(f"{url}/r.bundle")
    assert data is not None and read_bundle(data)[0] == [record(1)]
    assert fetch(f"{url}/none.bundle") is None
    with pytest.raises(RecordError, match="http is for pull only"):
        put(f"{url}/r.bundle", b"")


@pytest.mark.parametrize(
    ("url", "told"),
    [("records.bundle", "not a URL.*file://"), ("gopher://x/y", "cannot be read"), ("http://127.0.0.1:1/x", "read"),
     ("s3://bucket/x", "s3")],
)
def test_a_url_that_leads_nowhere_is_told(url, told):
    with pytest.raises(RecordError, match=told):
        fetch(url)


def locked(number: int = 0, **changes):
    source = record(number, **changes)
    return Locked(source.kernel, source.name, source.target, source.threads, source.sizes, source.schedule)


def test_a_lockfile_comes_back_a_line_a_kernel(tmp_path):
    path = tmp_path / "tilewright.lock"
    write_lock(path, [locked(2), locked(1), locked(2)])
    text = path.read_text()
    assert text == lock_text([locked(1), locked(2)]) and text.isascii()
    assert sum('"schedule":{"LANES":32}' in line for line in text.splitlines()) == 2
    assert read_lock(path) == [locked(1), locked(2)]
    assert locked_schedule(read_lock(path), question(2)) == {"LANES": 32}
    assert lock_text([]) and read_lock_text(tmp_path, lock_text([])) == []


def read_lock_text(folder: Path, text: str):
    (folder / "x.lock").write_text(text)
    return read_lock(folder / "x.lock")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"LANES":32', '"LANES":9999', r"kernels\[0\].schedule.LANES = 9999"), ('"LANES":32', '"EVIL":1', "EVIL"),
        ('"lock": 1', '"lock": 2', "format 2"), ('"threads":2', '"threads":2,"code":"x"', "code"),
        ('"target":"cpu', '"target":"gpu', "no target"), ('"kernels"', '"kernel"', "no lock, targets and kernels"),
        ("]\n}", "]\n", "not JSON"), ('"cores":', '"coers":', "coers"),
    ],
)
def test_a_lockfile_that_is_not_right_is_refused(tmp_path, old, new, told):
    text = lock_text([locked(1)])
    assert old in text
    with pytest.raises(RecordError, match=told):
        read_lock_text(tmp_path, text.replace(old, new))


def test_new_lines_replace_those_for_the_same_kernel_target_and_threads():
    other = locked(1, threads=8)
    new = locked(1, schedule={})
    assert merged([locked(1), other, locked(2)], [new]) == [other, locked(2), new]


def test_why_a_kernel_is_not_locked():
    lines = [locked(1)]
    assert why_not_locked(lines, question(1, threads=4)) == "threads: 4 here, 2 in the record"
    assert "no line is for the IR" in why_not_locked(lines, question(2))
    assert locked_schedule(lines, question(1, threads=4)) is None
