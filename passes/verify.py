"""Numeric verification: results before a stage against results after it, in the class of change the stage claims.

Three kinds of stages are checked on the same inputs: the import (`check_reference`), every pass (`check`), and the
compiled program (`check_callable`). Mismatches are settled against the module as imported, run in float64.

Random numbers: every run starts from the same state of torch's generator, so that a `tw.seed` draws the same seed and
what is made from it compares like anything else. Results that depend on draws inside of library calls, or on
uninitialised memory, cannot be compared: they are left out, and listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, SSAValue

from tilewright.ir import tw
from tilewright.ir.calls import decode
from tilewright.ir.errors import InterpreterError, NumericMismatchError
from tilewright.ir.function import result_kinds
from tilewright.ir.interpreter import find_function, run
from tilewright.ir.interpreter.library import find_overload
from tilewright.ir.numerics import compare, random_inputs
from tilewright.ir.text import file_lines

# The model itself computes in the dtypes of ATen's kernels, the imported module op by op; neither is the better one.
IMPORT_FACTOR = 4.0
# Parameters of random calls that are a probability; at 0 nothing is random.
_PROBABILITIES = ("dropout_p", "p")


@contextmanager
def fixed_random_numbers() -> Iterator[None]:
    """Inside, torch's default generator starts from one state; afterwards it is as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


@dataclass(frozen=True)
class SkippedResult:
    """A result that is not compared, and why."""

    index: int
    reason: str


class NumericVerifier:
    """Holds the inputs, the results of the module as imported, and those of the last stage that was checked.

    `inputs` are those of `@forward`, constants included; None means random ones. `skipped` lists what is not compared.
    Raises InterpreterError for a module that does not run on them.
    """

    def __init__(self, inputs: Sequence[Any] | None, module: ModuleOp):
        self.inputs = list(inputs) if inputs is not None else random_inputs(module)
        self.original = module.clone()
        try:
            self.reference = self._run(module)
        except IndexError as error:
            # What the model itself does with such inputs; nothing is compared then.
            raise InterpreterError(f"the IR cannot be run on these inputs to verify it: {error}") from error
        self.skipped = _incomparable(find_function(self.original))
        self._before = self.reference
        self._oracle: list[Any] | None = None

    def oracle(self, index: int) -> Any:
        """Result `index` of the original module in float64."""
        if self._oracle is None:
            self._oracle = self._run(self.original, "f64")
        return self._oracle[index]

    def _run(self, module: ModuleOp, precision: str = "native") -> list[Any]:
        with fixed_random_numbers():
            return run(module, self.inputs, precision=precision)

    def check(self, module: ModuleOp, stage_name: str, numerics: str) -> None:
        """Compare `module`, at any level, with the stage before. Raises NumericMismatchError."""
        after = self._run(module)
        self._compare(after, self._before, stage_name, numerics)
        self._before = after

    def check_callable(
        self, fn: Callable[[list[Any]], Sequence[Any]], stage_name: str, numerics: str = "reassociates"
    ) -> None:
        """Compare a program that takes the list of inputs with the last stage checked. Raises NumericMismatchError."""
        with fixed_random_numbers():
            results = list(fn(list(self.inputs)))
        self._compare(results, self._before, stage_name, numerics)

    def check_reference(
        self, outputs: Sequence[Any], stage_name: str = "import", numerics: str = "reassociates"
    ) -> None:
        """Compare what the model itself gave for the inputs with the module as imported. Raises NumericMismatchError.

        The float64 results are those of the imported module, wrong where the import is, so it is the model's results
        that must not be further from them than the imported module's (times `IMPORT_FACTOR`).
        """
        self._compare(list(outputs), self.reference, stage_name, numerics, IMPORT_FACTOR)

    def _compare(
        self, actual: list[Any], expected: list[Any], stage_name: str, numerics: str, factor: float = 2.0
    ) -> None:
        if len(actual) != len(expected):
            raise NumericMismatchError(f"{stage_name}: {len(actual)} results instead of {len(expected)}")
        left_out = {skipped.index for skipped in self.skipped}
        problems = []
        for index, (a, e) in enumerate(zip(actual, expected)):
            if index in left_out:
                continue
            mismatch = compare(a, e, lambda i=index: self.oracle(i), numerics, factor=factor)
            if mismatch is not None:
                problems.append(f"result {index}{self._origin(index)}: {mismatch}")
        if problems:
            raise NumericMismatchError(
                f"{stage_name} claims to be {numerics!r}, but its results differ from those before it\n  "
                + "\n  ".join(problems)
            )

    def _origin(self, index: int) -> str:
        value = _result_values(find_function(self.original))[index]
        lines = file_lines(value.owner.location) if value is not None and not isinstance(value.owner, Block) else []
        return f" ({', '.join(lines)})" if lines else ""


def _result_values(function: FuncOp) -> list[SSAValue | None]:
    """The returned value behind each Python-level result, None where there is none."""
    last = function.body.block.last_op
    returned = iter(last.operands if last is not None else ())
    return [None if kind == "none" else next(returned) for kind in result_kinds(function)]


def _incomparable(function: FuncOp) -> list[SkippedResult]:
    """The results that follow from random numbers or uninitialised memory."""
    reasons: dict[SSAValue, str] = {}
    _collect_reasons(function.body.block, reasons)
    return [
        SkippedResult(index, reasons[value])
        for index, value in enumerate(_result_values(function))
        if value is not None and value in reasons
    ]


def _collect_reasons(block: Block, reasons: dict[SSAValue, str]) -> None:
    for op in block.ops:
        reason = next((reasons[operand] for operand in op.operands if operand in reasons), None)
        if reason is None and isinstance(op, tw.AtenOp):
            reason = _unpredictable(op.target.data, op.arguments.data)
        if reason is not None:
            reasons.update(dict.fromkeys(op.results, reason))
        if isinstance(op, tw.FusedOp):
            _collect_reasons(op.body.block, reasons)
            for result, inner in zip(op.outputs, op.terminator.args):
                if inner in reasons:
                    reasons[result] = reasons[inner]


def _unpredictable(target: str, arguments: str) -> str | None:
    """Why two runs of a library call give different results, if they do."""
    import torch

    if target.split(".")[1].removeprefix("new_").startswith("empty"):
        return f"{target} gives uninitialised memory"
    overload = find_overload(target)
    if torch.Tag.nondeterministic_seeded not in overload.tags:
        return None
    args, kwargs = decode(arguments, lambda i: i, lambda size: size, lambda tag, name: name)
    for position, parameter in enumerate(overload._schema.arguments):
        if parameter.name in _PROBABILITIES:
            value = args[position] if position < len(args) else kwargs.get(parameter.name, parameter.default_value)
            if value == 0:
                return None
    return f"{target} draws random numbers"
