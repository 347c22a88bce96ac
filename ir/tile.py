"""The `tile` dialect: one kernel as a loop nest over named axes.

A value is one element at the current point of the enclosing loops (so which axes it varies over is plain from where it
stands). A printer for CPUs writes the loops as they are; one for GPUs gives a block to each axis. Positions in memory
are integer expressions over the names in scope: the axes of the enclosing loops, the kernel's sizes, and names that
`tile.index` gives to computed positions.

Values have compute dtypes: loading a half gives an f32 when the result says so, storing rounds once.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ArrayAttr, StringAttr, SymbolNameConstraint
from xdsl.ir import Attribute, Block, BlockArgument, Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, IsTerminator, NoTerminator, Pure, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from .dtypes import DTYPES
from .expr import IntExpr, free_symbols
from .scalars import REDUCTIONS, SCALARS, SCANS, kind_of
from .types import DimsAttr, RefType, ScalarAttr, ValueType, dims_text, parse_dim, parse_scalar, scalar_text

LOOP_KINDS = ("parallel", "serial", "vector")


def value_dtype(value: SSAValue) -> str:
    """The element type of a `tile.value` or `tile.ref`."""
    assert isinstance(value.type, (ValueType, RefType)), value.type
    return value.type.dtype


def _parse_dims(parser: Parser) -> DimsAttr:
    return DimsAttr(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_dim(parser)))


def _parse_value_type(parser: Parser) -> ValueType:
    name = parser.parse_identifier("dtype")
    if name not in DTYPES:
        parser.raise_error(f"{name!r} is not a dtype")
    return ValueType.get(name)


def _parse_value(parser: Parser) -> SSAValue:
    """An operand of a custom syntax without types."""
    return _resolve(parser, parser.parse_unresolved_operand())


def _resolve(parser: Parser, operand: UnresolvedOperand) -> SSAValue:
    """The value of that name, with the type it has: values are defined before they are used."""
    name, index = operand.operand_name, operand.index
    values = parser.ssa_values.get(name, ())
    if index >= len(values):
        parser.raise_error(f"%{name} is not defined before this place", operand.span)
    return parser.resolve_operand(operand, values[index].type)


def _print_rest(op: Operation, printer: Printer, shown: Sequence[str]) -> None:
    rest = {k: v for k, v in {**op.properties, **op.attributes}.items() if k not in shown}
    if rest:
        printer.print_string(" ")
        printer.print_attr_dict(rest)


class TileOp(IRDLOperation):
    """Base of the dialect's ops."""


@irdl_op_definition
class KernelOp(TileOp):
    """`tile.kernel @name(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind, outputs, sizes} { ... }`.

    `outputs` are the positions of the pointers it writes; `sizes` the symbols it is passed, as i64, after the pointers.
    """

    name = "tile.kernel"
    sym_name = prop_def(SymbolNameConstraint())
    kind = prop_def(StringAttr)
    outputs = prop_def(DimsAttr)
    sizes = prop_def(ArrayAttr[StringAttr])
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), NoTerminator(), SymbolOpInterface())

    @staticmethod
    def make(name: str, kind: str, body: Block, outputs: Sequence[int], sizes: Sequence[str]) -> KernelOp:
        return KernelOp.create(
            properties={
                "sym_name": StringAttr(name), "kind": StringAttr(kind), "outputs": DimsAttr(outputs),
                "sizes": ArrayAttr([StringAttr(s) for s in sizes]),
            },
            regions=[Region(body)],
        )

    @property
    def args(self) -> tuple[BlockArgument, ...]:
        return tuple(self.body.block.args)

    @property
    def size_names(self) -> tuple[str, ...]:
        return tuple(s.data for s in self.sizes.data)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        with printer.in_parens():
            printer.print_list(self.body.block.args, printer.print_block_argument)
        _print_rest(self, printer, ("sym_name",))
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False, print_empty_block=False)

    @classmethod
    def parse(cls, parser: Parser) -> KernelOp:
        name = parser.parse_symbol_name()
        arguments = parser.parse_comma_separated_list(
            parser.Delimiter.PAREN, lambda: (parser.parse_argument(), parser.parse_optional_location())
        )
        properties = {"sym_name": name, **parser.parse_optional_attr_dict()}
        region = parser.parse_region([argument for argument, _ in arguments])
        for argument, (_, location) in zip(region.block.args, arguments):
            argument.location = location or argument.location
        return cls.create(properties=properties, regions=[region])

    def verify_(self) -> None:
        if not all(isinstance(a.type, RefType) for a in self.args):
            raise VerifyException("kernel arguments are tile.refs")
        _verify_scope(self.body.block, set(self.size_names))


