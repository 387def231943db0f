"""What stands and happens in a region at a moment: the numbers of `POST /v1/regions/query`.

docs/meanings.md, "Regions and scenarios". Districts that lie wholly inside are answered from the
counters, the others by the positions of their facilities, so that parts and whole agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry
from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.counters import counters_at
from data.database import CITY, reading, set_scope
from data.divisions import districts_frame, version_at
from data.facilities_at import FacilitiesAt, moment_asked
from data.incidents import open_incidents
from data.outages import open_outages
from data.region_people import people_inside
from data.rulepacks import RulePacks
from data.situation import AreaShares, Moment, supply_kinds
from data.sources import sources_at
from data.teams import teams_inside
from geo.grade import assess
from geo.region import (
    Region,
    RegionParts,
    labels,
    region_parts,
    share_of_shape,
    shares_inside,
)
from geo.region_cells import INSIDE, SIDE, region_cells
from geo.rules import RulePack

COUNTS = ("total", "down", "degraded", "unknown")
LISTED_MAX = 1000
"""Incidents, outages and resources named in an answer; all of them are counted."""

#: The cell of facility f in the region's grid; the arrays are read once, as subqueries.
_CELL = f"""
(SELECT CAST(:cells AS int[]))[1
    + least(CAST(floor((ST_X(f.geom) - :west) / :width) AS int), {SIDE - 1}) * {SIDE}
    + least(CAST(floor((ST_Y(f.geom) - :south) / :height) AS int), {SIDE - 1})]
"""
#: Whether f lies in the region: by its cell, and where the border runs through it, by its piece.
_BY_CELL = f"""
CASE
    WHEN ST_X(f.geom) < :west OR ST_X(f.geom) > :east
      OR ST_Y(f.geom) < :south OR ST_Y(f.geom) > :north THEN false
    WHEN {_CELL} <= 0 THEN {_CELL} = {INSIDE}
    ELSE ST_Intersects(f.geom, (SELECT CAST(:pieces AS geometry[]))[{_CELL}]) END
"""
_IN_BOUNDS = "f.geom && ST_MakeEnvelope(:west, :south, :east, :north, 4326)"
#: For regions of few corners, which need no grid.
_BY_SHAPE = "ST_Intersects(f.geom, CAST(:shape AS geometry))"
FEW_CORNERS = 32
_BY_GROUP = """
SELECT g.kind, g.operator, CAST(x.state AS text), sum(x.n)::bigint, sum(x.load)::bigint,
       sum(x.customers)::bigint
FROM (SELECT group_id, state, count(*) AS n, sum(load_kw) AS load, sum(customers) AS customers
      FROM standing GROUP BY 1, 2) x
JOIN counter_group g ON g.id = x.group_id
GROUP BY 1, 2, 3
"""
#: What was replaced since has no group of its own.
_BY_KIND = """
SELECT kind, operator, CAST(state AS text), count(*), sum(load_kw)::bigint, sum(customers)::bigint
FROM standing GROUP BY kind, operator, state
"""
#: Whether f stands in one of these districts: now as its row says, and in a past version's.
_NOW_IN = "f.adcode = ANY (:codes)"
_PAST_IN = """
f.placement_id IN (SELECT placement_id FROM placement_division
                   WHERE version_id = :version AND adcode = ANY (:codes))
"""
_NOW_NOWHERE = "f.adcode IS NULL"
_PAST_NOWHERE = """
f.placement_id IN (SELECT placement_id FROM placement_division
                   WHERE version_id = :version AND adcode IS NULL)
