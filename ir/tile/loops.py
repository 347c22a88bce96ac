"""Kernels and loops, and what runs along a loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IntegerAttr, StringAttr, SymbolNameConstraint, i64
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue
from xdsl.irdl import (
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
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, IsTerminator, NoTerminator, Pure, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from ..expr import IntExpr, free_symbols
from ..scalars import REDUCTIONS, SCANS
from ..types import DimsAttr, RefType, ValueType, dims_text
from .base import TileOp, parse_dims, parse_value, parse_value_type, print_rest, resolve, value_dtype
from .values import IndexOp

LOOP_KINDS = ("parallel", "serial", "vector", "block")


@irdl_op_definition
class KernelOp(TileOp):
    """`tile.kernel @name(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind, outputs, sizes} { ... }`.

    `outputs` are the positions of the pointers it writes; `sizes` the symbols it is passed, as i64, after the pointers.
    `schedule` gives the knobs that loops name their values, and the launch's ``num_warps`` and ``num_stages``.
    """

    name = "tile.kernel"
    sym_name = prop_def(SymbolNameConstraint())
    kind = prop_def(StringAttr)
    outputs = prop_def(DimsAttr)
    sizes = prop_def(ArrayAttr[StringAttr])
    schedule = opt_prop_def(DictionaryAttr)
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

    def set_schedule(self, values: Mapping[str, int]) -> None:
        self.properties["schedule"] = DictionaryAttr({k: IntegerAttr(v, i64) for k, v in values.items()})

    @property
    def knobs(self) -> dict[str, int]:
        """The schedule as plain data."""
        entries = self.schedule.data if self.schedule is not None else {}
        return {name: value.value.data for name, value in entries.items() if isinstance(value, IntegerAttr)}

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
        print_rest(self, printer, ("sym_name",))
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
        knobs = self.knobs
        for op in self.body.walk():
            if isinstance(op, ForOp) and op.knob is not None and knobs.get(op.knob.data, 0) < 1:
                raise VerifyException(f"the schedule has no size for {op.knob.data}")
        _verify_scope(self.body.block, set(self.size_names))


@irdl_op_definition
class ForOp(TileOp):
    """`%m = tile.for i1 in [1000] vector reduce ["max"] : f32 { ... tile.yield %v }`: a loop over one axis.

    `parallel`: iterations are independent and may run on threads or programs. `vector`: may run in lanes. `serial`: in
    order. `block`: all iterations go through the body together, op by op, so that `tile.reduce` and `tile.scan` inside
    may combine them. ``by ROWS`` names the knob that says how many neighbouring iterations make one block of a GPU
    program: a parallel loop is cut into programs, a vector loop is walked, a block loop has one block.

    Each yielded value is combined over the iterations by the reduction of the same position (in any order unless
    serial); an empty loop gives the neutral element. `block` (elements): sums are added up in blocks of that length,
    whose totals are added in f64, which bounds the rounding error of long sums.
    """

    name = "tile.for"
    axis = prop_def(StringAttr)
    extent = prop_def(DimsAttr)
    kind = prop_def(StringAttr)
    reduce = prop_def(ArrayAttr[StringAttr])
    block_size = opt_prop_def(DimsAttr, prop_name="block")
    knob = opt_prop_def(StringAttr)
    outputs = var_result_def(ValueType)
    body = region_def("single_block")
    traits = traits_def(NoTerminator())

    @staticmethod
    def make(
        axis: str, extent: IntExpr, kind: str, body: Block, reduce: Sequence[str] = (),
        dtypes: Sequence[str] = (), block: int | None = None, knob: str | None = None,
    ) -> ForOp:
        properties: dict[str, Attribute] = {
            "axis": StringAttr(axis), "extent": DimsAttr([extent]), "kind": StringAttr(kind),
            "reduce": ArrayAttr([StringAttr(r) for r in reduce]),
        }
        if block is not None:
            properties["block"] = DimsAttr([block])
        if knob is not None:
            properties["knob"] = StringAttr(knob)
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
        if self.knob is not None:
            printer.print_string(f" by {self.knob.data}")
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
        extent = parse_dims(parser)
        kind = StringAttr(parser.parse_identifier())
        properties: dict[str, Attribute] = {"axis": axis, "extent": extent, "kind": kind, "reduce": ArrayAttr([])}
        types: list[ValueType] = []
        if parser.parse_optional_keyword("by"):
            properties["knob"] = StringAttr(parser.parse_identifier())
        if parser.parse_optional_keyword("block"):
            properties["block"] = parse_dims(parser)
        if parser.parse_optional_keyword("reduce"):
            properties["reduce"] = parser.parse_attribute()
            parser.parse_punctuation(":")
            types = parser.parse_comma_separated_list(parser.Delimiter.NONE, lambda: parse_value_type(parser))
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
        return cls.create(operands=[resolve(parser, operand) for operand in operands or ()])


@irdl_op_definition
class ScanOp(TileOp):
    """`%s = tile.scan "sum" %v : f32`: the running combination along the innermost loop (serial or block)."""

    name = "tile.scan"
    fn = prop_def(StringAttr)
    value = operand_def(ValueType)
    result = result_def(ValueType)

    @staticmethod
    def make(fn: str, value: SSAValue) -> ScanOp:
        type = value.type if SCANS[fn].result == "same" else ValueType.get(SCANS[fn].result)
        return ScanOp.create(operands=[value], properties={"fn": StringAttr(fn)}, result_types=[type])

    def print(self, printer: Printer) -> None:
        printer.print_string(f' "{self.fn.data}" ')
        printer.print_ssa_value(self.value)
        printer.print_string(f" : {value_dtype(self.result)}")

    @classmethod
    def parse(cls, parser: Parser) -> ScanOp:
        fn = StringAttr(parser.parse_str_literal())
        value = parse_value(parser)
        parser.parse_punctuation(":")
        return cls.create(operands=[value], properties={"fn": fn}, result_types=[parse_value_type(parser)])

    def verify_(self) -> None:
        if self.fn.data not in SCANS:
            raise VerifyException(f"{self.fn.data!r} is not a scan")
        parent = self.parent_op()
        if not (isinstance(parent, ForOp) and parent.kind.data in ("serial", "block")):
            raise VerifyException("a scan stands in a serial or block loop")


@irdl_op_definition
class ReduceOp(TileOp):
    """`%m = tile.reduce "max" %v over [k0] : f32`: `%v` combined over all iterations of block loops around it."""

    name = "tile.reduce"
    fn = prop_def(StringAttr)
    axes = prop_def(ArrayAttr[StringAttr])
    value = operand_def(ValueType)
    result = result_def(ValueType)
    traits = traits_def(Pure())

    @staticmethod
    def make(fn: str, value: SSAValue, axes: Sequence[str]) -> ReduceOp:
        dtype = REDUCTIONS[fn].result
        return ReduceOp.create(
            operands=[value], result_types=[value.type if dtype == "same" else ValueType.get(dtype)],
            properties={"fn": StringAttr(fn), "axes": ArrayAttr([StringAttr(a) for a in axes])},
        )

    @property
    def axis_names(self) -> tuple[str, ...]:
        return tuple(a.data for a in self.axes.data)

    def print(self, printer: Printer) -> None:
        printer.print_string(f' "{self.fn.data}" ')
        printer.print_ssa_value(self.value)
        printer.print_string(f" over [{', '.join(self.axis_names)}] : {value_dtype(self.result)}")

    @classmethod
    def parse(cls, parser: Parser) -> ReduceOp:
        fn = StringAttr(parser.parse_str_literal())
        value = parse_value(parser)
        parser.parse_keyword("over")
        axes = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_identifier)
        parser.parse_punctuation(":")
        properties = {"fn": fn, "axes": ArrayAttr([StringAttr(a) for a in axes])}
        return cls.create(operands=[value], properties=properties, result_types=[parse_value_type(parser)])

    def verify_(self) -> None:
        if self.fn.data not in REDUCTIONS:
            raise VerifyException(f"{self.fn.data!r} is not a reduction")
        around: set[str] = set()
        parent = self.parent_op()
        while isinstance(parent, ForOp):
            around |= {parent.axis.data} if parent.kind.data == "block" else set()
            parent = parent.parent_op()
        if not self.axes.data or not set(self.axis_names) <= around:
            raise VerifyException(f"no block loops around it run over {', '.join(self.axis_names)}")


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