def _verify_scope(block: Block, names: set[str]) -> None:
    """Every name in an index expression must be an axis, a size, or a `tile.index` that encloses or precedes it."""
    names = set(names)
    for op in block.ops:
        used: set[str] = set()
        for expr in index_expressions(op):
            used |= free_symbols(expr)
        if used - names:
            raise VerifyException(f"{op.name} uses {', '.join(sorted(used - names))}, not in scope")
        if isinstance(op, IndexOp):
            names.add(op.label.data)
        if isinstance(op, ForOp):
            _verify_scope(op.body.block, names | {op.axis.data})


def index_expressions(op: Operation) -> list[IntExpr]:
    """All integer expressions that `op` evaluates."""
    found: list[IntExpr] = []
    for attribute in op.properties.values():
        if isinstance(attribute, DimsAttr) and not isinstance(op, KernelOp):
            found.extend(attribute.data)
    return found


@irdl_op_definition
class ForOp(TileOp):
    """`%m = tile.for i1 in [1000] vector reduce ["max"] : f32 { ... tile.yield %v }`: a loop over one axis.

    `parallel`: iterations are independent and may run on threads or programs. `vector`: may run in lanes. `serial`: in
    order. Each yielded value is combined over the iterations by the reduction of the same position (in any order unless
    serial); an empty loop gives the neutral element. `block` (elements): sums are added up in blocks of that length,
    whose totals are added in f64, which bounds the rounding error of long sums.
    """

    name = "tile.for"
    axis = prop_def(StringAttr)
    extent = prop_def(DimsAttr)
    kind = prop_def(StringAttr)
    reduce = prop_def(ArrayAttr[StringAttr])
    block_size = opt_prop_def(DimsAttr, prop_name="block")
    outputs = var_result_def(ValueType)
    body = region_def("single_block")
    traits = traits_def(NoTerminator())

    @staticmethod
    def make(
        axis: str, extent: IntExpr, kind: str, body: Block, reduce: Sequence[str] = (),
        dtypes: Sequence[str] = (), block: int | None = None,
    ) -> ForOp:
        properties: dict[str, Attribute] = {
            "axis": StringAttr(axis), "extent": DimsAttr([extent]), "kind": StringAttr(kind),
            "reduce": ArrayAttr([StringAttr(r) for r in reduce]),
        }
        if block is not None:
            properties["block"] = DimsAttr([block])
        return ForOp.create(
            properties=properties, result_types=[ValueType.get(d) for d in dtypes], regions=[Region(body)]
        )

    @property
    def trip_count(self) -> IntExpr:
        return self.extent.data[0]

    @property
    def combiners(self) -> tuple[str, ...]:
        return tuple(r.data for r in self.reduce.data)

    @property
    def yielded(self) -> tuple[SSAValue, ...]:
        last = self.body.block.last_op
        return tuple(last.operands) if isinstance(last, YieldOp) else ()

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.axis.data} in {dims_text(self.extent.data)} {self.kind.data}")
        if self.block_size is not None:
            printer.print_string(f" block {dims_text(self.block_size.data)}")
        if self.outputs:
            printer.print_string(" reduce ")
            printer.print_attribute(self.reduce)
            printer.print_string(" : " + ", ".join(value_dtype(o) for o in self.outputs))
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False, print_empty_block=False)

    @classmethod
    def parse(cls, parser: Parser) -> ForOp:
        axis = StringAttr(parser.parse_identifier())
        parser.parse_keyword("in")
        extent = _parse_dims(parser)
        kind = StringAttr(parser.parse_identifier())
        properties: dict[str, Attribute] = {"axis": axis, "extent": extent, "kind": kind, "reduce": ArrayAttr([])}
        types: list[ValueType] = []
        if parser.parse_optional_keyword("block"):
            properties["block"] = _parse_dims(parser)
        if parser.parse_optional_keyword("reduce"):
            properties["reduce"] = parser.parse_attribute()
            parser.parse_punctuation(":")
            types = parser.parse_comma_separated_list(parser.Delimiter.NONE, lambda: _parse_value_type(parser))
        return cls.create(properties=properties, result_types=types, regions=[parser.parse_region()])

    def verify_(self) -> None:
        if self.kind.data not in LOOP_KINDS:
            raise VerifyException(f"a loop is one of {', '.join(LOOP_KINDS)}, not {self.kind.data!r}")
        if len(self.combiners) != len(self.outputs) or len(self.yielded) != len(self.outputs):
            raise VerifyException("one reduction and one yielded value for each result")
        for name, value, output in zip(self.combiners, self.yielded, self.outputs):
            if name not in REDUCTIONS:
                raise VerifyException(f"{name!r} is not a reduction")
            expected = "i64" if REDUCTIONS[name].result == "i64" else value_dtype(value)
            if value_dtype(output) != expected:
                raise VerifyException(f"{name} over {value_dtype(value)} gives {expected}")


