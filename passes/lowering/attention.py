"""Lowering attention to a tile kernel that never holds the scores of more than a block.

A block of queries goes over the keys in blocks. What the softmax needs to know of a whole row is kept as it is of the
keys seen so far: the largest score, and the sums of exponentials less that. When a block brings a larger score, what
was added up so far is multiplied by the exponential of the difference, the sums and the products with the values alike
(Milakov and Gimelshein 2018; Dao et al. 2022)::

    for each block of queries, in parallel:
      top = -inf, total = 0, result = 0
      for each block of keys that the mask lets the queries see:
        scores = queries x keys
        for each query:
          new = max(top, max over the keys of logit(scores))       change = exp(top - new)
          total = total * change + sum over the keys of exp(logit - new)
          result *= change, top = new
        result += weights x values
      for each query: result / total

A row without any score above minus infinity takes 0 for its top, so that its exponentials are 0; what it gives follows
in the end from the model's own arithmetic on top and totals: 0 / 0 as in eager softmax, or 0 where a sink is beside the
keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir import tile, tw
from tilewright.ir.dtypes import compute_dtype
from tilewright.ir.expr import floordiv, free_symbols, minimum, symbol

from ..attention_forms import COLUMN, INNER, KEY, QUERY, Attention, Form, Place, Statistic
from ..attention_masks import KeyRange, visible_keys
from ..attention_search import candidates, find_attention
from .attention_blocks import BlockwiseEmitter, Strides, kernel_body, whole_vectors
from .indexing import Index, broadcast_index
from .loops import Loop
from .region import Emitted
from .walk import Mask, Walk, view_index

LOGIT = Form("logit")
QUERY_BLOCK, KEY_BLOCK = 64, 256
"""Queries and keys at once: the scores of a block, its keys and its values fill a second-level cache by a tenth, and
packing the keys costs a tenth of multiplying them."""


def computed_scores(bounds: KeyRange, queries: int, keys: int) -> int:
    """How many scores of a batch's element are computed: those of the blocks that `bounds` does not skip."""
    total = 0
    for first in range(0, queries, QUERY_BLOCK):
        last = min(first + QUERY_BLOCK, queries) - 1
        start, stop = bounds.start(first, last), bounds.stop(first, last, keys)
        assert isinstance(start, int) and isinstance(stop, int)
        total += (last + 1 - first) * max(0, stop - start)
    return total


def attention_of(ops: Sequence[Operation]) -> Attention:
    """The attention that a region was made of."""
    products = [op for op in ops if isinstance(op, tw.MatmulOp)]
    values, scores = products[-1], products[0]
    (side,) = [side for side, behind in candidates(values) if scores in behind]
    return find_attention(values, scores, side)


