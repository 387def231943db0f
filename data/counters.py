"""Counters: folding appended deltas, and reading them as of any sequence.

A counter is keyed by group (placement × kind × operator × network × main_grid × synthetic); its
measures are `data.tables.MEASURES`. Triggers append deltas in the transaction that changes states;
one reader folds them. The same rows answer the past: a checkpoint plus the deltas after it.
"""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from sqlalchemy import Connection, text

from data.tables import MEASURES

#: Delta rows after which a fold also leaves a checkpoint.
CHECKPOINT_AFTER_ROWS = 50_000

_COLUMNS = ", ".join(MEASURES)
_SUMS = ", ".join(f"sum(d.{m}) AS {m}" for m in MEASURES)
_ADDED = ", ".join(f"{m} = c.{m} + excluded.{m}" for m in MEASURES)
_LATEST = """
INSERT INTO source_latest AS l (operator, kind, site_at, return_at, heard_at)
SELECT r.operator, r.kind,
       max(r.observed_at) FILTER (WHERE r.channel = 'site'),
       max(r.observed_at) FILTER (WHERE r.channel = 'return'),
       max(h.received_at)
FROM change h JOIN source_report r USING (batch_id)
WHERE h.sequence > :after AND h.sequence <= :upto
GROUP BY r.operator, r.kind
ON CONFLICT (operator, kind) DO UPDATE SET
    site_at = greatest(l.site_at, excluded.site_at),
    return_at = greatest(l.return_at, excluded.return_at),
    heard_at = greatest(l.heard_at, excluded.heard_at)
"""
_SPAN = (
    "FROM change h JOIN counter_delta d USING (batch_id)"
    " WHERE h.sequence > :after AND h.sequence <= :upto"
)


def fold(connection: Connection) -> int:
    """Add every delta published since the last fold; returns the sequence folded through.

    The caller's transaction holds the fold row, so there is one folder at a time.
    """
    state = connection.execute(
        text("SELECT through, rows_since_checkpoint FROM fold FOR UPDATE")
    ).one()
    newest = int(
        connection.execute(text("SELECT coalesce(max(sequence), 0) FROM change")).scalar_one()
    )
    if newest == state.through:
        return newest
    span = {"after": state.through, "upto": newest}
    rows = state.rows_since_checkpoint + int(
        connection.execute(text(f"SELECT count(*) {_SPAN}"), span).scalar_one()
    )
    connection.execute(
        text(
            f"INSERT INTO counter AS c (group_id, {_COLUMNS})"
            f" SELECT d.group_id, {_SUMS} {_SPAN} GROUP BY d.group_id"
            f" ON CONFLICT (group_id) DO UPDATE SET {_ADDED}"
        ),
        span,
    )
    connection.execute(text(_LATEST), span)
    if rows > CHECKPOINT_AFTER_ROWS:
        connection.execute(
            text(
                f"INSERT INTO counter_checkpoint (sequence, group_id, {_COLUMNS})"
                f" SELECT :upto, group_id, {_COLUMNS} FROM counter"
            ),
            {"upto": newest},
        )
        rows = 0
    connection.execute(
        text("UPDATE fold SET through = :upto, rows_since_checkpoint = :rows"),
        {"upto": newest, "rows": rows},
    )
    return newest


_GROUPS = """
SELECT g.kind, g.operator, g.network, g.main_grid, g.synthetic, p.adcode, p.unit, {measures}
FROM ({rows}) d
JOIN counter_group g ON g.id = d.group_id
JOIN placement_division p ON p.placement_id = g.placement_id AND p.version_id = :version
GROUP BY 1, 2, 3, 4, 5, 6, 7
"""


def counters_now(connection: Connection, version_id: int) -> pd.DataFrame:
    """The folded counters in a division version.

    Columns: kind, operator, network, main_grid, synthetic, adcode and unit (null outside the city),
    then the measures; one row per combination.
    """
    return _frame(connection, f"SELECT group_id, {_COLUMNS} FROM counter", {"version": version_id})


def counters_at(
    connection: Connection, version_id: int, sequence: int, at: datetime
) -> pd.DataFrame:
    """The counters as known at `sequence`, with the inventory in force at `at`.

    A facility loaded later but in force earlier (`valid_from`) counts from `valid_from`.
    """
    checkpoint = connection.execute(
        text("SELECT coalesce(max(sequence), 0) FROM counter_checkpoint WHERE sequence <= :n"),
        {"n": sequence},
    ).scalar_one()
    measures = ", ".join(f"d.{m}" for m in MEASURES)
    negated = ", ".join(f"-d.{m}" for m in MEASURES)
    rows = f"""
        SELECT group_id, {_COLUMNS} FROM counter_checkpoint WHERE sequence = :checkpoint
        UNION ALL
        SELECT d.group_id, {measures} FROM change h JOIN counter_delta d USING (batch_id)
        WHERE h.sequence > :checkpoint AND h.sequence <= :n AND d.valid_from IS NULL
        UNION ALL
        SELECT d.group_id, {measures} FROM change h JOIN counter_delta d USING (batch_id)
        WHERE h.sequence > :checkpoint AND d.valid_from <= :at
        UNION ALL
        SELECT d.group_id, {negated} FROM change h JOIN counter_delta d USING (batch_id)
        WHERE h.sequence <= :checkpoint AND d.valid_from > :at
    """
    params = {"version": version_id, "checkpoint": checkpoint, "n": sequence, "at": at}
    return _frame(connection, rows, params)


def _frame(connection: Connection, rows: str, params: dict[str, object]) -> pd.DataFrame:
    sums = ", ".join(f"sum(d.{m})::bigint AS {m}" for m in MEASURES)
    result = connection.execute(text(_GROUPS.format(measures=sums, rows=rows)), params)
    frame = pd.DataFrame(result.all(), columns=list(result.keys()))
    frame = frame.astype(dict.fromkeys(MEASURES, "int64"))
    # a group that all its facilities have left is none, now as in the past
    return frame[(frame[list(MEASURES)] != 0).any(axis=1)].reset_index(drop=True)
