"""The samples of `op_db` as functions of tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
import torch.utils._pytree as pytree

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "i64": torch.int64, "bool": torch.bool}
SEED = 20

# Arguments of these names are dtypes of what the operator computes with; in float64 they are float64 too.
_WIDER = {torch.float32: torch.float64, torch.bfloat16: torch.float64, torch.float16: torch.float64,
          torch.complex64: torch.complex128, torch.complex32: torch.complex128}


@lru_cache(maxsize=1)
def variants() -> dict[str, Any]:
    """Every OpInfo by its name and variant (``"div.floor_rounding"``), in the order of the database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal import common_methods_invocations as database
    # Some entries seed the generator around each call; tracing would see that, a compiled graph would not.
    database.wrapper_set_seed = lambda op, *args, **kwargs: op(*args, **kwargs)
    found: dict[str, Any] = {}
    for op in database.op_db:
        name = op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")
        assert name not in found, name
        found[name] = op
    return found


@dataclass
class Sample:
    """A call of an operator: a function of tensors that gives the list of the tensors of its result.

    `tensors` are the arguments that are tensors, `leaves` all arguments, flat; `places` says where in these the tensors
    stand.
    """

    variant: str
    dtype: str
    index: int
    op: Callable[..., Any]
    tensors: list[torch.Tensor]
    leaves: list[Any]
    places: list[int]
    spec: Any = field(repr=False)
    result_of: Callable[[Any], Any] = field(repr=False)

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        return self._call(tensors, self.leaves)

    def in_float64(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """The call on tensors that are wide already, its dtype arguments and the default dtype widened as well."""
        leaves = [_WIDER.get(v, v) if isinstance(v, torch.dtype) else v for v in self.leaves]
        with default_dtype(torch.float64):
            return self._call(tensors, leaves)

    def _call(self, tensors: Sequence[torch.Tensor], leaves: list[Any]) -> list[torch.Tensor]:
        leaves = list(leaves)
        for place, tensor in zip(self.places, tensors):
            leaves[place] = tensor
        input, args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        result = self.result_of(self.op(input, *args, **kwargs))
        return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]

    @property
    def text(self) -> str:
        """The arguments, tensors by dtype, shape and (where not contiguous) strides."""
        leaves = [_described(v) if isinstance(v, torch.Tensor) else v for v in self.leaves]
        input, args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        listed = [repr(input), *map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
        return f"({', '.join(listed)})"


class _Text(str):
    def __repr__(self) -> str:
        return str(self)


def _described(x: torch.Tensor) -> _Text:
    dtype = str(x.dtype).removeprefix("torch.")
    strided = x.layout is torch.strided and not x.is_contiguous()
    return _Text(f"{dtype}{list(x.shape)}" + (f" strides {list(x.stride())}" if strided else ""))


def has_dtype(variant: str, dtype: str) -> bool:
    return DTYPES[dtype] in variants()[variant].supported_dtypes("cpu")


def samples(variant: str, dtype: str, *, grad: bool = False) -> Iterator[Sample]:
    """The samples of a variant in their order, the same in each process. With `grad` floats ask for gradients."""
    info = variants()[variant]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED)
        for index, made in enumerate(info.sample_inputs("cpu", DTYPES[dtype], requires_grad=grad)):
            leaves, spec = pytree.tree_flatten((made.input, made.args, made.kwargs))
            places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
            state = torch.get_rng_state()  # what a sample draws must not change the next one
            yield Sample(
                variant, dtype, index, info.op, [leaves[p] for p in places], leaves, places, spec,
                made.output_process_fn_grad if grad else lambda result: result,
            )
            torch.set_rng_state(state)


def copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors that lie in memory as these do, in memory of their own; leaves of autograd. What shares memory here,
    shares it there."""
    storages: dict[int, torch.UntypedStorage] = {}
    made: dict[int, torch.Tensor] = {}
    for x in tensors:
        if id(x) in made:
            continue
        if x.layout is not torch.strided or type(x) not in (torch.Tensor, torch.nn.Parameter):
            made[id(x)] = x.detach().clone()
        else:
            storage = x.untyped_storage()
            own = storages.setdefault(storage._cdata, storage.clone())
            made[id(x)] = torch.empty(0, dtype=x.dtype).set_(own, x.storage_offset(), x.shape, x.stride())
            if x.is_conj():
                made[id(x)] = made[id(x)].conj()
            if x.is_neg():
                made[id(x)] = torch._neg_view(made[id(x)])
        made[id(x)].requires_grad_(x.requires_grad)
    return [made[id(x)] for x in tensors]


def neighbours(tensors: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """Copies in which each finite real number but 0 is a next one of its dtype, up or down by chance."""
    generator = torch.Generator().manual_seed(seed)
    made = copies(tensors)
    for x in {x.untyped_storage()._cdata: x for x in made if _is_real(x)}.values():
        flat = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
        up = torch.rand(flat.shape, generator=generator) < 0.5
        moved = torch.nextafter(flat, torch.where(up, torch.inf, -torch.inf).to(x.dtype))
        flat.copy_(torch.where(moved.isfinite() & flat.isfinite() & (flat != 0), moved, flat))
    return made


def _is_real(x: torch.Tensor) -> bool:
    return x.layout is torch.strided and x.dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def widened(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors in float64 and complex128, those of other kinds as they are; leaves of autograd."""
    made: dict[int, torch.Tensor] = {}
    for x in tensors:
        wide = _WIDER.get(x.dtype, x.dtype)
        copy = x.detach().clone() if wide == x.dtype else x.detach().to(wide)
        made.setdefault(id(x), copy.requires_grad_(x.requires_grad))
    return [made[id(x)] for x in tensors]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
