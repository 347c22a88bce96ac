"""What all ops of `tw` share."""

from __future__ import annotations

from xdsl.ir import SSAValue
from xdsl.irdl import IRDLOperation, ParsePropInAttrDict, operand_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ..types import TensorType


def tensor_type(value: SSAValue) -> TensorType:
    """The tensor type of a value. Raises VerifyException where it is not a tensor."""
    if not isinstance(value.type, TensorType):
        raise VerifyException(f"expected a tw.tensor, got {value.type}")
    return value.type


def require(condition: bool, message: str) -> None:
    if not condition:
        raise VerifyException(message)


class TwOp(IRDLOperation):
    """Base of the dialect's ops."""

    irdl_options = (ParsePropInAttrDict(),)


class ViewOp(TwOp):
    """An op that only says where elements come from."""

    source = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$source attr-dict `:` type($source) `->` type($result)"

    @property
    def in_type(self) -> TensorType:
        return tensor_type(self.source)

    @property
    def out_type(self) -> TensorType:
        return tensor_type(self.result)

    def verify_(self) -> None:
        require(self.in_type.dtype == self.out_type.dtype, "a view keeps the dtype")
