"""Every version of an incident: who changed what, when and why; and bodies kept for review."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.database import reading
from data.incident_distinct import distinct_from
from data.incident_states import casualty_notice, changed_facts
from data.incidents import ONE, READS_REPORTERS, set_reader
from geo.errors import NotFound

_REVISIONS = text(
    "SELECT r.version, r.state, r.facts, r.account, r.reason, r.duplicate_of, h.sequence,"
    " h.received_at FROM incident_revision r JOIN change h USING (batch_id)"
    " WHERE r.incident_id = :id ORDER BY r.version"
)
_CONFLICTS = text(
    "SELECT c.body, c.account, h.received_at"
    " FROM incident_conflict c JOIN change h USING (batch_id)"
    " WHERE c.incident_id = :id ORDER BY c.id"
)
_MERGED_HERE = text(
    "SELECT r.incident_id FROM incident i JOIN LATERAL (SELECT * FROM incident_revision n"
    " WHERE n.incident_id = i.incident_id ORDER BY version DESC LIMIT 1) r ON true"
    " WHERE r.duplicate_of = :id ORDER BY r.incident_id"
)


def incident_history(
    engine: Engine, incident_id: UUID, account: Account, lang: str = "zh"
) -> dict[str, Any]:
    """{incident_id, versions (oldest first), duplicates, conflicts?}. Raises NotFound.

    Each version: `changed` against the one before, and the `notice` its casualties set going.
    `conflicts`, which hold reporters, are for those who may read them.
    """
    with reading(engine, account.scope, snapshot=True) as connection:
        set_reader(connection, account)
        row = connection.execute(text(ONE), {"id": incident_id}).one_or_none()
        if row is None:
            raise NotFound("no such incident")
        revisions = connection.execute(_REVISIONS, {"id": incident_id}).all()
        answer: dict[str, Any] = {
            "incident_id": str(incident_id),
            "versions": _versions(row.plan, row.occurred_at, revisions, lang),
            "duplicates": merged_into(connection, incident_id),
            "distinct": distinct_from(connection, incident_id),
        }
        if account.role in READS_REPORTERS:
            answer["conflicts"] = [
                {
                    "received_at": one.received_at.isoformat(),
                    "account": one.account,
                    "body": one.body,
                }
                for one in connection.execute(_CONFLICTS, {"id": incident_id})
            ]
    return answer


def merged_into(connection: Connection, incident_id: UUID) -> list[str]:
    """Ids of the incidents the reader may see that are merged into this one."""
    found = connection.execute(_MERGED_HERE, {"id": incident_id}).scalars()
    return [str(one) for one in found]


def _versions(
    plan: str, occurred_at: datetime, revisions: Sequence[Any], lang: str
) -> list[dict[str, Any]]:
    versions = []
    state, facts = None, None
    for one in revisions:
        changed = changed_facts(facts or {}, one.facts)
        notice = None
        if facts is not None:
            notice = casualty_notice(plan, occurred_at, one.received_at, changed, lang)
        versions.append(
            {
                "version": one.version,
                "sequence": one.sequence,
                "received_at": one.received_at.isoformat(),
                "account": one.account,
                "reason": one.reason,
                "state": one.state,
                "duplicate_of": None if one.duplicate_of is None else str(one.duplicate_of),
                "changed": {"facts": changed}
                | ({"state": {"from": state, "to": one.state}} if one.state != state else {}),
                "notice": notice,
            }
        )
        state, facts = one.state, one.facts
    return versions
