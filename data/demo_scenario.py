"""The demonstration event: a storm over the north-east, minute by minute, and how it ends.

Substations fail; the base stations they feed live on their batteries and then die; broken trunk
lines take more of them; lifts stop with people inside; crews bring everything back and the event
is confirmed to be over. A pure function of the inventory and a seed: the same rows give the same
steps. `demo_levels.csv` beside this file holds every change of a plan's level on the way, and the
shares here keep such margins that it is the same for an inventory of ten thousand or a million.

Minutes count from the first gust. Nothing here is real.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pandas as pd
import shapely

from geo.crs import METRIC_CRS, geometry_from_wgs84, geometry_to_wgs84
from geo.errors import InvalidInput

LENGTH_MINUTES: Final = 600
LEVELS_FILE: Final = Path(__file__).with_name("demo_levels.csv")
COMMUNICATIONS: Final = "communications-2024"
POWER: Final = "power-outage-2021"
SPECIAL_EQUIPMENT: Final = "special-equipment-2023"

#: Where the storm comes from, degrees: substations fail in order of their distance from it.
_STORM_FROM: Final = (109.9, 32.2)
_REPORT_EVERY_MINUTES: Final = 20
#: A part of a district that is "half": over 40 % and under 60 % of load, with room on both sides.
_HALF: Final = (0.42, 0.58)
_DAMAGED_EVERY: Final = 10
_CUT_OFF_SHARE: Final = 0.75


@dataclass(frozen=True)
class StatusReport:
    """Facilities seen in a state at a minute."""

    minute: int
    facility_ids: tuple[str, ...]
    state: str
    cause: str


@dataclass(frozen=True)
class OutageReport:
    """A revision of a reported outage; `restored_minute` once it is over. Power in kW."""

    minute: int
    key: str
    revision: int
    facility_ids: tuple[str, ...]
    geometry: dict[str, Any]
    load_shed_kw: int
    customers_out: int
    started_minute: int
    restored_minute: int | None


@dataclass(frozen=True)
class IncidentReport:
    """People stuck in a lift, first reported. `position` is longitude, latitude, WGS-84."""

    minute: int
    key: str
    facility_id: str
    position: tuple[float, float]
    occurred_minute: int
    facts: dict[str, Any]
    description: str


@dataclass(frozen=True)
class IncidentUpdate:
    """The incident's facts as of a minute, and its state."""

    minute: int
    key: str
    state: str
    facts: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class EventClose:
    """A person confirms that the power event is over."""

    minute: int
    reason: str


Step = StatusReport | OutageReport | IncidentReport | IncidentUpdate | EventClose


@dataclass(frozen=True)
class _Blackout:
    """A district that loses all its power in two halves, then most base stations. Minutes."""

    half_fails: int
    rest_fails: int
    masts_break: int
    trunk_breaks: int
    half_restored: int
    rest_restored: int
    cells_return: int
    return_share: float
    rest_return: int


@dataclass(frozen=True)
class _Brownout:
    """A district that loses at most `share` of its load. Minutes."""

    fails: int
    share: float


_BLACKOUTS: Final = {
    "500229": _Blackout(20, 40, 30, 240, 480, 500, 510, 0.7, 550),
    "500238": _Blackout(60, 80, 70, 300, 450, 470, 480, 0.8, 520),
}
_BROWNOUTS: Final = {
    "500237": _Brownout(100, 0.33),
    "500236": _Brownout(110, 0.27),
    "500235": _Brownout(120, 0.15),
    "500154": _Brownout(130, 0.13),
}
_BROWNOUTS_RESTORED: Final = 420
_BROWNOUT_CELLS_RETURN: Final = 440
_OUTAGE_OF: Final = "500237"
DISTRICTS: Final = tuple(sorted({*_BLACKOUTS, *_BROWNOUTS}))


@dataclass(frozen=True)
class _Lift:
    """One lift that stops: where, when, how many people, when they are out. Minutes."""

    key: str
    adcode: str
    stops: int
    reported: int
    people: int
    released: int


_LIFTS: Final = (
    _Lift("lift-1", "500229", 20, 35, 3, 75),
    _Lift("lift-2", "500229", 40, 52, 2, 100),
    _Lift("lift-3", "500238", 60, 75, 6, 225),
    _Lift("lift-4", "500238", 80, 95, 1, 140),
    _Lift("lift-5", "500237", 100, 120, 4, 165),
    _Lift("lift-6", "500236", 110, 125, 2, 170),
)


def level_changes() -> list[tuple[int, str, int | None]]:
    """Every change of a plan's level: (minute, plan, level from then on, None for none)."""
    with LEVELS_FILE.open(encoding="utf-8", newline="") as file:
        return [
            (int(row["minute"]), row["plan"], int(row["level"]) if row["level"] else None)
            for row in csv.DictReader(file)
        ]


def storm(inventory: pd.DataFrame, seed: int) -> list[Step]:
    """The steps of the event, in order of their minute.

    `inventory`: facilities of DISTRICTS with facility_id, kind, adcode, lon, lat, load_kw,
    customers, feeds_from, battery_hours, equipment. Raises InvalidInput if it is too small for the
    story.
    """
    return sorted(_Storm(inventory, seed).steps(), key=lambda step: step.minute)


