"""Incidents as they are read: each graded by itself, seen within a scope, reporters protected.

docs/meanings.md, "Scope": a field account always reads its own submissions. Reporters are shown to
commanders, administrators and whoever submitted. Writing is in `data.incident_submission`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.database import WHOLE_CITY, reading, sequence_at, set_scope
from data.incident_doubts import warning_texts
from data.incident_duplicates import IncidentSettings as IncidentSettings
from data.incident_duplicates import probable_duplicates
from data.incident_states import NEXT_STATES
from data.rulepacks import RulePacks
from geo.errors import NotFound
from geo.grade import assess

#: An incident in another state is over, refused, or counted under another id.
OPEN_STATES = ("reported", "verified", "active")
READS_REPORTERS = frozenset({"commander", "admin"})


def answer_of(
    connection: Connection,
    incident_id: UUID,
    account: Account,
    packs: RulePacks,
    settings: IncidentSettings,
    now: datetime,
    lang: str,
) -> dict[str, Any]:
    """What POST and PATCH answer, read back from what is stored in this transaction."""
    row = connection.execute(text(ONE), {"id": incident_id}).one()
    return {
        "incident_id": str(row.incident_id),
        "adcode": row.adcode,
        "unit": row.unit,
        **_standing(row),
        "facts": row.facts,
        "probable_duplicates": _duplicates(connection, incident_id, account, settings),
        "facility": _facility(connection, row.facility_id),
        "warnings": warning_texts(row.warnings, lang),
        "assessment": assess(packs.at(row.plan, now), row.facts, now=now),
        "version": row.version,
    }


def _standing(row: Any) -> dict[str, Any]:
    """Its state, what may follow, and whether it has happened or only may."""
    return {
        "state": row.state,
        "next_states": NEXT_STATES[row.state],
        "duplicate_of": None if row.duplicate_of is None else str(row.duplicate_of),
        "possible": row.facts.get("possible") is True,
    }


def _duplicates(
    connection: Connection, incident_id: UUID, account: Account, settings: IncidentSettings
) -> list[str]:
    return probable_duplicates(connection, [incident_id], account, settings)[incident_id]


def _facility(connection: Connection, facility_id: str | None) -> dict[str, Any] | None:
    """The facility an incident names, also one in another district: whoever sees the incident is
    told who owns and who maintains the lift. None without one; the last look of a transaction."""
    if facility_id is None:
        return None
    set_scope(connection, WHOLE_CITY)
    row = connection.execute(
        text(
            "SELECT facility_id, name, kind, rescue_code, attributes ->> 'owner' AS owner,"
            " attributes ->> 'maintainer' AS maintainer FROM facility WHERE facility_id = :id"
        ),
        {"id": facility_id},
    ).one_or_none()
    if row is None:
        return None
    names = ("facility_id", "name", "kind", "owner", "maintainer", "rescue_code")
    return {name: row._mapping[name] for name in names}


# --- reading ----------------------------------------------------------------------------------

_LATEST = (
    "SELECT version, state, facts, batch_id, duplicate_of FROM incident_revision n"
    " WHERE n.incident_id = i.incident_id ORDER BY version DESC LIMIT 1"
)
_COLUMNS = """
i.incident_id, i.plan, i.kind, i.occurred_at, i.crs, i.original_position, i.accuracy_m,
i.facility_id, i.adcode, i.unit, i.warnings, i.account, i.body, ST_X(i.geom) AS lon,
ST_Y(i.geom) AS lat, b.opened_at, r.version, r.state, r.facts, r.duplicate_of
"""
_FROM = f"incident i JOIN batch b ON b.id = i.batch_id JOIN LATERAL ({_LATEST}) r ON true"
#: The same as known at a sequence: no later revision, and no incident before its first.
_KNOWN = _LATEST.replace(
    "incident_revision n WHERE",
    "incident_revision n JOIN change h USING (batch_id) WHERE h.sequence <= :known AND",
)
_FROM_AT = f"incident i JOIN batch b ON b.id = i.batch_id JOIN LATERAL ({_KNOWN}) r ON true"
ONE = f"SELECT {_COLUMNS} FROM {_FROM} WHERE i.incident_id = :id"


def set_reader(connection: Connection, account: Account) -> None:
    """Let row-level security through to this account's districts and its own submissions."""
    set_scope(connection, account.scope)
    connection.execute(
        text("SELECT set_config('app.account', :account, true)"), {"account": account.username}
    )


def _feature(row: Any, account: Account, lang: str) -> dict[str, Any]:
    """A stored incident as GeoJSON, WGS-84, without what the account may not read."""
    body = row.body
    properties = {
        "incident_id": str(row.incident_id),
        "plan": row.plan,
        "kind": row.kind,
        **_standing(row),
        "occurred_at": row.occurred_at.isoformat(),
        "received_at": row.opened_at.isoformat(),
        "adcode": row.adcode,
        "unit": row.unit,
        "facility_id": row.facility_id,
        "crs": row.crs,
        "original_position": row.original_position,
        "accuracy_m": row.accuracy_m,
        **{name: body.get(name) for name in ("address", "description", "source", "device_time")},
        "hotline": _order(body),
        "facts": row.facts,
        "warnings": warning_texts(row.warnings, lang),
        "version": row.version,
    }
    if account.role in READS_REPORTERS or row.account == account.username:
        properties |= {"reporter": body.get("reporter"), "account": row.account}
        if properties["hotline"] is not None:
            properties["hotline"]["caller"] = body["hotline"].get("caller")
    point = {"type": "Point", "coordinates": [row.lon, row.lat]}
    return {
        "type": "Feature",
        "id": str(row.incident_id),
        "geometry": None if row.lon is None else point,
        "properties": properties,
    }


