"""Divisions change: another set of districts from a day on, a functional zone begins or ends.

docs/architecture.md, "Divisions change". What a version says never changes, except that it ends and
that zones are added or ended for all of its time; a change inside its time divides it in two. All
that is stored is placed again in the same transaction, under the inventory lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import geopandas as gpd
import numpy as np
import psycopg.errors
import shapely
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from data.database import Write, writing
from data.default_divisions import DIVISIONS_LOCK
from data.divisions import (
    DivisionVersion,
    districts_frame,
    store_version,
    versions,
    zones_frame,
)
from data.replacing import Replaced, place_everything_again
from data.rulepacks import CITY_TIME
from data.status import INVENTORY_LOCK
from data.zones import attach_zones
from geo.crs import area_m2
from geo.districts import check_coverage
from geo.errors import Fault, InvalidInput, Unavailable

#: More of a district's ground in no new district is a district forgotten, not a border redrawn.
FORGOTTEN_SHARE: Final = 0.5


@dataclass(frozen=True)
class DivisionsChanged:
    """What an import did; `sequence` and `replaced` are None when it was made before.

    `homeless`: accounts scoped to a district that the divisions in force do not have.
    """

    sequence: int | None
    replaced: Replaced | None
    homeless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Validity:
    """A time divisions are in force, `[since, until)`; `until` None while they still are."""

    since: datetime
    until: datetime | None = None

    def overlaps(self, version: DivisionVersion) -> bool:
        begins_before = version.valid_to is None or self.since < version.valid_to
        return begins_before and (self.until is None or version.valid_from < self.until)


def import_districts(
    engine: Engine,
    frame: gpd.GeoDataFrame,
    validity: Validity,
    *,
    label: str,
    source: str,
    licence: str,
    account: str,
    body: bytes,
    note: str = "",
    zones: gpd.GeoDataFrame | None = None,
    ended_zones: Sequence[str] = (),
) -> DivisionsChanged:
    """Store districts in force from a time on; the version in force before ends there.

    `engine` has the owner's rights. `frame`: EPSG:4326, columns as `store_version`; `zones`: those
    that come with them (`data.zones.read_zones`). Zones of the version that ends go on in the new
    one unless `zones` has their code or they are in `ended_zones`. Durable on return, and the same
    again changes nothing. Raises InvalidInput for districts that are no coverage or forget one, for
    an overlap with other versions than the one that ends, for times ahead; Unavailable when others
    read the divisions for too long.
    """
    check_coverage(frame)
    said = {"label": label, "source": source, "licence": licence, "note": note}
    more = {"ended_zones": sorted(ended_zones)}
    with _changing(engine, account, body, validity, {**said, **more}) as change:
        if change.repeated:
            return DivisionsChanged(None, None)
        connection = change.write.connection
        ending = _version_to_end(connection, validity)
        own = set() if zones is None else set(zones["code"])
        carried: list[gpd.GeoDataFrame] = [] if zones is None else [zones.assign(source=source)]
        if ending is not None:
            _end(connection, ending.id, validity.since)
            _refuse_forgotten(districts_frame(connection, ending.id), frame)
            before = zones_frame(connection, ending.id)
            _require_zones(before, ended_zones)
            carried.insert(0, before[~before["code"].isin({*own, *ended_zones})])
        elif ended_zones:
            raise InvalidInput([Fault("no version ends, and none of its zones", None, "end")])
        version_id = store_version(
            connection, frame, valid_from=validity.since, valid_to=validity.until, **said
        )
        for one in carried:
            if len(one):
                attach_zones(connection, version_id, one)
        replaced = change.place_again(engine, {"version": version_id, "label": label})
        homeless = _homeless(connection)
    return DivisionsChanged(change.write.sequence, replaced, homeless)


def import_zones(
    engine: Engine,
    zones: gpd.GeoDataFrame | None,
    validity: Validity,
    *,
    source: str,
    account: str,
    body: bytes,
    ended: Sequence[str] = (),
) -> DivisionsChanged:
    """Make functional zones units for a time, and end those in `ended` for it.

    Versions that the time begins or ends in are divided there; their districts stay. Otherwise as
    `import_districts`; raises InvalidInput for zones that overlap or do not fit the districts.
    """
    with _changing(
        engine, account, body, validity, {"source": source, "ended_zones": sorted(ended)}
    ) as change:
        if change.repeated:
            return DivisionsChanged(None, None)
        connection = change.write.connection
        known = versions(connection)
        if not known:
            raise InvalidInput("no districts are loaded; run `yutu import districts` first")
        if validity.since < known[0].valid_from:
            reason = f"no districts are known before {_shown(known[0].valid_from)}"
            raise InvalidInput([Fault(reason, None, "valid-from")])
        for instant in (validity.since, validity.until):
            _divide(connection, instant)
        concerned = [v for v in versions(connection) if validity.overlaps(v)]
        _end_zones(connection, concerned, ended)
        for version in concerned:
            if zones is not None and len(zones):
                attach_zones(connection, version.id, zones.assign(source=source))
        codes = [] if zones is None else zones["code"].tolist()
        replaced = change.place_again(engine, {"zones": codes, "ended": list(ended)})
    return DivisionsChanged(change.write.sequence, replaced)


# --- the transaction --------------------------------------------------------------------------


@dataclass
class _Change:
    write: Write
    repeated: bool

    def place_again(self, engine: Engine, detail: dict[str, Any]) -> Replaced:
        connection = self.write.connection
        _require_one_in_force(connection)
        replaced = place_everything_again(engine, connection)
        self.write.kind = "divisions"
        self.write.detail = detail
        return replaced


@contextmanager
def _changing(
    engine: Engine, account: str, body: bytes, validity: Validity, said: dict[str, Any]
) -> Iterator[_Change]:
    """One write of divisions, alone: neither inventory nor states change beside it."""
    until = validity.until.isoformat() if validity.until else None
    request = {**said, "valid_from": validity.since.isoformat(), "valid_to": until}
    try:
        with writing(
            engine,
            channel="divisions",
            account=account,
            body=body,
            content_type="application/octet-stream",
            request=request,
        ) as write:
            connection = write.connection
            connection.execute(text(f"SELECT pg_advisory_xact_lock({DIVISIONS_LOCK})"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({INVENTORY_LOCK})"))
            _refuse_times(connection, validity)
            yield _Change(write, _repeated(connection, write.batch_id))
    except OperationalError as error:
        if isinstance(
            error.orig, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected
        ):
            reason = "others have been reading the divisions for too long; nothing was changed"
            raise Unavailable(reason, retry_after_s=60) from None
        raise


def _repeated(connection: Connection, batch_id: int) -> bool:
    """Whether the same bytes were imported before, for the same time, saying the same."""
    found = connection.execute(
        text(
            "SELECT 1 FROM batch me JOIN batch b ON b.channel = me.channel AND b.id <> me.id"
            " AND b.body_sha256 = me.body_sha256 AND b.request = me.request"
            " JOIN change h ON h.batch_id = b.id WHERE me.id = :me LIMIT 1"
        ),
        {"me": batch_id},
    )
    return found.first() is not None


def _refuse_times(connection: Connection, validity: Validity) -> None:
    now = connection.execute(text("SELECT now()")).scalar_one()
    faults = [
        Fault(f"{_shown(at)} lies ahead; import it when it is in force", None, name)
        for name, at in (("valid-from", validity.since), ("valid-to", validity.until))
        if at is not None and at > now
    ]
    if validity.until is not None and validity.until <= validity.since:
        faults.append(Fault("must be later than valid-from", None, "valid-to"))
    if faults:
        raise InvalidInput(faults)


def _require_one_in_force(connection: Connection) -> None:
    found = connection.execute(
        text(
            "SELECT 1 FROM division_version WHERE valid_from <= now()"
            " AND (valid_to IS NULL OR valid_to > now())"
        )
    ).first()
    if found is None:
        reason = (
            "no divisions would be in force now; leave it out, or import the present ones first"
        )
        raise InvalidInput([Fault(reason, None, "valid-to")])


def _shown(at: datetime) -> str:
    return at.astimezone(CITY_TIME).isoformat()


# --- versions ---------------------------------------------------------------------------------


def _version_to_end(connection: Connection, validity: Validity) -> DivisionVersion | None:
    """The version the new one replaces from its beginning on. Raises InvalidInput for an overlap
    with any other, or beyond the new one's end."""
    ending = None
    faults = []
    for version in versions(connection):
        if not validity.overlaps(version):
            continue
        named = f"the divisions {version.label!r}"
        begin = _shown(version.valid_from)
        if version.valid_from == validity.since:
            reason = f"{named} begin at the same time and stay as they are; give another time"
            faults.append(Fault(reason, None, "valid-from"))
        elif version.valid_from > validity.since:
            reason = f"would overlap {named}, in force from {begin}; end at or before that"
            faults.append(Fault(reason, None, "valid-to"))
        elif validity.until is not None and version.valid_to != validity.until:
            end = _shown(version.valid_to) if version.valid_to else "further notice"
            reason = (
                f"{named} are in force until {end}, and what holds from"
                f" {_shown(validity.until)} till then would be unknown; "
            )
            remedy = f"give {end}" if version.valid_to else "leave it out"
            if version.valid_to is None or version.valid_to > validity.until:
                faults.append(Fault(reason + remedy, None, "valid-to"))
            ending = version
        else:
            ending = version
    if faults:
        raise InvalidInput(faults)
    return ending


