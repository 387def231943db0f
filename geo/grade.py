"""Rules and facts give an assessment: a proposed level with its reasons, and how far the next is.

One evaluator for every plan: it knows none by name and holds no threshold; those are in the packs.
Arithmetic is exact. Intervals are [a, b), so a value on a boundary belongs to the graver level, and
the gravest criterion met decides.

Unknown facts (null or absent) are unknown, not zero. `level` is what is certain from what is known,
an unknown facility not being down; `bounds` are the levels certain and possible whatever the
unknown facts are. Decision: facts that are an authority's declaration (`declared` in the pack) do
not widen the bounds while nobody has declared them, or `at_most` would be I for ever; they are
listed under `undeclared`. A list that is absent, or a district not listed, widens nothing either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from geo.criteria import Criterion, bound_as_json
from geo.facts import Range
from geo.intervals import NO, YES, Span, exact, plain
from geo.packsource import PackSource
from geo.rules import RulePack
from geo.shortfall import hours, inexact, measured, shortfalls, unknown_scope
from geo.standing import UNGRADED, RecordStanding, Standing, stand

__all__ = [
    "PackSource",
    "RulePack",
    "assess",
    "check_facts",
    "district_levels",
    "level_bounds",
    "next_clock_change",
    "worst_of",
]


def assess(
    pack: RulePack, facts: Mapping[str, Any], *, now: datetime | None = None
) -> dict[str, Any]:
    """The assessment of `facts` under `pack` at `now` (an aware time; None is the present).

    Values: shares are fractions with `numerator` and `denominator`, amounts in their unit's name.
    Raises InvalidInput naming every impossible fact.
    """
    now = _moment(now)
    standing = stand(pack, pack.schema.records(facts, now), now)
    level = standing.at_least()
    exclusion = standing.exclusion()
    grade = pack.scale.get(level)
    return {
        "plan": pack.plan,
        "version": pack.version,
        "level": _level(level),
        "label": grade.label if grade else None,
        "severity": grade.severity if grade else None,
        "colour": grade.colour if grade else None,
        "findings": _findings(standing),
        "next": shortfalls(standing, level),
        "bounds": {"at_least": _level(level), "at_most": _level(standing.at_most())},
        "possible": standing.possible_only,
        "out_of_scope": None
        if exclusion is None
        else {"clause": exclusion.clause, exclusion.fact: facts.get(exclusion.fact)},
        "undeclared": _undeclared(standing),
        "unknown": _unknown(standing, level),
        "facts": _as_json(facts),
    }


def level_bounds(
    pack: RulePack, facts: Mapping[str, Any], now: datetime | None = None
) -> tuple[int | None, int | None]:
    """The levels certain and possible, as `level` and `bounds` of `assess` and much sooner, for
    where no reasons are asked for."""
    now = _moment(now)
    standing = stand(pack, pack.schema.records(facts, now), now)
    return _level(standing.at_least()), _level(standing.at_most())


def check_facts(pack: RulePack, facts: object, now: datetime | None = None) -> None:
    """Raise InvalidInput naming every fault of the facts; with `now`, also what begins after it."""
    pack.schema.records(facts, None if now is None else _moment(now))


def district_levels(
    pack: RulePack, facts: Mapping[str, Any], now: datetime | None = None
) -> dict[str, int | None]:
    """The level each listed district has with its own facts alone; {} where a plan lists none."""
    now = _moment(now)
    records = pack.schema.records(facts, now)
    levels: dict[str, int | None] = {}
    for name, group in pack.schema.groups.items():
        for record in records[name] if group.many else ():
            standing = stand(pack, {**{g: [] for g in records}, name: [record]}, now)
            levels[str(record.code)] = _level(standing.at_least())
    return levels


def next_clock_change(pack: RulePack, facts: Mapping[str, Any], now: datetime) -> datetime | None:
    """The next instant at which time alone changes the level, the bounds or the criteria met."""
    now = _moment(now)
    records = pack.schema.records(facts, now)
    instants: set[datetime] = set()
    for criterion in pack.criteria:
        for record in records[criterion.scope]:
            for condition in criterion.conditions:
                fact = record.group.facts.get(condition.metric)
                since = record.values.get(fact.since or "") if fact else None
                if isinstance(since, datetime):
                    instants.add(since + hours(condition.number))
    before = _outcome(stand(pack, records, now))
    for instant in sorted(instants):
        if instant > now and _outcome(stand(pack, records, instant)) != before:
            return instant
    return None


def worst_of(assessments: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The gravest of several assessments of one plan, the first of equals, with the findings of all
    (extra keys kept), bounds that cover all, and as `unknown` the facts that widen these bounds.
    Raises ValueError when there is none."""
    given = list(assessments)
    if not given:
        raise ValueError("no assessment to choose from")
    if len({a["plan"] for a in given}) > 1:
        raise ValueError("assessments of different plans cannot be compared")
    worst = dict(min(given, key=lambda a: _order(a["level"])))
    worst["findings"] = sorted(
        (finding for a in given for finding in a["findings"]), key=lambda f: _order(f["level"])
    )
    worst["bounds"] = {
        name: _level(min(_order(a["bounds"][name]) for a in given))
        for name in ("at_least", "at_most")
    }
    widening = (a for a in given if _order(a["bounds"]["at_most"]) < _order(worst["level"]))
    worst["unknown"] = sorted({name for a in widening for name in a["unknown"]})
    return worst


