"""The rule engine: named rewrite rules, applied to a fixed point by a worklist.

>>> x, = captures("x")
>>> rules = RuleSet(Rule("x * 1 -> x", mul(x, const(1)), lambda x: x))
>>> rules.apply(module).fired
Counter({'x * 1 -> x': 3})

A rule is looked up by the root's op and function, is rejected before matching where the root's operands cannot fit,
and runs again only where something near it changed: the work is linear in the module and the rewrites.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import Rewriter
from xdsl.traits import Pure

from .builder import Builder
from .errors import LoopingRuleError, VerifyError
from .patterns import Bindings, OpPattern, depth, function_of, names, orders, required
from .text import fuse_locations

NUMERICS = ("exact", "widens", "reassociates", "approximate")

# How many of the last rewrites are looked at to say which rule loops.
_WINDOW = 64


class Rule:
    """`name` is the equation; `pattern` says where it applies; `builder` makes what stands there afterwards.

    The parameters of `builder` and `guard` are captures by name, and `op`, the matched root; the builder may have
    `build` as well, a `Builder` before the root. It returns a value of the root's type, or a list of them for a root
    with several results; None means that the rule does not apply after all. The guard returns whether the rule applies.
    `among`: at least one operand of the root must come from an op of these classes; looked at before anything else.

    `numerics`: ``exact`` (every bit, also for NaN, inf, -0.0; which NaN is left open), ``widens`` (a rounding between
    is left out), ``reassociates``, ``approximate``. Raises ValueError for parameters that the pattern does not capture.
    """

    def __init__(
        self,
        name: str,
        pattern: OpPattern,
        builder: Callable[..., SSAValue | Sequence[SSAValue] | None],
        guard: Callable[..., bool] | None = None,
        numerics: str = "exact",
        among: Iterable[type[Operation]] = (),
    ):
        if numerics not in NUMERICS:
            raise ValueError(f"rule {name!r}: {numerics!r} is not one of {', '.join(NUMERICS)}")
        self.name = name
        self.pattern = pattern
        self.builder = builder
        self.guard = guard
        self.numerics = numerics
        self.depth = depth(pattern)
        self.needs = required(pattern)
        self.among = frozenset(among)
        self.variants: tuple[OpPattern, ...] = tuple(p for p in orders(pattern) if isinstance(p, OpPattern))
        known = names(pattern) | {"op"}
        self._builder_parameters = self._parameters(builder, known | {"build"})
        self._guard_parameters = self._parameters(guard, known) if guard is not None else ()

    def __repr__(self) -> str:
        return f"Rule({self.name!r})"

    def _parameters(self, function: Callable[..., Any], known: set[str]) -> tuple[str, ...]:
        code = function.__code__
        parameters = code.co_varnames[: code.co_argcount]
        unknown = set(parameters) - known
        if unknown:
            raise ValueError(f"rule {self.name!r}: {', '.join(sorted(unknown))} is not captured by its pattern")
        return parameters

    @property
    def source(self) -> str:
        """`file:line` of the builder."""
        code = self.builder.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    def rewrite(self, op: Operation) -> Rewrite | None:
        """Try the rule at `op`: what to put there, already inserted before it, or None where it does not apply."""
        for variant in self.variants:
            bindings: Bindings = {}
            matched: list[Operation] = []
            if not variant.match_op(op, bindings, matched):
                continue
            bindings["op"] = op
            if self.guard is not None and not self.guard(*[bindings[p] for p in self._guard_parameters]):
                continue
            location = fuse_locations([op.location, *(m.location for m in matched[:-1])])
            build = bindings["build"] = Builder(op.parent_block(), op, location)  # type: ignore[arg-type]
            new = self.builder(*[bindings[p] for p in self._builder_parameters])
            if new is None:
                for inserted in reversed(build.inserted):
                    Rewriter.erase_op(inserted)
                continue
            values = [new] if isinstance(new, SSAValue) else list(new)
            self._check(op, values)
            return Rewrite(values, build.inserted)
        return None

    def _check(self, op: Operation, values: Sequence[SSAValue]) -> None:
        have, want = [v.type for v in values], [r.type for r in op.results]
        if have != want:
            raise VerifyError(
                f"rule {self.name!r} replaces a value of type {', '.join(map(str, want))} by one of type "
                f"{', '.join(map(str, have))}"
            )
        if any(v.owner is op for v in values):
            raise VerifyError(f"rule {self.name!r} replaces an op by itself")


@dataclass(frozen=True)
class Rewrite:
    """What a rule puts in the root's place, and the ops it inserted for that."""

    values: list[SSAValue]
    inserted: list[Operation]


@dataclass
class RewriteStatistics:
    """By rule name: how often a rule was matched against an op after early rejection, and how often it fired."""

    tried: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)

    @property
    def rewrites(self) -> int:
        return sum(self.fired.values())

    def as_dict(self) -> dict[str, dict[str, int]]:
        """`{rule: {"tried": n, "fired": m}}`, for reports."""
        return {rule: {"tried": self.tried[rule], "fired": self.fired[rule]} for rule in self.tried}


