"""An outage divided over the districts of every division version, by the facilities it concerns.

docs/meanings.md, "Integers": by the load or customers of the facilities named by the outage, else
of those inside its extent, else by area; largest remainders, so that the parts and what lies
outside the city add up to the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import geopandas as gpd
import numpy as np
import shapely
from sqlalchemy import Connection, Engine, text

from data.divisions import districts_frame, versions
from data.outage_feature import ReportedOutage
from geo.assign import DistrictLocator
from geo.split import OutageSplit, areas_inside, split_outage

#: Facilities whose load and customers divide an outage; what they feed is counted through them.
LOAD_KINDS = ("substation",)


@dataclass(frozen=True)
class OutageFacilities:
    """The facilities that divide an outage (`frame`: EPSG:4326, facility_id, load_kw, customers),
    named ids that are `missing` in the inventory, and the operators of the named ones."""

    frame: gpd.GeoDataFrame
    placement_id: list[int]
    missing: list[str]
    operators: frozenset[str]


def facilities_of(connection: Connection, outage: ReportedOutage) -> OutageFacilities:
    # only an area has an inside, as in `geo.split`
    is_area = outage.geometry is not None and shapely.get_dimensions(outage.geometry) == 2
    shape = shapely.to_wkb(outage.geometry, hex=True) if is_area else None
    rows = connection.execute(
        text(
            "SELECT facility_id, kind, operator, load_kw, customers, placement_id,"
            " ST_X(geom) AS lon, ST_Y(geom) AS lat FROM facility"
            " WHERE facility_id = ANY (CAST(:ids AS text[]))"
            " OR (retired_at IS NULL AND kind = ANY (:kinds)"
            " AND ST_Intersects(geom, ST_SetSRID(CAST(:shape AS geometry), 4326)))"
            " ORDER BY facility_id"
        ),
        {"ids": list(outage.facility_ids), "kinds": list(LOAD_KINDS), "shape": shape},
    ).all()
    asked = set(outage.facility_ids)
    by_name = [r for r in rows if r.facility_id in asked]
    # what is named says more than what happens to lie inside; loads are those of load kinds
    chosen = (
        [r for r in by_name if r.kind in LOAD_KINDS]
        or [r for r in rows if r.kind in LOAD_KINDS]
        or by_name
    )
    frame = gpd.GeoDataFrame(
        {
            "facility_id": [r.facility_id for r in chosen],
            "load_kw": np.array([r.load_kw for r in chosen], np.int64),
            "customers": np.array([r.customers for r in chosen], np.int64),
        },
        geometry=shapely.points(
            np.array([r.lon for r in chosen], float), np.array([r.lat for r in chosen], float)
        ),
        crs="EPSG:4326",
    )
    return OutageFacilities(
        frame,
        [r.placement_id for r in chosen],
        sorted(asked - {r.facility_id for r in by_name}),
        frozenset(r.operator for r in by_name),
    )


_shapes: WeakKeyDictionary[Engine, dict[int, tuple[gpd.GeoDataFrame, DistrictLocator]]] = (
    WeakKeyDictionary()
)


def _districts(
    engine: Engine, connection: Connection, version_id: int
) -> tuple[gpd.GeoDataFrame, DistrictLocator]:
    """Districts of a version with their locator: kept, since a version's districts never change."""
    known = _shapes.setdefault(engine, {})
    if version_id not in known:
        frame = districts_frame(connection, version_id)
        known[version_id] = (frame, DistrictLocator(frame))
    return known[version_id]


def split_everywhere(
    engine: Engine, connection: Connection, outage: ReportedOutage, named: OutageFacilities
) -> dict[str, list[dict[str, Any]]]:
    """The split under every division version: {version id: [part]}, outside the city as null."""
    homes = {
        (row.placement_id, row.version_id): row.adcode
        for row in connection.execute(
            text(
                "SELECT placement_id, version_id, adcode FROM placement_division"
                " WHERE placement_id = ANY (:ids)"
            ),
            {"ids": named.placement_id},
        )
    }
    found = {}
    known: dict[bytes, float] = {}  # most districts are the same in every version
    for version in versions(connection):
        frame, locator = _districts(engine, connection, version.id)
        adcodes = [homes.get((p, version.id)) for p in named.placement_id]
        areas = areas_inside(outage.geometry, frame, known)
        split = split_outage(
            outage.load_shed_kw,
            outage.customers_out,
            outage.restored_load_kw,
            facilities=named.frame.assign(adcode=np.array(adcodes, object)),
            districts=frame,
            geometry=outage.geometry,
            facility_ids=named.frame["facility_id"].tolist(),
            locator=locator,
            areas=areas or None,
        )
        found[str(version.id)] = _parts(split, areas)
    return found


def _parts(split: OutageSplit, areas: dict[str | None, float]) -> list[dict[str, Any]]:
    """Every district that has a part or is reached by the extent, outside last."""
    keys = sorted({*split.parts, *areas}, key=lambda k: (k is None, k or ""))
    rows = []
    for key in keys:
        part = split.parts.get(key)
        restored = any(p.restored_load_kw is not None for p in split.parts.values())
        rows.append(
            {
                "adcode": key,
                "load_shed_kw": (part.load_shed_kw or 0) if part else 0,
                "customers_out": (part.customers_out or 0) if part else 0,
                "restored_load_kw": ((part.restored_load_kw or 0) if part else 0)
                if restored
                else None,
                "area_m2": areas.get(key, 0.0) if areas else None,
                "load_basis": split.load_basis,
                "customers_basis": split.customers_basis,
            }
        )
    return rows
