"""Element types: one row each, read by the importer, the interpreter and every printer.

No torch here: `torch_name` is text, looked up where torch is used.
"""

import math
import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class DType:
    """One element type.

    `kind` is one of ``float``, ``int``, ``uint``, ``bool``, ``complex``; `compute` names the type that scalar
    arithmetic on it happens in (halves compute in f32 and round when the value is stored, as ATen does).
    """

    name: str
    torch_name: str
    itemsize: int
    kind: str
    compute: str

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")


DTYPES: dict[str, DType] = {
    row.name: row
    for row in (
        DType("f64", "float64", 8, "float", "f64"),
        DType("f32", "float32", 4, "float", "f32"),
        DType("bf16", "bfloat16", 2, "float", "f32"),
        DType("f16", "float16", 2, "float", "f32"),
        DType("f8e4m3", "float8_e4m3fn", 1, "float", "f32"),
        DType("f8e5m2", "float8_e5m2", 1, "float", "f32"),
        DType("i64", "int64", 8, "int", "i64"),
        DType("i32", "int32", 4, "int", "i32"),
        DType("i16", "int16", 2, "int", "i16"),
        DType("i8", "int8", 1, "int", "i8"),
        DType("u8", "uint8", 1, "uint", "u8"),
        DType("bool", "bool", 1, "bool", "bool"),
        DType("c64", "complex64", 8, "complex", "c64"),
        DType("c128", "complex128", 16, "complex", "c128"),
    )
}

BY_TORCH_NAME: dict[str, str] = {row.torch_name: row.name for row in DTYPES.values()}


def dtype(name: str) -> DType:
    return DTYPES[name]


def itemsize(name: str) -> int:
    """Bytes of one element."""
    return DTYPES[name].itemsize


def compute_dtype(name: str) -> str:
    """The type in which scalar arithmetic on `name` is done."""
    return DTYPES[name].compute


def _round_bf16(value: float) -> float:
    if math.isnan(value) or math.isinf(value):
        return value
    try:
        bits = struct.unpack("<I", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def _round_struct(code: str, value: float) -> float:
    try:
        return struct.unpack(f"<{code}", struct.pack(f"<{code}", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def round_to(name: str, value: float | int | bool) -> float | int | bool:
    """`value` as the nearest element of type `name` (integers wrap, as in C)."""
    row = DTYPES[name]
    if row.kind == "bool":
        return bool(value)
    if row.kind == "float":
        value = float(value)
        if name == "f64":
            return value
        if name == "bf16":
            return _round_bf16(_round_struct("f", value))
        return _round_struct({"f32": "f", "f16": "e"}[name], value)
    if row.is_integer:
        bits = row.itemsize * 8
        wrapped = int(value) & ((1 << bits) - 1)
        return wrapped - (1 << bits) if row.kind == "int" and wrapped >> (bits - 1) else wrapped
    raise ValueError(f"no rounding is defined for {name}")
