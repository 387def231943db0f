"""Functional zones: units of the communications plan that overlap districts, with or without shape.

No boundary of a zone is public, so none is invented: an operator loads them, as polygons, or as
code, name and host districts only, so that facilities may declare the zone they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from sqlalchemy import Connection, text

from data.divisions import districts_frame, zones_frame
from data.readers.divisions import DISTRICT, ZONE, read_divisions_file
from data.readers.tabular import read_table
from data.readers.vector_kind import sniff
from geo.crs import area_m2
from geo.districts import overlap_faults
from geo.errors import Fault, InvalidInput
from geo.validate import AREAS, geometry_faults, raise_faults

CODE_PATTERN: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
#: A district is host to a zone that has at least this share of its area there.
HOST_SHARE_MIN: Final = 0.01
#: Two drawings of one border differ by a little; more of a zone than this outside is a mistake.
OUTSIDE_SHARE_MAX: Final = 0.01

_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "code": ("code", "unit", "id", "代码", "编码", "功能区代码", "单元代码", "单位代码"),
    "name": ("name", "名称", "功能区", "功能区名称", "单元名称", "单位名称"),
    "adcodes": ("adcodes", "adcode", "districts", "所在区县", "所在区县代码", "行政区划代码"),
}


def read_zones(
    path: Path,
    name: str,
    columns: Mapping[str, str] | None = None,
    *,
    crs: str | None = None,
    layer: str | None = None,
) -> gpd.GeoDataFrame:
    """The zones of a vector file, or of a table (CSV, XLSX, Parquet) without shapes; by code.

    Columns code, name, adcodes (host districts, None where they follow from the shape) and geometry
    (EPSG:4326, None in a table). `columns` says which column of the file holds one of them. Raises
    InvalidInput with every fault and its row: a code or name missing, repeated or of another form,
    zones that overlap each other, a table without host districts.
    """
    try:
        sniff(path)
    except InvalidInput:
        return _read_table(path, name, dict(columns or {}))
    given = {k: v for k, v in (columns or {}).items() if k != "adcodes"}
    frame = read_divisions_file(path, given, crs=crs, layer=layer, kind=ZONE)
    faults = [
        Fault("is a district; this file may only hold zones", None, str(code))
        for code in frame.loc[frame["kind"] == DISTRICT, "code"]
    ]
    faults += [_form(str(code), None) for code in frame["code"] if not _formed(code)]
    raise_faults(faults)
    blank = np.full(len(frame), None, object)
    return gpd.GeoDataFrame(
        {"code": frame["code"].to_numpy(object), "name": frame["name"].to_numpy(object)}
        | {"adcodes": blank},
        geometry=frame.geometry.to_numpy(),
        crs="EPSG:4326",
    )


def _read_table(path: Path, name: str, columns: dict[str, str]) -> gpd.GeoDataFrame:
    table = read_table(path, name)
    present = [str(c) for c in table.frame.columns]
    faults = list(table.faults)
    chosen: dict[str, str] = {}
    for meaning, known in _COLUMNS.items():
        found = columns.get(meaning) or next((k for k in known if k in present), None)
        if found is None or found not in present:
            reason = f"no column holds it; the file has {', '.join(present)[:300]}"
            faults.append(Fault(reason, None, meaning))
        else:
            chosen[meaning] = found
    raise_faults(faults)
    rows: list[tuple[str, str, list[str]]] = []
    seen: dict[str, int] = {}
    for row, cells in table.records():
        code, title, hosts = (_cell(cells[chosen[m]]) for m in ("code", "name", "adcodes"))
        adcodes = [part for part in re.split(r"[\s,;，；、|/]+", hosts) if part]
        if not _formed(code):
            faults.append(_form(code, row))
        elif code in seen:
            faults.append(Fault(f"is that of row {seen[code]} too", row, "code"))
        if not title:
            faults.append(Fault("is empty", row, "name"))
        if not adcodes or not all(re.fullmatch(r"\d{6}", one) for one in adcodes):
            reason = "must list the host districts' codes, as in 500106;500107"
            faults.append(Fault(reason, row, "adcodes"))
        seen.setdefault(code, row)
        rows.append((code, title, sorted(set(adcodes))))
    raise_faults(faults)
    rows.sort()
    frame = pd.DataFrame(rows, columns=["code", "name", "adcodes"])
    return gpd.GeoDataFrame(frame, geometry=[None] * len(rows), crs="EPSG:4326")


def _cell(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _formed(code: Any) -> bool:
    return CODE_PATTERN.fullmatch(str(code)) is not None


def _form(code: str, row: int | None) -> Fault:
    reason = f"{code[:40]!r} is no zone's code: letters, digits, '.', '_', '-', such as Z-WSJK"
    return Fault(reason, row, "code")


def hosted(zones: gpd.GeoDataFrame, districts: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The zones with their host districts, `adcodes`, among these districts (column adcode).

    A zone with a shape lies where it lies; one without keeps the hosts it names. Raises
    InvalidInput naming every zone that lies outside the districts, names another district, takes a
    district's code, or overlaps another zone.
    """
    known = districts["adcode"].tolist()
    shapes = districts.geometry.to_numpy()
    faults: list[Fault] = []
    hosts: list[list[str]] = []
    for zone in zones.itertuples(index=False):
        found = list(zone.adcodes or [])
        if zone.code in known:
            faults.append(Fault(f"zone {zone.code} has the code of a district", None, "code"))
        if zone.geometry is not None:
            wrong = geometry_faults(zone.geometry, types=AREAS)
            if wrong:
                faults += [Fault(f"zone {zone.code}: {f.reason}", None, "geometry") for f in wrong]
                continue
            parts = np.asarray(area_m2(shapely.intersection(shapes, zone.geometry)), float)
            whole = float(area_m2(zone.geometry))
            outside = 1 - parts.sum() / whole
            if outside > OUTSIDE_SHARE_MAX:
                reason = f"{outside:.0%} of zone {zone.code} lies outside all districts"
                faults.append(Fault(reason, None, "geometry"))
            least = min(HOST_SHARE_MIN * whole, parts.max(initial=0.0))
            found = [c for c, m2 in zip(known, parts, strict=True) if m2 >= least and m2 > 0]
        elif not set(found) <= set(known) or not found:
            missing = ", ".join(sorted(set(found) - set(known))) or "none"
            reason = f"zone {zone.code} names {missing}, which these divisions do not have"
            faults.append(Fault(reason, None, "adcodes"))
        hosts.append(found)
    shaped = zones[zones.geometry.notna()].reset_index(drop=True)
    if not faults and len(shaped) > 1:
        faults += [Fault(f.reason, None, f.field) for f in overlap_faults(shaped, "code")]
    raise_faults(faults)
    column = np.empty(len(hosts), object)
    column[:] = hosts
    return zones.assign(adcodes=column)


