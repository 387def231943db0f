"""What each operator's figures rest on: its sites or its return, and when it was last heard.

docs/meanings.md, "Returns" and "Down": per operator and kind the newer of return and per-site
reports (by the time they speak of, `as_of` against `observed_at`) is the source, never both; an
operator of whom nothing, not even a heartbeat, was heard for `silent_after_minutes` is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Source:
    """Of one operator and kind. `kind_of_source` is site or return."""

    operator: str
    kind: str
    kind_of_source: str
    observed_at: datetime | None
    heard_at: datetime | None


_SOURCES = """
SELECT r.operator, r.kind,
       max(r.observed_at) FILTER (WHERE r.channel = 'site') AS site_at,
       max(r.observed_at) FILTER (WHERE r.channel = 'return') AS return_at,
       max(h.received_at) AS heard_at
FROM source_report r JOIN change h USING (batch_id)
WHERE h.sequence <= :sequence
GROUP BY r.operator, r.kind
ORDER BY r.operator, r.kind
"""

_LATEST = """
SELECT operator, kind, site_at, return_at, heard_at FROM source_latest ORDER BY operator, kind
"""


def sources_at(connection: Connection, sequence: int) -> list[Source]:
    """The source of every operator and kind heard of by `sequence`; reads all reports till then."""
    return _sources(connection, _SOURCES, {"sequence": sequence})


def reports_at(connection: Connection, sequence: int) -> dict[tuple[str, str], list[Any]]:
    """(operator, kind) → newest `observed_at` of sites, of returns, and when it was last heard."""
    rows = connection.execute(text(_SOURCES), {"sequence": sequence})
    return {(r.operator, r.kind): [r.site_at, r.return_at, r.heard_at] for r in rows}


def sources_now(connection: Connection) -> list[Source]:
    """The same through the last fold, from the folded table."""
    return _sources(connection, _LATEST, {})


def _sources(connection: Connection, sql: str, params: dict[str, int]) -> list[Source]:
    return [source_of(*row) for row in connection.execute(text(sql), params)]


def source_of(
    operator: str,
    kind: str,
    site_at: datetime | None,
    return_at: datetime | None,
    heard: datetime | None,
) -> Source:
    """The newer of per-site reports and returns, by the time they speak of; at equal times the
    return."""
    by_return = return_at is not None and (site_at is None or return_at >= site_at)
    return Source(
        operator,
        kind,
        "return" if by_return else "site",
        return_at if by_return else site_at,
        heard,
    )


def heard_at(sources: list[Source]) -> dict[str, datetime]:
    """When each operator was last heard, through any kind and channel."""
    heard: dict[str, datetime] = {}
    for source in sources:
        if source.heard_at is not None:
            heard[source.operator] = max(
                source.heard_at, heard.get(source.operator, source.heard_at)
            )
    return heard


def silent_operators(
    operators: list[str], heard: dict[str, datetime], now: datetime, after_minutes: int
) -> tuple[frozenset[str], datetime | None]:
    """Operators silent at `now`, and the next instant at which another falls silent."""
    limit = timedelta(minutes=after_minutes)
    silent = frozenset(o for o in operators if o not in heard or now - heard[o] >= limit)
    falling = [heard[o] + limit for o in operators if o not in silent]
    return silent, min(falling, default=None)


def as_json(
    source: Source, silent: frozenset[str], totals: dict[tuple[str, str], dict[str, Any]]
) -> dict[str, Any]:
    """How a source is shown beside the situation: shares per operator, never graded."""
    return {
        "operator": source.operator,
        "kind": source.kind,
        "source": source.kind_of_source,
        "observed_at": source.observed_at.isoformat() if source.observed_at else None,
        "heard_at": source.heard_at.isoformat() if source.heard_at else None,
        "silent": source.operator in silent,
        **totals.get((source.operator, source.kind), {}),
    }
