"""A rule pack: one version of one plan's grading rules as data. No plan is known here by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from math import prod
from typing import Any, cast

from geo.criteria import (
    LEVELS,
    Criterion,
    Exclusion,
    Grade,
    Possibility,
    Ratio,
    Vocabulary,
    bound_as_json,
    check_order,
    read_criteria,
    read_ratios,
    read_scale,
)
from geo.facts import Fact, FactSchema, Range, read_schema
from geo.intervals import Number, Span, plain, share
from geo.packsource import PackSource, PackTable

LANGUAGES = ("zh", "en")
# One unknown record is graded once per case its unknown classes and words allow.
MOST_CASES = 64


@dataclass(frozen=True, slots=True, repr=False)
class RulePack:
    """The rules of one version of one plan, in force from `effective_from` until before
    `effective_to` (days in the plan's own city, None open)."""

    plan: str
    version: str
    document: str
    title: Mapping[str, str]
    grading_clause: str
    effective_from: date
    effective_to: date | None
    scale: Mapping[int, Grade]
    unit_kinds: tuple[str, ...]
    units_clause: str
    facility_kinds: tuple[str, ...]
    schema: FactSchema
    ratios: Mapping[tuple[str, str], Ratio]
    criteria: tuple[Criterion, ...]
    possibility: Possibility | None
    exclusions: tuple[Exclusion, ...]
    procedures: Mapping[str, tuple[Mapping[str, Any], ...]]
    source: PackSource
    splits: Mapping[str, Mapping[str, tuple[Number, ...]]]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: PackSource | str) -> RulePack:
        """The pack in `data`. Raises PlanError naming file and line of every fault."""
        if isinstance(source, str):
            source = PackSource(source)
        return _read_pack(PackTable(data, source), source)

    def __repr__(self) -> str:
        return f"RulePack({self.plan!r}, version={self.version!r})"

    def fact(self, scope: str, name: str) -> Fact | None:
        return self.schema.groups[scope].facts.get(name)

    def criteria_of(self, scope: str) -> tuple[Criterion, ...]:
        return tuple(c for c in self.criteria if c.scope == scope)

    def with_ratios(self, scope: str, ranges: dict[str, Range]) -> dict[str, Range | None]:
        """The ranges of a record with those of its shares beside them."""
        known: dict[str, Range | None] = dict(ranges)
        for (group, name), ratio in self.ratios.items():
            if group == scope:
                part, whole = ranges[ratio.part], ranges[ratio.whole]
                known[name] = share(cast(Span, part), cast(Span, whole))
        return known

    def as_json(self, lang: str = "zh") -> dict[str, Any]:
        """The rules as data, every criterion with its clause, texts in `lang` (zh or en)."""
        lang = lang if lang in LANGUAGES else "zh"
        return {
            "plan": self.plan,
            "version": self.version,
            "title": self.title[lang],
            "document": self.document,
            "grading_clause": self.grading_clause,
            "effective_from": self.effective_from.isoformat(),
            "effective_to": self.effective_to.isoformat() if self.effective_to else None,
            "scale": [
                {"level": g.level, "label": g.label, "severity": g.severity, "colour": g.colour}
                for g in self.scale.values()
            ],
            "units": {"clause": self.units_clause, "kinds": list(self.unit_kinds)},
            "facility_kinds": list(self.facility_kinds),
            "criteria": [self._criterion_as_json(c, lang) for c in self.criteria],
            "possible": None
            if self.possibility is None
            else {
                "clause": self.possibility.clause,
                "fact": self.possibility.fact,
                "levels": sorted(self.possibility.levels),
            },
            "out_of_scope": [
                {"clause": e.clause, "requires": [c.as_json() for c in e.conditions]}
                for e in self.exclusions
            ],
            "facts": [
                _fact_as_json(group.name, fact, lang)
                for group in self.schema.groups.values()
                for fact in group.facts.values()
            ],
            "procedures": {
                name: [{**entry, "text": entry["text"][lang]} for entry in entries]
                for name, entries in self.procedures.items()
            },
        }

    def _criterion_as_json(self, criterion: Criterion, lang: str) -> dict[str, Any]:
        return {
            "clause": criterion.clause,
            "level": criterion.level,
            "label": self.scale[criterion.level].label,
            "scope": criterion.scope or "plan",
            "metric": criterion.metric,
            "threshold": bound_as_json(criterion.main.bound),
            "unit": criterion.unit,
            "count": criterion.count,
            "requires": [condition.as_json() for condition in criterion.requires],
            "text": criterion.text[lang],
        }


def _fact_as_json(group: str, fact: Fact, lang: str) -> dict[str, Any]:
    return {
        "group": group or None,
        "name": fact.name,
        "type": fact.type,
        "unit": fact.unit,
        "values": list(fact.values) or None,
        "part_of": fact.part_of,
        "declared": fact.declared,
        "title": fact.title[lang],
    }


