"""Schedules of a program's kernels: from the lockfile, from the user's records, or by measuring."""

from __future__ import annotations

import functools
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from xdsl.dialects.builtin import ModuleOp

from tilewright.autotune.lockfile import Locked, locked_schedule, read_lock, why_not_locked
from tilewright.autotune.lookup import Question, best, nearest_records
from tilewright.autotune.measure import Worker
from tilewright.autotune.records import EFFORTS, Record
from tilewright.autotune.space import Schedule
from tilewright.autotune.store import Contents, Store, user_store
from tilewright.autotune.tuner import Task, Untunable, tune
from tilewright.codegen import native
from tilewright.codegen.cpp import print_file
from tilewright.codegen.cpp.standalone import check_kernel
from tilewright.ir.errors import (
    KernelBuildError,
    NumericMismatchError,
    OptionValueError,
    RecordError,
    UntunedError,
)
from tilewright.ir.target import Target

from .directory import launched_kernels
from .logs import log
from .options import Options

if TYPE_CHECKING:
    from .fallback import AnyCompilation


@dataclass(frozen=True)
class Tuned:
    """A kernel with its record (`is_new`: measured now), or with the reason why it has none."""

    task: Task
    record: Record | None
    is_new: bool = False
    reason: str = ""


def settle_schedules(module: ModuleOp, options: Options, target: Target) -> list[Tuned]:
    """Give the kernels of a program their schedules; those that came from records.

    The lockfile decides first. Then, unless `autotune` is off, the user's records, and measurements of what they lack.
    Raises RecordError for a lockfile that cannot be used, and with `locked` UntunedError for kernels that it lacks.
    """
    if options.locked and options.lockfile is None:
        raise OptionValueError("locked=True needs a lockfile: lockfile=PATH, as `tilewright tune --lockfile` writes it")
    if options.lockfile is None and options.autotune == "off":
        return []
    lines = _lines(options.lockfile) if options.lockfile is not None else []
    missing = []
    for task in tasks_in(module, target):
        schedule = locked_schedule(lines, task.question)
        if schedule is None:
            missing.append(task)
        elif schedule:
            task.kernel.set_schedule(schedule)
    missing = [task for task in missing if not task.sizes]  # these keep the default
    if options.locked and missing:
        raise UntunedError(
            f"locked, and {options.lockfile} has no schedule for:\n"
            + "\n".join(f"  {t.question.name}: {why_not_locked(lines, t.question)}" for t in missing)
            + f"\nRun `tilewright tune SPEC --lockfile {options.lockfile}` on this machine, or compile without locked."
        )
    if options.autotune == "off":
        return []
    tuned = tune_all(missing, options.autotune, user_store())
    for each in tuned:
        if each.record is None:
            log.info("%s keeps the default schedule: %s", each.task.question.name, each.reason)
        elif each.record.schedule:
            each.task.kernel.set_schedule(each.record.schedule)
    return tuned


def _lines(path: Path) -> list[Locked]:
    try:
        return read_lock(path)
    except FileNotFoundError:
        raise RecordError(
            f"there is no lockfile {path}; `tilewright tune SPEC --lockfile {path}` writes one"
        ) from None


def tune_all(
    tasks: Sequence[Task], effort: str, store: Store, *, workers: int = 1, again: bool = False
) -> list[Tuned]:
    """The records of kernels: those in the store that took this effort or more, unless `again`; the others measured by
    so many processes side by side, and kept."""
    contents = _contents(store, tasks)
    usable = contents.usable.values()
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    made = [Worker() for _ in range(workers)]
    for worker in made:
        idle.put(worker)

    def one(task: Task) -> Tuned:
        known = best(usable, task.question)
        if known is not None and not again and EFFORTS.index(known.found["effort"]) >= EFFORTS.index(effort):
            return Tuned(task, known)
        worker = idle.get()
        try:
            return Tuned(task, _tune(task, effort, worker, store, contents), True)
        except Untunable as error:
            return Tuned(task, None, reason=str(error))
        finally:
            idle.put(worker)

    try:
        with ThreadPoolExecutor(max_workers=workers) as pool:
            return list(pool.map(one, tasks))
    finally:
        for worker in made:
            worker.close()


