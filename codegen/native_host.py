"""The host program in C++: the whole graph in one call (printed by `codegen/cpp/host.py`), and how it is loaded."""

from __future__ import annotations

import _ctypes
import ctypes
import re
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from xdsl.dialects.builtin import ModuleOp

from tilewright.ir.errors import InputError, KernelBuildError
from tilewright.ir.expr import evaluate
from tilewright.ir.function import argument_symbols, updated_arguments
from tilewright.ir.types import BufferType

from .host import HostPrinter, program_parts, torch_dtype
from .libraries import open_library
from .native import HEADER_DIRECTORY
from .results import kept_results, storage_counts
from .runtime.host_calls import adapt_input, raise_failure

_ENTRY = re.compile(r'^extern "C" PyObject\* (\w+)\(', re.MULTILINE)
_KERNEL = re.compile(r"\(\*(\w+)\)\((?:const void\*|int64_t)")
_FUNCTION = re.compile(r"^  F\([^,]+, (\w+), ", re.MULTILINE)

# Functions of torch that C++ mangles.
_MANGLED = {"THPVariable_Wrap": "_Z16THPVariable_WrapRKN2at10TensorBaseE"}


def _let_go(library: ctypes.CDLL) -> None:
    """The function that needed `library` is dead, and holds it until it is freed."""


def host_names(source: str) -> list[str]:
    """The host programs that a C++ file has."""
    return _ENTRY.findall(source)


_GET_POINTER = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Frame(ctypes.Structure):
    """How the `Frame` of tilewright_host.h begins."""

    _fields_ = (("next", ctypes.c_void_p), ("arena", ctypes.c_void_p), ("capacity", ctypes.c_int64))


class NativeProgram:
    """A program that can be called, in C++. Two calls at once get an arena each; a failed call gives its arena back.

    Other Python threads run meanwhile. Arguments, weights too, are checked in each call: those in another layout are
    copied, those of another shape or dtype refused (InputError). `path` is the library that has the program, `source`
    its text, `kernels` the loaded functions by name.
    """

    def __init__(
        self, module: ModuleOp, kernels: Mapping[str, Callable[..., int]], path: Path, source: str, name: str = "host",
        static: Sequence[int] = (),
    ):
        self._function, self._tiles = program_parts(module)
        self._static = sorted(static)
        self.text = host_text(source, name)
        library = open_library(path)
        addresses = [
            ctypes.cast(kernels[kernel], ctypes.c_void_p).value for kernel in _KERNEL.findall(self.text)  # type: ignore[arg-type]
        ]
        self._kernels = dict(kernels)
        self._addresses = (ctypes.c_void_p * max(len(addresses), 1))(*addresses)
        make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.py_object)(
            _ctypes.dlsym(library._handle, name)
        )
        try:
            self._run = make(ctypes.addressof(_api()), ctypes.addressof(self._addresses), library)
        except ValueError:  # null
            raise KernelBuildError(f"{path} has a host program for another version of Tilewright") from None
        # The garbage collector would close a library that it finds together with this function before it frees the
        # function, whose memory is freed by code of the library. What a finalizer holds it does not find.
        weakref.finalize(self._run, _let_go, library).atexit = False

    @property
    def source(self) -> str:
        """The same program as Python, which says the same in torch's own words."""
        return HostPrinter(self._function, self._tiles, self._static).print()

    def arenas(self) -> list[int]:
        """Bytes of each arena that is kept for the next calls."""
        capsule = _GET_POINTER(self._run.__self__, None)
        frame, sizes = ctypes.c_void_p.from_address(capsule).value, []
        while frame:
            found = _Frame.from_address(frame)
            sizes.append(found.capacity)
            frame = found.next
        return sizes

    def __call__(self, *args: Any) -> list[Any]:
        results = self._run(*args)
        return results if type(results) is list else self._otherwise(results, args)

    def _otherwise(self, answer: int | str | None, args: Sequence[Any]) -> list[Any]:
        """What the program could not do: arguments in other layouts, and failures."""
        if isinstance(answer, int):
            raise_failure(answer)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        adapted = self._adapt(args)
        results = self._run(*adapted)
        if results is None:
            raise InputError("the program takes tensors on the CPU, and no sizes of which it would divide by 0")
        if type(results) is not list:
            return self._otherwise(results, adapted)
        for position in updated_arguments(self._function):
            if adapted[position] is not args[position]:
                args[position].copy_(adapted[position])
        return results

    def _adapt(self, args: Sequence[Any]) -> list[Any]:
        """The arguments in the layout that the program was compiled for. Raises InputError where they are others."""
        types = [arg.type for arg in self._function.body.block.args]
        if len(args) != len(types):
            raise InputError(f"the program takes {len(types)} arguments, and got {len(args)}")
        sizes = {
            symbol: _size(args[position], *place)
            for symbol, (position, *place) in argument_symbols(self._function).items()
        }
        adapted = list(args)
        for position, type in enumerate(types):
            if isinstance(type, BufferType):
                shape = tuple(evaluate(d, sizes) for d in type.shape)
                strides = tuple(evaluate(d, sizes) for d in type.strides)
                tensor = args[position]
                if not _is_plain(tensor):
                    tensor = tensor.as_subclass(torch.Tensor)
                adapted[position] = adapt_input(tensor, position, shape, strides, torch_dtype(type.dtype))
        return adapted


