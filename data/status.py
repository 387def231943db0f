"""Status events: from parsed objects to ledger, log, current state and counters, exactly once.

docs/meanings.md: "Partial input" (good rows are taken, bad ones listed), "Time" (the greatest
`observed_at` wins, ties go to the graver state, then to `event_id`; more than 5 minutes ahead of
receipt is kept but never applied), "Sequence".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import rfc8785
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from data.database import Write, writing
from data.times import parse_time
from geo.errors import Fault, InvalidInput

STATES = frozenset({"up", "degraded", "down", "unknown"})
MAX_EVENTS = 100_000
MAX_ID_LENGTH = 128
INVENTORY_LOCK = 7103

_HEX = frozenset("0123456789abcdef")
_FIELDS = frozenset(("event_id", "facility_id", "state", "observed_at", "cause"))
_BETWEEN, _NOTHING = "\x1f", "\x1e"
_UNUSABLE = frozenset(("\x00", _BETWEEN, _NOTHING))


@dataclass
class Receipt:
    """What became of a batch. `rejected` rows are 1-based; `sequence` is that of the commit."""

    accepted: int = 0
    duplicates: int = 0
    rejected: list[Fault] = field(default_factory=list)
    sequence: int = 0
    #: Accepted and kept, but not applied: of a facility not yet known; of the future (never).
    waiting_rows: list[int] = field(default_factory=list)
    future_rows: list[int] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        return len(self.waiting_rows)

    @property
    def future(self) -> int:
        return len(self.future_rows)

    def as_json(self, rejected: list[dict[str, Any]], unread: Sequence[str] = ()) -> dict[str, Any]:
        """The answer, with the rejected rows as the reader is told them and the names of members
        nothing was read from. What there is none of, beside the first four, is left out."""
        more = {
            "waiting": self.waiting,
            "waiting_rows": self.waiting_rows,
            "future": self.future,
            "future_rows": self.future_rows,
            "unread": list(unread),
        }
        return {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": rejected,
            "sequence": self.sequence,
            **{name: value for name, value in more.items() if value},
        }


@dataclass
class _Rows:
    """Columns of the valid events of one batch; `key` as 32 hexadecimal digits, once each."""

    row: list[int] = field(default_factory=list)
    key: list[str] = field(default_factory=list)
    event_id: list[str] = field(default_factory=list)
    facility_id: list[str] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    observed_at: list[datetime] = field(default_factory=list)
    cause: list[str | None] = field(default_factory=list)
    sha256: list[bytes] = field(default_factory=list)

    def parameters(self) -> dict[str, str]:
        """The columns as delimited texts, which PostgreSQL splits far faster than a driver makes
        arrays of them; the delimiters are control characters no accepted text holds."""
        return {
            "row": ",".join(map(str, self.row)),
            "key": ",".join(self.key),
            "event_id": _BETWEEN.join(self.event_id),
            "facility_id": _BETWEEN.join(self.facility_id),
            "state": ",".join(self.state),
            "observed_at": ",".join([instant.isoformat() for instant in self.observed_at]),
            "cause": _BETWEEN.join([_NOTHING if c is None else c for c in self.cause]),
            "sha256": ",".join([sha.hex() for sha in self.sha256]),
            "between": _BETWEEN,
            "nothing": _NOTHING,
        }


@dataclass(frozen=True)
class _Repeat:
    """A later row of the same batch with an `event_id` of an earlier one."""

    row: int
    key: str
    sha256: bytes


def event_key(event_id: str) -> UUID:
    """The ledger's 128-bit key of an id: itself if a canonical UUID, else of its SHA-256."""
    return UUID(_key_digits(event_id))


def _key_digits(event_id: str) -> str:
    """`event_key` in 32 hexadecimal digits: an object of each event's would cost more than that."""
    if len(event_id) == 36 and event_id[8] == event_id[13] == event_id[18] == event_id[23] == "-":
        digits = event_id.replace("-", "")
        if len(digits) == 32 and _HEX.issuperset(digits):
            return digits
    return hashlib.sha256(event_id.encode()).hexdigest()[:32]


