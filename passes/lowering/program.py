"""Lowering a fused function to a program: buffers, launches of tile kernels, library calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, UnitAttr, UnknownLoc
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue

from tilewright.ir import calls, prog, tw
from tilewright.ir.expr import IntExpr, product
from tilewright.ir.function import updated_arguments
from tilewright.ir.types import BufferType, DimsAttr, PackedType, TensorType, contiguous_strides

from ..base import Pass, PassContext, register
from ..frozen_values import frozen_values
from ..fusion import Fuse
from ..fusion_graph import (
    LEAF_OPS,
    PLAIN_VIEWS,
    Strides,
    argument_strides,
    channels_last_result,
    dense_like,
    in_region,
    operand_kinds,
    preferred_strides,
    result_strides_of,
    view_strides,
)
from .in_place import in_place_results
from .indexing import equal_strides, is_contiguous, is_dense, reshape_strides
from .kernels import CallOfRegion, Kernels
from .library import packed_call, plain_call
from .scatter import scatter_region

# Calls left to ATen whose results are views of their first operand.
ATEN_VIEWS = frozenset(
    f"aten.{name}.default"
    for name in ("conj", "diagonal", "imag", "real", "unfold", "view_as_complex", "view_as_real")
)


@register
@dataclass(frozen=True)
class Lower(Pass):
    """Turn regions into tile kernels and the function into a program.

    Before::

        %r = tw.fused {kind = "loop"} : !tw.tensor<[8, 4], f32> { ... }      %m = tw.matmul %r, %w : ...

    after::

        tile.kernel @softmax(%x: !tile.ref<f32>, %r: !tile.ref<f32>) { tile.for i0 in [8] parallel { ... } }
        %r = prog.alloc : !prog.buffer<[8, 4], [4, 1], f32>
        prog.launch @softmax %x, %r : ...
        %m = prog.alloc : ...                 prog.extern "aten.mm.out" %r, %w, %m {arguments = ...} : ...

    Equal kernels are made once. Ops that no region holds get one of their own. Kernels keep halves in f32 between
    roundings.
    """

    name: ClassVar[str] = "lower"
    numerics: ClassVar[str] = "widens"

    def run(self, module: ModuleOp, context: PassContext) -> None:
        for op in list(module.body.block.ops):
            if isinstance(op, FuncOp):
                # What no region holds yet gets one of its own.
                Fuse(merge=False).run(module, PassContext(context.target, sizes=context.sizes))
                ProgramLowering(op, module, context).run()


class ProgramLowering:
    """Lowers one function."""

    def __init__(self, function: FuncOp, module: ModuleOp, context: PassContext):
        self.function, self.module, self.context = function, module, context
        self.source = function.body.block
        self.values: dict[SSAValue, SSAValue] = {}
        self.target = Block()
        self.location = UnknownLoc()
        self.kernels = Kernels(function, context.target)
        self.runs_once = False  # whether the op at hand depends on frozen weights alone

    def run(self) -> None:
        attribute = self.function.attributes.get("arg_strides")
        given = [a for a in attribute if isinstance(a, DimsAttr)] if isinstance(attribute, ArrayAttr) else []
        layout = argument_strides(self.source, given)
        for arg in self.source.args:
            type: Attribute = arg.type
            if isinstance(type, TensorType):
                type = BufferType.get(type.shape, layout[arg], type.dtype)
            new = self.target.insert_arg(type, len(self.target.args))
            new.name_hint, new.location = arg.name_hint, arg.location
            self.values[arg] = new
        terminator = self.source.last_op
        assert isinstance(terminator, tw.ReturnOp)
        self.terminator = terminator
        self.updated = updated_arguments(self.function)
        self.given_arguments = self.arguments_among_results()
        self.in_place = in_place_results(terminator, self.updated, self.given_arguments)
        self.escaping = self.escaping_values(terminator)
        self.frozen = frozen_values(self.function)
        for op in self.source.ops:
            self.location = op.location  # type: ignore[assignment]
            self.runs_once = bool(op.results) and op.results[0] in self.frozen
            self.lower(op)
        self.finish()

    def arguments_among_results(self) -> dict[int, int]:
        """The return's operands that are an updated argument itself, as it is when the call ends, with its number."""
        owners = self.function.attributes.get("result_owners")
        if not self.updated or not isinstance(owners, DimsAttr):
            return {}
        values = self.terminator.args
        first = len(values) - len(self.updated)
        new = dict(zip(self.updated, values[first:]))
        kinds = operand_kinds(self.terminator) or []
        tensors = [place for place, kind in enumerate(kinds) if kind == "tensor"]
        return {
            place: owner for place, owner in zip(tensors, owners.ints())
            if place < first and new.get(owner) is values[place]
        }

    def escaping_values(self, terminator: tw.ReturnOp) -> set[SSAValue]:
        """What the caller gets, seen through views and through opaque calls, whose results may be views."""
        found: set[SSAValue] = set()
        results = terminator.operands[: len(terminator.operands) - len(self.updated)]
        stack = [value for place, value in enumerate(results) if place not in self.given_arguments]
        while stack:
            value = stack.pop()
            if value not in found:
                found.add(value)
                if isinstance(value.owner, (*PLAIN_VIEWS, tw.AtenOp)):
                    stack.extend(value.owner.operands)
        return found

    def emit(self, op: Operation) -> Operation:
        op.location = self.location
        if self.runs_once:
            op.attributes["frozen"] = UnitAttr()
        self.target.add_op(op)
        return op

    def lower(self, op: Operation) -> None:
        if isinstance(op, tw.FusedOp):
            self.launch(op)
        elif isinstance(op, PLAIN_VIEWS):
            self.view(op)
        elif isinstance(op, tw.MatmulOp):
            self.matmul(op)
        elif isinstance(op, tw.SeedOp):
            self.extern(op, *calls.SEED_CALL, [])
        elif isinstance(op, (tw.ConvOp, tw.AttentionOp, tw.AtenOp)):
            self.library_call(op)
        elif isinstance(op, tw.ReturnOp):
            self.give(op)
        elif not isinstance(op, LEAF_OPS):
            raise AssertionError(f"{op.name} was left outside the regions")

    def memory(self, value: SSAValue, strides: Strides | None = None) -> SSAValue:
        """Fresh memory for a value: the caller's if it leaves the call."""
        type = tw.tensor_type(value)
        strides = contiguous_strides(type.shape) if strides is None else strides
        make = prog.OutputOp if value in self.escaping or self.runs_once else prog.AllocOp  # outlives the call
        op = self.emit(make.create(result_types=[BufferType.get(type.shape, strides, type.dtype)]))
        op.results[0].name_hint = value.name_hint
        self.values[value] = op.results[0]
        return op.results[0]

    def launch(self, op: tw.FusedOp) -> None:
        wanted = [self.wanted_strides(result) for result in op.outputs]
        places = self.places_in_arguments(op, wanted)
        body = [o for o in op.body.block.ops if o is not op.terminator]
        layouts = {v: prog.buffer_type(self.values[v]).strides for v in op.inputs()}
        # An argument that the region reads and writes is one pointer of the kernel.
        shared = {argument: i for i, argument in places.items() if argument in layouts}
        launches = self.kernels.of(CallOfRegion(op, body, layouts, wanted, shared))
        outputs = []
        for position, (result, strides) in enumerate(zip(op.outputs, wanted)):
            if position in places:
                self.values[result] = self.values[places[position]]
                outputs.append(self.values[result])
            else:
                outputs.append(self.memory(result, strides))
        given = [self.values[v] for v in layouts]
        for name, inputs in launches:
            self.emit(prog.LaunchOp.make(name, [*(given[i] for i in inputs), *outputs]))

    def places_in_arguments(self, op: tw.FusedOp, wanted: Sequence[Strides]) -> dict[int, SSAValue]:
        """The outputs, by position, that are written into the arguments that they are the new values of."""
        found: dict[int, SSAValue] = {}
        if op.kind.data.startswith("attention"):
            return found  # written block by block, while others are still to be read
        inputs = op.inputs()
        body = [o for o in op.body.block.ops if o is not op.terminator]
        for position, (result, strides) in enumerate(zip(op.outputs, wanted)):
            argument = self.in_place.get(result)
            if argument is None or prog.buffer_type(self.values[argument]).strides != strides:
                continue
            if any(v is not argument and _root(self.values[v]) is self.values[argument] for v in inputs):
                continue  # read at other positions, through a view
            if argument not in inputs:
                found[position] = argument
                continue
            scatter = scatter_region(body, op.terminator.args, strides)
            if scatter is not None:
                if scatter.op.base is argument and len([u for u in argument.uses if u.operation in body]) == 1:
                    found[position] = argument
                continue
            layouts = {v: prog.buffer_type(self.values[v]).strides for v in inputs}
            if not self.kernels.overwrites(CallOfRegion(op, body, layouts, wanted, {argument: position}), position):
                found[position] = argument
        return found

    def wanted_strides(self, value: SSAValue) -> Strides:
        """The layout the caller expects of a value that it gets as it is, else the one its readers prefer."""
        shape = tw.tensor_type(value).shape
        users = [use.operation for use in value.uses]
        # Views are planned on the preferred layout.
        if not any(isinstance(user, PLAIN_VIEWS) and not in_region(user) for user in users):
            for use in value.uses:
                strides = self.result_strides(use.index) if isinstance(use.operation, tw.ReturnOp) else None
                if strides is not None and is_dense(shape, strides):
                    return strides
        if all(in_region(user) for user in users):
            return self.strides_of_inputs(value)
        return preferred_strides(value)

    def strides_of_inputs(self, value: SSAValue) -> Strides:
        """The dense layout of what the region reads of the value's shape: a kernel walks its memory in one order."""
        shape = tw.tensor_type(value).shape
        assert isinstance(value.owner, tw.FusedOp)
        for source in value.owner.inputs():
            type = prog.buffer_type(self.values[source])
            if type.shape == shape and is_dense(shape, type.strides):
                return type.strides
        return preferred_strides(value)

    def result_strides(self, place: int) -> Strides | None:
        """The layout the caller expects of what the return's operand `place` holds."""
        kinds = operand_kinds(self.terminator) or []
        position = kinds[:place].count("tensor")
        attribute = self.function.attributes.get("result_strides")
        if not isinstance(attribute, ArrayAttr):
            return None
        entry = attribute.data[position]
        return entry.data if isinstance(entry, DimsAttr) else None

    def view(self, op: Operation) -> None:
        source = self.values.get(op.operands[0])
        if source is None:
            return  # a view of a constant that only kernels use
        viewed = view_strides(op, prog.buffer_type(source).strides)
        assert viewed is not None, f"{op.name} needs a copy"
        type = tw.tensor_type(op.results[0])
        self.place_view(op.results[0], source, viewed[1], BufferType.get(type.shape, viewed[0], type.dtype))

    def place_view(self, value: SSAValue, source: SSAValue, offset: object, type: BufferType) -> None:
        made = self.emit(prog.ViewOp.make(source, offset, type))  # type: ignore[arg-type]
        made.results[0].name_hint = value.name_hint
        self.values[value] = made.results[0]

    def matmul(self, op: tw.MatmulOp) -> None:
        args = [self.values[a] for a in op.args]
        if self.packed(op, args):
            return
        rank = tw.tensor_type(op.result).rank
        if rank > 3:
            merged = [self.merge_batch(a) for a in args]
            if len(args) == 3 or any(m is None for m in merged):
                self.fresh_call(op, "aten.matmul.default", args)
                return
            args = [m for m in merged if m is not None]
        out = self.memory(op.result)
        whole = out if rank <= 3 else self.merge_batch(out)
        assert whole is not None
        target = {(2, 2): "aten.mm.out", (2, 3): "aten.addmm.out", (3, 2): "aten.bmm.out", (3, 3): "aten.baddbmm.out"}[
            min(rank, 3), len(args)]
        order = [2, 0, 1] if len(args) == 3 else [0, 1]
        arguments = calls.encode([calls.Operand(i) for i in order], {"out": calls.Operand(len(args))})
        self.emit(prog.ExternOp.make(target, [*args, whole], arguments))

    def packed(self, op: tw.MatmulOp | tw.ConvOp, args: Sequence[SSAValue]) -> bool:
        """Run the op on a frozen weight that is packed once; False where that cannot be."""
        plan = packed_call(op, self.context.target) if op.args[1] in self.frozen and not self.runs_once else None
        if plan is None:
            return False
        self.runs_once, weight = True, args[1]
        if plan.transposed:
            type = prog.buffer_type(weight)
            turned = BufferType.get(type.shape[::-1], type.strides[::-1], type.dtype)
            weight = self.emit(prog.ViewOp.make(weight, 0, turned)).results[0]
        type = prog.buffer_type(weight)
        result = PackedType.get(type.shape, type.dtype)
        made = self.emit(prog.ExternOp.make(plan.pack[0], [weight], plan.pack[1], [result]))
        made.results[0].name_hint = args[1].name_hint
        self.runs_once = False
        self.extern(op, *plan.call, [args[0], made.results[0], *args[2:]])
        return True

    def merge_batch(self, value: SSAValue) -> SSAValue | None:
        """A rank-3 view with all batch dims in one, or None where strides do not allow it."""
        type = prog.buffer_type(value)
        batch = product(type.shape[:-2])
        shape = (batch, *type.shape[-2:])
        strides = reshape_strides(type.shape, type.strides, shape)
        if strides is None:
            return None
        made = self.emit(prog.ViewOp.make(value, 0, BufferType.get(shape, strides, type.dtype)))
        made.results[0].name_hint = value.name_hint
        return made.results[0]

    def fresh_call(self, op: Operation, target: str, args: Sequence[SSAValue]) -> None:
        self.extern(op, target, calls.encode([calls.Operand(i) for i in range(len(args))], {}), args)

    def library_call(self, op: tw.ConvOp | tw.AttentionOp | tw.AtenOp) -> None:
        args = [self.values[a] for a in op.args]
        if isinstance(op, tw.AtenOp):
            for i in op.row_major():
                type = prog.buffer_type(args[i])
                if not is_contiguous(type.shape, type.strides):
                    args[i] = self.copied(args[i], contiguous_strides(type.shape), fresh=prog.AllocOp)
            self.extern(op, op.target.data, op.arguments.data, args)
            return
        if channels_last_result(op) is not None:
            args[0] = self.dense_as(args[0], op.strides.data)  # its layout decides the result's
        if not (isinstance(op, tw.ConvOp) and self.packed(op, args)):
            self.extern(op, *plain_call(op), args)

    def extern(self, op: Operation, target: str, arguments: str, args: Sequence[SSAValue]) -> None:
        """A library call whose results are memory of the library's."""
        types = [
            BufferType.get(tw.tensor_type(r).shape, result_strides_of(op, i), tw.tensor_type(r).dtype)
            for i, r in enumerate(op.results)
        ]
        made = self.emit(prog.ExternOp.make(target, args, arguments, types))
        if isinstance(op, tw.AtenOp):
            made.attributes["reason"] = op.reason  # also says that the results may be views of the operands
        for old, new in zip(op.results, made.results):
            new.name_hint = old.name_hint
            self.values[old] = new

    def give(self, op: tw.ReturnOp) -> None:
        """Return the values, each in the layout that the caller expects; ints go into `result_sizes`."""
        given: list[SSAValue] = []
        sizes: list[IntExpr] = []
        attribute = self.function.attributes.get("result_owners")
        owners = attribute.ints() if isinstance(attribute, DimsAttr) else None
        holders: dict[SSAValue, int] = {}
        updates = op.args[len(op.args) - len(self.updated) :]
        for place, (value, kind) in enumerate(zip(op.args[: len(op.args) - len(updates)], operand_kinds(op) or [])):
            if kind == "int":
                sizes.append(_size(value))
            elif place in self.given_arguments:
                given.append(self.target.args[self.given_arguments[place]])
            else:
                buffer = self.in_layout(self.values[value], self.result_strides(place))
                root = _root(buffer)
                overwritten = isinstance(root, BlockArgument) and root.index in self.updated
                kept = isinstance(root.owner, Operation) and "frozen" in root.owner.attributes  # for later calls
                if overwritten or kept or (owners is not None and not _may_share(buffer, owners[len(given)], holders)):
                    buffer = self.copied(buffer)
                given.append(buffer)
        if sizes:
            self.function.attributes["result_sizes"] = DimsAttr(sizes)
        self.emit(prog.ReturnOp.create(operands=given + self.update_arguments(updates)))

    def update_arguments(self, values: Sequence[SSAValue]) -> list[SSAValue]:
        """Copy what is not in its argument's memory yet; the arguments' buffers."""
        arguments = [self.target.args[position] for position in self.updated]
        buffers = [self.values[value] for value in values]
        for i, (argument, buffer) in enumerate(zip(arguments, buffers)):
            root = _root(buffer)
            if buffer is not argument and root in arguments:
                # Another copy may overwrite it first, or it is this argument's own elements in another order.
                buffers[i] = self.copied(buffer, fresh=prog.AllocOp)
        for argument, buffer in zip(arguments, buffers):
            if buffer is not argument:
                self.copy(buffer, argument)
        return list(arguments)

    def copy(self, source: SSAValue, target: SSAValue) -> None:
        arguments = calls.encode([calls.Operand(1), calls.Operand(0)], {})
        self.emit(prog.ExternOp.make("aten.copy_.default", [source, target], arguments))

    def dense_as(self, value: SSAValue, strides: Strides) -> SSAValue:
        """The value, or a copy of it, with its dims in memory in the same order as in `strides`."""
        type = prog.buffer_type(value)
        wanted = dense_like(type.shape, strides)
        return value if equal_strides(type.shape, type.strides, wanted) else self.copied(value, wanted, prog.AllocOp)

    def in_layout(self, value: SSAValue, strides: Strides | None) -> SSAValue:
        type = prog.buffer_type(value)
        if strides is None or equal_strides(type.shape, type.strides, strides) or not is_dense(type.shape, strides):
            return value
        return self.copied(value, strides)

    def copied(
        self, value: SSAValue, strides: Strides | None = None, fresh: type[prog.OutputOp | prog.AllocOp] = prog.OutputOp
    ) -> SSAValue:
        """The value in fresh memory of the caller's: in its own layout, where that is dense, if `strides` is None."""
        type = prog.buffer_type(value)
        if strides is None:
            strides = type.strides if is_dense(type.shape, type.strides) else contiguous_strides(type.shape)
        fresh = prog.OutputOp if self.runs_once else fresh  # outlives the call
        out = self.emit(fresh.create(result_types=[BufferType.get(type.shape, strides, type.dtype)]))
        self.copy(value, out.results[0])
        return out.results[0]

    def finish(self) -> None:
        region = Region(self.target)
        old = self.function.body
        for op in reversed(list(self.source.ops)):
            op.detach()
            op.drop_all_references()
        self.function.detach_region(old)
        self.function.add_region(region)
        results = list(self.target.last_op.operands) if self.target.last_op else []
        self.function.properties["function_type"] = FunctionType.from_lists(
            [a.type for a in self.target.args], [r.type for r in results]
        )


def _may_share(buffer: SSAValue, owner: int, holders: dict[SSAValue, int]) -> bool:
    """Whether a result of that owner may be this buffer, given who holds the memory of the results before it.

    Passes merge equal values and drop copies; the caller, who may write to one result, must not see it in another, or
    in an argument.
    """
    root = _root(buffer)
    if isinstance(root, BlockArgument):
        return root.index == owner
    return holders.setdefault(root, owner) == owner


def _size(value: SSAValue) -> IntExpr:
    """The integer that a result of kind "int" is: a size, or what a size has been folded to."""
    if isinstance(value.owner, tw.ConstantOp):
        return int(value.owner.value.data)
    assert isinstance(value.owner, tw.SizeOp), value.owner
    return value.owner.value.data[0]


def _root(buffer: SSAValue) -> SSAValue:
    """The buffer whose memory this one is."""
    while isinstance(buffer.owner, prog.ViewOp) or (
        isinstance(buffer.owner, prog.ExternOp) and buffer.owner.target.data in ATEN_VIEWS
    ):
        buffer = buffer.owner.operands[0]
    return buffer
