"""The gradient of attention without its weights, which the backward pass makes again from queries and keys.

Autograd's gradient of a softmax reads the weights, which the forward pass would have to keep: a number for each query
and key. `recompute_attention` says it in AOTAutograd's joint graph in terms of two numbers for each row::

    weights = exp(scores - largest) / total                             # largest and total are kept
    gradient of the scores = weights * (gradient of the weights - delta)

Where attention has the form ``result = weights' @ values``, with weights' the weights, perhaps dropped out and scaled,
`delta`, the sum over the keys of weights and their gradient, is that of the result and its gradient over a row (Dao et
al. 2022, appendix B.4). So no sum runs over keys in the backward pass, and `passes/attention_gradient.py` finds
products with nothing but elementwise work between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.checkpoint import CheckpointPolicy

aten = torch.ops.aten
Node = torch.fx.Node

_PRODUCTS = {aten.bmm.default, aten.mm.default}
_TRANSPOSED = {aten.transpose.int, aten.permute.default, aten.t.default}
_COPIES = {aten.alias.default, aten.clone.default, aten.detach.default, aten._to_copy.default}
_RESHAPES = {aten.view.default, aten._unsafe_view.default, aten.reshape.default}
_VIEWS = {*_TRANSPOSED, *_RESHAPES, aten.unsqueeze.default, aten.squeeze.dim, aten.expand.default}
_LEADING = {*_COPIES, *_VIEWS, aten.masked_fill.Tensor}
_HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class _Attention:
    """A softmax between two products. `scores` is what it is taken of, `chain` are the nodes that lead to it from their
    product, `weighted` those that lead on; `gradient` is that of `result`."""

    softmax: Node
    scores: Node
    chain: set[Node]
    weighted: set[Node]
    result: Node
    gradient: Node


def recompute_attention(joint: torch.fx.GraphModule) -> None:
    """Rewrite the gradients of attention in AOTAutograd's joint graph, and mark what is to be computed again."""
    with _disable_current_modes():
        for node in joint.graph.find_nodes(op="call_function", target=aten._softmax_backward_data.default):
            found = _find(node)
            if found is not None:
                _rewrite(node, found)
    joint.graph.eliminate_dead_code()


# -- finding


def _find(backward: Node) -> _Attention | None:
    """The attention whose softmax `backward` is the gradient of, if it has the form above."""
    upstream, weights, dim, _ = cast(Any, backward.args)
    softmax = _behind(weights)
    value = softmax.meta["val"]
    if softmax.target is not aten._softmax.default or value.device.type != "cpu" or dim not in (-1, value.dim() - 1):
        return None
    if value.dim() < 2 or free_unbacked_symbols(value) or any(size in (0, 1) for size in value.shape[-2:]):
        return None  # with one key the gradient is zero, and better so to the last bit
    scores = cast(Node, softmax.args[0])
    products: set[Node] = set()
    chain: set[Node] = set()
    if not _leads_to_product(scores, products, chain, {}) or len(products) != 1:
        return None
    factors, _ = _factors(upstream)
    gradients = [leaf for leaf in factors if isinstance(leaf, Node) and leaf.target in _PRODUCTS]
    if len(gradients) != 1:
        return None
    wanted = factors - Counter(gradients) + Counter([softmax])
    gradient, transposed = cast(Any, gradients[0].args)
    for result in _products_with(transposed):
        found, weighted = _factors(result.args[0])
        if found != wanted or result.meta["val"].shape != gradient.meta["val"].shape:
            continue
        inside = {*chain, *products, softmax, *weighted}
        if any(user.op == "output" for node in inside for user in node.users):
            return None  # kept anyway
        return _Attention(softmax, scores, chain | products, weighted, result, gradient)
    return None


def _behind(node: Any) -> Node:
    """The node whose elements `node` holds in the same order, behind views that together keep it."""
    found, views = node, []
    while node.target in (_COPIES | _VIEWS) and node.args[0].meta["val"].is_floating_point():
        views.append(node)
        node = node.args[0]
        if _keep_order(views, node):
            found = node
    return found  # type: ignore[no-any-return]


