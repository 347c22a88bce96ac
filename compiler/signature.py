"""What a compiled model is called with: names, dtypes, shapes, and how nested arguments become a flat list.

A signature is plain data and two pytree specs, so that an artifact can carry it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree

from tilewright.ir.dtypes import BY_TORCH_NAME, DTYPES
from tilewright.ir.errors import ArtifactError, InputError
from tilewright.ir.expr import IntExpr, evaluate, free_symbols, linear_in_one, parse

Dim = int | str


@dataclass(frozen=True)
class InputSpec:
    """One leaf of the arguments.

    `kind` is ``tensor`` (`dtype` an element type of ours, `shape` and `strides` ints or expressions of symbols),
    ``int`` (a number that is the symbol `shape[0]`), or ``constant`` (a value the model was traced with).
    """

    name: str
    kind: str
    dtype: str = ""
    shape: tuple[Dim, ...] = ()
    strides: tuple[Dim, ...] = ()
    device: str = "cpu"
    value: Any = None

    def text(self) -> str:
        """`float32[s0, 128]`, for messages and tables."""
        if self.kind == "constant":
            return repr(self.value)
        if self.kind == "int":
            return f"int {self.shape[0]}"
        return f"{DTYPES[self.dtype].torch_name}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class OutputSpec:
    """One leaf of what the call gives: result number `index` of the graph, or (`index` is None) the value itself."""

    index: int | None
    value: Any = None


@dataclass(frozen=True)
class Mutation:
    """Result number `index` of the graph is copied into an argument (`input`) or a captured tensor (`constant`)."""

    index: int
    input: int | None = None
    constant: str | None = None


@dataclass(frozen=True)
class Signature:
    """How a compiled model is called. `ranges` are the allowed sizes of symbols, both ends included."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    mutations: tuple[Mutation, ...]
    ranges: Mapping[str, tuple[int, int | None]]
    parameters: tuple[str, ...]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec

    def __post_init__(self) -> None:
        object.__setattr__(self, "_checks", [_Check(spec) for spec in self.inputs])
        positional, named = _children(self.in_spec)
        flat = all(child.is_leaf() for child in (*_children(positional), *_children(named)))
        object.__setattr__(self, "_flat", (positional.num_children, tuple(named.context or ())) if flat else None)

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The leaves of the arguments, one per input. Raises InputError where they are nested or named otherwise."""
        if (len(args), tuple(kwargs)) == self._flat:  # type: ignore[attr-defined]
            leaves = [*args, *kwargs.values()]
            if not any(isinstance(leaf, (list, tuple, dict)) for leaf in leaves):
                return leaves
        leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
        return leaves if spec == self.in_spec else self._rearrange(args, kwargs)

    def bind(self, leaves: Sequence[Any]) -> list[Any]:
        """The graph's inputs (tensors and ints, in order), checked. Raises InputError naming the argument.

        A tensor whose strides are not those the model was compiled for is copied.
        """
        checks: list[_Check] = self._checks  # type: ignore[attr-defined]
        if all(check.is_exact(leaf) for check, leaf in zip(checks, leaves)):
            return [leaf for check, leaf in zip(checks, leaves) if check.spec.kind != "constant"]
        sizes: dict[str, int] = {}
        for check, leaf in zip(checks, leaves):
            check.sizes(leaf, sizes)
        for name, (low, high) in self.ranges.items():
            if name in sizes and not (low <= sizes[name] and (high is None or sizes[name] <= high)):
                raise InputError(f"size {name} = {sizes[name]}: the model was compiled for {low} to {high or 'any'}")
        return [check.bind(leaf, sizes) for check, leaf in zip(checks, leaves) if check.spec.kind != "constant"]

    def _rearrange(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Leaves in the order of `in_spec`, for arguments given by position or by name as the caller likes."""
        positional, named = _children(self.in_spec)
        names = list(named.context or [])
        wanted = list(self.parameters[: positional.num_children])
        for name in kwargs:
            if name not in (*wanted, *names):
                raise InputError(f"the model was compiled for ({', '.join([*wanted, *names])}), not for {name!r}")
        try:
            bound = inspect.Signature(
                [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in wanted]
                + [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names if n not in wanted]
            ).bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"{error}; the model was compiled for ({', '.join([*wanted, *names])})") from None
        values = bound.arguments
        leaves, spec = pytree.tree_flatten((tuple(values[n] for n in wanted), {n: values[n] for n in names}))
        if spec != self.in_spec:
            raise InputError(f"the arguments are nested as {spec}; the model was compiled for {self.in_spec}")
        return leaves

    def pack(self, results: Sequence[Any]) -> Any:
        """The model's own nested result from the graph's flat results."""
        leaves = [spec.value if spec.index is None else results[spec.index] for spec in self.outputs]
        return pytree.tree_unflatten(leaves, self.out_spec)

    def as_dict(self) -> dict[str, Any]:
        """Plain data. Raises ArtifactError for argument or result types that cannot be written down."""
        try:
            trees = {"in_spec": pytree.treespec_dumps(self.in_spec), "out_spec": pytree.treespec_dumps(self.out_spec)}
        except (NotImplementedError, TypeError, ValueError) as error:
            raise ArtifactError(f"the model's arguments or results cannot be written down: {error}") from None
        for value in [spec.value for spec in self.inputs] + [spec.value for spec in self.outputs]:
            if not isinstance(value, (type(None), bool, int, float, str)):
                raise ArtifactError(f"a constant argument or result of {type(value)} cannot be written down")
        return {
            "inputs": [asdict(spec) for spec in self.inputs],
            "outputs": [asdict(spec) for spec in self.outputs],
            "mutations": [asdict(mutation) for mutation in self.mutations],
            "ranges": {name: list(bounds) for name, bounds in self.ranges.items()},
            "parameters": list(self.parameters),
            **trees,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Signature:
        """Back from plain data. Raises ArtifactError for data that is not a signature."""
        try:
            return Signature(
                inputs=tuple(
                    InputSpec(**{**row, "shape": tuple(row["shape"]), "strides": tuple(row["strides"])})
                    for row in data["inputs"]
                ),
                outputs=tuple(OutputSpec(**row) for row in data["outputs"]),
                mutations=tuple(Mutation(**row) for row in data["mutations"]),
                ranges={name: (low, high) for name, (low, high) in data["ranges"].items()},
                parameters=tuple(data["parameters"]),
                in_spec=pytree.treespec_loads(data["in_spec"]),
                out_spec=pytree.treespec_loads(data["out_spec"]),
            )
        except NotImplementedError as error:
            raise ArtifactError(
                f"{error}: the model takes or gives a type that torch.utils._pytree does not know in this process; "
                "import the package that defines it before loading"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the signature in the manifest does not read: {error}") from None


def _children(spec: pytree.TreeSpec) -> list[pytree.TreeSpec]:
    """The parts of a spec, which torch 2.11 to 2.13 spell in two ways."""
    children = getattr(spec, "children", None)
    return list(children() if callable(children) else spec.children_specs)


# Other classes may hold anything, or nothing at all, where their memory should be.
_DENSE = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


class _Check:
    """The checks of one leaf, with its expressions parsed once."""

    def __init__(self, spec: InputSpec):
        self.spec = spec
        self.shape = tuple(_expression(dim) for dim in spec.shape)
        self.strides = tuple(_expression(dim) for dim in spec.strides)
        self.dtype = getattr(torch, DTYPES[spec.dtype].torch_name) if spec.kind == "tensor" else None
        self.solved = {i: solved for i, dim in enumerate(self.shape) if (solved := linear_in_one(dim)) is not None}

    def is_exact(self, leaf: Any) -> bool:
        """Whether a leaf is, beyond doubt, what the model was compiled for: the common case, told fast."""
        if self.spec.kind == "constant":
            return type(leaf) is type(self.spec.value) and bool(leaf == self.spec.value)
        return (
            type(leaf) in _DENSE
            and leaf.layout is torch.strided
            and leaf.shape == self.shape
            and leaf.stride() == self.strides
            and leaf.dtype is self.dtype
            and leaf.device.type == self.spec.device
            and not leaf.requires_grad
            and not leaf.is_neg()
        )

    def fail(self, what: str) -> InputError:
        return InputError(f"argument {self.spec.name!r} is {what}; the model was compiled for {self.spec.text()}")

    def sizes(self, leaf: Any, sizes: dict[str, int]) -> None:
        """Check everything but the values of sizes, and learn the symbols from dims that say them."""
        spec = self.spec
        if spec.kind == "constant":
            if type(leaf) is not type(spec.value) or leaf != spec.value:
                raise self.fail(repr(leaf))
            return
        if spec.kind == "int":
            if isinstance(leaf, bool) or not isinstance(leaf, int):
                raise self.fail(f"of {type(leaf).__name__}")
            shape: Sequence[int] = (leaf,)
        else:
            if not isinstance(leaf, torch.Tensor):
                raise self.fail(f"of {type(leaf).__name__}")
            if type(leaf) not in _DENSE or leaf.layout is not torch.strided:
                kind = type(leaf).__name__ if type(leaf) not in _DENSE else str(leaf.layout)
                raise self.fail(f"a tensor of another kind ({kind})")
            shape = leaf.shape
            if leaf.dtype != self.dtype or len(shape) != len(self.shape):
                raise self.fail(f"{str(leaf.dtype).removeprefix('torch.')}{list(shape)}")
            if leaf.device.type != spec.device:
                raise self.fail(f"on device {leaf.device}")
            if leaf.requires_grad and torch.is_grad_enabled():
                raise InputError(
                    f"argument {spec.name!r} requires a gradient, and this model is compiled for inference: "
                    'call it under torch.no_grad(), or train through torch.compile(model, backend="tilewright")'
                )
        for i, (name, factor, offset) in self.solved.items():
            sizes.setdefault(name, (shape[i] - offset) // factor)

    def bind(self, leaf: Any, sizes: Mapping[str, int]) -> Any:
        """Check sizes against all symbols; the leaf, with the strides the code was made for."""
        shape = (leaf,) if self.spec.kind == "int" else tuple(leaf.shape)
        wanted = tuple(_value(dim, sizes) for dim in self.shape)
        if shape != wanted:
            values = ", ".join(f"{n} = {sizes[n]}" for n in sorted(_symbols(self.shape)) if n in sizes)
            raise self.fail(f"of size {list(shape)}" + (f" where {values}" if values else ""))
        if self.spec.kind == "int":
            return leaf
        leaf = leaf.resolve_neg()  # imaginary parts of conjugates are stored with the other sign
        strides = tuple(evaluate(dim, sizes) for dim in self.strides)
        same = all(a == b or size == 1 for a, b, size in zip(leaf.stride(), strides, shape))
        if same or 0 in shape:
            return leaf
        return torch.empty_strided(shape, strides, dtype=leaf.dtype, device=leaf.device).copy_(leaf.detach())


def _expression(dim: Dim) -> IntExpr:
    return parse(dim) if isinstance(dim, str) else dim


def _value(dim: IntExpr, sizes: Mapping[str, int]) -> int | None:
    if isinstance(dim, int):
        return dim
    return evaluate(dim, sizes) if free_symbols(dim) <= sizes.keys() else None


def _symbols(dims: Sequence[IntExpr]) -> set[str]:
    return {name for dim in dims for name in free_symbols(dim)}


def tensor_spec(name: str, value: torch.Tensor) -> InputSpec:
    """The spec of a (fake) tensor. Raises InputError for a dtype that has no row in our table."""
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in BY_TORCH_NAME:
        raise InputError(f"argument {name!r} has dtype {dtype}, which Tilewright does not know")
    return InputSpec(
        name=name,
        kind="tensor",
        dtype=BY_TORCH_NAME[dtype],
        shape=tuple(dim_of(size) for size in value.shape),
        strides=tuple(dim_of(stride) for stride in value.stride()),
        device=value.device.type,
    )


def dim_of(size: Any) -> Dim:
    """A size of a fake tensor as an int or as the text of its expression."""
    return size if isinstance(size, int) else str(parse(str(size.node.expr)))