"""


@dataclass(frozen=True)
class _Asked:
    """A question and what it is answered from."""

    region: Region
    parts: RegionParts
    districts: gpd.GeoDataFrame
    version_id: int
    moment: Moment
    account: Account
    packs: Sequence[RulePack]

    @property
    def whole(self) -> list[str]:
        return [p.adcode for p in self.parts.districts if p.whole]

    @property
    def mostly(self) -> list[str]:
        """Districts answered by their counters less what stands outside the region."""
        if self.region.geometry is None:
            return []
        return [
            p.adcode
            for p in self.parts.districts
            if not p.whole and p.share_of_district > 0.5 and self.account.sees(p.adcode)
        ]


def query_region(
    engine: Engine,
    region: Region,
    packs: RulePacks,
    *,
    account: Account,
    at: datetime | None = None,
    area: AreaShares | None = None,
) -> dict[str, Any]:
    """The answer. Raises InvalidInput for a region that cannot be cut, or an unknown district."""
    with reading(engine, snapshot=True) as connection:
        moment = moment_asked(connection, at)
        version = version_at(connection, moment.at)
        districts = districts_frame(connection, version.id)
        parts = region_parts(region, districts)
        in_force = packs.in_force(moment.now)
        asked = _Asked(region, parts, districts, version.id, moment, account, in_force)
        outages = open_outages(connection, moment.sequence, version.id, moment.now)
        kinds = supply_kinds(in_force)
        shares = (
            area.shares(connection, version, moment.sequence, moment.at, outages, kinds)
            if area
            else {}
        )
        returns = [
            {"operator": s.operator, "kind": s.kind}
            for s in sources_at(connection, moment.sequence)
            if s.kind_of_source == "return"
        ]
        facilities = FacilitiesAt(connection, moment)
        covered = _covered_supply(facilities, asked, outages, kinds)
        set_scope(connection, account.scope)
        rows = [*_inside(connection, asked, facilities), *_in_whole_districts(connection, asked)]
        incidents = _incidents(connection, asked)
        teams = teams_inside(connection, account, moment, region.geometry, asked.whole)
    load, customers = _power(asked, rows, outages, covered, kinds)
    return {
        "at": at.isoformat() if at else None,
        "as_of": moment.as_of.isoformat(),
        "sequence": moment.sequence,
        "divisions": version.label,
        "region": {"kind": region.kind, "crs": region.crs}
        | ({"radius_m": region.radius_m} if region.radius_m else {})
        | ({"buffer_m": region.buffer_m} if region.buffer_m else {}),
        "area_m2": parts.area_m2,
        "outside_m2": parts.outside_m2,
        "districts": labels(parts.districts),
        "facilities": _facilities(rows),
        "scope": {"districts": list(account.districts), "operators": list(account.operators)},
        "reported_by_return": returns,
        "population": people_inside(parts.districts, shares, kinds),
        "load": load,
        "customers": customers,
        **incidents,
        **_outages(asked, outages),
        "resources_total": len(teams),
        "resources": teams[:LISTED_MAX],
    }


# --- facilities -------------------------------------------------------------------------------

Row = tuple[str, str, str, int, int, int]


def _inside(connection: Connection, asked: _Asked, facilities: FacilitiesAt) -> list[Row]:
    """kind, operator, state, count, load, customers of what stands in the region's cut districts
    and outside the city."""
    if asked.region.geometry is None:
        return []
    # what is summed fits into memory, instead of being sorted on disk
    connection.execute(text("SET LOCAL work_mem = '64MB'"))
    values = _cells_of(asked.region.geometry) | {"version": asked.version_id}
    lies_in = _BY_SHAPE if "shape" in values else f"{_IN_BOUNDS} AND {_BY_CELL}"
    past = asked.moment.at is not None
    there, nowhere = (_PAST_IN, _PAST_NOWHERE) if past else (_NOW_IN, _NOW_NOWHERE)
    summed = _BY_KIND if past else _BY_GROUP
    cut = [code for code in asked.parts.cut if code not in asked.mostly]
    where = f"({nowhere} OR {there}) AND {lies_in}"
    rows: list[Row] = [tuple(r) for r in facilities.select(summed, where, values | {"codes": cut})]
    if asked.mostly:
        # of a district that lies mostly inside, what stands outside is the lesser count
        where = f"{there} AND NOT ({lies_in})"
        beyond = facilities.select(summed, where, values | {"codes": asked.mostly})
        rows += [(k, op, state, -n, -kw, -c) for k, op, state, n, kw, c in beyond]
    return rows


def _cells_of(geometry: BaseGeometry) -> dict[str, Any]:
    """What `_BY_SHAPE` or `_BY_CELL` is told of a region."""
    if shapely.get_num_coordinates(geometry) <= FEW_CORNERS:
        return {
            "shape": shapely.to_wkb(shapely.set_srid(geometry, 4326), hex=True, include_srid=True)
        }
    cells = region_cells(geometry)
    pieces = shapely.set_srid(np.array(cells.pieces, dtype=object), 4326)
    return dict(zip(("west", "south", "east", "north"), cells.bounds, strict=True)) | {
        "width": cells.width,
        "height": cells.height,
        "cells": cells.cell.tolist(),
        "pieces": "{" + ":".join(shapely.to_wkb(pieces, hex=True, include_srid=True)) + "}",
    }


def _in_whole_districts(connection: Connection, asked: _Asked) -> list[Row]:
    """The same of the districts that lie wholly inside, from the counters."""
    visible = [code for code in asked.whole if asked.account.sees(code)] + asked.mostly
    if not visible:
        return []
    counters = counters_at(connection, asked.version_id, asked.moment.sequence, asked.moment.now)
    counters = counters[counters["adcode"].isin(visible)]
    if asked.account.operators != CITY:
        counters = counters[counters["operator"].isin(asked.account.operators)]
    rows: list[Row] = []
    for key, one in counters.groupby(["kind", "operator"], sort=False):
        kind, operator = str(key[0]), str(key[1])
        s = {name: int(one[name].sum()) for name in one.columns if one[name].dtype == "int64"}
        rest = s["total"] - s["down"] - s["degraded"] - s["unknown"]
        up_kw = s["load_kw"] - s["load_down_kw"] - s["load_unknown_kw"]
        up_customers = s["customers"] - s["customers_down"] - s["customers_unknown"]
        rows += [
            # of degraded ones the counters do not keep the load apart; they are supplied
            (kind, operator, "up", rest, up_kw, up_customers),
            (kind, operator, "degraded", s["degraded"], 0, 0),
            (kind, operator, "unknown", s["unknown"], s["load_unknown_kw"], s["customers_unknown"]),
            (kind, operator, "down", s["down"], s["load_down_kw"], s["customers_down"]),
        ]
    return rows


def _facilities(rows: Sequence[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, operator, state, count, _, _ in sorted(rows):
        kinds = found.setdefault(kind, dict.fromkeys(COUNTS, 0) | {"operators": {}})
        mine = kinds["operators"].setdefault(operator, dict.fromkeys(COUNTS, 0))
        for sums in (kinds, mine):
            sums["total"] += int(count)
            if state != "up":
                sums[state] += int(count)
    found = {kind: sums for kind, sums in found.items() if sums["total"]}
    for kinds in found.values():
        kinds["operators"] = {op: s for op, s in kinds["operators"].items() if s["total"]}
        for sums in (kinds, *kinds["operators"].values()):
            sums["share_down"] = sums["down"] / sums["total"] if sums["total"] else None
    return found


# --- power ------------------------------------------------------------------------------------


def _covered_supply(
    facilities: FacilitiesAt,
    asked: _Asked,
    outages: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
) -> list[Any]:
    """Supply facilities in the region that a reported outage names or contains: they count only
    through it."""
    rows = facilities.covered_supply(asked.version_id, outages, kinds)
    if asked.region.geometry is None:
        return [r for r in rows if r.adcode in asked.whole]
    lon = np.array([r.lon for r in rows], float)
    lat = np.array([r.lat for r in rows], float)
    inside = shapely.intersects_xy(asked.region.geometry, lon, lat)
    return [r for r, is_in in zip(rows, inside, strict=True) if is_in]


def _power(
    asked: _Asked,
    rows: Sequence[Row],
    outages: Sequence[Mapping[str, Any]],
    covered: Sequence[Any],
    kinds: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load and customers of the supply facilities in the region; lost is what is down, and the
    region's part of what outages report."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for kind, _, state, _, load_kw, count in rows:
        if kind in kinds:
            sums[state][0] += int(load_kw)
            sums[state][1] += int(count)
    for one in covered:
        if asked.account.sees(one.adcode) and asked.account.speaks_for(one.operator):
            # supplied as far as this one goes: what it lost is in the outage's own figures
            sums["up"][0] += one.load_kw
            sums["up"][1] += one.customers
            sums[one.state][0] -= one.load_kw
            sums[one.state][1] -= one.customers
    reported = [0.0, 0.0]
    for outage in outages:
        if not outage["open"] or outage["planned"] or not _visible(asked, outage):
            continue
        shares = _shares_of(asked, outage)
        for part in outage["split"]:
            share = shares.get(part["adcode"], 0.0)
            lasting = part["load_shed_kw"] - (part.get("restored_load_kw") or 0)
            reported[0] += lasting * share
            reported[1] += part["customers_out"] * share
    totals = [sum(s[k] for s in sums.values()) for k in (0, 1)]
    lost = [min(sums["down"][k] + round(reported[k]), totals[k]) for k in (0, 1)]
    basis = "supply facilities inside; reported outages by the part of their extent inside"
    load = {
        "load_mw": totals[0] / 1000,
        "load_shed_mw": lost[0] / 1000,
        "load_unknown_mw": min(sums["unknown"][0], totals[0] - lost[0]) / 1000,
        "share": lost[0] / totals[0] if totals[0] else None,
        "basis": basis,
    }
    customers = {
        "total": totals[1],
        "out": lost[1],
        "unknown": min(sums["unknown"][1], totals[1] - lost[1]),
        "share": lost[1] / totals[1] if totals[1] else None,
        "basis": basis,
    }
    return load, customers


def _shares_of(asked: _Asked, outage: Mapping[str, Any]) -> dict[str | None, float]:
    """Which share of an outage's part in each district lies in the region."""
    shape: BaseGeometry | None = outage["geometry"]
    if shape is not None and shapely.get_dimensions(shape) == 2:
        return shares_inside(asked.region, asked.parts, shape, asked.districts)
    # without an extent only the districts are known: as much of it as of the district
    return {p.adcode: p.share_of_district for p in asked.parts.districts}


