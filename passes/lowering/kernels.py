"""The kernels of regions: equal regions are lowered once, and equal kernels of other regions shared."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from tilewright.ir import tile, tw
from tilewright.ir.identity import kernel_text
from tilewright.ir.target import Target

from ..fusion_graph import Strides
from ..structure import Structure
from .attention import lower_attention
from .attention_gradient import lower_attention_gradient
from .in_place import overwrites_what_it_reads
from .names import kernel_name
from .region import lower_region
from .scatter import lower_scatter, scatter_region


@dataclass(frozen=True)
class CallOfRegion:
    """A region with what its kernel has to know of its surroundings.

    `body` are the region's ops without the terminator, `layouts` the strides of its inputs, `wanted` those of its
    outputs. `shared` inputs have no pointer but that of an output, by the output's position.
    """

    op: tw.FusedOp
    body: Sequence[Operation]
    layouts: Mapping[SSAValue, Strides]
    wanted: Sequence[Strides]
    shared: Mapping[SSAValue, int]


class Kernels:
    """The kernels of a function, which are put before it."""

    def __init__(self, function: FuncOp, target: Target):
        self.function, self.target = function, target
        self.structure = Structure()
        self.lowered: dict[Hashable, list[tuple[str, list[int]]]] = {}
        self.trials: dict[Hashable, bool] = {}
        self.by_text: dict[str, str] = {}  # text without name and lines -> name
        self.names: set[str] = set()

    def of(self, call: CallOfRegion) -> list[tuple[str, list[int]]]:
        """Names of the region's kernels, one but for scatters on a GPU, each with the inputs, by number, that it has a
        pointer to."""
        key = self.key(call)
        if key not in self.lowered:
            number = {value: i for i, value in enumerate(call.layouts)}
            self.lowered[key] = [
                (self.share(kernel, call.body), [number[v] for v in inputs]) for kernel, inputs in self.lower(call)
            ]
        return self.lowered[key]

    def overwrites(self, call: CallOfRegion, position: int) -> bool:
        """Whether the kernel would overwrite what it has yet to read, through the pointer of output `position`."""
        key = self.key(call)
        if key not in self.trials:
            [(kernel, _)] = self.lower(call)
            self.trials[key] = overwrites_what_it_reads(kernel, kernel.args[kernel.outputs.ints()[position]])
        return self.trials[key]

    def key(self, call: CallOfRegion) -> Hashable:
        """What the region's kernels depend on, but for names and locations."""
        inputs = tuple((strides, call.shared.get(value)) for value, strides in call.layouts.items())
        outputs = call.op.terminator.args
        return call.op.kind.data, self.structure.key(call.body, outputs), inputs, tuple(call.wanted)

    def lower(self, call: CallOfRegion) -> list[tuple[tile.KernelOp, list[SSAValue]]]:
        outputs, wanted = list(call.op.terminator.args), list(call.wanted)
        if call.op.kind.data == "attention":
            return [(lower_attention(call.body, outputs, call.layouts, wanted, "kernel"), list(call.layouts))]
        if call.op.kind.data == "attention_gradient":
            return [(lower_attention_gradient(call.body, outputs, call.layouts, wanted, "kernel"), list(call.layouts))]
        scatter = scatter_region(call.body, outputs, wanted[0])
        if scatter is not None:
            return lower_scatter(scatter, call.layouts, wanted[0], "kernel", self.target, in_place=bool(call.shared))
        kernel = lower_region(call.body, call.layouts, outputs, wanted, "kernel", self.target, call.shared)
        return [(kernel, [v for v in call.layouts if v not in call.shared])]

    def share(self, kernel: tile.KernelOp, body: Sequence[Operation]) -> str:
        """The name of an equal kernel, or of this one, added to the module."""
        text = kernel_text(kernel)
        if text not in self.by_text:
            base = kernel_name(body)
            name, count = base, 1
            while name in self.names:
                count += 1
                name = f"{base}_{count}"
            self.names.add(name)
            self.by_text[text] = name
            kernel.properties["sym_name"] = StringAttr(name)
            block = self.function.parent_block()
            assert block is not None
            block.insert_op_before(kernel, self.function)
        return self.by_text[text]
