"""Lowering the gradients of attention to one tile kernel that never holds the scores of more than a block.

What is added up over queries (the gradients of keys and values) is complete when a block of keys has met all queries;
what is added up over keys (the gradient of queries) grows in scratch for all queries at once::

    for each element of the batch, in parallel:
      for each block of keys:
        for each block of queries that the mask lets see them:
          scores = queries x keys          d_weights = d_result x values
          for each query, for each key: the region's own arithmetic
          d_valuesᵀ += d_resultᵀ x weights       d_keysᵀ += queriesᵀ x d_scores       d_queries += d_scores x keys
        write d_keys, d_values
      write d_queries

No two threads add to one number, so the order of additions is always the same. What is summed over queries lies
transposed, so that blocks of scores are read along their rows by every product.

Where a mask hides blocks, they are skipped as long as all rows behave: a row whose largest score is not finite makes
NaN of every weight in it, also of hidden ones. So each sum begins with zero times such numbers: zero, or NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir import tile, tw
from tilewright.ir.dtypes import compute_dtype
from tilewright.ir.expr import IntExpr, floordiv, maximum, minimum, symbol

from ..attention_forms import COLUMN, INNER, KEY, QUERY, NotAttention, Place
from ..attention_gradient import Gradient, Sum, find_gradient
from .attention_blocks import BlockwiseEmitter, Strides, kernel_body, whole_vectors
from .indexing import Index
from .loops import Loop
from .region import Emitted
from .walk import Mask, Walk

QUERY_BLOCK, KEY_BLOCK = 64, 256
"""Queries and keys at once: the blocks of scores and of their gradients fill a second-level cache by a tenth."""


def gradient_of(ops: Sequence[Operation]) -> Gradient:
    """The gradients that a region was made of."""
    for op in ops:
        if isinstance(op, tw.MatmulOp):
            try:
                found = find_gradient(op)
            except NotAttention:
                continue
            if found is not None:
                return found
    raise AssertionError("a region without gradients")


class GradientEmitter(BlockwiseEmitter):
    """Emits the tile program of one region."""

    def __init__(
        self, found: Gradient, ops: Sequence[Operation], refs: Mapping[SSAValue, SSAValue],
        strides: Mapping[SSAValue, Strides], output_refs: Sequence[SSAValue], output_strides: Sequence[Strides],
        body: Block,
    ):
        super().__init__(found.domain, ops, found.results, refs, strides, output_refs, output_strides, body)
        self.ops = {op for op in ops if op not in found.products}  # these are read from scratch
        self.found = found
        self.dtype = compute_dtype(tw.tensor_type(found.scores.result).dtype)
        self.bounds, self.finite = found.visible(Walk(ops, found.domain))
        self.blocks: dict[Operation, SSAValue] = {}  # of products
        self.weights: dict[Place, SSAValue] = {}
        self.totals: dict[Sum, SSAValue] = {}
        queries, keys = found.queries, found.keys
        self.query_block = min(QUERY_BLOCK, queries) if isinstance(queries, int) else QUERY_BLOCK
        self.key_block = min(KEY_BLOCK, keys) if isinstance(keys, int) else KEY_BLOCK
        first_key = symbol("n0") * self.key_block
        self.columns = self.in_block(keys, first_key, self.key_block)
        last_key = first_key + self.columns - 1
        start, stop = self.bounds.first_query(first_key, last_key), self.bounds.last_query(first_key, last_key, queries)
        first_query = start + symbol("m0") * self.query_block
        self.rows = self.in_block(stop, first_query, self.query_block)
        self.query_blocks = floordiv(maximum(stop - start, 0) + (self.query_block - 1), self.query_block)
        self.key_blocks = floordiv(keys + (self.key_block - 1), self.key_block)
        self.names = {KEY: first_key + symbol("n1"), COLUMN: symbol("d0")}
        self.every_query, self.query_of_block = symbol("m1"), first_query + symbol("m1")
        self.step = whole_vectors(self.key_block)

    def in_block(self, stop: IntExpr, first: IntExpr, block: int) -> IntExpr:
        """How much of a block is left before `stop`."""
        whole = isinstance(stop, int) and stop % block == 0 and first in (symbol("n0") * block, symbol("m0") * block)
        return block if whole else minimum(block, stop - first)

    # -- values

    def load(self, value: SSAValue, index: Index, mask: Mask) -> Emitted:
        if isinstance(value.owner, Operation) and value.owner in self.found.products:
            return self.read(self.blocks[value.owner], self.at_score, "score")
        return super().load(value, index, mask)

    def map(self, op: tw.MapOp, args: list[Emitted], index: Index) -> Emitted:
        first, *others = args
        exponential = isinstance(op.args[0].owner, tw.MapOp) and op.args[0].owner.fn.data == "exp"
        if op.fn.data != "div" or not exponential or others[0].depth >= first.depth:
            return super().map(op, args, index)
        # One quotient a row.
        one = self.number(1.0).value
        key = ("map", "div", one, others[0].value)
        share = self.emit_once(key, lambda: tile.MapOp.make("div", [one, others[0].value]), others[0].depth, "share")
        return self.apply("mul", first, share, hint=op.result.name_hint)

    @property
    def at_score(self) -> IntExpr:
        """The place of a query and key in a block of scores."""
        return symbol("m1") * self.step + symbol("n1")

    def place(self, total: Sum) -> IntExpr:
        """The place in its scratch of what `total` adds up to, at the current query or key, and column."""
        if total.along == QUERY:
            return symbol("d0") * self.step + symbol("n1")
        return symbol(QUERY) * whole_vectors(total.width) + symbol("d0")

    def outset(self, total: Sum) -> Emitted:
        """What the sum begins with at the current row: zero, or NaN where a number that has to be finite is not."""
        result = self.number(0.0)
        for place in self.finite[total]:
            result = self.apply("add", result, self.apply("mul", self.visit(*place), self.number(0.0)))
        return result

    # -- the program

    def run(self) -> None:
        axes = self.found.domain.rows[:-4]
        for axis in axes:
            self.open(Loop(axis, "parallel"))
        self.allocate()
        over_keys = [s for s in self.found.sums if s.along == KEY]
        over_queries = [s for s in self.found.sums if s.along == QUERY]
        self.begin_queries(over_keys)
        outsets = {s: self.outset_of_all(s) for s in over_queries}
        self.loop("n0", self.key_blocks, "serial")
        self.begin_keys(outsets)
        self.loop("m0", self.query_blocks, "serial")
        self.names[QUERY] = self.query_of_block
        self.multiply()
        self.weigh()
        for total in self.found.sums:
            self.add_up(total)
        self.end()
        self.write_keys(over_queries)
        self.end()
        self.write_queries(over_keys)
        for _ in axes:
            self.end()

    def allocate(self) -> None:
        found = self.found
        size = self.query_block * self.step
        for op in found.products:
            self.blocks[op] = self.scratch(size, "scores")
        unused = list(self.blocks.values())
        for place in dict.fromkeys(s.weight for s in found.sums):
            self.weights[place] = unused.pop(0) if unused else self.scratch(size, "weights")
        for total in found.sums:
            extent = total.width * self.step if total.along == QUERY else found.queries * whole_vectors(total.width)
            self.totals[total] = self.scratch(extent, "sums")

    def outset_of_all(self, total: Sum) -> Emitted:
        """What a sum over queries begins with: the outsets of all rows."""
        if not self.finite[total]:
            return self.number(0.0)
        self.names[QUERY] = self.every_query
        self.loop("m1", self.found.queries, "vector")
        return self.end(["sum"], [self.outset(total)])[0]

    def begin_queries(self, sums: Sequence[Sum]) -> None:
        self.names[QUERY] = self.every_query
        for total in sums:
            self.loop("m1", self.found.queries, "serial")
            value = self.outset(total)
            self.loop("d0", total.width, "vector")
            self.write(self.totals[total], self.place(total), value)
            self.end()
            self.end()

    def begin_keys(self, outsets: Mapping[Sum, Emitted]) -> None:
        for total, value in outsets.items():
            self.loop("d0", total.width, "serial")
            self.loop("n1", self.columns, "vector")
            self.write(self.totals[total], self.place(total), value)
            self.end()
            self.end()

    def multiply(self) -> None:
        for op, scores in self.found.products.items():
            rows, row_offset, *row_steps = self.operand(scores.rows, QUERY, INNER)
            columns, column_offset, *column_steps = self.operand(scores.columns, INNER, KEY)
            self.emit(tile.DotOp.make(
                self.blocks[op], rows, columns, [0, row_offset, column_offset],
                [self.step, *row_steps, *column_steps], [self.rows, self.columns, scores.inner], accumulate=False,
            ), len(self.frames) - 1)

    def weigh(self) -> None:
        """The region's own arithmetic: from the products of a block to what is added up."""
        self.loop("m1", self.rows, "serial")
        self.loop("n1", self.columns, "vector")
        values = {place: self.visit(*place) for place in self.weights}
        for ref, place in zip(self.output_refs[len(self.found.sums) :], self.found.kept):
            self.write_output(ref, self.visit(*place))
        for place, value in values.items():
            self.write(self.weights[place], self.at_score, value)
        self.end()
        self.end()

    def add_up(self, total: Sum) -> None:
        weights, ref = self.weights[total.weight], self.totals[total]
        if total.along == QUERY:
            other, offset, *steps = self.operand(total.other, COLUMN, QUERY)
            operands, offsets = (ref, other, weights), [0, offset, 0]
            strides = [self.step, *steps, self.step, 1]
            shape = [total.width, self.columns, self.rows]
        else:
            other, offset, *steps = self.operand(total.other, KEY, COLUMN)
            step = whole_vectors(total.width)
            operands, offsets = (ref, weights, other), [self.at_block(QUERY) * step, 0, offset]
            strides = [step, self.step, 1, *steps]
            shape = [self.rows, total.width, self.columns]
        self.emit(tile.DotOp.make(*operands, offsets, strides, shape, accumulate=True), len(self.frames) - 1)

    def write_keys(self, sums: Sequence[Sum]) -> None:
        for total in sums:
            self.loop("n1", self.columns, "serial")
            self.write_row(total)
            self.end()

    def write_queries(self, sums: Sequence[Sum]) -> None:
        self.names[QUERY] = self.every_query
        for total in sums:
            self.loop("m1", self.found.queries, "serial")
            self.write_row(total)
            self.end()

    def write_row(self, total: Sum) -> None:
        self.loop("d0", total.width, "vector")
        output = self.output_refs[self.found.sums.index(total)]
        self.write_output(output, self.read(self.totals[total], self.place(total), "sum"))
        self.end()


def lower_attention_gradient(
    ops: Sequence[Operation], outputs: Sequence[SSAValue], inputs: Mapping[SSAValue, Strides],
    output_strides: Sequence[Strides], name: str,
) -> tile.KernelOp:
    """The kernel of a region of gradients: its pointers are the inputs in order, then the sums, then what is kept."""
    found = gradient_of(ops)
    assert [value for value, _ in found.results] == list(outputs)
    body, refs, output_refs = kernel_body(inputs, found.results)
    emitter = GradientEmitter(found, ops, refs, inputs, output_refs, output_strides, body)
    emitter.run()
    return emitter.finish(name)