def _end(connection: Connection, version_id: int, at: datetime) -> None:
    connection.execute(
        text("UPDATE division_version SET valid_to = :at WHERE id = :id"),
        {"at": at, "id": version_id},
    )


def _refuse_forgotten(before: gpd.GeoDataFrame, after: gpd.GeoDataFrame) -> None:
    """Raise InvalidInput naming districts whose ground the new ones mostly leave out: a hole that
    size passes for an enclave."""
    ground = shapely.union_all(after.geometry.to_numpy())
    shapes = before.geometry.to_numpy()
    left = shapely.difference(shapes, ground)
    faults = []
    for i in np.flatnonzero(area_m2(left) > FORGOTTEN_SHARE * area_m2(shapes)).tolist():
        lon, lat = shapely.get_coordinates(shapely.point_on_surface(left[i]))[0]
        named = f"{before['adcode'].iloc[i]} {before['name'].iloc[i]}"
        reason = f"the ground of {named} would be in no district, as at ({lon:.6f}, {lat:.6f})"
        faults.append(Fault(reason, None, "geometry"))
    if faults:
        raise InvalidInput(faults)


def _divide(connection: Connection, at: datetime | None) -> None:
    """Where `at` falls inside a version, end it there and go on with an equal one."""
    inside = next(
        (
            v
            for v in versions(connection)
            if at is not None and v.valid_from < at and (v.valid_to is None or at < v.valid_to)
        ),
        None,
    )
    if inside is None or at is None:
        return
    key: dict[str, Any] = {"old": inside.id, "at": at, "until": inside.valid_to}
    _end(connection, inside.id, at)
    key["new"] = connection.execute(
        text(
            "INSERT INTO division_version (label, valid_from, valid_to, source, licence, note)"
            " SELECT label, :at, :until, source, licence, note FROM division_version"
            " WHERE id = :old RETURNING id"
        ),
        key,
    ).scalar_one()
    district = (
        "adcode, name, name_en, population, population_source, area_m2, approximate, source, geom"
    )
    for table, columns in (
        ("district", district),
        ("unit", "code, name, kind, adcodes, source, geom"),
    ):
        connection.execute(
            text(
                f"INSERT INTO {table} (version_id, {columns})"
                f" SELECT :new, {columns} FROM {table} WHERE version_id = :old"
            ),
            key,
        )
    connection.execute(
        text(
            "UPDATE outage SET split = split"
            " || jsonb_build_object(CAST(:new AS text), split -> CAST(:old AS text))"
            " WHERE split ? CAST(:old AS text)"
        ),
        {"new": str(key["new"]), "old": str(inside.id)},
    )


