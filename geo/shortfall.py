"""How far a graver level is: for each criterion not met, what is still missing, exactly.

Only what can grow is counted: people, hours, loss, facilities, load shed. What belongs to the thing
itself (a boiler's capacity, a district's load class) is listed only while it is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from geo.criteria import Condition, Criterion, bound_as_json
from geo.facts import Fact
from geo.intervals import MAYBE, NO, YES, Number, Span, divide, plain, round_up
from geo.standing import RecordStanding, Standing

NEAREST = 5


@dataclass(frozen=True, slots=True)
class Gap:
    """One condition short of its bound: `part` of `whole`, or of 1 where the metric is no share.

    `amount` is the smallest addition to the part that reaches the bound; None is unknown.
    """

    condition: Condition
    amount: Number | None = None
    part: Number | None = None
    whole: Number | None = None

    @property
    def value(self) -> Number | None:
        """The metric's value as known."""
        if self.part is None or self.whole is None:
            return None
        return divide(self.part, self.whole)

    @property
    def short_by(self) -> Number | None:
        """What is missing, in the metric's unit."""
        value = self.value
        return None if value is None else self.condition.number - value


@dataclass(frozen=True, slots=True)
class Reach:
    """What one record lacks for one criterion: gaps in its numbers, and facts to be asked for."""

    standing: RecordStanding
    gaps: tuple[Gap, ...]
    unknown: tuple[str, ...]

    @property
    def amount(self) -> Number | None:
        return self.gaps[0].amount


def shortfalls(standing: Standing, level: int) -> list[dict[str, Any]]:
    """An entry per criterion graver than `level` that more of something would meet, nearest level
    first, then in the plan's order."""
    if standing.exclusion() is not None:
        return []
    entries = []
    for criterion in sorted(standing.criteria, key=lambda c: (-c.level, c.order)):
        if criterion.level < level and not standing.met(criterion):
            entry = _entry(standing, criterion)
            if entry is not None:
                entries.append(entry)
    return entries


def _entry(standing: Standing, criterion: Criterion) -> dict[str, Any] | None:
    met = standing.meeting(criterion)
    lacking = [r for r in standing.records[criterion.scope] if r not in met]
    reaches = [r for r in (_reach(standing, criterion, record) for record in lacking) if r]
    reaches.sort(key=_nearness)
    many = standing.pack.schema.groups[criterion.scope].many
    if not reaches and criterion.count is None:
        return None
    head = {"level": criterion.level, "clause": criterion.clause}
    if criterion.count is not None:
        return head | _counted(standing, criterion, reaches, len(met))
    nearest = reaches[0]
    entry = head | _gap_as_json(standing, criterion, nearest, nearest.gaps[0])
    entry["districts"] = [r.standing.record.code for r in reaches[:NEAREST]] if many else []
    if many and nearest.gaps[0].condition is criterion.main:
        entry |= _needs(standing, criterion, reaches)
    if len(nearest.gaps) > 1:
        entry["also"] = [_gap_as_json(standing, criterion, nearest, g) for g in nearest.gaps[1:]]
    if nearest.unknown:
        entry["unknown"] = list(nearest.unknown)
    return entry


def _nearness(reach: Reach) -> tuple[bool, Number, bool, Number, str]:
    """By the amount that is missing, then by what is missing in the metric's unit, then by code;
    unknown ones last."""
    amount, short = reach.amount, reach.gaps[0].short_by
    code = reach.standing.record.code or ""
    return (amount is None, amount or 0, short is None, short or 0, code)


def _counted(
    standing: Standing, criterion: Criterion, reaches: list[Reach], met: int
) -> dict[str, Any]:
    """A criterion that counts districts: how many are missing, and the nearest with their needs."""
    missing = (criterion.count or 1) - met
    deciding = reaches[missing - 1].gaps[0] if len(reaches) >= missing else None
    amounts = [reach.amount for reach in reaches[:missing]]
    known = [amount for amount in amounts if amount is not None]
    total = sum(known) if len(known) == missing else None
    return {
        "metric": criterion.metric,
        "value": _value(deciding, _is_ratio(standing, criterion)) if deciding else None,
        "threshold": bound_as_json(criterion.main.bound),
        "unit": criterion.unit,
        "count": met,
        "count_threshold": criterion.count,
        "short_by": missing,
        "short_by_unit": "district",
        "short_by_amount": None
        if total is None
        else {"value": plain(total), "unit": _part(standing, criterion).unit},
        "districts": [reach.standing.record.code for reach in reaches[:NEAREST]],
        **_needs(standing, criterion, reaches),
    }


def _needs(standing: Standing, criterion: Criterion, reaches: list[Reach]) -> dict[str, Any]:
    """What the nearest that could come to meet the criterion need, and how many could at all."""
    name = _amount_name(standing, criterion)
    needs = [
        {
            "adcode": reach.standing.record.code,
            name: None if reach.amount is None else plain(reach.amount),
        }
        for reach in reaches[:NEAREST]
    ]
    return {"needs": needs, "needs_total": len(reaches)}


def _amount_name(standing: Standing, criterion: Criterion) -> str:
    """What the needs of a district are called: `facilities`, `load_shed_mw`, `customers_out`."""
    pack, scope = standing.pack, criterion.scope
    ratio = pack.ratios.get((scope, criterion.metric))
    if ratio is not None:
        return ratio.amount
    for ratio in pack.ratios.values():
        if ratio.scope == scope and ratio.part == criterion.metric:
            return ratio.amount
    return criterion.metric


