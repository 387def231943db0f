"""What files say, as `geo.situation` takes it: the same aggregation and grading as the server's.

docs/meanings.md says what the numbers mean. Two things only a server can know are left out: area
shares, and who fell silent, unless the caller asks for the latter: without the time at which
reports were received, the newest observation of an operator stands for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from data.file_faults import faults_of
from data.incident_report import read_incident
from data.plan_facts import declarable
from data.readers.boundaries import default_divisions
from data.readers.divisions import DISTRICT, read_divisions_file
from data.rulepacks import RulePacks
from data.situation import supply_kinds
from data.sources import silent_operators
from data.status_file import StatusEvent, StatusFile
from data.zones import hosted, read_zones
from geo.errors import Fault, InvalidInput
from geo.power import Loss, Supply, down_intervals
from geo.rules import RulePack
from geo.situation import COUNTS, Known
from geo.units import UnitLocator


@dataclass(frozen=True)
class FileDivisions:
    """Districts (EPSG:4326, adcode, name, name_en, population, area_m2) and zones (code, name,
    adcodes, geometry or None), and what they are called."""

    label: str
    districts: gpd.GeoDataFrame
    zones: gpd.GeoDataFrame

    def locator(self) -> UnitLocator:
        shaped = self.zones[self.zones.geometry.notna()]
        shapeless = self.zones.loc[self.zones.geometry.isna(), "code"].tolist()
        return UnitLocator(self.districts, shaped, shapeless)

    def units(self) -> list[dict[str, Any]]:
        """Districts and zones as units, by kind and code, as `data.divisions.units`."""
        own = [
            {"code": d.adcode, "name": d.name, "kind": "district", "adcodes": [d.adcode]}
            for d in self.districts.sort_values("adcode").itertuples(index=False)
        ]
        zones = [
            {"code": z.code, "name": z.name, "kind": "functional_zone", "adcodes": list(z.adcodes)}
            for z in self.zones.sort_values("code").itertuples(index=False)
        ]
        return own + zones


def divisions_from_files(
    districts: Path | None,
    zones: Path | None,
    at: datetime,
    *,
    crs: str | None = None,
    zones_crs: str | None = None,
) -> FileDivisions:
    """The divisions of a file, or the shipped ones in force at `at`; zones of their file, if any.

    Raises InvalidInput as the readers, and for a time the shipped divisions do not know.
    """
    parts: list[gpd.GeoDataFrame] = []
    if districts is None:
        shipped = [
            d
            for d in default_divisions()
            if d.valid_from <= at and (d.valid_to is None or at < d.valid_to)
        ]
        if not shipped:
            raise InvalidInput([Fault("the shipped divisions begin later; give --districts")])
        label, frame = shipped[0].label, shipped[0].frame
    else:
        with faults_of(districts):
            read = read_divisions_file(districts, crs=crs)
            label = districts.name
            frame = read[read["kind"] == DISTRICT].rename(columns={"code": "adcode"})
            if frame.empty:
                raise InvalidInput("the file has no district")
        parts.append(read[read["kind"] != DISTRICT].assign(adcodes=None))
    if zones is not None:
        with faults_of(zones):
            parts.append(read_zones(zones, zones.name, crs=zones_crs))
    columns = ["code", "name", "adcodes", "geometry"]
    rows = [row for part in parts for row in part[columns].to_dict("records")]
    every = gpd.GeoDataFrame(rows, columns=columns, geometry="geometry", crs="EPSG:4326")
    frame = frame.reset_index(drop=True)
    if every["code"].duplicated().any():
        code = every.loc[every["code"].duplicated(), "code"].iloc[0]
        raise InvalidInput([Fault(f"zone {code} stands in both files", None, "code")])
    with faults_of(zones or districts):
        return FileDivisions(label, frame, hosted(every, frame))


@dataclass(frozen=True)
class FileKnown:
    """`known`, and what people should hear of it: ids in the status file that no facility has, and
    how many facilities lie outside all districts."""

    known: Known
    unknown_facilities: list[str]
    outside: int


def known_from_files(
    pack: RulePack,
    divisions: FileDivisions,
    facilities: pd.DataFrame | None,
    status: StatusFile | None,
    at: datetime,
    *,
    declared: Mapping[str, Any] | None = None,
    incidents: Sequence[Mapping[str, Any]] = (),
    silent_after_minutes: int | None = None,
) -> FileKnown:
    """What the files say of the moment `at` (aware).

    `facilities`: the frame of `data.facility_rows`, its index the row number. `incidents`: as
    `incidents_from_file`. Raises InvalidInput for a declared unit that is neither district nor
    zone, naming its row, and for a declared fact that follows from the files.
    """
    frame = _no_facilities() if facilities is None else facilities
    locator = divisions.locator()
    unit = np.array([u if isinstance(u, str) else None for u in frame["unit"]], object)
    _check_declared_units(unit, frame.index.tolist(), locator)
    adcode, unit = locator.place(frame["lon"].to_numpy(float), frame["lat"].to_numpy(float), unit)
    winners = {} if status is None else status.winners()
    ids = frame["facility_id"].to_numpy(object)
    at_import = frame["state_at_import"].to_numpy(object)
    state = [
        winners[i].state if i in winners else before
        for i, before in zip(ids, at_import, strict=True)
    ]
    placed = frame.assign(adcode=adcode, unit=unit, state=np.array(state, object))
    events = [] if status is None else status.events
    silent = _silent(placed, events, at, silent_after_minutes)
    kinds = supply_kinds([pack])
    supply, losses = _power(placed[placed["kind"].isin(kinds)], events, at, silent)
    known = Known(
        districts=_district_list(divisions.districts),
        units=divisions.units(),
        counts=_counts(placed),
        now=at,
        silent=silent,
        supply=supply,
        losses=losses,
        incidents=incidents,
        declared={pack.plan: _declared(pack, declared or {})},
        supply_kinds=kinds,
    )
    every = {*winners, *(e.facility_id for e in (status.ahead if status else ()))}
    return FileKnown(known, sorted(every - set(ids)), int(pd.isna(adcode).sum()))


def _no_facilities() -> pd.DataFrame:
    texts = ("facility_id", "kind", "operator", "unit", "state_at_import")
    numbers = ("lon", "lat", "load_kw", "customers", "main_grid")
    return pd.DataFrame(
        {**{n: np.empty(0, object) for n in texts}, **{n: np.empty(0) for n in numbers}}
    )


def _check_declared_units(unit: Any, rows: Sequence[int], locator: UnitLocator) -> None:
    zones = ", ".join(sorted(locator.zone_codes)) or "no zone"
    faults = [
        Fault(f"unit {code!r} is not loaded; known are districts and {zones}", row, "unit")
        for row, code in zip(rows, unit, strict=True)
        if code is not None and code not in locator.codes
    ]
    if faults:
        raise InvalidInput(faults)


def _declared(pack: RulePack, facts: Mapping[str, Any]) -> dict[str, Any]:
    allowed = declarable(pack)
    named = ", ".join(allowed) or "none under this plan"
    faults = [
        Fault(f"follows from the files, or is no fact; beside them may stand {named}", None, name)
        for name in facts
        if name not in allowed
    ]
    if faults:
        raise InvalidInput(faults)
    return dict(facts)


def _district_list(districts: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    rows = []
    for record in districts.sort_values("adcode").to_dict("records"):
        population, name_en = record.get("population"), record.get("name_en")
        rows.append(
            {
                "adcode": record["adcode"],
                "name": record["name"],
                "name_en": None if pd.isna(name_en) else name_en,
                "population": None if pd.isna(population) else int(population),
                "area_m2": float(record["area_m2"]),
            }
        )
    return rows


def _counts(placed: pd.DataFrame) -> pd.DataFrame:
    """One row per kind × operator × adcode × unit, as `geo.situation.Known.counts`."""
    keys = ["kind", "operator", "adcode", "unit"]
    ones = pd.DataFrame(
        {"total": 1} | {s: (placed["state"] == s).astype("int64") for s in COUNTS[1:]},
        index=placed.index,
    )
    sums = pd.concat([placed[keys].astype(object), ones.astype("int64")], axis=1)
    counts = sums.groupby(keys, dropna=False, sort=True)[list(COUNTS)].sum().reset_index()
    counts = counts.astype(dict.fromkeys(keys, object))
    places = ["adcode", "unit"]
    counts[places] = counts[places].where(counts[places].notna(), None)
    return counts


def _silent(
    placed: pd.DataFrame,
    events: Sequence[StatusEvent],
    at: datetime,
    after_minutes: int | None,
) -> frozenset[str]:
    if after_minutes is None:
        return frozenset()
    operator_of = dict(zip(placed["facility_id"], placed["operator"], strict=True))
    heard: dict[str, datetime] = {}
    for event in events:
        operator = operator_of.get(event.facility_id)
        if operator:
            heard[operator] = max(event.observed_at, heard.get(operator, event.observed_at))
    operators = sorted({o for o in placed["operator"] if o})
    return silent_operators(operators, heard, at, after_minutes)[0]


def _power(
    placed: pd.DataFrame,
    events: Sequence[StatusEvent],
    at: datetime,
    silent: frozenset[str],
) -> tuple[dict[tuple[str | None, bool], Supply], list[Loss]]:
    """Supply per district and grid, and every loss with its hours, as `data.power` reads them.

    The state in the facilities' file holds from the first observation of the status file on.
    """
    observed: dict[str, list[tuple[datetime, str, str]]] = defaultdict(list)
    wanted = set(placed["facility_id"])
    for event in events:
        if event.facility_id in wanted:
            seen = (event.observed_at, event.state, event.event_id)
            observed[event.facility_id].append(seen)
    since_first = min((e.observed_at for e in events), default=at)
    supply: dict[tuple[str | None, bool], Supply] = defaultdict(Supply)
    losses: list[Loss] = []
    columns = ("facility_id", "adcode", "operator", "state", "state_at_import")
    amounts = ("main_grid", "load_kw", "customers")
    texts = zip(*(placed[name].tolist() for name in columns), strict=True)
    numbers = zip(*(placed[name].astype("int64").tolist() for name in amounts), strict=True)
    for (fid, adcode, operator, state, before), (main, load, customers) in zip(
        texts, numbers, strict=True
    ):
        main_grid = bool(main)
        for since, until in down_intervals(observed[fid], before, min(since_first, at)):
            begin, end = min(since, at), until and min(until, at)
            losses.append(Loss(adcode, main_grid, load, customers, begin, end))
        unknown = state == "unknown" or (operator in silent and state != "down")
        supply[adcode, main_grid] += Supply(
            load_kw=load,
            load_unknown_kw=load if unknown else 0,
            customers=customers,
            customers_unknown=customers if unknown else 0,
        )
    return dict(supply), losses


def incidents_from_file(
    values: Sequence[Any], plan: str, packs: RulePacks, at: datetime, locator: UnitLocator
) -> list[dict[str, Any]]:
    """Open incidents of a plan from parsed objects as `POST /v1/incidents` takes them.

    `incident_id`, `plan` and `occurred_at` may be left out. Raises InvalidInput with every fault
    and its row.
    """
    faults: list[Fault] = []
    found: list[dict[str, Any]] = []
    for row, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            faults.append(Fault("an incident is a JSON object", row))
            continue
        assumed = {
            "incident_id": f"00000000-0000-4000-8000-{row:012d}",
            "plan": plan,
            "occurred_at": at.isoformat(),
        }
        try:
            read = read_incident({**assumed, **value}, packs, at)
        except InvalidInput as error:
            faults += [Fault(f.reason, row, f.field) for f in error.faults]
            continue
        adcode = unit = None
        if read.position is not None:
            lon, lat = (np.array([n], float) for n in read.position)
            adcode, unit = (one[0] for one in locator.place(lon, lat))
        if read.plan == plan:
            found.append(
                {
                    "incident_id": str(value.get("incident_id") or f"row {row}"),
                    "plan": plan,
                    "adcode": adcode,
                    "unit": unit,
                    "facts": read.facts,
                }
            )
    if faults:
        raise InvalidInput(faults)
    return found
