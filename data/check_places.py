"""Checks of where facilities are: placed again by `geo.assign` and by PostGIS, in every version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from data.check import Check
from data.divisions import districts_frame, version_at, versions
from data.recompute import read_frame
from geo.assign import DistrictLocator
from geo.errors import NotFound

#: Facilities whose district SQL finds again, unless `deep`; Python does all of them.
SQL_PLACED = 10_000

_POSITIONS = """
SELECT pk, facility_id, version, ST_X(geom) AS lon, ST_Y(geom) AS lat, unit, placement_id,
       coalesce(adcode, '') AS adcode, 1 AS newest FROM facility
UNION ALL
SELECT pk, facility_id, version, ST_X(geom), ST_Y(geom), unit, placement_id, '', 0
FROM facility_past
"""


def placements(connection: Connection, deep: bool) -> list[Check]:
    placed = Check("placements", "every facility is in the district and unit of its position")
    by_sql = Check("placed by SQL", "PostGIS finds the same district: the smallest that covers it")
    types: dict[str, Any] = {"lon": "float64", "lat": "float64"}
    types |= dict.fromkeys(("facility_id", "unit", "adcode"), object)
    found = read_frame(connection, _POSITIONS, **types)
    names = found["facility_id"].to_numpy() + " version " + found["version"].astype(str).to_numpy()
    try:
        current = version_at(connection).id
    except NotFound:
        current = None
    lon, lat = found["lon"].to_numpy(), found["lat"].to_numpy()
    for version in versions(connection):
        locator = DistrictLocator(districts_frame(connection, version.id))
        adcode = np.array([*locator.adcodes, ""], object)[locator.assign(lon, lat)]
        unit = _units(connection, version.id, found, adcode)
        stored = read_frame(
            connection,
            "SELECT placement_id, coalesce(adcode, '') AS adcode, coalesce(unit, '') AS unit"
            f" FROM placement_division WHERE version_id = {version.id:d}",
            adcode=object,
            unit=object,
        ).set_index("placement_id")
        # an empty text comes back as missing
        was = stored.fillna("").reindex(found["placement_id"]).fillna("missing")
        pairs = [(was["adcode"].to_numpy(), adcode), (was["unit"].to_numpy(), unit)]
        if version.id == current:
            newest = found["newest"].to_numpy() == 1
            own = found["adcode"].fillna("").to_numpy(object)
            pairs.append((np.where(newest, own, adcode), adcode))
        placed.looked_at += len(found)
        wrong = np.any([a != b for a, b in pairs], axis=0) if len(found) else np.zeros(0, bool)
        for i in np.flatnonzero(wrong):
            said = "; ".join(
                f"is in {a[i] or 'none'}, follows {b[i] or 'none'}"
                for a, b in pairs
                if a[i] != b[i]
            )
            placed.found(f"facility {names[i]}, divisions {version.label}: {said}")
        _place_by_sql(connection, by_sql, version.id, None if deep else SQL_PLACED)
    return [placed, by_sql]


def _units(
    connection: Connection, version_id: int, found: pd.DataFrame, adcode: Any
) -> NDArray[np.object_]:
    """The unit each should have: as declared if this version has it, else the zone, else the
    district."""
    rows = connection.execute(
        text("SELECT code, kind FROM unit WHERE version_id = :v"), {"v": version_id}
    ).all()
    declared = found["unit"].fillna("").to_numpy(object)
    zones = read_frame(
        connection,
        "SELECT f.pk, f.version, min(z.code) AS code FROM unit z JOIN ("
        "SELECT pk, version, geom FROM facility UNION ALL SELECT pk, version, geom"
        " FROM facility_past) f ON ST_Covers(z.geom, f.geom)"
        f" WHERE z.version_id = {version_id:d} AND z.kind = 'functional_zone' GROUP BY 1, 2",
        code=object,
    )
    inside = found[["pk", "version"]].merge(zones, "left", on=["pk", "version"])["code"]
    unit = np.where(inside.notna().to_numpy(), inside.to_numpy(object), adcode)
    return np.where(np.isin(declared.astype(str), [r.code for r in rows]), declared, unit)


def _place_by_sql(
    connection: Connection, check: Check, version_id: int, at_most: int | None
) -> None:
    rows = connection.execute(
        text(
            "SELECT f.facility_id, p.adcode AS stored, d.adcode AS found"
            " FROM (SELECT * FROM facility ORDER BY hashint4(pk) LIMIT :n) f"
            " JOIN placement_division p ON p.placement_id = f.placement_id"
            "  AND p.version_id = :v"
            " LEFT JOIN LATERAL (SELECT min(adcode) AS adcode FROM district"
            "  WHERE version_id = :v AND ST_Covers(geom, f.geom)) d ON true"
        ),
        {"v": version_id, "n": at_most},
    )
    for facility_id, stored, found in rows:
        check.looked_at += 1
        if stored != found:
            check.found(f"facility {facility_id}: stored {stored}, SQL finds {found}")