def canonical_sha256(body: Any) -> bytes:
    """SHA-256 of the RFC 8785 form of a JSON value: what "same body" means."""
    return hashlib.sha256(rfc8785.dumps(body)).digest()


def _event_sha256(event: dict[str, Any]) -> bytes:
    """Of an event already read: with string values only, sorted compact UTF-8 JSON is RFC 8785."""
    if event.keys() <= _FIELDS and event.get("cause", "") is not None:
        return hashlib.sha256(orjson.dumps(event, option=orjson.OPT_SORT_KEYS)).digest()
    return canonical_sha256(event)


def _identifier_fault(value: Any, name: str, row: int) -> Fault | None:
    if value is None and name == "event_id":
        reason = "event_id is missing; give each event an id of its own, the same when sent again"
        return Fault(reason, row, name)
    if value is None:
        return Fault(f"{name} is missing; give the id it has in the inventory", row, name)
    if type(value) is not str or not value:
        return Fault(f"{name} must be a text of 1 to {MAX_ID_LENGTH} characters", row, name)
    if len(value) > MAX_ID_LENGTH:
        return Fault(f"{name} is longer than {MAX_ID_LENGTH} characters", row, name)
    if not value.isprintable():
        return Fault(f"{name} holds a control character", row, name)
    return None


def _validate(events: Sequence[Any], receipt: Receipt) -> tuple[_Rows, list[_Repeat]]:
    """Split a batch into valid rows, repeats among them, and rejects."""
    rows = _Rows()
    repeats: list[_Repeat] = []
    seen: set[str] = set()
    for number, event in enumerate(events, 1):
        observed_at = _read_event(event, number)
        if isinstance(observed_at, Fault):
            receipt.rejected.append(observed_at)
            continue
        try:
            sha = _event_sha256(event)
        except (rfc8785.CanonicalizationError, UnicodeEncodeError, TypeError, RecursionError):
            receipt.rejected.append(Fault(_NO_CANONICAL_FORM, number))
            continue
        key = _key_digits(event["event_id"])
        if key in seen:
            repeats.append(_Repeat(number, key, sha))
            continue
        seen.add(key)
        rows.row.append(number)
        rows.key.append(key)
        rows.event_id.append(event["event_id"])
        rows.facility_id.append(event["facility_id"])
        rows.state.append(event["state"])
        rows.observed_at.append(observed_at)
        rows.cause.append(event.get("cause"))
        rows.sha256.append(sha)
    return rows, repeats


def _read_event(event: Any, row: int) -> datetime | Fault:
    """When a valid event was observed, or what is wrong with the event."""
    if isinstance(event, Fault):  # a line that is no JSON
        return Fault(event.reason, row, event.field)
    if type(event) is not dict:
        return Fault("an event is an object with event_id, facility_id, state, observed_at", row)
    fault = _identifier_fault(event.get("event_id"), "event_id", row)
    fault = fault or _identifier_fault(event.get("facility_id"), "facility_id", row)
    if fault:
        return fault
    state = event.get("state")
    if type(state) is not str or state not in STATES:
        return Fault("state must be one of up, degraded, down, unknown", row, "state")
    cause = event.get("cause")
    if cause is not None and (
        type(cause) is not str or len(cause) > 200 or not _UNUSABLE.isdisjoint(cause)
    ):
        return Fault("cause must be a text of at most 200 characters", row, "cause")
    try:
        return parse_time(event.get("observed_at"))
    except ValueError as error:
        return Fault(str(error), row, "observed_at")


_NO_CANONICAL_FORM = "has no canonical form: a number beyond ±2^53, or a broken character"


def _conflict(row: int) -> Fault:
    return Fault("conflict: this event_id was accepted before with another body", row, "event_id")