@irdl_op_definition
class YieldOp(TileOp):
    """`tile.yield %a, %b`: the values that the enclosing loop reduces."""

    name = "tile.yield"
    args = var_operand_def(ValueType)
    traits = traits_def(IsTerminator())

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.args, printer.print_ssa_value)

    @classmethod
    def parse(cls, parser: Parser) -> YieldOp:
        operands = parser.parse_optional_undelimited_comma_separated_list(
            parser.parse_optional_unresolved_operand, parser.parse_unresolved_operand
        )
        return cls.create(operands=[_resolve(parser, operand) for operand in operands or ()])


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
        _print_rest(self, printer, ("offset", "mask", "other"))
        printer.print_string(f" : {value_dtype(self.result)}")

    @classmethod
    def parse(cls, parser: Parser) -> LoadOp:
        ref = _parse_value(parser)
        properties: dict[str, Attribute] = {"offset": _parse_dims(parser)}
        if parser.parse_optional_keyword("if"):
            properties["mask"] = _parse_dims(parser)
            parser.parse_keyword("else")
            properties["other"] = ScalarAttr(parse_scalar(parser))
        properties |= parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        return cls.create(operands=[ref], properties=properties, result_types=[_parse_value_type(parser)])


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
        _print_rest(self, printer, ("offset",))

    @classmethod
    def parse(cls, parser: Parser) -> StoreOp:
        ref = _parse_value(parser)
        offset = _parse_dims(parser)
        parser.parse_punctuation(",")
        value = _parse_value(parser)
        return cls.create(
            operands=[ref, value], properties={"offset": offset, **parser.parse_optional_attr_dict()}
        )


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
        extent = _parse_dims(parser)
        parser.parse_punctuation(":")
        return cls.create(
            properties={"extent": extent}, result_types=[RefType.get(_parse_value_type(parser).dtype)]
        )


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
        return cls.create(properties={"value": value}, result_types=[_parse_value_type(parser)])


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
        offset = _parse_dims(parser)
        parser.parse_punctuation(":")
        return cls.create(properties={"offset": offset}, result_types=[_parse_value_type(parser)])


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
        return cls.create(properties={"mask": _parse_dims(parser)}, result_types=[ValueType.get("bool")])


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
        value = _parse_value(parser)
        parser.parse_keyword("in")
        properties: dict[str, Attribute] = {"label": label, "extent": _parse_dims(parser)}
        properties["wrap"] = ScalarAttr(bool(parser.parse_optional_keyword("wrap")))
        if parser.parse_optional_keyword("if"):
            properties["mask"] = _parse_dims(parser)
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
        args = parser.parse_comma_separated_list(parser.Delimiter.NONE, lambda: _parse_value(parser))
        parser.parse_punctuation(":")
        return cls.create(operands=args, properties={"fn": fn}, result_types=[_parse_value_type(parser)])

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


@irdl_op_definition
class ScanOp(TileOp):
    """`%s = tile.scan "sum" %v : f32`: the running combination along the innermost loop (serial), inclusive."""

    name = "tile.scan"
    fn = prop_def(StringAttr)
    value = operand_def(ValueType)
    result = result_def(ValueType)

    @staticmethod
    def make(fn: str, value: SSAValue) -> ScanOp:
        return ScanOp.create(operands=[value], properties={"fn": StringAttr(fn)}, result_types=[value.type])

    def print(self, printer: Printer) -> None:
        printer.print_string(f' "{self.fn.data}" ')
        printer.print_ssa_value(self.value)
        printer.print_string(f" : {value_dtype(self.result)}")

    @classmethod
    def parse(cls, parser: Parser) -> ScanOp:
        fn = StringAttr(parser.parse_str_literal())
        value = _parse_value(parser)
        parser.parse_punctuation(":")
        return cls.create(operands=[value], properties={"fn": fn}, result_types=[_parse_value_type(parser)])

    def verify_(self) -> None:
        if self.fn.data not in SCANS:
            raise VerifyException(f"{self.fn.data!r} is not a scan")
        parent = self.parent_op()
        if not (isinstance(parent, ForOp) and parent.kind.data == "serial"):
            raise VerifyException("a scan stands in a serial loop")


Tile = Dialect(
    "tile",
    [
        KernelOp, ForOp, YieldOp, LoadOp, StoreOp, AllocOp, ConstantOp, ExprOp, CondOp, IndexOp, MapOp, ScanOp,
    ],
    [RefType, ValueType],
)
