"""Types and attributes shared by the dialects: tensors with symbolic dims, buffers, pointers, integer expressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

from xdsl.dialects import builtin
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, Data, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import BaseAttr, irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from .dtypes import DTYPES, itemsize
from .expr import Expr, IntExpr, parse, product


def parse_dim(parser: AttrParser) -> IntExpr:
    """An int, a bare name, or a quoted expression."""
    text = parser.parse_optional_identifier()
    if text is None:
        text = parser.parse_optional_str_literal()
    if text is not None:
        try:
            return parse(text)
        except ValueError as error:
            parser.raise_error(str(error))
    return parser.parse_integer(allow_boolean=False)


def dim_text(dim: IntExpr) -> str:
    """How a dim prints: ints and names bare, everything else quoted."""
    text = str(dim)
    return text if isinstance(dim, int) or text.isidentifier() else f'"{text}"'


def dims_text(dims: Iterable[IntExpr]) -> str:
    return f"[{', '.join(dim_text(d) for d in dims)}]"


@irdl_attr_definition
class DimsAttr(Data[tuple[IntExpr, ...]]):
    """`#tw.dims<[2, s0, "2*s0 + 1"]>`: a list of integer expressions (dims, strides, offsets, axes)."""

    name = "tw.dims"

    def __init__(self, data: Iterable[IntExpr]):
        super().__init__(tuple(data))

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[IntExpr, ...]:
        with parser.in_angle_brackets():
            return tuple(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_dim(parser)))

    def print_parameter(self, printer: Printer) -> None:
        printer.print_string(f"<{dims_text(self.data)}>")

    def verify(self) -> None:
        if not all(type(d) in (int, Expr) for d in self.data):
            raise VerifyException(f"dims must be integer expressions, got {self.data!r}")

    def ints(self) -> tuple[int, ...]:
        """The entries as ints. Raises ValueError where one is symbolic."""
        if not all(isinstance(d, int) for d in self.data):
            raise ValueError(f"{dims_text(self.data)} is not constant")
        return tuple(d for d in self.data if isinstance(d, int))


@irdl_attr_definition
class ScalarAttr(Data[bool | int | float]):
    """`#tw.scalar<-inf>`: a Python number of any kind, printed so that it reads back bit for bit."""

    name = "tw.scalar"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> bool | int | float:
        with parser.in_angle_brackets():
            return parse_scalar(parser)

    def print_parameter(self, printer: Printer) -> None:
        printer.print_string(f"<{scalar_text(self.data)}>")

    def __eq__(self, other: object) -> bool:
        # 1, 1.0 and True are different constants; nan equals itself; 0.0 differs from -0.0.
        return isinstance(other, ScalarAttr) and scalar_text(self.data) == scalar_text(other.data)

    def __hash__(self) -> int:
        return hash(scalar_text(self.data))


def parse_scalar(parser: AttrParser) -> bool | int | float:
    """Read what `scalar_text` printed."""
    if parser.parse_optional_keyword("true"):
        return True
    if parser.parse_optional_keyword("false"):
        return False
    if (text := parser.parse_optional_str_literal()) is not None:
        if text not in ("inf", "-inf", "nan"):
            parser.raise_error(f"{text!r} is not a number")
        return float(text)
    return parser.parse_number(allow_boolean=False)


def scalar_text(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        return f'"{text}"'
    mantissa, _, exponent = text.partition("e")
    if "." not in mantissa:
        mantissa += ".0"
    return mantissa + (f"e{exponent}" if exponent else "")


def _parse_dtype(parser: AttrParser) -> StringAttr:
    name = parser.parse_identifier("dtype")
    if name not in DTYPES:
        parser.raise_error(f"{name!r} is not a dtype")
    return StringAttr(name)


def _parse_shape_and_dtype(parser: AttrParser) -> list[Attribute]:
    """``<[2, s0], f32>``"""
    with parser.in_angle_brackets():
        dims = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_dim(parser))
        parser.parse_punctuation(",")
        return [DimsAttr(dims), _parse_dtype(parser)]


@irdl_attr_definition
class TensorType(ParametrizedAttribute, TypeAttribute):
    """`!tw.tensor<[s0, 128, "2*s0 + 1"], f32>`: shape and element type of a logical tensor.

    Layout is not part of the type: strides of what enters, leaves, or comes from an opaque call are op attributes.
    """

    name = "tw.tensor"
    dims: DimsAttr = param_def(BaseAttr(DimsAttr))
    element: StringAttr = param_def(BaseAttr(StringAttr))

    @classmethod
    def get(cls, shape: Sequence[IntExpr], dtype: str) -> TensorType:
        return cls(DimsAttr(shape), StringAttr(dtype))

    @property
    def shape(self) -> tuple[IntExpr, ...]:
        return self.dims.data

    @property
    def dtype(self) -> str:
        return self.element.data

    @property
    def rank(self) -> int:
        return len(self.dims.data)

    @property
    def numel(self) -> IntExpr:
        return product(self.shape)

    @property
    def nbytes(self) -> IntExpr:
        return self.numel * itemsize(self.dtype)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        return _parse_shape_and_dtype(parser)

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{dims_text(self.shape)}, {self.dtype}>")

    def verify(self) -> None:
        if self.dtype not in DTYPES:
            raise VerifyException(f"{self.dtype!r} is not a dtype")
        if any(isinstance(d, int) and d < 0 for d in self.shape):
            raise VerifyException(f"negative size in {dims_text(self.shape)}")


@irdl_attr_definition
class BufferType(ParametrizedAttribute, TypeAttribute):
    """`!prog.buffer<[2, 3], [3, 1], f32>`: a strided view of memory; strides count elements."""

    name = "prog.buffer"
    dims: DimsAttr = param_def(BaseAttr(DimsAttr))
    stride_dims: DimsAttr = param_def(BaseAttr(DimsAttr))
    element: StringAttr = param_def(BaseAttr(StringAttr))

    @classmethod
    def get(cls, shape: Sequence[IntExpr], strides: Sequence[IntExpr], dtype: str) -> BufferType:
        return cls(DimsAttr(shape), DimsAttr(strides), StringAttr(dtype))

    @property
    def shape(self) -> tuple[IntExpr, ...]:
        return self.dims.data

    @property
    def strides(self) -> tuple[IntExpr, ...]:
        return self.stride_dims.data

    @property
    def dtype(self) -> str:
        return self.element.data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        with parser.in_angle_brackets():
            dims = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_dim(parser))
            parser.parse_punctuation(",")
            strides = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_dim(parser))
            parser.parse_punctuation(",")
            return [DimsAttr(dims), DimsAttr(strides), _parse_dtype(parser)]

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{dims_text(self.shape)}, {dims_text(self.strides)}, {self.dtype}>")

    def verify(self) -> None:
        if len(self.shape) != len(self.strides):
            raise VerifyException("a buffer needs one stride per dim")


@irdl_attr_definition
class PackedType(ParametrizedAttribute, TypeAttribute):
    """`!prog.packed<[8, 4, 3, 3], f32>`: a weight in a layout of the library's own, which only the library reads."""

    name = "prog.packed"
    dims: DimsAttr = param_def(BaseAttr(DimsAttr))
    element: StringAttr = param_def(BaseAttr(StringAttr))

    @classmethod
    def get(cls, shape: Sequence[IntExpr], dtype: str) -> PackedType:
        return cls(DimsAttr(shape), StringAttr(dtype))

    @property
    def shape(self) -> tuple[IntExpr, ...]:
        return self.dims.data

    @property
    def dtype(self) -> str:
        return self.element.data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        return _parse_shape_and_dtype(parser)

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{dims_text(self.shape)}, {self.dtype}>")