class AttentionEmitter(BlockwiseEmitter):
    """Emits the tile program of one attention region."""

    def __init__(
        self, found: Attention, ops: Sequence[Operation], refs: Mapping[SSAValue, SSAValue],
        strides: Mapping[SSAValue, Strides], output_refs: Sequence[SSAValue], output_strides: Sequence[Strides],
        body: Block,
    ):
        super().__init__(found.domain, ops, found.results, refs, strides, output_refs, output_strides, body)
        # What has no handler is loaded: the scores from scratch, statistics from what is known of the row.
        self.ops = {op for op in ops if op is not found.scores and op not in found.statistics}
        self.found = found
        self.dtype = compute_dtype(tw.tensor_type(found.values.result).dtype)
        self.bounds = visible_keys(found, Walk(ops, found.domain))
        self.bounds_of_rows()
        self.exponential: Emitted | None = None  # at the current key
        self.tops: dict[Place, SSAValue] = {}
        self.totals: dict[Operation, SSAValue] = {}
        self.known: dict[Operation, Emitted] = {}

    def bounds_of_rows(self) -> None:
        """The blocks: what the names of positions are in terms of the loops' axes."""
        queries, keys = self.found.queries, self.found.keys
        self.block = min(QUERY_BLOCK, queries) if isinstance(queries, int) else QUERY_BLOCK
        self.width = min(KEY_BLOCK, keys) if isinstance(keys, int) else KEY_BLOCK
        first = symbol("m0") * self.block
        whole = isinstance(queries, int) and queries % self.block == 0
        self.rows = self.block if whole else minimum(self.block, queries - first)
        last = first + self.rows - 1
        self.start, self.stop = self.bounds.start(first, last), self.bounds.stop(first, last, keys)
        span = self.stop - self.start
        self.blocks = floordiv(span + (self.width - 1), self.width)
        left = span - symbol("n0") * self.width
        self.columns = self.width if isinstance(span, int) and span % self.width == 0 else minimum(self.width, left)
        self.names = {
            QUERY: first + symbol("m1"), KEY: self.start + symbol("n0") * self.width + symbol("n1"),
            COLUMN: symbol("d0"),
        }
        self.step, self.value_step = whole_vectors(self.width), whole_vectors(self.found.width)

    # -- values

    def load(self, value: SSAValue, index: Index, mask: Mask) -> Emitted:
        if value is self.found.scores.result:
            return self.score(index, mask)
        if isinstance(value.owner, Operation) and value.owner in self.found.statistics:
            return self.statistic(value.owner)
        return super().load(value, index, mask)

    def score(self, index: Index, mask: Mask) -> Emitted:
        value = self.read(self.scores, symbol("m1") * self.step + symbol("n1"), "score")
        bias = self.found.scores.bias
        if bias is None:
            return value
        added = self.visit(bias, broadcast_index(index, tw.tensor_type(bias).shape), mask)
        return self.apply("add", value, added)

    def visit(self, value: SSAValue, index: Index, mask: Mask = ()) -> Any:
        op = value.owner
        if isinstance(op, Operation) and op in self.found.extended:
            dim, start = self.found.extended[op]
            inside = index[dim] - start
            if KEY in free_symbols(inside):
                keys = next(a for a in op.operands if a.owner is self.found.scores or a.owner in self.ops)
                return self.visit(keys, (*index[:dim], inside, *index[dim + 1 :]), mask)
            if isinstance(op, tw.PadOp):
                return self.constant(op.value.data, tw.tensor_type(value))
            first, second = op.operands
            before = start if start != 0 else self.found.keys
            other = first if start != 0 else second
            position = index[dim] - (0 if other is first else before)
            return self.visit(other, (*index[:dim], position, *index[dim + 1 :]), mask)
        return super().visit(value, index, mask)

    def weight(self, value: SSAValue, index: Index) -> Emitted:
        """A weight at the current key, without the rows that it is multiplied with or divided by."""
        assert self.exponential is not None
        op = value.owner
        if isinstance(op, (tw.ReshapeOp, tw.PermuteOp, tw.SliceOp, tw.BroadcastOp)):
            return self.weight(op.source, view_index(op, index, self.ranges))
        assert isinstance(op, tw.MapOp)
        if op.fn.data == "exp":
            return self.exponential
        places = [(a, broadcast_index(index, tw.tensor_type(a).shape)) for a in op.args]
        kinds = [self.found.forms[place].kind for place in places]
        rest = self.weight(*places[kinds.index("weight")])
        if "row" in kinds or op.fn.data == "cast":
            return rest
        args = [rest if kind == "weight" else self.visit(*place) for kind, place in zip(kinds, places)]
        return self.apply(op.fn.data, *args)

    # -- rows

    def statistic(self, op: Operation) -> Emitted:
        """What a reduction over all keys gives, once they have been seen."""
        if op not in self.known:
            statistic = self.found.statistics[op]
            if statistic.fn == "max":
                result = self.read(self.tops[statistic.source], symbol("m1"), "top")
                for fn, place in statistic.form.shifts:
                    result = self.apply(fn, result, self.visit(*place))
                for place in statistic.extras:
                    result = self.apply("maximum", result, self.visit(*place))
            else:
                result = self.rescaled(self.read(self.totals[op], symbol("m1"), "total"), statistic.form.shifts)
                for place in statistic.extras:
                    result = self.apply("add", result, self.visit(*place))
            self.known[op] = result
        return self.known[op]

    def statistic_for_others(self, op: Operation) -> Emitted:
        """The same as the model has it: the sum of a row without any score is NaN, because minus infinity less itself
        is."""
        result, statistic = self.statistic(op), self.found.statistics[op]
        if statistic.fn == "sum" and self.less_the_largest(statistic.form.shifts):
            top = self.visit(*statistic.form.shifts[0][1])
            result = self.apply("add", result, self.apply("sub", top, top))
        return result

    def less_the_largest(self, shifts: Sequence[tuple[str, Place]]) -> bool:
        """Whether the exponentials are of scores less the largest one."""
        if len(shifts) != 1:
            return False
        ((fn, (row, _)),) = shifts
        statistic = self.found.statistics.get(row.owner) if isinstance(row.owner, Operation) else None
        return fn == "sub" and statistic == Statistic("max", self.found.logit, LOGIT, ())  # type: ignore[arg-type]

    def rescaled(self, value: Emitted, shifts: Sequence[tuple[str, Place]]) -> Emitted:
        """A sum of exponentials less the largest score, as one of exponentials shifted as in the model."""
        assert self.found.logit is not None
        if self.less_the_largest(shifts):
            return value
        key = tuple(shifts)
        if key not in self.memo_of_shifts:
            result = self.read(self.tops[self.found.logit], symbol("m1"), "top")
            for fn, place in shifts:
                result = self.apply(fn, result, self.visit(*place))
            self.memo_of_shifts[key] = self.apply("exp", result)
        return self.apply("mul", value, self.memo_of_shifts[key])

    # -- the program

    def run(self) -> None:
        found = self.found
        for axis in found.domain.rows[:-4]:
            self.open(Loop(axis, "parallel"))
        queries = floordiv(found.queries + (self.block - 1), self.block)
        self.loop("m0", queries, "parallel")
        self.allocate()
        self.loop("n0", self.blocks, "serial")
        self.multiply_keys()
        self.update_rows()
        self.multiply_values()
        self.end()
        self.write_result()
        self.end()
        for _ in found.domain.rows[:-4]:
            self.end()

    def allocate(self) -> None:
        found = self.found
        self.scores = self.scratch(self.block * self.step, "scores")
        self.sums = self.scratch(self.block * self.value_step, "sums")
        places = [s.source for s in found.statistics.values() if s.fn == "max"]
        for place in dict.fromkeys([found.logit, *places]):
            self.tops[place] = self.scratch(self.block, "top")  # type: ignore[index]
        for op, statistic in found.statistics.items():
            if statistic.fn == "sum":
                self.totals[op] = self.scratch(self.block, "total")
        self.loop("m1", self.rows, "serial")
        low, zero = self.number(float("-inf")), self.number(0.0)
        for ref in self.tops.values():
            self.write(ref, symbol("m1"), low)
        for ref in self.totals.values():
            self.write(ref, symbol("m1"), zero)
        self.loop("d0", found.width, "vector")
        self.write(self.sums, symbol("m1") * self.value_step + symbol("d0"), zero)
        self.end()
        self.end()

    def multiply_keys(self) -> None:
        query, query_offset, *query_steps = self.operand(self.found.query, QUERY, INNER)
        key, key_offset, *key_steps = self.operand(self.found.key, INNER, KEY)
        self.emit(tile.DotOp.make(
            self.scores, query, key, [0, query_offset, key_offset], [self.step, *query_steps, *key_steps],
            [self.rows, self.columns, self.found.inner], accumulate=False,
        ), len(self.frames) - 1)

    def multiply_values(self) -> None:
        value, offset, *steps = self.operand(self.found.value, KEY, COLUMN)
        self.emit(tile.DotOp.make(
            self.sums, self.scores, value, [0, 0, offset], [self.value_step, self.step, 1, *steps],
            [self.rows, self.found.width, self.columns], accumulate=True,
        ), len(self.frames) - 1)

    def update_rows(self) -> None:
        found = self.found
        assert found.logit is not None
        place = symbol("m1") * self.step + symbol("n1")
        self.loop("m1", self.rows, "serial")
        self.loop("n1", self.columns, "vector")
        logits = [self.visit(*at) for at in self.tops]
        self.write(self.scores, place, logits[0])
        # A score that is NaN makes its weight NaN and with it the whole row, whatever is subtracted.
        largest = self.end(["fmax"] * len(logits), logits)
        low = self.number(float("-inf"))
        change = shift = low
        for number, (ref, value) in enumerate(zip(self.tops.values(), largest)):
            old = self.read(ref, symbol("m1"), "top")
            new = self.apply("maximum", old, value, hint="new_top")
            self.write(ref, symbol("m1"), new)
            if number == 0:
                shift = self.apply("where", self.apply("eq", new, low), self.number(0.0), new, hint="shift")
                change = self.apply("exp", self.apply("sub", old, shift), hint="change")
        self.loop("n1", self.columns, "vector")
        logit = self.read(self.scores, place, "logit")
        self.exponential = self.apply("exp", self.apply("sub", logit, shift))
        weights = [self.weight(*found.statistics[op].source) for op in self.totals]
        self.write(self.scores, place, self.weight(*found.weight))
        sums = self.end(["sum"] * len(weights), weights)
        self.exponential = None
        for ref, value in zip(self.totals.values(), sums):
            total = self.apply("mul", self.read(ref, symbol("m1"), "total"), change)
            self.write(ref, symbol("m1"), self.apply("add", total, value))
        self.loop("d0", found.width, "vector")
        at = symbol("m1") * self.value_step + symbol("d0")
        self.write(self.sums, at, self.apply("mul", self.read(self.sums, at, "sum"), change))
        self.end()
        self.end()

    def write_result(self) -> None:
        found = self.found
        output, *kept = self.output_refs
        self.known, self.memo_of_shifts = {}, {}
        self.loop("m1", self.rows, "serial")
        form = found.forms[found.weight]
        one = self.rescaled(self.number(1.0), form.shifts)
        rows = [(fn, self.visit(*place)) for fn, place in (*form.factors, *found.after)]
        for ref, (statistic, _) in zip(kept, found.kept):
            self.write_output(ref, self.statistic_for_others(statistic.owner))  # type: ignore[arg-type]
        self.loop("d0", found.width, "vector")
        at = symbol("m1") * self.value_step + symbol("d0")
        value = self.read(self.sums, at, "sum")
        if one.value is not self.number(1.0).value:
            value = self.apply("mul", value, one)
        for fn, row in rows:
            value = self.apply(fn, value, row)
        if not isinstance(found.keys, int):
            # Without keys a product is a sum of nothing.
            some = self.emit(tile.CondOp.make([found.keys - 1]), len(self.frames) - 1)
            assert some is not None
            value = self.apply("where", some, value, self.number(0.0))
        self.write_output(output, value)
        self.end()
        self.end()

    memo_of_shifts: dict[Any, Emitted]


def lower_attention(
    ops: Sequence[Operation], outputs: Sequence[SSAValue], inputs: Mapping[SSAValue, Strides],
    output_strides: Sequence[Strides], name: str,
) -> tile.KernelOp:
    """The kernel of an attention region: its pointers are the inputs in order, then the result, and the statistics of
    rows that others read."""
    found = attention_of(ops)
    assert [value for value, _ in found.results] == list(outputs)
    body, refs, output_refs = kernel_body(inputs, found.results)
    emitter = AttentionEmitter(found, ops, refs, inputs, output_refs, output_strides, body)
    emitter.run()
    return emitter.finish(name)
