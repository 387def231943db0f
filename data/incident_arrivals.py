"""Incidents on their way in, one or ten thousand: placed, then inserted once per id.

The same statements serve a form with one incident and a file with many. What an incident needs from
others (facility, districts) is looked up first; the locks that let two reports of one accident see
each other are taken only then, in one order, and held until the commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, text

from data.accounts import Account
from data.database import Write
from data.hotline import link_order
from data.incident_doubts import (
    DoubtedPlace,
    KeptWarning,
    districts_at,
    placement_doubts,
    unknown_facility,
)
from data.incident_report import ReportedIncident

LOCK = 7112
#: Rows sent with one statement.
CHUNK = 1_000


@dataclass(frozen=True)
class Arrival:
    """A valid incident with the body it was read from and the SHA-256 of that."""

    reported: ReportedIncident
    submitted: Any
    digest: bytes


@dataclass(frozen=True)
class PlacedArrival(Arrival):
    """The same, placed: WGS-84 longitude, latitude or None, the district and the unit there."""

    position: tuple[float, float] | None
    facility_id: str | None
    adcode: str | None
    unit: str | None
    warnings: tuple[KeptWarning, ...]


#: A facility by its id, else the lift in force with that rescue code.
_FACILITIES = """
SELECT g.given, m.* FROM unnest(CAST(:given AS text[])) AS g(given) CROSS JOIN LATERAL
 (SELECT facility_id, ST_X(geom) AS lon, ST_Y(geom) AS lat FROM facility
  WHERE facility_id = g.given OR (rescue_code = g.given AND retired_at IS NULL)
  ORDER BY facility_id <> g.given LIMIT 1) m
"""


def place_arrivals(connection: Connection, arrivals: Sequence[Arrival]) -> list[PlacedArrival]:
    """Where each one is: by its own position, else by the facility it names; with what is doubtful.

    The district is that of the divisions in force now.
    """
    given = {one.reported.facility_id for one in arrivals if one.reported.facility_id is not None}
    facilities: dict[str | None, Any] = {}
    if given:
        rows = connection.execute(text(_FACILITIES), {"given": sorted(given)})
        facilities = {row.given: row for row in rows}
    positions: list[tuple[float, float] | None] = []
    codes: list[list[KeptWarning]] = []
    for one in arrivals:
        position, said = one.reported.position, list[KeptWarning](one.reported.hints)
        named = one.reported.facility_id
        facility = facilities.get(named)
        if named is not None and facility is None:
            said.append(unknown_facility(named))
        elif facility is not None and position is None:
            position = (facility.lon, facility.lat)
            by_id = facility.facility_id == named
            said.append("placed_by_facility" if by_id else "placed_by_rescue_code")
        if position is None:
            said.append("unplaced")
        positions.append(position)
        codes.append(said)
    districts = iter(districts_at(connection, [place for place in positions if place is not None]))
    homes = [(None, None) if place is None else next(districts) for place in positions]
    doubts = iter(
        placement_doubts(
            connection,
            [
                DoubtedPlace(
                    home[0],
                    one.reported.original_position if one.reported.position else None,
                    one.reported.crs,
                    one.reported.crs_declared,
                    one.reported.place_text,
                )
                for one, place, home in zip(arrivals, positions, homes, strict=True)
                if place is not None
            ],
        )
    )
    return [
        PlacedArrival(
            one.reported,
            one.submitted,
            one.digest,
            place,
            facilities[named].facility_id if named in facilities else named,
            *home,
            (*said, *(() if place is None else next(doubts))),
        )
        for one, named, place, home, said in zip(
            arrivals,
            [one.reported.facility_id for one in arrivals],
            positions,
            homes,
            codes,
            strict=True,
        )
    ]


def lock_kinds(connection: Connection, arrivals: Sequence[Arrival]) -> None:
    """Wait until no other writer brings incidents of these plans and kinds: two reports of one
    accident at one moment must see each other. Taken in one order, so that none waits for ever."""
    keys = {f"{one.reported.plan}/{one.reported.kind}" for one in arrivals}
    hashes = connection.execute(
        text("SELECT DISTINCT hashtext(k) AS h FROM unnest(CAST(:keys AS text[])) k ORDER BY h"),
        {"keys": sorted(keys)},
    ).scalars()
    for one in hashes.all():
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK}, :h)"), {"h": one})


_INSERT = """
INSERT INTO incident (incident_id, body_sha256, batch_id, account, body, plan, kind, occurred_at,
 crs, original_position, accuracy_m, facility_id, geom, adcode, unit, warnings)
