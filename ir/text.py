"""Text of the IR: printing that omits unknown locations, parsing with the project's dialects, locations of ops."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

from xdsl.context import Context
from xdsl.dialects.builtin import (
    ArrayAttr,
    Builtin,
    FileLineColLoc,
    FusedLoc,
    LocationAttr,
    ModuleOp,
    NameLoc,
    NoneAttr,
    UnknownLoc,
)
from xdsl.dialects.func import Func
from xdsl.ir import BlockArgument, Operation
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError as XdslParseError
from xdsl.utils.exceptions import VerifyException

from .errors import ParseError
from .prog import Prog
from .tile import Tile
from .tw import Tw

UNKNOWN = UnknownLoc()


def context() -> Context:
    """A context with every dialect that our text uses."""
    result = Context()
    for dialect in (Builtin, Func, Tw, Tile, Prog):
        result.load_dialect(dialect)
    return result


class _Printer(Printer):
    """Prints locations that are known, and no others."""

    def print_op(self, op: Operation) -> None:
        self.print_debuginfo = False
        super().print_op(op)
        self._print_location(op.location)

    def print_block_argument(self, arg: BlockArgument, print_type: bool = True) -> None:
        super().print_block_argument(arg, print_type)
        if print_type:
            self._print_location(arg.location)

    def print_string_literal(self, string: str) -> None:
        if string.isprintable() and not {'"', "\\"} & set(string):
            self.print_string(f'"{string}"')  # legible, where xDSL would write the bytes of what is not ASCII
        else:
            super().print_string_literal(string)

    def _print_location(self, location: LocationAttr) -> None:
        if location != UNKNOWN:
            self.print_string(" ")
            self.print_attribute(location)


class _Parser(Parser):
    """Reads escaped text that is not ASCII as a string, where xDSL would make it bytes."""

    def parse_optional_str_literal(self) -> str | None:
        text = super().parse_optional_str_literal()
        if text is None and (data := self.parse_optional_bytes_literal()) is not None:
            return data.decode("utf-8")
        return text


def print_ir(op: Operation) -> str:
    """The text of `op`; `parse_ir` reads a module's text back to an equal module."""
    out = StringIO()
    _Printer(out).print_op(op)
    return out.getvalue() + "\n"


def ops_around(op: Operation, count: int = 10) -> str:
    """The `count` ops nearest to `op` in its block, a line each with the names of the whole text, `op` marked ``>``."""
    root = op
    while root.parent_op() is not None:
        root = root.parent_op()  # type: ignore[assignment]
    printer = _Printer(StringIO())
    printer.print_op(root)  # gives every value its name
    ops = list(op.parent.ops) if op.parent is not None else [op]
    position = ops.index(op)
    first = max(0, min(position - count // 2, len(ops) - count))
    lines = []
    for shown in ops[first : first + count]:
        out = StringIO()
        printer.stream = out
        printer.print_op(shown)
        lines.append(f"{'>' if shown is op else ' '} {out.getvalue().partition(chr(10))[0]}")
    return "\n".join(lines)


def parse_ir(text: str, name: str = "<text>") -> ModuleOp:
    """Parse and verify a module. Raises `ParseError` with the line for text that is not a legal module."""
    try:
        module = _Parser(context(), text, name).parse_module()
        module.verify()
        return module
    except XdslParseError as error:
        raise ParseError(str(error).strip()) from None
    except (VerifyException, ValueError) as error:
        raise ParseError(f"{name}: {error}") from None


def file_lines(location: LocationAttr) -> list[str]:
    """`["model.py:12"]`: the source lines in a location, in order, each once."""
    found: dict[str, None] = {}

    def walk(loc: LocationAttr) -> None:
        if isinstance(loc, FileLineColLoc):
            found[f"{loc.filename.data}:{loc.line.data}"] = None
        elif isinstance(loc, NameLoc):
            if isinstance(loc.location, LocationAttr):
                walk(loc.location)
        elif isinstance(loc, FusedLoc):
            for part in _parts(loc):
                walk(part)

    walk(location)
    return list(found)


def _parts(location: FusedLoc) -> Iterable[LocationAttr]:
    assert isinstance(location.locations, ArrayAttr)
    return location.locations.data


def fuse_locations(locations: Iterable[LocationAttr]) -> LocationAttr:
    """One location that stands for all the known ones."""
    flat: dict[LocationAttr, None] = {}
    for location in locations:
        if isinstance(location, FusedLoc):
            flat.update(dict.fromkeys(_parts(location)))
        elif location != UNKNOWN:
            flat[location] = None
    parts = list(flat)
    if len(parts) <= 1:
        return parts[0] if parts else UNKNOWN
    return FusedLoc(ArrayAttr(parts), NoneAttr())
