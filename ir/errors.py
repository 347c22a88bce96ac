"""The error catalogue: every error a user can meet, one class each.

Each message names what was wrong, where in the user's model (when known), and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class TilewrightError(Exception):
    """Base of every error of ours. The command line prints it without a traceback and exits with 1."""


class UnknownOptionError(TilewrightError):
    """An option that does not exist; names the nearest one."""


class OptionValueError(TilewrightError):
    """An option with a value that it does not take."""


class PassError(TilewrightError):
    """A pass failed; names the pass, the dump, and the ops around the bad one."""


class VerifyError(TilewrightError):
    """IR that is not legal at its stage; `op` is the op at fault, where there is one."""

    op: Any = None


class NumericMismatchError(TilewrightError):
    """Two stages that must compute the same do not; names the stage or the pass."""


class LoopingRuleError(TilewrightError):
    """A rule set that does not reach a fixed point; names the rule."""


class UnsupportedOpError(TilewrightError):
    """`fallback="error"` met ops that would have run in ATen; lists all of them."""


class UnsupportedGraphError(TilewrightError):
    """A graph that the IR cannot express as a whole (sizes that depend on data, mutation); parts of it may compile."""


class UnsupportedTargetError(TilewrightError):
    """A kernel that cannot be written for the target, or a program that cannot run on this machine; says why."""


class CompilerNotFoundError(TilewrightError):
    """No working C++ compiler; says how to get one."""


class KernelBuildError(TilewrightError):
    """The C++ compiler refused a kernel; carries its message and the source's path."""


class InputError(TilewrightError):
    """A call with arguments that the compiled model was not made for."""


class ExportError(TilewrightError):
    """A model that torch.export cannot capture as one graph; carries the reason that torch gives."""


class ArtifactError(TilewrightError):
    """An artifact that is damaged, foreign to this machine, or of another version; says what differs."""


class RecordError(TilewrightError):
    """A tuning record, a bundle or a lockfile that cannot be used; names the field, or what is damaged."""


class UntunedError(TilewrightError):
    """`locked` met kernels that the lockfile has no schedule for; names each, and what differs."""


class SpecError(TilewrightError):
    """A SPEC on the command line that does not lead to a model."""


class ParseError(TilewrightError):
    """IR text that does not parse; carries the line."""


class InterpreterError(TilewrightError):
    """IR that the interpreter cannot run; names the op."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean X?"`, or an empty string when nothing is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