def _is_plain(tensor: torch.Tensor) -> bool:
    return type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter


def _size(argument: Any, dim: int | None = None, factor: int = 1, offset: int = 0) -> int:
    size = argument if dim is None else argument.shape[dim] if dim < argument.dim() else -1
    return (size - offset) // factor  # type: ignore[no-any-return]


def host_text(source: str, name: str) -> str:
    """The part of a C++ file that is the host program `name`."""
    start = source.index(f"namespace {name}_program {{")
    start = source.rfind("\n//", 0, start) + 1
    return source[start : source.index("\n}\n", source.index(f'extern "C" PyObject* {name}(', start)) + 3]


def unavailable() -> str:
    """Why host programs in C++ cannot run in this process; empty where they can."""
    try:
        _api()
    except KernelBuildError as error:
        return str(error)
    # Python's lock is what keeps two calls from taking one arena.
    return "" if getattr(sys, "_is_gil_enabled", lambda: True)() else "this Python runs without its global lock"


@lru_cache(maxsize=1)
def _api() -> ctypes.Array[ctypes.c_ssize_t]:
    """The `Api` of tilewright_host.h. Raises KernelBuildError where this torch or Python lacks some of it."""
    values = []
    try:
        folder = Path(torch.__file__).parent / "lib"
        torch_cpu, torch_python = (ctypes.CDLL(str(folder / f"lib{name}.so")) for name in ("torch_cpu", "torch_python"))
        for name in _FUNCTION.findall((HEADER_DIRECTORY / "tilewright_host.h").read_text()):
            library = ctypes.pythonapi if name.startswith("Py") else torch_python if name in _MANGLED else torch_cpu
            try:
                values.append(_ctypes.dlsym(library._handle, _MANGLED.get(name, name)))
            except OSError:
                if not name.startswith("torch_exception"):
                    raise
                values.append(0)
    except OSError as error:
        raise KernelBuildError(f"a host program in C++ needs what is not there: {error}") from None
    header = object.__basicsize__
    values += [id(None), id(torch.Tensor), id(torch.nn.Parameter), header - ctypes.sizeof(ctypes.c_void_p)]
    values += [_tensor_offset(header), ctypes.addressof(kept_results()), *storage_counts()]
    count = len(values) + 1
    return (ctypes.c_ssize_t * count)(count * ctypes.sizeof(ctypes.c_ssize_t), *values)


def _tensor_offset(header: int) -> int:
    """Where in the memory of a torch.Tensor its at::Tensor is, which is a pointer."""
    probe = torch.empty(0)
    for offset in (header, header + 8):
        if ctypes.c_size_t.from_address(id(probe) + offset).value == probe._cdata:  # type: ignore[attr-defined]
            return offset
    raise KernelBuildError("host programs in C++ do not know where this torch keeps tensors in Python's objects")