class RuleSet:
    """Rules in order of precedence; compose with ``+``. Raises ValueError where two rules share a name."""

    def __init__(self, *rules: Rule):
        self.rules = rules
        twice = [name for name, count in Counter(r.name for r in rules).items() if count > 1]
        if twice:
            raise ValueError(f"several rules are named {', '.join(map(repr, twice))}")
        self._index: dict[tuple[type[Operation], str | None], list[Rule]] = {}
        self._reach = max((r.depth for r in rules), default=1)

    def __add__(self, other: RuleSet) -> RuleSet:
        return RuleSet(*self.rules, *other.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def only(self, *numerics: str) -> RuleSet:
        """The rules of these numerics classes."""
        return RuleSet(*(r for r in self.rules if r.numerics in numerics))

    def candidates(self, op: Operation) -> list[Rule]:
        """The rules whose root may be an op of this class with this function."""
        key = (type(op), function_of(op))
        found = self._index.get(key)
        if found is None:
            found = self._index[key] = [
                r for r in self.rules if key[0] in r.pattern.classes and (not r.pattern.fns or key[1] in r.pattern.fns)
            ]
        return found

    def apply(self, module: ModuleOp, max_rewrites: int | None = None) -> RewriteStatistics:
        """Rewrite `module` in place, regions included, until no rule applies.

        Raises `LoopingRuleError` after `max_rewrites` (default: 64 for each op and 1,000 more), and `VerifyError` for a
        rule that changes a type.
        """
        return _Application(self, module, max_rewrites).run()


class _Application:
    """One run of a rule set over a module."""

    def __init__(self, rules: RuleSet, module: ModuleOp, max_rewrites: int | None):
        self.rules = rules
        # Inner ops first, in program order: what a rule looks down at is then already rewritten.
        self.queue = deque(module.walk())
        self.queued = {id(op) for op in self.queue}
        self.limit = max_rewrites if max_rewrites is not None else 64 * len(self.queue) + 1000
        self.statistics = RewriteStatistics()
        self.recent: deque[str] = deque(maxlen=_WINDOW)

    def run(self) -> RewriteStatistics:
        rewrites = 0
        while self.queue:
            op = self.queue.popleft()
            self.queued.discard(id(op))
            if op.parent is None:
                continue
            found = self._first_rewrite(op)
            if found is None:
                continue
            rule, rewrite = found
            rewrites += 1
            self.statistics.fired[rule.name] += 1
            self.recent.append(rule.name)
            if rewrites > self.limit:
                raise LoopingRuleError(self._loop_message())
            self._replace(op, rewrite)
        return self.statistics

    def _first_rewrite(self, op: Operation) -> tuple[Rule, Rewrite] | None:
        candidates = self.rules.candidates(op)
        if not candidates:
            return None
        owners = {type(operand.owner) for operand in op.operands}
        for rule in candidates:
            if rule.needs <= owners and not (rule.among and rule.among.isdisjoint(owners)):
                self.statistics.tried[rule.name] += 1
                rewrite = rule.rewrite(op)
                if rewrite is not None:
                    return rule, rewrite
        return None

    def _replace(self, op: Operation, rewrite: Rewrite) -> None:
        for inserted in rewrite.inserted:
            self._push(inserted)
        for old, new in zip(op.results, rewrite.values):
            if new.name_hint is None:
                new.name_hint = old.name_hint
            self._push_users(old, self.rules._reach)
            old.replace_all_uses_with(new)
        self._erase(op)

    def _erase(self, op: Operation) -> None:
        """Erase `op` and the pure ops that only it needed, so that rules which ask for a single use see the truth."""
        dead = [op]
        while dead:
            op = dead.pop()
            operands = list(dict.fromkeys(op.operands))
            Rewriter.erase_op(op)
            for operand in operands:
                owner = operand.owner
                if not isinstance(owner, Operation):
                    continue
                if operand.has_one_use():
                    self._push_users(operand, 1)
                elif not owner.regions and owner.has_trait(Pure) and not any(r.uses for r in owner.results):
                    dead.append(owner)

    def _push(self, op: Operation) -> None:
        if id(op) not in self.queued and self.rules.candidates(op):
            self.queued.add(id(op))
            self.queue.append(op)

    def _push_users(self, value: SSAValue, levels: int) -> None:
        for use in value.uses:
            self._push(use.operation)
            if levels > 1:
                for result in use.operation.results:
                    self._push_users(result, levels - 1)

    def _loop_message(self) -> str:
        looping = Counter(self.recent)
        often = math.ceil(len(self.recent) / (2 * len(looping)))
        rules = [name for name, count in looping.most_common() if count >= often]
        sources = {r.name: r.source for r in self.rules}
        return f"no fixed point after {self.limit} rewrites; these rules undo each other or never stop: " + "; ".join(
            f"{name!r} ({sources[name]})" for name in rules
        )
