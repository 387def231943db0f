"""The inventory: facilities enter, change and retire; nothing is erased.

One statement set serves a form with one row and an import of a million: COPY into a staging table,
then set-based inserts. The transaction holds the inventory lock exclusively, so no status event can
be stored against an inventory that is changing.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Engine, text

from data.database import Write, writing
from data.divisions import Placer, require_divisions
from data.patience import give_time
from data.status import INVENTORY_LOCK
from geo.errors import Fault, InvalidInput

#: Columns a caller gives, in the order of the staging table; see docs/meanings.md, "Facilities".
COLUMNS = (
    "facility_id",
    "name",
    "kind",
    "operator",
    "network",
    "unit",
    "main_grid",
    "load_kw",
    "customers",
    "population",
    "feeds_from",
    "battery_hours",
    "key_level",
    "rescue_code",
    "state_at_import",
    "synthetic",
    "attributes",
    "crs",
    "original_x",
    "original_y",
)
_STAGED = (*COLUMNS, "lon", "lat", "placement_id", "adcode")
_NULL = "\x02"  # a control character, which no accepted text can hold

#: What makes a version: a change in any of these is an edit.
_EDITABLE = tuple(c for c in COLUMNS if c not in ("facility_id", "state_at_import"))


@dataclass(frozen=True)
class Imported:
    """What an import did. `created + edited + unchanged` is the number of rows."""

    created: int
    edited: int
    unchanged: int
    applied: int
    sequence: int | None


def import_facilities(
    engine: Engine,
    frame: pd.DataFrame,
    *,
    account: str,
    body: bytes,
    content_type: str = "text/csv",
    valid_from: datetime | None = None,
    request: dict[str, Any] | None = None,
) -> Imported:
    """Store facilities; durable on return.

    `frame`: the columns of COLUMNS plus `lon`, `lat` (WGS-84), already validated
    (`data.facility_rows`); its index is the row number in the file, if it counts from 1.
    `valid_from` backdates facilities that are new (not later than now). Status events that waited
    for a facility are applied. Raises InvalidInput naming every row that cannot stand beside the
    inventory: an unknown unit, a rescue_code of another facility in force.
    """
    with writing(
        engine,
        channel="facilities",
        account=account,
        body=body,
        content_type=content_type,
        request={**(request or {}), "valid_from": valid_from and valid_from.isoformat()},
    ) as write:
        connection = write.connection
        give_time(connection)
        now = _lock_inventory(connection)
        require_divisions(connection)
        if valid_from is not None and valid_from > now:
            raise InvalidInput("valid_from must not be in the future")
        _stage(connection, frame)
        counts = _merge(write, now, valid_from)
        if counts["created"] or counts["edited"]:
            write.kind = "facilities"
            write.detail = counts
    unchanged = len(frame) - counts["created"] - counts["edited"]
    return Imported(unchanged=unchanged, sequence=write.sequence, **counts)


def _lock_inventory(connection: Connection) -> datetime:
    """Wait until the inventory is ours alone; the time from which the change is in force.

    Taken after the wait, so that the versions of a facility follow each other in time as they do in
    sequence, whoever came first.
    """
    connection.execute(text(f"SELECT pg_advisory_xact_lock({INVENTORY_LOCK})"))
    now: datetime = connection.execute(
        text(
            "SELECT greatest(clock_timestamp(),"
            " (SELECT received_at FROM change ORDER BY sequence DESC LIMIT 1))"
        )
    ).scalar_one()
    return now


def _row_numbers(frame: pd.DataFrame) -> list[int]:
    """1-based numbers of the rows in the caller's file."""
    if frame.index.equals(pd.RangeIndex(len(frame))):
        return list(range(1, len(frame) + 1))
    return [int(number) for number in frame.index]


