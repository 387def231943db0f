"""What the power plan is graded on: supply facilities, their observations, reported outages.

Reads, as known at a sequence, everything `geo.power` needs. Supply facilities are those of the
kinds the power rule pack lists; there are thousands of them, not millions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from geo.power import Loss, Supply, down_intervals, minus

Interval = tuple[datetime, datetime | None]


@dataclass(frozen=True)
class PowerKnown:
    """Supply per district and grid, and every loss with its hours in the world."""

    supply: dict[tuple[str | None, bool], Supply]
    losses: list[Loss]


#: Supply facilities in force at :at as known at :sequence (:at null: now). What was loaded later
#: and counts from earlier on is in force from then on; anything else from the change that brought
#: it. A past row that ends when its batch begins is one that was retired.
_FACILITIES = """
WITH present AS (
    SELECT f.*, NULL::bigint AS replaced_by, NULL::timestamptz AS valid_to
    FROM facility f
    WHERE f.kind = ANY (:kinds) AND f.retired_at IS NULL
      AND (f.adcode IS NULL OR f.adcode = ANY (ARRAY(SELECT DISTINCT adcode FROM district)))
), past AS (
    SELECT f.pk, f.facility_id, f.placement_id, f.operator, f.kind, f.main_grid, f.load_kw,
           f.customers, f.state_at_import, f.valid_from, f.geom, f.batch_id, f.replaced_by,
           f.valid_to
    FROM facility_past f
    WHERE f.kind = ANY (:kinds) AND CAST(:at AS timestamptz) IS NOT NULL
), every AS (
    SELECT pk, facility_id, placement_id, operator, kind, main_grid, load_kw, customers,
           state_at_import, valid_from, geom, batch_id, replaced_by, valid_to FROM present
    UNION ALL SELECT * FROM past
), supply AS (
    SELECT e.* FROM every e JOIN batch b ON b.id = e.batch_id
    LEFT JOIN change h ON h.batch_id = e.batch_id
    LEFT JOIN change r ON r.batch_id = e.replaced_by
    WHERE CASE WHEN e.valid_from < b.opened_at
               THEN CAST(:at AS timestamptz) IS NULL OR e.valid_from <= :at
               ELSE h.sequence <= :sequence END
      AND (e.replaced_by IS NULL OR (r.sequence > :sequence AND e.valid_to > b.opened_at))
)
"""

_IN_FORCE = (
    _FACILITIES
    + """
SELECT f.pk, f.facility_id, d.adcode, f.operator, f.kind, f.main_grid, f.load_kw, f.customers,
       f.state_at_import, f.valid_from
FROM supply f
LEFT JOIN placement_division d ON d.placement_id = f.placement_id AND d.version_id = :version
ORDER BY f.facility_id
"""
)

_INSIDE = (
    _FACILITIES
    + """
SELECT o.outage_id, f.facility_id FROM outage o
JOIN supply f ON ST_Dimension(o.geom) = 2 AND ST_Intersects(o.geom, f.geom)
WHERE (o.outage_id, o.revision) IN (SELECT * FROM unnest(
    CAST(:ids AS text[]), CAST(:revisions AS int[])))
"""
)

_OBSERVATIONS = """
SELECT l.facility_id, l.observed_at, l.state, l.event_id
FROM status_log l JOIN change h USING (batch_id)
WHERE NOT l.future AND h.sequence <= :sequence AND l.facility_pk = ANY (:pks)
  AND l.observed_at > coalesce(CAST(:since AS timestamptz), '-infinity')
UNION ALL  -- how each stood when the event began; what came before matters to no one
SELECT l.facility_id, l.observed_at, l.state, l.event_id
FROM unnest(CAST(:pks AS int[])) AS f(pk)
CROSS JOIN LATERAL (
    SELECT s.facility_id, s.observed_at, s.state, s.event_id
    FROM status_log s JOIN change h USING (batch_id)
    WHERE s.facility_pk = f.pk AND s.observed_at <= CAST(:since AS timestamptz)
      AND NOT s.future AND h.sequence <= :sequence
    ORDER BY s.observed_at DESC, s.state DESC, s.event_id DESC LIMIT 1
) l
UNION ALL  -- sent before the facility was known, by an account that may speak for its operator
SELECT l.facility_id, l.observed_at, l.state, l.event_id
FROM status_log l JOIN change h USING (batch_id)
JOIN batch b ON b.id = l.batch_id
JOIN unnest(CAST(:ids AS text[]), CAST(:operators AS text[])) AS f(id, operator)
  ON f.id = l.facility_id
