"""Reported outages: stored once per revision, divided over the districts of every version, read.

docs/meanings.md, "Outages", "Integers", "Scope": the highest revision counts, in whatever order
revisions arrive; an unplanned one that says it began more than five minutes after it was received
is kept and listed, never applied. The split is made when the outage is stored, by the inventory of
that moment; its parts add up to the whole exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import shapely
from sqlalchemy import Connection, Engine, text

from data.database import CITY, Scope, Write, reading, sequence_at, set_scope, writing
from data.divisions import DivisionVersion, require_divisions, version_at
from data.fields import body_sha256
from data.outage_feature import AHEAD_MAX, ReportedOutage, read_outage
from data.outage_split import OutageFacilities, facilities_of, split_everywhere
from data.outage_warnings import outage_warnings
from geo.errors import Conflict, Fault, InvalidInput, NotAllowed

_LOCK = 7113


@dataclass(frozen=True)
class StoredOutage:
    """A stored revision: `json` is its Feature with `split` and `warnings`."""

    status: Literal["created", "identical"]
    json: dict[str, Any]
    sequence: int | None


def store_outage(
    engine: Engine,
    feature: Any,
    *,
    body: bytes,
    account: str,
    operators: Sequence[str] = CITY,
    crs: str | None = None,
    lang: str = "zh",
    content_type: str = "application/geo+json",
) -> StoredOutage:
    """Store one revision; durable on return, and the same again changes nothing.

    `feature` is the parsed `body`; `operators` are those the account speaks for. Raises
    InvalidInput with every fault, Conflict when this id and revision hold another body or the
    outage belongs to another operator, NotAllowed for facilities of other operators.
    """
    outage = read_outage(feature, crs)
    digest = body_sha256(feature)
    with writing(
        engine,
        channel="outage",
        account=account,
        body=body,
        content_type=content_type,
        request={"crs": crs, "operators": list(operators)},
    ) as write:
        connection = write.connection
        require_divisions(connection)
        if outage.restored_at and outage.restored_at > write.opened_at + AHEAD_MAX:
            reason = "lies ahead; give estimated_restoration until power is back"
            raise InvalidInput([Fault(reason, None, "restored_at")])
        # two operators must not both find an id free
        lock = f"SELECT pg_advisory_xact_lock({_LOCK}, hashtext(:id))"
        connection.execute(text(lock), {"id": outage.outage_id})
        named = facilities_of(connection, outage)
        operator = _operator(connection, outage, named, account, operators)
        current = version_at(connection)
        split = split_everywhere(engine, connection, outage, named)
        added = _insert(write, outage, feature, digest, account, operator, split, current)
        if added:
            write.kind = "outage"
            write.detail = {"outage_id": outage.outage_id, "revision": outage.revision}
        elif _stored_sha256(connection, outage) != digest:
            raise Conflict(
                f"revision {outage.revision} of this outage is stored with another body;"
                " send the next revision"
            )
        answer = _stored_feature(connection, outage, current.id)
        answer["warnings"] = outage_warnings(answer, named, lang)
    return StoredOutage("created" if added else "identical", answer, write.sequence)


def _operator(
    connection: Connection,
    outage: ReportedOutage,
    named: OutageFacilities,
    account: str,
    operators: Sequence[str],
) -> str:
    """Whose outage this is: as it says, else of its facilities, else of the account's only one."""
    if "*" not in operators:
        if named.operators - set(operators):
            raise NotAllowed("facility_ids names a facility of another operator")
        if outage.operator is not None and outage.operator not in operators:
            raise NotAllowed("the account does not speak for this operator")
        foreign = connection.execute(
            text(
                "SELECT 1 FROM outage WHERE outage_id = :id AND account <> :account"
                " AND NOT (operator = ANY (CAST(:operators AS text[]))) LIMIT 1"
            ),
            {"id": outage.outage_id, "account": account, "operators": list(operators)},
        ).first()
        if foreign is not None:
            raise Conflict("this outage_id is taken")
    if outage.operator is not None:
        return outage.operator
    candidates = named.operators if named.operators else frozenset(operators) - {"*"}
    return next(iter(candidates)) if len(candidates) == 1 else ""


