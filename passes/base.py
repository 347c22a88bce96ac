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

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from xdsl.dialects.builtin import ModuleOp

from tilewright.ir.target import Target

NUMERICS = ("exact", "widens", "reassociates", "approximate")


@dataclass
class PassContext:
    """What passes may ask. One per compilation; nothing here outlives it.

    `target` is a row of facts about the machine that the code is for. `sizes` are plausible values of symbols, for cost
    estimates only. `statistics` and `remarks` are what passes report (`remarks` go into the report and the explain
    command: decisions taken and refused, with reasons).
    """

    target: Target
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    def remark(self, pass_name: str, kind: str, message: str, lines: tuple[str, ...] = ()) -> None:
        """Record a decision. `kind` is ``applied`` or ``rejected``."""
        self.remarks.append(Remark(pass_name, kind, message, lines))


@dataclass(frozen=True)
class Remark:
    """A decision of a pass, with the model's lines it concerns."""

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