def _keep_order(views: list[Node], source: Node) -> bool:
    """Whether the last of `views`, the first in the list, has the elements of `source` in row-major order."""
    views = [v for v in views if v.target not in _COPIES]
    if not any(v.target in _TRANSPOSED or v.target is aten.expand.default for v in views):
        return True
    if all(v.target is aten.expand.default and _shape(v) == _shape(v.args[0]) for v in views):
        return True
    if any(isinstance(size, torch.SymInt) for node in (source, *views) for size in node.meta["val"].shape):
        return False
    seen = torch.empty(tuple(source.meta["val"].shape), device="meta")
    for view in reversed(views):
        if view.target not in _RESHAPES:
            seen = view.target(seen, *view.args[1:])  # type: ignore[operator]
            continue
        try:
            seen = seen.view(view.meta["val"].shape)
        except (RuntimeError, ValueError):
            return False  # dims that do not lie side by side become one
    return seen.is_contiguous() and seen.numel() == source.meta["val"].numel()


def _masks(found: _Attention) -> set[Node]:
    """Elementwise work as large as the scores that does not depend on them: of positions, or of what is smaller."""
    masks: set[Node] = set()
    stack = [source for node in found.chain for source in node.all_input_nodes if node.target not in _PRODUCTS]
    while stack:
        node = stack.pop()
        if node in masks or node in found.chain or not (_is_pointwise(node) or node.target in _VIEWS):
            continue
        if _shape(node)[-2:] == _shape(found.scores)[-2:]:
            masks.add(node)
            stack += node.all_input_nodes
    return masks


