"""Options: one frozen object, made once per compilation from what the caller says, the environment, and defaults.

Every option is a row of `OPTIONS`: keyword, `options=` key, command line flag (`--dump-ir`) and environment variable
(`TILEWRIGHT_DUMP_IR`) all come from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tilewright.ir.errors import OptionValueError, UnknownOptionError, nearest
from tilewright.ir.target import GPU_TARGETS

from .logs import log

ENVIRONMENT_PREFIX = "TILEWRIGHT_"

# Variables with our prefix that are not options: where things are kept is a matter of the machine, not of a model.
OTHER_VARIABLES = ("CACHE_DIR", "TEST_CACHE_DIR")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty text")
    return value


def _boolean(value: Any) -> bool:
    table = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in table:
        return table[value.lower()]
    raise ValueError("true or false")


def _path(value: Any) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise ValueError("a path")
    return Path(value)


def _any(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Option:
    """One option.

    `parse` turns a Python value or a text into the option's value, and raises ValueError with what it takes.
    `values` are the allowed ones (empty: whatever `parse` accepts); `unavailable` those that this version knows by name
    and refuses, where ``"*"`` stands for every value but the default.
    """

    name: str
    parse: Callable[[Any], Any]
    default: Any
    help: str
    values: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The command line flag, ``--dump-ir``."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable, ``TILEWRIGHT_DUMP_IR``."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def available(self) -> tuple[str, ...]:
        """The values that can be asked for in this version (empty: free text)."""
        if "*" in self.unavailable:
            return () if self.default is None else (_spelled(self.default),)
        return tuple(v for v in self.values if v not in self.unavailable)

    def read(self, value: Any, where: str) -> Any:
        """`value` parsed and checked. `where` says in the error who gave it. Raises OptionValueError."""
        if value is None or value == self.default:
            return self.default
        takes = " or ".join(repr(v) for v in self.values)
        try:
            parsed = self.parse(value)
        except ValueError as error:
            raise OptionValueError(f"{where} = {value!r}: option {self.name!r} takes {takes or error}") from None
        spelled = _spelled(parsed)
        if self.values and spelled not in self.values:
            close = nearest(spelled, self.values)
            raise OptionValueError(f"{where} = {value!r}: option {self.name!r} takes {takes}{close}")
        refused = parsed != self.default and ("*" in self.unavailable or spelled in self.unavailable)
        if refused:
            raise OptionValueError(
                f"{where} = {value!r}: {self.name}={spelled} is not available in this version; "
                f"leave {self.name!r} at its default ({_spelled(self.default)})"
            )
        return parsed


def _spelled(value: Any) -> str:
    return {None: "none", True: "true", False: "false"}[value] if value is None or value is True or value is False \
        else str(value)


OPTIONS: dict[str, Option] = {
    row.name: row
    for row in (
        Option("target", _text, None, "what to compile for (default: where the inputs are)",
               values=("cpu", "cuda", *GPU_TARGETS), unavailable=("cuda", *GPU_TARGETS)),
        Option("passes", _text, "default", 'the pipeline: "default,-fuse" or "cse,simplify{iters=3},fuse"'),
        Option("verify", _text, "off", "check after each pass: well-formed IR, or equal numbers in the interpreter",
               values=("off", "ir", "numeric")),
        Option("dump_ir", _path, None, "a directory for the IR after each pass"),
        Option("fallback", _text, "allow", "what becomes of ops that cannot be compiled: run in ATen, or an error",
               values=("allow", "error")),
        Option("host", _text, "cpp", "what calls the kernels: one C++ function, or readable Python, for debugging",
               values=("cpp", "python")),
        Option("rng", _text, "counter", "random numbers: made from one seed a call, or torch's own bit for bit",
               values=("counter", "eager")),
        Option("memory_budget", _any, None, 'peak memory: bytes ("20GiB") or a ratio', unavailable=("*",)),
        Option("quantize", _any, None, "a quantization scheme", unavailable=("*",)),
        Option("sparsify", _any, None, "a sparsity scheme", unavailable=("*",)),
        Option("autotune", _text, "off", "schedules from tuning records, measured on this machine where there are none",
               values=("off", "quick", "full")),
        Option("lockfile", _path, None, "a file of tuned schedules, as `tilewright tune` writes it"),
        Option("locked", _boolean, False, "fail where a kernel has no schedule in the lockfile",
               values=("true", "false")),
        Option("frozen", _boolean, False, "weights do not change: they are packed and folded (checked in each call)",
               values=("true", "false")),
        Option("cudagraphs", _boolean, False, "replay launches as a CUDA graph",
               values=("true", "false"), unavailable=("true",)),
    )
}

# What `torch.compile(mode=...)` asks for. A mode is a wish: what this version lacks is said once and left out.
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "reduce-overhead": {"cudagraphs": True},
    "max-autotune": {"autotune": "full"},
}


@dataclass(frozen=True)
class Options:
    """The settled options of one compilation. Make one with `Options.make`."""

    target: str | None = None
    passes: str = "default"
    verify: str = "off"
    dump_ir: Path | None = None
    fallback: str = "allow"
    host: str = "cpp"
    rng: str = "counter"
    memory_budget: Any = None
    quantize: Any = None
    sparsify: Any = None
    autotune: str = "off"
    lockfile: Path | None = None
    locked: bool = False
    frozen: bool = False
    cudagraphs: bool = False

    @staticmethod
    def make(
        explicit: Mapping[str, Any] | None = None,
        *,
        mode: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Options:
        """Options from `explicit`, then `mode`, then the environment (default: this process's), then defaults.

        Raises UnknownOptionError for a name that does not exist, OptionValueError for a value that is not taken.
        """
        explicit = dict(explicit or {})
        values = _from_environment(os.environ if environment is None else environment)
        values.update(_from_mode(mode))
        for name, value in explicit.items():
            if name not in OPTIONS:
                raise UnknownOptionError(f"unknown option {name!r}{nearest(name, OPTIONS)}")
            values[name] = OPTIONS[name].read(value, f"option {name!r}")
        return Options(**values)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for records and reports; paths as text."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable[len(ENVIRONMENT_PREFIX) :].lower()
        if name.upper() in OTHER_VARIABLES:
            continue
        if name not in OPTIONS:
            close = nearest(name, OPTIONS)
            raise UnknownOptionError(f"unknown option {name!r} in the environment ({variable}){close}")
        values[name] = OPTIONS[name].read(text, variable)
    return values


def _from_mode(mode: str | None) -> dict[str, Any]:
    if mode is None:
        return {}
    if mode not in MODES:
        raise OptionValueError(f"unknown mode {mode!r}; modes are {', '.join(map(repr, MODES))}{nearest(mode, MODES)}")
    values = {}
    for name, value in MODES[mode].items():
        try:
            values[name] = OPTIONS[name].read(value, f"mode {mode!r}")
        except OptionValueError as error:
            log.warning("mode %r is compiled as the default mode: %s", mode, error)
    return values


def list_options() -> list[Option]:
    """Every option, with its default, values and help, in the order of the table."""
    return list(OPTIONS.values())
