"""What stands between two products, seen as attention: exponentials of scores, divided by what a row adds up to.

Each value that depends on the scores has a form:

* ``logit``: a function of one score and of its position;
* ``row``: made of maxima and sums over a row of keys;
* ``shifted``: a logit less rows;
* ``weight``: the exponential of that, times or over rows, and times what does not depend on the scores.

Every spelling of softmax is a weight. `attention_search.py` finds out which form a value has.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.expr import IntExpr

from .lowering.indexing import Index, dot
from .lowering.loops import coefficient
from .lowering.walk import Domain

QUERY, KEY, COLUMN, INNER = "query", "key", "column", "inner"
"""The names of positions: of a query, of a key, in a row of values, and along the inner dim of the scores' product."""

Place = tuple[SSAValue, Index]
VIEWS = (tw.ReshapeOp, tw.PermuteOp, tw.SliceOp, tw.BroadcastOp)


class NotAttention(Exception):
    """The ops are no attention; the message says which of them is in the way, and why."""

    def __init__(self, reason: str, op: Operation | None = None):
        super().__init__(reason)
        self.op = op


@dataclass(frozen=True)
class Form:
    """See the module's text. `shifts` are added or subtracted, `factors` multiply or divide: functions with rows."""

    kind: str
    shifts: tuple[tuple[str, Place], ...] = ()
    factors: tuple[tuple[str, Place], ...] = ()


@dataclass(frozen=True)
class Statistic:
    """A reduction over a row of keys: ``max`` of logits, shifted or not, or ``sum`` of weights.

    `source` are the logits, or the weights; `extras` are the places of what the row has beside the keys, as a sink.
    """

    fn: str
    source: Place
    form: Form
    extras: tuple[Place, ...]


@dataclass
class Attention:
    """A product of weights and values, `values`, whose weights come from `scores`; see `find_attention`.

    `domain` has the batch axes as rows. `queries` and `keys` are how many there are of each, `width` the length of a
    row of values, `inner` the length that scores are added up over. `query`, `key`, `value` say where an operand's
    elements lie, at `QUERY`, `KEY`, `COLUMN` and `INNER`; `result` is the last view of the product, at those as well,
    and `after` says by what rows it is multiplied or divided before. `kept` are the statistics that others read too, as
    the backward pass does.
    """

    values: tw.MatmulOp
    scores: tw.MatmulOp
    domain: Domain
    queries: IntExpr
    keys: IntExpr
    width: int
    inner: int
    weight: Place
    score_index: Index
    query: Place
    key: Place
    value: Place
    logit: Place | None = None
    result: Place | None = None
    after: list[tuple[str, Place]] = field(default_factory=list)
    forms: dict[Place, Form] = field(default_factory=dict)
    statistics: dict[Operation, Statistic] = field(default_factory=dict)
    kept: list[Place] = field(default_factory=list)
    extended: dict[Operation, tuple[int, IntExpr]] = field(default_factory=dict)
    ops: dict[Operation, None] = field(default_factory=dict)

    @property
    def results(self) -> list[Place]:
        """What the kernel writes."""
        assert self.result is not None
        return [self.result, *self.kept]

    def region(self) -> list[Operation]:
        """The ops of the kernel, in the order of the program."""
        block = self.values.parent_block()
        assert block is not None
        return [op for op in block.ops if op in self.ops]


def describe(op: Operation) -> str:
    """An op for a remark: what it computes, and what the model calls it."""
    what = op.fn.data if isinstance(op, (tw.MapOp, tw.ReduceOp, tw.ScanOp)) else op.name.removeprefix("tw.")
    if isinstance(op, tw.AtenOp):
        what = op.target.data
    hint = op.results[0].name_hint if op.results else None
    return f"{what} (%{hint})" if hint and hint != what else what


def element_step(place: Place, strides: tuple[IntExpr, ...], name: str) -> IntExpr:
    """How far apart in memory neighbours along a named position lie."""
    step = coefficient(dot(place[1], strides), name)
    assert step is not None
    return step
