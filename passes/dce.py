"""DCE: erase what nothing uses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import DictionaryAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation
from xdsl.rewriter import Rewriter
from xdsl.traits import Pure

from tilewright.ir import tw
from tilewright.ir.expr import free_symbols
from tilewright.ir.types import TensorType

from .base import Pass, PassContext, register

# ATen calls that do more than give a result: checks, and draws from the random generator, whose state is visible
# to later calls. Calls of other namespaces, and in-place ones (`add_`), are kept as well.
_EFFECTS = re.compile(
    r"_assert|sym_constrain|_print"
    r"|rand|normal|bernoulli|multinomial|poisson|binomial|uniform|exponential|cauchy|geometric|log_normal"
    r"|dropout|rrelu|_standard_gamma|_sample_dirichlet|_fused_moving_avg|_scaled_dot_product|rng"
)


def may_erase(op: Operation, symbols: frozenset[str] = frozenset()) -> bool:
    """Whether nothing is lost with `op` when its results are unused.

    `symbols` are those that the function's arguments give. An ATen call whose result has another one (the number of
    nonzero elements, say) stays: it is what gives that symbol its value.
    """
    if op.has_trait(Pure):
        return True
    if not isinstance(op, tw.AtenOp):
        return False
    if not _symbols(op.result_types) <= symbols | _symbols(op.operand_types):
        return False
    namespace, _, rest = op.target.data.partition(".")
    function = rest.partition(".")[0]
    in_place = function.endswith("_") and not function.endswith("__")
    return namespace in ("aten", "prims") and not in_place and _EFFECTS.search(function) is None


@register
@dataclass(frozen=True)
class DeadCodeElimination(Pass):
    """Erase ops without uses, those inside fused regions too. An ATen call stays where it may have an effect.

    before::

        %a = tw.map "exp" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        %b = tw.map "neg" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        tw.return %b : !tw.tensor<[4], f32>

    after::

        %b = tw.map "neg" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
        tw.return %b : !tw.tensor<[4], f32>
    """

    name: ClassVar[str] = "dce"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        context.statistics[self.name] = {"erased": _clean(module.body.block, frozenset())}


def _symbols(types: Iterable[Attribute]) -> frozenset[str]:
    """The names in the shapes of tensors."""
    dims = [d for t in types if isinstance(t, TensorType) for d in t.shape]
    return frozenset().union(*map(free_symbols, dims))


def _argument_symbols(function: FuncOp) -> frozenset[str]:
    listed = function.attributes.get("symbols")
    names = frozenset(listed.data) if isinstance(listed, DictionaryAttr) else frozenset()
    return names | _symbols(a.type for a in function.body.block.args)


def _clean(block: Block, symbols: frozenset[str]) -> int:
    """Erase in reverse order, so that users go before what they used; returns how many ops went."""
    erased = 0
    op = block.last_op
    while op is not None:
        before = op.prev_op
        # An op without results is there for what it does: a terminator, a function.
        if op.results and not any(r.uses for r in op.results) and may_erase(op, symbols):
            Rewriter.erase_op(op)
            erased += 1
        else:
            inside = _argument_symbols(op) if isinstance(op, FuncOp) else symbols
            erased += sum(_clean(inner, inside) for region in op.regions for inner in region.blocks)
        op = before
    return erased
