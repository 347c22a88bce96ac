"""Searching for attention: from a product back to the one whose result is the scores.

`find_attention` walks position by position, as lowering will (`lowering/walk.py`), so that it does not matter through
which views, casts and broadcasts the values come. On the way each value gets its form (`attention_forms.py`); what has
none is the reason why it is not attention.
"""

from __future__ import annotations

from collections.abc import Callable

from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir import tw
from tilewright.ir.dtypes import DTYPES, compute_dtype
from tilewright.ir.expr import IntExpr, free_symbols, symbol
from tilewright.ir.patterns import splat

from .attention_forms import (
    COLUMN,
    INNER,
    KEY,
    QUERY,
    VIEWS,
    Attention,
    Form,
    NotAttention,
    Place,
    Statistic,
    describe,
)
from .attention_operands import Absorber, is_linear
from .lowering.indexing import Index, broadcast_index, reshape_index
from .lowering.walk import Axis, Domain, view_index

LIBRARY = (tw.ConvOp, tw.AttentionOp, tw.FusedOp)
MOST_EXTRAS = 4
NEAR = 128
"""Ops between the products that are looked at: what is further away belongs to other layers."""
NEAREST = 4
"""Products that are tried as the scores'."""


class TooFar(NotAttention):
    """The product is another layer's, and no reason to speak of."""


def candidates(values: tw.MatmulOp) -> list[tuple[int, list[tw.MatmulOp]]]:
    """The operands of a product that come from an exponential and a reduction, each with the products behind it, the
    nearest first."""
    found = []
    for side in (0, 1):
        products: dict[tw.MatmulOp, None] = {}
        exponential = reduction = False
        stack, seen = [values.args[side]], set[Operation]()
        while stack and len(seen) < NEAR and len(products) < NEAREST:
            op = stack.pop(0).owner
            if op in seen or isinstance(op, (Block, *LIBRARY)) or op.parent_block() is not values.parent_block():
                continue
            seen.add(op)
            if isinstance(op, tw.MatmulOp):
                products[op] = None
                continue
            exponential |= isinstance(op, tw.MapOp) and op.fn.data == "exp"
            reduction |= isinstance(op, tw.ReduceOp)
            stack += op.operands
        if exponential and reduction and products:
            found.append((side, list(products)))
    return found


def find_attention(values: tw.MatmulOp, scores: tw.MatmulOp, side: int) -> Attention:
    """The attention whose weights are operand `side` of `values`. Raises NotAttention."""
    return _Finder(values, scores, side).find()


