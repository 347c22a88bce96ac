"""What kernels of attention have in common: loops over blocks of queries and keys, and scratch that products fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from xdsl.ir import Block, Operation, SSAValue

from tilewright.ir import tile, tw
from tilewright.ir.expr import IntExpr, substitute
from tilewright.ir.types import DimsAttr, RefType, TensorType

from ..attention_forms import COLUMN, INNER, KEY, QUERY, Place, element_step
from .indexing import dot
from .loops import Loop, Nest
from .region import Emitted, RegionEmitter, finish_kernel, label_arguments
from .walk import Axis, Domain

LANES = 16
"""Rows of scratch that `tile.dot` writes have room for whole vectors."""

Strides = tuple[IntExpr, ...]


def whole_vectors(length: int) -> int:
    """The length of a row of scratch that has room for so many elements in whole vectors."""
    return -(-length // LANES) * LANES


class BlockwiseEmitter(RegionEmitter):
    """Emits loops over blocks: queries at ``m1`` of block ``m0``, keys at ``n1`` of block ``n0``, columns at ``d0``.

    The region's ops speak of positions by `QUERY`, `KEY` and `COLUMN`; `names` says what these are in the loops.
    """

    names: dict[str, IntExpr]
    dtype: str

    def __init__(
        self, domain: Domain, ops: Sequence[Operation], outputs: Sequence[Place], refs: Mapping[SSAValue, SSAValue],
        strides: Mapping[SSAValue, Strides], output_refs: Sequence[SSAValue], output_strides: Sequence[Strides],
        body: Block,
    ):
        values = [value for value, _ in outputs]
        super().__init__(ops, values, Nest(domain, (), ()), refs, strides, output_refs, output_strides, body, 0)
        self.ranges = domain.ranges
        self.places = dict(zip(output_refs, zip(outputs, output_strides)))

    def emit(self, op: Operation, depth: int, hint: str | None = None) -> Emitted | None:
        for key, attribute in op.properties.items():
            if isinstance(attribute, DimsAttr):
                op.properties[key] = DimsAttr([substitute(expr, self.names) for expr in attribute.data])
        return super().emit(op, depth, hint)

    # -- loops

    _NAMED: ClassVar[dict[str, str]] = {"m1": QUERY, "n1": KEY, "d0": COLUMN}

    def loop(self, name: str, extent: IntExpr, kind: str) -> None:
        self.open(Loop(Axis(name, extent), kind))
        if name in self._NAMED:
            self.depth_of_name[self._NAMED[name]] = len(self.frames) - 1

    def end(self, reduce: Sequence[str] = (), values: Sequence[Emitted] = ()) -> list[Emitted]:
        name = self.frames[-1].loop.axis.name  # type: ignore[union-attr]
        loop = self.close(reduce, [self.dtype] * len(values), [v.value for v in values])
        loop.properties.pop("block", None)  # a block of keys is one already
        self.depth_of_name.pop(self._NAMED.get(name, ""), None)
        return [Emitted(output, len(self.frames) - 1) for output in loop.outputs]

    # -- values

    def read(self, ref: SSAValue, offset: IntExpr, hint: str) -> Emitted:
        """Not memoised: what is in scratch changes."""
        made = self.emit(tile.LoadOp.make(ref, offset, self.dtype), len(self.frames) - 1, hint)
        assert made is not None
        return made

    def write(self, ref: SSAValue, offset: IntExpr, value: Emitted) -> None:
        self.emit(tile.StoreOp.make(ref, offset, value.value), len(self.frames) - 1)

    def apply(self, fn: str, *args: Emitted, hint: str | None = None) -> Emitted:
        made = self.emit(tile.MapOp.make(fn, [a.value for a in args]), len(self.frames) - 1, hint or fn)
        assert made is not None
        return made

    def number(self, value: float) -> Emitted:
        return self.constant(value, TensorType.get((), self.dtype))

    def scratch(self, extent: IntExpr, hint: str) -> SSAValue:
        made = self.emit(tile.AllocOp.make(extent, self.dtype), len(self.frames) - 1, hint)
        assert made is not None
        return made.value

    def write_output(self, ref: SSAValue, value: Emitted) -> None:
        """Write to a result of the kernel, at the current position."""
        (_, index), strides = self.places[ref]
        self.write(ref, self.ranges.simplify(dot(index, strides)), value)

    def operand(self, place: Place, rows: str, columns: str) -> tuple[SSAValue, IntExpr, IntExpr, IntExpr]:
        """Pointer, offset, and the steps along two names, of a tensor that a product reads."""
        strides = self.strides[place[0]]
        steps = element_step(place, strides, rows), element_step(place, strides, columns)
        corner = substitute(dot(place[1], strides), {INNER: 0, COLUMN: 0})
        at_block = {name: self.at_block(name) for name in (QUERY, KEY)}
        offset = self.ranges.simplify(substitute(corner, at_block))
        return (self.refs[place[0]], offset, *steps)

    def at_block(self, name: str) -> IntExpr:
        """The position of the first query or key of the current block."""
        return substitute(self.names[name], {"m1": 0, "n1": 0})

    def finish(self, name: str) -> tile.KernelOp:
        """The kernel. Its pointers are the inputs in order, then the results."""
        body = self.frames[0].block
        first = len(body.args) - len(self.outputs)
        return finish_kernel(name, body, range(first, len(body.args)), self.ordered, kind="attention")


def kernel_body(
    inputs: Mapping[SSAValue, Strides], outputs: Sequence[Place]
) -> tuple[Block, dict[SSAValue, SSAValue], list[SSAValue]]:
    """An empty body, and its pointers: by input, and those of the results."""
    values = [*inputs, *(value for value, _ in outputs)]
    body = Block(arg_types=[RefType.get(tw.tensor_type(v).dtype) for v in values])
    label_arguments(body, values)
    return body, dict(zip(inputs, body.args)), list(body.args[len(inputs) :])
