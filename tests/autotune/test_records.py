"""Tuning records: they come back as they were written, and nothing hostile comes in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_cases import record

from tilewright.autotune.records import RECORD_BYTES, parse_record, read_record
from tilewright.ir.errors import RecordError


def test_a_record_comes_back_as_it_was():
    made = record(sizes={"n0": (1, 4096)})
    assert parse_record(made.text()) == made
    assert parse_record(made.text()).digest() == made.digest() != record(1).digest()
    assert json.loads(made.text())["format"] == 1


def put(data, path, value):
    *parents, last = path
    for key in parents:
        data = data[key]
    data[last] = value


HOSTILE = {
    "kernel": ["../../etc/passwd", "", 5, None, "A" * 64, "0" * 65, "0" * 63 + "\n", ["0" * 64]],
    "name": ["__import__('os').system('x')", "a b", "../x", "x" * 201, "a;b", "é", "[bold]x[/bold]", True],
    "kind": ["loop; rm -rf /", 0],
    "threads": [0, -1, 1.0, True, 10**400, "2"],
    "dtypes": ["f32", ["f33"], [["f32"]], ["f32"] * 5000, {}],
    "sizes": [{"n0": [5, 1]}, {"n0": [1]}, {"n0": [-1, 2]}, {"s0": [1, 2]}, {"n0": [1, 10**30]}, [], {"n0": "1,2"}],
    "schedule": [{"LANES": 10**9}, {"LANES": -1}, {"LANES": "32"}, {"LANES": 32.0}, {"LANES": True}, {"EVIL": 1},
                 {"num_warps": 4}, {}.fromkeys(["__class__"], 1), []],
    "trials": [[], {}, [{}], [5], [{"schedule": {}, "outcome": "best", "samples": [], "reason": ""}],
               [{"schedule": {}, "outcome": "measured", "samples": [], "reason": ""}],
               [{"schedule": {}, "outcome": "failed", "samples": [1.0], "reason": ""}],
               [{"schedule": {}, "outcome": "measured", "samples": [0.0], "reason": ""}],
               [{"schedule": {}, "outcome": "measured", "samples": [1e300], "reason": ""}],
               [{"schedule": {}, "outcome": "measured", "samples": ["1"], "reason": ""}],
               [{"schedule": {}, "outcome": "failed", "samples": [], "reason": "\x1b[2J"}]],
    "versions": [{"compiler": "x\ny"}, {"a b": "1"}, {"compiler": 12}, {"compiler": "x" * 1001}, None],
    "found": [{}, {"effort": "infinite", "search": "x", "seconds": 1, "date": "2026-01-31"},
              {"effort": "quick", "search": "/x", "seconds": 1, "date": "2026-01-31"},
              {"effort": "quick", "search": "x", "seconds": -1, "date": "2026-01-31"},
              {"effort": "quick", "search": "x", "seconds": 1, "date": "yesterday"}],
    "format": [0, 2, "1", True, 1.0],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in HOSTILE.items() for v in values],
                         ids=lambda value: repr(value)[:24])
def test_a_hostile_field_is_refused_and_named(name, value):
    data = json.loads(record().text())
    data[name] = value
    with pytest.raises(RecordError, match=name):
        read_record(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "tpu"), ("features", ["avx; rm"]), ("cores", -1), ("cores", 2.5), ("bandwidth", 1e99), ("name", "../cpu"),
     ("l2_bytes", 1 << 63)],
)
def test_a_hostile_target_is_refused_and_named(field, value):
    data = json.loads(record().text())
    data["target"][field] = value
    with pytest.raises(RecordError, match=rf"target\.{field}"):
        read_record(data)


def test_fields_are_exactly_those_that_are_known():
    data = json.loads(record().text())
    with pytest.raises(RecordError, match="a field 'code' that is not known"):
        read_record({**data, "code": "print(1)"})
    del data["trials"]
    with pytest.raises(RecordError, match="no field 'trials'"):
        read_record(data)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", "[" * 100_000, '{"a":' * 100_000, "NaN", '{"format": Infinity}', "1" * 5000,
     '{"format":1,"format":1}', b"\xff\xfe", " " * (RECORD_BYTES + 1)],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_record_is_refused(text):
    with pytest.raises(RecordError):
        parse_record(text)


@settings(max_examples=60)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3), max_leaves=6,
), st.sampled_from(sorted(json.loads(record().text()))), st.data())
def test_any_value_of_any_field_is_read_or_refused(value, name, data):
    document = json.loads(record().text())
    inside = document[name]
    if isinstance(inside, dict) and inside and data.draw(st.booleans()):
        inside[data.draw(st.sampled_from(sorted(inside)))] = value
    else:
        document[name] = value
    try:
        made = read_record(document)
    except RecordError:
        return
    assert parse_record(made.text()) == made


def test_the_chosen_schedule_was_measured():
    data = json.loads(record().text())
    data["schedule"] = {"LANES": 128}
    with pytest.raises(RecordError, match=r"schedule.*trials that were measured"):
        read_record(data)


def test_more_effort_then_more_samples_win():
    quick, full = record(), record(found={**record().found, "effort": "full"})
    longer = record(trials=(*record().trials, record().trials[1]))
    assert max([quick, full, longer], key=lambda r: r.rank()) == full
    assert max([quick, longer], key=lambda r: r.rank()) == longer
