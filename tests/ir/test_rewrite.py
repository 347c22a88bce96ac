"""The rule engine: matching, order, locations, the cap, statistics, linear work."""

from __future__ import annotations

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Region

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.errors import LoopingRuleError, VerifyError
from tilewright.ir.patterns import (
    Capture,
    add,
    captures,
    const,
    constant,
    map_,
    mul,
    neg,
    orders,
    permute,
    same_number,
    splat,
    sub,
)
from tilewright.ir.rewrite import Rule, RuleSet
from tilewright.ir.text import file_lines, parse_ir, print_ir
from tilewright.ir.types import TensorType

x, y = captures("x y")

TIMES_ONE = Rule("x * 1 -> x", mul(x, const(1)), lambda x: x)


def module(body: str, results: str = "!tw.tensor<[4], f32>") -> ModuleOp:
    """A module over %x and %y; in `body`, T is the type of both."""
    text = f"""
    func.func @forward(%x: T, %y: T) -> ({results}) {{
      {body}
    }}"""
    return parse_ir(text.replace(": T", ": !tw.tensor<[4], f32>").replace("T)", "!tw.tensor<[4], f32>)")
                    .replace("(T", "(!tw.tensor<[4], f32>").replace("-> T", "-> !tw.tensor<[4], f32>")
                    .replace(", T", ", !tw.tensor<[4], f32>"))  # fmt: skip


def maps(top: ModuleOp) -> list[str]:
    return [op.fn.data for op in top.walk() if isinstance(op, tw.MapOp)]


def test_a_rule_fires_in_both_orders_of_a_commutative_map():
    top = module(
        """%1 = tw.constant {value = #tw.scalar<1.0>} : T
        %a = tw.map "mul" %x, %1 : (T, T) -> T
        %b = tw.map "mul" %1, %a : (T, T) -> T
        %c = tw.map "sub" %1, %b : (T, T) -> T
        tw.return %c : T"""
    )
    statistics = RuleSet(TIMES_ONE).apply(top)
    assert statistics.fired == {"x * 1 -> x": 2}
    assert maps(top) == ["sub"]
    # No other constant: what only the rewritten ops needed would be gone, but `sub` needs it.
    assert "tw.constant" in print_ir(top)


def test_a_repeated_capture_must_be_one_value_in_whatever_order():
    rule = Rule("x*y + x -> neg x", add(mul(x, y), x), lambda x, build: build.map("neg", x))
    for operands in ("%x, %y", "%y, %x"):
        for sum_operands in ("%m, %x", "%x, %m"):
            top = module(
                f"""%m = tw.map "mul" {operands} : (T, T) -> T
                %s = tw.map "add" {sum_operands} : (T, T) -> T
                tw.return %s : T"""
            )
            assert RuleSet(rule).apply(top).fired[rule.name] == 1
            assert maps(top) == ["neg"]
    top = module(
        """%m = tw.map "mul" %x, %x : (T, T) -> T
        %s = tw.map "add" %m, %y : (T, T) -> T
        tw.return %s : T"""
    )
    assert RuleSet(rule).apply(top).rewrites == 0
    assert len(list(orders(rule.pattern))) == 4


def test_constants_are_told_apart_bit_by_bit():
    block = Block()
    build = Builder.at_end(block)
    for value, dtype in [(0.0, "f32"), (-0.0, "f32"), (float("nan"), "f32"), (0, "i64"), (False, "bool")]:
        number = splat(build.constant(value, dtype))
        for literal in (0, -0.0, float("nan"), 1):
            matches = const(literal).accept(number)
            assert matches == (str(float(literal)) == str(float(value)))
    # As an element of its dtype: 0.1 is not a bf16.
    assert splat(build.constant(0.1, "bf16")) == 0.10009765625
    assert splat(build.insert(tw.ConstantOp.make(0.1, TensorType.get([], "bf16"))).result) == 0.10009765625
    assert splat(build.constant(0.5, "f8e4m3")) is None
    assert same_number(float("nan"), -float("nan")) and not same_number(0.0, -0.0)


def test_new_ops_carry_the_locations_and_names_of_what_they_replace():
    top = module(
        """%n = tw.map "neg" %y : (T) -> T loc("model.py":1:0)
        %sum = tw.map "add" %x, %n : (T, T) -> T loc("model.py":2:0)
        tw.return %sum : T"""
    )
    RuleSet(Rule("x + neg y -> x - y", add(x, neg(y)), lambda x, y, build: build.map("sub", x, y))).apply(top)
    (op,) = [op for op in top.walk() if isinstance(op, tw.MapOp)]
    assert op.fn.data == "sub" and op.result.name_hint == "sum"
    assert file_lines(op.location) == ["model.py:2", "model.py:1"]


def test_rules_work_inside_fused_regions():
    top = module(
        """%r = tw.fused {kind = "loop", numerics = "exact"} : !tw.tensor<[4], f32> {
          %1 = tw.constant {value = #tw.scalar<1.0>} : T
          %a = tw.map "mul" %x, %1 : (T, T) -> T
          %b = tw.map "neg" %a : (T) -> T
          tw.yield %b : T
        }
        tw.return %r : T"""
    )
    RuleSet(TIMES_ONE).apply(top)
    top.verify()
    assert maps(top) == ["neg"] and "tw.constant" not in print_ir(top)


def test_a_rewrite_that_changes_the_type_is_an_error_that_names_the_rule():
    top = module('%a = tw.map "neg" %x : (T) -> T\n tw.return %a : T')
    shape = Rule("wrong shape", neg(x), lambda x, build: build.reshape(x, [2, 2]))
    dtype = Rule("wrong dtype", neg(x), lambda x, build: build.cast(x, "bf16"))
    for rule in (shape, dtype):
        with pytest.raises(VerifyError, match=rule.name):
            RuleSet(rule).apply(top.clone())
    with pytest.raises(VerifyError, match="by itself"):
        RuleSet(Rule("loop", neg(x), lambda op: op.result)).apply(top)