def _order(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The hotline work order an incident was made from, without its caller."""
    order = body.get("hotline")
    if not isinstance(order, Mapping):
        return None
    names = ("order_number", "category", "address_text", "received_at", "life_safety")
    return {name: order.get(name) for name in names}


def get_incident(
    engine: Engine, incident_id: UUID, account: Account, packs: RulePacks, lang: str = "zh"
) -> dict[str, Any]:
    """One incident with its assessment now. Raises NotFound, also for what is out of scope."""
    now = datetime.now(UTC)
    with reading(engine, account.scope) as connection:
        set_reader(connection, account)
        row = connection.execute(text(ONE), {"id": incident_id}).one_or_none()
        if row is None:
            raise NotFound("no such incident")
        near = _duplicates(connection, incident_id, account, IncidentSettings.load())
        facility = _facility(connection, row.facility_id)
    feature = _feature(row, account, lang)
    feature["properties"]["probable_duplicates"] = near
    feature["properties"]["facility"] = facility
    feature["properties"]["assessment"] = assess(packs.at(row.plan, now), row.facts, now=now)
    return feature


def list_incidents(
    engine: Engine,
    account: Account,
    packs: RulePacks,
    *,
    at: datetime | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    since: datetime | None = None,
    plan: str | None = None,
    adcode: str | None = None,
    states: Sequence[str] = (),
    possible: bool | None = None,
    limit: int = 1000,
    offset: int = 0,
    lang: str = "zh",
) -> dict[str, Any]:
    """A FeatureCollection of incidents the account may see, newest first, each with its level.

    `at`: as known then, and graded then. `bbox`: west, south, east, north, WGS-84 degrees;
    `since`: occurred then or later. `possible`: only what may happen, or only what has.
    """
    where = (
        " WHERE (CAST(:since AS timestamptz) IS NULL OR i.occurred_at >= :since)"
        " AND (CAST(:plan AS text) IS NULL OR i.plan = :plan)"
        " AND (CAST(:adcode AS text) IS NULL OR i.adcode = :adcode)"
        " AND (cardinality(CAST(:states AS text[])) = 0 OR r.state = ANY (:states))"
    )
    maybe = "coalesce(r.facts->'possible' = 'true'::jsonb, false)"
    if possible is not None:
        where += f" AND {maybe} = :possible"
    source = _FROM if at is None else _FROM_AT
    if bbox is not None:
        where += " AND ST_Intersects(i.geom, ST_MakeEnvelope(:west, :south, :east, :north, 4326))"
    asked: dict[str, Any] = {
        "since": since,
        "plan": plan,
        "adcode": adcode,
        "states": list(states),
        "possible": possible,
        **dict(zip(("west", "south", "east", "north"), bbox or (), strict=bool(bbox))),
    }
    order = " ORDER BY i.occurred_at DESC, i.incident_id LIMIT :limit OFFSET :offset"
    with reading(engine, account.scope, snapshot=True) as connection:
        set_reader(connection, account)
        if at is not None:
            asked["known"] = sequence_at(connection, at)
        matched, only_possible = connection.execute(
            text(f"SELECT count(*), count(*) FILTER (WHERE {maybe}) FROM {source}{where}"), asked
        ).one()
        rows = connection.execute(
            text(f"SELECT {_COLUMNS} FROM {source}{where}{order}"),
            {**asked, "limit": limit, "offset": offset},
        ).all()
    return {
        "type": "FeatureCollection",
        "numberMatched": matched,
        "numberReturned": len(rows),
        "numberPossible": only_possible,
        "features": [
            _graded(_feature(row, account, lang), row, packs, at or datetime.now(UTC))
            for row in rows
        ],
    }


def _graded(feature: dict[str, Any], row: Any, packs: RulePacks, when: datetime) -> dict[str, Any]:
    """The feature with the level its facts give, between which levels it lies and on which unknown
    facts that depends; all null under a plan not in force at `when`."""
    in_force = {pack.plan: pack for pack in packs.in_force(when)}
    pack = in_force.get(row.plan)
    found = assess(pack, row.facts, now=when) if pack else {}
    feature["properties"] |= {name: found.get(name) for name in ("level", "bounds", "unknown")}
    return feature


def open_incidents(connection: Connection, sequence: int, now: datetime) -> list[dict[str, Any]]:
    """Every open incident as known at `sequence`, by incident_id.

    Keys: incident_id (text), plan, kind, adcode, unit, occurred_at, facts, state, version. None
    lies more than five minutes after `now`, since such are refused when they arrive.
    """
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (i.incident_id) CAST(i.incident_id AS text) AS incident_id, i.plan,"
            " i.kind, i.adcode, i.unit, i.occurred_at, r.facts, r.state, r.version"
            " FROM incident i JOIN incident_revision r USING (incident_id)"
            " JOIN change h ON h.batch_id = r.batch_id"
            " WHERE h.sequence <= :sequence"
            " AND i.occurred_at <= CAST(:now AS timestamptz) + interval '5 minutes'"
            " ORDER BY i.incident_id, r.version DESC"
        ),
        {"sequence": sequence, "now": now},
    )
    return [dict(row._mapping) for row in rows if row.state in OPEN_STATES]
