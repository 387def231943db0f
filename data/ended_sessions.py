"""Sessions ended before their time, for every process to refuse, and states that were used once."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, select, text

from data.tables_access import ended_session


def ended_sessions(connection: Connection) -> list[str]:
    """The ids of sessions that have been signed out of and would still hold."""
    found = connection.execute(select(ended_session.c.session_id).where(text("expires_at > now()")))
    return list(found.scalars())


def end_session(connection: Connection, session_id: str, expires_at: int) -> bool:
    """End a session that would hold until `expires_at` (seconds since 1970); False if it had.

    What has ended by itself meanwhile is forgotten.
    """
    connection.execute(text("DELETE FROM ended_session WHERE expires_at < now()"))
    added = connection.execute(
        text(
            "INSERT INTO ended_session (session_id, expires_at) VALUES (:id, :ends)"
            " ON CONFLICT DO NOTHING"
        ),
        {"id": session_id, "ends": datetime.fromtimestamp(expires_at, UTC)},
    )
    return added.rowcount == 1