def _read_pack(pack: PackTable, source: PackSource) -> RulePack:
    pack.integer("format", 1, 1)
    plan, version = pack.text("plan"), pack.text("version")
    document, clause = pack.text("document"), pack.text("grading_clause")
    title = pack.bilingual("title")
    begin, end = pack.day("effective_from") or date.min, pack.day("effective_to", required=False)
    if end and end <= begin:
        pack.fault("must be after effective_from", "effective_to")
    scale = read_scale(pack)
    units = pack.table("units")
    unit_kinds, units_clause = units.words("kinds"), units.text("clause")
    units.close()
    facilities = pack.table("facilities")
    facility_kinds = facilities.words("kinds")
    facilities.close()
    sound = len(pack.faults)
    schema = read_schema(pack)
    if len(pack.faults) > sound:
        # Criteria cannot be read against facts whose types are not known.
        pack.raise_faults()
    vocabulary = Vocabulary(schema, read_ratios(pack, schema), _read_sets(pack))
    criteria = read_criteria(pack, vocabulary)
    exclusions = _read_exclusions(pack, vocabulary)
    possibility = _read_possibility(pack, schema) if "possible" in pack else None
    procedures = _read_procedures(pack)
    pack.close()
    check_order(pack, criteria)
    splits = _splits(schema, criteria, exclusions)
    for scope, facts in splits.items():
        if prod(_cases(schema, scope, name, cuts) for name, cuts in facts.items()) > MOST_CASES:
            pack.fault(f"unknown facts of {scope or 'the plan'} give more than {MOST_CASES} cases")
    pack.raise_faults()
    return RulePack(
        plan=plan,
        version=version,
        document=document,
        title=title,
        grading_clause=clause,
        effective_from=begin,
        effective_to=end,
        scale=scale,
        unit_kinds=unit_kinds,
        units_clause=units_clause,
        facility_kinds=facility_kinds,
        schema=schema,
        ratios=vocabulary.ratios,
        criteria=tuple(criteria),
        possibility=possibility,
        exclusions=exclusions,
        procedures=procedures,
        source=source,
        splits=splits,
    )


def _read_sets(pack: PackTable) -> dict[str, frozenset[str]]:
    table = pack.table("sets", required=False)
    return {name: frozenset(table.words(name)) for name in table.data}


def _read_exclusions(pack: PackTable, vocabulary: Vocabulary) -> tuple[Exclusion, ...]:
    exclusions = []
    for table in pack.tables("out_of_scope", required=False):
        clause, fact = table.text("clause"), table.text("fact")
        conditions = [vocabulary.required(item, "") for item in table.tables("requires")]
        if fact and fact not in vocabulary.schema.groups[""].facts:
            table.fault(f"{fact!r} is no fact of the plan", "fact")
        if not conditions:
            table.fault("requires at least one condition", "requires")
        table.close()
        exclusions.append(Exclusion(clause, fact, tuple(c for c in conditions if c is not None)))
    return tuple(exclusions)


def _read_possibility(pack: PackTable, schema: FactSchema) -> Possibility:
    table = pack.table("possible")
    clause, name = table.text("clause"), table.text("fact")
    levels = table.raw("levels", required=True)
    fact = schema.groups[""].facts.get(name)
    if name and (fact is None or fact.type != "boolean"):
        table.fault(f"{name!r} is no truth among the plan's facts", "fact")
    if not isinstance(levels, list) or not levels or not all(n in LEVELS for n in levels):
        table.fault("must be a list of levels 1 to 4", "levels")
        levels = []
    table.close()
    return Possibility(clause, name, frozenset(levels))


def _read_procedures(pack: PackTable) -> dict[str, tuple[Mapping[str, Any], ...]]:
    table = pack.table("procedures", required=False)
    procedures: dict[str, tuple[Mapping[str, Any], ...]] = {}
    for name in table.data:
        entries = []
        for item in table.tables(name):
            metric = item.text("metric", required=False)
            bound = item.number("bound", required=bool(metric))
            if bound is not None and not metric:
                item.fault("a bound needs a metric", "bound")
            entry: dict[str, Any] = {"clause": item.text("clause"), "text": item.bilingual("text")}
            if metric and bound is not None:
                entry |= {"metric": metric, "threshold": plain(bound)}
            item.close()
            entries.append(entry)
        procedures[name] = tuple(entries)
    return procedures


def _splits(
    schema: FactSchema, criteria: list[Criterion], exclusions: tuple[Exclusion, ...]
) -> dict[str, dict[str, tuple[Number, ...]]]:
    """The facts of each scope whose rise does not only worsen: words, and numbers with a class
    below a cutoff. Where such a fact is unknown, a record is graded case by case."""
    conditions = [(c.scope, condition) for c in criteria for condition in c.conditions]
    conditions += [("", condition) for e in exclusions for condition in e.conditions]
    splits: dict[str, dict[str, tuple[Number, ...]]] = {name: {} for name in schema.groups}
    for scope, condition in conditions:
        if condition.test == "in":
            splits[scope].setdefault(condition.metric, ())
        elif condition.test == "below":
            bounds = {
                c.number
                for where, c in conditions
                if where == scope and c.metric == condition.metric
            }
            splits[scope][condition.metric] = tuple(sorted(bounds))
    return splits


def _cases(schema: FactSchema, scope: str, name: str, cuts: tuple[Number, ...]) -> int:
    fact = schema.groups[scope].facts.get(name)
    if fact is None or fact.none_when_absent or fact.declared:
        return 1
    return len(fact.values) or len(cuts) + 1