WHERE NOT l.future AND h.sequence <= :sequence AND l.facility_pk IS NULL
  AND (b.request -> 'operators') ?| ARRAY['*', f.operator]
"""


def power_known(
    connection: Connection,
    *,
    version_id: int,
    kinds: Sequence[str],
    sequence: int,
    at: datetime | None,
    now: datetime,
    outages: Sequence[dict[str, Any]],
    since: datetime | None = None,
    silent: frozenset[str] = frozenset(),
) -> PowerKnown:
    """Supply and losses as known at `sequence`, with the inventory in force at `at` (None: now).

    `outages`: the newest revisions known (`data.outages`), with `split` in this version. A
    facility named by or inside a reported outage counts only through it, while that lasts. What is
    not down of a `silent` operator is unknown. Losses are complete from `since` on (None: always),
    the close of the last event: so that reading does not grow with all of history.
    """
    in_force = {"kinds": list(kinds), "at": at, "sequence": sequence}
    rows = connection.execute(text(_IN_FORCE), {**in_force, "version": version_id}).all()
    observed: dict[str, list[tuple[datetime, str, str]]] = defaultdict(list)
    if rows:
        for fid, instant, state, event_id in connection.execute(
            text(_OBSERVATIONS),
            {
                "sequence": sequence,
                "since": since,
                "pks": [r.pk for r in rows],
                "ids": [r.facility_id for r in rows],
                "operators": [r.operator for r in rows],
            },
        ):
            observed[fid].append((instant, state, event_id))
    covered = _covered(connection, outages, in_force, now)
    supply: dict[tuple[str | None, bool], Supply] = defaultdict(Supply)
    losses = _reported(outages, now)
    for r in rows:
        covers = covered.get(r.facility_id, [])
        intervals = down_intervals(observed[r.facility_id], r.state_at_import, r.valid_from)
        for interval in intervals:
            for since, until in minus(interval, covers):
                # An observation a little ahead of our clock holds at once, as it does in counters.
                since, until = min(since, now), until and min(until, now)
                losses.append(Loss(r.adcode, r.main_grid, r.load_kw, r.customers, since, until))
        covered_now = any(s <= now and (e is None or e > now) for s, e in covers)
        state = _last_state(observed[r.facility_id], r)
        unheard = state == "unknown" or (r.operator in silent and state != "down")
        unknown = unheard and not covered_now
        key = (r.adcode, r.main_grid)
        supply[key] += Supply(
            load_kw=r.load_kw,
            load_unknown_kw=r.load_kw if unknown else 0,
            customers=r.customers,
            customers_unknown=r.customers if unknown else 0,
        )
    return PowerKnown(dict(supply), losses)


def _last_state(observations: list[tuple[datetime, str, str]], row: Any) -> str:
    gravity = {"up": 0, "unknown": 1, "degraded": 2, "down": 3}
    if not observations:
        return str(row.state_at_import)
    return max(observations, key=lambda o: (o[0], gravity[o[1]], o[2]))[1]


def _reported(outages: Sequence[dict[str, Any]], now: datetime) -> list[Loss]:
    """The losses of reported outages. What is restored meanwhile counts from the revision on."""
    losses = []
    for outage in outages:
        if outage["planned"]:
            continue
        start, end = min(outage["started_at"], now), outage["restored_at"]
        for part in outage["split"]:
            restored = part.get("restored_load_kw") or 0
            revised_at = outage["received_at"]
            common = (part["adcode"], outage["main_grid"])
            kept = part["load_shed_kw"] - restored
            losses.append(Loss(*common, kept, part["customers_out"], start, end))
            if restored:
                until = max(revised_at, start)
                losses.append(Loss(*common, restored, 0, start, min(until, end or until)))
    return losses


def _covered(
    connection: Connection,
    outages: Sequence[dict[str, Any]],
    in_force: Mapping[str, Any],
    now: datetime,
) -> dict[str, list[Interval]]:
    """Facilities that a reported outage names or contains, with the outage's hours."""
    covered: dict[str, list[Interval]] = defaultdict(list)
    if not outages:
        return covered
    inside = connection.execute(
        text(_INSIDE),
        {
            **in_force,
            "ids": [o["outage_id"] for o in outages],
            "revisions": [o["revision"] for o in outages],
        },
    )
    members: dict[str, set[str]] = defaultdict(set)
    for outage_id, facility_id in inside:
        members[outage_id].add(facility_id)
    for outage in outages:
        since = outage["started_at"] if outage["planned"] else min(outage["started_at"], now)
        for facility_id in members[outage["outage_id"]] | set(outage["facility_ids"]):
            covered[facility_id].append((since, outage["restored_at"]))
    return covered