def _insert(
    write: Write,
    outage: ReportedOutage,
    feature: Any,
    digest: bytes,
    account: str,
    operator: str,
    split: dict[str, list[dict[str, Any]]],
    current: DivisionVersion,
) -> bool:
    """Whether the row is new; waits for a concurrent writer of the same id and revision."""
    touched = sorted({p["adcode"] for p in split[str(current.id)] if p["adcode"] is not None})
    added = write.connection.execute(
        text(
            "INSERT INTO outage (outage_id, revision, body_sha256, batch_id, account, operator,"
            " feature, crs, geom, facility_ids, load_shed_kw, customers_out, restored_load_kw,"
            " started_at, restored_at, planned, main_grid, split, adcodes)"
            " VALUES (:outage_id, :revision, :sha, :batch, :account, :operator,"
            " CAST(:feature AS jsonb), :crs, ST_SetSRID(CAST(:geom AS geometry), 4326),"
            " :facility_ids, :load_shed_kw, :customers_out, :restored_load_kw, :started_at,"
            " :restored_at, :planned, :main_grid, CAST(:split AS jsonb), :adcodes)"
            " ON CONFLICT (outage_id, revision) DO NOTHING"
        ),
        {
            "outage_id": outage.outage_id,
            "revision": outage.revision,
            "sha": digest,
            "batch": write.batch_id,
            "account": account,
            "operator": operator,
            "feature": orjson.dumps(feature).decode(),
            "crs": outage.crs,
            "geom": None
            if outage.geometry is None
            else shapely.to_wkb(outage.geometry, hex=True, include_srid=False),
            "facility_ids": list(outage.facility_ids),
            "load_shed_kw": outage.load_shed_kw,
            "customers_out": outage.customers_out,
            "restored_load_kw": outage.restored_load_kw,
            "started_at": outage.started_at,
            "restored_at": outage.restored_at,
            "planned": outage.planned,
            "main_grid": outage.main_grid,
            "split": orjson.dumps(split).decode(),
            "adcodes": touched,
        },
    )
    return added.rowcount == 1


def _stored_sha256(connection: Connection, outage: ReportedOutage) -> bytes:
    return bytes(
        connection.execute(
            text("SELECT body_sha256 FROM outage WHERE outage_id = :id AND revision = :revision"),
            {"id": outage.outage_id, "revision": outage.revision},
        ).scalar_one()
    )


# --- reading ----------------------------------------------------------------------------------

_COLUMNS = """
o.outage_id, o.revision, o.operator, o.feature -> 'properties' AS given, o.crs, o.facility_ids,
o.load_shed_kw, o.customers_out, o.restored_load_kw, o.started_at, o.restored_at, o.planned,
o.main_grid, o.split -> CAST(:version AS text) AS split, ST_AsGeoJSON(o.geom, 9) AS geometry,
b.opened_at, h.received_at, h.sequence,
NOT o.planned AND o.started_at > b.opened_at + interval '5 minutes' AS future
"""
_FROM = "outage o JOIN batch b ON b.id = o.batch_id LEFT JOIN change h ON h.batch_id = o.batch_id"

#: The newest revision of each outage by :sequence. One that lies ahead never hides another.
_NEWEST = """
SELECT DISTINCT ON (o.outage_id) o.outage_id, o.revision
FROM outage o JOIN change h ON h.batch_id = o.batch_id JOIN batch b ON b.id = o.batch_id
WHERE h.sequence <= :sequence
ORDER BY o.outage_id,
         (NOT o.planned AND o.started_at > b.opened_at + interval '5 minutes'), o.revision DESC
"""


