"""What the database says about its own health, asked in one transaction: for metrics and alerts.

Nothing here reads more than a few rows, whatever the installation holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from data.builder import BUILDER_LOCK
from data.sources import heard_at, silent_operators, sources_now

#: What PostgreSQL is told to keep its log with when it keeps it nowhere.
KEPT_NOWHERE = frozenset({"", "(disabled)", "/bin/true", "true"})


@dataclass(frozen=True, slots=True)
class Archive:
    """How PostgreSQL keeps its log elsewhere. `failing`: the last attempt was in vain."""

    kept: bool
    archived: int
    failed: int
    archived_at: datetime | None
    failing: bool


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """One moment, by the database's clock. `behind_s`: the age of the oldest change that no
    stored situation shows, 0 when all are shown. `shown_at`: `as_of` of the newest situation."""

    now: datetime
    behind_s: float
    shown_at: datetime | None
    builders_leading: int
    heard_at: dict[str, datetime]
    silent: frozenset[str]
    archive: Archive
    connections: int
    connections_most: int


_SIGNS = """
WITH shown AS (
    SELECT sequence, as_of FROM situation_bytes ORDER BY sequence DESC LIMIT 1
)
SELECT clock_timestamp() AS now,
       (SELECT as_of FROM shown) AS shown_at,
       (SELECT received_at FROM change
        WHERE sequence > coalesce((SELECT sequence FROM shown), 0)
        ORDER BY sequence LIMIT 1) AS unshown_at,
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0
        AND objid = :lock AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS leading,
       (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL) AS connections,
       current_setting('max_connections')::int AS connections_most,
       current_setting('archive_mode') AS archive_mode,
       current_setting('archive_command') AS archive_command,
       archived_count, failed_count, last_archived_time,
       last_failed_time IS NOT NULL AND last_failed_time > coalesce(
           last_archived_time, '-infinity') AS failing
FROM pg_stat_archiver
"""


def vital_signs(connection: Connection, silent_after_minutes: int) -> VitalSigns:
    """Ask in the caller's transaction, which may be read-only."""
    row: Any = connection.execute(text(_SIGNS), {"lock": BUILDER_LOCK}).one()
    heard = {name: when for name, when in heard_at(sources_now(connection)).items() if name}
    silent, _ = silent_operators(sorted(heard), heard, row.now, silent_after_minutes)
    behind_s = 0.0 if row.unshown_at is None else (row.now - row.unshown_at).total_seconds()
    return VitalSigns(
        now=row.now,
        behind_s=max(0.0, behind_s),
        shown_at=row.shown_at,
        builders_leading=row.leading,
        heard_at=heard,
        silent=silent,
        archive=Archive(
            kept=row.archive_mode != "off" and row.archive_command not in KEPT_NOWHERE,
            archived=row.archived_count,
            failed=row.failed_count,
            archived_at=row.last_archived_time,
            failing=row.failing,
        ),
        connections=row.connections,
        connections_most=row.connections_most,
    )
