"""The facilities in force at a moment of knowledge, each with the state it was known to be in.

For the present this is the current tables; for the past the versions in force then, and where a
state was set later, what the log had said by then (docs/meanings.md, "Time"; the same rules as
`data.facility_states` and `data.power`). Row-level security applies: only what the transaction's
scope lets through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import shapely
from sqlalchemy import Connection, text

from data.database import received_at, sequence_at
from data.facility_columns import KINDS
from data.facility_states import LOADED, NEAREST, STATE_BY_LOG
from data.situation import Moment, moment_at
from geo.errors import Fault, InvalidInput

_COLUMNS = (
    "f.pk, f.facility_id, f.kind, f.operator, f.placement_id, f.main_grid, f.load_kw,"
    " f.customers, f.feeds_from, f.battery_hours, f.attributes, f.geom, f.state_at_import,"
    " f.valid_from, f.batch_id, f.version"
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
), in_force AS NOT MATERIALIZED (
    SELECT e.* FROM every e JOIN batch b ON b.id = e.batch_id
    LEFT JOIN change h ON h.batch_id = e.batch_id
    LEFT JOIN change r ON r.batch_id = e.replaced_by
    WHERE CASE WHEN e.valid_from < b.opened_at THEN e.valid_from <= :at
               ELSE h.sequence <= :sequence END
      AND (e.replaced_by IS NULL OR (r.sequence > :sequence AND e.valid_to > b.opened_at))
), known AS MATERIALIZED (
    SELECT f.*, s.state AS state_now, {LOADED} AS loaded, EXISTS
        (SELECT 1 FROM change h WHERE h.batch_id = s.batch_id AND h.sequence > :sequence) AS later
    FROM in_force f JOIN facility_state s ON s.facility_pk = f.pk
), checkpoint AS MATERIALIZED ({NEAREST}
), touched AS MATERIALIZED (
    SELECT DISTINCT l.facility_pk AS pk FROM change h JOIN status_log l USING (batch_id)
    WHERE h.sequence > (SELECT sequence FROM checkpoint) AND h.sequence <= :sequence
      AND l.facility_pk IS NOT NULL AND NOT l.future
), winner AS MATERIALIZED (
    SELECT a.pk, coalesce(w.state, a.state_at_import) AS state
    FROM known a LEFT JOIN LATERAL ({STATE_BY_LOG}) w ON true
    WHERE a.later AND (a.pk IN (SELECT pk FROM touched) OR NOT EXISTS (SELECT FROM checkpoint))
), standing AS NOT MATERIALIZED (
    SELECT e.pk, e.facility_id, e.kind, e.operator, e.placement_id, e.main_grid, e.load_kw,
           e.customers, e.feeds_from, e.battery_hours, e.attributes, e.geom,
           CASE WHEN NOT e.later THEN e.state_now WHEN w.pk IS NOT NULL THEN w.state
           WHEN e.pk >= (SELECT pks FROM checkpoint) THEN e.state_at_import
           ELSE (enum_range(NULL::status_state))[1 +
               (get_byte((SELECT states FROM checkpoint), e.pk / 4) >> (2 * (e.pk % 4)) & 3)]
           END AS state
    FROM known e LEFT JOIN winner w ON w.pk = e.pk
)
"""


def moment_asked(connection: Connection, at: datetime | None) -> Moment:
    """The moment a question is about: all that this snapshot holds, or what was known at `at`."""
    now = connection.execute(text("SELECT now()")).scalar_one()
    if at is not None and at < now:
        return moment_at(connection, at)
    sequence = sequence_at(connection, None)
    return Moment(sequence, received_at(connection, sequence) or now, None, now, folded=False)


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


def refuse_strange(connection: Connection, kind: str | None, operator: str | None) -> None:
    """Raises InvalidInput for a kind or operator that no facility has: a misspelt one would select
    nothing, which reads like good news."""
    faults = []
    if kind is not None and kind not in KINDS:
        kinds = set(connection.execute(text("SELECT DISTINCT kind FROM counter_group")).scalars())
        if kind not in kinds:
            there = ", ".join(sorted(kinds | KINDS.keys()))
            faults.append(Fault(f"no facility is of this kind; there are {there}", None, "kind"))
    if operator is not None:
        known = text("SELECT EXISTS (SELECT 1 FROM counter_group WHERE operator = :operator)")
        if not connection.execute(known, {"operator": operator}).scalar_one():
            faults.append(Fault("no facility is of this operator", None, "operator"))
    if faults:
        raise InvalidInput(faults)
