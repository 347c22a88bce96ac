"""Tilewright: compiles PyTorch models to readable kernels.

The names below are imported when they are first used, so that ``import tilewright.ir`` and ``tilewright opt`` do not
import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tilewright.ir.version import VERSION as __version__

if TYPE_CHECKING:
    from tilewright.api import CompiledModel, compile, load
    from tilewright.backend import compilations, last_compilation
    from tilewright.ir.errors import TilewrightError
    from tilewright.options import list_options
    from tilewright.passes.registry import list_passes

_HOMES = {
    "CompiledModel": "tilewright.api",
    "TilewrightError": "tilewright.ir.errors",
    "compilations": "tilewright.backend",
    "compile": "tilewright.api",
    "last_compilation": "tilewright.backend",
    "list_options": "tilewright.options",
    "list_passes": "tilewright.passes.registry",
    "load": "tilewright.api",
}

__all__ = [
    "CompiledModel",
    "TilewrightError",
    "__version__",
    "compilations",
    "compile",
    "last_compilation",
    "list_options",
    "list_passes",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
