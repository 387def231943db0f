"""What a series is of: for each metric, the value of a district or of the city at a point."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from data.history_counts import Counted, CountHistory
from data.history_facilities import (
    Causes,
    Reports,
    RestoredFacilities,
    SharesDown,
    Value,
    shared,
)
from data.history_levels import (
    Declarations,
    FacilityLevels,
    Grade,
    Graded,
    IncidentLevels,
    PowerLevels,
    power_event,
)
from data.history_points import Point
from data.history_power import PowerAt, PowerHistory
from data.history_sites import CauseHistory, ReportHistory
from data.rulepacks import RulePacks
from data.situation import supply_kinds
from geo.errors import Fault, InvalidInput
from geo.history import METRICS, Share, restored
from geo.rules import RulePack

FACILITIES, SUPPLY, INCIDENTS = "facilities", "supply", "incidents"
UNITS = {
    "level": "level",
    "share_down": "facility",
    "load_share": "MW",
    "customers_share": "customer",
    "causes": "facility",
    "report_age": "s",
}


class Track(Protocol):
    """A metric along the points of one division version, asked for one after another."""

    def values(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Iterator[Value]: ...


def grades_by(pack: RulePack) -> str:
    """What a plan grades, by the facts it asks for, as `geo.situation`."""
    districts = pack.schema.groups.get("districts")
    if districts is None:
        return INCIDENTS
    return FACILITIES if "facilities_total" in districts.facts else SUPPLY


@dataclass
class Series:
    """A metric under a plan. `peaks`: the greatest number down seen so far, per district."""

    metric: str
    plan: str | None
    nature: str | None
    chosen: tuple[str, ...] | None
    peaks: dict[str | None, int] = field(default_factory=dict)

    @property
    def per_operator(self) -> bool:
        return self.metric == "report_age"

    @property
    def unit(self) -> str:
        if self.metric == "restored":
            return "MW" if self.nature == SUPPLY else "facility"
        return UNITS[self.metric]

    def kinds(self, point: Point) -> tuple[str, ...] | None:
        """The kinds of facility it counts at a point; None for all."""
        if self.chosen is not None:
            return self.chosen
        if self.plan is None:
            return None
        pack = point.packs.get(self.plan)
        return pack.facility_kinds if pack else ()

    def begin(
        self,
        connection: Connection,
        own: Sequence[Point],
        codes: Sequence[str],
        counts: CountHistory,
    ) -> Track:
        """A track along points that have one division version and the same rules."""
        if self.plan is not None and self.plan not in own[0].packs:
            return _Missing("no_plan")
        if self.metric == "level":
            return _Levels(connection, own, codes, counts, self.plan or "", self.nature or "")
        if self.metric in ("load_share", "customers_share"):
            return _PowerShares(connection, own, codes, self.metric)
        if self.metric == "restored" and self.nature == SUPPLY:
            return _RestoredPower(connection, own, codes)
        kinds = self.kinds(own[0])
        if self.metric == "restored":
            return RestoredFacilities(kinds, self.peaks)
        if self.metric == "causes":
            return Causes(CauseHistory(connection, own, kinds).walk(), kinds)
        if self.metric == "report_age":
            return Reports(ReportHistory(connection, own, kinds).walk(), kinds, counts)
        return SharesDown(kinds)


def series_of(
    metric: str, plan: str | None, kinds: tuple[str, ...] | None, packs: RulePacks
) -> Series:
    """The series of a metric. Raises InvalidInput for what does not go together."""
    faults: list[Fault] = []
    if metric not in METRICS:
        faults.append(Fault(f"is no metric; known are {', '.join(METRICS)}", None, "metric"))
    nature = None
    if plan is not None and plan not in packs.plans():
        faults.append(Fault(f"is no plan; known are {', '.join(packs.plans())}", None, "plan"))
    elif plan is not None:
        nature = grades_by(packs.versions(plan)[-1])
    elif metric in ("level", "restored"):
        faults.append(Fault(f"is needed: say of which plan the {metric} is", None, "plan"))
    if not faults:
        faults = _unfit(metric, nature, kinds)
    if faults:
        raise InvalidInput(faults)
    return Series(metric, plan, nature, kinds)


def _unfit(metric: str, nature: str | None, kinds: tuple[str, ...] | None) -> list[Fault]:
    if metric in ("load_share", "customers_share") and nature not in (None, SUPPLY):
        return [Fault(f"does not grade supply, so it has no {metric}", None, "plan")]
    if metric == "restored" and nature == INCIDENTS:
        return [Fault("grades incidents; nothing of it is restored by shares", None, "plan")]
    if kinds is not None and metric in ("level", "load_share", "customers_share"):
        return [Fault(f"does not choose what {metric} is of; leave it out", None, "kind")]
    if kinds is not None and metric == "restored" and nature == SUPPLY:
        return [Fault("does not choose what is restored of power; leave it out", None, "kind")]
    if metric in ("share_down", "causes") and kinds is None and nature in (None, INCIDENTS):
        return [Fault(f"is needed: say of which kind of facility {metric} is", None, "kind")]
    return []


@dataclass
class _Missing:
    """Nothing can be said, and why."""

    reason: str

    def values(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Iterator[Value]:
        for adcode in there:
            yield adcode, None, _none(self.reason)


def _none(reason: str, **more: Any) -> dict[str, Any]:
    return {"value": None, **more, "reason": reason}


# --- levels -----------------------------------------------------------------------------------


class _Levels:
    def __init__(
        self,
        connection: Connection,
        own: Sequence[Point],
        codes: Sequence[str],
        counts: CountHistory,
        plan: str,
        nature: str,
    ) -> None:
        self._pack = own[0].packs[plan]
        self._declared = Declarations(connection, own[-1].sequence)
        self._power: _Power | None = None
        if nature == FACILITIES:
            self._facilities = FacilityLevels(counts.units)
        elif nature == SUPPLY:
            self._power, self._event = _Power(connection, own, codes), PowerLevels(codes)
        else:
            self._incidents = IncidentLevels(connection, own)
        self._nature = nature

    def values(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Iterator[Value]:
        graded = self._graded(number, point, counted, there)
        for adcode in there:
            if adcode is not None:
                yield adcode, None, self._labelled(graded.districts.get(adcode))
                continue
            city = graded.city
            bounds = {"at_least": city.at_least, "at_most": city.at_most}
            current = {"current": city.current} if self._nature == SUPPLY else {}
            yield None, None, self._labelled(city.level, bounds=bounds, **current)

    def _graded(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Graded:
        declared = self._declared.facts(self._pack.plan, point.sequence)
        if self._nature == FACILITIES:
            return self._facilities.at(point, self._pack, counted, declared)
        if self._power is None:
            return self._incidents.at(point, self._pack)
        known = self._power.at(number, counted)
        if None not in there:
            districts = self._event.districts(point, self._pack, known)
            return Graded(Grade(None, None, None), districts)
        closed = self._declared.closed_at(point.sequence)
        return Graded(self._event.city(point, self._pack, known, declared, closed), {})

    def _labelled(self, level: int | None, **more: Any) -> dict[str, Any]:
        """A level of null is none, which is known: there is no reason to give."""
        label = None if level is None else self._pack.scale[level].label
        return {"value": level, "label": label, **more, "reason": None}


# --- power ------------------------------------------------------------------------------------


class _Power:
    """Supply and losses at a point, and what is lost of them now."""

    def __init__(self, connection: Connection, own: Sequence[Point], codes: Sequence[str]) -> None:
        self.declared = Declarations(connection, own[-1].sequence)
        self.codes = list(codes)
        kinds = supply_kinds(list(own[0].packs.values()))
        closed = self.declared.closed_at(own[0].sequence)
        self._history = PowerHistory(connection, own, own[0].version_id, kinds, closed)

    def at(self, number: int, counted: Counted) -> PowerAt:
        return self._history.at(number, counted.silent)


class _PowerShares:
    def __init__(
        self, connection: Connection, own: Sequence[Point], codes: Sequence[str], metric: str
    ) -> None:
        self._power, self._metric = _Power(connection, own, codes), metric

    def values(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Iterator[Value]:
        power = self._power.at(number, counted)
        view = power_event(self._power.codes, power, point.at, point.at).view
        for adcode in there:
            one = (
                view.city(view.lost)
                if adcode is None
                else view.supply_of(self._power.codes.index(adcode))
            )
            if self._metric == "customers_share":
                share = Share(one.customers_out, one.customers)
                yield adcode, None, shared(share, "no_supply", unknown=one.customers_unknown)
                continue
            told = shared(Share(one.load_shed_kw, one.load_kw), "no_supply")
            in_mw = {name: told[name] / 1000 for name in ("numerator", "denominator")}
            yield adcode, None, told | in_mw | {"unknown": one.load_unknown_kw / 1000}


class _RestoredPower:
    """Of the greatest load lost since the last confirmed end, what is back."""

    def __init__(self, connection: Connection, own: Sequence[Point], codes: Sequence[str]) -> None:
        self._power = _Power(connection, own, codes)

    def values(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Iterator[Value]:
        power = self._power.at(number, counted)
        closed = self._power.declared.closed_at(point.sequence)
        event = power_event(self._power.codes, power, point.at, closed)
        greatest = event.greatest()
        for adcode in there:
            if adcode is None:
                most, lost = int(greatest[-1, 2]), event.view.city(event.view.lost).load_shed_kw
            else:
                i = self._power.codes.index(adcode)
                most, lost = int(greatest[i, 0]), event.view.supply_of(i).load_shed_kw
            told = shared(restored(lost, most), "nothing_lost")
            in_mw = {name: told[name] / 1000 for name in ("numerator", "denominator")}
            yield adcode, None, told | in_mw
