"""Text of the IR: printing that omits unknown locations, parsing with the project's dialects, locations of ops."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, FileLineColLoc, FusedLoc, LocationAttr, ModuleOp, NameLoc, UnknownLoc
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

    def _print_location(self, location: LocationAttr) -> None:
        if location != UNKNOWN:
            self.print_string(" ")
            self.print_attribute(location)


def print_ir(op: Operation) -> str:
    """The text of `op`; `parse_ir` reads a module's text back to an equal module."""
    out = StringIO()
    _Printer(out).print_op(op)
    return out.getvalue() + "\n"


def parse_ir(text: str, name: str = "<text>") -> ModuleOp:
    """Parse and verify a module. Raises `ParseError` with the line for text that is not a legal module."""
    try:
        module = Parser(context(), text, name).parse_module()
        module.verify()
        return module
    except (XdslParseError, VerifyException) as error:
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
            for part in loc.locations:
                walk(part)

    walk(location)
    return list(found)


def fuse_locations(locations: Iterable[LocationAttr]) -> LocationAttr:
    """One location that stands for all the known ones."""
    flat: dict[LocationAttr, None] = {}
    for location in locations:
        if isinstance(location, FusedLoc):
            flat.update(dict.fromkeys(location.locations))
        elif location != UNKNOWN:
            flat[location] = None
    parts = list(flat)
    if len(parts) <= 1:
        return parts[0] if parts else UNKNOWN
    from xdsl.dialects.builtin import NoneAttr

    return FusedLoc(tuple(parts), NoneAttr())