# --- zones and accounts -----------------------------------------------------------------------


def _require_zones(there: gpd.GeoDataFrame, ended: Sequence[str]) -> None:
    missing = sorted(set(ended) - set(there["code"]))
    if missing:
        shown = ", ".join(there["code"]) or "none"
        raise InvalidInput(
            Fault(f"{code} is no zone of that time; there are: {shown}", None, "end")
            for code in missing
        )


def _end_zones(
    connection: Connection, concerned: Sequence[DivisionVersion], ended: Sequence[str]
) -> None:
    found: set[str] = set()
    for version in concerned:
        found.update(set(zones_frame(connection, version.id)["code"]) & set(ended))
        connection.execute(
            text(
                "DELETE FROM unit WHERE version_id = :v AND kind = 'functional_zone'"
                " AND code = ANY (:codes)"
            ),
            {"v": version.id, "codes": list(ended)},
        )
    missing = sorted(set(ended) - found)
    if missing:
        raise InvalidInput(Fault(f"{c} is no zone of that time", None, "end") for c in missing)


def _homeless(connection: Connection) -> tuple[str, ...]:
    """Accounts scoped to a district that is not in force any more."""
    found = connection.execute(
        text(
            "SELECT username FROM account WHERE NOT districts <@ (CAST('{*}' AS text[]) || ARRAY("
            "SELECT adcode FROM district d JOIN division_version v ON v.id = d.version_id"
            " WHERE v.valid_from <= now() AND (v.valid_to IS NULL OR v.valid_to > now())))"
            " ORDER BY username"
        )
    ).scalars()
    return tuple(found)