def _is_pointwise(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags


def _leads_to_product(node: Node, products: set[Node], chain: set[Node], known: dict[Node, bool]) -> bool:
    """Whether elementwise work and views lead from products to `node`; which products, and by what nodes."""
    if node not in known:
        if node.target in _PRODUCTS:
            products.add(node)
            known[node] = True
        else:
            known[node] = (_is_pointwise(node) or node.target in _LEADING) and any(
                [_leads_to_product(source, products, chain, known) for source in node.all_input_nodes]
            )
            if known[node]:
                chain.add(node)
    return known[node]


def _factors(node: Any) -> tuple[Counter[Any], set[Node]]:
    """What is multiplied to give `node`, element by element in row-major order, and the nodes that do it."""
    leaves: Counter[Any] = Counter()
    inside: set[Node] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        behind = _behind(node)
        while node is not behind:
            inside.add(node)
            node = node.args[0]
        sources = _sources(node)
        if sources is None:
            leaves[node] += 1
            continue
        inside.add(node)
        for source in sources:
            if not isinstance(source, Node):
                leaves[source] += 1
            elif _shape(source) == _shape(node):
                stack.append(source)
            else:
                leaves[source, _shape(node)] += 1  # broadcast
    return leaves, inside


def _sources(node: Node) -> list[Any] | None:
    """The factors of one node: nodes and what tells constants apart; None where it is no product of elements."""
    target, args = node.target, cast(Any, node.args)
    if target in (aten.mul.Tensor, aten.mul.Scalar):
        return list(args)
    if target in (aten.div.Tensor, aten.div.Scalar) and not isinstance(args[1], Node):
        return [args[0], ("over", args[1])]
    if target is aten.where.self and _shape(args[0]) == _shape(node):
        kept, dropped = (arg.args[0] if arg.target is aten.scalar_tensor.default else None for arg in args[1:])
        return [("kept", args[0], kept)] if kept is not None and dropped == 0 else None
    if target is aten.native_dropout_backward.default and _shape(args[1]) == _shape(node):
        return [args[0], ("kept", args[1], args[2])]
    return None


def _shape(node: Any) -> tuple[str, ...]:
    return tuple(str(size) for size in node.meta["val"].shape)


def _products_with(transposed: Any) -> Iterator[Node]:
    """The products whose second factor is the transpose of `transposed`."""
    if transposed.target not in _TRANSPOSED:
        return
    values = transposed.args[0]
    rank = values.meta["val"].dim()
    order = list(range(rank))
    if transposed.target is aten.permute.default:
        order = [dim % rank for dim in transposed.args[1]]
    else:
        first, second = (dim % rank for dim in transposed.args[1:]) if transposed.args[1:] else (0, 1)
        order[first], order[second] = second, first
    if order == [*range(rank - 2), rank - 1, rank - 2]:
        yield from (user for user in values.users if user.target in _PRODUCTS and user.args[1] is values)


# -- rewriting


def _rewrite(backward: Node, found: _Attention) -> None:
    softmax, scores = found.softmax, found.scores
    dtype, kept = softmax.meta["val"].dtype, softmax.meta.get("recompute")
    with softmax.graph.inserting_before(softmax):
        wide = _wide(scores, softmax)
        largest = _call(softmax, aten.amax.default, wide, [-1], True, name="largest")
        shifted = _call(softmax, aten.sub.Tensor, wide, largest, name="shifted")
        exponential = _call(softmax, aten.exp.default, shifted, name="exp")
        total = _call(softmax, aten.sum.dim_IntList, exponential, [-1], True, name="total")
        weights = _call(softmax, aten.div.Tensor, exponential, total, name="softmax")
        rounded = weights if dtype not in _HALVES else _call(softmax, aten._to_copy.default, weights, dtype=dtype)
    with backward.graph.inserting_before(backward):
        both = _call(backward, aten.mul.Tensor, *(_wide(n, backward) for n in (found.result, found.gradient)))
        sums = _call(backward, aten.sum.dim_IntList, both, [-1], True, name="sums")
        sizes = [_size(largest, dim, backward) for dim in range(largest.meta["val"].dim())]
        delta = _call(backward, aten.view.default, sums, sizes, name="delta")
        difference = _call(backward, aten.sub.Tensor, _wide(backward.args[0], backward), delta)
        gradient = _call(backward, aten.mul.Tensor, weights, difference, name="softmax_backward")
        wanted = backward.meta["val"].dtype
        if gradient.meta["val"].dtype != wanted:
            gradient = _call(backward, aten._to_copy.default, gradient, dtype=wanted)
    backward.replace_all_uses_with(gradient)
    softmax.replace_all_uses_with(rounded)
    again = (*found.chain, wide, shifted, exponential, weights, rounded, *found.weighted)
    for node in (*again, *_masks(found)):
        if node.meta.get("recompute") is None:
            node.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE
    if kept is None:
        for node in (largest, total, found.result):
            node.meta["recompute"] = CheckpointPolicy.MUST_SAVE


def _wide(node: Any, like: Node) -> Node:
    if node.meta["val"].dtype not in _HALVES:
        return node  # type: ignore[no-any-return]
    return _call(like, aten._to_copy.default, node, dtype=torch.float32)


def _size(node: Node, dim: int, like: Node) -> Any:
    size = node.meta["val"].shape[dim]
    return _call(like, aten.sym_size.int, node, dim) if isinstance(size, torch.SymInt) else size


def _call(like: Node, target: Any, *args: Any, name: str | None = None, **kwargs: Any) -> Node:
    """A call with the metadata of `like`, where nodes are being inserted."""
    node = like.graph.create_node("call_function", target, args, kwargs, name=name)
    node.meta = {k: v for k, v in like.meta.items() if k not in ("val", "tensor_meta", "original_aten")}
    values = torch.fx.map_arg(args, lambda n: n.meta["val"])
    modes = [n.meta["val"].fake_mode for n in node.all_input_nodes if isinstance(n.meta["val"], FakeTensor)]
    with modes[0] if modes else nullcontext():
        node.meta["val"] = target(*values, **kwargs)
    return node