# --- incidents, outages ----------------------------------------------------------------


def _incidents(connection: Connection, asked: _Asked) -> dict[str, Any]:
    """Open incidents in the caller's scope and the region, gravest first."""
    connection.execute(
        text("SELECT set_config('app.account', :account, true)"),
        {"account": asked.account.username},
    )
    known = open_incidents(connection, asked.moment.sequence, asked.moment.now)
    if asked.region.geometry is None:
        found = [i for i in known if i["adcode"] in asked.whole]
    else:
        places = {
            row.id: (row.lon, row.lat)
            for row in connection.execute(
                text(
                    "SELECT CAST(incident_id AS text) AS id, ST_X(geom) AS lon, ST_Y(geom) AS lat"
                    " FROM incident WHERE geom IS NOT NULL AND incident_id = ANY"
                    " (CAST(:ids AS uuid[]))"
                ),
                {"ids": [i["incident_id"] for i in known]},
            )
        }
        placed = [i for i in known if i["incident_id"] in places]
        at = np.array([places[i["incident_id"]] for i in placed], float).reshape(-1, 2)
        inside = shapely.intersects_xy(asked.region.geometry, at[:, 0], at[:, 1])
        found = [i for i, is_in in zip(placed, inside, strict=True) if is_in]
    packs = {pack.plan: pack for pack in asked.packs}
    listed = [
        {
            "incident_id": i["incident_id"],
            "plan": i["plan"],
            "kind": i["kind"],
            "adcode": i["adcode"],
            "state": i["state"],
            "occurred_at": i["occurred_at"].isoformat(),
            "level": assess(packs[i["plan"]], i["facts"], now=asked.moment.now)["level"]
            if i["plan"] in packs
            else None,
        }
        for i in found
    ]
    listed.sort(key=lambda i: (i["level"] or 9, i["occurred_at"], i["incident_id"]))
    return {"incidents_open": len(listed), "incidents": listed[:LISTED_MAX]}


