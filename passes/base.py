"""What a pass is: a frozen dataclass with a name, whose fields are its options, and a `run` that changes a module.

A new pass is one file with one class::

    @register
    @dataclass(frozen=True)
    class MyPass(Pass):
        '''One line of purpose, then IR before -> after.'''

        name: ClassVar[str] = "my-pass"
        iterations: int = 3

        def run(self, module: ModuleOp, context: PassContext) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from xdsl.dialects.builtin import ModuleOp

from tilewright.ir.target import Target

NUMERICS = ("exact", "widens", "reassociates", "approximate")


@dataclass
class PassContext:
    """What passes may ask. One per compilation; nothing here outlives it.

    `target` is a row of facts about the machine that the code is for. `sizes` are plausible values of symbols, for cost
    estimates only. `statistics` and `remarks` are what passes report (`remarks` go into the report and the explain
    command: decisions taken and refused, with reasons, put into words when they are asked for).
    """

    target: Target
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    decisions: list[Callable[[], Remark]] = field(default_factory=list)

    def remark(self, decision: Callable[[], Remark]) -> None:
        """Record a decision: what makes the remark about it, and depends on nothing that passes change later."""
        self.decisions.append(decision)

    @cached_property
    def remarks(self) -> list[Remark]:
        """The decisions, in order. To be asked for when the passes have run."""
        made = [decision() for decision in self.decisions]
        self.decisions.clear()
        return made


@dataclass(frozen=True)
class Remark:
    """A decision of a pass, with the model's lines it concerns. `kind` is ``applied`` or ``rejected``."""

    pass_name: str
    kind: str
    message: str
    lines: tuple[str, ...] = ()


class Pass:
    """Base of all passes. `numerics` is the class of change the pass claims, checked by `verify="numeric"`."""

    name: ClassVar[str]
    numerics: ClassVar[str] = "exact"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        """Change `module` in place."""
        raise NotImplementedError(self.name)


P = TypeVar("P", bound=type[Pass])

PASSES: dict[str, type[Pass]] = {}


def register(cls: P) -> P:
    """Class decorator: makes the pass known by its name."""
    if cls.name in PASSES and PASSES[cls.name].__qualname__ != cls.__qualname__:
        raise ValueError(f"two passes are named {cls.name!r}")
    PASSES[cls.name] = cls
    return cls
