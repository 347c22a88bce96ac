"""What a kernel is known by: its text without names and lines, and hashes of that for records of tuning."""

from __future__ import annotations

import hashlib
import re

from xdsl.dialects.builtin import StringAttr, UnknownLoc

from .text import print_ir
from .tile import KernelOp


def kernel_text(kernel: KernelOp) -> str:
    """The text by which equal kernels are known: without names and locations."""
    copy = kernel.clone()
    unknown = UnknownLoc()
    for op in copy.walk():
        op.location = unknown
        for result in op.results:
            result.name_hint = None
    for arg in copy.args:
        arg.name_hint, arg.location = None, unknown
    copy.properties["sym_name"] = StringAttr("kernel")
    return print_ir(copy)


def kernel_hash(kernel: KernelOp) -> str:
    """The sha256 of what the kernel computes and how it walks, whatever its name, its sizes' names and its schedule."""
    return hashlib.sha256(_open_text(kernel).encode()).hexdigest()


def family_hash(kernel: KernelOp) -> str:
    """The same hash for kernels that differ in numbers only, such as the extents of their loops."""
    return hashlib.sha256(re.sub(r"(?<![\w%])\d+", "#", _open_text(kernel)).encode()).hexdigest()


def size_positions(kernel: KernelOp) -> dict[str, str]:
    """The names that hashes know the kernel's sizes by, ``n0``, ``n1`` …, in the order in which it uses them."""
    text = kernel_text(kernel)
    first = {name: match.start() for name in kernel.size_names if (match := re.search(rf"(?<!%)\b{name}\b", text))}
    return {name: f"n{i}" for i, name in enumerate(sorted(first, key=lambda name: first[name]))}


def _open_text(kernel: KernelOp) -> str:
    copy = kernel.clone()
    copy.properties.pop("schedule", None)
    names = size_positions(copy)
    text = kernel_text(copy)
    return re.sub(rf"(?<!%)\b({'|'.join(map(re.escape, names))})\b", lambda m: names[m[1]], text) if names else text
