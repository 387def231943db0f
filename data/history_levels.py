"""Levels along a series, by the rules of the situation; graded again only where facts differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from data.history_counts import Counted
from data.history_points import IN_SPAN, Point, Steps
from data.history_power import PowerAt
from data.incidents import OPEN_STATES, open_incidents
from data.plan_facts import EVENT_PLANS
from geo.counts import unit_facts
from geo.grade import assess, district_levels, next_clock_change
from geo.power_event import PowerEvent, Settled, Supplies, graver
from geo.rules import RulePack
from geo.situation import levels_of_districts

_DECLARED = """
SELECT p.plan, p.revision, p.facts, p.close_event, h.sequence, h.received_at
FROM plan_facts p JOIN change h USING (batch_id) WHERE h.sequence <= :last ORDER BY p.revision
"""
_INCIDENTS = f"""
SELECT h.sequence, CAST(i.incident_id AS text) AS incident_id, i.plan, i.adcode, r.facts, r.state,
       r.version
FROM incident_revision r JOIN incident i USING (incident_id)
JOIN change h ON h.batch_id = r.batch_id
WHERE {IN_SPAN} ORDER BY h.sequence
"""


class Grade(NamedTuple):
    """A level and its bounds; `current` only where a plan grades an event's worst moment."""

    level: int | None
    at_least: int | None
    at_most: int | None
    current: int | None = None


@dataclass(frozen=True)
class Graded:
    """The plan's own grade and the level of each district that has one by its facts alone."""

    city: Grade
    districts: Mapping[str, int | None]


class Declarations:
    """What was declared under each plan, and when a power event was last closed, at a sequence."""

    def __init__(self, connection: Connection, last: int) -> None:
        self._rows = connection.execute(text(_DECLARED), {"last": last}).all()

    def facts(self, plan: str, sequence: int) -> dict[str, Any]:
        known = [r for r in self._rows if r.plan == plan and r.sequence <= sequence]
        return dict(known[-1].facts or {}) if known else {}

    def closed_at(self, sequence: int) -> datetime | None:
        return max(
            (
                r.received_at
                for r in self._rows
                if r.close_event and r.plan in EVENT_PLANS and r.sequence <= sequence
            ),
            default=None,
        )


class FacilityLevels:
    """Of a plan that grades counts of facilities per unit."""

    def __init__(self, units: Sequence[Mapping[str, Any]]) -> None:
        self._units = units
        self._known: dict[Any, Graded] = {}

    def at(
        self, point: Point, pack: RulePack, counted: Counted, declared: Mapping[str, Any]
    ) -> Graded:
        facts = unit_facts(counted.counts, pack.facility_kinds, counted.silent)
        key = (pack.version, repr(declared), tuple(tuple(one.values()) for one in facts))
        if key not in self._known:
            whole = {**declared, "districts": facts}
            found = assess(pack, whole, now=point.at)
            by_unit = district_levels(pack, whole, point.at)
            grade = Grade(found["level"], found["bounds"]["at_least"], found["bounds"]["at_most"])
            self._known[key] = Graded(grade, levels_of_districts(by_unit, self._units))
        return self._known[key]


class PowerLevels:
    """Of a plan that grades supply: an event at its worst moment, and what is lost now.

    The worst moment until a point stays what it was until something is told of a time before it.
    """

    def __init__(self, adcodes: Sequence[str]) -> None:
        self._adcodes = adcodes
        self._basis: Any = None
        self._settled: list[Settled] = []
        self._last: tuple[datetime, Supplies, Grade] | None = None
        self._known: dict[Any, Mapping[str, int | None]] = {}

    def city(
        self,
        point: Point,
        pack: RulePack,
        power: PowerAt,
        declared: Mapping[str, Any],
        closed: datetime | None,
    ) -> Grade:
        basis = (closed, pack.version, repr(declared))
        if power.anew or basis != self._basis:
            self._settled, self._last, self._basis = [], None, basis
            self._levels: dict[tuple[bytes, bytes], int | None] = {}
        elif power.changed_from is not None:
            until = power.changed_from
            self._settled = [one for one in self._settled if one.through <= until]
        if self._last is not None and power.changed_from is None:
            before, supply, grade = self._last
            if supply == power.supply and not _turns(power, before, point.at):
                return grade
        settled = self._settled[-1] if self._settled else None
        event = power_event(
            self._adcodes, power, point.at, settled.through if settled else closed, settled
        )
        grade = Grade(*event.levels(pack, declared, self._levels))
        self._settled += event.settled()
        self._last = (point.at, power.supply, grade)
        return grade

    def districts(self, point: Point, pack: RulePack, power: PowerAt) -> Mapping[str, int | None]:
        """Each by its facts alone, now; whatever was declared, as in the situation."""
        view = power_event(self._adcodes, power, point.at, point.at).view
        key = (pack.version, view.lost.tobytes(), view.supplied.tobytes())
        if key not in self._known:
            self._known[key] = district_levels(pack, view.facts(view.lost), point.at)
        return self._known[key]


