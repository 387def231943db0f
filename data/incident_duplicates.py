"""Which incidents are probably the same accident, reported twice; a person decides.

Two are, if they are of one plan and kind, near in place and time (`IncidentSettings`), or name the
same work order of the hotline; unless somebody has said that they are two (`mark_distinct`).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from sqlalchemy import Connection, text

from data.accounts import Account
from data.settings import Settings

LISTED_MAX = 50


class IncidentSettings(Settings):
    """When two incidents of one plan and kind are probably the same one, reported twice.

    `YUTU_INCIDENT_DUPLICATE_RADIUS_M` (metres), `YUTU_INCIDENT_DUPLICATE_HOURS`.
    """

    model_config = SettingsConfigDict(env_prefix="YUTU_INCIDENT_")

    duplicate_radius_m: float = Field(500.0, ge=0, le=50_000)
    duplicate_hours: float = Field(2.0, ge=0, le=168)


_LISTABLE = """
 i.incident_id <> me.incident_id
 AND (:everywhere OR i.adcode = ANY (CAST(:districts AS text[])) OR i.account = :account)
 AND (SELECT state FROM incident_revision n WHERE n.incident_id = i.incident_id
   ORDER BY version DESC LIMIT 1) NOT IN ('rejected', 'duplicate')
 AND NOT EXISTS (SELECT 1 FROM incident_distinct x
   WHERE x.incident_id = least(i.incident_id, me.incident_id)
   AND x.other = greatest(i.incident_id, me.incident_id))
"""
#: The index walks outwards from the place within the box, so that a thousand reports of one spot
#: cost no more than the few that are listed.
_NEAR = f"""
SELECT i.incident_id, ST_Distance(i.geom::geography, me.geom::geography) AS apart_m
 FROM incident i WHERE {_LISTABLE}
 AND i.geom && me.box
 AND ST_DWithin(i.geom::geography, me.geom::geography, :radius_m)
 AND i.plan = me.plan AND i.kind = me.kind
 AND i.occurred_at BETWEEN me.occurred_at - make_interval(secs => :seconds)
 AND me.occurred_at + make_interval(secs => :seconds)
 ORDER BY i.geom <-> me.geom LIMIT {LISTED_MAX}
"""
_SAME_ORDER = f"""
SELECT i.incident_id, ST_Distance(i.geom::geography, me.geom::geography) AS apart_m
 FROM hotline_order a JOIN hotline_order b USING (order_number)
 JOIN incident i ON i.incident_id = b.incident_id
 WHERE a.incident_id = me.incident_id AND {_LISTABLE}
 ORDER BY 2, 1 LIMIT {LISTED_MAX}
"""
#: The box in degrees holds the circle in metres. Under row-level security the index takes a
#: finished box, not one computed from a column (SECURITY.md).
_MINE = """
SELECT incident_id, plan, kind, occurred_at, geom, ST_Expand(geom,
   least(360, :radius_m / (110000 * greatest(0.0001, cos(radians(ST_Y(geom)))))),
   :radius_m / 110000) AS box
 FROM incident WHERE incident_id = ANY (:ids)
"""
#: Before its first statistics the planner takes a table for empty and sorts whatever lies in the
#: box: two minutes instead of five seconds for 5,000 reports of one spot.
_WALK_OUTWARDS = text("SET LOCAL enable_sort = off")
_AS_BEFORE = text("SET LOCAL enable_sort = on")
_PROBABLE = text(
    f"WITH me AS MATERIALIZED ({_MINE})"
    " SELECT me.incident_id AS mine, o.incident_id AS other FROM me"
    f" CROSS JOIN LATERAL (SELECT * FROM (({_NEAR}) UNION ({_SAME_ORDER})) n"
    f" ORDER BY apart_m, incident_id LIMIT {LISTED_MAX}) o"
    " ORDER BY me.incident_id, o.apart_m, o.incident_id"
)


def probable_duplicates(
    connection: Connection, ids: Sequence[UUID], account: Account, settings: IncidentSettings
) -> dict[UUID, list[str]]:
    """For each incident, ids the account may see of those that are probably the same accident,
    nearest first and at most LISTED_MAX."""
    found: dict[UUID, list[str]] = {one: [] for one in ids}
    connection.execute(_WALK_OUTWARDS)
    rows = connection.execute(
        _PROBABLE,
        {
            "ids": list(ids),
            "seconds": settings.duplicate_hours * 3600,
            "radius_m": settings.duplicate_radius_m,
            "everywhere": account.city_wide,
            "districts": list(account.districts),
            "account": account.username,
        },
    ).all()
    connection.execute(_AS_BEFORE)
    for row in rows:
        found[row.mine].append(str(row.other))
    return found