def _is_ratio(standing: Standing, criterion: Criterion) -> bool:
    return (criterion.scope, criterion.metric) in standing.pack.ratios


def _part(standing: Standing, criterion: Criterion) -> Fact:
    ratio = standing.pack.ratios.get((criterion.scope, criterion.metric))
    facts = standing.pack.schema.groups[criterion.scope].facts
    return facts[ratio.part if ratio else criterion.metric]


def _reach(standing: Standing, criterion: Criterion, record: RecordStanding) -> Reach | None:
    """What the record lacks; None when more of what can grow would not do."""
    gaps: list[Gap] = []
    unknown: list[str] = []
    for condition in criterion.conditions:
        truth = condition.holds(record.ranges)
        if truth == YES:
            continue
        fact = record.record.group.facts.get(condition.metric)
        if condition.test == "at_least" and not (fact is not None and fact.fixed):
            if record.ranges[condition.metric] is None:
                return None
            gaps.append(_gap(standing, criterion.scope, condition, record))
        elif truth == NO:
            return None
        elif condition.test == "at_least":
            gaps.append(Gap(condition))
        if truth == MAYBE:
            unknown += inexact(standing, criterion.scope, condition, record)
    unknown += unknown_scope(standing, record)
    return Reach(record, tuple(gaps), tuple(dict.fromkeys(unknown))) if gaps else None


def unknown_scope(standing: Standing, record: RecordStanding) -> list[str]:
    """The names of the facts on which it depends whether the plan applies at all."""
    truth, exclusion = record.excluded
    if truth != MAYBE or exclusion is None:
        return []
    conditions = [c for c in exclusion.conditions if c.holds(record.ranges) == MAYBE]
    return [name for c in conditions for name in inexact(standing, "", c, record)]


def inexact(
    standing: Standing, scope: str, condition: Condition, record: RecordStanding
) -> list[str]:
    """The names of the facts behind a condition that are not exactly known."""
    ratio = standing.pack.ratios.get((scope, condition.metric))
    names = [ratio.part, ratio.whole] if ratio else [condition.metric]
    place = scope if record.record.code is None else f"{scope}[{record.record.code}]"
    found = []
    for name in names:
        possible = record.ranges[name]
        if not (isinstance(possible, Span) and possible.known):
            found.append(f"{place}.{name}" if place else name)
    return found


def _gap(standing: Standing, scope: str, condition: Condition, record: RecordStanding) -> Gap:
    ratio = standing.pack.ratios.get((scope, condition.metric))
    bound = condition.number
    if ratio is None:
        value = measured(record, condition.metric, standing.now)
        if value is None:
            return Gap(condition)
        step = record.record.group.facts[condition.metric].step
        return Gap(condition, round_up(bound - value, step), value, 1)
    part = record.record.number(ratio.part)
    whole = record.record.number(ratio.whole)
    if part is None or whole is None:
        return Gap(condition, None, part, whole)
    amount = round_up(bound * whole - part, record.record.group.facts[ratio.part].step)
    return Gap(condition, amount, part, whole)


def measured(record: RecordStanding, name: str, now: datetime) -> Number | None:
    """The number given for a fact or told by the clock; None while unknown."""
    value = record.record.number(name)
    fact = record.record.group.facts[name]
    return record.record.hours(fact, now) if value is None and fact.since else value


def _value(gap: Gap, ratio: bool) -> float | int | None:
    if gap.value is None:
        return None
    return float(gap.value) if ratio else plain(gap.value)


def _gap_as_json(
    standing: Standing, criterion: Criterion, reach: Reach, gap: Gap
) -> dict[str, Any]:
    ratio = standing.pack.ratios.get((criterion.scope, gap.condition.metric))
    facts = reach.standing.record.group.facts
    fact = facts[ratio.part if ratio else gap.condition.metric]
    unit = ratio.unit if ratio else fact.unit
    entry: dict[str, Any] = {
        "metric": gap.condition.metric,
        "value": _value(gap, ratio is not None),
        "threshold": bound_as_json(gap.condition.bound),
        "unit": unit,
        "short_by": None if gap.short_by is None else plain(gap.short_by),
        "short_by_unit": unit,
    }
    if ratio is not None:
        entry["numerator"] = None if gap.part is None else plain(gap.part)
        entry["denominator"] = None if gap.whole is None else plain(gap.whole)
        entry["short_by_amount"] = (
            None if gap.amount is None else {"value": plain(gap.amount), "unit": fact.unit}
        )
    reached = _reached_at(reach, fact, gap, standing.now)
    if reached is not None:
        entry["reached_at"] = reached.isoformat()
    return entry


def _reached_at(reach: Reach, fact: Fact, gap: Gap, now: datetime) -> datetime | None:
    """When the clock alone will reach the bound; None when it is not running that far."""
    values = reach.standing.record.values
    since, until = values.get(fact.since or ""), values.get(fact.until or "")
    if not isinstance(since, datetime):
        return None
    at = since + hours(gap.condition.number)
    return None if at <= now or (isinstance(until, datetime) and until < at) else at


def hours(number: Number) -> timedelta:
    """A number of hours as a duration, rounded up to a microsecond."""
    return timedelta(microseconds=int(round_up(Fraction(number) * 3_600_000_000, 1)))
