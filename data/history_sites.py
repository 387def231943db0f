"""Along a series, what only the single sites tell: why those that are down are down, and how old
the newest word of each operator from each district is.

Read once at the first point, then carried from one to the next. Which event of a site counts is as
everywhere (docs/meanings.md, "Time").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from data.causes import UNKNOWN, cause_of
from data.history_points import IN_SPAN, POINT_OF, Point, Steps

_KINDS = "(CAST(:kinds AS text[]) IS NULL OR f.kind = ANY (:kinds))"
#: Down now, and set so by what the first point knew already.
_DOWN = f"""
SELECT s.facility_pk AS pk, coalesce(l.cause, w.cause) AS cause
FROM facility_state s JOIN facility f ON f.pk = s.facility_pk
LEFT JOIN LATERAL (
    SELECT cause FROM status_log l WHERE l.facility_pk = s.facility_pk
      AND l.observed_at = s.observed_at AND l.event_id = s.event_id LIMIT 1
) l ON true
LEFT JOIN LATERAL (
    SELECT cause FROM status_log w WHERE w.facility_pk IS NULL AND w.facility_id = f.facility_id
      AND w.observed_at = s.observed_at AND w.event_id = s.event_id LIMIT 1
) w ON true
WHERE s.state = 'down' AND {_KINDS} AND NOT EXISTS
    (SELECT 1 FROM change h WHERE h.batch_id = s.batch_id AND h.sequence > :first)
"""
#: Of those whose state was set later, what was known at the first point and what came since. An
#: event that waited for its facility counts from the import on.
_EVENTS = f"""
WITH asked AS (
    SELECT f.pk, f.facility_id, f.operator, f.state_at_import
    FROM change h JOIN facility_state s USING (batch_id) JOIN facility f ON f.pk = s.facility_pk
    WHERE h.sequence > :first AND {_KINDS}
), event AS (
    SELECT a.pk, h.sequence, l.observed_at, l.state, l.event_id, l.cause
    FROM asked a JOIN status_log l ON l.facility_pk = a.pk JOIN change h USING (batch_id)
    WHERE NOT l.future AND h.sequence <= :last
    UNION ALL
    SELECT a.pk, greatest(h.sequence, i.sequence), l.observed_at, l.state, l.event_id, l.cause
    FROM status_log l JOIN asked a USING (facility_id)
    JOIN batch b ON b.id = l.batch_id JOIN change h ON h.batch_id = l.batch_id
    CROSS JOIN LATERAL (
        SELECT c.sequence FROM change c WHERE c.batch_id IN (
            SELECT batch_id FROM facility WHERE pk = a.pk AND version = 1
            UNION ALL SELECT batch_id FROM facility_past WHERE pk = a.pk AND version = 1)
    ) i
    WHERE l.facility_pk IS NULL AND NOT l.future AND h.sequence <= :last AND i.sequence <= :last
      AND (b.request -> 'operators') ?| ARRAY['*', a.operator]
), first AS (
    SELECT DISTINCT ON (pk) * FROM event WHERE sequence <= :first
    ORDER BY pk, observed_at DESC, state DESC, event_id DESC
), ever_down AS (
    SELECT pk FROM event WHERE state = 'down'
    UNION SELECT pk FROM asked WHERE state_at_import = 'down'
), every AS (
    SELECT pk, 0 AS sequence, NULL::timestamptz AS observed_at, state_at_import AS state,
           '' AS event_id, NULL AS cause FROM asked
    UNION ALL SELECT * FROM first
    UNION ALL SELECT * FROM event WHERE sequence > :first
)
SELECT * FROM every JOIN ever_down USING (pk)
ORDER BY sequence
"""
#: When each version of these was in force, and where: what was loaded as in force from earlier on
#: from that instant, anything else from its change; until the change that replaced it.
_VERSIONS = """
WITH every AS (
    SELECT f.pk, f.kind, f.operator, f.placement_id, f.valid_from, f.batch_id,
           NULL::bigint AS replaced_by, NULL::timestamptz AS valid_to
    FROM facility f WHERE f.pk = ANY (:pks) AND f.retired_at IS NULL
    UNION ALL
    SELECT pk, kind, operator, placement_id, valid_from, batch_id, replaced_by, valid_to
    FROM facility_past WHERE pk = ANY (:pks)
)
SELECT e.pk, e.kind, e.operator, d.adcode,
       CASE WHEN e.valid_from < b.opened_at THEN e.valid_from END AS begin_at,
       h.sequence AS begin, r.sequence AS end
FROM every e JOIN batch b ON b.id = e.batch_id JOIN change h ON h.batch_id = e.batch_id
LEFT JOIN change r ON r.batch_id = e.replaced_by
LEFT JOIN placement_division d ON d.placement_id = e.placement_id AND d.version_id = :version
WHERE e.replaced_by IS NULL OR (r.sequence > :first AND e.valid_to > b.opened_at)
"""
_GRAVITY = {"up": 0, "unknown": 1, "degraded": 2, "down": 3}

#: operator, kind, adcode.
Where = tuple[str, str, str | None]
#: At a point, the sites down by cause.
CausesOfSites = dict[Where, dict[str, int]]
#: At a point, the newest observation by operator and adcode.
NewestOfSites = dict[tuple[str, str | None], datetime]


def _asked(steps: Steps, first: Point, kinds: Sequence[str] | None) -> dict[str, Any]:
    """For SQL: the span, the facilities' kinds (null: all) and by which divisions they lie."""
    return {
        **steps.span,
        "kinds": None if kinds is None else list(kinds),
        "version": first.version_id,
    }