@irdl_attr_definition
class ArenaType(ParametrizedAttribute, TypeAttribute):
    """`!prog.arena_type`: one block of bytes that temporaries share."""

    name = "prog.arena_type"


class _ElementType(ParametrizedAttribute, TypeAttribute):
    """A type with one parameter, the dtype of an element. Each states it itself: types compare by their own fields."""

    element: StringAttr

    @classmethod
    def get(cls, dtype: str) -> Self:
        return cls(StringAttr(dtype))

    @property
    def dtype(self) -> str:
        return self.element.data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        with parser.in_angle_brackets():
            return [_parse_dtype(parser)]

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{self.dtype}>")


@irdl_attr_definition
class RefType(_ElementType):
    """`!tile.ref<bf16>`: a pointer to elements of one type."""

    name = "tile.ref"
    element: StringAttr = param_def(BaseAttr(StringAttr))


@irdl_attr_definition
class ValueType(_ElementType):
    """`!tile.value<f32>`: one element at the current point of the enclosing loops."""

    name = "tile.value"
    element: StringAttr = param_def(BaseAttr(StringAttr))


def contiguous_strides(shape: Sequence[IntExpr]) -> tuple[IntExpr, ...]:
    """Row-major strides, in elements."""
    strides: list[IntExpr] = []
    step: IntExpr = 1
    for dim in reversed(shape):
        strides.append(step)
        step = step * dim if dim != 0 else step
    return tuple(reversed(strides))


def broadcast_shapes(shapes: Sequence[Sequence[IntExpr]]) -> tuple[IntExpr, ...]:
    """The common shape of numpy-style broadcasting. Raises ValueError where two dims differ and neither is 1."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[IntExpr] = []
    for position in range(rank):
        dim: IntExpr = 1
        for shape in shapes:
            index = position - (rank - len(shape))
            if index < 0 or shape[index] == 1:
                continue
            if dim != 1 and dim != shape[index]:
                raise ValueError(f"shapes {[dims_text(s) for s in shapes]} do not broadcast")
            dim = shape[index]
        result.append(dim)
    return tuple(result)


INDEX = builtin.IndexType()
