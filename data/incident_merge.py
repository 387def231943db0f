"""Two reports of one accident: one is put aside for the other, by a person, and can be taken back.

Merging adds a revision `duplicate` to one record and touches nothing of the other: facts stay where
they were reported and casualties are never added up. Undoing restores the state it had before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.database import Write, writing
from data.fields import Fields, require_object
from data.incident_distinct import forget_distinct
from data.incident_history import merged_into
from data.incident_submission import StoredIncident, insert_revision
from data.incidents import ONE, IncidentSettings, answer_of, set_reader
from data.rulepacks import RulePacks
from geo.errors import Conflict, Fault, InvalidInput, NotAllowed, NotFound, VersionMismatch

#: Held by every merge, so that two at once cannot make a circle or a chain.
_LOCK = 7113


@dataclass(frozen=True)
class Merge:
    """What is asked: into which incident (None: undo), and why."""

    into: UUID | None
    reason: str


def read_merge(body: Any) -> Merge:
    """The body {into, reason} of a merge. Raises InvalidInput."""
    given = require_object(body, "a merge")
    faults: list[Fault] = []
    read = Fields(given, faults)
    reason = read.words("reason", characters_max=2000, required=True)
    into = read.incident("into")
    if faults:
        raise InvalidInput(faults)
    return Merge(into, reason or "")


def read_unmerge(body: Any) -> Merge:
    """The body {reason} of undoing a merge. Raises InvalidInput."""
    faults: list[Fault] = []
    reason = Fields(require_object(body, "an unmerge"), faults).words(
        "reason", characters_max=2000, required=True
    )
    if faults:
        raise InvalidInput(faults)
    return Merge(None, reason or "")


def merge_incident(
    engine: Engine,
    incident_id: UUID,
    merge: Merge,
    *,
    body: bytes,
    account: Account,
    packs: RulePacks,
    settings: IncidentSettings | None = None,
    lang: str = "zh",
) -> StoredIncident:
    """Put one incident aside for `merge.into`; or, when that is None, restore it. Durable.

    The same merge again changes nothing. Raises NotFound, NotAllowed outside the account's
    districts, InvalidInput for incidents that cannot be one, Conflict for a state that forbids it.
    """
    with writing(
        engine,
        channel="incident_edit",
        account=account.username,
        body=body,
        request={"incident_id": str(incident_id), "merge": merge.into is not None},
    ) as write:
        connection = write.connection
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        set_reader(connection, account)
        row = _require(connection, incident_id, account)
        done = row.state == "duplicate" and row.duplicate_of == merge.into is not None
        if not done:
            if merge.into is None:
                state = _state_before(connection, row)
            else:
                _check_pair(connection, row, _require(connection, merge.into, account))
                state = "duplicate"
            _add(write, row, account, merge, state)
            if merge.into is not None:
                forget_distinct(connection, incident_id, merge.into)
            write.kind = "incident"
            write.detail = {
                "incident_id": str(incident_id),
                "adcode": row.adcode,
                "plan": row.plan,
                "version": row.version + 1,
            }
        answer = answer_of(
            connection,
            incident_id,
            account,
            packs,
            settings or IncidentSettings.load(),
            datetime.now(UTC),
            lang,
        )
    return StoredIncident(
        "identical" if done else "edited", answer, answer["version"], write.sequence
    )


def _require(connection: Connection, incident_id: UUID, account: Account) -> Any:
    row = connection.execute(text(ONE), {"id": incident_id}).one_or_none()
    if row is None:
        raise NotFound("no such incident")
    if not account.sees(row.adcode):
        raise NotAllowed("the incident lies outside your districts; you may read it only")
    return row


def _check_pair(connection: Connection, row: Any, into: Any) -> None:
    if row.incident_id == into.incident_id:
        raise InvalidInput([Fault("is the incident itself", None, "into")])
    if row.plan != into.plan:
        raise InvalidInput([Fault("is an incident under another plan", None, "into")])
    if row.state == "duplicate":
        raise Conflict("it is merged into another incident; undo that first")
    if into.state in {"duplicate", "rejected"}:
        raise Conflict(f"the other incident is itself {into.state}; choose the one that counts")
    if merged_into(connection, row.incident_id):
        raise Conflict("others are merged into it; merge those into the other incident first")


def _state_before(connection: Connection, row: Any) -> str:
    if row.state != "duplicate":
        raise Conflict("the incident is not merged into another")
    found: str | None = connection.execute(
        text(
            "SELECT state FROM incident_revision WHERE incident_id = :id AND state <> 'duplicate'"
            " ORDER BY version DESC LIMIT 1"
        ),
        {"id": row.incident_id},
    ).scalar()
    return found or "reported"


def _add(write: Write, row: Any, account: Account, merge: Merge, state: str) -> None:
    added = insert_revision(
        write,
        row.incident_id,
        row.version + 1,
        account,
        merge.reason,
        state,
        row.facts,
        duplicate_of=merge.into,
    )
    if not added:
        raise VersionMismatch("the incident was edited meanwhile; read it again")