SELECT r.incident_id, decode(r.sha256, 'hex'), :batch, :account, r.body, r.plan, r.kind,
 r.occurred_at, r.crs, r.original_position, r.accuracy_m, r.facility_id,
 ST_SetSRID(ST_MakePoint(r.lon, r.lat), 4326), r.adcode, r.unit, r.warnings
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(incident_id uuid, sha256 text, body jsonb,
 plan text, kind text, occurred_at timestamptz, crs text, original_position jsonb,
 accuracy_m float8, facility_id text, lon float8, lat float8, adcode text, unit text,
 warnings jsonb)
ORDER BY r.incident_id
ON CONFLICT (incident_id) DO NOTHING RETURNING incident_id
"""
_INSERT_REVISIONS = """
INSERT INTO incident_revision (incident_id, version, batch_id, account, reason, state, facts)
SELECT r.incident_id, 1, :batch, :account, '', 'reported', r.facts
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(incident_id uuid, facts jsonb)
"""
_KEEP_CONFLICTS = """
INSERT INTO incident_conflict (incident_id, body_sha256, batch_id, account, body)
SELECT r.incident_id, decode(r.sha256, 'hex'), :batch, :account, r.body
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(incident_id uuid, sha256 text, body jsonb)
ORDER BY r.incident_id, r.sha256
ON CONFLICT (incident_id, body_sha256) DO NOTHING
"""


def insert_arrivals(write: Write, arrivals: Sequence[PlacedArrival], account: Account) -> set[UUID]:
    """Ids of those that are new; waits for concurrent writers of the same ids.

    Each id may stand in `arrivals` once. New ones begin with version 1, state reported.
    """
    made: set[UUID] = set()
    by_id = {one.reported.incident_id: one for one in arrivals}
    ordered = [by_id[incident_id] for incident_id in sorted(by_id)]
    for chunk in _chunks(ordered):
        asked = {"batch": write.batch_id, "account": account.username}
        rows = _dumped([_incident(one) for one in chunk])
        new = set(write.connection.execute(text(_INSERT), {**asked, "rows": rows}).scalars())
        if not new:
            continue
        revisions = [
            {"incident_id": one.reported.incident_id, "facts": one.reported.facts}
            for one in chunk
            if one.reported.incident_id in new
        ]
        write.connection.execute(text(_INSERT_REVISIONS), {**asked, "rows": _dumped(revisions)})
        made |= new
    relayed = [
        (one.reported.hotline, one.reported.incident_id)
        for one in ordered
        if one.reported.hotline is not None and one.reported.incident_id in made
    ]
    for order, incident_id in sorted(relayed, key=lambda one: (one[0].order_number, one[1])):
        link_order(write, incident_id, order, account)
    return made


def keep_conflicts(write: Write, arrivals: Sequence[Arrival], account: Account) -> int:
    """Keep other bodies of ids already taken, for review; how many were not known yet."""
    added = 0
    for chunk in _chunks(arrivals):
        rows = [
            {
                "incident_id": one.reported.incident_id,
                "sha256": one.digest.hex(),
                "body": one.submitted,
            }
            for one in chunk
        ]
        asked = {"batch": write.batch_id, "account": account.username, "rows": _dumped(rows)}
        added += write.connection.execute(text(_KEEP_CONFLICTS), asked).rowcount
    return added


def _incident(one: PlacedArrival) -> dict[str, Any]:
    reported = one.reported
    return {
        "incident_id": reported.incident_id,
        "sha256": one.digest.hex(),
        "body": one.submitted,
        "plan": reported.plan,
        "kind": reported.kind,
        "occurred_at": reported.occurred_at,
        "crs": reported.crs,
        "original_position": reported.original_position,
        "accuracy_m": reported.accuracy_m,
        "facility_id": one.facility_id,
        "lon": None if one.position is None else one.position[0],
        "lat": None if one.position is None else one.position[1],
        "adcode": one.adcode,
        "unit": one.unit,
        "warnings": one.warnings,
    }


def _dumped(rows: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()


def _chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]