def _moment(now: datetime | None) -> datetime:
    if now is None:
        return datetime.now(UTC)
    if now.utcoffset() is None:
        raise ValueError("the time of assessment must say its offset from UTC")
    return now.astimezone(UTC)


def _level(level: int) -> int | None:
    return None if level == UNGRADED else level


def _order(level: int | None) -> int:
    return UNGRADED if level is None else level


def _outcome(standing: Standing) -> tuple[object, ...]:
    met = tuple(c.order for c in standing.criteria if standing.met(c))
    return (standing.at_least(), standing.at_most(), met)


def _findings(standing: Standing) -> list[dict[str, Any]]:
    """Every criterion met, gravest first, then in the plan's order."""
    found: list[tuple[int, int, dict[str, Any]]] = []
    for criterion in standing.criteria:
        meeting = standing.meeting(criterion)
        if len(meeting) >= (criterion.count or 1):
            finding = _finding(standing, criterion, criterion.level, meeting)
            found.append((criterion.level, criterion.order, finding))
    # A level certain only case by case: one finding per criterion of a case, naming the others.
    cases: dict[tuple[int, int], list[RecordStanding]] = {}
    others: dict[tuple[int, int], set[int]] = {}
    for records in standing.records.values():
        for record in records:
            either = {criterion.order for criterion in record.alternatives()}
            for order in either:
                cases.setdefault((record.floor(), order), []).append(record)
                others.setdefault((record.floor(), order), set()).update(either)
    for (floor, order), group in cases.items():
        finding = _finding(standing, standing.pack.criteria[order], floor, group)
        clauses = [standing.pack.criteria[n].clause for n in sorted(others[floor, order])]
        found.append((floor, order, finding | {"either": list(dict.fromkeys(clauses))}))
    return [finding for _, _, finding in sorted(found, key=lambda item: item[:2])]


def _finding(
    standing: Standing, criterion: Criterion, level: int, meeting: list[RecordStanding]
) -> dict[str, Any]:
    many = standing.pack.schema.groups[criterion.scope].many
    values = [
        ({"adcode": r.record.code} if many else {}) | _value(standing, criterion, r)
        for r in meeting
    ]
    # The record by which the criterion is met: the gravest, or the last of those it must count.
    ranked = sorted(values, key=lambda v: (-_sortable(v["value"]), str(v.get("adcode"))))
    deciding = {k: v for k, v in ranked[(criterion.count or 1) - 1].items() if k != "adcode"}
    finding = {
        "clause": criterion.clause,
        "level": level,
        "metric": criterion.metric,
        "value": deciding.pop("value"),
        "threshold": bound_as_json(criterion.main.bound),
        "unit": criterion.unit,
        **deciding,
        "districts": sorted(str(r.record.code) for r in meeting) if many else [],
    }
    if many:
        finding["values"] = sorted(values, key=lambda v: str(v["adcode"]))
    if criterion.count is not None:
        finding |= {"count": len(meeting), "count_threshold": criterion.count}
    if criterion.requires:
        finding["requires"] = [
            condition.as_json()
            | ({} if many else {"value": _shown(meeting[0].ranges[condition.metric])})
            for condition in criterion.requires
        ]
    return finding


def _value(standing: Standing, criterion: Criterion, record: RecordStanding) -> dict[str, Any]:
    ratio = standing.pack.ratios.get((criterion.scope, criterion.metric))
    possible = record.ranges[criterion.metric]
    if ratio is None:
        return {"value": _shown(possible)}
    part, whole = (measured(record, name, standing.now) for name in (ratio.part, ratio.whole))
    known = isinstance(possible, Span) and part is not None and whole is not None
    return {
        "value": float(possible.low) if known and isinstance(possible, Span) else None,
        "numerator": None if part is None else plain(part),
        "denominator": None if whole is None else plain(whole),
    }


def _shown(possible: Range | None) -> Any:
    """A fact's value as known: the least a number can be, a truth, a word."""
    if isinstance(possible, Span):
        return plain(possible.low)
    if isinstance(possible, frozenset):
        return next(iter(possible)) if len(possible) == 1 else None
    return possible == YES


def _sortable(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _undeclared(standing: Standing) -> list[dict[str, Any]]:
    """Declarations nobody has made, with what each would give."""
    found = [
        {"fact": condition.metric, "level": criterion.level, "clause": criterion.clause}
        for criterion in standing.criteria
        for condition in criterion.conditions
        for record in standing.records[criterion.scope]
        if (fact := record.record.group.facts.get(condition.metric)) is not None
        and fact.declared
        and record.record.values.get(fact.name) is None
    ]
    return sorted(found, key=lambda entry: int(str(entry["level"])))


def _unknown(standing: Standing, level: int) -> list[str]:
    """The facts not exactly known on which it depends whether the level is graver."""
    names: set[str] = set()
    for criterion in standing.criteria:
        possibly = standing.possibly_meeting(criterion)
        if criterion.level >= level or len(possibly) < (criterion.count or 1):
            continue
        for record in possibly:
            names.update(unknown_scope(standing, record))
            for condition in criterion.conditions:
                if condition.holds(record.ranges) not in (NO, YES):
                    names.update(inexact(standing, criterion.scope, condition, record))
    return sorted(names)


def _as_json(value: Any) -> Any:
    """The facts as given, times as RFC 3339 text and exact numbers as JSON numbers."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | str | int | float):
        return value
    return plain(exact(value))
