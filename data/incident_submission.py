"""Incidents as they are written: stored once per id, then edited by revisions.

docs/meanings.md, "Scope": a field account may submit anywhere; an id that exists outside its scope
answers Conflict without detail. The district is that of the divisions in force when the incident is
stored. Another body under an id already taken is kept for review and never applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from data.accounts import Account
from data.database import Write, writing
from data.divisions import require_divisions
from data.fields import Fields, body_sha256, require_object
from data.incident_arrivals import (
    Arrival,
    insert_arrivals,
    keep_conflicts,
    lock_kinds,
    place_arrivals,
)
from data.incident_report import check_incident_facts, read_incident
from data.incident_states import casualty_notice, changed_facts, check_transition
from data.incidents import ONE, IncidentSettings, answer_of, set_reader
from data.rulepacks import RulePacks
from data.tables_reports import INCIDENT_STATES
from geo.errors import Conflict, Fault, InvalidInput, NotAllowed, NotFound, VersionMismatch


@dataclass(frozen=True)
class StoredIncident:
    """What a submission or edit answers."""

    status: Literal["created", "identical", "edited"]
    json: dict[str, Any]
    version: int
    sequence: int | None


def store_incident(
    engine: Engine,
    submitted: Any,
    *,
    body: bytes,
    account: Account,
    packs: RulePacks,
    settings: IncidentSettings | None = None,
    lang: str = "zh",
    content_type: str = "application/json",
) -> StoredIncident:
    """Store an incident; durable on return, and the same again changes nothing.

    Raises InvalidInput naming every fault, and Conflict when the id holds another body (which is
    then kept for review) or belongs to what the account may not see.
    """
    now = datetime.now(UTC)
    reported = read_incident(submitted, packs, now)
    digest = body_sha256(submitted)
    asked = (
        reported.incident_id,
        account,
        packs,
        settings or IncidentSettings.load(),
        now,
        lang,
    )
    conflict: Conflict | None = None
    answer: dict[str, Any] = {}
    status: Literal["created", "identical"] = "created"
    with writing(
        engine,
        channel="incident",
        account=account.username,
        body=body,
        content_type=content_type,
    ) as write:
        connection = write.connection
        require_divisions(connection)
        placed = place_arrivals(connection, [Arrival(reported, submitted, digest)])
        lock_kinds(connection, placed)
        if insert_arrivals(write, placed, account):
            answer = answer_of(connection, *asked)
            write.kind = "incident"
            write.detail = _detail(answer, reported.plan)
        else:
            stored = connection.execute(
                text("SELECT body_sha256, account, adcode FROM incident WHERE incident_id = :id"),
                {"id": reported.incident_id},
            ).one()
            visible = account.sees(stored.adcode) or stored.account == account.username
            same = bytes(stored.body_sha256) == digest
            if same and visible:
                status = "identical"
                answer = answer_of(connection, *asked)
            else:
                conflict = Conflict(
                    "this incident_id is stored with another body; the one sent now is kept for"
                    " review"
                    if visible
                    else "this incident_id is taken"
                )
                if not same and keep_conflicts(write, placed, account):
                    write.kind = "incident_conflict"
                    write.detail = {"incident_id": str(reported.incident_id)}
    if conflict is not None:
        raise conflict
    return StoredIncident(status, answer, answer["version"], write.sequence)


def _detail(answer: Mapping[str, Any], plan: str) -> dict[str, Any]:
    return {
        "incident_id": answer["incident_id"],
        "adcode": answer["adcode"],
        "plan": plan,
        "version": answer["version"],
    }


def insert_revision(
    write: Write,
    incident_id: UUID,
    version: int,
    account: Account,
    reason: str,
    state: str,
    facts: Mapping[str, Any],
    *,
    duplicate_of: UUID | None = None,
) -> bool:
    """Whether the version was still free; waits for a concurrent writer of it."""
    added = write.connection.execute(
        text(
            "INSERT INTO incident_revision"
            " (incident_id, version, batch_id, account, reason, state, facts, duplicate_of)"
            " VALUES (:id, :version, :batch, :account, :reason, :state, CAST(:facts AS jsonb),"
            " :duplicate_of)"
            " ON CONFLICT (incident_id, version) DO NOTHING"
        ),
        {
            "id": incident_id,
            "version": version,
            "batch": write.batch_id,
            "account": account.username,
            "reason": reason,
            "state": state,
            "facts": orjson.dumps(facts).decode(),
            "duplicate_of": duplicate_of,
        },
    )
    return added.rowcount == 1


@dataclass(frozen=True)
class IncidentChange:
    """An edit: the new state, and facts merged over those before (null: unknown again)."""

    state: str | None
    facts: Mapping[str, Any]
    reason: str


def read_change(body: Any) -> IncidentChange:
    """The edit in a parsed body {state?, facts?, reason?}. Raises InvalidInput."""
    given = require_object(body, "an edit")
    faults: list[Fault] = []
    read = Fields(given, faults)
    state = read.choice("state", INCIDENT_STATES)
    reason = read.words("reason", characters_max=2000)
    facts = read.raw("facts")
    if facts is not None and not isinstance(facts, Mapping):
        read.fault("facts", "must be an object of named facts")
    for name in sorted(set(given) - {"state", "facts", "reason"}):
        faults.append(Fault("cannot be edited; state and facts can", None, name[:64]))
    if state is None and facts is None and not faults:
        faults.append(Fault("nothing is changed; give state or facts"))
    if faults:
        raise InvalidInput(faults)
    return IncidentChange(state, facts or {}, reason or "")


def edit_incident(
    engine: Engine,
    incident_id: UUID,
    change: IncidentChange,
    *,
    expected_version: int,
    body: bytes,
    account: Account,
    packs: RulePacks,
    settings: IncidentSettings | None = None,
    lang: str = "zh",
) -> StoredIncident:
    """Add a revision on top of `expected_version`; durable on return.

    Raises NotFound for what the account cannot see, NotAllowed outside its districts,
    VersionMismatch when another edit came first, InvalidInput for impossible facts.
    """
    now = datetime.now(UTC)
    with writing(
        engine,
        channel="incident_edit",
        account=account.username,
        body=body,
        request={"incident_id": str(incident_id), "if_match": expected_version},
    ) as write:
        connection = write.connection
        set_reader(connection, account)
        row = connection.execute(text(ONE), {"id": incident_id}).one_or_none()
        if row is None:
            raise NotFound("no such incident")
        if not account.sees(row.adcode):
            raise NotAllowed("the incident lies outside your districts; you may read it only")
        facts = check_incident_facts(
            packs.at(row.plan, now), row.kind, {**row.facts, **change.facts}, now
        )
        state = change.state or row.state
        if row.version == expected_version:  # else the state it was based on is another
            check_transition(row.state, state)
        added = row.version == expected_version and insert_revision(
            write,
            incident_id,
            row.version + 1,
            account,
            change.reason,
            state,
            facts,
            duplicate_of=row.duplicate_of,
        )
        if not added:
            raise VersionMismatch("the incident was edited meanwhile; read it again")
        answer = answer_of(
            connection, incident_id, account, packs, settings or IncidentSettings.load(), now, lang
        )
        changed = changed_facts(row.facts, facts)
        answer["notice"] = casualty_notice(row.plan, row.occurred_at, now, changed, lang)
        write.kind = "incident"
        write.detail = _detail(answer, row.plan)
    return StoredIncident("edited", answer, answer["version"], write.sequence)
