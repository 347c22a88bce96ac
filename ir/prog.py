"""The `prog` dialect: when and where. Buffers at byte offsets, kernel launches, library calls, in order."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import FlatSymbolRefAttrConstr, StringAttr, SymbolRefAttr
from xdsl.ir import Attribute, Dialect, SSAValue
from xdsl.irdl import (
    BaseAttr,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsTerminator

from .expr import IntExpr
from .types import ArenaType, BufferType, DimsAttr, PackedType


def buffer_type(value: SSAValue) -> BufferType:
    assert isinstance(value.type, BufferType), value.type
    return value.type


class ProgOp(IRDLOperation):
    """Base of the dialect's ops."""

    irdl_options = (ParsePropInAttrDict(),)


@irdl_op_definition
class ArenaOp(ProgOp):
    """`%a = prog.arena {size = #tw.dims<[65536]>} : !prog.arena_type`: the bytes that a call's temporaries share."""

    name = "prog.arena"
    size = prop_def(DimsAttr)
    result = result_def(ArenaType)
    assembly_format = "attr-dict `:` type($result)"

    @staticmethod
    def make(size: IntExpr) -> ArenaOp:
        return ArenaOp.create(properties={"size": DimsAttr([size])}, result_types=[ArenaType()])


@irdl_op_definition
class AllocOp(ProgOp):
    """`%b = prog.alloc : T`: a temporary without a place yet; `plan-memory` turns it into a `prog.buffer`."""

    name = "prog.alloc"
    result = result_def(BufferType)
    assembly_format = "attr-dict `:` type($result)"


@irdl_op_definition
class BufferOp(ProgOp):
    """`%b = prog.buffer %arena {offset, live} : T`: a temporary at a byte offset of the arena.

    It is in use from launch or call `live[0]` to `live[1]`, counted from the start of the program.
    """

    name = "prog.buffer"
    arena = operand_def(ArenaType)
    offset = prop_def(DimsAttr)
    live = prop_def(DimsAttr)
    result = result_def(BufferType)
    assembly_format = "$arena attr-dict `:` type($result)"

    @staticmethod
    def make(arena: SSAValue, offset: IntExpr, live: tuple[int, int], type: BufferType) -> BufferOp:
        return BufferOp.create(
            operands=[arena],
            properties={"offset": DimsAttr([offset]), "live": DimsAttr(live)},
            result_types=[type],
        )


@irdl_op_definition
class OutputOp(ProgOp):
    """`%o = prog.output : T`: fresh memory that leaves the call."""

    name = "prog.output"
    result = result_def(BufferType)
    assembly_format = "attr-dict `:` type($result)"


@irdl_op_definition
class ViewOp(ProgOp):
    """`%v = prog.view %b {offset} : B -> V`: the same memory, `offset` elements further, other sizes and strides."""

    name = "prog.view"
    source = operand_def(BufferType)
    offset = prop_def(DimsAttr)
    result = result_def(BufferType)
    assembly_format = "$source attr-dict `:` type($source) `->` type($result)"

    @staticmethod
    def make(source: SSAValue, offset: IntExpr, type: BufferType) -> ViewOp:
        return ViewOp.create(
            operands=[source], properties={"offset": DimsAttr([offset])}, result_types=[type]
        )


@irdl_op_definition
class LaunchOp(ProgOp):
    """`prog.launch @kernel %a, %b : A, B`: the kernel's pointers in order; its sizes are symbols of the program."""

    name = "prog.launch"
    kernel = prop_def(FlatSymbolRefAttrConstr)
    args = var_operand_def(BufferType)
    assembly_format = "$kernel $args attr-dict `:` type($args)"

    @staticmethod
    def make(kernel: str, args: Sequence[SSAValue]) -> LaunchOp:
        return LaunchOp.create(operands=args, properties={"kernel": SymbolRefAttr(kernel)})


@irdl_op_definition
class ExternOp(ProgOp):
    """`%r = prog.extern "aten.mm.out" %a, %b, %out {arguments} : (A, B, C) -> ()`: a library call.

    `arguments` is the text of `ir/calls.py`. Results are fresh memory of the library's.
    """

    name = "prog.extern"
    target = prop_def(StringAttr)
    args = var_operand_def(BaseAttr(BufferType) | BaseAttr(PackedType))
    arguments = prop_def(StringAttr)
    outputs = var_result_def(BaseAttr(BufferType) | BaseAttr(PackedType))
    assembly_format = "$target $args attr-dict `:` functional-type($args, $outputs)"

    @staticmethod
    def make(target: str, args: Sequence[SSAValue], arguments: str, types: Sequence[Attribute] = ()) -> ExternOp:
        return ExternOp.create(
            operands=args,
            properties={"target": StringAttr(target), "arguments": StringAttr(arguments)},
            result_types=types,
        )


@irdl_op_definition
class ReturnOp(ProgOp):
    """`prog.return %a, %b : A, B`: what the call gives."""

    name = "prog.return"
    args = var_operand_def(BaseAttr(BufferType) | BaseAttr(PackedType))
    traits = traits_def(IsTerminator())
    assembly_format = "($args^ `:` type($args))? attr-dict"


Prog = Dialect(
    "prog",
    [ArenaOp, AllocOp, BufferOp, OutputOp, ViewOp, LaunchOp, ExternOp, ReturnOp],
    [ArenaType, BufferType, PackedType],
)
