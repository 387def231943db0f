"""Declared facts: what an authority says and no sensor knows, with a reason, revision by revision.

docs/meanings.md, "Events": the commander declares a national response, capacity exceeded, key
services down, and confirms that a power event is over. A declaration replaces the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, text

from data.database import writing
from data.fields import Fields, require_object
from geo.errors import Fault, InvalidInput
from geo.grade import RulePack, check_facts

#: Plans whose event closes when its termination is confirmed, not by the figures alone.
EVENT_PLANS = frozenset({"power-outage-2021"})
REASON_CHARACTERS_MAX = 2000
_LOCK = 7111


@dataclass(frozen=True)
class Declaration:
    """A commander's declaration under a plan: the facts in force from now on, and why."""

    facts: Mapping[str, Any]
    reason: str
    close_event: bool


@dataclass(frozen=True)
class StoredFacts:
    """A stored revision of a plan's declared facts."""

    plan: str
    revision: int
    facts: Mapping[str, Any]
    sequence: int


def declarable(pack: RulePack) -> tuple[str, ...]:
    """The names of the facts of `pack` that only an authority knows."""
    own = pack.schema.groups[""].facts.values()
    return tuple(fact.name for fact in own if fact.declared)


def read_declaration(body: Any, pack: RulePack) -> Declaration:
    """The declaration in a parsed body: `reason`, `facts`, `close_event?`.

    Without `facts` every other member is a fact. Raises InvalidInput naming every fault; a fact
    that is counted or measured is refused, because declaring it would overrule what is known.
    """
    given = require_object(body, "a declaration")
    faults: list[Fault] = []
    read = Fields(given, faults)
    reason = read.words("reason", characters_max=REASON_CHARACTERS_MAX, required=True)
    closes = read.truth("close_event", False)
    nested = "facts" in given
    facts = (
        given["facts"]
        if nested
        else {k: v for k, v in given.items() if k not in ("reason", "close_event")}
    )
    if not isinstance(facts, Mapping):
        faults.append(Fault("must be an object of named facts", None, "facts"))
        facts = {}
    faults += _declared_faults(facts, pack, "facts." if nested else "")
    if nested:
        more = sorted(set(given) - {"reason", "close_event", "facts"})
        faults += [Fault("stands beside facts; put it inside", None, name[:64]) for name in more]
    if closes and pack.plan not in EVENT_PLANS:
        faults.append(Fault("this plan has no event to close", None, "close_event"))
    if not facts and not closes and not nested and not faults:
        faults.append(Fault("is missing; {} withdraws every declaration", None, "facts"))
    if faults:
        raise InvalidInput(faults)
    return Declaration(dict(facts), reason or "", closes)


def _declared_faults(facts: Mapping[str, Any], pack: RulePack, prefix: str) -> list[Fault]:
    allowed = declarable(pack)
    named = ", ".join(allowed) or "none under this plan"
    known = {*pack.schema.groups[""].facts, *pack.schema.groups}
    faults = []
    for name in facts:
        if name in allowed:
            continue
        reason = (
            "is computed from what is reported and cannot be declared; declarable are "
            if name in known
            else "is no fact of this plan; declarable are "
        )
        faults.append(Fault(reason + named, None, prefix + name[:64]))
    try:
        check_facts(pack, {name: facts[name] for name in facts if name in allowed})
    except InvalidInput as error:
        faults += [Fault(f.reason, f.row, prefix + (f.field or "")) for f in error.faults]
    return faults


def store_facts(
    engine: Engine,
    plan: str,
    declaration: Declaration,
    *,
    body: bytes,
    account: str,
    content_type: str = "application/json",
) -> StoredFacts:
    """Store the next revision of a plan's declared facts; durable on return."""
    with writing(
        engine,
        channel="plan_facts",
        account=account,
        body=body,
        content_type=content_type,
        request={"plan": plan},
    ) as write:
        connection = write.connection
        connection.execute(
            text(f"SELECT pg_advisory_xact_lock({_LOCK}, hashtext(:p))"), {"p": plan}
        )
        revision: int = connection.execute(
            text(
                "INSERT INTO plan_facts"
                " (plan, revision, batch_id, account, reason, facts, close_event)"
                " SELECT :plan, coalesce(max(revision), 0) + 1, :batch, :account, :reason,"
                " CAST(:facts AS jsonb), :close FROM plan_facts WHERE plan = :plan"
                " RETURNING revision"
            ),
            {
                "plan": plan,
                "batch": write.batch_id,
                "account": account,
                "reason": declaration.reason,
                "facts": orjson.dumps(declaration.facts).decode(),
                "close": declaration.close_event,
            },
        ).scalar_one()
        write.kind = "plan_facts"
        write.detail = {
            "plan": plan,
            "revision": revision,
            "close_event": declaration.close_event,
        }
    assert write.sequence is not None  # noqa: S101 - a published write has one
    return StoredFacts(plan, revision, declaration.facts, write.sequence)


def declared_facts(connection: Connection, plan: str, sequence: int) -> dict[str, Any]:
    """The facts declared under a plan, as known at `sequence`; {} while nobody has."""
    found = connection.execute(
        text(
            "SELECT p.facts FROM plan_facts p JOIN change h USING (batch_id)"
            " WHERE p.plan = :plan AND h.sequence <= :sequence ORDER BY p.revision DESC LIMIT 1"
        ),
        {"plan": plan, "sequence": sequence},
    ).scalar()
    return dict(found or {})


def closed_at(connection: Connection, sequence: int) -> datetime | None:
    """When a power event was last confirmed to be over, as known at `sequence`."""
    found: datetime | None = connection.execute(
        text(
            "SELECT max(h.received_at) FROM plan_facts p JOIN change h USING (batch_id)"
            " WHERE p.close_event AND p.plan = ANY (:plans) AND h.sequence <= :sequence"
        ),
        {"plans": sorted(EVENT_PLANS), "sequence": sequence},
    ).scalar()
    return found
