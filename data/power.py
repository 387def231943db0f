"""What the power plan is graded on: supply facilities, their observations, reported outages.

Reads, as known at a sequence, everything `geo.power` needs. Supply facilities are those of the
kinds the power rule pack lists; there are thousands of them, not millions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from geo.power import Loss, Supply, down_intervals, minus
from geo.power_event import Earlier, Supplies

Interval = tuple[datetime, datetime | None]
#: A facility's id with the number of a version, or None for all of them.
Member = tuple[str, int | None]
#: observed_at, state, event_id.
Told = tuple[datetime, str, str]


@dataclass(frozen=True)
class PowerKnown:
    """Supply per district and grid, now and by inventories superseded since, every loss with its
    hours in the world, and the instant of every observation read, in order."""

    supply: Supplies
    earlier: list[Earlier]
    losses: list[Loss]
    instants: list[datetime]


#: Versions of supply facilities, as known at :sequence: those in force at :at (:at null: now), and
#: `ended` ones, edited or retired after :since. What was loaded later and counts from earlier on
#: is in force from then on; anything else from the change that brought it.
_FACILITIES = """
WITH present AS (
    SELECT f.*, NULL::bigint AS replaced_by, NULL::timestamptz AS valid_to
    FROM facility f
    WHERE f.kind = ANY (:kinds) AND f.retired_at IS NULL
      AND (f.adcode IS NULL OR f.adcode = ANY (ARRAY(SELECT DISTINCT adcode FROM district)))
), past AS (
    SELECT f.pk, f.facility_id, f.placement_id, f.operator, f.kind, f.main_grid, f.load_kw,
           f.customers, f.state_at_import, f.valid_from, f.version, f.geom, f.batch_id,
           f.replaced_by, f.valid_to
    FROM facility_past f
    WHERE f.kind = ANY (:kinds) AND f.valid_to > f.valid_from
      AND (CAST(:at AS timestamptz) IS NOT NULL
           OR f.valid_to > coalesce(CAST(:since AS timestamptz), '-infinity'))
), every AS (
    SELECT pk, facility_id, placement_id, operator, kind, main_grid, load_kw, customers,
           state_at_import, valid_from, version, geom, batch_id, replaced_by, valid_to FROM present
    UNION ALL SELECT * FROM past
), supply AS (
    SELECT e.*, e.replaced_by IS NOT NULL AND r.sequence <= :sequence AS ended
    FROM every e JOIN batch b ON b.id = e.batch_id
    LEFT JOIN change h ON h.batch_id = e.batch_id
    LEFT JOIN change r ON r.batch_id = e.replaced_by
    WHERE CASE WHEN e.valid_from < b.opened_at
               THEN CAST(:at AS timestamptz) IS NULL OR e.valid_from <= :at
               ELSE h.sequence <= :sequence END
      AND (e.replaced_by IS NULL OR r.sequence IS NOT NULL)
      AND (e.valid_to IS NULL OR e.valid_to > b.opened_at)
      AND (e.replaced_by IS NULL OR r.sequence > :sequence
           OR e.valid_to > coalesce(CAST(:since AS timestamptz), '-infinity'))
)
"""

_VERSIONS = (
    _FACILITIES
    + """
SELECT f.pk, f.facility_id, d.adcode, f.operator, f.kind, f.main_grid, f.load_kw, f.customers,
       f.state_at_import, f.valid_from, f.version, f.ended, f.valid_to
FROM supply f
LEFT JOIN placement_division d ON d.placement_id = f.placement_id AND d.version_id = :version
ORDER BY f.facility_id, f.version
"""
)

#: Revisions mostly keep the area of the one before, so each area is looked at once.
_INSIDE = (
    _FACILITIES
    + """
