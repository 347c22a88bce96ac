"""Random numbers that are a function of a seed and a position, in place of draws from torch's generator.

With ``rng="counter"`` a graph draws one seed per call, and `counter_based` turns its random calls into arithmetic on
`tilewright.philox(seed, stream, shape)`: 64 random bits for each element, from the seed, a number of the call's own,
and the element's row-major position (Philox 4x32-10, `ir/interpreter/philox.py`). Such bits do not depend on how a
kernel goes through the elements, and can be made twice: `partition` lets the backward pass keep the seed alone, and
make masks again.

What `DISTRIBUTIONS` has no row for, draws with a generator of the caller's, and arguments that ATen refuses stay
ATen's. With ``rng="eager"`` all do: the numbers are those of torch, bit for bit.
"""

from __future__ import annotations

import operator
from contextlib import nullcontext
from typing import Any

import torch
from torch._functorch import config as functorch_config
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.checkpoint import CheckpointPolicy

from .attention_gradient import recompute_attention
from .distributions import DISTRIBUTIONS, STREAMS_PER_CALL, Draw, Results
from .importer.table import signature
from .random_ops import SEED, UNRANDOM
from .recomputation import mark_cheap_results

aten = torch.ops.aten
Node = torch.fx.Node


def counter_based(graph_module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph with its random calls as arithmetic on a seed: a copy, or the same graph where nothing changes.

    `graph_module` is functional ATen, whose nodes carry `meta["val"]`.
    """
    if not any(_is_replaceable(node) for node in graph_module.graph.nodes):
        return graph_module
    copied = torch.fx.Graph()
    nodes: dict[Node, Node] = {}
    result = copied.graph_copy(graph_module.graph, nodes)
    output = graph_module.graph.output_node()
    copied.output(result).meta = dict(output.meta)
    made = torch.fx.GraphModule(graph_module, copied)
    made.meta = dict(graph_module.meta)
    replace_draws(made, replay=False)
    return made


def partition(
    joint: torch.fx.GraphModule, inputs: Any, *, counter: bool, **kwargs: Any
) -> tuple[torch.fx.GraphModule, torch.fx.GraphModule]:
    """Forward and backward graph of AOTAutograd's joint one, by its own minimal cut.

    With `counter` the random calls are replaced first, so that what the backward pass needs of them is the seed.
    """
    if counter:
        replace_draws(joint, replay=_has_backward(joint))
    recompute_attention(joint)
    mark_cheap_results(joint)
    # The partitioner keeps the generator's state around what is tagged as random and computed again.
    for node in joint.graph.nodes:
        if node.target in UNRANDOM and not _bound(node)["dropout_p"]:
            node.target = UNRANDOM[node.target]
    # The partitioner would merge equal draws that it does not know to be draws.
    left = any(_is_random(node) for node in joint.graph.nodes)
    with functorch_config.patch(cse=False) if left else nullcontext():
        forward, backward = min_cut_rematerialization_partition(joint, inputs, **kwargs)
    tagged = {ours: overload for overload, ours in UNRANDOM.items()}
    for part in (forward, backward):
        for node in part.graph.nodes:
            node.target = tagged.get(node.target, node.target)
        part.recompile()
    return forward, backward


def replace_draws(graph_module: torch.fx.GraphModule, *, replay: bool) -> None:
    """Replace the random calls of a graph, in place.

    With `replay` what follows from the seed alone is marked to be computed again in the backward pass.
    """
    graph = graph_module.graph
    seeds: dict[torch.device, Node] = {}
    nodes = [node for node in graph.nodes if _is_replaceable(node)]
    with _disable_current_modes():
        for number, node in enumerate(nodes):
            value = _first_value(node)
            mode = value.fake_mode if isinstance(value, FakeTensor) else nullcontext()
            with mode, graph.inserting_before(node):
                results = _replacement(node, value, number, seeds, replay)
            if results is not None:
                _replace(node, results)
    graph_module.recompile()


def _replacement(
    node: Node, value: torch.Tensor, number: int, seeds: dict[torch.device, Node], replay: bool
) -> Results:
    """The nodes that give what a random call gives, or None where it stays."""
    overload = node.target
    assert isinstance(overload, OpOverload)
    shape = _sizes(node, value)
    if shape is None:
        return None

    def seed() -> Node:
        if value.device not in seeds:
            seeds[value.device] = _insert_seed(node, value.device)
        return seeds[value.device]

    positional, keyword = signature(overload).bind(node.args, node.kwargs)
    draw = Draw(node, value, seed, number * STREAMS_PER_CALL, shape, replay)
    return DISTRIBUTIONS[overload](draw, *positional, **keyword)


def _insert_seed(node: Node, device: torch.device) -> Node:
    """The draw of a seed, before all other calls, with the metadata of the first random one."""
    first = next(n for n in node.graph.nodes if n.op not in ("placeholder", "get_attr"))
    with node.graph.inserting_before(first):
        seed = node.graph.create_node("call_function", SEED, (), {"device": device}, name="seed")
    seed.meta = {k: v for k, v in node.meta.items() if k not in ("val", "tensor_meta", "ac_graph_id")}
    seed.meta["val"] = SEED(device=device)
    seed.meta["recompute"] = CheckpointPolicy.MUST_SAVE
    return seed


def _sizes(node: Node, value: torch.Tensor) -> list[int | Node] | None:
    """The sizes of the result, symbolic ones as nodes; None where no operand of the call has them."""
    if not any(isinstance(size, torch.SymInt) for size in value.shape):
        return list(value.shape)
    given = _bound(node).get("size")
    if given is not None:
        return list(given)
    for source in node.all_input_nodes:
        known = source.meta.get("val")
        if isinstance(known, torch.Tensor) and [str(s) for s in known.shape] == [str(s) for s in value.shape]:
            return [_size_of(source, dim) if isinstance(s, torch.SymInt) else s for dim, s in enumerate(known.shape)]
    return None


def _size_of(tensor: Node, dim: int) -> Node:
    size = tensor.graph.call_function(aten.sym_size.int, (tensor, dim))
    size.meta = {k: v for k, v in tensor.meta.items() if k in ("stack_trace", "nn_module_stack", "partitioner_tag")}
    size.meta["val"] = tensor.meta["val"].shape[dim]
    return size


def _replace(node: Node, results: Results) -> None:
    if isinstance(results, Node):
        # What tracing found stays, its memory layout included.
        results.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(results)
    else:
        assert results is not None
        for user in list(node.users):
            assert user.target is operator.getitem, user.target
            user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
            node.graph.erase_node(user)
    node.graph.erase_node(node)


def _is_random(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def _is_replaceable(node: Node) -> bool:
    """Whether a node is a random call that may have another form: on a CPU, by torch's default generator."""
    if node.op != "call_function" or node.target not in DISTRIBUTIONS:
        return False
    value = _first_value(node)
    return value.device.type == "cpu" and value.layout is torch.strided and _bound(node).get("generator") is None


def _first_value(node: Node) -> torch.Tensor:
    value = node.meta["val"]
    return value if isinstance(value, torch.Tensor) else value[0]


def _bound(node: Node) -> dict[str, Any]:
    """The call's arguments by name."""
    assert isinstance(node.target, OpOverload)
    positional, keyword = signature(node.target).bind(node.args, node.kwargs)
    return dict(zip((name for name, _ in signature(node.target).positional), positional)) | keyword


def _has_backward(joint: torch.fx.GraphModule) -> bool:
    """Whether anything is computed from the gradients that the joint graph takes."""
    return any(n.users for n in joint.graph.find_nodes(op="placeholder") if n.name.startswith("tangents"))
