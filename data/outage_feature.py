"""One reported outage: the GeoJSON Feature as it arrives, every fault collected, placed in WGS-84.

docs/meanings.md, "Outages". Power is in kW; the geometry is optional, because a utility may know
the facilities and not the extent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shapely.geometry.base import BaseGeometry

from data.fields import Fields, require_object
from geo.crs import WGS84, geometry_to_wgs84, parse_crs
from geo.errors import CrsError, Fault, InvalidInput, TooLarge
from geo.geojson import VERTICES_MAX, read_geometry, refuse_exchanged
from geo.validate import geometry_faults

REVISION_MAX = 2**31 - 1
FACILITY_IDS_MAX = 10_000
AHEAD_MAX = timedelta(minutes=5)
_NEVER = datetime.min.replace(tzinfo=UTC)  # stands in where a fault is raised anyway


@dataclass(frozen=True)
class ReportedOutage:
    """A revision of an outage, valid. `geometry` is WGS-84; power in kW."""

    outage_id: str
    revision: int
    operator: str | None
    facility_ids: tuple[str, ...]
    load_shed_kw: int
    customers_out: int
    restored_load_kw: int | None
    started_at: datetime
    restored_at: datetime | None
    estimated_restoration: datetime | None
    event: str | None
    cause: str
    planned: bool
    main_grid: bool
    crs: str
    geometry: BaseGeometry | None


def read_outage(feature: Any, crs: str | None = None) -> ReportedOutage:
    """The outage in a GeoJSON Feature; `crs` is what the request says beside it.

    Raises InvalidInput (CrsError, TooLarge) naming every fault and field.
    """
    given = require_object(feature, "an outage")
    faults: list[Fault] = []
    if given.get("type") != "Feature":
        faults.append(Fault('must be "Feature"', None, "type"))
    properties = given.get("properties")
    if not isinstance(properties, Mapping):
        faults.append(Fault("must be an object", None, "properties"))
        properties = {}
    system, geometry = _read_place(given, properties, crs, faults)
    read = Fields(properties, faults)
    revision = read.amount("revision", required=True, at_most=REVISION_MAX)
    load = read.amount("load_shed_kw", required=True)
    restored = read.amount("restored_load_kw")
    started, ended = read.time("started_at", required=True), read.time("restored_at")
    if load is not None and restored is not None and restored > load:
        read.fault("restored_load_kw", "is more than load_shed_kw")
    if started is not None and ended is not None and ended < started:
        read.fault("restored_at", "is before started_at")
    outage = ReportedOutage(
        outage_id=read.identifier("outage_id", required=True) or "",
        revision=revision or 0,
        operator=read.identifier("operator"),
        facility_ids=_read_facility_ids(read),
        load_shed_kw=load or 0,
        customers_out=read.amount("customers_out", required=True) or 0,
        restored_load_kw=restored,
        started_at=started or _NEVER,
        restored_at=ended,
        estimated_restoration=read.time("estimated_restoration"),
        event=read.identifier("event"),
        cause=read.words("cause", characters_max=200) or "unknown",
        planned=read.truth("planned", False),
        main_grid=read.truth("main_grid", True),
        crs=system,
        geometry=geometry,
    )
    if faults:
        raise CrsError(faults) if all(f.field == "crs" for f in faults) else InvalidInput(faults)
    return outage


def _read_facility_ids(read: Fields) -> tuple[str, ...]:
    given = read.raw("facility_ids")
    if given is None:
        return ()
    if not isinstance(given, list):
        read.fault("facility_ids", "must be a list of facility ids")
        return ()
    if len(given) > FACILITY_IDS_MAX:
        read.fault("facility_ids", f"lists more than {FACILITY_IDS_MAX} facilities")
        return ()
    entries = Fields(
        {str(n): one for n, one in enumerate(given)}, read.faults, prefix="facility_ids."
    )
    named = [entries.identifier(str(n), required=True) for n in range(len(given))]
    return tuple(dict.fromkeys(one for one in named if one))


def _read_place(
    feature: Mapping[str, Any],
    properties: Mapping[str, Any],
    asked: str | None,
    faults: list[Fault],
) -> tuple[str, BaseGeometry | None]:
    """The declared system and the geometry in WGS-84. Raises TooLarge at once."""
    try:
        system = _declared_crs(feature.get("crs"), properties.get("crs"), asked)
    except CrsError as error:
        faults += error.faults
        return WGS84, None
    if "geometry" in feature and feature["geometry"] is None:
        return system, None
    try:
        original = read_geometry(feature.get("geometry"))
        refuse_exchanged(original, system)
        geometry = geometry_to_wgs84(original, system)
        found = geometry_faults(geometry, max_vertices=VERTICES_MAX)
    except TooLarge:
        raise
    except InvalidInput as error:
        faults += error.faults
        return system, None
    faults += found
    return system, None if found else geometry


def _declared_crs(member: Any, in_properties: Any, asked: str | None) -> str:
    """The one system that the Feature's `crs`, its property and the query agree on."""
    if isinstance(member, Mapping):  # the form of GeoJSON 2008, which GDAL still writes
        named = member.get("properties")
        member = named.get("name") if isinstance(named, Mapping) else None
    stated = [one for one in (asked, member, in_properties) if one is not None]
    if not all(isinstance(one, str) for one in stated):
        raise CrsError([Fault("must be a text such as WGS84 or GCJ-02", None, "crs")])
    systems = {parse_crs(one) for one in stated}
    if len(systems) > 1:
        raise CrsError([Fault(f"is said to be {' and '.join(sorted(systems))}", None, "crs")])
    return systems.pop() if systems else WGS84
