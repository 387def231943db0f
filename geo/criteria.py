"""Criteria: conditions on the facts of one record, and how they are read from a rule pack.

A criterion is a conjunction of conditions: its own metric against its bound, and what it requires
besides. It is only ever a lower bound, so an interval's upper end never caps; criteria are
alternatives, and the gravest one met decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from geo.facts import Fact, FactSchema, Range
from geo.intervals import MAYBE, NO, YES, Number, Span, Truth, plain
from geo.packsource import PackTable

COLOURS = ("red", "orange", "yellow", "blue")
LEVELS = (1, 2, 3, 4)
Bound = Number | bool | frozenset[str]
Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Grade:
    """One step of a plan's scale; level 1 is the gravest."""

    level: int
    label: str
    severity: str | None
    colour: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """A share of one fact in another of the same group; `amount` names the part for people."""

    name: str
    scope: str
    part: str
    whole: str
    unit: str
    amount: str
    title: Texts


@dataclass(frozen=True, slots=True)
class Condition:
    """One metric against a bound: `at_least` or `below` a number, `is` true, `in` some words."""

    metric: str
    test: str
    number: Number = 0
    words: frozenset[str] = frozenset()

    @property
    def bound(self) -> Bound:
        """What it is compared with: a number, true, or some words."""
        return self.words if self.test == "in" else True if self.test == "is" else self.number

    def holds(self, ranges: Mapping[str, Range | None]) -> Truth:
        """Whether it holds, given what each metric of the record may be."""
        possible = ranges[self.metric]
        if isinstance(possible, Span):
            if self.test == "at_least":
                return possible.at_least(self.number)
            return possible.below(self.number)
        if isinstance(possible, frozenset):
            inside = possible & self.words
            return NO if not inside else YES if inside == possible else MAYBE
        return NO if possible is None else possible

    def as_json(self) -> dict[str, Any]:
        return {"metric": self.metric, self.test: bound_as_json(self.bound)}


