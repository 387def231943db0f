"""Checks of what arrived: order, original bytes, the ledger, the log, hashes of submissions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, text

from data.check import Check, wrong_rows
from data.fields import body_sha256
from data.times import parse_time
from geo.errors import InvalidInput


def order(connection: Connection) -> Check:
    """`received_at` never runs against `sequence`."""
    return wrong_rows(
        Check("order", "changes were received in the order of their sequence"),
        connection,
        "SELECT 'sequence ' || sequence || ' received ' || received_at || ' before sequence '"
        " || before FROM (SELECT sequence, received_at,"
        " lag(sequence) OVER (ORDER BY sequence) AS before,"
        " lag(received_at) OVER (ORDER BY sequence) AS earlier FROM change) c"
        " WHERE received_at < earlier ORDER BY sequence",
        "SELECT count(*) FROM change",
    )


def bodies(connection: Connection) -> Check:
    return wrong_rows(
        Check("bodies", "the original bytes of every write have their SHA-256"),
        connection,
        "SELECT 'batch ' || id || ' (' || channel || ' from ' || account || ')' FROM batch"
        " WHERE sha256(body) <> body_sha256 ORDER BY id",
        "SELECT count(*) FROM batch",
    )


_ORPHANS = """
SELECT 'batch ' || b.id || ' is no change' AS what
    FROM batch b LEFT JOIN change h ON h.batch_id = b.id WHERE h.sequence IS NULL
UNION ALL SELECT 'status_log: batch ' || l.batch_id || ' row ' || l.row || ' has no batch'
    FROM status_log l LEFT JOIN batch b ON b.id = l.batch_id WHERE b.id IS NULL
UNION ALL SELECT 'status_log: event ' || l.event_id || ' names facility ' || l.facility_id
    || ' but belongs to ' || coalesce(f.facility_id, 'none')
    FROM status_log l LEFT JOIN facility f ON f.pk = l.facility_pk
    WHERE l.facility_pk IS NOT NULL AND f.facility_id IS DISTINCT FROM l.facility_id
UNION ALL SELECT 'facility ' || f.facility_id || ' has no state'
    FROM facility f LEFT JOIN facility_state s ON s.facility_pk = f.pk WHERE s.state IS NULL
UNION ALL SELECT 'facility_state ' || s.facility_pk || ' has no facility'
    FROM facility_state s LEFT JOIN facility f ON f.pk = s.facility_pk WHERE f.pk IS NULL
UNION ALL SELECT 'facility_past ' || p.facility_id || ' version ' || p.version || ' has no facility'
    FROM facility_past p LEFT JOIN facility f ON f.pk = p.pk WHERE f.pk IS NULL
UNION ALL SELECT 'counter_delta of batch ' || d.batch_id || ' has no change'
    FROM (SELECT DISTINCT batch_id FROM counter_delta) d
    LEFT JOIN change h ON h.batch_id = d.batch_id WHERE h.sequence IS NULL
UNION ALL SELECT 'counter_delta names group ' || d.group_id || ', which does not exist'
    FROM (SELECT DISTINCT group_id FROM counter_delta) d
    LEFT JOIN counter_group g ON g.id = d.group_id WHERE g.id IS NULL
UNION ALL SELECT 'placement ' || p.id || ' says nothing of divisions ' || v.label
    FROM (SELECT id FROM placement WHERE id IN (SELECT placement_id FROM counter_group)) p
    CROSS JOIN division_version v
    LEFT JOIN placement_division d ON d.placement_id = p.id AND d.version_id = v.id
    WHERE d.placement_id IS NULL
"""


def orphans(connection: Connection) -> Check:
    return wrong_rows(
        Check("orphans", "no row points at nothing"),
        connection,
        _ORPHANS,
        "SELECT (SELECT count(*) FROM batch) + (SELECT count(*) FROM status_log)"
        " + (SELECT count(*) FROM facility) + (SELECT count(*) FROM facility_state)"
        " + (SELECT count(*) FROM facility_past)",
    )


#: SQL of `data.status.event_key`.
_EVENT_KEY = (
    "CASE WHEN event_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN event_id::uuid ELSE"
    " encode(substring(sha256(convert_to(event_id, 'UTF8')) FOR 16), 'hex')::uuid END"
)


def ledger(connection: Connection) -> Check:
    return wrong_rows(
        Check("ledger", "every id in the ledger stands in the log exactly once"),
        connection,
        f"SELECT coalesce('event ' || l.event_id, 'ledger key ' || d.event_key) || CASE"
        " WHEN d.event_key IS NULL THEN ' is in the log and not in the ledger'"
        " WHEN l.n IS NULL THEN ' is in the ledger and not in the log'"
        " ELSE ' is in the log ' || l.n || ' times' END"
        f" FROM (SELECT {_EVENT_KEY} AS event_key, min(event_id) AS event_id, count(*) AS n"
        " FROM status_log GROUP BY 1) l FULL JOIN status_ledger d USING (event_key)"
        " WHERE d.event_key IS NULL OR l.n IS DISTINCT FROM 1",
        "SELECT count(*) FROM status_ledger",
    )


def log(connection: Connection) -> Check:
    return wrong_rows(
        Check("log", "events have the time of their batch, and lie ahead of it only if so marked"),
        connection,
        "SELECT 'event ' || l.event_id || ': ' || CASE WHEN l.received_at <> b.opened_at"
        " THEN 'received_at is not that of its batch' ELSE 'future is ' || l.future END"
        " FROM status_log l JOIN batch b ON b.id = l.batch_id WHERE l.received_at <> b.opened_at"
        " OR l.future <> (l.observed_at > b.opened_at + interval '5 minutes')",
        "SELECT count(*) FROM status_log",
    )


_SUBMITTED = """
SELECT 'outage ' || outage_id || ' revision ' || revision AS name, body_sha256, feature AS kept,
       NULL::bytea AS body FROM outage