def _feature(row: Any, now: datetime) -> dict[str, Any]:
    """A stored revision as GeoJSON, WGS-84."""
    optional = {name: (row.given or {}).get(name) for name in ("event", "estimated_restoration")}
    return {
        "type": "Feature",
        "id": row.outage_id,
        "geometry": None if row.geometry is None else orjson.loads(row.geometry),
        "properties": {
            "outage_id": row.outage_id,
            "revision": row.revision,
            "operator": row.operator,
            **optional,
            "facility_ids": list(row.facility_ids),
            "load_shed_kw": row.load_shed_kw,
            "customers_out": row.customers_out,
            "restored_load_kw": row.restored_load_kw,
            "started_at": row.started_at.isoformat(),
            "restored_at": row.restored_at.isoformat() if row.restored_at else None,
            "cause": (row.given or {}).get("cause") or "unknown",
            "planned": row.planned,
            "main_grid": row.main_grid,
            "open": _is_open(row, now),
            "applied": not row.future,
            "crs": row.crs,
            "received_at": (row.received_at or row.opened_at).isoformat(),
            "split": row.split or [],
        },
    }


def _is_open(row: Any, now: datetime) -> bool:
    """In force at `now`: begun (or within the tolerance of clocks) and not over."""
    begun = row.started_at <= now or (not row.planned and not row.future)
    return begun and not row.future and (row.restored_at is None or row.restored_at > now)


def _stored_feature(
    connection: Connection, outage: ReportedOutage, version_id: int
) -> dict[str, Any]:
    row = connection.execute(
        text(f"SELECT {_COLUMNS} FROM {_FROM} WHERE o.outage_id = :id AND o.revision = :revision"),
        {"id": outage.outage_id, "revision": outage.revision, "version": str(version_id)},
    ).one()
    feature = _feature(row, datetime.now(UTC))
    feature["split"] = feature["properties"]["split"]
    return feature


