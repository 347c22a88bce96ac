"""Pipelines: the default one as data, and the text that names any other.

The text is a list of entries: ``"cse,simplify{iterations=3},fuse"``. An entry is a pass, with options in braces;
``default`` stands for the default pipeline, and ``-name`` takes every pass of that name out of what stands before it:
``"default,-fuse"``. Options are typed by the pass's fields; a string may be a bare word or stand in double quotes.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import Any

from tilewright.ir.errors import OptionValueError, TilewrightError, UnknownOptionError, nearest

from .base import Pass
from .registry import find_pass

DEFAULT: list[tuple[str, str]] = [
    ("canonicalize", "one form for equal graphs, so that every later pattern is written once"),
    ("fold", "constants become visible to the algebra that follows"),
    ("simplify", "algebra, views and casts that are not needed leave before anything is counted"),
    ("cse", "what simplify made equal is computed once"),
    ("dce", "what nobody reads any more must not steer fusion"),
    ("freeze", "weights that do not change take in what is applied to their results, while that is still ops"),
    ("layout", "the library's layout of choice is known before kernels are shaped around it"),
    ("split-bias", "a bias that the next kernel can add in a register need not go through the library"),
    ("attention", "two products with a softmax between them are one kernel, before others take what stands between"),
    ("softmax-division", "a row needs one division, once no pass has to recognise the softmax any more"),
    ("fuse", "groups become kernels, by the bytes and launches that they save"),
    ("lower", "every region becomes a loop nest, the graph a program over buffers"),
    ("plan-memory", "temporaries whose lives do not overlap share the arena, once all of them are known"),
]

_FUSE = next(place for place, (name, _) in enumerate(DEFAULT) if name == "fuse")
GPU: list[tuple[str, str]] = [
    *DEFAULT[:_FUSE],
    ("split-reductions", "what a few programs would sum up alone becomes parts, before fusion makes kernels of it"),
    *DEFAULT[_FUSE:],
]
"""The default for GPUs."""

PIPELINES: dict[str, list[tuple[str, str]]] = {"default": DEFAULT, "gpu": GPU}

_WORD = re.compile(r"[-+.\w]+")
_TOKEN = re.compile(r'\s*(?:(?P<word>[-+.\w]+)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<mark>[{},=]))')


def default_pipeline() -> list[Pass]:
    """The passes of `DEFAULT`."""
    return parse_pipeline("default")


def parse_pipeline(text: str) -> list[Pass]:
    """The passes that `text` names, in order; empty text names none.

    Raises UnknownOptionError for a pass or an option that does not exist, OptionValueError for a value that does not
    fit or text that does not parse. Both point at the place.
    """
    return _Parser(text).pipeline()


def pass_text(item: Pass) -> str:
    """The entry that makes `item`: its name, and those options that differ from their defaults."""
    options = []
    for field in fields(item):  # type: ignore[arg-type]
        value = getattr(item, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        # repr too, because 1 == True == 1.0.
        if value != default or repr(value) != repr(default):
            options.append(f"{field.name}={_value_text(value)}")
    return item.name + (f"{{{', '.join(options)}}}" if options else "")


def pipeline_text(passes: Iterable[Pass]) -> str:
    """The text that `parse_pipeline` reads back to equal passes."""
    return ",".join(pass_text(item) for item in passes)


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value != "none" else json.dumps(value)
    return repr(value)


def _read_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


_READERS: dict[type, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", _read_bool),
    int: ("an integer", int),
    float: ("a number", float),
    str: ("a string", str),
}


class _Parser:
    """One text being read; `position` is where the next token starts."""

    def __init__(self, text: str):
        self.text = text
        self.position = 0

    def fail(self, message: str, position: int, kind: type[TilewrightError] = OptionValueError) -> typing.NoReturn:
        raise kind(f"in the pipeline: {message}\n  {self.text}\n  {' ' * position}^")

    def token(self) -> tuple[str, str, int]:
        """`(kind, text, position)` of the next token and move past it; kind ``end`` at the end."""
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            rest = self.text[self.position :]
            start = self.position + len(rest) - len(rest.lstrip())
            if start < len(self.text):
                self.fail(f"{self.text[start]!r} is not expected", start)
            self.position = start
            return "end", "", start
        self.position = match.end()
        kind = match.lastgroup or "end"
        return kind, match[kind], match.start(kind)

    def expect(self, mark: str) -> None:
        kind, text, position = self.token()
        if kind != "mark" or text != mark:
            self.fail(f"expected {mark!r}, found {text or 'the end'!r}", position)

    def peek(self) -> tuple[str, str]:
        start = self.position
        kind, text, _ = self.token()
        self.position = start
        return kind, text

    def pipeline(self) -> list[Pass]:
        passes: list[Pass] = []
        if self.peek()[0] == "end":
            return passes
        while True:
            self.entry(passes)
            kind, text, position = self.token()
            if kind == "end":
                return passes
            if (kind, text) != ("mark", ","):
                self.fail(f"expected ',' between passes, found {text!r}", position)

    def entry(self, passes: list[Pass]) -> None:
        """Read one entry and apply it to `passes`."""
        kind, name, position = self.token()
        if kind != "word":
            self.fail(f"expected a pass, found {name or 'the end'!r}", position)
        if name.startswith("-"):
            kept = [item for item in passes if item.name != name[1:]]
            if len(kept) == len(passes):
                before = [item.name for item in passes]
                self.fail(
                    f"there is no pass {name[1:]!r} to take out before this place{nearest(name[1:], before)}", position
                )
            passes[:] = kept
        elif name in PIPELINES:
            for entry, _ in PIPELINES[name]:
                passes.extend(parse_pipeline(entry))
        else:
            try:
                cls = find_pass(name)
            except UnknownOptionError as error:
                self.fail(str(error), position, UnknownOptionError)
            options = self.options(cls) if self.peek() == ("mark", "{") else {}
            try:
                passes.append(cls(**options))
            except (TypeError, ValueError) as error:
                self.fail(f"{name}: {error}", position)

    def options(self, cls: type[Pass]) -> dict[str, Any]:
        self.expect("{")
        hints = typing.get_type_hints(cls)
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        options: dict[str, Any] = {}
        while self.peek() != ("mark", "}"):
            kind, name, position = self.token()
            if kind != "word":
                self.fail(f"expected an option of {cls.name}, found {name or 'the end'!r}", position)
            if name not in known:
                has = f"; it has {', '.join(known)}" if known else "; it has none"
                self.fail(
                    f"{cls.name} has no option {name!r}{nearest(name, known) or has}", position, UnknownOptionError
                )
            if name in options:
                self.fail(f"{name!r} is given twice", position)
            self.expect("=")
            options[name] = self.value(cls, name, hints[name])
            if self.peek() == ("mark", ","):
                self.token()
        self.expect("}")
        return options

    def value(self, cls: type[Pass], name: str, hint: Any) -> Any:
        """The value of option `name`, read as its annotation says."""
        kind, text, position = self.token()
        if kind not in ("word", "string"):
            self.fail(f"expected a value for {name!r}, found {text or 'the end'!r}", position)
        optional = isinstance(hint, types.UnionType) and type(None) in hint.__args__
        if optional:
            if (kind, text) == ("word", "none"):
                return None
            hint = next(part for part in hint.__args__ if part is not type(None))
        if hint not in _READERS:
            self.fail(f"{cls.name}.{name} cannot be written in a pipeline", position)
        wanted, read = _READERS[hint]
        if kind == "string" and hint is not str:
            self.fail(f"{cls.name}.{name} takes {wanted}, not a string", position)
        try:
            return json.loads(text) if kind == "string" else read(text)
        except ValueError:
            self.fail(f"{cls.name}.{name} takes {wanted}, not {text!r}", position)
