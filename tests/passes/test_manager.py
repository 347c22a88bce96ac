"""The pass manager: records, dumps that reproduce, verification, and failures that say where; pipeline text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp, StringAttr

from tilewright.ir import tw
from tilewright.ir.errors import (
    LoopingRuleError,
    NumericMismatchError,
    OptionValueError,
    PassError,
    TilewrightError,
    UnknownOptionError,
)
from tilewright.ir.target import target
from tilewright.ir.text import parse_ir, print_ir
from tilewright.passes import registry
from tilewright.passes.base import PASSES, Pass, PassContext, register
from tilewright.passes.manager import PassManager
from tilewright.passes.pipelines import DEFAULT, default_pipeline, parse_pipeline, pass_text, pipeline_text

TEXT = """func.func @forward(%x: !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> {
  %a = tw.map "neg" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> loc("model.py":3:0)
  %b = tw.map "exp" %a : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> loc("model.py":4:0)
  tw.return %b : !tw.tensor<[4], f32>
}"""


@dataclass(frozen=True)
class Rename(Pass):
    """Give every `neg` another function: a wrong pass, where the name is not `neg`."""

    name: ClassVar[str] = "test-rename"
    to: str = "neg"
    times: int = 1
    scale: float = 1.0
    deep: bool = False
    limit: int | None = None

    def run(self, module: ModuleOp, context: PassContext) -> None:
        if self.times < 0:
            raise RuntimeError("negative times")
        if self.limit == 0:
            raise LoopingRuleError("rule 'x -> x' loops")
        for op in module.walk():
            if isinstance(op, tw.MapOp) and op.fn.data == "neg":
                op.properties["fn"] = StringAttr(self.to)


@dataclass(frozen=True)
class Drop(Pass):
    """Replace every `exp` by its operand."""

    name: ClassVar[str] = "test-drop"
    numerics: ClassVar[str] = "approximate"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        for op in list(module.walk()):
            if isinstance(op, tw.MapOp) and op.fn.data == "exp":
                op.result.replace_all_uses_with(op.args[0])
                op.detach()
                op.erase()


@pytest.fixture(autouse=True)
def own_passes() -> Iterator[None]:
    for cls in (Rename, Drop):
        register(cls)
    yield
    for cls in (Rename, Drop):
        del PASSES[cls.name]


def manager(text: str, **options) -> PassManager:
    return PassManager(parse_pipeline(text), PassContext(target()), **options)


# Pipelines -----------------------------------------------------------------------------------------------------------


def test_the_default_pipeline_parses_and_every_entry_has_a_reason():
    assert [item.name for item in default_pipeline()] == [entry.partition("{")[0] for entry, _ in DEFAULT]
    assert all(reason for _, reason in DEFAULT)


def test_no_pass_stands_twice_in_the_default_pipeline():
    names = [item.name for item in default_pipeline()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("test-drop", [Drop()]),
        (" test-drop , test-rename ", [Drop(), Rename()]),
        ("test-rename{to=exp}", [Rename(to="exp")]),
        ('test-rename{to="a, b}\\"",times=-3}', [Rename(to='a, b}"', times=-3)]),
        ("test-rename{scale=1e-3 deep=true limit=4}", [Rename(scale=1e-3, deep=True, limit=4)]),
        ("test-rename{limit=none}", [Rename()]),
        ("test-rename{}", [Rename()]),
        ("test-drop,test-rename,test-drop,-test-drop", [Rename()]),
        ("test-drop,-test-drop,test-drop", [Drop()]),
    ],
)
def test_pipeline_text(text, expected):
    assert parse_pipeline(text) == expected
    assert parse_pipeline(pipeline_text(expected)) == expected


def test_passes_can_be_taken_out_of_the_default():
    removed = DEFAULT[1][0]
    names = [item.name for item in parse_pipeline(f"default,-{removed},test-drop")]
    assert names == [*(entry for entry, _ in DEFAULT if entry != removed), "test-drop"]


@given(
    st.builds(
        Rename, st.text(max_size=8), st.integers(), st.floats(allow_nan=False), st.booleans(),
        st.none() | st.integers(),
    )
)
def test_every_pass_reads_back_from_its_text(item):
    register(Rename)  # hypothesis calls this outside of the fixture's reach
    assert parse_pipeline(pass_text(item)) == [item]


def test_only_what_differs_from_the_default_is_printed():
    assert pass_text(Rename()) == "test-rename"
    assert pass_text(Rename(times=2, to="a b")) == 'test-rename{to="a b", times=2}'


@pytest.mark.parametrize(
    ("text", "kind", "message", "column"),
    [
        ("test-dorp", UnknownOptionError, "unknown pass 'test-dorp'; did you mean 'test-drop'", 0),
        ("test-drop, zzz", UnknownOptionError, "unknown pass 'zzz'", 11),
        ("test-drop test-drop", OptionValueError, "expected ',' between passes, found 'test-drop'", 10),
        ("test-drop,", OptionValueError, "expected a pass, found 'the end'", 10),
        (",test-drop", OptionValueError, "expected a pass, found ','", 0),
        ("test-drop;", OptionValueError, "';' is not expected", 9),
        ("-test-drop", OptionValueError, "no pass 'test-drop' to take out", 0),
        ("test-drop,-test-dop", OptionValueError, "no pass 'test-dop' .* did you mean 'test-drop'", 10),
        ("test-drop{a=1}", UnknownOptionError, "test-drop has no option 'a'; it has none", 10),
        ("test-rename{tims=1}", UnknownOptionError, "has no option 'tims'; did you mean 'times'", 12),
        ("test-rename{times=1.5}", OptionValueError, "test-rename.times takes an integer, not '1.5'", 18),
        ('test-rename{times="1"}', OptionValueError, "takes an integer, not a string", 18),
        ("test-rename{deep=1}", OptionValueError, "takes true or false, not '1'", 17),
        ("test-rename{times=none}", OptionValueError, "takes an integer", 18),
        ("test-rename{times=1,times=2}", OptionValueError, "'times' is given twice", 20),
        ("test-rename{times}", OptionValueError, "expected '=', found '}'", 17),
        ("test-rename{times=", OptionValueError, "expected a value for 'times', found 'the end'", 18),
        ("test-rename{", OptionValueError, "expected an option of test-rename, found 'the end'", 12),
    ],
)
def test_errors_point_at_the_place(text, kind, message, column):
    with pytest.raises(kind, match=message) as caught:
        parse_pipeline(text)
    shown, arrow = str(caught.value).splitlines()[1:]
    assert shown == f"  {text}"
    assert arrow == " " * (2 + column) + "^"


# Registry ------------------------------------------------------------------------------------------------------------


def test_every_pass_of_the_table_can_be_had():
    rows = registry.list_passes()
    assert [row.name for row in rows if row.missing] == []
    assert [row.name for row in rows if not row.summary] == []
    assert {*registry.MODULES} <= {row.name for row in rows}


def test_a_pass_says_its_options():
    info = registry.pass_info("test-rename")
    assert info.options == {"to": "neg", "times": 1, "scale": 1.0, "deep": False, "limit": None}
    assert info.numerics == "exact" and info.summary.startswith("Give every")


def test_a_pass_whose_module_is_missing_breaks_no_other(monkeypatch):
    monkeypatch.setitem(registry.MODULES, "gone", "tilewright.passes.gone")
    with pytest.raises(TilewrightError, match=r"pass 'gone' needs 'tilewright.passes.gone', which is not installed"):
        registry.find_pass("gone")
    rows = {row.name: row for row in registry.list_passes()}
    assert "not installed" in rows["gone"].missing and not rows["test-drop"].missing


def test_a_module_without_its_pass_is_named(monkeypatch):
    monkeypatch.setitem(registry.MODULES, "other", "tilewright.passes.base")
    with pytest.raises(TilewrightError, match=r"passes\.base does not define a pass named 'other'"):
        registry.find_pass("other")


# Runs ----------------------------------------------------------------------------------------------------------------


def test_records_say_what_changed():
    first, second = manager("test-rename,test-drop").run(parse_ir(TEXT))
    assert (first.name, second.name) == ("test-rename", "test-drop")
    assert first.before == first.after == second.before
    assert (second.before.ops, second.after.ops) == (2, 1)
    assert (second.before.kernels, second.after.kernels) == (2, 1)
    assert (second.before.bytes, second.after.bytes) == (64, 32)
    assert (second.before.peak_bytes, second.after.peak_bytes) == (32, 16)
    assert second.before.flops > second.after.flops == 4
    row = second.as_dict()
    assert (row["name"], row["numerics"], row["ops_before"], row["ops_after"]) == ("test-drop", "approximate", 2, 1)
    assert row["seconds"] >= 0 and json.loads(json.dumps(row)) == row


def test_dumps_are_numbered_and_say_how_to_reproduce_them(tmp_path):
    records = manager("test-rename{to=abs},test-drop", dump_dir=tmp_path).run(parse_ir(TEXT))
    names = ["00_import.mlir", "01_test_rename.mlir", "02_test_drop.mlir"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert [Path(record.dump).name for record in records] == names[1:]
    first, last = ((tmp_path / names[i]).read_text().splitlines()[0] for i in (0, 2))
    assert first.startswith("// tilewright ") and "; import; " in first
    assert "; after pass 2 of 2: test-drop; " in last
    assert '; pipeline "test-rename{to=abs},test-drop"; ' in last
    assert '; target cpu ' in last
    assert last.endswith('; reproduce: tilewright opt 01_test_rename.mlir -p "test-drop"')
    # Each dump is the one before it after the pass it names.
    for before, after in pairwise(names):
        line = (tmp_path / after).read_text().splitlines()[0]
        found = re.search(r'reproduce: tilewright opt (\S+) -p "(.*)"$', line)
        assert found is not None and found[1] == before
        module = parse_ir((tmp_path / before).read_text())
        manager(found[2]).run(module)
        assert print_ir(module) == print_ir(parse_ir((tmp_path / after).read_text()))


def test_the_observer_sees_every_stage():
    seen: list[tuple[int, str, int]] = []
    manager("test-drop,test-rename{times=2}", observer=lambda i, entry, m: seen.append((i, entry, len(list(m.walk()))))
            ).run(parse_ir(TEXT))
    assert seen == [(0, "import", 5), (1, "test-drop", 4), (2, "test-rename{times=2}", 4)]


def test_an_unknown_verification_is_refused():
    with pytest.raises(OptionValueError, match="did you mean 'numeric'"):
        manager("", verify="numerics")


def good_ir(message: str) -> ModuleOp:
    """The module in the file that an error names."""
    found = re.search(r"the IR before it: (\S+\.mlir)", message)
    assert found is not None
    return parse_ir(Path(found[1]).read_text())


def test_dumps_that_cannot_be_written_are_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionValueError, match=r"dump_ir: .*00_import\.mlir cannot be written"):
        manager("test-rename{to=abs}", dump_dir=tmp_path / "file").run(parse_ir(TEXT))


@pytest.mark.parametrize("dumps", [False, True])
def test_a_pass_that_fails_is_named_with_the_last_good_ir(dumps, tmp_path):
    options = {"dump_dir": tmp_path} if dumps else {}
    with pytest.raises(PassError, match=r"2 of 3, test-rename\{times=-1\}, failed: RuntimeError: negative") as caught:
        manager("test-rename{to=abs},test-rename{times=-1},test-drop", **options).run(parse_ir(TEXT))
    assert "(test_manager.py:" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert print_ir(good_ir(str(caught.value))) == print_ir(parse_ir(TEXT.replace("neg", "abs")))
    assert '-p "test-rename{times=-1}"' in str(caught.value)


def test_illegal_ir_is_caught_with_its_neighbours():
    with pytest.raises(PassError, match=r"pass 1 of 2, test-rename\{to=nag\}, left illegal IR") as caught:
        manager("test-rename{to=nag},test-drop", verify="ir").run(parse_ir(TEXT))
    message = str(caught.value)
    assert "tw.map (model.py:3): 'nag' is not a scalar function" in message
    assert '    > %a = tw.map "nag" %x' in message and '      %b = tw.map "exp" %a' in message
    assert print_ir(good_ir(message)) == print_ir(parse_ir(TEXT))


def test_illegal_input_is_not_blamed_on_a_pass():
    module = parse_ir(TEXT.replace("[4]", "[s0]"))
    with pytest.raises(TilewrightError, match="s0 in s0 is not among") as caught:
        manager("test-drop", verify="ir").run(module)
    assert not isinstance(caught.value, PassError)


def test_errors_of_the_catalogue_keep_their_class():
    with pytest.raises(LoopingRuleError, match="rule 'x -> x' loops") as caught:
        manager("test-drop,test-rename{limit=0}").run(parse_ir(TEXT))
    (note,) = caught.value.__notes__
    assert "in pass 2 of 2, test-rename{limit=0}" in note
    assert "tw.map \"neg\"" in print_ir(good_ir(note)) and "exp" not in print_ir(good_ir(note))


def test_a_pass_that_changes_results_is_caught():
    with pytest.raises(NumericMismatchError, match=r"test-rename\{to=abs\}") as caught:
        manager("test-rename,test-rename{to=abs}", verify="numeric").run(parse_ir(TEXT))
    assert "in pass 2 of 2" in caught.value.__notes__[0]


def test_numeric_verification_lets_right_passes_through_and_keeps_its_verifier():
    run = manager("test-rename,cse", verify="numeric")
    assert len(run.run(parse_ir(TEXT))) == 2
    assert run.verifier is not None


def test_a_verifier_that_is_given_is_used():
    checked: list[tuple[str, str]] = []

    class Recorder:
        def check(self, module: ModuleOp, stage: str, numerics: str) -> None:
            checked.append((stage, numerics))

    manager("test-rename{times=2},test-drop", verify="numeric", verifier=Recorder()).run(parse_ir(TEXT))
    assert checked == [("test-rename{times=2}", "exact"), ("test-drop", "approximate")]


def test_there_is_no_way_back_from_a_stage():
    @dataclass(frozen=True)
    class Unlower(Pass):
        """Turn a program into tensors again."""

        name: ClassVar[str] = "test-unlower"

        def run(self, module: ModuleOp, context: PassContext) -> None:
            tensors = parse_ir(TEXT)
            module.detach_region(module.body)
            module.add_region(tensors.detach_region(tensors.body))

    program = parse_ir((Path(__file__).parents[1] / "data" / "prog.mlir").read_text())
    with pytest.raises(PassError, match="not legal in a function at stage 'prog'"):
        PassManager([Unlower()], PassContext(target()), verify="ir").run(program)