class _Finder(Absorber):
    """Walks from the weights to the scores."""

    def __init__(self, values: tw.MatmulOp, scores: tw.MatmulOp, side: int):
        self.dependent = _dependents(scores, values)
        if values.bias is not None:
            raise NotAttention("something is added to the product with the values", values)
        weights, others = values.args[side], values.args[1 - side]
        if isinstance(others.owner, Operation) and others.owner in self.dependent:
            raise NotAttention("the values depend on the scores", values)
        shape = tw.tensor_type(weights).shape
        queries, keys = (shape[-2], shape[-1]) if side == 0 else (shape[-1], shape[-2])
        width = tw.tensor_type(values.result).shape[-1 if side == 0 else -2]
        inner = tw.tensor_type(scores.args[0]).shape[-1]
        if keys in (0, 1) or not isinstance(width, int) or not isinstance(inner, int) or 0 in (width, inner, *shape):
            raise NotAttention("nothing to add up, or rows of unknown length", values)
        dtype = compute_dtype(tw.tensor_type(scores.result).dtype)
        if not DTYPES[dtype].is_float or compute_dtype(tw.tensor_type(values.result).dtype) != dtype:
            raise NotAttention("the two products are computed in different types", values)
        self.dtype = dtype
        axes = [Axis(f"i{i}", size) for i, size in enumerate(shape[:-2]) if size != 1]
        batch = tuple(0 if size == 1 else symbol(f"i{i}") for i, size in enumerate(shape[:-2]))
        query: IntExpr = 0 if queries == 1 else symbol(QUERY)
        extents = (*axes, Axis(QUERY, queries), Axis(KEY, keys), Axis(COLUMN, width), Axis(INNER, inner))
        domain = Domain((*shape[:-2], queries, keys), (len(shape) - 1,), extents, (), (*batch, query, symbol(KEY)))
        pair = (query, symbol(KEY))
        weight = (weights, (*batch, *(pair if side == 0 else pair[::-1])))
        columns = (symbol(KEY), 0 if width == 1 else symbol(COLUMN))
        value = (others, (*batch, *(columns if side == 0 else columns[::-1])))
        row = (query, 0 if width == 1 else symbol(COLUMN))
        result = (values.result, (*batch, *(row if side == 0 else row[::-1])))
        self.found = Attention(
            values, scores, domain, queries, keys, width, inner, weight, (), value, value, value, result=result
        )
        super().__init__(values.parent_block(), domain.ranges, self.found.ops)

    def find(self) -> Attention:
        found = self.found
        form = self.form(*found.weight)
        if form.kind != "weight" or found.logit is None or not found.score_index:
            raise NotAttention("the weights are no exponentials of scores", found.values)
        if not found.statistics:
            raise NotAttention("nothing is added up over the keys", found.values)
        self.check_types()
        found.query, found.key = self.factors_of_scores()
        for name, place in (("query", found.query), ("key", found.key), ("value", found.value)):
            setattr(found, name, self.behind_views(*place))
        found.result = self.behind_result(*found.result)  # type: ignore[misc]
        self.check_uses()
        found.ops |= {found.scores: None, found.values: None}
        return found

    # -- forms

    def form(self, value: SSAValue, index: Index) -> Form:
        place = value, index
        if place not in self.found.forms:
            op = value.owner
            if not isinstance(op, Operation) or op not in self.dependent:
                form = Form("plain")
                self.absorb(value, index)
            else:
                if op is not self.found.scores:
                    self.found.ops[op] = None
                if type(op) not in _FORMS:
                    raise NotAttention(f"{describe(op)} stands between the products", op)
                form = _FORMS[type(op)](self, op, index)
            self.found.forms[place] = form
        return self.found.forms[place]

    def product(self, op: tw.MatmulOp, index: Index) -> Form:
        if op is not self.found.scores:
            raise NotAttention("another product stands between", op)
        query, key = self.found.domain.index[-2:]
        if self.found.score_index not in ((), index):
            raise NotAttention("scores of several positions meet", op)
        named = [free_symbols(i) & {QUERY, KEY} for i in index[:-2]]
        if any(named) or {index[-2], index[-1]} != {query, key} or index[-2:].count(key) != 1:
            raise NotAttention("the softmax is not over the keys", op)
        self.found.score_index = index
        if op.bias is not None:
            self.form(op.bias, broadcast_index(index, tw.tensor_type(op.bias).shape))
        return Form("logit")

    def map(self, op: tw.MapOp, index: Index) -> Form:
        places = [(a, broadcast_index(index, tw.tensor_type(a).shape)) for a in op.args]
        forms = [self.form(*place) for place in places]
        kinds = [form.kind for form in forms]
        fn, known = op.fn.data, set(kinds)
        if fn == "cast":
            if not all(DTYPES[tw.tensor_type(v).dtype].is_float for v in (op.args[0], op.result)):
                raise NotAttention(f"a conversion to {tw.tensor_type(op.result).dtype}", op)
            return forms[0]
        if fn == "exp" and kinds[0] in ("logit", "shifted"):
            self.set_logit(places[0], kinds[0], op)
            return Form("weight", forms[0].shifts)
        if known <= {"plain", "logit"}:
            return Form("logit")
        if known <= {"plain", "row"}:
            if any(KEY in free_symbols(i) for _, at in map(self.without_views, places) for i in at):
                raise NotAttention(f"{describe(op)} puts a statistic of a row and positions of keys together", op)
            return Form("row")
        if fn in ("sub", "add") and kinds[1] == "row" and kinds[0] in ("logit", "shifted"):
            self.set_logit(places[0], kinds[0], op)
            return Form("shifted", (*forms[0].shifts, (fn, self.row(places[1], op))))
        if fn in ("mul", "div") and kinds[0] == "weight" and kinds[1] in ("plain", "row"):
            return self.scaled(forms[0], fn, kinds[1], places[1], op)
        if fn == "mul" and kinds[1] == "weight" and kinds[0] in ("plain", "row"):
            return self.scaled(forms[1], fn, kinds[0], places[0], op)
        if fn == "where" and kinds[0] == "plain" and sorted(kinds[1:]) == ["plain", "weight"]:
            chosen = kinds.index("weight", 1)
            if splat(op.args[3 - chosen]) == 0:
                return forms[chosen]
        raise NotAttention(f"{describe(op)} of {', '.join(f'a {kind}' for kind in kinds)}", op)

    def scaled(self, form: Form, fn: str, kind: str, by: Place, op: Operation) -> Form:
        if kind == "plain":
            return form
        return Form("weight", form.shifts, (*form.factors, (fn, self.row(by, op))))

    def row(self, place: Place, op: Operation) -> Place:
        """The place of a row, which must not depend on the key."""
        value, index = self.without_views(place)
        if any(KEY in free_symbols(i) for i in index):
            raise NotAttention(f"{describe(op)} with a statistic of other rows", op)
        return value, index

    def set_logit(self, place: Place, kind: str, op: Operation) -> None:
        if kind != "logit":
            return
        place = self.without_views(place)
        if self.found.logit not in (None, place):
            raise NotAttention("exponentials of different scores meet", op)
        self.found.logit = place

    def reduce(self, op: tw.ReduceOp, index: Index) -> Form:
        dims = [d for d in op.dims.ints() if tw.tensor_type(op.source).shape[d] != 1]
        fn = op.fn.data
        if len(dims) != 1 or any(KEY in free_symbols(i) for i in index):
            raise NotAttention(f"{describe(op)} does not run over the keys alone", op)
        (dim,) = dims
        more = tw.tensor_type(op.source).shape[dim] - self.found.keys
        if not isinstance(more, int) or not 0 <= more <= MOST_EXTRAS:
            raise NotAttention(f"{describe(op)} does not run over the keys alone", op)
        start = self.start_of_keys(op.source, dim) if more else 0
        at = tuple(symbol(KEY) + start if d == dim else i for d, i in enumerate(index))
        form = self.form(op.source, at)
        if (fn, form.kind) not in (("max", "logit"), ("max", "shifted"), ("sum", "weight")):
            raise NotAttention(f"{describe(op)} over the keys, of a {form.kind}", op)
        positions = [*range(start), *(self.found.keys + n for n in range(start, more))]
        extras = tuple(
            (op.source, tuple(position if d == dim else i for d, i in enumerate(index))) for position in positions
        )
        source = self.without_views((op.source, at))
        if form.kind == "shifted":
            assert self.found.logit is not None
            source = self.found.logit
        statistic = Statistic(fn, source, form, extras)
        if self.found.statistics.get(op, statistic) != statistic:
            raise NotAttention(f"{describe(op)} is read at several rows", op)
        self.found.statistics[op] = statistic
        for value, place in extras:
            self.extra(value, place)
        return Form("row")

    def start_of_keys(self, value: SSAValue, dim: int) -> int:
        """Where the keys begin in a row that has more than them."""
        while isinstance(value.owner, (tw.MapOp, *VIEWS)) and value.owner in self.dependent:
            op = value.owner
            if not isinstance(op, tw.MapOp):
                raise NotAttention(f"{describe(op)} of more than the keys", op)
            rank = tw.tensor_type(op.result).rank
            value = next(a for a in op.args if a.owner in self.dependent and tw.tensor_type(a).rank == rank)
        owner = value.owner
        start = self.extension(owner, dim)[1] if isinstance(owner, (tw.ConcatOp, tw.PadOp)) else 0
        if not isinstance(start, int):
            raise NotAttention("keys that begin at an unknown place")
        return start

    def extension(self, op: Operation, dim: int) -> tuple[SSAValue, IntExpr]:
        """The operand that has the keys, and where it begins along `dim`."""
        if isinstance(op, tw.PadOp):
            return op.source, op.low.data[dim]
        start: IntExpr = 0
        for arg in op.operands:
            if isinstance(arg.owner, Operation) and arg.owner in self.dependent:
                return arg, start
            start = start + tw.tensor_type(arg).shape[dim]
        raise NotAttention(f"{describe(op)} without scores", op)

    def extend(self, op: tw.ConcatOp | tw.PadOp, index: Index) -> Form:
        """Keys with something beside them."""
        if isinstance(op, tw.ConcatOp):
            dim = op.dim.ints()[0]
            fits = len(op.args) == 2
        else:
            borders = list(zip(op.low.data, op.high.data))
            padded = [d for d, border in enumerate(borders) if border != (0, 0)]
            dim = padded[0] if padded else 0
            fits = len(padded) == 1 and all(isinstance(n, int) and n >= 0 for n in borders[dim])
        keys, start = self.extension(op, dim)
        if not fits or index[dim] - start != symbol(KEY) or tw.tensor_type(keys).shape[dim] != self.found.keys:
            raise NotAttention(f"{describe(op)} of more than a row of keys and what stands beside it", op)
        self.found.extended[op] = dim, start
        form = self.form(keys, (*index[:dim], symbol(KEY), *index[dim + 1 :]))
        if form.kind != "logit":
            raise NotAttention(f"{describe(op)} of a {form.kind}", op)
        return form

    def extra(self, value: SSAValue, index: Index) -> None:
        """Take in the ops that compute what stands beside the keys."""
        op = value.owner
        if not isinstance(op, Operation) or op not in self.dependent or isinstance(op, tw.ReduceOp):
            self.absorb(value, index)
        elif isinstance(op, tw.MapOp):
            for a in op.args:
                self.extra(a, broadcast_index(index, tw.tensor_type(a).shape))
        elif isinstance(op, tw.ConcatOp) and op in self.found.extended:
            dim, start = self.found.extended[op]
            other = next(a for a in op.args if not (isinstance(a.owner, Operation) and a.owner in self.dependent))
            first = 0 if start == tw.tensor_type(other).shape[dim] else self.found.keys
            self.absorb(other, (*index[:dim], index[dim] - first, *index[dim + 1 :]))
        elif not isinstance(op, tw.PadOp):
            raise NotAttention(f"{describe(op)} of more than the keys", op)

    def view(self, op: tw.ViewOp, index: Index) -> Form:
        return self.form(op.source, view_index(op, index, self.ranges))

    # -- the products' operands and the result

    def factors_of_scores(self) -> tuple[Place, Place]:
        """The places of queries and keys."""
        scores, index = self.found.scores, self.found.score_index
        inner = 0 if self.found.inner == 1 else symbol(INNER)
        rows = (scores.args[0], (*index[:-1], inner))
        columns = (scores.args[1], (*index[:-2], inner, index[-1]))
        return (rows, columns) if index[-1] == symbol(KEY) else (columns, rows)

    def behind_result(self, value: SSAValue, index: Index) -> Place:
        """The last of the views that alone read the result, and what rows it is multiplied with or divided by on the
        way, as far as the kernel can write it as such."""
        while value.has_one_use():
            (use,) = value.uses
            op = use.operation
            if isinstance(op, tw.PermuteOp):
                index = tuple(index[d] for d in op.dims.ints())
            elif isinstance(op, tw.ReshapeOp):
                following = reshape_index(index, op.in_type.shape, op.out_type.shape, self.ranges)
                if not is_linear(following, (QUERY, COLUMN)):
                    break
                index = following
            elif not self.scales(op, use.index, index):
                break
            self.found.ops[op] = None
            value = op.results[0]
        return value, index

    def scales(self, op: Operation, place: int, index: Index) -> bool:
        """Whether `op` multiplies or divides the result by a row; the row is kept."""
        if not isinstance(op, tw.MapOp) or op.fn.data not in ("mul", "div") or (op.fn.data, place) == ("div", 1):
            return False
        row = op.args[1 - place]
        shape = tw.tensor_type(row).shape
        at = broadcast_index(index, shape)
        if tw.tensor_type(op.result).shape != tw.tensor_type(op.args[place]).shape or row.owner not in self.dependent:
            return False
        if any(COLUMN in free_symbols(i) for i in at) or self.form(row, at).kind != "row":
            return False
        self.found.after.append((op.fn.data, self.row((row, at), op)))
        return True

    # -- conditions

    def check_uses(self) -> None:
        """Nothing else may need what is not going to exist in memory."""
        inside = {*self.found.ops, self.found.values}
        assert self.found.result is not None
        read: set[SSAValue] = set()
        for op in self.dependent & {self.found.scores, *self.found.ops}:
            if op is not self.found.result[0].owner:
                for use in op.results[0].uses:
                    if use.operation not in inside and op not in self.found.statistics:
                        raise NotAttention(f"{describe(op)} is also read by {describe(use.operation)}", op)
                    if use.operation not in inside:
                        read.add(op.results[0])
        places = {value: (value, index) for value, index in self.found.forms if value in read}
        self.found.kept = [places[op.results[0]] for op in self.found.region() if op.results[0] in places]

    def check_types(self) -> None:
        assert self.found.logit is not None
        for value in (self.found.logit[0], self.found.weight[0]):
            if compute_dtype(tw.tensor_type(value).dtype) != self.dtype:
                raise NotAttention(f"the softmax is computed in {tw.tensor_type(value).dtype}", self.found.values)


_FORMS: dict[type[Operation], Callable[..., Form]] = {
    tw.MatmulOp: _Finder.product, tw.MapOp: _Finder.map, tw.ReduceOp: _Finder.reduce, tw.ConcatOp: _Finder.extend,
    tw.PadOp: _Finder.extend, **dict.fromkeys(VIEWS, _Finder.view),
}


def _dependents(scores: tw.MatmulOp, values: tw.MatmulOp) -> set[Operation]:
    """`scores`, and what depends on it, up to `values`. Raises TooFar where that is much."""
    found: set[Operation] = {scores}
    stack: list[Operation] = [scores]
    while stack:
        if len(found) > NEAR:
            raise TooFar("much else depends on the scores", scores)
        for use in [use for result in stack.pop().results for use in result.uses]:
            if use.operation is not values and use.operation not in found:
                found.add(use.operation)
                stack.append(use.operation)
    return found