UNION ALL
SELECT 'incident ' || incident_id, body_sha256, body, NULL FROM incident
UNION ALL
SELECT 'incident_conflict ' || id, body_sha256, body, NULL FROM incident_conflict
UNION ALL
SELECT 'return ' || return_id, r.body_sha256, NULL, b.body
FROM operator_return r JOIN batch b ON b.id = r.batch_id
"""


def submissions(connection: Connection) -> Check:
    """The stored hash is that of what was sent, and of what is kept beside it where it is kept."""
    check = Check("submissions", "outages, returns and incidents have the hash of what was sent")
    result = connection.execution_options(yield_per=1_000).execute(text(_SUBMITTED))
    for name, sha256, kept, body in result:
        check.looked_at += 1
        if kept is not None:  # a file of many incidents is not read again for each of them
            if _sha256(kept) != bytes(sha256):
                check.found(f"{name}: what is kept of it has another hash")
            continue
        sent = _sent(bytes(body))
        if sent and bytes(sha256) not in {_sha256(one) for one in sent}:
            check.found(f"{name}: what was sent has another hash")
    return check


def _readable(line: bytes) -> Any:
    """The value of a line, None where it was rejected for being no JSON."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _sent(body: bytes) -> list[Any]:
    """The JSON values of a body: one, those of an array, or one a line; none of a file."""
    try:
        parsed = orjson.loads(body)
        return parsed if isinstance(parsed, list) else [parsed]
    except orjson.JSONDecodeError:
        pass
    lines = [_readable(line) for line in body.split(b"\n") if line.strip()]
    return lines if any(line is not None for line in lines) else []


def _sha256(value: Any) -> bytes:
    try:
        return body_sha256(value)
    except InvalidInput:
        return b""


def events(connection: Connection) -> Check:
    """Every event in the log is the row of its batch's body that it says it is."""
    check = Check("events", "every event reads as it stands in the bytes that were sent")
    batches = connection.execute(
        text("SELECT id FROM batch WHERE channel = 'status' ORDER BY id")
    ).scalars()
    for batch_id in batches.all():
        for example in _events_of(connection, batch_id, check):
            check.found(example)
    return check


def _events_of(connection: Connection, batch_id: int, check: Check) -> Iterator[str]:
    body = connection.execute(text("SELECT body FROM batch WHERE id = :b"), {"b": batch_id})
    sent: Sequence[Any] = _sent(bytes(body.scalar_one()))
    rows = connection.execute(
        text(
            "SELECT row, event_id, facility_id, state, observed_at, cause, d.body_sha256"
            f" FROM (SELECT l.*, {_EVENT_KEY} AS event_key FROM status_log l WHERE batch_id = :b) l"
            " LEFT JOIN status_ledger d USING (event_key) ORDER BY row"
        ),
        {"b": batch_id},
    )
    for row, event_id, facility_id, state, observed_at, cause, sha256 in rows:
        check.looked_at += 1
        event = sent[row - 1] if row <= len(sent) and isinstance(sent[row - 1], dict) else {}
        name = f"batch {batch_id} row {row}, event {event_id}"
        if sha256 is None or _sha256(event) != bytes(sha256):
            yield f"{name}: the ledger has another hash"
            continue
        told = (event["event_id"], event["facility_id"], event["state"], event.get("cause"))
        if told != (event_id, facility_id, state, cause) or not _same_instant(
            event["observed_at"], observed_at
        ):
            yield f"{name}: the log says otherwise than what was sent"


def _same_instant(sent: str, stored: datetime) -> bool:
    return abs(parse_time(sent).astimezone(UTC) - stored) < timedelta(microseconds=2)
