"""Ops that compute one element, or name a position."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ..expr import IntExpr
from ..scalars import SCALARS, kind_of
from ..types import DimsAttr, ScalarAttr, ValueType, dims_text, parse_scalar, scalar_text
from .base import TileOp, parse_dims, parse_value, parse_value_type, value_dtype


@irdl_op_definition
class ConstantOp(TileOp):
    """`%c = tile.constant 1.0 : f32`."""

    name = "tile.constant"
    value = prop_def(ScalarAttr)
    result = result_def(ValueType)
    traits = traits_def(Pure())

    @staticmethod
    def make(value: bool | int | float, dtype: str) -> ConstantOp:
        return ConstantOp.create(properties={"value": ScalarAttr(value)}, result_types=[ValueType.get(dtype)])

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {scalar_text(self.value.data)} : {value_dtype(self.result)}")

    @classmethod
    def parse(cls, parser: Parser) -> ConstantOp:
        value = ScalarAttr(parse_scalar(parser))
        parser.parse_punctuation(":")
        return cls.create(properties={"value": value}, result_types=[parse_value_type(parser)])


@irdl_op_definition
class ExprOp(TileOp):
    """`%p = tile.expr ["i0 + 3"] : i64`: an integer expression as a value."""

    name = "tile.expr"
    offset = prop_def(DimsAttr)
    result = result_def(ValueType)
    traits = traits_def(Pure())

    @staticmethod
    def make(expr: IntExpr, dtype: str = "i64") -> ExprOp:
        return ExprOp.create(properties={"offset": DimsAttr([expr])}, result_types=[ValueType.get(dtype)])

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {dims_text(self.offset.data)} : {value_dtype(self.result)}")

    @classmethod
    def parse(cls, parser: Parser) -> ExprOp:
        offset = parse_dims(parser)
        parser.parse_punctuation(":")
        return cls.create(properties={"offset": offset}, result_types=[parse_value_type(parser)])


@irdl_op_definition
class CondOp(TileOp):
    """`%c = tile.cond ["i1 - 5"] : bool`: whether all expressions are ≥ 0."""

    name = "tile.cond"
    mask = prop_def(DimsAttr)
    result = result_def(ValueType)
    traits = traits_def(Pure())

    @staticmethod
    def make(mask: Sequence[IntExpr]) -> CondOp:
        return CondOp.create(properties={"mask": DimsAttr(mask)}, result_types=[ValueType.get("bool")])

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {dims_text(self.mask.data)}")

    @classmethod
    def parse(cls, parser: Parser) -> CondOp:
        return cls.create(properties={"mask": parse_dims(parser)}, result_types=[ValueType.get("bool")])


@irdl_op_definition
class IndexOp(TileOp):
    """`tile.index j0 = %v in [30522] wrap if ["i1 - 5"]`: from here on `j0` names the position `%v`.

    A position outside ``[0, extent)`` makes the kernel fail with an IndexError; with `wrap` negative ones count from
    the end. Where an `if` expression is negative the position is 0 and nothing is checked.
    """

    name = "tile.index"
    value = operand_def(ValueType)
    label = prop_def(StringAttr)
    extent = prop_def(DimsAttr)
    wrap = prop_def(ScalarAttr)
    mask = opt_prop_def(DimsAttr)

    @staticmethod
    def make(label: str, value: SSAValue, extent: IntExpr, wrap: bool, mask: Sequence[IntExpr] = ()) -> IndexOp:
        properties: dict[str, Attribute] = {
            "label": StringAttr(label), "extent": DimsAttr([extent]), "wrap": ScalarAttr(wrap)
        }
        if mask:
            properties["mask"] = DimsAttr(mask)
        return IndexOp.create(operands=[value], properties=properties)

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.label.data} = ")
        printer.print_ssa_value(self.value)
        printer.print_string(f" in {dims_text(self.extent.data)}")
        if self.wrap.data:
            printer.print_string(" wrap")
        if self.mask is not None:
            printer.print_string(f" if {dims_text(self.mask.data)}")

    @classmethod
    def parse(cls, parser: Parser) -> IndexOp:
        label = StringAttr(parser.parse_identifier())
        parser.parse_punctuation("=")
        value = parse_value(parser)
        parser.parse_keyword("in")
        properties: dict[str, Attribute] = {"label": label, "extent": parse_dims(parser)}
        properties["wrap"] = ScalarAttr(bool(parser.parse_optional_keyword("wrap")))
        if parser.parse_optional_keyword("if"):
            properties["mask"] = parse_dims(parser)
        return cls.create(operands=[value], properties=properties)


@irdl_op_definition
class MapOp(TileOp):
    """`%c = tile.map "mul" %a, %b : f32`: a scalar function of `ir/scalars.py`."""

    name = "tile.map"
    fn = prop_def(StringAttr)
    args = var_operand_def(ValueType)
    result = result_def(ValueType)
    traits = traits_def(Pure())

    @staticmethod
    def make(fn: str, args: Sequence[SSAValue], dtype: str | None = None) -> MapOp:
        if dtype is None:
            dtype = "bool" if SCALARS[fn].result == "bool" else value_dtype(args[-1])
        return MapOp.create(
            operands=args, properties={"fn": StringAttr(fn)}, result_types=[ValueType.get(dtype)]
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(f' "{self.fn.data}" ')
        printer.print_list(self.args, printer.print_ssa_value)
        printer.print_string(f" : {value_dtype(self.result)}")

    @classmethod
    def parse(cls, parser: Parser) -> MapOp:
        fn = StringAttr(parser.parse_str_literal())
        args = parser.parse_comma_separated_list(parser.Delimiter.NONE, lambda: parse_value(parser))
        parser.parse_punctuation(":")
        return cls.create(operands=args, properties={"fn": fn}, result_types=[parse_value_type(parser)])

    def verify_(self) -> None:
        row = SCALARS.get(self.fn.data)
        if row is None:
            raise VerifyException(f"{self.fn.data!r} is not a scalar function")
        if len(self.args) != row.arity:
            raise VerifyException(f"{row.name} takes {row.arity} operands")
        dtypes = [value_dtype(a) for a in self.args]
        if row.name == "where":
            dtypes = dtypes[1:]
        if len(set(dtypes)) != 1 or kind_of(dtypes[0]) not in row.accepts:
            raise VerifyException(f"{row.name} does not take {dtypes}")