_FOUND = """
WITH incoming AS (
    SELECT row, key, event_id, facility_id, CAST(state AS status_state) AS state, observed_at,
           cause, decode(sha256, 'hex') AS sha256,
           observed_at > :opened_at + interval '5 minutes' AS future
    FROM unnest(
        CAST(string_to_array(:row, ',') AS int[]),
        CAST(string_to_array(:key, ',') AS uuid[]),
        string_to_array(:event_id, :between),
        string_to_array(:facility_id, :between),
        string_to_array(:state, ','),
        CAST(string_to_array(:observed_at, ',') AS timestamptz[]),
        string_to_array(:cause, :between, :nothing),
        string_to_array(:sha256, ',')
    ) AS t(row, key, event_id, facility_id, state, observed_at, cause, sha256)
), found AS (
    SELECT i.*, f.pk, f.operator, f.kind,
           f.pk IS NULL OR :any_operator OR f.operator = ANY (CAST(:operators AS text[])) AS mine
    FROM incoming i LEFT JOIN facility f ON f.facility_id = i.facility_id COLLATE "C"
)"""
#: What the rows of a relation become, but for the ledger.
_KEEP = """
logged AS (
    INSERT INTO status_log (received_at, batch_id, row, event_id, facility_id, facility_pk, state,
                            observed_at, cause, future)
    SELECT :opened_at, :batch, row, event_id, facility_id, pk, state, observed_at, cause, future
    FROM {rows}
), reported AS (
    INSERT INTO source_report (batch_id, operator, kind, channel, observed_at)
    SELECT :batch, operator, kind, 'site', max(observed_at) FILTER (WHERE NOT future)
    FROM {rows} WHERE pk IS NOT NULL GROUP BY operator, kind
)"""
#: Where every event is new and the account's own, as nearly always: a ledger that need not look
#: for each id first, and no row to be left out, take a sixth less of the database's time.
_STORE_NEW = text(f"""{_FOUND}, ledgered AS (
    INSERT INTO status_ledger (event_key, body_sha256) SELECT key, sha256 FROM incoming ORDER BY key
), {_KEEP.format(rows="found")}
SELECT count(*) FILTER (WHERE NOT mine) AS foreign_rows,
       count(*) FILTER (WHERE pk IS NULL OR future) AS not_applied
FROM found
""")
_STORE = text(f"""{_FOUND}, ledgered AS (
    INSERT INTO status_ledger (event_key, body_sha256)
    SELECT key, sha256 FROM found WHERE mine ORDER BY key
    ON CONFLICT (event_key) DO NOTHING RETURNING event_key
), fresh AS (
    SELECT f.* FROM found f JOIN ledgered l ON l.event_key = f.key
), {_KEEP.format(rows="fresh")}
SELECT f.row, f.mine FROM found f LEFT JOIN ledgered l ON l.event_key = f.key
WHERE l.event_key IS NULL
""")

#: Newest first by time, graver state, id; the function locks in order of key (migration 0015).
_APPLY = text("SELECT apply_status(:batch, :opened_at)")
_NOT_APPLIED = text(
    "SELECT row, future FROM status_log WHERE batch_id = :batch AND received_at = :opened_at"
    " AND (future OR facility_pk IS NULL) ORDER BY row"
)


def ingest_status(
    engine: Engine,
    events: Sequence[Any],
    *,
    body: bytes,
    account: str,
    operators: Sequence[str] = ("*",),
    content_type: str = "application/json",
) -> Receipt:
    """Store a batch of status events; returns after COMMIT, when it is durable.

    `events` are the parsed objects of `body`, in order; a Fault stands for one that could not be
    read. An empty batch is a heartbeat of the
    account's operators. Raises InvalidInput (too many events); single bad events are `rejected`.
    """
    if len(events) > MAX_EVENTS:
        raise InvalidInput(f"at most {MAX_EVENTS} events in one request, not {len(events)}")
    receipt = Receipt()
    rows, repeats = _validate(events, receipt)
    if events and not rows.row:
        receipt.sequence = _newest(engine)
        return receipt
    with writing(
        engine,
        channel="status",
        account=account,
        body=body,
        content_type=content_type,
        request={"operators": list(operators)},
    ) as write:
        if not events:
            _heartbeat(write, operators)
        else:
            _store(write, rows, repeats, receipt, operators)
    receipt.sequence = write.sequence if write.sequence is not None else _newest(engine)
    return receipt


