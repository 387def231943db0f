"""A check of where teams are: what is shown of each is the newest of its history."""

from __future__ import annotations

from sqlalchemy import Connection

from data.check import Check, wrong_rows
from data.teams import SAID

_COPIED = [*SAID.split(", "), "batch_id"]
_SHOWN, _KEPT = (", ".join(f"{alias}.{name}" for name in _COPIED) for alias in ("t", "n"))

#: A position of the future is kept and never applied, so it is no team's newest.
_WRONG = f"""
WITH newest AS (
    SELECT DISTINCT ON (uid) * FROM team_position WHERE NOT future ORDER BY uid, observed_at DESC
), first AS (
    SELECT DISTINCT ON (uid) uid, account FROM team_position ORDER BY uid, id
)
SELECT 'team ' || coalesce(t.uid, n.uid) || ': ' || CASE
    WHEN t.uid IS NULL THEN 'has positions and is not shown'
    WHEN n.uid IS NULL THEN 'is shown without a position that holds'
    WHEN t.position_id <> n.id THEN 'shows position ' || t.position_id || ' of ' || t.observed_at
        || ', its newest is ' || n.id || ' of ' || n.observed_at
    WHEN t.account <> f.account THEN 'belongs to ' || t.account || ', first sent by ' || f.account
    ELSE 'differs from its position ' || n.id END
FROM newest n FULL JOIN team t ON t.uid = n.uid LEFT JOIN first f ON f.uid = n.uid
WHERE t.uid IS NULL OR n.uid IS NULL OR t.position_id <> n.id OR t.account <> f.account
   OR ({_SHOWN}) IS DISTINCT FROM ({_KEPT})
ORDER BY coalesce(t.uid, n.uid)
"""


def teams(connection: Connection) -> Check:
    return wrong_rows(
        Check("teams", "every team is shown where the newest of its positions says"),
        connection,
        _WRONG,
        "SELECT count(DISTINCT uid) FROM (SELECT uid FROM team_position"
        " UNION ALL SELECT uid FROM team) t",
    )
