"""SPEC: how the command line names a model with its example arguments.

``file.py`` (its `make`), ``file.py:function``, ``module:function``, or a ``.pt2`` file of torch.export. The function
takes nothing and gives ``(model, args)`` or ``(model, args, kwargs)``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from tilewright.ir.errors import SpecError, nearest

DEFAULT_FACTORY = "make"


@dataclass(frozen=True)
class Spec:
    """A model and example arguments; `name` is for naming what is made from it."""

    name: str
    model: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def load_spec(text: str) -> Spec:
    """The model that `text` names. Raises SpecError, saying which step failed."""
    if text.endswith(".pt2"):
        return _from_export(Path(text))
    place, _, function = text.rpartition(":") if ":" in text else (text, "", "")
    if place.endswith(".py"):
        module, function = _import_file(Path(place)), function or DEFAULT_FACTORY
    elif function:
        module = _import_module(place)
    else:
        raise SpecError(
            f"{text!r} is not a SPEC: give file.py, file.py:function, module:function, or a .pt2 of torch.export"
        )
    return _call(_factory(module, function, place), function, f"{place}:{function}")


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SpecError(f"there is no file {path}")
    name = "tilewright_spec_" + "".join(c if c.isalnum() else "_" for c in path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As when Python runs the file: its neighbours can be imported, and pickling finds its classes by name.
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SpecError(f"{path} cannot be imported: {_told(error)}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _import_module(name: str) -> ModuleType:
    # As with python -m: modules of the working directory count.
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise SpecError(f"module {name!r} cannot be imported: {_told(error)}") from error
    finally:
        sys.path.remove("")


def _factory(module: ModuleType, function: str, place: str) -> Callable[[], Any]:
    found = getattr(module, function, None)
    if found is None:
        functions = [name for name, value in vars(module).items() if callable(value)]
        raise SpecError(f"{place} has no function {function!r}{nearest(function, functions)}")
    if not callable(found):
        raise SpecError(f"{place}:{function} is a {type(found).__name__}, not a function")
    return found


def _call(factory: Callable[[], Any], function: str, text: str) -> Spec:
    try:
        made = factory()
    except Exception as error:
        raise SpecError(f"{text}() failed: {_told(error)}") from error
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise SpecError(f"{text}() gave {_shape(made)}, not (model, args) or (model, args, kwargs)")
    model, args, kwargs = made if len(made) == 3 else (*made, {})
    if not callable(model):
        raise SpecError(f"{text}(): the model is a {type(model).__name__}, which cannot be called")
    if not isinstance(args, (tuple, list)):
        raise SpecError(f"{text}(): args is a {type(args).__name__}, not a tuple")
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise SpecError(f"{text}(): kwargs is not a dict with names as keys")
    stem = Path(text.rpartition(":")[0]).name.removesuffix(".py")
    return Spec(stem if function == DEFAULT_FACTORY else function, model, tuple(args), kwargs)


def _from_export(path: Path) -> Spec:
    if not path.is_file():
        raise SpecError(f"there is no file {path}")
    import torch

    try:
        program = torch.export.load(path)
    except Exception as error:
        raise SpecError(f"{path} is not a model that torch.export.load reads: {_told(error)}") from error
    args, kwargs = program.example_inputs or ((), {})
    return Spec(path.stem, program, tuple(args), dict(kwargs))


def _shape(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
