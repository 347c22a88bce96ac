"""Ops that read and write memory, and scratch."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_prop_def, prop_def, result_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from ..dtypes import compute_dtype
from ..expr import IntExpr
from ..types import DimsAttr, RefType, ScalarAttr, ValueType, dims_text, parse_scalar, scalar_text
from .base import TileOp, parse_dims, parse_value, parse_value_type, print_rest, value_dtype


@irdl_op_definition
class LoadOp(TileOp):
    """`%a = tile.load %x["1000*i0 + i1"] if ["i1 - 5"] else 0.0 : f32`: one element.

    It is read only where all expressions of `if` are ≥ 0; elsewhere the value is `else`.
    """

    name = "tile.load"
    ref = operand_def(RefType)
    offset = prop_def(DimsAttr)
    mask = opt_prop_def(DimsAttr)
    other = opt_prop_def(ScalarAttr)
    result = result_def(ValueType)
    traits = traits_def()

    @staticmethod
    def make(
        ref: SSAValue, offset: IntExpr, dtype: str, mask: Sequence[IntExpr] = (), other: bool | int | float = 0
    ) -> LoadOp:
        properties: dict[str, Attribute] = {"offset": DimsAttr([offset])}
        if mask:
            properties |= {"mask": DimsAttr(mask), "other": ScalarAttr(other)}
        return LoadOp.create(operands=[ref], properties=properties, result_types=[ValueType.get(dtype)])

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.ref)
        printer.print_string(dims_text(self.offset.data))
        if self.mask is not None and self.other is not None:
            printer.print_string(f" if {dims_text(self.mask.data)} else {scalar_text(self.other.data)}")
        print_rest(self, printer, ("offset", "mask", "other"))
        printer.print_string(f" : {value_dtype(self.result)}")

    @classmethod
    def parse(cls, parser: Parser) -> LoadOp:
        ref = parse_value(parser)
        properties: dict[str, Attribute] = {"offset": parse_dims(parser)}
        if parser.parse_optional_keyword("if"):
            properties["mask"] = parse_dims(parser)
            parser.parse_keyword("else")
            properties["other"] = ScalarAttr(parse_scalar(parser))
        properties |= parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        return cls.create(operands=[ref], properties=properties, result_types=[parse_value_type(parser)])


@irdl_op_definition
class StoreOp(TileOp):
    """`tile.store %y["1000*i0 + i1"], %a`: one element, rounded to the pointer's dtype."""

    name = "tile.store"
    ref = operand_def(RefType)
    value = operand_def(ValueType)
    offset = prop_def(DimsAttr)

    @staticmethod
    def make(ref: SSAValue, offset: IntExpr, value: SSAValue) -> StoreOp:
        return StoreOp.create(operands=[ref, value], properties={"offset": DimsAttr([offset])})

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.ref)
        printer.print_string(f"{dims_text(self.offset.data)}, ")
        printer.print_ssa_value(self.value)
        print_rest(self, printer, ("offset",))

    @classmethod
    def parse(cls, parser: Parser) -> StoreOp:
        ref = parse_value(parser)
        offset = parse_dims(parser)
        parser.parse_punctuation(",")
        value = parse_value(parser)
        return cls.create(
            operands=[ref, value], properties={"offset": offset, **parser.parse_optional_attr_dict()}
        )


UPDATES: dict[str, str | None] = {"set": None, "sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
"""The ways of `tile.update`, each with the scalar function of the element in memory and the value; "set" stores."""


@irdl_op_definition
class UpdateOp(TileOp):
    """`tile.update "sum" %y["7*j0 + i1"], %a`: combine one element in memory with a value, in the memory's dtype.

    "set" stores. Iterations of serial loops may update one element, and take effect in their order; those of other
    loops update different elements. Where a computed position (`tile.index`) was out of range, nothing is written.
    """

    name = "tile.update"
    fn = prop_def(StringAttr)
    ref = operand_def(RefType)
    value = operand_def(ValueType)
    offset = prop_def(DimsAttr)

    @staticmethod
    def make(fn: str, ref: SSAValue, offset: IntExpr, value: SSAValue) -> UpdateOp:
        return UpdateOp.create(
            operands=[ref, value], properties={"fn": StringAttr(fn), "offset": DimsAttr([offset])}
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(f' "{self.fn.data}" ')
        printer.print_ssa_value(self.ref)
        printer.print_string(f"{dims_text(self.offset.data)}, ")
        printer.print_ssa_value(self.value)
        print_rest(self, printer, ("fn", "offset"))

    @classmethod
    def parse(cls, parser: Parser) -> UpdateOp:
        fn = StringAttr(parser.parse_str_literal())
        ref = parse_value(parser)
        offset = parse_dims(parser)
        parser.parse_punctuation(",")
        value = parse_value(parser)
        return cls.create(
            operands=[ref, value], properties={"fn": fn, "offset": offset, **parser.parse_optional_attr_dict()}
        )

    def verify_(self) -> None:
        if self.fn.data not in UPDATES:
            raise VerifyException(f"{self.fn.data!r} is none of {', '.join(UPDATES)}")
        if compute_dtype(value_dtype(self.ref)) != value_dtype(self.value):
            raise VerifyException(f"a {value_dtype(self.value)} cannot update {value_dtype(self.ref)} elements")


@irdl_op_definition
class AllocOp(TileOp):
    """`%t = tile.alloc [1000] : f32`: scratch of so many elements, private to one iteration of the loops around."""

    name = "tile.alloc"
    extent = prop_def(DimsAttr)
    result = result_def(RefType)

    @staticmethod
    def make(extent: IntExpr, dtype: str) -> AllocOp:
        return AllocOp.create(properties={"extent": DimsAttr([extent])}, result_types=[RefType.get(dtype)])

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {dims_text(self.extent.data)} : {value_dtype(self.result)}")

    @classmethod
    def parse(cls, parser: Parser) -> AllocOp:
        extent = parse_dims(parser)
        parser.parse_punctuation(":")
        return cls.create(
            properties={"extent": extent}, result_types=[RefType.get(parse_value_type(parser).dtype)]
        )
