"""Everything that stands in a district is placed again after the divisions changed.

docs/architecture.md, "Divisions change". Facilities, the versions they had before included, get
their placement in every division version; counters follow from the records; outages are divided
over the new versions; incidents get the district and unit in force now. A placement keeps its id
where most of its facilities stay together, so that only those that part from it are written.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pandas as pd
import shapely
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from data.divisions import Placer, placement_part
from data.outage_feature import ReportedOutage
from data.outage_split import facilities_of, split_everywhere
from data.patience import give_time
from data.recompute import read_frame, rebuild_counters

#: How long to wait for those who read divisions while theirs are replaced, in seconds.
READERS_WAIT_S = 60


@dataclass(frozen=True)
class Replaced:
    """What was placed anew: facilities (versions before included) and incidents whose place
    changed, outages that were divided over a new version; `deltas` of the counters made again."""

    facilities: int
    incidents: int
    outages: int
    deltas: int


def place_everything_again(engine: Engine, connection: Connection) -> Replaced:
    """Place all that is stored by the divisions this transaction sees; needs the owner's rights.

    The caller holds the inventory lock and publishes a change before it commits. Nobody may read
    the divisions from the moment outages are divided until then (seconds): an outage that was
    stored meanwhile would lack a version.
    """
    give_time(connection)
    moved = _place_facilities(connection)
    deltas = rebuild_counters(connection)
    _drop_unused_placements(connection)
    connection.execute(text(f"SET LOCAL lock_timeout = '{READERS_WAIT_S}s'"))
    connection.execute(text("LOCK TABLE division_version IN ACCESS EXCLUSIVE MODE"))
    return Replaced(
        facilities=moved,
        incidents=_place_incidents(connection),
        outages=_divide_outages(engine, connection),
        deltas=deltas,
    )


# --- facilities -------------------------------------------------------------------------------

_FACILITIES = """
SELECT pk, version, 0 AS past, ST_X(geom) AS lon, ST_Y(geom) AS lat, unit, placement_id, adcode
FROM facility
UNION ALL
SELECT pk, version, 1, ST_X(geom), ST_Y(geom), unit, placement_id, adcode FROM facility_past
"""


def _place_facilities(connection: Connection) -> int:
    """Give every facility and past version its placement and district; returns how many changed."""
    types: dict[str, Any] = {"lon": "float64", "lat": "float64", "unit": object, "adcode": object}
    found = read_frame(connection, _FACILITIES, **types)
    placer = Placer(connection)
    combined, keys, now = _placed(placer, found)
    stored = found["placement_id"].to_numpy()
    ids = _keep_ids(stored, combined, len(keys))
    _forget_placements(connection)
    ids = _store_placements(connection, placer, keys, ids)
    placement = ids[combined]
    was = found["adcode"].where(found["adcode"].notna(), None).to_numpy(object)
    changed = (placement != stored) | (was != now)
    moves = found[["pk", "version", "past"]].assign(placement_id=placement, adcode=now)[changed]
    _store_moves(connection, moves)
    return len(moves)


def _placed(
    placer: Placer, found: pd.DataFrame
) -> tuple[NDArray[np.int64], list[dict[int, tuple[str | None, str | None]]], Any]:
    """Per row the number of its combination; per combination {version id: (adcode, unit)}; per row
    the adcode in the version in force now."""
    lon, lat = found["lon"].to_numpy(), found["lat"].to_numpy()
    declared = found["unit"].where(found["unit"].notna(), None).to_numpy(object)
    combined = np.zeros(len(found), np.int64)
    places: dict[int, tuple[Any, Any]] = {}
    for version in placer.versions:
        adcode, unit = placer.in_version(version.id, lon, lat, declared)
        places[version.id] = (adcode, unit)
        for column in (adcode, unit):
            codes, distinct = pd.factorize(column, use_na_sentinel=False)
            combined = pd.factorize(combined * (len(distinct) + 1) + codes)[0].astype(np.int64)
    _, first = np.unique(combined, return_index=True)
    keys = [
        {version: (adcode[i], unit[i]) for version, (adcode, unit) in places.items()}
        for i in first.tolist()
    ]
    return combined, keys, places[placer.current.id][0]


def _keep_ids(
    stored: NDArray[np.int64], combined: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """The placement id each combination takes over from most of its facilities; 0 for a new one."""
    together = pd.DataFrame({"stored": stored, "combined": combined}).value_counts(sort=False)
    pairs = together.reset_index(name="n").sort_values(
        ["n", "stored", "combined"], ascending=[False, True, True]
    )
    ids = np.zeros(count, np.int64)
    taken: set[int] = set()
    for one, key in pairs[["stored", "combined"]].itertuples(index=False, name=None):
        if one not in taken and not ids[key]:
            ids[key] = one
            taken.add(one)
    return ids


def _forget_placements(connection: Connection) -> None:
    """Free every key, so that no old one stands in the way of a new one."""
    connection.execute(text("DELETE FROM placement_division"))
    connection.execute(text("UPDATE placement SET key = '~' || id"))


def _store_placements(
    connection: Connection,
    placer: Placer,
    keys: list[dict[int, tuple[str | None, str | None]]],
    ids: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Write every combination under its id, or a new one; returns the ids."""
    ids = ids.copy()
    order = [v.id for v in placer.versions]
    rows = []
    for i, places in enumerate(keys):
        key = "".join(placement_part(version, *places[version]) for version in order)
        if ids[i]:
            statement = "UPDATE placement SET key = :key WHERE id = :id"
            connection.execute(text(statement), {"key": key, "id": int(ids[i])})
        else:
            statement = "INSERT INTO placement (key) VALUES (:key) RETURNING id"
            ids[i] = connection.execute(text(statement), {"key": key}).scalar_one()
        rows += [
            {"placement": int(ids[i]), "version": version, "adcode": adcode, "unit": unit}
            for version, (adcode, unit) in places.items()
        ]
    if rows:
        connection.execute(
            text(
                "INSERT INTO placement_division (placement_id, version_id, adcode, unit)"
                " VALUES (:placement, :version, :adcode, :unit)"
            ),
            rows,
        )
    return ids


