"""The facilities in force at a moment of knowledge, each with the state it was known to be in.

For the present this is the current tables; for the past the versions in force then, and where a
state was set later, what the log had said by then (docs/meanings.md, "Time"; the same rules as
`data.down_facilities` and `data.power`). Row-level security applies: only what the transaction's
scope lets through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import shapely
from sqlalchemy import Connection, text

from data.database import sequence_at
from data.situation import Moment, moment_at

_COLUMNS = (
    "f.pk, f.facility_id, f.kind, f.operator, f.placement_id, f.main_grid, f.load_kw,"
    " f.customers, f.feeds_from, f.battery_hours, f.attributes, f.geom, f.state_at_import,"
    " f.valid_from, f.batch_id"
)
_NOW = """
WITH standing AS NOT MATERIALIZED (
    SELECT f.pk, f.facility_id, f.kind, f.operator, f.placement_id, f.main_grid, f.load_kw,
           f.customers, f.feeds_from, f.battery_hours, f.attributes, f.geom, s.state, s.group_id
    FROM facility f JOIN facility_state s ON s.facility_pk = f.pk
    WHERE s.counted AND ({where})
)
"""
#: What was loaded later and counts from earlier on is in force from then on; anything else from the
#: change that brought it. A past row that ends when its batch begins is one that was retired.
_PAST = f"""
WITH every AS (
    SELECT {_COLUMNS}, NULL::bigint AS replaced_by, NULL::timestamptz AS valid_to
    FROM facility f WHERE f.retired_at IS NULL AND ({{where}})
    UNION ALL
    SELECT {_COLUMNS}, f.replaced_by, f.valid_to FROM facility_past f WHERE {{where}}
), in_force AS MATERIALIZED (
    SELECT e.* FROM every e JOIN batch b ON b.id = e.batch_id
    LEFT JOIN change h ON h.batch_id = e.batch_id
    LEFT JOIN change r ON r.batch_id = e.replaced_by
    WHERE CASE WHEN e.valid_from < b.opened_at THEN e.valid_from <= :at
               ELSE h.sequence <= :sequence END
      AND (e.replaced_by IS NULL OR (r.sequence > :sequence AND e.valid_to > b.opened_at))
), asked AS MATERIALIZED (
    SELECT e.pk, e.facility_id, e.operator FROM in_force e
    JOIN facility_state s ON s.facility_pk = e.pk
    WHERE EXISTS (SELECT 1 FROM change h
                  WHERE h.batch_id = s.batch_id AND h.sequence > :sequence)
), event AS (
    SELECT a.pk, l.observed_at, l.state, l.event_id, l.batch_id
    FROM asked a JOIN status_log l ON l.facility_pk = a.pk WHERE NOT l.future
    UNION ALL
    SELECT a.pk, l.observed_at, l.state, l.event_id, l.batch_id
    FROM asked a JOIN status_log l ON l.facility_id = a.facility_id AND l.facility_pk IS NULL
    JOIN batch b ON b.id = l.batch_id
    WHERE NOT l.future AND (b.request -> 'operators') ?| ARRAY['*', a.operator] AND EXISTS
        (SELECT 1 FROM change h WHERE h.sequence <= :sequence AND h.batch_id IN (
            SELECT batch_id FROM facility WHERE pk = a.pk AND version = 1
            UNION ALL SELECT batch_id FROM facility_past WHERE pk = a.pk AND version = 1))
), winner AS MATERIALIZED (
    SELECT DISTINCT ON (e.pk) e.pk, e.state
    FROM event e JOIN change h USING (batch_id) WHERE h.sequence <= :sequence
    ORDER BY e.pk, e.observed_at DESC, e.state DESC, e.event_id DESC
), standing AS NOT MATERIALIZED (
    SELECT e.pk, e.facility_id, e.kind, e.operator, e.placement_id, e.main_grid, e.load_kw,
           e.customers, e.feeds_from, e.battery_hours, e.attributes, e.geom,
           CASE WHEN a.pk IS NULL THEN s.state ELSE coalesce(w.state, e.state_at_import) END
               AS state
    FROM in_force e JOIN facility_state s ON s.facility_pk = e.pk
    LEFT JOIN asked a ON a.pk = e.pk LEFT JOIN winner w ON w.pk = e.pk
)
"""


def moment_asked(connection: Connection, at: datetime | None) -> Moment:
    """The moment a question is about: all that this snapshot holds, or what was known at `at`."""
    now = connection.execute(text("SELECT now()")).scalar_one()
    if at is not None and at < now:
        return moment_at(connection, at)
    sequence = sequence_at(connection, None)
    received = connection.execute(
        text("SELECT received_at FROM change WHERE sequence = :n"), {"n": sequence}
    ).scalar()
    return Moment(sequence, received or now, None, now, folded=False)


def standing(
    connection: Connection,
    moment: Moment,
    select: str,
    where: str,
    values: Mapping[str, Any] | None = None,
) -> Sequence[Any]:
    """Rows of `select … FROM standing` over the facilities `f` that satisfy `where`.

    `standing`: pk, facility_id, kind, operator, placement_id, main_grid, load_kw, customers,
    feeds_from, battery_hours, attributes, geom, state; now also group_id. `select` and `where` are
    this package's own SQL; what comes from outside goes in `values`.
    """
    past = moment.at is not None
    own = {"at": moment.at, "sequence": moment.sequence} if past else {}
    cte = (_PAST if past else _NOW).format(where=where)
    return connection.execute(text(cte + select), {**own, **(values or {})}).all()


#: District and unit of each in a division version: join to `standing`.
PLACED = (
    " LEFT JOIN placement_division d"
    " ON d.placement_id = standing.placement_id AND d.version_id = :version"
)


def covered_supply(
    connection: Connection,
    moment: Moment,
    version_id: int,
    outages: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
) -> Sequence[Any]:
    """Facilities of `kinds` that an open outage names or contains, as in `data.power`.

    `outages`: with `open`, `facility_ids` and `geometry` (shapely, WGS-84, or None). Rows: pk,
    facility_id, operator, state, main_grid, load_kw, customers, adcode, lon, lat.
    """
    current = [o for o in outages if o["open"]]
    if not current or not kinds:
        return []
    shapes = [o["geometry"] for o in current if o["geometry"] is not None]
    areas = [s for s in shapes if shapely.get_dimensions(s) == 2]
    return standing(
        connection,
        moment,
        "SELECT pk, standing.facility_id, standing.operator, CAST(state AS text) AS state,"
        " main_grid, load_kw, customers, d.adcode, ST_X(geom) AS lon, ST_Y(geom) AS lat"
        f" FROM standing {PLACED}",
        "f.kind = ANY (:kinds) AND (f.facility_id = ANY (:named) OR EXISTS"
        " (SELECT 1 FROM unnest(CAST(:areas AS text[])) AS a(h)"
        " WHERE ST_Intersects(f.geom, ST_SetSRID(CAST(a.h AS geometry), 4326))))",
        {
            "kinds": list(kinds),
            "named": sorted({one for o in current for one in o["facility_ids"]}),
            "areas": [shapely.to_wkb(one, hex=True) for one in areas],
            "version": version_id,
        },
    )