def _store(
    write: Write,
    rows: _Rows,
    repeats: list[_Repeat],
    receipt: Receipt,
    operators: Sequence[str],
) -> None:
    connection = write.connection
    connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({INVENTORY_LOCK})"))
    key = {"batch": write.batch_id, "opened_at": write.opened_at}
    given = {
        **rows.parameters(),
        **key,
        "any_operator": "*" in operators,
        "operators": list(operators),
    }
    not_applied = _store_new(connection, given)
    refused = connection.execute(_STORE, given).all() if not_applied is None else []
    accepted = len(rows.row) - len(refused)
    position = {number: i for i, number in enumerate(rows.row)}
    again = list(repeats)
    for number, mine in refused:
        if mine:
            at = position[number]
            again.append(_Repeat(number, rows.key[at], rows.sha256[at]))
        else:
            receipt.rejected.append(Fault(_FOREIGN, number, "facility_id"))
    if again:
        _settle_repeats(connection, again, receipt)
    if not accepted:
        return
    connection.execute(_APPLY, key)
    if not_applied != 0:
        for number, ahead in connection.execute(_NOT_APPLIED, key):
            (receipt.future_rows if ahead else receipt.waiting_rows).append(number)
    receipt.accepted = accepted
    write.kind = "status"
    write.detail = {"accepted": accepted}


def _store_new(connection: Connection, given: dict[str, Any]) -> int | None:
    """Store the whole batch if none of its events is known and none of another operator, and say
    how many are not to be applied; else leave nothing and say None."""
    attempt = connection.begin_nested()
    try:
        foreign, not_applied = connection.execute(_STORE_NEW, given).one()
    except IntegrityError:
        foreign = not_applied = None
    if foreign == 0:
        attempt.commit()
        return int(not_applied)
    attempt.rollback()
    return None


_FOREIGN = "the facility belongs to another operator"


def _settle_repeats(connection: Connection, repeats: list[_Repeat], receipt: Receipt) -> None:
    """Tell duplicates from conflicts: a new statement sees what a concurrent writer committed.

    An id that is not in the ledger even now repeats a row of this batch that was refused.
    """
    rows = connection.execute(
        text(
            "SELECT event_key, body_sha256 FROM status_ledger"
            " WHERE event_key = ANY (CAST(:keys AS uuid[]))"
        ),
        {"keys": [one.key for one in repeats]},
    )
    stored: dict[str, bytes] = {row.event_key.hex: bytes(row.body_sha256) for row in rows}
    for one in repeats:
        if one.key not in stored:
            reason = "an earlier row of this batch with the same event_id was refused"
            receipt.rejected.append(Fault(reason, one.row, "event_id"))
        elif stored[one.key] == one.sha256:
            receipt.duplicates += 1
        else:
            receipt.rejected.append(_conflict(one.row))


def _heartbeat(write: Write, operators: Sequence[str]) -> None:
    """Nothing to report, and alive: every source of these operators was heard now."""
    heard = write.connection.execute(
        text(
            "INSERT INTO source_report (batch_id, operator, kind, channel)"
            " SELECT DISTINCT :batch, operator, kind, 'heartbeat' FROM counter_group"
            " WHERE :any_operator OR operator = ANY (CAST(:operators AS text[]))"
        ),
        {
            "batch": write.batch_id,
            "any_operator": "*" in operators,
            "operators": list(operators),
        },
    )
    if heard.rowcount:
        write.kind = "heartbeat"


def _newest(engine: Engine) -> int:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT coalesce(max(sequence), 0) FROM change")).scalar()
    return int(found or 0)
