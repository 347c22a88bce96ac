"""What one run knows: values, sizes, precision; and the loop that runs a block of ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Block, Operation, SSAValue
from xdsl.traits import IsTerminator

from ..dtypes import DTYPES
from ..errors import InterpreterError
from ..expr import Expr, IntExpr, evaluate
from ..text import file_lines
from ..tile import KernelOp
from ..types import TensorType

if TYPE_CHECKING:
    import torch

NATIVE, F64 = "native", "f64"
PRECISIONS = (NATIVE, F64)

Rule = Callable[..., Any]


@dataclass
class Environment:
    """The state of one run.

    `precision` is ``native`` or ``f64`` (every float dtype is float64 and every complex one complex128). `sizes`
    are the values of symbols. `rules` says how each op class runs; `memory` is the prog level's record of the arena.
    """

    precision: str
    device: Any
    sizes: dict[str, int] = field(default_factory=dict)
    values: dict[SSAValue, Any] = field(default_factory=dict)
    kernels: Mapping[str, KernelOp] = field(default_factory=dict)
    rules: Mapping[type[Operation], Rule] = field(default_factory=dict)
    memory: dict[SSAValue, Any] = field(default_factory=dict)

    def dtype(self, name: str) -> torch.dtype:
        """The torch dtype in which this run holds elements of type `name`."""
        import torch

        row = DTYPES[name]
        if self.precision == F64 and row.kind in ("float", "complex"):
            return torch.float64 if row.kind == "float" else torch.complex128
        return getattr(torch, row.torch_name)

    def size(self, expr: IntExpr) -> int:
        """The number. Raises InterpreterError when a symbol has no value."""
        try:
            return evaluate(expr, self.sizes)
        except KeyError as error:
            raise InterpreterError(error.args[0]) from None

    def shape(self, exprs: Sequence[IntExpr]) -> tuple[int, ...]:
        return tuple(self.size(e) for e in exprs)

    def write(self, result: SSAValue, value: Any) -> None:
        """Keep a result, after checking that it is what its type says.

        What nobody reads is not checked: library calls leave such results out, whatever tracing says of them.
        """
        if isinstance(result.type, TensorType) and result.uses:
            self.bind(result.type.shape, value)
            self.check_tensor(value, result.type.shape, result.type.dtype)
        self.values[result] = value

    def bind(self, shape: Sequence[IntExpr], value: torch.Tensor) -> None:
        """Learn symbols without a value from a tensor's sizes: `[s0, ...]` says what s0 is."""
        if len(shape) != value.dim():
            return
        for dim, size in zip(shape, value.shape):
            if isinstance(dim, Expr) and str(dim).isidentifier():
                self.sizes.setdefault(str(dim), int(size))

    def check_tensor(self, value: torch.Tensor, shape: Sequence[IntExpr], dtype: str) -> None:
        wanted = self.shape(shape)
        if tuple(value.shape) != wanted:
            raise InterpreterError(f"the value has shape {list(value.shape)}, the type says {list(wanted)}")
        if value.dtype != self.dtype(dtype):
            raise InterpreterError(f"the value has dtype {value.dtype}, the type says {self.dtype(dtype)}")


def describe(op: Operation) -> str:
    """`tw.map "mul" (model.py:12)`: an op as errors name it."""
    for key in ("fn", "target", "sym_name", "kernel"):
        if (attribute := op.properties.get(key)) is not None:
            name = attribute.data if isinstance(attribute, StringAttr) else attribute
            text = f'{op.name} "{name}"'
            break
    else:
        text = op.name
    lines = file_lines(op.location)
    return f"{text} ({', '.join(lines)})" if lines else text


def value_name(value: SSAValue) -> str:
    """`%x`, or words for a value without a name."""
    return f"%{value.name_hint}" if value.name_hint else "an unnamed buffer"


def run_block(block: Block, env: Environment) -> list[Any]:
    """Run a block's ops in order: read the operands, look up the rule, write the results. Returns what it ends with."""
    dying = _last_uses(block)
    for op in block.ops:
        operands = [env.values[operand] for operand in op.operands]
        if op.has_trait(IsTerminator):
            return operands
        rule = env.rules.get(type(op))
        if rule is None:
            raise InterpreterError(f"{describe(op)} has no meaning here")
        with located(op):
            _write_all(op, rule(op, env, *operands), env)
        for value in dying.get(op, ()):
            del env.values[value]
    return []


class _LocatedError(InterpreterError):
    """An InterpreterError that names its op already."""


@contextmanager
def located(op: Operation) -> Iterator[None]:
    """What goes wrong inside becomes an InterpreterError that names `op`: the innermost one, and the kernel around it.

    IndexError passes: it is what a position outside a tensor means in the model as well.
    """
    try:
        yield
    except IndexError:
        raise
    except _LocatedError as error:
        if not isinstance(op, KernelOp):
            raise
        raise _LocatedError(f"{describe(op)}: {error}") from None
    except InterpreterError as error:
        raise _LocatedError(f"{describe(op)}: {error}") from None
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise _LocatedError(f"{describe(op)}: {type(error).__name__}: {error}") from error


def _write_all(op: Operation, results: Any, env: Environment) -> None:
    values = list(results) if isinstance(results, (tuple, list)) else [] if results is None else [results]
    if len(values) != len(op.results):
        raise InterpreterError(f"gave {len(values)} results, the op has {len(op.results)}")
    for result, value in zip(op.results, values):
        env.write(result, value)


def _last_uses(block: Block) -> dict[Operation, list[SSAValue]]:
    """For each op the block's own values that nothing later uses, so that a run holds only what is alive."""
    last: dict[SSAValue, Operation] = {}
    for op in block.ops:
        for result in op.results:
            last[result] = op
        for inner in op.walk():
            for operand in inner.operands:
                if operand in last or operand.owner is block:
                    last[operand] = op
    dying: dict[Operation, list[SSAValue]] = {}
    for value, op in last.items():
        dying.setdefault(op, []).append(value)
    return dying


