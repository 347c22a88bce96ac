"""What a kernel is called, and which lines of the model it stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xdsl.dialects.builtin import LocationAttr, NameLoc
from xdsl.ir import Operation

from tilewright.ir import tw
from tilewright.ir.text import fuse_locations


def region_location(ops: Sequence[Operation]) -> LocationAttr:
    """One location for a region: those of its ops but constants and positions, which regions share."""
    own = [op.location for op in ops if not isinstance(op, (tw.ConstantOp, tw.IotaOp, tw.SizeOp))]
    return fuse_locations(own or [op.location for op in ops])


_DIGITS = re.compile(r"(_\d+)+$")


def kernel_name(ops: Sequence[Operation]) -> str:
    """`region_name`, made fit for a function of C++ and of Python."""
    text = region_name(ops)
    if "_" not in text.strip("_") or text in _WORDS_OF_CPP:
        text += "_kernel"  # `exp` is a function of C's and `not` a word of C++'s and of Python's
    return text if text[0].isalpha() else f"k{text}"


def region_name(ops: Sequence[Operation]) -> str:
    """A name from the model's own operations: ``add_native_layer_norm``."""
    names: dict[str, None] = {}
    location = region_location(ops)
    for part in getattr(location, "locations", [location]):
        if isinstance(part, NameLoc):
            names[_DIGITS.sub("", part.desc.data).strip("_")] = None
    if not names:
        for op in ops:
            if isinstance(op, (tw.MapOp, tw.ReduceOp, tw.ScanOp)):
                names[op.fn.data] = None
            elif not isinstance(op, (tw.YieldOp, tw.ConstantOp)):
                names[op.name.removeprefix("tw.")] = None
    kept = [n for n in names if n not in _DULL] or [f"{list(names)[-1]}_copy" if names else "copy"]
    return re.sub(r"\W", "_", "_".join(kept if len(kept) <= 4 else [*kept[:2], *kept[-2:]]))


_WORDS_OF_CPP = {"and_eq", "not_eq", "or_eq", "xor_eq", "static_cast", "const_cast", "thread_local"}
_DULL = {
    "view", "unsafe_view", "reshape", "permute", "t", "transpose", "unsqueeze", "squeeze", "expand", "slice",
    "select", "clone", "to_copy", "alias", "scalar_tensor", "cast", "broadcast", "iota", "arange", "full", "detach",
}
