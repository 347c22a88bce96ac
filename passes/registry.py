"""Where passes are found: a table of names, each imported when it is asked for.

A new pass is a row here beside its file. A pass that code outside of the project registers with `@register` is found as
well.
"""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass, fields
from importlib import import_module

from tilewright.ir.errors import TilewrightError, UnknownOptionError, nearest

from .base import PASSES, Pass

MODULES: dict[str, str] = {
    "canonicalize": "tilewright.passes.canonicalize",
    "fold": "tilewright.passes.fold",
    "simplify": "tilewright.passes.simplify",
    "cse": "tilewright.passes.cse",
    "dce": "tilewright.passes.dce",
    "freeze": "tilewright.passes.freeze",
    "layout": "tilewright.passes.layout",
    "attention": "tilewright.passes.attention",
    "fuse": "tilewright.passes.fusion",
    "softmax-division": "tilewright.passes.softmax_division",
    "split-bias": "tilewright.passes.split_bias",
    "split-reductions": "tilewright.passes.split_reductions",
    "lower": "tilewright.passes.lowering.program",
    "plan-memory": "tilewright.passes.memory_plan",
}


class PassUnavailableError(TilewrightError):
    """A pass whose module, or a package that it needs, is not installed; says which."""


@dataclass(frozen=True)
class PassInfo:
    """A row of `list_passes`. `options` maps each option to its default; `missing` says why the pass cannot run here
    (empty when it can)."""

    name: str
    summary: str
    numerics: str
    options: dict[str, object]
    missing: str = ""


def find_pass(name: str) -> type[Pass]:
    """The class of the pass called `name`.

    Raises UnknownOptionError (with the nearest name) for a name nobody has, PassUnavailableError where its module or
    what that imports is not installed.
    """
    if name not in PASSES:
        if name not in MODULES:
            raise UnknownOptionError(f"unknown pass {name!r}{nearest(name, [*MODULES, *PASSES])}")
        try:
            import_module(MODULES[name])
        except ModuleNotFoundError as error:
            raise PassUnavailableError(f"pass {name!r} needs {error.name!r}, which is not installed") from error
        if name not in PASSES:
            raise PassUnavailableError(f"{MODULES[name]} does not define a pass named {name!r}")
    return PASSES[name]


def pass_info(name: str) -> PassInfo:
    """What there is to know about one pass."""
    try:
        cls = find_pass(name)
    except PassUnavailableError as error:
        return PassInfo(name, "", "", {}, str(error))
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    options = {}
    for field in fields(cls):  # type: ignore[arg-type]
        default = field.default if field.default_factory is MISSING else field.default_factory()
        options[field.name] = None if default is MISSING else default
    return PassInfo(name, summary, cls.numerics, options)


def list_passes() -> list[PassInfo]:
    """All passes: those of the table in its order, then those registered from outside."""
    return [pass_info(name) for name in dict.fromkeys([*MODULES, *PASSES])]