def _stage(connection: Connection, frame: pd.DataFrame) -> None:
    """Place every row and COPY the frame into the staging table `arriving`."""
    placer = Placer(connection)
    unit = [code if isinstance(code, str) else None for code in frame["unit"]]
    numbers = _row_numbers(frame)
    faults = [
        Fault(f.reason, numbers[f.row - 1] if f.row else None, f.field)
        for f in placer.undeclarable(unit)
    ]
    for name in ("facility_id", "rescue_code"):
        again = frame[name].duplicated() & frame[name].notna()
        faults += [
            Fault(f"{value!r} stands in an earlier row too", numbers[i], name)
            for i, value in zip(np.flatnonzero(again), frame[name][again], strict=True)
        ]
    if faults:
        raise InvalidInput(faults)
    placed = placer.place(
        frame["lon"].to_numpy(np.float64), frame["lat"].to_numpy(np.float64), unit
    )
    staged = frame.assign(placement_id=placed.placement_id, adcode=placed.adcode)
    connection.execute(
        text(
            "CREATE TEMP TABLE arriving (row int GENERATED ALWAYS AS IDENTITY,"
            ' facility_id text COLLATE "C", name text, kind text, operator text, network text,'
            " unit text, main_grid boolean, load_kw bigint, customers bigint, population bigint,"
            " feeds_from text, battery_hours float8, key_level text, rescue_code text,"
            " state_at_import status_state, synthetic boolean, attributes jsonb, crs text,"
            " original_x float8, original_y float8, lon float8, lat float8, placement_id int,"
            " adcode text) ON COMMIT DROP"
        )
    )
    buffer = io.StringIO()
    staged.to_csv(
        buffer,
        columns=list(_STAGED),
        header=False,
        index=False,
        na_rep=_NULL,
        quoting=csv.QUOTE_MINIMAL,
    )
    cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
    copy = f"COPY arriving ({', '.join(_STAGED)}) FROM STDIN WITH (FORMAT csv, NULL '{_NULL}')"
    with cursor.copy(copy) as sink:
        data = buffer.getvalue()
        for start in range(0, len(data), 1 << 22):
            sink.write(data[start : start + (1 << 22)])
    connection.execute(text("CREATE INDEX ON arriving (facility_id)"))
    connection.execute(text("ANALYZE arriving"))
    _refuse_taken_rescue_codes(connection, numbers)


def _refuse_taken_rescue_codes(connection: Connection, numbers: list[int]) -> None:
    """Raise InvalidInput for codes of other facilities in force that do not give theirs up here."""
    taken = connection.execute(
        text(
            "SELECT a.row, a.rescue_code, f.facility_id FROM arriving a JOIN facility f"
            " ON f.rescue_code = a.rescue_code AND f.facility_id <> a.facility_id"
            " AND f.retired_at IS NULL"
            " WHERE NOT EXISTS (SELECT 1 FROM arriving b WHERE b.facility_id = f.facility_id"
            " AND b.rescue_code IS DISTINCT FROM f.rescue_code) ORDER BY a.row"
        )
    ).all()
    if taken:
        raise InvalidInput(
            Fault(
                f"{code} is the code of facility {owner}; retire that one or change its code first",
                numbers[row - 1],
                "rescue_code",
            )
            for row, code, owner in taken
        )


_GEOM = "ST_SetSRID(ST_MakePoint(a.lon, a.lat), 4326)"
_COPIED = ", ".join((*COLUMNS, "geom", "placement_id", "adcode", "valid_from", "version"))