@dataclass
class _Site:
    """One facility: the event that counts, and where it is in force."""

    event: tuple[float, int, str] = (float("-inf"), -1, "")
    state: str = "up"
    cause: str = UNKNOWN
    versions: list[Any] = field(default_factory=list)
    counted: list[tuple[Where, str]] = field(default_factory=list)


class CauseHistory:
    """Sites that are down by cause, per operator, kind and district."""

    def __init__(
        self, connection: Connection, own: Sequence[Point], kinds: Sequence[str] | None
    ) -> None:
        self._points, steps = own, Steps(own)
        key = _asked(steps, own[0], kinds)
        self._sites: dict[int, _Site] = {}
        self._coming: dict[int, list[Any]] = defaultdict(list)
        self._turning: dict[int, set[int]] = defaultdict(set)
        for pk, cause in connection.execute(text(_DOWN), key):
            self._sites[pk] = _Site(state="down", cause=cause_of(cause))
        for one in connection.execute(text(_EVENTS), key):
            self._sites.setdefault(one.pk, _Site())
            self._coming[steps.knowing(one.sequence)].append(one)
        for one in connection.execute(text(_VERSIONS), {**key, "pks": list(self._sites)}):
            self._sites[one.pk].versions.append(one)
            begins = steps.knowing(one.begin)
            if one.begin_at is not None:
                begins = steps.reaching(one.begin_at)
            self._turning[begins].add(one.pk)
            if one.end is not None:
                self._turning[steps.knowing(one.end)].add(one.pk)
        self._found: CausesOfSites = defaultdict(lambda: defaultdict(int))

    def walk(self) -> Iterator[CausesOfSites]:
        """{(operator, kind, adcode): {cause: sites down}} at each point, in order; once."""
        for number, point in enumerate(self._points):
            moved = self._turning.pop(number, set())
            for one in self._coming.pop(number, ()):
                self._tell(one)
                moved.add(one.pk)
            for pk in moved:
                self._count(self._sites[pk], point)
            yield self._found

    def _tell(self, one: Any) -> None:
        site = self._sites[one.pk]
        at = float("-inf") if one.observed_at is None else one.observed_at.timestamp()
        event = (at, _GRAVITY[one.state], one.event_id)
        if event > site.event or one.observed_at is None:
            site.event, site.state, site.cause = event, one.state, cause_of(one.cause)

    def _count(self, site: _Site, point: Point) -> None:
        for where, cause in site.counted:
            self._found[where][cause] -= 1
        site.counted = []
        for one in site.versions if site.state == "down" else ():
            begun = (
                one.begin <= point.sequence if one.begin_at is None else one.begin_at <= point.at
            )
            if begun and (one.end is None or one.end > point.sequence):
                where = (one.operator, one.kind, one.adcode)
                self._found[where][site.cause] += 1
                site.counted.append((where, site.cause))


_OBSERVED = f"""
SELECT f.operator, d.adcode, max(s.observed_at) AS observed_at
FROM facility_state s JOIN facility f ON f.pk = s.facility_pk
LEFT JOIN placement_division d ON d.placement_id = f.placement_id AND d.version_id = :version
WHERE s.observed_at > '-infinity' AND {_KINDS} AND NOT EXISTS
    (SELECT 1 FROM change h WHERE h.batch_id = s.batch_id AND h.sequence > :first)
GROUP BY 1, 2
UNION ALL
SELECT f.operator, d.adcode, max(l.observed_at)
FROM change h JOIN facility_state s USING (batch_id) JOIN facility f ON f.pk = s.facility_pk
LEFT JOIN placement_division d ON d.placement_id = f.placement_id AND d.version_id = :version
CROSS JOIN LATERAL (
    SELECT l.observed_at FROM status_log l JOIN change k ON k.batch_id = l.batch_id
    WHERE l.facility_pk = f.pk AND NOT l.future AND k.sequence <= :first
    ORDER BY l.observed_at DESC LIMIT 1
) l
WHERE h.sequence > :first AND {_KINDS}
GROUP BY 1, 2
"""
_COMING = f"""
SELECT {POINT_OF} AS point, f.operator, d.adcode, max(l.observed_at) AS observed_at
FROM change h JOIN status_log l USING (batch_id) JOIN facility f ON f.pk = l.facility_pk
LEFT JOIN placement_division d ON d.placement_id = f.placement_id AND d.version_id = :version
WHERE {IN_SPAN} AND NOT l.future AND {_KINDS}
GROUP BY 1, 2, 3
"""


class ReportHistory:
    """The newest time that operators' reports of single sites speak of, per district."""

    def __init__(
        self, connection: Connection, own: Sequence[Point], kinds: Sequence[str] | None
    ) -> None:
        self._points = own
        key = _asked(Steps(own), own[0], kinds)
        self._newest: NewestOfSites = {}
        for one in connection.execute(text(_OBSERVED), key):
            self._hear(one)
        self._coming: dict[int, list[Any]] = defaultdict(list)
        for one in connection.execute(text(_COMING), key):
            self._coming[one.point].append(one)

    def walk(self) -> Iterator[NewestOfSites]:
        """{(operator, adcode): newest observation} at each point, in order; once."""
        for number in range(len(self._points)):
            for one in self._coming.pop(number, ()):
                self._hear(one)
            yield self._newest

    def _hear(self, one: Any) -> None:
        key = (one.operator, one.adcode)
        self._newest[key] = max(one.observed_at, self._newest.get(key, one.observed_at))
