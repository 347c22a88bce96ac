"""The gradients of attention by data flow: products that make scores, elementwise work, products that add it up.

Where the forward pass keeps what a row of the softmax comes to, the backward pass has no sum over keys but in its
products (`compiler/attention_gradient.py`)::

    weights = exp(q kᵀ - largest) / total            d_weights = d_result vᵀ
    d_scores = weights * (d_weights - delta)
    d_v = weightsᵀ d_result       d_q = d_scores k       d_k = d_scoresᵀ q

All that has an element for each query and key stands between the first two products and the last three. The finder
takes in whatever elementwise work that is: masks and their gradients, scales, functions of the scores, dropout by
counters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.ir import Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.dtypes import DTYPES, compute_dtype
from tilewright.ir.expr import IntExpr, Ranges, free_symbols, product, symbol

from .attention_forms import COLUMN, INNER, KEY, QUERY, VIEWS, NotAttention, Place, describe
from .attention_masks import KeyRange, where_nonzero
from .attention_operands import Absorber
from .lowering.indexing import Index, broadcast_index
from .lowering.walk import Axis, Domain, Walk, view_index

NEAR = 256
"""Ops that may depend on the scores."""


@dataclass(frozen=True)
class Scores:
    """A product with an element for each query and key; read at `index`. `rows` lies at `QUERY` and `INNER`, `columns`
    at `INNER` and `KEY`; `inner` is the length that is added up over."""

    op: tw.MatmulOp
    index: Index
    rows: Place
    columns: Place
    inner: int


@dataclass(frozen=True)
class Sum:
    """A product that adds up `weight` over queries or keys, `along`: with `other`, at `along` and `COLUMN`, into
    `result`, at the other of the two and `COLUMN`, of which there are `width`."""

    op: tw.MatmulOp
    along: str
    weight: Place
    other: Place
    result: Place
    width: int


@dataclass
class Gradient:
    """What `find_gradient` finds. `kept` are values for each query and key that others read, as the gradient of a
    bias; `domain` has the batch axes as rows, then queries and keys."""

    scores: tw.MatmulOp
    domain: Domain
    queries: IntExpr
    keys: IntExpr
    products: dict[Operation, Scores] = field(default_factory=dict)
    sums: list[Sum] = field(default_factory=list)
    kept: list[Place] = field(default_factory=list)
    ops: dict[Operation, None] = field(default_factory=dict)
    extended: dict[Operation, tuple[int, IntExpr]] = field(default_factory=dict)

    @property
    def results(self) -> list[Place]:
        """What the kernel writes."""
        return [*(s.result for s in self.sums), *self.kept]

    def region(self) -> list[Operation]:
        """The ops of the kernel, in the order of the program."""
        block = self.scores.parent_block()
        assert block is not None
        return [op for op in block.ops if op in self.ops]

    def visible(self, walk: Walk) -> tuple[KeyRange, dict[Sum, list[Place]]]:
        """The bounds outside of which all that is added up is zero, and for each sum the rows that must be finite for
        that."""
        found = {s: where_nonzero(self, walk, *s.weight) for s in self.sums}
        bounds = [b for b, _ in found.values()]
        if self.kept:
            bounds = []
        lower = [b for b in bounds[0].lower if all(b in other.lower for other in bounds)] if bounds else []
        upper = [b for b in bounds[0].upper if all(b in other.upper for other in bounds)] if bounds else []
        visible = KeyRange(tuple(dict.fromkeys(lower)), tuple(dict.fromkeys(upper)))
        return visible, {s: rows if visible != KeyRange() else [] for s, (_, rows) in found.items()}


def find_gradient(scores: tw.MatmulOp) -> Gradient | None:
    """The gradients of the attention whose scores `scores` makes again, or None where it is nothing of the kind: no
    exponential less a row, or no products, follow on it. Raises NotAttention."""
    sums = _sums_of(scores)
    if sums is None:
        return None
    try:
        found = _Finder(scores, sums).find()
    except NotAttention:
        if len(sums) == 1:
            return None  # as in a forward pass
        raise
    return found if len(found.products) > 1 else None


def _sums_of(scores: tw.MatmulOp) -> list[tuple[tw.MatmulOp, int]] | None:
    """The products that elementwise work leads to, each with the side that it leads to."""
    found: dict[tuple[tw.MatmulOp, int], None] = {}
    seen: set[Operation] = {scores}
    stack: list[Operation] = [scores]
    exponential = False
    while stack:
        for use in stack.pop().results[0].uses:
            op = use.operation
            if isinstance(op, tw.MatmulOp) and use.index < 2:
                found[op, use.index] = None
            elif isinstance(op, (tw.MapOp, *VIEWS)) and op not in seen:
                exponential |= isinstance(op, tw.MapOp) and op.fn.data == "exp"
                seen.add(op)
                stack.append(op)
        if len(seen) > NEAR:
            return None
    sums = [each for each in found if not _leads_to(each[0], seen)]
    return sums if exponential and sums else None


def _leads_to(op: Operation, ops: set[Operation]) -> bool:
    """Whether the result of a product comes back, by sums over its rows: it is the attention's own, made again."""
    stack, seen = [op], set[Operation]()
    while stack and len(seen) < 16:
        for use in stack.pop().results[0].uses:
            if use.operation in ops:
                return True
            if isinstance(use.operation, (tw.MapOp, tw.ReduceOp, *VIEWS)) and use.operation not in seen:
                seen.add(use.operation)
                stack.append(use.operation)
    return False


