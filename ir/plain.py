"""Modules as plain data (lists, dicts, texts, numbers) and back: what is kept on disk where parsing would take long.

Attributes stand in a table, each once; values and ops refer to it by number. Values are numbered in the order in which
they are defined. What comes back is equal to what was given, locations and names included; it is not verified again,
so only data whose origin is known may be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    FileLineColLoc,
    FusedLoc,
    IntAttr,
    LocationAttr,
    ModuleOp,
    NameLoc,
    Signedness,
    SignednessAttr,
    StringAttr,
)
from xdsl.ir import Attribute, Block, Operation, ParametrizedAttribute, Region, SSAValue

from .expr import parse
from .text import UNKNOWN, context
from .types import DimsAttr, ScalarAttr

Plain = Any  # what JSON can say

_UNLISTED: tuple[type[Attribute], ...] = (FileLineColLoc, FusedLoc, NameLoc, SignednessAttr)  # by any dialect
_SCALARS: tuple[type[Attribute], ...] = (StringAttr, IntAttr, ScalarAttr)


def to_plain(module: ModuleOp) -> Plain:
    """The module as plain data. Raises TypeError for an attribute that has no such form."""
    writer = _Writer()
    return {"op": writer.op(module), "attributes": writer.table}


def from_plain(data: Plain) -> ModuleOp:
    """The module that `to_plain` was given."""
    module = _Reader(data["attributes"]).op(data["op"])
    assert isinstance(module, ModuleOp)
    return module


class _Writer:
    def __init__(self) -> None:
        self.table: list[Plain] = []
        self.numbers: dict[Attribute, int] = {}
        self.values: dict[SSAValue, int] = {}

    def attribute(self, attribute: Attribute) -> int:
        number = self.numbers.get(attribute)
        if number is None:
            row = [attribute.name, self.payload(attribute)]  # first: what it is made of stands before it
            number = self.numbers[attribute] = len(self.table)
            self.table.append(row)
        return number

    def payload(self, attribute: Attribute) -> Plain:
        if isinstance(attribute, ParametrizedAttribute):
            return [self.attribute(a) for a in attribute.parameters]
        if isinstance(attribute, ArrayAttr):
            return [self.attribute(a) for a in attribute.data]
        if isinstance(attribute, DictionaryAttr):
            return self.dictionary(attribute.data)
        if isinstance(attribute, DimsAttr):
            return [d if isinstance(d, int) else str(d) for d in attribute.data]
        if isinstance(attribute, _SCALARS):
            return attribute.data  # type: ignore[attr-defined]
        if isinstance(attribute, SignednessAttr):
            return attribute.data.value
        raise TypeError(f"attribute {attribute} has no plain form")

    def dictionary(self, attributes: Mapping[str, Attribute]) -> dict[str, int]:
        return {name: self.attribute(a) for name, a in attributes.items()}

    def define(self, value: SSAValue) -> list[Plain]:
        self.values[value] = len(self.values)
        return [self.attribute(value.type), value.name_hint]

    def op(self, op: Operation) -> Plain:
        operands = [self.values[o] for o in op.operands]
        regions = [[self.block(block) for block in region.blocks] for region in op.regions]
        # After the regions: their values are not seen outside, and the op's own not inside.
        results = [self.define(r) for r in op.results]
        return [
            op.name, operands, results, self.dictionary(op.properties), self.dictionary(op.attributes), regions,
            self.location(op.location),
        ]

    def block(self, block: Block) -> Plain:
        arguments = [[*self.define(a), self.location(a.location)] for a in block.args]
        return [arguments, [self.op(op) for op in block.ops]]

    def location(self, location: LocationAttr) -> int | None:
        return None if location == UNKNOWN else self.attribute(location)


@lru_cache(maxsize=1)
def _op_classes() -> dict[str, type[Operation]]:
    return {op.name: op for op in context().loaded_ops}


@lru_cache(maxsize=1)
def _attribute_classes() -> dict[str, type[Attribute]]:
    known = context()
    return {attribute.name: attribute for attribute in (*known.loaded_attrs, *known.loaded_types, *_UNLISTED)}


class _Reader:
    def __init__(self, table: list[Plain]):
        self.attributes: list[Attribute] = []
        self.values: list[SSAValue] = []
        self.ops = _op_classes()
        classes = _attribute_classes()
        for name, payload in table:
            self.attributes.append(self.attribute(classes[name], payload))

    def attribute(self, kind: type[Attribute], payload: Plain) -> Attribute:
        if issubclass(kind, ParametrizedAttribute):
            return kind.new([self.attributes[i] for i in payload])
        make: Callable[..., Attribute] = kind  # of one argument, its data
        if kind is ArrayAttr:
            return make(tuple(self.attributes[i] for i in payload))
        if kind is DictionaryAttr:
            return make(self.dictionary(payload))
        if kind is DimsAttr:
            return make(d if isinstance(d, int) else parse(d) for d in payload)
        return make(Signedness(payload) if kind is SignednessAttr else payload)

    def dictionary(self, payload: Mapping[str, int]) -> dict[str, Attribute]:
        return {name: self.attributes[i] for name, i in payload.items()}

    def location(self, number: int | None) -> LocationAttr:
        found = UNKNOWN if number is None else self.attributes[number]
        assert isinstance(found, LocationAttr)
        return found

    def op(self, data: Plain) -> Operation:
        name, operands, results, properties, attributes, regions, location = data
        given = [self.values[i] for i in operands]
        inside = [Region([self.block(block) for block in region]) for region in regions]
        made = self.ops[name].create(
            operands=given, result_types=[self.attributes[type] for type, _ in results],
            properties=self.dictionary(properties), attributes=self.dictionary(attributes), regions=inside,
            location=self.location(location),
        )
        for result, (_, hint) in zip(made.results, results):
            result.name_hint = hint
            self.values.append(result)
        return made

    def block(self, data: Plain) -> Block:
        arguments, ops = data
        block = Block(arg_types=[self.attributes[type] for type, _, _ in arguments])
        for argument, (_, hint, location) in zip(block.args, arguments):
            argument.name_hint, argument.location = hint, self.location(location)
            self.values.append(argument)
        for op in ops:
            block.add_op(self.op(op))
        return block