, area AS MATERIALIZED (
    SELECT o.geom, array_agg(asked.place) AS places
    FROM unnest(CAST(:ids AS text[]), CAST(:revisions AS int[])) WITH ORDINALITY
         AS asked(outage_id, revision, place)
    JOIN outage o USING (outage_id, revision)
    WHERE ST_Dimension(o.geom) = 2 GROUP BY o.geom
)
SELECT a.places, array_agg(f.facility_id) AS facility_ids, array_agg(f.version) AS versions
FROM area a JOIN supply f ON a.geom && f.geom AND ST_Intersects(a.geom, f.geom)
GROUP BY a.places
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

    `outages`: the newest revisions known (`data.outages`), with `split` in this version and their
    revisions. A facility named by or inside a reported outage counts only through it, while
    that lasts. What is not down of a `silent` operator is unknown. Losses and earlier inventories
    are complete from `since` on (None: always), the close of the last event or what is settled of
    this one: so that reading does not grow with all of history.
    """
    in_force = {"kinds": list(kinds), "at": at, "sequence": sequence, "since": since}
    rows = supply_versions(connection, version_id, in_force)
    observed = _observed(connection, rows, sequence, since)
    every = [one for outage in outages for one in outage["revisions"]]
    covered = covered_hours(outages, inside_areas(connection, every, in_force), now)
    supply: dict[tuple[str | None, bool], Supply] = defaultdict(Supply)
    losses = reported_losses(outages, now)
    for r in rows:
        covers = hours_of(covered, r)
        told = observed.get(r.facility_id, [])
        losses += own_losses(r, told, covers, now)
        if r.ended:
            continue
        unknown = is_unknown(r, told, covers, now, silent)
        key = (r.adcode, r.main_grid)
        supply[key] += Supply(
            load_kw=r.load_kw,
            load_unknown_kw=r.load_kw if unknown else 0,
            customers=r.customers,
            customers_unknown=r.customers if unknown else 0,
        )
    return PowerKnown(
        dict(supply),
        earlier_supplies(rows, since, now),
        losses,
        sorted(instant for told in observed.values() for instant, _, _ in told),
    )


def supply_versions(
    connection: Connection, version_id: int, in_force: Mapping[str, Any]
) -> Sequence[Any]:
    """Versions of supply facilities with their district. `in_force`: kinds, at (None: now),
    sequence, since (None: always)."""
    return connection.execute(text(_VERSIONS), {**in_force, "version": version_id}).all()


def own_losses(
    version: Any, told: Sequence[Told], covers: Sequence[Interval], now: datetime
) -> list[Loss]:
    """What is lost with a facility while it is down and counts by itself. `covers`: when it counts
    only through an outage; one that is to come takes nothing yet."""
    begun = [hours for hours in covers if hours[0] <= now]
    return [
        # An observation a little ahead of our clock holds at once, as it does in counters.
        Loss(
            version.adcode,
            version.main_grid,
            version.load_kw,
            version.customers,
            min(start, now),
            end and min(end, now),
        )
        for interval in down_intervals(told, version.state_at_import, version.valid_from)
        for start, end in minus(interval, [*begun, *_not_in_force(version)])
    ]


def is_unknown(
    version: Any,
    told: Sequence[Told],
    covers: Sequence[Interval],
    now: datetime,
    silent: frozenset[str],
) -> bool:
    """Whether its load is unknown now: so it was said, or nothing is heard, and no outage says."""
    state = last_state(told, version)
    unheard = state == "unknown" or (version.operator in silent and state != "down")
    return unheard and not any(s <= now and (e is None or e > now) for s, e in covers)


def _observed(
    connection: Connection, rows: Sequence[Any], sequence: int, since: datetime | None
) -> dict[str, list[Told]]:
    """`(observed_at, state, event_id)` per facility, complete from `since` on."""
    observed: dict[str, list[Told]] = defaultdict(list)
    if not rows:
        return observed
    speakers = sorted({(r.facility_id, r.operator) for r in rows})
    for fid, instant, state, event_id in connection.execute(
        text(_OBSERVATIONS),
        {
            "sequence": sequence,
            "since": since,
            "pks": sorted({r.pk for r in rows}),
            "ids": [facility_id for facility_id, _ in speakers],
            "operators": [operator for _, operator in speakers],
        },
    ):
        observed[fid].append((instant, state, event_id))
    return observed


#: Earlier than any time PostgreSQL and Python share.
_EVER = datetime(1, 1, 1, tzinfo=UTC)


def _begin(version: Any) -> datetime:
    """When a version began to count. The first counts for all the time before it, too: what an
    inventory lists is known from its import on, and stood there before."""
    begin: datetime = _EVER if version.version == 1 else version.valid_from
    return begin


def _not_in_force(version: Any) -> list[Interval]:
    ends: list[Interval] = [(version.valid_to, None)] if version.ended else []
    return ends if version.version == 1 else [(_EVER, version.valid_from), *ends]


def earlier_supplies(rows: Sequence[Any], since: datetime | None, now: datetime) -> list[Earlier]:
    """Supply by the inventories that were superseded after `since`, in order of time."""
    hours = [(_begin(r), r.valid_to if r.ended else None, r) for r in rows]
    turns = {t for begin, end, _ in hours for t in (begin, end) if t is not None and t != _EVER}
    found: list[Earlier] = []
    for turn in sorted(t for t in turns if t <= now and (since is None or t > since)):
        supply: dict[tuple[str | None, bool], Supply] = defaultdict(Supply)
        for begin, end, r in hours:
            if begin < turn and (end is None or end >= turn):
                supply[r.adcode, r.main_grid] += Supply(load_kw=r.load_kw, customers=r.customers)
        if found and found[-1].supply == supply:
            found.pop()
        found.append(Earlier(turn, dict(supply)))
    return found


def last_state(observations: Sequence[Told], row: Any) -> str:
    gravity = {"up": 0, "unknown": 1, "degraded": 2, "down": 3}
    if not observations:
        return str(row.state_at_import)
    return max(observations, key=lambda o: (o[0], gravity[o[1]], o[2]))[1]


def reported_losses(outages: Sequence[Mapping[str, Any]], now: datetime) -> list[Loss]:
    """The losses of reported outages. Each revision's figures hold from its receipt on, the first
    one's from the beginning; what one says is restored is restored from its receipt on."""
    losses = []
    for outage in outages:
        if outage["planned"]:
            continue
        for revision, start, end in _revisions(outage, min(outage["started_at"], now)):
            for part in revision["split"]:
                restored = part.get("restored_load_kw") or 0
                common = (part["adcode"], outage["main_grid"])
                kept = part["load_shed_kw"] - restored
                losses.append(Loss(*common, kept, part["customers_out"], start, end))
                if restored and start < revision["received_at"]:
                    told = revision["received_at"]
                    losses.append(Loss(*common, restored, 0, start, min(told, end or told)))
    return losses


