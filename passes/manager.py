"""Runs passes: measures each, checks what it leaves, writes dumps, and says what went wrong where.

A dump is the IR with its provenance on line 1::

    // tilewright 0.1.0; after pass 3 of 9: fuse{max_inputs=8}; pipeline "cse,dce,fuse"; target cpu avx512;
       reproduce: tilewright opt 02_dce.mlir -p "fuse{max_inputs=8}"
"""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from tilewright.ir.cost import count_ops, module_cost, peak_bytes
from tilewright.ir.errors import (
    NumericMismatchError,
    OptionValueError,
    PassError,
    TilewrightError,
    VerifyError,
    nearest,
)
from tilewright.ir.stages import STAGES, stage_of, verify_stage
from tilewright.ir.target import Target
from tilewright.ir.text import ops_around, print_ir
from tilewright.ir.version import VERSION

from .base import Pass, PassContext
from .pipelines import pass_text

VERIFY_LEVELS = ("off", "ir", "numeric")


class Verifier(Protocol):
    """What checks numbers: `passes/verify.NumericVerifier`."""

    def check(self, module: ModuleOp, stage: str, numerics: str) -> None:
        """Raise NumericMismatchError where `module` computes something else than at the last check."""


@dataclass(frozen=True)
class Measure:
    """A module in numbers: op count, arithmetic, bytes moved by one call, launches, predicted peak memory."""

    ops: int
    flops: int
    bytes: int
    kernels: int
    peak_bytes: int

    @staticmethod
    def of(module: ModuleOp, sizes: dict[str, int]) -> Measure:
        cost = module_cost(module, sizes)
        return Measure(count_ops(module), cost.flops, cost.bytes_moved, cost.launches, peak_bytes(module, sizes))