def list_outages(
    engine: Engine,
    *,
    districts: Sequence[str] = CITY,
    at: datetime | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    adcode: str | None = None,
    is_open: bool | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> dict[str, Any]:
    """A FeatureCollection of the newest revisions known at `at`, open ones first.

    `districts` is the reader's scope, `bbox` west, south, east, north in WGS-84 degrees; outages
    without an extent are looked for where their facilities are. The split is that of the divisions
    in force at `at`.
    """
    now = at or datetime.now(UTC)
    with reading(engine, snapshot=True) as connection:
        version = version_at(connection, at)
        newest = connection.execute(text(_NEWEST), {"sequence": sequence_at(connection, at)}).all()
        # which revision is the newest does not depend on who asks; which rows are seen does
        set_scope(connection, Scope(tuple(districts)))
        rows = connection.execute(
            text(
                f"SELECT {_COLUMNS} FROM {_FROM} JOIN unnest(CAST(:ids AS text[]),"
                " CAST(:revisions AS int[])) AS n(id, revision)"
                " ON n.id = o.outage_id AND n.revision = o.revision"
                " WHERE (CAST(:adcode AS text) IS NULL OR (o.split -> CAST(:version AS text))"
                " @> jsonb_build_array(jsonb_build_object('adcode', CAST(:adcode AS text))))"
                " AND (CAST(:west AS float8) IS NULL"
                " OR ST_Intersects(o.geom, ST_MakeEnvelope(:west, :south, :east, :north, 4326))"
                " OR (o.geom IS NULL AND EXISTS (SELECT 1 FROM facility f"
                " WHERE f.facility_id = ANY (o.facility_ids)"
                " AND ST_Intersects(f.geom, ST_MakeEnvelope(:west, :south, :east, :north, 4326)))))"
                " ORDER BY o.started_at DESC, o.outage_id"
            ),
            {
                "ids": [r.outage_id for r in newest],
                "revisions": [r.revision for r in newest],
                "version": str(version.id),
                "adcode": adcode,
                **dict(zip(("west", "south", "east", "north"), bbox or [None] * 4, strict=True)),
            },
        ).all()
    features = [_feature(row, now) for row in rows]
    if is_open is not None:
        features = [f for f in features if f["properties"]["open"] is is_open]
    features.sort(key=lambda f: not f["properties"]["open"])  # stable: newest first among equals
    page = features[offset : offset + limit]
    return {
        "type": "FeatureCollection",
        "numberMatched": len(features),
        "numberReturned": len(page),
        "features": page,
    }


#: Revisions that hold for a while after :since: until the first higher one was received, from their
#: own receipt on, the lowest from the beginning of the outage.
_HOLDING = f"""
SELECT * FROM (
    SELECT {_COLUMNS}, row_number() OVER (PARTITION BY o.outage_id ORDER BY o.revision) = 1
           AS lowest,
           min(h.received_at) OVER (PARTITION BY o.outage_id ORDER BY o.revision DESC
                                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS until
    FROM {_FROM}
    WHERE h.sequence <= :sequence AND o.outage_id = ANY (CAST(:ids AS text[]))
      AND (o.planned OR o.started_at <= b.opened_at + interval '5 minutes')
) r
WHERE until IS NULL OR (until > coalesce(CAST(:since AS timestamptz), '-infinity')
                        AND (lowest OR received_at < until))
ORDER BY outage_id, revision
"""


def open_outages(
    connection: Connection,
    sequence: int,
    version_id: int,
    now: datetime,
    since: datetime | None = None,
) -> list[dict[str, Any]]:
    """The newest revision of every outage the situation at `now` may rest on, by outage_id.

    Known by `sequence` and applicable (not `future`): those open at `now` (`open` true), planned
    ones to come, and those over since the last power event was closed, because an event keeps the
    worst moment it had; those over by `since` are left out. Keys: outage_id, revision, operator,
    planned, main_grid, load_shed_kw, customers_out, restored_load_kw (kW), started_at, restored_at,
    received_at, facility_ids, `split` in that division version, `geometry` (shapely, WGS-84, or
    None), open; `revisions`, itself the last: those that hold for a while after `since`, each with
    its figures, whether it is the `lowest` of all, and `until`, when it was overtaken (None: not).
    """
    rows = connection.execute(
        text(
            f"WITH newest AS ({_NEWEST}), closed AS ("
            " SELECT max(h.received_at) AS at FROM plan_facts p JOIN change h USING (batch_id)"
            " WHERE p.close_event AND h.sequence <= :sequence)"
            f" SELECT {_COLUMNS}, ST_AsBinary(o.geom) AS shape FROM {_FROM}"
            " JOIN newest n ON n.outage_id = o.outage_id AND n.revision = o.revision"
            " WHERE o.restored_at IS NULL OR o.restored_at > :now"
            " OR o.restored_at > greatest((SELECT at FROM closed),"
            " CAST(:since AS timestamptz), '-infinity')"
            " ORDER BY o.outage_id"
        ),
        {"sequence": sequence, "version": str(version_id), "now": now, "since": since},
    ).all()
    ids = [row.outage_id for row in rows]
    key = {"ids": ids, "sequence": sequence, "version": str(version_id), "since": since}
    holding: dict[str, list[dict[str, Any]]] = {outage_id: [] for outage_id in ids}
    revision_names = ("outage_id", "revision", "received_at", "load_shed_kw", "customers_out")
    for row in connection.execute(text(_HOLDING), key) if ids else ():
        holding[row.outage_id].append(_figures(row, (*revision_names, "lowest", "until")))
    names = (
        *revision_names,
        *("operator", "planned", "main_grid", "restored_load_kw", "started_at", "restored_at"),
    )
    return [
        _figures(row, names)
        | {
            "geometry": None if row.shape is None else shapely.from_wkb(bytes(row.shape)),
            "open": _is_open(row, now),
            "revisions": holding[row.outage_id],
        }
        for row in rows
        if not row.future
    ]


def _figures(row: Any, names: Sequence[str]) -> dict[str, Any]:
    more = {"facility_ids": list(row.facility_ids), "split": row.split or []}
    return {name: getattr(row, name) for name in names} | more


def next_outage_instant(outages: Sequence[dict[str, Any]], now: datetime) -> datetime | None:
    """When the clock alone next opens or ends one of `open_outages`; None when it never does."""
    instants = [o[name] for o in outages for name in ("started_at", "restored_at")]
    return min((t for t in instants if t is not None and t > now), default=None)