def _visible(asked: _Asked, outage: Mapping[str, Any]) -> bool:
    return asked.account.city_wide or any(asked.account.sees(p["adcode"]) for p in outage["split"])


def _outages(asked: _Asked, outages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Open outages in the caller's scope that reach into the region, the newest first."""
    found = []
    mine = {p.adcode for p in asked.parts.districts}
    for outage in outages:
        if not outage["open"] or not _visible(asked, outage):
            continue
        shape: BaseGeometry | None = outage["geometry"]
        if shape is None or asked.region.geometry is None:
            # without an extent, or for whole districts, the districts of its split are what counts
            reaches = bool(mine & {p["adcode"] for p in outage["split"]})
        else:
            reaches = bool(shapely.intersects(asked.region.geometry, shape))
        if reaches:
            inside = None if shape is None else share_of_shape(asked.region, shape)
            names = ("outage_id", "revision", "operator", "planned", "load_shed_kw")
            found.append(
                {name: outage[name] for name in names}
                | {
                    "customers_out": outage["customers_out"],
                    "started_at": outage["started_at"].isoformat(),
                    "share_inside": inside,
                }
            )
    found.sort(key=lambda o: (o["started_at"], o["outage_id"]), reverse=True)
    return {"outages_open": len(found), "outages": found[:LISTED_MAX]}
