"""Division versions, their districts and units, and where a position falls in each of them.

A division version is a slice of time with its own districts; functional zones are units beside
them. `placement` interns every combination "district and unit, in each version", so one counter
serves all versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import geopandas as gpd
import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from geo.districts import simplify_for_display
from geo.errors import Fault, InvalidInput, NotFound
from geo.units import UnitLocator


@dataclass(frozen=True)
class DivisionVersion:
    """A slice of time: `[valid_from, valid_to)`, `valid_to` None while in force."""

    id: int
    label: str
    valid_from: datetime
    valid_to: datetime | None
    source: str
    licence: str
    note: str


_VERSION = "SELECT id, label, valid_from, valid_to, source, licence, note FROM division_version"


def versions(connection: Connection) -> list[DivisionVersion]:
    """Every version, oldest first."""
    rows = connection.execute(text(f"{_VERSION} ORDER BY valid_from"))
    return [DivisionVersion(**row._mapping) for row in rows]


def version_at(connection: Connection, at: datetime | None = None) -> DivisionVersion:
    """The version in force at `at` (now without). Raises NotFound before the first."""
    row = connection.execute(
        text(
            f"{_VERSION} WHERE valid_from <= coalesce(:at, now())"
            " AND (valid_to IS NULL OR valid_to > coalesce(:at, now()))"
        ),
        {"at": at},
    ).one_or_none()
    if row is None:
        raise NotFound(f"no districts are known for {at.isoformat() if at else 'now'}")
    return DivisionVersion(**row._mapping)


def store_version(
    connection: Connection,
    frame: gpd.GeoDataFrame,
    *,
    label: str,
    valid_from: datetime,
    valid_to: datetime | None,
    source: str,
    licence: str,
    note: str = "",
) -> int:
    """Insert a version with its districts, each also a unit; returns its id.

    `frame`: EPSG:4326, columns adcode, name, area_m2, geometry, and where known name_en,
    population, population_source, approximate, source.
    """
    version_id: int = connection.execute(
        text(
            "INSERT INTO division_version (label, valid_from, valid_to, source, licence, note)"
            " VALUES (:label, :valid_from, :valid_to, :source, :licence, :note) RETURNING id"
        ),
        {
            "label": label,
            "valid_from": valid_from,
            "valid_to": valid_to,
            "source": source,
            "licence": licence,
            "note": note,
        },
    ).scalar_one()
    rows = []
    for record in frame.to_dict("records"):
        shape = record["geometry"]
        if shape.geom_type == "Polygon":
            shape = shapely.MultiPolygon([shape])
        rows.append(
            {
                "version": version_id,
                "adcode": record["adcode"],
                "name": record["name"],
                "name_en": _known(record.get("name_en")),
                "population": _known(record.get("population")),
                "population_source": _known(record.get("population_source")),
                "area_m2": float(record["area_m2"]),
                "approximate": bool(record.get("approximate", False)),
                "source": _known(record.get("source")) or source,
                "geom": shapely.to_wkb(shape, hex=True, include_srid=False),
            }
        )
    connection.execute(
        text(
            "INSERT INTO district (version_id, adcode, name, name_en, population,"
            " population_source, area_m2, approximate, source, geom) VALUES (:version, :adcode,"
            " :name, :name_en, :population, :population_source, :area_m2, :approximate, :source,"
            " ST_SetSRID(CAST(:geom AS geometry), 4326))"
        ),
        rows,
    )
    connection.execute(
        text(
            "INSERT INTO unit (version_id, code, name, kind, adcodes, source)"
            " SELECT version_id, adcode, name, 'district', ARRAY[adcode], source"
            " FROM district WHERE version_id = :version"
        ),
        {"version": version_id},
    )
    return version_id


def _known(value: Any) -> Any:
    """None for the missing values of pandas; plain Python otherwise."""
    if value is None or value != value or str(value) == "<NA>":
        return None
    return value.item() if isinstance(value, np.generic) else value


def districts_frame(connection: Connection, version_id: int) -> gpd.GeoDataFrame:
    """Districts of a version, EPSG:4326, sorted by adcode, all columns of the table."""
    rows = connection.execute(
        text(
            "SELECT adcode, name, name_en, population, population_source, area_m2, approximate,"
            " source, ST_AsBinary(geom) AS geom FROM district WHERE version_id = :v"
            " ORDER BY adcode"
        ),
        {"v": version_id},
    ).all()
    attributes = [{k: v for k, v in r._mapping.items() if k != "geom"} for r in rows]
    shapes = shapely.from_wkb([bytes(r.geom) for r in rows])
    return gpd.GeoDataFrame(attributes, geometry=shapes, crs="EPSG:4326")


def district_rows(connection: Connection, version_id: int) -> list[dict[str, Any]]:
    """Districts without their shapes, sorted by adcode."""
    rows = connection.execute(
        text(
            "SELECT adcode, name, name_en, population, area_m2, approximate FROM district"
            " WHERE version_id = :v ORDER BY adcode"
        ),
        {"v": version_id},
    )
    return [dict(r._mapping) for r in rows]


def units(connection: Connection, version_id: int) -> list[dict[str, Any]]:
    """The units of a version: its districts and functional zones, sorted by code."""
    rows = connection.execute(
        text(
            "SELECT code, name, kind, adcodes FROM unit WHERE version_id = :v ORDER BY kind, code"
        ),
        {"v": version_id},
    )
    return [dict(r._mapping) for r in rows]


def feature_collection(
    connection: Connection,
    version: DivisionVersion,
    *,
    adcode: str | None = None,
    tolerance_m: float | None = None,
) -> dict[str, Any]:
    """The districts as GeoJSON, each with its population, provenance and validity.

    With `tolerance_m` borders are simplified together, so neighbours still meet.
    Raises NotFound for an adcode this version does not have.
    """
    frame = districts_frame(connection, version.id)
    if tolerance_m:
        frame = simplify_for_display(frame, tolerance_m)
    if adcode is not None:
        frame = frame[frame["adcode"] == adcode]
        if frame.empty:
            raise NotFound(f"no district {adcode} in the divisions of {version.label}")
    until = version.valid_to.isoformat() if version.valid_to else None
    common = {
        "valid_from": version.valid_from.isoformat(),
        "valid_to": until,
        "licence": version.licence,
    }
    features = []
    for record in frame.to_dict("records"):
        shape = record.pop("geometry")
        properties = {k: _known(v) for k, v in record.items()} | common
        features.append(
            {
                "type": "Feature",
                "id": record["adcode"],
                "properties": properties,
                "geometry": orjson.loads(shapely.to_geojson(shapely.set_precision(shape, 0))),
            }
        )
    return {
        "type": "FeatureCollection",
        "label": version.label,
        "source": version.source,
        "note": version.note,
        **common,
        "features": features,
    }


@dataclass(frozen=True)
class Placed:
    """Where points fell: a placement each, and district and unit in the version in force now."""

    placement_id: NDArray[np.int64]
    adcode: NDArray[np.object_]
    unit: NDArray[np.object_]


class Placer:
    """Places points in every division version. Build one per transaction that places many."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.versions = versions(connection)
        if not self.versions:
            raise NotFound("no districts are loaded; run `yutu import districts` first")
        self.current = version_at(connection)
        self._locators = {v.id: unit_locator(connection, v.id) for v in self.versions}

    def undeclarable(self, declared: Sequence[str | None]) -> list[Fault]:
        """Faults for rows that declare a unit no version knows, with what would be right."""
        known: set[str] = set().union(*(one.codes for one in self._locators.values()))
        zones = sorted(set().union(*(one.zone_codes for one in self._locators.values())))
        shown = ", ".join(zones) if zones else "no zone"
        return [
            Fault(
                f"unit {code!r} is not loaded; known are districts and {shown}",
                i,
                "unit",
            )
            for i, code in enumerate(declared, 1)
            if code is not None and code not in known
        ]

    def place(
        self,
        lon: NDArray[np.float64],
        lat: NDArray[np.float64],
        declared_unit: Sequence[str | None] | None = None,
    ) -> Placed:
        """Place WGS-84 points, shape (n,). A declared unit stands where its version has it."""
        n = len(lon)
        declared = np.array(declared_unit if declared_unit is not None else [None] * n, object)
        keys = np.array([""] * n, object)
        now: dict[str, NDArray[np.object_]] = {}
        for version in self.versions:
            adcode, unit_code = self.in_version(version.id, lon, lat, declared)
            part = np.array(
                [placement_part(version.id, a, u) for a, u in zip(adcode, unit_code, strict=True)],
                object,
            )
            keys = keys + part if n else keys
            if version.id == self.current.id:
                now = {"adcode": adcode, "unit": unit_code}
        ids = self._placements(set(keys.tolist()))
        return Placed(np.fromiter((ids[k] for k in keys), np.int64, n), now["adcode"], now["unit"])

    def in_version(
        self,
        version_id: int,
        lon: NDArray[np.float64],
        lat: NDArray[np.float64],
        declared: NDArray[np.object_],
    ) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """adcode and unit of points in one version, by the rule of `geo.units`."""
        return self._locators[version_id].place(lon, lat, declared)

    def _placements(self, keys: set[str]) -> dict[str, int]:
        """Ids of the placements with these keys, making those that are new."""
        wanted = sorted(keys)
        found = self._known_placements(wanted)
        for key in (k for k in wanted if k not in found):
            self._connection.execute(
                text("INSERT INTO placement (key) VALUES (:key) ON CONFLICT DO NOTHING"),
                {"key": key},
            )
            self._connection.execute(
                text(
                    "INSERT INTO placement_division (placement_id, version_id, adcode, unit)"
                    " SELECT id, :version, :adcode, :unit FROM placement WHERE key = :key"
                    " ON CONFLICT DO NOTHING"
                ),
                [{"key": key, **row} for row in _parse_key(key)],
            )
        return self._known_placements(wanted)

    def _known_placements(self, keys: list[str]) -> dict[str, int]:
        rows = self._connection.execute(
            text("SELECT key, id FROM placement WHERE key = ANY (:keys)"), {"keys": keys}
        )
        return {row.key: row.id for row in rows}


