"""What all ops of `tile` share: parts of their syntax."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue
from xdsl.irdl import IRDLOperation
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer

from ..dtypes import DTYPES
from ..types import DimsAttr, RefType, ValueType, parse_dim


def value_dtype(value: SSAValue) -> str:
    """The element type of a `tile.value` or `tile.ref`."""
    assert isinstance(value.type, (ValueType, RefType)), value.type
    return value.type.dtype


class TileOp(IRDLOperation):
    """Base of the dialect's ops."""


def parse_dims(parser: Parser) -> DimsAttr:
    return DimsAttr(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_dim(parser)))


def parse_value_type(parser: Parser) -> ValueType:
    name = parser.parse_identifier("dtype")
    if name not in DTYPES:
        parser.raise_error(f"{name!r} is not a dtype")
    return ValueType.get(name)


def parse_value(parser: Parser) -> SSAValue:
    """An operand of a custom syntax without types."""
    return resolve(parser, parser.parse_unresolved_operand())


def resolve(parser: Parser, operand: UnresolvedOperand) -> SSAValue:
    """The value of that name, with the type it has: values are defined before they are used."""
    name, index = operand.operand_name, operand.index
    values = parser.ssa_values.get(name, ())
    if index >= len(values):
        parser.raise_error(f"%{name} is not defined before this place", operand.span)
    return parser.resolve_operand(operand, values[index].type)


def print_rest(op: Operation, printer: Printer, shown: Sequence[str]) -> None:
    rest = {k: v for k, v in {**op.properties, **op.attributes}.items() if k not in shown}
    if rest:
        printer.print_string(" ")
        printer.print_attr_dict(rest)
