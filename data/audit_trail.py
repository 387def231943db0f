"""Reading the audit trail: the newest rows that a question leaves, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, text

ROWS_MAX = 1000

_FILTERS = {
    "account": "account = :account",
    "act": "(act = :act OR act LIKE :act_group)",
    "outcome": "outcome = :outcome",
    "subject": "subject = :subject",
    "address": "address = :address",
    "since": "at >= :since",
    "until": "at < :until",
    "before": "number < :before",
}


@dataclass(frozen=True)
class TrailQuestion:
    """Which rows: None asks for any. `act` is one, or a group of them such as `incident`;
    `before` is the number at which the page before ended."""

    account: str | None = None
    act: str | None = None
    outcome: str | None = None
    subject: str | None = None
    address: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


def trail(connection: Connection, asked: TrailQuestion, limit: int = 100) -> list[dict[str, Any]]:
    """At most `limit` rows, the newest first."""
    given = {name: getattr(asked, name) for name in _FILTERS}
    conditions = [sql for name, sql in _FILTERS.items() if given[name] is not None]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    escaped = (asked.act or "").replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    rows = connection.execute(
        text(f"SELECT * FROM audit {where} ORDER BY number DESC LIMIT :limit"),
        {
            **{name: value for name, value in given.items() if value is not None},
            **({"act_group": f"{escaped}.%"} if asked.act is not None else {}),
            "limit": limit,
        },
    )
    return [_row(row) for row in rows]


def _row(row: Any) -> dict[str, Any]:
    return {
        "number": row.number,
        "at": row.at.isoformat(),
        "act": row.act,
        "outcome": row.outcome,
        "account": row.account,
        "address": row.address,
        "means": row.means,
        "subject": row.subject,
        "detail": orjson.loads(row.detail),
        "sha256": bytes(row.sha256).hex(),
    }
