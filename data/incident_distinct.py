"""Two incidents that look like one accident and are not: said by a person, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.database import writing
from data.fields import Fields, require_object
from data.incidents import ONE, set_reader
from geo.errors import Fault, InvalidInput, NotAllowed, NotFound


@dataclass(frozen=True)
class Distinction:
    """Which other incident this one is not, and why."""

    other: UUID
    reason: str


def read_distinction(body: Any) -> Distinction:
    """The body {other, reason}. Raises InvalidInput."""
    given = require_object(body, "a distinction")
    faults: list[Fault] = []
    read = Fields(given, faults)
    reason = read.words("reason", characters_max=2000, required=True)
    other = read.incident("other")
    if faults or other is None:
        raise InvalidInput(faults)
    return Distinction(other, reason or "")


def mark_distinct(
    engine: Engine, incident_id: UUID, given: Distinction, *, body: bytes, account: Account
) -> dict[str, Any]:
    """Record that two incidents are two accidents; durable, the same again changes nothing.

    Neither is listed as the other's probable duplicate from then on; a merge takes it back. Raises
    NotFound, NotAllowed outside the account's districts, InvalidInput for the incident itself.
    """
    if given.other == incident_id:
        raise InvalidInput([Fault("is the incident itself", None, "other")])
    with writing(
        engine,
        channel="incident_edit",
        account=account.username,
        body=body,
        request={"incident_id": str(incident_id), "distinct": str(given.other)},
    ) as write:
        connection = write.connection
        set_reader(connection, account)
        rows = [_require(connection, one, account) for one in (incident_id, given.other)]
        added = connection.execute(
            text(
                "INSERT INTO incident_distinct (incident_id, other, batch_id, account, reason)"
                " VALUES (least(CAST(:one AS uuid), :two),"
                " greatest(CAST(:one AS uuid), :two), :batch, :account, :reason)"
                " ON CONFLICT DO NOTHING"
            ),
            {
                "one": incident_id,
                "two": given.other,
                "batch": write.batch_id,
                "account": account.username,
                "reason": given.reason,
            },
        )
        if added.rowcount:
            write.kind = "incident"
            write.detail = {
                "events": [
                    {
                        "incident_id": str(row.incident_id),
                        "adcode": row.adcode,
                        "plan": row.plan,
                        "version": row.version,
                    }
                    for row in rows
                ]
            }
        distinct = distinct_from(connection, incident_id)
    return {"incident_id": str(incident_id), "distinct": distinct, "sequence": write.sequence}


def distinct_from(connection: Connection, incident_id: UUID) -> list[dict[str, Any]]:
    """Which incidents the reader may see this one is said not to be, by whom, why and when."""
    rows = connection.execute(
        text(
            "SELECT CASE WHEN d.incident_id = :id THEN d.other ELSE d.incident_id END AS other,"
            " d.account, d.reason, b.opened_at FROM incident_distinct d"
            " JOIN batch b ON b.id = d.batch_id"
            " WHERE :id IN (d.incident_id, d.other) ORDER BY d.batch_id"
        ),
        {"id": incident_id},
    )
    return [
        {
            "incident_id": str(row.other),
            "account": row.account,
            "reason": row.reason,
            "received_at": row.opened_at.isoformat(),
        }
        for row in rows
    ]


def forget_distinct(connection: Connection, one: UUID, two: UUID) -> None:
    """A merge says that the two are one."""
    connection.execute(
        text(
            "DELETE FROM incident_distinct WHERE incident_id = least(CAST(:one AS uuid), :two)"
            " AND other = greatest(CAST(:one AS uuid), :two)"
        ),
        {"one": one, "two": two},
    )


def _require(connection: Connection, incident_id: UUID, account: Account) -> Any:
    row = connection.execute(text(ONE), {"id": incident_id}).one_or_none()
    if row is None:
        raise NotFound("no such incident")
    if not account.sees(row.adcode):
        raise NotAllowed("the incident lies outside your districts; you may read it only")
    return row