def power_event(
    adcodes: Sequence[str],
    power: PowerAt,
    now: datetime,
    after: datetime | None,
    settled: Settled | None = None,
) -> PowerEvent:
    """The event since `after`, with the losses that stood then or came later; with `settled`, what
    was worst before is known. Until the last instant of which anything is told it is to be."""
    standing = [
        one for one in power.losses if after is None or one.until is None or one.until > after
    ]
    told = [t for one in standing for t in (one.since, one.until) if t is not None and t <= now]
    return PowerEvent(
        adcodes,
        power.supply,
        standing,
        now=now,
        after=after,
        earlier=power.earlier,
        settled=settled,
        settle_at=[max(told)] if told else [],
    )


def _turns(power: PowerAt, after: datetime, until: datetime) -> bool:
    """Whether the clock alone begins or ends a loss within `(after, until]`."""
    return any(
        after < one.since <= until or (one.until is not None and after < one.until <= until)
        for one in power.losses
    )


class IncidentLevels:
    """Of a plan that grades incidents: each by itself, the gravest open one decides."""

    def __init__(self, connection: Connection, own: Sequence[Point]) -> None:
        first = own[0]
        self._newest = {
            one["incident_id"]: one for one in open_incidents(connection, first.sequence, first.at)
        }
        rows = connection.execute(text(_INCIDENTS), Steps(own).span)
        self._coming: Iterator[dict[str, Any]] = iter([dict(row._mapping) for row in rows])
        self._next = next(self._coming, None)
        self._known: dict[Any, tuple[datetime | None, Grade]] = {}

    def at(self, point: Point, pack: RulePack) -> Graded:
        while self._next is not None and self._next["sequence"] <= point.sequence:
            one = self._next
            known = self._newest.get(one["incident_id"])
            if known is None or one["version"] > known["version"]:
                self._newest[one["incident_id"]] = one
            self._next = next(self._coming, None)
        grades: list[Grade] = []
        districts: dict[str, int | None] = {}
        for one in self._newest.values():
            if one["plan"] != pack.plan or one["state"] not in OPEN_STATES:
                continue
            grade = self._grade(point, pack, one)
            grades.append(grade)
            if one["adcode"]:
                districts[one["adcode"]] = graver(districts.get(one["adcode"]), grade.level)
        levels, least, most, _ = zip(*grades, strict=True) if grades else ((),) * 4
        return Graded(Grade(_gravest(levels), _gravest(least), _gravest(most)), districts)

    def _grade(self, point: Point, pack: RulePack, one: Mapping[str, Any]) -> Grade:
        """Graded once per version, and again when the clock alone changes what it comes to."""
        key = (one["incident_id"], one["version"], pack.version)
        known = self._known.get(key)
        if known is None or (known[0] is not None and point.at >= known[0]):
            found = assess(pack, one["facts"], now=point.at)
            bounds = found["bounds"]
            grade = Grade(found["level"], bounds["at_least"], bounds["at_most"])
            known = (next_clock_change(pack, one["facts"], point.at), grade)
            self._known[key] = known
        return known[1]


def _gravest(levels: Sequence[int | None]) -> int | None:
    return min((level for level in levels if level is not None), default=None)