def _tune(task: Task, effort: str, worker: Worker, store: Store, contents: Contents) -> Record:
    asked = task.question

    def remember(schedule: Schedule, outcome: str, reason: str) -> None:
        _keep(lambda: store.remember_failure(asked.kernel, asked.target, schedule, outcome, reason))

    record = tune(
        task, effort, worker, on_failure=remember,
        prior=[r.schedule for r in nearest_records(contents.usable.values(), asked)[:2]],
        known_failure=lambda schedule: contents.failure(asked.kernel, asked.target, schedule),
    )
    _keep(lambda: store.add([record]))
    return record


def _keep(write: Callable[[], object]) -> None:
    """Write to the store; where it cannot be written, say so: what was measured serves this compilation."""
    try:
        write()
    except OSError as error:
        log.warning("tuning records cannot be kept (%s): kernels are measured again by each process. Set "
                    "TILEWRIGHT_CACHE_DIR to a directory that can be written", error)


def _contents(store: Store, tasks: Iterable[Task]) -> Contents:
    """What the store says of these kernels, of those like them, and of records that were set aside."""
    names = {name.encode() for task in tasks for name in (task.question.kernel, task.question.family)}
    try:
        return store.read(lambda line: b'{"aside":' in line[:80] or any(name in line for name in names))
    except OSError as error:
        log.warning("the tuning records cannot be read: %s", error)
        return Contents()


def set_aside_unbuildable(tuned: Iterable[Tuned], target: Target) -> bool:
    """Set the records aside with which a kernel does not build, and take their schedules away; whether there were any.
    """
    found = False
    for each in tuned:
        if each.record is None or not each.record.schedule:
            continue
        try:
            native.build(print_file([each.task.kernel], target), target)
        except KernelBuildError as error:
            found = True
            log.warning("the tuning record of %s is set aside: its kernel does not build", each.task.question.name)
            record, reason = each.record, f"its kernel does not build: {error}"
            _keep(functools.partial(user_store().set_aside, record.digest(), record.name, reason))
            each.task.kernel.properties.pop("schedule", None)
    return found


@contextmanager
def blaming_records(tuned: Sequence[Tuned], functions: Mapping[str, Callable[..., int]]) -> Iterator[None]:
    """Where a NumericMismatchError is raised inside, records whose kernels compute something else than their tile
    programs are set aside, and the error says so."""
    try:
        yield
    except NumericMismatchError as error:
        for each in tuned:
            if each.record is None or not each.record.schedule:
                continue
            task, record = each.task, each.record
            try:
                check_kernel(task.kernel, functions[task.question.name], task.shapes, task.sizes)
            except NumericMismatchError as wrong:
                reason = f"its kernel is wrong: {wrong}"
                _keep(functools.partial(user_store().set_aside, record.digest(), record.name, reason))
                error.add_note(f"The tuning record of {record.name} is set aside: compile again to go without it.")
        raise


def tasks_of(compilation: AnyCompilation) -> list[Task]:
    """The kernels of a compilation and of its parts, each once, as the tuner takes them."""
    found = {task.question.kernel: task for task in _tasks_of(compilation)}
    return list(found.values())


def _tasks_of(compilation: AnyCompilation) -> Iterator[Task]:
    from .compilation import Compilation

    for part in compilation.parts.values():
        yield from _tasks_of(part)
    if isinstance(compilation, Compilation):
        yield from tasks_in(compilation.module, compilation.target)


def tasks_in(module: ModuleOp, target: Target) -> Iterator[Task]:
    """The kernels of a program."""
    for kernel, shapes, sizes in launched_kernels(module):
        yield Task(kernel, Question.of(kernel, sizes, target, torch.get_num_threads()), shapes, sizes, target)