def placement_part(version_id: int, adcode: str | None, unit_code: str | None) -> str:
    """What a placement's key says of one version; the key has a part per version, by time."""
    return f"{version_id}:{adcode or ''}/{unit_code or ''};"


def _parse_key(key: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for part in key.rstrip(";").split(";"):
        version, places = part.split(":", 1)
        adcode, unit_code = places.split("/", 1)
        rows.append({"version": int(version), "adcode": adcode or None, "unit": unit_code or None})
    return rows


def zones_frame(connection: Connection, version_id: int) -> gpd.GeoDataFrame:
    """The functional zones of a version, EPSG:4326, by code; `geometry` is None without a shape.

    Columns: code, name, adcodes, source, geometry.
    """
    rows = connection.execute(
        text(
            "SELECT code, name, adcodes, source, ST_AsBinary(geom) AS geom FROM unit"
            " WHERE version_id = :v AND kind = 'functional_zone' ORDER BY code"
        ),
        {"v": version_id},
    ).all()
    return gpd.GeoDataFrame(
        {name: [getattr(r, name) for r in rows] for name in ("code", "name", "adcodes", "source")},
        geometry=shapely.from_wkb([None if r.geom is None else bytes(r.geom) for r in rows]),
        crs="EPSG:4326",
    )


def unit_locator(connection: Connection, version_id: int) -> UnitLocator:
    """What places points in a version."""
    zones = zones_frame(connection, version_id)
    shaped = zones[zones.geometry.notna()]
    shapeless = zones.loc[zones.geometry.isna(), "code"].tolist()
    return UnitLocator(districts_frame(connection, version_id), shaped, shapeless)


def require_divisions(connection: Connection) -> None:
    """Raise InvalidInput, with the remedy, when no districts are loaded."""
    if connection.execute(text("SELECT 1 FROM division_version LIMIT 1")).first() is None:
        raise InvalidInput("no districts are loaded; run `yutu import districts` first")