@dataclass(frozen=True)
class PassRecord:
    """What one pass did. `seconds` is the pass alone, `verify_seconds` the checks after it; `dump` the file, if any.

    `measures` gives the measures of the module as it came and after each pass, of which this one is number `position`.
    """

    name: str
    entry: str
    numerics: str
    seconds: float
    verify_seconds: float
    position: int
    measures: Callable[[], Sequence[Measure]] = field(repr=False, compare=False)
    dump: str | None = None

    @property
    def before(self) -> Measure:
        """The module before the pass. Measured when it is asked for: the passes run once more for that."""
        return self.measures()[self.position - 1]

    @property
    def after(self) -> Measure:
        """The module after the pass."""
        return self.measures()[self.position]

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data: ``ops_before``, ``ops_after``, and so on for each measure."""
        row: dict[str, Any] = {
            "name": self.name, "entry": self.entry, "numerics": self.numerics, "seconds": self.seconds,
            "verify_seconds": self.verify_seconds,
        }
        after = asdict(self.after)
        for key, value in asdict(self.before).items():
            row[f"{key}_before"], row[f"{key}_after"] = value, after[key]
        return {**row, "dump": self.dump}


class PassManager:
    """Runs `passes` over a module.

    `verify`: ``off``; ``ir``: after each pass the module must be legal at its stage; ``numeric``: also run the IR
    before and after each pass and compare in the class that the pass claims, on `inputs` (random ones where None). A
    `verifier` made before, by who checked the import with it, is taken as it is; the one in use stays in
    `self.verifier`. `dump_dir`: where numbered dumps go. `observer` is called with ``(position, entry, module)`` after
    each pass, and first with ``(0, "import", module)``.
    """

    def __init__(
        self,
        passes: Sequence[Pass],
        context: PassContext,
        *,
        verify: str = "off",
        dump_dir: str | Path | None = None,
        inputs: Sequence[Any] | None = None,
        verifier: Verifier | None = None,
        observer: Callable[[int, str, ModuleOp], None] | None = None,
    ):
        if verify not in VERIFY_LEVELS:
            raise OptionValueError(
                f"verify is one of {', '.join(VERIFY_LEVELS)}, not {verify!r}{nearest(verify, VERIFY_LEVELS)}"
            )
        self.passes = list(passes)
        self.context = context
        self.verify = verify
        self.dump_dir = Path(dump_dir) if dump_dir is not None else None
        self.inputs = inputs
        self.verifier = verifier
        self.observer = observer

    def run(self, module: ModuleOp) -> list[PassRecord]:
        """Run every pass, in place, and return a record of each.

        Raises PassError where a pass fails or leaves IR that is not legal, naming the pass, a file with the last good
        IR, and the ops around the bad one. Errors of the catalogue that a pass or the numeric check raises keep their
        class, with the same facts as a note.
        """
        self._check_before(module)
        # Passes work in place: this is what the last good IR is rebuilt from where one fails.
        self.original = module.clone()
        dump = self._dump(0, module)
        if self.observer is not None:
            self.observer(0, "import", module)
        records: list[PassRecord] = []
        stage = stage_of(module)
        for position, item in enumerate(self.passes, 1):
            started = time.perf_counter()
            try:
                item.run(module, self.context)
                finished = time.perf_counter()
                stage = self._check_after(module, item, stage)
                verified = time.perf_counter()
            except MemoryError:
                raise  # says nothing about the pass, and telling more about it takes memory
            except Exception as error:
                raise self._failure(error, position, dump) from error
            dump = self._dump(position, module)
            if self.observer is not None:
                self.observer(position, pass_text(item), module)
            records.append(
                PassRecord(
                    item.name, pass_text(item), item.numerics, finished - started, verified - finished, position,
                    lambda: self.measures, str(dump) if dump else None,
                )
            )
        return records

    @cached_property
    def measures(self) -> list[Measure]:
        """The module in numbers, as it came and after each pass."""
        sizes = dict(self.context.sizes)
        return [Measure.of(module, sizes) for _, _, module in self.replay()]

    def _check_before(self, module: ModuleOp) -> None:
        if self.verify == "off":
            return
        verify_stage(module, stage_of(module))
        if self.verify == "numeric" and self.verifier is None:
            from .verify import NumericVerifier

            self.verifier = NumericVerifier(self.inputs, module)

    def _check_after(self, module: ModuleOp, item: Pass, stage: str) -> str:
        """Verify what `item` left of a module that was at `stage`; the stage it is at now. There is no way back."""
        stage = max(stage, stage_of(module), key=STAGES.index)
        if self.verify != "off":
            verify_stage(module, stage)
        if self.verify == "numeric":
            assert self.verifier is not None
            self.verifier.check(module, pass_text(item), item.numerics)
        return stage

    def _dump(self, position: int, module: ModuleOp, directory: Path | None = None) -> Path | None:
        directory = directory or self.dump_dir
        if directory is None:
            return None
        entries = [pass_text(item) for item in self.passes]
        return write_dump(directory, position, entries, self.context.target, print_ir(module))

    def _failure(self, error: Exception, position: int, good: Path | None) -> TilewrightError:
        """The error to raise for what pass `position` raised."""
        if good is None:
            good = self._rebuild(position - 1)
        entry = pass_text(self.passes[position - 1])
        what = f"pass {position} of {len(self.passes)}, {entry},"
        where = [f"  the IR before it: {good}", f"  to see it again: {_reproduce(good, entry)}"] if good else []
        where += _neighbours(getattr(error, "op", None))
        if isinstance(error, NumericMismatchError):
            where += self._rules_that_fired(position)
        if isinstance(error, TilewrightError) and not isinstance(error, VerifyError):
            error.add_note("\n".join([f"  in {what[:-1]}", *where]))
            return error
        reason = f"left illegal IR: {error}" if isinstance(error, VerifyError) else f"failed: {_one_line(error)}"
        return PassError("\n".join([f"{what} {reason}", *where]))

    def _rules_that_fired(self, position: int) -> list[str]:
        """A line that names the rules that pass `position` has applied, where it is one of rules."""
        rows = self.context.statistics.get(self.passes[position - 1].name, {})
        names = [rule for rule, row in rows.items() if isinstance(row, dict) and row["fired"]]
        return [f"  rules that fired in it: {', '.join(map(repr, names))}"] if names else []

    def _rebuild(self, position: int) -> Path:
        """Dump the IR after pass `position` in a fresh folder, by running the passes again over the module as it came.

        Without `dump_dir` no text was printed on the way: it would cost more than most passes.
        """
        for _, _, module in self.replay(position):
            path = self._dump(position, module, Path(tempfile.mkdtemp(prefix="tilewright-")))
        assert path is not None
        return path

    def replay(self, last: int | None = None) -> Iterator[tuple[int, str, ModuleOp]]:
        """`(position, entry, module)` as the observer saw them, once more, up to pass `last` (all of them if None).

        Yields one module that changes from step to step.
        """
        module = self.original.clone()
        context = PassContext(self.context.target, self.context.options, self.context.sizes)
        yield 0, "import", module
        for position, item in enumerate(self.passes[:last], 1):
            item.run(module, context)
            yield position, pass_text(item), module


def write_dump(directory: Path, position: int, entries: Sequence[str], target: Target, text: str) -> Path:
    """Write the IR after entry `position` of a pipeline (0: before any) as ``03_fuse.mlir``, with its provenance.

    Raises OptionValueError where the directory cannot be written.
    """
    path = directory / _dump_name(position, entries)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{_provenance(position, entries, target)}\n{text}", encoding="utf-8")
    except OSError as error:
        raise OptionValueError(
            f"dump_ir: {path} cannot be written ({error.strerror}); name a directory that can be"
        ) from None
    return path


def _dump_name(position: int, entries: Sequence[str]) -> str:
    name = entries[position - 1].partition("{")[0].replace("-", "_") if position else "import"
    return f"{position:02}_{name}.mlir"


def _provenance(position: int, entries: Sequence[str], target: Target) -> str:
    parts = [f"// tilewright {VERSION}", "import"]
    if position:
        parts[1] = f"after pass {position} of {len(entries)}: {entries[position - 1]}"
    parts.append(f'pipeline "{",".join(entries)}"')
    parts.append(f"target {target.name}" + (f" {target.isa}" if target.isa != target.name else ""))
    if position:
        parts.append(f"reproduce: {_reproduce(_dump_name(position - 1, entries), entries[position - 1])}")
    return "; ".join(parts)


def _reproduce(file: str | Path, entry: str) -> str:
    quoted = entry.replace('"', '\\"')
    return f'tilewright opt {file} -p "{quoted}"'


def _neighbours(op: Operation | None) -> list[str]:
    """Lines that show `op` among its neighbours; none where it is not known, or too broken to print."""
    if op is None:
        return []
    try:
        shown = ops_around(op)
    except Exception:  # the error to tell about is another one
        return []
    return ["  the ops around the bad one:", *(f"    {line}" for line in shown.splitlines())]


def _one_line(error: Exception) -> str:
    """What was raised, and the line of code it was raised at."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{f': {error}' if str(error) else ''}{place}"