def test_a_looping_rule_is_named_and_an_innocent_one_is_not():
    to_sub = Rule("x + y -> x - neg y", add(x, y), lambda x, y, build: build.map("sub", x, build.map("neg", y)))
    back = Rule("x - neg y -> x + y", sub(x, neg(y)), lambda x, y, build: build.map("add", x, y))
    top = module(
        """%1 = tw.constant {value = #tw.scalar<1.0>} : T
        %a = tw.map "mul" %x, %1 : (T, T) -> T
        %b = tw.map "add" %a, %y : (T, T) -> T
        tw.return %b : T"""
    )
    with pytest.raises(LoopingRuleError) as error:
        RuleSet(TIMES_ONE, to_sub, back).apply(top)
    message = str(error.value)
    assert to_sub.name in message and back.name in message and TIMES_ONE.name not in message
    assert "test_rewrite.py" in message
    with pytest.raises(LoopingRuleError, match="after 3 rewrites"):
        RuleSet(to_sub, back).apply(module('%b = tw.map "add" %x, %y : (T, T) -> T\n tw.return %b : T'), max_rewrites=3)


def test_a_builder_may_decline_and_leaves_nothing_behind():
    def decline(x, build):
        build.map("exp", build.map("neg", x))

    top = module('%a = tw.map "neg" %x : (T) -> T\n tw.return %a : T')
    text = print_ir(top)
    statistics = RuleSet(Rule("declines", neg(x), decline)).apply(top)
    assert statistics.as_dict() == {"declines": {"tried": 1, "fired": 0}}
    assert print_ir(top) == text


def test_a_guard_sees_the_captures():
    rule = Rule("c > 2", mul(x, constant("c")), lambda x: x, lambda c, op: c > 2 and op.fn.data == "mul")
    for value, fires in (("1.0", 0), ("3.0", 1)):
        top = module(
            f"""%1 = tw.constant {{value = #tw.scalar<{value}>}} : T
            %a = tw.map "mul" %x, %1 : (T, T) -> T
            tw.return %a : T"""
        )
        assert RuleSet(rule).apply(top).rewrites == fires


def test_users_of_what_changed_are_tried_again():
    """Each rewrite makes the next one possible, upwards and downwards."""
    body = ["%1 = tw.constant {value = #tw.scalar<1.0>} : T", '%a0 = tw.map "neg" %x : (T) -> T']
    for i in range(10):
        body.append(f'%m{i} = tw.map "mul" %a{i}, %1 : (T, T) -> T')
        body.append(f'%a{i + 1} = tw.map "neg" %m{i} : (T) -> T')
    top = module("\n".join([*body, "tw.return %a10 : T"]))
    RuleSet(Rule("neg(neg x) -> x", neg(neg(x)), lambda x: x), TIMES_ONE).apply(top)
    assert maps(top) == ["neg"]


def test_early_rejection_and_the_index_keep_rules_from_being_tried():
    top = module(
        """%a = tw.map "mul" %x, %y : (T, T) -> T
        %b = tw.map "neg" %a : (T) -> T
        %c = tw.map "add" %b, %x : (T, T) -> T
        tw.return %c : T"""
    )
    near = Rule("any map of a constant", map_(()), lambda op: None, among=(tw.ConstantOp,))
    permutes = Rule("permutes", permute(permute(x)), lambda x: x)
    statistics = RuleSet(TIMES_ONE, near, permutes).apply(top)
    assert not statistics.tried


def test_work_is_linear():
    """Rules tried grow with the module, not with its square."""

    def tried(count: int) -> int:
        type = TensorType.get([4], "f32")
        block = Block(arg_types=[type])
        build = Builder.at_end(block)
        value = block.args[0]
        for _ in range(count):
            value = build.map("neg", build.map("mul", value, build.constant(1.0, "f32")))
        build.return_([value])
        top = ModuleOp([FuncOp("forward", ([type], [type]), Region(block))])
        rules = RuleSet(TIMES_ONE, Rule("neg(neg x) -> x", neg(neg(x)), lambda x: x))
        statistics = rules.apply(top)
        assert statistics.rewrites == count + count // 2
        return sum(statistics.tried.values())

    assert tried(400) <= 4 * tried(100) + 10


def test_rule_sets_compose_and_filter():
    wider = Rule("w", neg(x), lambda x: x, numerics="widens")
    rules = RuleSet(TIMES_ONE) + RuleSet(wider)
    assert [r.name for r in rules] == ["x * 1 -> x", "w"] and len(rules) == 2
    assert [r.name for r in rules.only("exact")] == ["x * 1 -> x"]
    assert [r.name for r in rules.only("widens", "approximate")] == ["w"]
    with pytest.raises(ValueError, match="several rules are named 'w'"):
        rules + RuleSet(wider)


def test_mistakes_in_a_rule_are_found_when_it_is_made():
    with pytest.raises(ValueError, match="z is not captured"):
        Rule("r", neg(x), lambda z: z)
    with pytest.raises(ValueError, match="build is not captured"):
        Rule("r", neg(x), lambda x: x, lambda build: True)
    with pytest.raises(ValueError, match="'exactly' is not one of"):
        Rule("r", neg(x), lambda x: x, numerics="exactly")
    with pytest.raises(ValueError, match="no scalar function 'mull'"):
        map_("mull", x, y)
    with pytest.raises(ValueError, match="takes 1 operands"):
        map_("mul", Capture("x"))