def _merge(write: Write, now: datetime, valid_from: datetime | None) -> dict[str, int]:
    """Create, edit, count: the staging table into facility, facility_state and the groups."""
    connection = write.connection
    key: dict[str, Any] = {"batch": write.batch_id, "now": now}

    def run(sql: str, **extra: Any) -> int:
        return connection.execute(text(sql), {**key, **extra}).rowcount

    run(
        "CREATE TEMP TABLE changing ON COMMIT DROP AS"
        " SELECT f.pk, a.* FROM arriving a JOIN facility f USING (facility_id)"
        f" WHERE f.retired_at IS NOT NULL OR ({_of('f', _EDITABLE)})"
        f" IS DISTINCT FROM ({_of('a', _EDITABLE)})"
    )
    # what is retired is past already: its last version went there when it was retired
    run(
        f"INSERT INTO facility_past (pk, {_COPIED}, batch_id, valid_to, replaced_by)"
        f" SELECT pk, {_COPIED}, batch_id, :now, :batch FROM facility"
        " WHERE pk IN (SELECT pk FROM changing) AND retired_at IS NULL"
    )
    # two facilities may exchange their codes, and the index looks at every row by itself
    run(
        "UPDATE facility f SET rescue_code = NULL FROM changing c WHERE c.pk = f.pk"
        " AND f.rescue_code IS NOT NULL AND f.rescue_code IS DISTINCT FROM c.rescue_code"
    )
    sets = ", ".join(f"{c} = a.{c}" for c in (*_EDITABLE, "placement_id", "adcode"))
    edited = run(
        f"UPDATE facility f SET {sets}, geom = {_GEOM}, retired_at = NULL, valid_from = :now,"
        " version = f.version + 1, batch_id = :batch FROM changing a WHERE f.pk = a.pk"
    )
    created = run(
        f"INSERT INTO facility ({', '.join(COLUMNS)}, geom, placement_id, adcode, valid_from,"
        f" batch_id) SELECT {_of('a', COLUMNS)}, {_GEOM}, a.placement_id, a.adcode,"
        " coalesce(:valid_from, :now), :batch FROM arriving a"
        " WHERE NOT EXISTS (SELECT 1 FROM facility f WHERE f.facility_id = a.facility_id)"
        " ORDER BY a.row",
        valid_from=valid_from,
    )
    run(
        "INSERT INTO counter_group (placement_id, kind, operator, network, main_grid, synthetic)"
        " SELECT DISTINCT placement_id, kind, operator, network, main_grid, synthetic"
        " FROM facility WHERE batch_id = :batch"
        " ORDER BY 1, 2, 3, 4, 5, 6 ON CONFLICT DO NOTHING"
    )
    in_group = (
        "JOIN counter_group g ON (g.placement_id, g.kind, g.operator, g.network, g.main_grid,"
        " g.synthetic) = (f.placement_id, f.kind, f.operator, f.network, f.main_grid, f.synthetic)"
    )
    run(
        "INSERT INTO facility_state (facility_pk, group_id, state, load_kw, customers,"
        " valid_from, batch_id)"
        " SELECT f.pk, g.id, f.state_at_import, f.load_kw, f.customers, :valid_from, :batch"
        f" FROM facility f {in_group} WHERE f.batch_id = :batch AND f.version = 1 ORDER BY f.pk",
        valid_from=valid_from,
    )
    run(
        "UPDATE facility_state s SET group_id = g.id, load_kw = f.load_kw, counted = true,"
        " customers = f.customers, batch_id = :batch"
        f" FROM facility f {in_group} WHERE f.batch_id = :batch AND s.facility_pk = f.pk"
        " AND f.version > 1"
    )
    applied = run(_APPLY_WAITING)
    return {"created": created, "edited": edited, "applied": applied}


def _of(alias: str, columns: tuple[str, ...]) -> str:
    return ", ".join(f"{alias}.{c}" for c in columns)


#: Events stored before their facility was known, from accounts whose operators include it.
_APPLY_WAITING = """
UPDATE facility_state s
SET state = n.state, observed_at = n.observed_at, event_id = n.event_id, batch_id = :batch
FROM (
    SELECT DISTINCT ON (f.pk) f.pk, l.state, l.observed_at, l.event_id
    FROM facility f
    JOIN status_log l ON l.facility_id = f.facility_id AND l.facility_pk IS NULL AND NOT l.future
    JOIN batch b ON b.id = l.batch_id
    WHERE f.batch_id = :batch AND f.version = 1
      AND (b.request -> 'operators') ?| ARRAY['*', f.operator]
    ORDER BY f.pk, l.observed_at DESC, l.state DESC, l.event_id DESC
) n
WHERE s.facility_pk = n.pk
  AND (n.observed_at, n.state, n.event_id) > (s.observed_at, s.state, s.event_id)
"""


def retire_facilities(
    engine: Engine, facility_ids: list[str], *, account: str, body: bytes, reason: str
) -> int:
    """Take facilities out of force from now on; their history stays. Returns how many."""
    with writing(
        engine,
        channel="facilities",
        account=account,
        body=body,
        request={"retire": facility_ids, "reason": reason},
    ) as write:
        connection = write.connection
        give_time(connection)
        key = {
            "ids": facility_ids,
            "now": _lock_inventory(connection),
            "batch": write.batch_id,
        }
        going = "facility_id = ANY (:ids) AND retired_at IS NULL"
        connection.execute(
            text(
                f"INSERT INTO facility_past (pk, {_COPIED}, batch_id, valid_to, replaced_by)"
                f" SELECT pk, {_COPIED}, batch_id, :now, :batch FROM facility WHERE {going}"
            ),
            key,
        )
        retired = connection.execute(
            text(
                "UPDATE facility SET retired_at = :now, version = version + 1, batch_id = :batch"
                f" WHERE {going}"
            ),
            key,
        ).rowcount
        connection.execute(
            text(
                "UPDATE facility_state SET counted = false, batch_id = :batch WHERE facility_pk IN"
                " (SELECT pk FROM facility WHERE batch_id = :batch AND retired_at IS NOT NULL)"
            ),
            key,
        )
        if retired:
            write.kind = "facilities"
            write.detail = {"retired": retired}
    return retired