def _revisions(
    outage: Mapping[str, Any], begin: datetime
) -> Iterator[tuple[dict[str, Any], datetime, datetime | None]]:
    """Each revision with the hours it holds within those of the outage, which begin at `begin`."""
    over = outage["restored_at"]
    for one in outage["revisions"]:
        start = begin if one["lowest"] else max(begin, one["received_at"])
        end = min((t for t in (one["until"], over) if t is not None), default=None)
        if end is None or end > start:
            yield one, start, end


def inside_areas(
    connection: Connection, revisions: Sequence[Mapping[str, Any]], in_force: Mapping[str, Any]
) -> dict[tuple[str, int], set[Member]]:
    """(outage_id, revision) → the versions of supply facilities that stand inside its area: one
    that was moved is inside only where it stood. `in_force`: as above."""
    members: dict[tuple[str, int], set[Member]] = {}
    if not revisions:
        return members
    inside = connection.execute(
        text(_INSIDE),
        {
            **in_force,
            "ids": [one["outage_id"] for one in revisions],
            "revisions": [one["revision"] for one in revisions],
        },
    )
    for places, facility_ids, versions in inside:
        contained: set[Member] = set(zip(facility_ids, versions, strict=True))
        for place in places:
            one = revisions[place - 1]
            members[one["outage_id"], one["revision"]] = contained
    return members


def covered_hours(
    outages: Sequence[Mapping[str, Any]],
    members: Mapping[tuple[str, int], set[Member]],
    now: datetime,
) -> dict[Member, list[Interval]]:
    """Facilities that a reported outage names or contains (`members`), with the hours it does."""
    covered: dict[Member, list[Interval]] = defaultdict(list)
    for outage in outages:
        begin = outage["started_at"] if outage["planned"] else min(outage["started_at"], now)
        for one, start, end in _revisions(outage, begin):
            named: set[Member] = {(facility_id, None) for facility_id in one["facility_ids"]}
            for member in named | members.get((one["outage_id"], one["revision"]), set()):
                covered[member].append((start, end))
    return covered


def hours_of(covered: Mapping[Member, Sequence[Interval]], version: Any) -> list[Interval]:
    """The hours in which a version of a facility counts only through outages."""
    named = covered.get((version.facility_id, None), ())
    return [*named, *covered.get((version.facility_id, version.version), ())]
