"""Where teams are: positions stored once, the newest of each shown, read within a scope.

docs/meanings.md, "Teams". The greatest `observed_at` of a team wins, whatever the order of arrival;
one more than five minutes ahead of its receipt is kept and never applied. A uid belongs to the
account that sent it first; a commander may send any. Whether a position is stale, the clock says.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import shapely
from shapely.geometry.base import BaseGeometry
from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.cot import parse_events
from data.database import WHOLE_CITY, Write, reading, sequence_at, set_scope, writing
from data.divisions import version_at
from data.incidents import set_reader
from data.situation import Moment
from data.status import Receipt
from data.team_message import Position, read_position
from geo.errors import Fault, InvalidInput

_LOCK = 7120
SAID = (
    "callsign, cot_type, how, group_name, group_role, observed_at, stale_at, geom, accuracy_m,"
    " height_m, speed_mps, course_deg, battery_percent, adcode"
)


def store_positions(
    engine: Engine,
    body: bytes,
    *,
    account: Account,
    content_type: str = "application/xml",
) -> Receipt:
    """Take the positions in a CoT document; durable on return. Sent again they are duplicates.

    Raises InvalidInput for what is no CoT document, TooLarge beyond the limits of `data.cot`.
    """
    events = parse_events(body)
    if not events:
        raise InvalidInput("there is no <event> in it")
    receipt = Receipt()
    positions: list[Position] = []
    for row, event in enumerate(events, 1):
        read = read_position(event, row)
        if isinstance(read, Position):
            positions.append(read)
        else:
            receipt.rejected += read
    with writing(
        engine,
        channel="cot",
        account=account.username,
        body=body,
        content_type=content_type,
    ) as write:
        if positions:
            _store(write, positions, account, receipt)
    if write.sequence is not None:
        receipt.sequence = write.sequence
    else:
        with reading(engine) as connection:
            receipt.sequence = sequence_at(connection, None)
    return receipt


def _store(write: Write, positions: Sequence[Position], account: Account, receipt: Receipt) -> None:
    connection = write.connection
    connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    uids = sorted({p.uid for p in positions})
    owners = {
        row.uid: row.account
        for row in connection.execute(
            text(
                "SELECT DISTINCT ON (uid) uid, account FROM team_position"
                " WHERE uid = ANY (CAST(:uids AS text[])) ORDER BY uid, id"
            ),
            {"uids": uids},
        )
    }
    stored = {
        (row.uid, row.observed_at): bytes(row.body_sha256).hex()
        for row in connection.execute(
            text(
                "SELECT t.uid, t.observed_at, t.body_sha256 FROM team_position t"
                " JOIN unnest(CAST(:uids AS text[]), CAST(:times AS timestamptz[])) n(uid, at)"
                " ON n.uid = t.uid AND n.at = t.observed_at"
            ),
            {"uids": [p.uid for p in positions], "times": [p.observed_at for p in positions]},
        )
    }
    fresh: list[Position] = []
    for p in positions:
        owner = owners.setdefault(p.uid, account.username)
        if owner != account.username and account.role != "commander":
            reason = "this uid belongs to another account"
            receipt.rejected.append(Fault(reason, p.row, "uid"))
            continue
        known = stored.setdefault((p.uid, p.observed_at.astimezone(UTC)), "")
        if not known:
            stored[p.uid, p.observed_at.astimezone(UTC)] = p.sha256
            fresh.append(p)
        elif known == p.sha256:
            receipt.duplicates += 1
        else:
            reason = "conflict: this uid and time were accepted before with another body"
            receipt.rejected.append(Fault(reason, p.row, "time"))
    if not fresh:
        return
    _insert(write, fresh, account)
    applied = _apply(connection, write.batch_id, {p.uid: owners[p.uid] for p in fresh})
    receipt.accepted = len(fresh)
    receipt.future_rows += connection.execute(
        text("SELECT row FROM team_position WHERE batch_id = :batch AND future ORDER BY row"),
        {"batch": write.batch_id},
    ).scalars()
    write.kind = "team"
    write.detail = {"accepted": len(fresh), "moved": applied}


def _insert(write: Write, fresh: Sequence[Position], account: Account) -> None:
    write.connection.execute(
        text(
            f"INSERT INTO team_position (uid, {SAID}, future, account, body_sha256, row, batch_id)"
            " SELECT p.uid, p.callsign, p.cot_type, p.how, p.group_name, p.group_role,"
            " p.observed_at, p.stale_at, g.geom, p.accuracy_m, p.height_m, p.speed_mps,"
            " p.course_deg, p.battery_percent,"
            " (SELECT min(d.adcode) FROM district d WHERE d.version_id = :version"
            "   AND ST_Covers(d.geom, g.geom)),"
            " p.observed_at > CAST(:opened_at AS timestamptz) + interval '5 minutes',"
            " :account, decode(p.sha256, 'hex'), p.row, :batch"
            " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS p(row int, uid text, callsign text,"
            " cot_type text, how text, group_name text, group_role text, observed_at timestamptz,"
            " stale_at timestamptz, lon float8, lat float8, accuracy_m float8, height_m float8,"
            " speed_mps float8, course_deg float8, battery_percent int, sha256 text)"
            " CROSS JOIN LATERAL (SELECT ST_SetSRID(ST_MakePoint(p.lon, p.lat), 4326) AS geom) g"
            " ORDER BY p.row"
        ),
        {
            "rows": orjson.dumps([p.as_json() for p in fresh]).decode(),
            "version": version_at(write.connection).id,
            "opened_at": write.opened_at,
            "account": account.username,
            "batch": write.batch_id,
        },
    )


def _apply(connection: Connection, batch_id: int, owners: dict[str, str]) -> int:
    """Make the newest of this batch current, where it is newer than what is. How many moved."""
    columns = SAID.split(", ")
    return connection.execute(
        text(
            f"INSERT INTO team (uid, {SAID}, account, position_id, batch_id)"
            f" SELECT DISTINCT ON (p.uid) p.uid, {', '.join(f'p.{c}' for c in columns)},"
            " CAST(:owners AS jsonb) ->> p.uid, p.id, p.batch_id"
            " FROM team_position p WHERE p.batch_id = :batch AND NOT p.future"
            " ORDER BY p.uid, p.observed_at DESC"
            " ON CONFLICT (uid) DO UPDATE SET"
            f" {', '.join(f'{c} = excluded.{c}' for c in columns)},"
            " position_id = excluded.position_id, batch_id = excluded.batch_id"
            " WHERE excluded.observed_at > team.observed_at"
        ),
        {"batch": batch_id, "owners": orjson.dumps(owners).decode()},
    ).rowcount


# --- reading ----------------------------------------------------------------------------------

_COLUMNS = f"uid, {SAID}, account, batch_id"
#: Which position was the newest then does not depend on who asks, so it is found city-wide.
_THEN = (
    "SELECT DISTINCT ON (p.uid) p.id FROM team_position p JOIN change h USING (batch_id)"
    " WHERE h.sequence <= :sequence AND NOT p.future ORDER BY p.uid, p.observed_at DESC"
)


def _known(
    connection: Connection, account: Account, sequence: int | None
) -> tuple[str, list[int] | None]:
    """The table that says where each team is, and for a past sequence which of its rows; from here
    on the transaction sees what the account may."""
    if sequence is None:
        set_reader(connection, account)
        return "team", None
    set_scope(connection, WHOLE_CITY)
    ids = list(connection.execute(text(_THEN), {"sequence": sequence}).scalars())
    set_reader(connection, account)
    return "team_position", ids


def teams_inside(
    connection: Connection,
    account: Account,
    moment: Moment,
    geometry: BaseGeometry | None,
    adcodes: Collection[str],
) -> list[dict[str, Any]]:
    """The teams last seen inside a geometry (WGS-84), or without one in whole districts, as known
    at the moment; `position` in WGS-84 degrees, by name."""
    past = moment.at is not None
    source, ids = _known(connection, account, moment.sequence if past else None)
    rows = connection.execute(
        text(
            "SELECT uid, callsign, observed_at, stale_at, adcode, ST_X(geom) AS lon,"
            f" ST_Y(geom) AS lat FROM {source}"
            + ("" if ids is None else " WHERE id = ANY (CAST(:ids AS bigint[]))")
            + " ORDER BY callsign, uid"
        ),
        {} if ids is None else {"ids": ids},
    ).all()
    if geometry is None:
        found = [row for row in rows if row.adcode in adcodes]
    else:
        inside = shapely.intersects_xy(
            geometry, [float(row.lon) for row in rows], [float(row.lat) for row in rows]
        )
        found = [row for row, is_in in zip(rows, inside, strict=True) if is_in]
    return [
        {
            "kind": "team",
            "id": row.uid,
            "name": row.callsign,
            "position": [row.lon, row.lat],
            "adcode": row.adcode,
            "observed_at": row.observed_at.isoformat(),
            "stale": row.stale_at <= moment.now,
        }
        for row in found
    ]


def list_teams(
    engine: Engine,
    account: Account,
    *,
    at: datetime | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    since: datetime | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> dict[str, Any]:
    """A FeatureCollection of the teams the account may see, by callsign, each where it was last.

    `at`: as known then, stale or not as of then. `bbox`: west, south, east, north, WGS-84 degrees.
    `since`: observed then or later. `age_s` is in seconds.
    """
    now = at or datetime.now(UTC)
    where = " WHERE (CAST(:since AS timestamptz) IS NULL OR observed_at >= :since)"
    if bbox is not None:
        where += " AND ST_Intersects(geom, ST_MakeEnvelope(:west, :south, :east, :north, 4326))"
    asked: dict[str, Any] = {
        "since": since,
        **dict(zip(("west", "south", "east", "north"), bbox or (), strict=bool(bbox))),
    }
    with reading(engine, snapshot=True) as connection:
        sequence = None if at is None else sequence_at(connection, at)
        source, ids = _known(connection, account, sequence)
        if ids is not None:
            asked["ids"] = ids
            where += " AND id = ANY (CAST(:ids AS bigint[]))"
        matched = connection.execute(text(f"SELECT count(*) FROM {source}{where}"), asked)
        total = matched.scalar_one()
        rows = connection.execute(
            text(
                f"SELECT {_COLUMNS}, ST_X(geom) AS lon, ST_Y(geom) AS lat,"
                " (SELECT h.received_at FROM change h WHERE h.batch_id = s.batch_id) AS received_at"
                f" FROM {source} s{where} ORDER BY callsign, uid LIMIT :limit OFFSET :offset"
            ),
            {**asked, "limit": limit, "offset": offset},
        ).all()
    return {
        "type": "FeatureCollection",
        "numberMatched": total,
        "numberReturned": len(rows),
        "features": [_feature(row, now) for row in rows],
    }


def _feature(row: Any, now: datetime) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": row.uid,
        "geometry": {"type": "Point", "coordinates": [row.lon, row.lat]},
        "properties": {
            "uid": row.uid,
            "callsign": row.callsign,
            "cot_type": row.cot_type,
            "group": row.group_name,
            "role": row.group_role,
            "observed_at": row.observed_at.isoformat(),
            "received_at": row.received_at.isoformat(),
            "stale_at": row.stale_at.isoformat(),
            "age_s": max(0, int((now - row.observed_at).total_seconds())),
            "stale": row.stale_at <= now,
            "adcode": row.adcode,
            "accuracy_m": row.accuracy_m,
            "height_m": row.height_m,
            "speed_mps": row.speed_mps,
            "course_deg": row.course_deg,
            "battery_percent": row.battery_percent,
        },
    }
