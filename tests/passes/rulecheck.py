"""Checks of rewrite rules against the interpreter, shared by the tests of the passes that are made of rules.

A `Case` is a small function, written with the builder; `check_rule` runs it before and after one rule, on inputs with
everything that trips algebra: NaN, infinities, both zeros, the largest and smallest numbers.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, Region, SSAValue

from tilewright.ir import tw
from tilewright.ir.builder import Builder
from tilewright.ir.dtypes import DTYPES
from tilewright.ir.expr import parse
from tilewright.ir.function import argument_symbols
from tilewright.ir.interpreter import run
from tilewright.ir.rewrite import Rule, RuleSet
from tilewright.ir.text import parse_ir, print_ir
from tilewright.ir.tw import tensor_type
from tilewright.ir.types import TensorType

# 1 and 0 too: a rule must hold for sizes that divide nothing and for tensors without elements.
SYMBOL_SIZES = ({"s0": 5, "s1": 3}, {"s0": 1, "s1": 2}, {"s0": 0, "s1": 3})

_FLOATS = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e30, -1e-30, 65504.0, 1e-40]


@dataclass(frozen=True)
class Case:
    """`inputs` as text: ``"T[4, s0] bool[]"``, where T stands for each of `dtypes` in turn. `build` gives the results.

    `positive_zero`: no input is -0.0, for maxima, of which either zero may come out.
    """

    inputs: str
    build: Callable[..., Any]
    dtypes: str = "f32"
    positive_zero: bool = False


def case_module(case: Case, dtype: str) -> ModuleOp:
    """The module of a case. `build` takes the builder, the inputs, and the dtype where it has one parameter more."""
    types = [
        TensorType.get([parse(d.strip()) for d in dims.split(",") if d.strip()], dtype if name == "T" else name)
        for name, dims in re.findall(r"(\w+)\[([^\]]*)\]", case.inputs)
    ]
    block = Block(arg_types=types)
    build = Builder.at_end(block)
    extra = [dtype] if case.build.__code__.co_argcount > 1 + len(types) else []
    results = case.build(build, *block.args, *extra)
    values: Sequence[SSAValue] = results if isinstance(results, (list, tuple)) else [results]
    build.return_(values)
    function = FuncOp("forward", (types, [v.type for v in values]), Region(block))
    function.attributes["result_kinds"] = ArrayAttr([StringAttr("tensor")] * len(values))
    return parse_ir(print_ir(ModuleOp([function])))


def raw(build: Builder, op: Operation) -> SSAValue:
    """Insert an op that the builder's helpers would leave out."""
    return build.insert(op).results[0]


def sample(type: TensorType, sizes: dict[str, int], seed: int, positive_zero: bool = False) -> torch.Tensor:
    """A tensor with the special values of its dtype among random ones."""
    shape = [d if isinstance(d, int) else sizes[str(d)] for d in type.shape]
    row = DTYPES[type.dtype]
    dtype = getattr(torch, row.torch_name)
    generator = torch.Generator().manual_seed(seed)
    if row.kind == "bool":
        return torch.rand(shape, generator=generator) < 0.5
    if row.is_integer:
        info = torch.iinfo(dtype)
        values = torch.randint(-3 if info.min else 0, 7, shape, generator=generator).to(dtype)
        specials: list[Any] = [info.min, info.max, 0, 1]
    else:
        values = (torch.randn(shape, generator=generator, dtype=torch.float64) * 4).to(dtype)
        specials = [v for v in _FLOATS if not (positive_zero and str(v) == "-0.0")]
    flat = values.reshape(-1)
    picks = random.Random(seed)
    for position, value in zip(picks.sample(range(len(flat)), len(flat) // 2), itertools.cycle(specials)):
        flat[position] = value
    return flat.reshape(shape)


def inputs_of(module: ModuleOp, sizes: dict[str, int], seed: int = 0, positive_zero: bool = False) -> list[Any]:
    """Inputs for @forward."""
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    return [
        sample(a.type, sizes, seed + i, positive_zero)
        for i, a in enumerate(function.body.block.args)
        if isinstance(a.type, TensorType)
    ]


def assert_same_bits(left: Sequence[Any], right: Sequence[Any]) -> None:
    """Equal types, shapes and bits; any NaN equals any other."""
    assert len(left) == len(right)
    for a, b in zip(left, right):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.is_floating_point():
            nan = torch.isnan(a)
            assert torch.equal(nan, torch.isnan(b)), (a, b)
            integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}[a.element_size()]
            a, b = (t.contiguous().view(integers).masked_fill(nan, 0) for t in (a, b))
        assert torch.equal(a, b), (left, right)


def assert_same_results(before: ModuleOp, after: ModuleOp, positive_zero: bool = False) -> None:
    """Both modules verify, round-trip, and give the same bits for every size."""
    after.verify()
    assert print_ir(parse_ir(print_ir(after))) == print_ir(after)
    symbols = argument_symbols(next(op for op in before.ops if isinstance(op, FuncOp)))
    for sizes in SYMBOL_SIZES if symbols else SYMBOL_SIZES[:1]:
        for seed in range(3):
            inputs = inputs_of(before, sizes, 17 * seed, positive_zero)
            assert_same_bits(run(before, inputs), run(after, inputs))


def check_rule(rule: Rule, case: Case, rules: RuleSet) -> None:
    """The rule fires for each result of the case and changes no bit; nor does it among `rules`, to a fixed point."""
    for dtype in case.dtypes.split():
        before = case_module(case, dtype)
        for applied in (RuleSet(rule), rules):
            after = before.clone()
            statistics = applied.apply(after)
            if len(applied) == 1:
                results = len(next(op for op in before.walk() if isinstance(op, tw.ReturnOp)).operands)
                assert statistics.fired[rule.name] >= results, f"{rule.name!r} misses in\n{print_ir(before)}"
            assert_same_results(before, after, case.positive_zero)
            assert not applied.apply(after).rewrites


def check_refused(rule: Rule, case: Case) -> None:
    """The rule must leave the case alone."""
    for dtype in case.dtypes.split():
        module = case_module(case, dtype)
        text = print_ir(module)
        assert not RuleSet(rule).apply(module).rewrites, text
        assert print_ir(module) == text


def rule_named(rules: RuleSet, name: str) -> Rule:
    return next(r for r in rules if r.name == name)


def result_ops(module: ModuleOp) -> list[str]:
    """Names of the ops of @forward without the terminator, maps and reductions with their function."""
    names = []
    for op in module.walk():
        if isinstance(op, (tw.MapOp, tw.ReduceOp)):
            names.append(f"{op.name[3:]} {op.fn.data}")
        elif op.name.startswith("tw.") and not isinstance(op, (tw.ReturnOp, tw.YieldOp)):
            names.append(op.name[3:])
    return names


def shape_of(value: SSAValue) -> tuple[Any, ...]:
    return tensor_type(value).shape
