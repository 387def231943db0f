"""The hours after a loss of supply: what falls at which minute, and the levels of every plan then.

Facilities only fall here, so levels only get graver between two instants at which the clock or an
incident matters: those are looked at, and between them only as much as is needed to find every
minute at which a level changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from data.facilities_at import PLACED, FacilitiesAt
from data.scenario_world import STANDING_COLUMNS, Standing, World
from geo.cascade import Fed, fall_minutes
from geo.situation import Situation

CHAIN_MAX = 5
"""How many feeders one behind the other are followed."""
CLOCK_INSTANTS_MAX = 100
NAMED_MAX = 1000
LIFT = "elevator"

Levels = tuple[dict[str, int | None], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Hanging:
    fed: Fed
    standing: Standing
    lift: bool


@dataclass
class _Hours:
    """The world at any minute; each is made once."""

    world: World
    start: datetime
    falls: list[tuple[int, _Hanging]]
    grade: Callable[[World, datetime], Situation]
    suppose_incidents: Callable[[World, int, int], None]
    _seen: dict[int, tuple[Situation, Levels]]

    def at(self, minute: int) -> tuple[Situation, Levels]:
        if minute not in self._seen:
            world = self.world.copy()
            for falls_at, one in self.falls:
                if falls_at > minute:
                    break
                instant = self.start + timedelta(minutes=falls_at)
                world.set_state(one.standing, "down", instant)
            self.suppose_incidents(world, 0, minute)
            result = self.grade(world, self.start + timedelta(minutes=minute))
            districts = {d["adcode"]: d["plans"] for d in result.districts}
            self._seen[minute] = result, (result.levels(), districts)
        return self._seen[minute]


def follow(
    facilities: FacilitiesAt,
    version_id: int,
    world: World,
    *,
    lost: Collection[str],
    supplied: Iterable[str],
    hours: float,
    grade: Callable[[World, datetime], Situation],
    suppose_incidents: Callable[[World, int, int], None],
    incident_minutes: Sequence[int],
) -> dict[str, Any]:
    """The cascade of what hangs on the facilities `lost`, over so many hours.

    `supplied` do not fall. `suppose_incidents(world, after, upto)` opens those of these minutes.
    """
    hanging = {h.fed.facility_id: h for h in _hanging(facilities, version_id, lost)}
    minutes = fall_minutes(lost, [h.fed for h in hanging.values()], lasting=set(supplied))
    last = int(hours * 60)
    falls = sorted(
        (
            (minute, hanging[name])
            for name, minute in minutes.items()
            if minute <= last and world.state_of(hanging[name].standing) != "down"
        ),
        key=lambda fall: (fall[0], fall[1].standing.pk),
    )
    then = _Hours(world, facilities.moment.now, falls, grade, suppose_incidents, {})
    looked_at = _instants(then, [m for m in incident_minutes if m <= last], last)
    timeline: list[dict[str, Any]] = []
    before: Levels | None = None
    for minute in looked_at:
        result, levels = then.at(minute)
        if before is None or levels != before:
            timeline.append(_row(then, minute, result, levels, before))
        before = levels
    return {
        "hours": hours,
        "supply_lost": sorted(lost)[:NAMED_MAX],
        **_fallen(then, last),
        "falls": _counted(falls),
        "timeline": timeline,
    }


def _hanging(facilities: FacilitiesAt, version_id: int, lost: Collection[str]) -> list[_Hanging]:
    """Everything that hangs on what is lost, directly or through others."""
    found: dict[int, _Hanging] = {}
    feeders = sorted(lost)
    select = (
        f"{STANDING_COLUMNS}, feeds_from, battery_hours, attributes ->> 'equipment'"
        f" FROM standing {PLACED}"
    )
    for _ in range(CHAIN_MAX):
        if not feeders:
            break
        values = {"feeders": feeders, "version": version_id}
        rows = facilities.select(select, "f.feeds_from = ANY (:feeders)", values)
        feeders = []
        for *columns, feeds_from, battery_hours, equipment in rows:
            one = Standing(*columns)
            if one.pk not in found:
                fed = Fed(one.facility_id, feeds_from, battery_hours)
                found[one.pk] = _Hanging(fed, one, equipment == LIFT)
                feeders.append(one.facility_id)
    return list(found.values())


def _instants(then: _Hours, incident_minutes: Sequence[int], last: int) -> list[int]:
    """Every minute at which a level may have changed, in order, with the first and the last."""
    forced = sorted({0, last, *incident_minutes})
    clocks = 0
    found: set[int] = set()
    falls = sorted({minute for minute, _ in then.falls})
    k = 0
    while k < len(forced):
        minute = forced[k]
        result, _ = then.at(minute)
        due = result.next_clock_at
        if due is not None and clocks < CLOCK_INSTANTS_MAX:
            # the first whole minute at which the clock has changed the grade
            ahead = -int(-(due - then.start).total_seconds() // 60)
            if minute < ahead <= last and ahead not in forced:
                forced = sorted([*forced, ahead])
                clocks += 1
        found.add(minute)
        k += 1
    for begin, end in pairwise(forced):
        within = [begin, *falls[bisect_left(falls, begin + 1) : bisect_left(falls, end)]]
        _divide(then, within, 0, len(within) - 1, found)
    return sorted(found)


def _divide(then: _Hours, minutes: Sequence[int], low: int, high: int, found: set[int]) -> None:
    """Add every minute of `minutes[low + 1 : high + 1]` at which the levels change."""
    if high <= low or then.at(minutes[low])[1] == then.at(minutes[high])[1]:
        return
    if high - low == 1:
        found.add(minutes[high])
        return
    middle = (low + high) // 2
    _divide(then, minutes, low, middle, found)
    _divide(then, minutes, middle, high, found)


def _row(
    then: _Hours, minute: int, result: Situation, levels: Levels, before: Levels | None
) -> dict[str, Any]:
    return {
        "minute": minute,
        "at": (then.start + timedelta(minutes=minute)).isoformat(),
        "plans": levels[0],
        "current": {plan: a.get("current", a)["level"] for plan, a in result.plans.items()},
        "districts": [
            {"adcode": code, "plans": plans}
            for code, plans in levels[1].items()
            if before is None or before[1].get(code) != plans
        ],
        **_fallen(then, minute),
    }


def _fallen(then: _Hours, minute: int) -> dict[str, Any]:
    """How many of each kind have fallen by a minute, and lifts among them."""
    gone = [one for falls_at, one in then.falls if falls_at <= minute]
    kinds: Mapping[str, int] = Counter(one.standing.kind for one in gone)
    return {"fallen": dict(sorted(kinds.items())), "lifts_stopped": sum(one.lift for one in gone)}


def _counted(falls: Sequence[tuple[int, _Hanging]]) -> list[dict[str, Any]]:
    """How many of each kind fall in each minute."""
    counted = Counter((minute, one.standing.kind) for minute, one in falls)
    return [{"minute": m, "kind": k, "facilities": n} for (m, k), n in sorted(counted.items())]
