"""Options: precedence, refusals with the nearest name, and that the table, the object and the flags agree."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from tilewright import cli_compile
from tilewright.ir.errors import OptionValueError, UnknownOptionError
from tilewright.options import MODES, OPTIONS, Options, list_options


def test_table_and_object_agree():
    defaults = {f.name: f.default for f in dataclasses.fields(Options)}
    assert {name: row.default for name, row in OPTIONS.items()} == defaults


def test_defaults_without_any_word():
    assert Options.make(environment={}) == Options()


def test_explicit_wins_over_environment_wins_over_default():
    environment = {"TILEWRIGHT_VERIFY": "ir", "TILEWRIGHT_FALLBACK": "error", "PATH": "/bin"}
    options = Options.make({"verify": "numeric"}, environment=environment)
    assert (options.verify, options.fallback, options.passes) == ("numeric", "error", "default")


def test_paths_are_paths():
    assert Options.make({"dump_ir": "x/y"}, environment={}).dump_ir == Path("x/y")
    assert Options.make({}, environment={"TILEWRIGHT_DUMP_IR": "z"}).as_dict()["dump_ir"] == "z"


def test_unknown_option_names_the_nearest():
    with pytest.raises(UnknownOptionError, match=r"'verfy'; did you mean 'verify'\?"):
        Options.make({"verfy": "ir"}, environment={})
    with pytest.raises(UnknownOptionError, match=r"TILEWRIGHT_FALBACK.*did you mean 'fallback'\?"):
        Options.make({}, environment={"TILEWRIGHT_FALBACK": "error"})


def test_variables_that_are_not_options_are_left_alone():
    assert Options.make(environment={"TILEWRIGHT_CACHE_DIR": "/tmp/cache"}) == Options()


@pytest.mark.parametrize("values", [
    {"verify": "numerc"}, {"verify": True}, {"fallback": "no"}, {"frozen": "maybe"}, {"locked": 3}, {"dump_ir": 5},
    {"passes": ""}, {"target": "sm_91"}, {"rng": "philox"},
])
def test_bad_values_are_refused(values):
    name = next(iter(values))
    with pytest.raises(OptionValueError, match=name):
        Options.make(values, environment={})


def test_bad_value_names_the_nearest_and_its_source():
    with pytest.raises(OptionValueError, match=r"TILEWRIGHT_VERIFY = 'numerc'.*did you mean 'numeric'"):
        Options.make(environment={"TILEWRIGHT_VERIFY": "numerc"})


@pytest.mark.parametrize("values", [
    {"memory_budget": "20GiB"}, {"quantize": "int8"}, {"sparsify": {"scheme": "2:4"}}, {"cudagraphs": "true"},
    {"target": "sm_90"}, {"target": "cuda"},
])
def test_capabilities_that_do_not_exist_are_refused_by_name(values):
    with pytest.raises(OptionValueError, match="not available in this version"):
        Options.make(values, environment={})


@pytest.mark.parametrize("row", list_options(), ids=lambda row: row.name)
def test_every_default_can_be_said(row):
    assert getattr(Options.make({row.name: row.default}, environment={}), row.name) == row.default


@pytest.mark.parametrize("row", list_options(), ids=lambda row: row.name)
def test_every_available_value_can_be_said(row):
    for value in row.available:
        Options.make({row.name: value}, environment={})


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_compiles_and_says_what_it_leaves_out(mode, caplog):
    tuned = {"autotune": "full"} if mode == "max-autotune" else {}
    assert Options.make(mode=mode, environment={}) == Options(**tuned)
    assert bool(caplog.records) == (mode == "reduce-overhead")


def test_explicit_option_wins_over_mode_and_unknown_mode_is_refused():
    assert Options.make({"autotune": "off"}, mode="max-autotune", environment={}).autotune == "off"
    with pytest.raises(OptionValueError, match="did you mean 'max-autotune'"):
        Options.make(mode="max-autotun", environment={})


def test_every_option_has_a_flag():
    parser = argparse.ArgumentParser()
    cli_compile.add_arguments(parser)
    args = parser.parse_args(["file.py", "-o", "out", "--dump-ir", "d", "--verify=numeric"])
    assert cli_compile.given_options(args) == {"dump_ir": "d", "verify": "numeric"}
    for row in list_options():
        assert getattr(parser.parse_args(["f.py", "-o", "out", row.flag, "x"]), f"option_{row.name}") == "x"