class _Storm:
    def __init__(self, inventory: pd.DataFrame, seed: int) -> None:
        ordered = inventory[inventory["adcode"].isin(DISTRICTS)].sort_values("facility_id")
        self.rng = np.random.default_rng(seed)
        self.kinds = dict(iter(ordered.groupby("kind")))
        for kind in ("substation", "base_station", "exchange", "special_equipment"):
            missing = set(DISTRICTS) - set(self._all(kind, None)["adcode"])
            if missing:
                raise InvalidInput(
                    f"the demonstration needs a {kind} in each of {', '.join(DISTRICTS)}; "
                    "load a synthetic inventory of at least 10000 facilities"
                )
        #: Substation → minutes at which it fails and is restored.
        self.dark: dict[str, tuple[int, int]] = {}

    def _all(self, kind: str, adcode: str | None) -> pd.DataFrame:
        rows = self.kinds.get(kind)
        if rows is None:
            return pd.DataFrame(columns=["facility_id", "adcode"])
        return rows if adcode is None else rows[rows["adcode"] == adcode]

    def steps(self) -> Iterator[Step]:
        """Power first: what hangs on it follows, also within one minute."""
        for adcode, blackout in _BLACKOUTS.items():
            yield from self._black_out(adcode, blackout)
        for adcode, brownout in _BROWNOUTS.items():
            yield from self._brown_out(adcode, brownout)
        yield from self._outage()
        for adcode, blackout in _BLACKOUTS.items():
            yield from self._cells_of_blackout(adcode, blackout)
        for adcode in _BROWNOUTS:
            yield from self._cells_of_brownout(adcode)
        for lift in _LIFTS:
            yield from self._stranded(lift)
        yield EventClose(LENGTH_MINUTES, "演示：供电全部恢复，次生事故已处置 (demonstration ends)")

    # --- power ---

    def _substations(self, adcode: str) -> pd.DataFrame:
        """In the order in which the storm reaches them, each with its share of the load."""
        rows = self._all("substation", adcode)
        away = np.hypot(
            (rows["lon"] - _STORM_FROM[0]) * math.cos(math.radians(31)),
            rows["lat"] - _STORM_FROM[1],
        )
        share = rows["load_kw"] / max(int(rows["load_kw"].sum()), 1)
        return rows.assign(away=away, share=share).sort_values(["away", "facility_id"])

    def _black_out(self, adcode: str, plan: _Blackout) -> Iterator[Step]:
        rows = self._substations(adcode)
        half: list[str] = []
        lost = 0.0
        for name, share in zip(rows["facility_id"], rows["share"], strict=True):
            if lost < _HALF[0] and lost + share <= _HALF[1]:
                half.append(name)
                lost += share
        if lost < _HALF[0]:
            raise InvalidInput(f"no set of substations makes up half the load of {adcode}")
        rest = [name for name in rows["facility_id"] if name not in set(half)]
        for names, fails, restored in (
            (half, plan.half_fails, plan.half_restored),
            (rest, plan.rest_fails, plan.rest_restored),
        ):
            yield from self._fail(names, fails, restored)

    def _brown_out(self, adcode: str, plan: _Brownout) -> Iterator[Step]:
        rows = self._substations(adcode)
        names: list[str] = []
        lost = 0.0
        for name, share in zip(rows["facility_id"], rows["share"], strict=True):
            if lost + share <= plan.share:
                names.append(name)
                lost += share
        names = names or [rows.sort_values("share")["facility_id"].iloc[0]]
        yield from self._fail(names, plan.fails, _BROWNOUTS_RESTORED)

    def _fail(self, names: list[str], fails: int, restored: int) -> Iterator[Step]:
        self.dark |= dict.fromkeys(names, (fails, restored))
        yield StatusReport(fails, tuple(sorted(names)), "down", "暴风雨 (storm)")
        yield StatusReport(restored, tuple(sorted(names)), "up", "抢修恢复 (restored)")

    def _outage(self) -> Iterator[Step]:
        """One district's utility also reports its outage with an extent, and revises it."""
        rows = self._all("substation", _OUTAGE_OF)
        dark = rows["facility_id"].isin(self.dark).to_numpy()
        lost = rows[dark]
        geometry = _extent(rows["lon"].to_numpy(), rows["lat"].to_numpy(), dark)
        fails = _BROWNOUTS[_OUTAGE_OF].fails
        for revision, (minute, restored) in enumerate(
            ((fails, None), (_BROWNOUTS_RESTORED, _BROWNOUTS_RESTORED))
        ):
            yield OutageReport(
                minute,
                f"outage-{_OUTAGE_OF}",
                revision,
                tuple(lost["facility_id"]),
                geometry,
                int(lost["load_kw"].sum()),
                int(lost["customers"].sum()),
                fails,
                restored,
            )

    # --- communications ---

    def _cells_of_blackout(self, adcode: str, plan: _Blackout) -> Iterator[Step]:
        cells = self._all("base_station", adcode).sort_values(["battery_hours", "facility_id"])
        exchanges = tuple(self._all("exchange", adcode)["facility_id"])
        ids = cells["facility_id"].tolist()
        offset = int(self.rng.integers(_DAMAGED_EVERY))
        broken = ids[min(offset, len(ids) - 1) :: _DAMAGED_EVERY]
        yield StatusReport(
            plan.masts_break, tuple(broken), "down", "倒杆断缆 (mast or cable broken)"
        )
        dies = {k: v for k, v in self._battery_deaths(cells).items() if k not in set(broken)}
        down = set(broken) | {k for k, minute in dies.items() if minute <= plan.trunk_breaks}
        wanted = math.ceil(_CUT_OFF_SHARE * (len(ids) + len(exchanges))) - len(down)
        standing = sorted(set(ids) - down)
        cut_off = standing[: max(wanted, 0)]
        yield from _deaths({k: v for k, v in dies.items() if k not in set(cut_off)})
        yield StatusReport(plan.trunk_breaks, tuple(cut_off), "down", "中继光缆中断 (trunk cut)")
        yield StatusReport(plan.trunk_breaks, exchanges, "degraded", "中继光缆中断 (trunk cut)")
        yield StatusReport(plan.cells_return, exchanges, "up", "光缆抢通 (trunk restored)")
        gone = sorted(down | set(cut_off) | set(dies))
        first = math.ceil(plan.return_share * len(gone))
        for minute, names in ((plan.cells_return, gone[:first]), (plan.rest_return, gone[first:])):
            yield StatusReport(minute, tuple(names), "up", "基站恢复 (restored)")

    def _cells_of_brownout(self, adcode: str) -> Iterator[Step]:
        dies = self._battery_deaths(self._all("base_station", adcode))
        yield from _deaths(dies)
        yield StatusReport(_BROWNOUT_CELLS_RETURN, tuple(sorted(dies)), "up", "基站恢复 (restored)")

    def _battery_deaths(self, cells: pd.DataFrame) -> dict[str, int]:
        """Base station → minute of the report by which its battery was empty before power came."""
        dies = {}
        for name, source, hours in zip(
            cells["facility_id"], cells["feeds_from"], cells["battery_hours"], strict=True
        ):
            if source not in self.dark or not hours >= 0:
                continue
            fails, restored = self.dark[source]
            every = _REPORT_EVERY_MINUTES
            minute = math.ceil((fails + hours * 60) / every) * every
            if minute < restored:
                dies[name] = minute
        return dies

    # --- special equipment ---

    def _stranded(self, lift: _Lift) -> Iterator[Step]:
        rows = self._all("special_equipment", lift.adcode)
        stops = [self.dark.get(source, (LENGTH_MINUTES, 0))[0] for source in rows["feeds_from"]]
        lifts = rows[(rows["equipment"] == "elevator") & (np.array(stops) <= lift.stops)]
        if lifts.empty:
            raise InvalidInput(
                f"no lift of {lift.adcode} has lost its power by minute {lift.stops}; "
                "load a synthetic inventory of at least 10000 facilities"
            )
        row = lifts.iloc[int(self.rng.integers(len(lifts)))]
        name = str(row["facility_id"])

        def facts(minute: int) -> dict[str, Any]:
            hours = round((minute - lift.stops) / 60, 4)
            return {"people_stranded": lift.people, "stranded_hours": hours}

        yield StatusReport(lift.stops, (name,), "down", "停电停运 (power lost)")
        yield IncidentReport(
            lift.reported,
            lift.key,
            name,
            (float(row["lon"]), float(row["lat"])),
            lift.stops,
            facts(lift.reported),
            f"演示：停电困梯，{lift.people} 人 (demonstration: {lift.people} stuck in a lift)",
        )
        for minute in range(lift.stops + 30, lift.released, 30):
            if minute > lift.reported:
                yield IncidentUpdate(minute, lift.key, "active", facts(minute), "救援中 (rescue)")
        yield IncidentUpdate(
            lift.released, lift.key, "resolved", facts(lift.released), "人员救出 (all out)"
        )
        yield StatusReport(lift.released + 5, (name,), "up", "恢复运行 (back in service)")


def _deaths(dies: dict[str, int]) -> Iterator[Step]:
    for minute in sorted(set(dies.values())):
        names = tuple(sorted(name for name, when in dies.items() if when == minute))
        yield StatusReport(minute, names, "down", "电池耗尽 (battery empty)")


def _extent(lon: Any, lat: Any, dark: Any) -> dict[str, Any]:
    """GeoJSON around the dark substations, never so wide that it holds another one."""
    points = geometry_from_wgs84(shapely.points(lon, lat), METRIC_CRS)
    circles = []
    for point in points[dark]:
        others = shapely.distance(point, points[~dark])
        circles.append(shapely.buffer(point, min(3_000.0, 0.45 * float(others.min(initial=1e9)))))
    area = geometry_to_wgs84(shapely.union_all(circles), METRIC_CRS)
    rounded = shapely.set_precision(area, 1e-6)
    geojson: dict[str, Any] = orjson.loads(shapely.to_geojson(rounded))
    return geojson