@dataclass(frozen=True, slots=True)
class Criterion:
    """One limb of a clause. `count`: how many records must meet it; None is any by itself."""

    clause: str
    level: int
    scope: str
    conditions: tuple[Condition, ...]
    count: int | None
    unit: str | None
    text: Texts
    order: int

    @property
    def main(self) -> Condition:
        return self.conditions[0]

    @property
    def metric(self) -> str:
        return self.conditions[0].metric

    @property
    def requires(self) -> tuple[Condition, ...]:
        return self.conditions[1:]

    def holds(self, ranges: Mapping[str, Range | None]) -> Truth:
        """Whether one record meets it."""
        return min(condition.holds(ranges) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A clause that takes an incident out of the plan's scope; `fact` is the one to show."""

    clause: str
    fact: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Possibility:
    """What may happen but has not: the fact that says so and the levels it can give."""

    clause: str
    fact: str
    levels: frozenset[int]


def bound_as_json(bound: Bound) -> Any:
    if isinstance(bound, frozenset):
        return sorted(bound)
    return bound if isinstance(bound, bool) else plain(bound)


@dataclass(frozen=True, slots=True)
class MetricKind:
    """What a criterion may say of a metric: its type (number, boolean, enum), unit and words."""

    type: str
    unit: str | None
    values: tuple[str, ...] = ()
    share: bool = False


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The metrics and named sets the criteria of one pack may use."""

    schema: FactSchema
    ratios: Mapping[tuple[str, str], Ratio]
    sets: Mapping[str, frozenset[str]]

    def metric(self, table: PackTable, scope: str) -> tuple[str, MetricKind] | None:
        """The metric a table names, if there is such a one in the scope."""
        name = table.text("metric")
        if not name or scope not in self.schema.groups:
            return None
        ratio = self.ratios.get((scope, name))
        if ratio is not None:
            return name, MetricKind("number", ratio.unit, share=True)
        fact = self.schema.groups[scope].facts.get(name)
        if fact is None or fact.type == "datetime":
            facts = self.schema.groups[scope].facts.values()
            known = [n for group, n in self.ratios if group == scope]
            known += [f.name for f in facts if f.type != "datetime"]
            table.fault(f"unknown metric {name!r}; known here are {', '.join(known)}", "metric")
            return None
        return name, MetricKind("number" if fact.numeric else fact.type, fact.unit, fact.values)

    def condition(
        self, table: PackTable, name: str, kind: MetricKind, key: str, test: str
    ) -> Condition | None:
        """The condition whose bound stands under `key`, checked against the metric's type."""
        value = table.raw(key, required=True)
        if value is None:
            return None
        if test == "in" and kind.type == "enum":
            return self._words(table, name, kind, key, value)
        if test == "is" and kind.type == "boolean":
            if value is True:
                return Condition(name, "is")
            table.fault(f"must be true: {name} is a truth, and its absence grades nothing", key)
            return None
        if test in ("at_least", "below") and kind.type == "number":
            number = table.exact(value, key)
            if number is not None and number <= 0:
                table.fault("must be more than 0, or everything would meet it", key)
            if number is not None and kind.share and number > 1:
                table.fault("must be at most 1, shares being fractions", key)
            return None if number is None else Condition(name, test, number)
        table.fault(f"a bound of this type does not fit {name}, which is {kind.type}", key)
        return None

    def _words(
        self, table: PackTable, name: str, kind: MetricKind, key: str, value: object
    ) -> Condition | None:
        if isinstance(value, str):
            words = self.sets.get(value)
            if words is None:
                table.fault(f"{value!r} is no set of this pack", key)
                return None
        else:
            words = frozenset(table.words(key))
        strange = sorted(words - set(kind.values))
        if strange or not words:
            table.fault(f"{', '.join(strange) or 'nothing'} is no value of {name}", key)
            return None
        return Condition(name, "in", words=words)

    def required(self, table: PackTable, scope: str) -> Condition | None:
        """One entry of `requires`."""
        found = self.metric(table, scope)
        tests = [test for test in ("at_least", "below", "is", "in") if test in table]
        condition = None
        if len(tests) != 1:
            table.fault("give exactly one of at_least, below, is, in")
        for test in tests:
            if found is None:
                table.raw(test)
            elif test == "below" and (scope, found[0]) in self.ratios:
                table.fault("only a fact can have a class below a cutoff, not a share", test)
            else:
                condition = self.condition(table, *found, test, test)
        table.close()
        return condition


TEST_OF_BOUND = {"number": "at_least", "boolean": "is", "enum": "in"}


def read_criteria(pack: PackTable, vocabulary: Vocabulary) -> list[Criterion]:
    """The pack's `criteria`, in its order; faults are noted in the table."""
    criteria: list[Criterion] = []
    seen: dict[tuple[str, str], int] = {}
    for order, table in enumerate(pack.tables("criteria")):
        clause = table.text("clause")
        level = table.integer("level", LEVELS[0], LEVELS[-1])
        scope = table.text("scope", required=False) or ""
        if scope not in vocabulary.schema.groups:
            table.fault(f"{scope!r} is no group of facts", "scope")
        found = vocabulary.metric(table, scope)
        main = None
        unit = table.text("unit", required=False) or None
        if found is None:
            table.raw("bound", required=True)
        else:
            name, kind = found
            main = vocabulary.condition(table, name, kind, "bound", TEST_OF_BOUND[kind.type])
            if unit != kind.unit:
                table.fault(f"{name} is measured in {kind.unit or 'no unit'}", "unit")
        requires = [
            vocabulary.required(item, scope) for item in table.tables("requires", required=False)
        ]
        count = table.integer("count", 1, 100, required=False)
        group = vocabulary.schema.groups.get(scope)
        if count is not None and group is not None and not group.many:
            table.fault("only criteria over a list count records", "count")
        text = table.bilingual("text")
        table.close()
        if not clause or level is None or main is None:
            continue
        first = seen.setdefault((clause, main.metric), order)
        if first != order:
            reason = f"{clause} has a criterion on {main.metric} already, criteria[{first + 1}]"
            table.fault(reason, "clause")
        conditions = (main, *(c for c in requires if c is not None))
        criteria.append(Criterion(clause, level, scope, conditions, count, unit, text, order))
    if not criteria:
        pack.fault("a pack needs at least one criterion")
    return criteria


def check_order(pack: PackTable, criteria: list[Criterion]) -> None:
    """Note a fault where a graver grade would be easier to reach than a lesser one."""
    families: dict[object, list[Criterion]] = {}
    for c in criteria:
        if c.main.test == "at_least":
            family = (c.scope, c.metric, c.count, frozenset(c.requires))
            families.setdefault(family, []).append(c)
    for family_members in families.values():
        by_gravity = sorted(family_members, key=lambda c: (-c.level, c.order))
        for lesser, graver in pairwise(by_gravity):
            if graver.level == lesser.level or graver.main.number <= lesser.main.number:
                reason = f"must be above the bound of {lesser.clause}, a lesser grade"
                pack.fault(reason, "criteria", graver.order, "bound")


def read_scale(pack: PackTable) -> dict[int, Grade]:
    """The pack's `scale`: the four levels, gravest first."""
    scale: dict[int, Grade] = {}
    for table in pack.tables("scale"):
        level = table.integer("level", LEVELS[0], LEVELS[-1])
        label, colour = table.text("label"), table.text("colour", choices=COLOURS)
        severity = table.text("severity", required=False) or None
        table.close()
        if level is not None and level in scale:
            table.fault(f"level {level} is given twice", "level")
        elif level is not None:
            scale[level] = Grade(level, label, severity, colour)
    if not pack.faults and sorted(scale) != list(LEVELS):
        pack.fault("must have the levels 1 to 4", "scale")
    return dict(sorted(scale.items()))


def read_ratios(pack: PackTable, schema: FactSchema) -> dict[tuple[str, str], Ratio]:
    """The pack's `ratios`, by scope and name."""
    ratios: dict[tuple[str, str], Ratio] = {}
    for name, table in pack.named("ratios").items():
        scope = table.text("scope", required=False) or ""
        part, whole = table.text("part"), table.text("whole")
        unit, amount = table.text("unit"), table.text("amount")
        title = table.bilingual("title")
        table.close()
        group = schema.groups.get(scope)
        if group is None:
            table.fault(f"{scope!r} is no group of facts", "scope")
            continue
        fact: Fact | None = group.facts.get(part)
        if part and (fact is None or fact.part_of != whole):
            table.fault(f"{part!r} is no fact of this group that is part_of {whole!r}", "part")
        if name in group.facts:
            table.fault("is the name of a fact too")
        ratios[scope, name] = Ratio(name, scope, part, whole, unit, amount, title)
    return ratios
