"""Keys by which equal ops are known, so that what is found out about one layer of a model holds for all like it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from xdsl.ir import Attribute, Operation, SSAValue

Row = tuple[int, tuple[SSAValue, ...], tuple[SSAValue, ...]]


class Structure:
    """Numbers what ops are and makes keys of the numbers. One for each thing that is remembered: keys do not compare
    across two of them. Ops must not change meanwhile, and must not hold regions."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, int] = {}
        self._types: dict[Attribute, int] = {}
        self._rows: dict[Operation, Row] = {}

    def key(self, ops: Sequence[Operation], values: Iterable[SSAValue]) -> Hashable:
        """Equal for lists of ops that compute the same, `values` of which are asked for, but for where they stand:
        names, locations, and which values of the same type they read from outside."""
        numbers: dict[SSAValue, int] = {}
        key: list[int] = []
        for op in ops:
            kind, operands, results = self._rows.get(op) or self._row(op)
            key.append(kind)
            for operand in operands:
                number = numbers.get(operand)
                if number is None:  # from outside: all that counts is its type, and where it is read again
                    number = numbers[operand] = len(numbers)
                    key.append(-1 - self._type(operand.type))
                key.append(number)
            for result in results:
                numbers[result] = len(numbers)
        return tuple(key), tuple([numbers[value] for value in values])

    def _row(self, op: Operation) -> Row:
        assert not op.regions, op.name
        results, operands = tuple(op.results), tuple(op.operands)
        types = tuple([result.type for result in results])
        what = (op.name, len(operands), types, *op.properties.items(), *op.attributes.items())
        row = self._rows[op] = (self._kinds.setdefault(what, len(self._kinds)), operands, results)
        return row

    def _type(self, type: Attribute) -> int:
        return self._types.setdefault(type, len(self._types))