def _store_moves(connection: Connection, moves: pd.DataFrame) -> None:
    if moves.empty:
        return
    columns = ["pk", "version", "past", "placement_id", "adcode"]
    connection.execute(
        text(
            "CREATE TEMP TABLE moving (pk int, version int, past int, placement_id int,"
            ' adcode text COLLATE "C") ON COMMIT DROP'
        )
    )
    buffer = io.StringIO()
    moves.to_csv(buffer, columns=columns, header=False, index=False)
    cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
    with cursor.copy(f"COPY moving ({', '.join(columns)}) FROM STDIN (FORMAT csv)") as sink:
        sink.write(buffer.getvalue())
    connection.execute(text("ANALYZE moving"))
    for table, past in (("facility", 0), ("facility_past", 1)):
        connection.execute(
            text(
                f"UPDATE {table} f SET placement_id = m.placement_id, adcode = m.adcode"
                " FROM moving m WHERE m.past = :past AND m.pk = f.pk AND m.version = f.version"
            ),
            {"past": past},
        )
    connection.execute(text("DROP TABLE moving"))


def _drop_unused_placements(connection: Connection) -> None:
    """Placements no facility has, now or before; the counters were made again without them."""
    used = "SELECT placement_id FROM facility UNION SELECT placement_id FROM facility_past"
    connection.execute(text(f"DELETE FROM counter_group WHERE placement_id NOT IN ({used})"))
    connection.execute(text(f"DELETE FROM placement WHERE id NOT IN ({used})"))


# --- incidents --------------------------------------------------------------------------------

#: The rule of `geo.assign` in SQL, as when an incident is stored.
_PLACE_INCIDENTS = """
UPDATE incident i SET adcode = p.adcode, unit = p.unit
FROM (
    SELECT o.incident_id, d.adcode, coalesce(z.code, d.adcode) AS unit
    FROM incident o
    CROSS JOIN (SELECT id FROM division_version
        WHERE valid_from <= now() AND (valid_to IS NULL OR valid_to > now())) v
    LEFT JOIN LATERAL (SELECT min(adcode) AS adcode FROM district
        WHERE version_id = v.id AND ST_Covers(geom, o.geom)) d ON true
    LEFT JOIN LATERAL (SELECT min(code) AS code FROM unit
        WHERE version_id = v.id AND kind = 'functional_zone' AND ST_Covers(geom, o.geom)) z ON true
    WHERE o.geom IS NOT NULL
) p
WHERE p.incident_id = i.incident_id
  AND (i.adcode, i.unit) IS DISTINCT FROM (p.adcode, p.unit)
"""


def _place_incidents(connection: Connection) -> int:
    return connection.execute(text(_PLACE_INCIDENTS)).rowcount


# --- outages ----------------------------------------------------------------------------------

_LACKING = """
SELECT o.outage_id, o.revision, o.operator, o.crs, ST_AsBinary(o.geom) AS geom, o.facility_ids,
       o.load_shed_kw, o.customers_out, o.restored_load_kw, o.started_at, o.restored_at,
       o.planned, o.main_grid, o.split, o.adcodes
FROM outage o ORDER BY o.outage_id, o.revision
"""


def _divide_outages(engine: Engine, connection: Connection) -> int:
    """Divide outages over the versions they lack, by the inventory of now; a division that was made
    stands. `adcodes` follows the version in force now. Returns how many rows changed."""
    known = {str(v) for v in connection.execute(text("SELECT id FROM division_version")).scalars()}
    current = str(
        connection.execute(
            text(
                "SELECT id FROM division_version WHERE valid_from <= now()"
                " AND (valid_to IS NULL OR valid_to > now())"
            )
        ).scalar_one()
    )
    changed = []
    for row in connection.execute(text(_LACKING)).all():
        split = {version: parts for version, parts in row.split.items() if version in known}
        if known - split.keys():
            outage = _stored_outage(row)
            again = split_everywhere(engine, connection, outage, facilities_of(connection, outage))
            split = {**again, **split}
        touched = sorted({p["adcode"] for p in split[current] if p["adcode"] is not None})
        if split != row.split or touched != list(row.adcodes):
            changed.append(
                {
                    "id": row.outage_id,
                    "revision": row.revision,
                    "split": orjson.dumps(split).decode(),
                    "adcodes": touched,
                }
            )
    if changed:
        connection.execute(
            text(
                "UPDATE outage SET split = CAST(:split AS jsonb), adcodes = :adcodes"
                " WHERE outage_id = :id AND revision = :revision"
            ),
            changed,
        )
    return len(changed)


def _stored_outage(row: Any) -> ReportedOutage:
    """A stored revision as it was read when it arrived."""
    return ReportedOutage(
        outage_id=row.outage_id,
        revision=row.revision,
        operator=row.operator,
        facility_ids=tuple(row.facility_ids),
        load_shed_kw=row.load_shed_kw,
        customers_out=row.customers_out,
        restored_load_kw=row.restored_load_kw,
        started_at=row.started_at,
        restored_at=row.restored_at,
        estimated_restoration=None,
        event=None,
        cause="unknown",
        planned=row.planned,
        main_grid=row.main_grid,
        crs=row.crs,
        geometry=None if row.geom is None else shapely.from_wkb(bytes(row.geom)),
    )
