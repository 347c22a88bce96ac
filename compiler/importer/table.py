"""The import table: which rule imports an ATen overload.

A rule is a function that takes the `Call` and the overload's arguments as its schema lists them (defaults filled in,
keyword-only ones by keyword), with tensors as SSA values, sizes as integer expressions, the rest as Python values. It
returns the result's value, or a list of them (None for a result that is not made). `refuse` leaves a call to ATen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

import torch
from torch._ops import OpOverload
from xdsl.ir import SSAValue

Results = SSAValue | None | list[SSAValue] | list[SSAValue | None]
ImportRule = Callable[..., Results]
R = TypeVar("R", bound=ImportRule)

RULES: dict[OpOverload, ImportRule] = {}
"""The import rule of each overload that has one."""


class Refused(Exception):
    """A rule does not import this call; the message is the reason that `tw.aten` records."""


def refuse(reason: str) -> NoReturn:
    """Leave the call at hand to ATen."""
    raise Refused(reason)


def refuse_if(condition: bool, reason: str) -> None:
    if condition:
        raise Refused(reason)


def imports(*overloads: OpOverload) -> Callable[[R], R]:
    """Decorator: the function imports these overloads. Raises ValueError where one has a rule already."""

    def enter(rule: R) -> R:
        for overload in overloads:
            if overload in RULES:
                raise ValueError(f"{overload} has two import rules")
            RULES[overload] = rule
        return rule

    return enter


def imports_each(names: Mapping[OpOverload, str]) -> Callable[[R], R]:
    """Decorator: the function imports every overload of the table, which gives its first argument after the call."""

    def enter(rule: R) -> R:
        for overload, name in names.items():
            imports(overload)(_with_name(rule, name))
        return rule

    return enter


def _with_name(rule: ImportRule, name: str) -> ImportRule:
    def named(call: Any, *args: Any, **kwargs: Any) -> Results:
        return rule(call, name, *args, **kwargs)

    return named


class Signature:
    """How an overload's arguments are bound: positions by schema, with defaults, and keyword-only names."""

    def __init__(self, overload: OpOverload):
        arguments = overload._schema.arguments
        self.positional = [(a.name, _default(a)) for a in arguments if not a.kwarg_only]
        self.keyword = [(a.name, _default(a)) for a in arguments if a.kwarg_only]

    def bind(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """`(args, kwargs)` with every argument present."""
        bound = list(args)
        for name, default in self.positional[len(bound) :]:
            bound.append(kwargs.get(name, default))
        return bound, {name: kwargs.get(name, default) for name, default in self.keyword}


def _default(argument: torch.Argument) -> Any:
    return argument.default_value if argument.has_default_value() else None


SIGNATURES: dict[OpOverload, Signature] = {}


def signature(overload: OpOverload) -> Signature:
    """The overload's signature, read once."""
    found = SIGNATURES.get(overload)
    if found is None:
        found = SIGNATURES[overload] = Signature(overload)
    return found