def attach_zones(connection: Connection, version_id: int, zones: gpd.GeoDataFrame) -> None:
    """Make zones (with their `source`) units of a version, beside those it has.

    Raises InvalidInput as `hosted`, and for a code the version has already.
    """
    there = zones_frame(connection, version_id)
    again = sorted(set(there["code"]) & set(zones["code"]))
    if again:
        reason = "is a zone of that time already; end that one first"
        raise InvalidInput(Fault(f"{code} {reason}", None, "code") for code in again)
    columns = ["code", "name", "adcodes", "source", "geometry"]
    every = gpd.GeoDataFrame(
        [*there[columns].to_dict("records"), *zones[columns].to_dict("records")],
        columns=columns,
        geometry="geometry",
        crs="EPSG:4326",
    )
    placed = hosted(every, districts_frame(connection, version_id))
    new = placed[placed["code"].isin(set(zones["code"]))]
    connection.execute(
        text(
            "INSERT INTO unit (version_id, code, name, kind, adcodes, source, geom)"
            " VALUES (:version, :code, :name, 'functional_zone', :adcodes, :source,"
            " ST_Multi(ST_SetSRID(CAST(:geom AS geometry), 4326)))"
        ),
        [
            {
                "version": version_id,
                "code": zone.code,
                "name": zone.name,
                "adcodes": zone.adcodes,
                "source": zone.source,
                "geom": None
                if zone.geometry is None
                else shapely.to_wkb(zone.geometry, hex=True, include_srid=False),
            }
            for zone in new.itertuples(index=False)
        ],
    )