class _Finder(Absorber):
    """Walks from the sums to the products."""

    def __init__(self, scores: tw.MatmulOp, sums: list[tuple[tw.MatmulOp, int]]):
        type = tw.tensor_type(scores.result)
        batch_shape = tw.tensor_type(sums[0][0].result).shape[:-2]
        self.dtype = compute_dtype(type.dtype)
        # Which dim is that of the queries follows from the softmax; until it is known, the last is the keys'.
        queries, keys = type.shape[-2:]
        axes = [Axis(f"i{i}", size) for i, size in enumerate(batch_shape) if size != 1]
        self.batch = tuple(0 if size == 1 else symbol(f"i{i}") for i, size in enumerate(batch_shape))
        extents = (*axes, Axis(QUERY, queries), Axis(KEY, keys), Axis(COLUMN, 1), Axis(INNER, 1))
        index = (*self.batch, symbol(QUERY), symbol(KEY))
        domain = Domain((*batch_shape, queries, keys), (len(batch_shape) + 1,), extents, (), index)
        self.found = Gradient(scores, domain, queries, keys)
        super().__init__(scores.parent_block(), domain.ranges, self.found.ops)
        self.starts = sums
        self.softmax = False

    def find(self) -> Gradient:
        found = self.found
        sizes = {found.queries, found.keys}
        if sizes & {0, 1} or 0 in found.domain.shape or not DTYPES[self.dtype].is_float:
            raise NotAttention("nothing to add up", found.scores)
        for op, side in self.starts:
            self.add_sum(op, side)
        if found.scores not in found.products or not self.softmax:
            raise NotAttention("no softmax over the last dim of the scores", found.scores)
        place = {op: number for number, op in enumerate(found.region())}
        found.sums.sort(key=lambda each: place[each.op])
        if len(found.products) > 1:
            found.kept = self.read_by_others()
        return found

    def add_sum(self, op: tw.MatmulOp, side: int) -> None:
        found = self.found
        weight, other = op.args[side], op.args[1 - side]
        shape, width = tw.tensor_type(weight).shape, tw.tensor_type(op.result).shape[-1 if side == 0 else -2]
        if op.bias is not None or shape[:-2] != found.domain.shape[:-2] or not isinstance(width, int) or width == 0:
            raise NotAttention("a product of another shape reads what the scores come to", op)
        if op.args[0] is op.args[1] or compute_dtype(tw.tensor_type(op.result).dtype) != self.dtype:
            raise NotAttention("a product of other types reads what the scores come to", op)
        along = self.orientation(weight)[1 - side]
        rest = KEY if along == QUERY else QUERY
        pair = (symbol(rest), symbol(along))
        place = weight, (*self.batch, *(pair if side == 0 else pair[::-1]))
        self.absorb(*place)
        place = self.without_views(place)
        column = 0 if width == 1 else symbol(COLUMN)
        inside, outside = (symbol(along), column), (symbol(rest), column)
        result = (op.result, (*self.batch, *(outside if side == 0 else outside[::-1])))
        with_width = Ranges({**self.ranges.extents, COLUMN: width})
        lies = self.operand((other, (*self.batch, *(inside if side == 0 else inside[::-1]))), with_width)
        found.ops[op] = None
        found.sums.append(Sum(op, along, place, lies, result, width))

    def orientation(self, weight: SSAValue) -> tuple[str, str]:
        """What the last two dims of a value are: it is tried both ways, and has to lead to the scores' own dims."""
        for pair in ((QUERY, KEY), (KEY, QUERY)):
            place = weight, (*self.batch, *map(symbol, pair))
            if tw.tensor_type(weight).shape[-2:] == tuple(self.ranges.extents[n] for n in pair) and self.leads(place):
                return pair
        raise NotAttention("a product reads the scores at other positions", self.found.scores)

    def leads(self, place: Place) -> bool:
        """Whether the scores are met at queries and keys in their own order, on the way from a place back."""
        seen: set[Place] = set()
        stack = [place]
        while stack:
            value, index = stack.pop()
            op = value.owner
            if op is self.found.scores:
                return index[-2:] == (symbol(QUERY), symbol(KEY))
            if not isinstance(op, (tw.MapOp, *VIEWS)) or (value, index) in seen:
                continue
            seen.add((value, index))
            if isinstance(op, tw.MapOp):
                stack += [(a, broadcast_index(index, tw.tensor_type(a).shape)) for a in op.args]
            else:
                stack.append((op.source, view_index(op, index, self.ranges)))
        return False

    def absorb(self, value: SSAValue, index: Index) -> None:
        op = value.owner
        if isinstance(op, tw.MapOp) and op.fn.data == "exp":
            self.softmax |= self.less_a_row(op.args[0], index)
        super().absorb(value, index)

    def less_a_row(self, value: SSAValue, index: Index) -> bool:
        value, index = self.without_views((value, index))
        op = value.owner
        if not isinstance(op, tw.MapOp) or op.fn.data != "sub":
            return False
        _, at = self.without_views((op.args[1], broadcast_index(index, tw.tensor_type(op.args[1]).shape)))
        return not any(KEY in free_symbols(i) for i in at)

    def product_inside(self, op: tw.MatmulOp, index: Index) -> None:
        """Take in a product with an element for each query and key; others are read from memory."""
        query, key = symbol(QUERY), symbol(KEY)
        inner = tw.tensor_type(op.args[0]).shape[-1]
        named = [free_symbols(i) & {QUERY, KEY} for i in index[:-2]]
        if any(named) or {index[-2], index[-1]} != {query, key} or op.bias is not None:
            return
        if not isinstance(inner, int) or inner == 0 or compute_dtype(tw.tensor_type(op.result).dtype) != self.dtype:
            return
        if op in self.found.products:
            raise NotAttention(f"{describe(op)} is read at several positions", op)
        at = 0 if inner == 1 else symbol(INNER)
        ranges = Ranges({**self.ranges.extents, INNER: inner})
        left = self.operand((op.args[0], (*index[:-1], at)), ranges)
        right = self.operand((op.args[1], (*index[:-2], at, index[-1])), ranges)
        rows, columns = (left, right) if index[-1] == key else (right, left)
        self.found.ops[op] = None
        self.found.products[op] = Scores(op, index, rows, columns, inner)

    def operand(self, place: Place, ranges: Ranges) -> Place:
        own, self.ranges = self.ranges, ranges
        try:
            return self.behind_views(*place)
        finally:
            self.ranges = own

    def before(self) -> set[Operation]:
        """The ops that what the region reads is computed by. They cannot wait for it: what they read of its values is
        computed for them as well."""
        found = set[Operation]()
        stack = [a.owner for op in self.found.ops for a in op.operands if a.owner not in self.found.ops]
        while stack:
            op = stack.pop()
            if isinstance(op, Operation) and op not in found:
                found.add(op)
                stack += [a.owner for a in op.operands]
        return found

    def read_by_others(self) -> list[Place]:
        """The values that depend on products and are read outside. Raises NotAttention where they are not all of one
        size, or many."""
        found = self.found
        sums = {s.op for s in found.sums}
        dependent = set(found.products)
        kept: list[Place] = []
        for op in found.region():
            if op in sums:
                continue
            if not any(a.owner in dependent for a in op.operands) and op not in dependent:
                continue
            dependent.add(op)
            value = op.results[0]
            readers = {use.operation for use in value.uses} - set(found.ops)
            if not readers or readers <= self.before():
                continue
            at = [place for place in self.seen if place[0] is value]
            if len(at) != 1 or product(tw.tensor_type(value).shape) != product(found.domain.shape):
                raise NotAttention(f"{describe(op)} is also read elsewhere", op)
            kept += at
        if len(kept) > 1:
            raise NotAttention("several results have an element for each query and key", found.scores)
        return kept
