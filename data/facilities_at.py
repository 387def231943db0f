"""The facilities in force at a moment of knowledge, each with the state it was known to be in.

For the present this is the current tables; for the past the versions in force then, each in the
state of `data.facility_states` (docs/meanings.md, "Time"). Row-level security applies: only what
the transaction's scope lets through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import shapely
from sqlalchemy import Connection, text

from data.database import received_at, sequence_at
from data.facility_columns import KINDS
from data.facility_states import states_at
from data.situation import Moment, moment_at
from geo.errors import Fault, InvalidInput

_COLUMNS = (
    "f.pk, f.facility_id, f.kind, f.operator, f.placement_id, f.main_grid, f.load_kw,"
    " f.customers, f.feeds_from, f.battery_hours, f.attributes, f.geom"
)
_NOW = f"""
WITH standing AS NOT MATERIALIZED (
    SELECT {_COLUMNS}, s.state, s.group_id
    FROM facility f JOIN facility_state s ON s.facility_pk = f.pk
    WHERE s.counted AND ({{where}})
)
"""
#: What was loaded later and counts from earlier on is in force from then on; anything else from the
#: change that brought it. A past row that ends when its batch begins is one that was retired.
_PAST = f"""
WITH load AS MATERIALIZED (
    SELECT h.batch_id, h.sequence, b.opened_at FROM change h JOIN batch b ON b.id = h.batch_id
    WHERE h.kind = 'facilities'
), every AS (
    SELECT {_COLUMNS}, f.batch_id, f.valid_from,
           NULL::bigint AS replaced_by, NULL::timestamptz AS valid_to
    FROM facility f WHERE f.retired_at IS NULL AND ({{where}})
    UNION ALL
    SELECT {_COLUMNS}, f.batch_id, f.valid_from, f.replaced_by, f.valid_to
    FROM facility_past f WHERE {{where}}
), standing AS NOT MATERIALIZED (
    SELECT f.*, (SELECT enum_range(NULL::status_state))[1 +
        (get_byte(CAST(:states AS bytea), f.pk / 4) >> (2 * (f.pk % 4)) & 3)] AS state
    FROM every f JOIN load b USING (batch_id) LEFT JOIN load r ON r.batch_id = f.replaced_by
    WHERE CASE WHEN f.valid_from < b.opened_at THEN f.valid_from <= :at
               ELSE b.sequence <= :sequence END
      AND (f.replaced_by IS NULL OR (r.sequence > :sequence AND f.valid_to > b.opened_at))
)
"""
#: District and unit of each in a division version: join to `standing`.
PLACED = (
    " LEFT JOIN placement_division d"
    " ON d.placement_id = standing.placement_id AND d.version_id = :version"
)


def moment_asked(connection: Connection, at: datetime | None) -> Moment:
    """The moment a question is about: all that this snapshot holds, or what was known at `at`."""
    now = connection.execute(text("SELECT now()")).scalar_one()
    if at is not None and at < now:
        return moment_at(connection, at)
    sequence = sequence_at(connection, None)
    return Moment(sequence, received_at(connection, sequence) or now, None, now, folded=False)


class FacilitiesAt:
    """The facilities of one moment on one connection, which must still see the whole city when
    this is made; what is selected later is what the scope of then lets through."""

    def __init__(self, connection: Connection, moment: Moment) -> None:
        self.moment = moment
        self._connection = connection
        self._known: dict[str, Any] = {}
        if moment.at is not None:
            newest = text("SELECT coalesce(max(pk), -1) FROM facility")
            pks = int(connection.execute(newest).scalar_one()) + 1
            states = states_at(connection, moment.sequence).packed(pks)
            self._known = {"at": moment.at, "sequence": moment.sequence, "states": states}

    def select(
        self, select: str, where: str, values: Mapping[str, Any] | None = None
    ) -> Sequence[Any]:
        """Rows of `select … FROM standing` over the facilities `f` that satisfy `where`.

        `standing`: pk, facility_id, kind, operator, placement_id, main_grid, load_kw, customers,
        feeds_from, battery_hours, attributes, geom, state; now also group_id. `select` and `where`
        are this package's own SQL; what comes from outside goes in `values`.
        """
        standing = (_PAST if self._known else _NOW).format(where=where)
        values = {**self._known, **(values or {})}
        return self._connection.execute(text(standing + select), values).all()

    def covered_supply(
        self, version_id: int, outages: Sequence[Mapping[str, Any]], kinds: Sequence[str]
    ) -> Sequence[Any]:
        """Facilities of `kinds` that an open outage names or contains, as in `data.power`.

        `outages`: with `open`, `facility_ids` and `geometry` (shapely, WGS-84, or None). Rows: pk,
        facility_id, operator, state, main_grid, load_kw, customers, adcode, lon, lat.
        """
        current = [o for o in outages if o["open"]]
        if not current or not kinds:
            return []
        shapes = [o["geometry"] for o in current if o["geometry"] is not None]
        areas = {
            shapely.to_wkb(shapely.set_srid(s, 4326), hex=True, include_srid=True)
            for s in shapes
            if shapely.get_dimensions(s) == 2
        }
        return self.select(
            "SELECT pk, standing.facility_id, standing.operator, CAST(state AS text) AS state,"
            " main_grid, load_kw, customers, d.adcode, ST_X(geom) AS lon, ST_Y(geom) AS lat"
            f" FROM standing {PLACED}",
            "f.kind = ANY (:kinds) AND (f.facility_id = ANY (:named) OR EXISTS"
            " (SELECT 1 FROM unnest(CAST(:areas AS geometry[])) AS a(geom)"
            " WHERE a.geom && f.geom AND ST_Intersects(a.geom, f.geom)))",
            {
                "kinds": list(kinds),
                "named": sorted({one for o in current for one in o["facility_ids"]}),
                "areas": f"{{{':'.join(sorted(areas))}}}",  # of geometries, that is their comma
                "version": version_id,
            },
        )


def refuse_strange(
    connection: Connection, kind: str | None, operator: str | None, row: int | None = None
) -> None:
    """Raises InvalidInput for a kind or operator that no facility has: a misspelt one would select
    nothing, which reads like good news. `row`: of the change that names it, where there are many.
    """
    faults = []
    if kind is not None and kind not in KINDS:
        kinds = set(connection.execute(text("SELECT DISTINCT kind FROM counter_group")).scalars())
        if kind not in kinds:
            there = ", ".join(sorted(kinds | KINDS.keys()))
            faults.append(Fault(f"no facility is of this kind; there are {there}", row, "kind"))
    if operator is not None:
        known = text("SELECT EXISTS (SELECT 1 FROM counter_group WHERE operator = :operator)")
        if not connection.execute(known, {"operator": operator}).scalar_one():
            faults.append(Fault("no facility is of this operator", row, "operator"))
    if faults:
        raise InvalidInput(faults)
