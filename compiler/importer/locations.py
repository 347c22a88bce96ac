"""Where in the user's model a node comes from, and how its values are called."""

from __future__ import annotations

import os
import re
from functools import lru_cache

import torch
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, LocationAttr, NameLoc, StringAttr

from tilewright.ir.text import UNKNOWN

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
# Dynamo spells the path to a parameter into its placeholder's name.
_NOISE = re.compile(r"(^|_)(L|self|modules|parameters|buffers)(?=_)|_+$")


@lru_cache(maxsize=4096)
def source_line(stack_trace: str) -> FileLineColLoc | None:
    """The innermost frame outside torch (inside it, where there is no other), or None without frames."""
    frames = _FRAME.findall(stack_trace)
    if not frames:
        return None
    path, line = next((f for f in reversed(frames) if not f[0].startswith(_TORCH)), frames[-1])
    return FileLineColLoc(StringAttr(os.path.basename(path)), IntAttr(int(line)), IntAttr(0))


def location_of(node: torch.fx.Node) -> LocationAttr:
    """The node's name over its line in the model."""
    line = source_line(node.meta.get("stack_trace") or "")
    return NameLoc(StringAttr(node.name), line if line is not None else UNKNOWN)


def name_hint(name: str) -> str:
    """A name for a value: `addmm_4` gives `addmm`, since printing numbers values that share a name."""
    hint = re.sub(r"\W", "_", name).strip("_")
    hint = re.sub(r"(_\d+)+$", "", hint)
    return hint if hint.isidentifier() else f"v{hint}"


def argument_hint(name: str) -> str:
    """`L_self_modules_encoder_parameters_weight_` gives `encoder_weight`."""
    short = re.sub(r"_+", "_", _NOISE.sub("", name)).strip("_")
    return name_hint(short or name)
