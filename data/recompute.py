"""States and counters computed again, from the original records only.

What arrived is kept: `status_log` with its batches, the versions of every facility, the order of
changes. From these follow the state of each facility (docs/meanings.md, "Time"), and what every
change did to every counter. `data.verify` compares that with what is stored; `rebuild_counters`
replaces what is stored by it. Whole columns are worked on at once: a million facilities are a
minute, not an hour. Times are microseconds since 1970 (UTC); `NEVER` stands for none.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from data.database import WHOLE_CITY, set_scope
from data.patience import give_time
from data.retired_log import EVER, reach_back
from data.status import INVENTORY_LOCK
from data.tables import MEASURES, STATES

NEVER = -(2**63)
DELTA_KEY = ["sequence", "group_id", "valid_from"]

#: In order of gravity, so that codes compare as states do.
_STATE = pd.CategoricalDtype(list(STATES), ordered=True)
_UNKNOWN, _DEGRADED, _DOWN = (STATES.index(s) for s in ("unknown", "degraded", "down"))


@dataclass(frozen=True)
class Recomputed:
    """`states`: one row a facility, index `pk`; columns state, observed_at, event_id (empty before
    the first event), counted, group_id, load_kw, customers. `deltas`: DELTA_KEY and MEASURES, no
    row of zeros."""

    states: pd.DataFrame
    deltas: pd.DataFrame


def micros(expression: str) -> str:
    """SQL: microseconds since 1970, NEVER for null and infinity."""
    return (
        f"CASE WHEN isfinite({expression})"
        f" THEN (extract(epoch FROM {expression}) * 1000000)::bigint ELSE {NEVER} END"
    )


def read_frame(connection: Connection, query: str, **types: Any) -> pd.DataFrame:
    """The rows of a query without parameters; integers unless `types` says otherwise."""
    cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
    buffer = io.BytesIO()
    with cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)") as source:
        for chunk in source:
            buffer.write(chunk)
    buffer.seek(0)
    header = buffer.readline().decode().strip().split(",")
    buffer.seek(0)
    wanted = {name: types.get(name, "int64") for name in header}
    return pd.read_csv(buffer, dtype=wanted, keep_default_na=False, na_values=[""])


_IN_FORCE = "placement_id, kind, operator, network, main_grid, synthetic, load_kw, customers"

#: Every version while it was in force: from its batch until it was replaced or retired.
_VERSIONS = f"""
SELECT v.pk, s.sequence, coalesce(e.sequence, 0) AS until, coalesce(g.id, 0) AS group_id,
       v.load_kw, v.customers, v.state_at_import AS state,
       {micros("(b.request ->> 'valid_from')::timestamptz")} AS valid_from
FROM (
    SELECT pk, batch_id, NULL::bigint AS replaced_by, state_at_import, {_IN_FORCE}
    FROM facility WHERE retired_at IS NULL
    UNION ALL
    SELECT pk, batch_id, replaced_by, state_at_import, {_IN_FORCE} FROM facility_past
) v
JOIN change s ON s.batch_id = v.batch_id
JOIN batch b ON b.id = v.batch_id
LEFT JOIN change e ON e.batch_id = v.replaced_by
LEFT JOIN counter_group g ON (g.placement_id, g.kind, g.operator, g.network, g.main_grid,
    g.synthetic) = (v.placement_id, v.kind, v.operator, v.network, v.main_grid, v.synthetic)
"""

#: Events that apply, with the change at which they do: their own, or the import they waited for.
_EVENTS = f"""
SELECT l.facility_pk AS pk, h.sequence, {micros("l.observed_at")} AS observed_at, l.state,
       l.event_id
FROM status_log l JOIN change h USING (batch_id) JOIN batch b ON b.id = l.batch_id
WHERE l.facility_pk IS NOT NULL AND l.observed_at <= b.opened_at + interval '5 minutes'
UNION ALL
SELECT f.pk, h.sequence, {micros("l.observed_at")}, l.state, l.event_id
FROM status_log l
JOIN batch b ON b.id = l.batch_id
JOIN (
    SELECT pk, facility_id, batch_id, operator FROM facility WHERE version = 1
    UNION ALL
    SELECT pk, facility_id, batch_id, operator FROM facility_past WHERE version = 1
) f ON f.facility_id = l.facility_id
JOIN change h ON h.batch_id = f.batch_id
WHERE l.facility_pk IS NULL AND l.observed_at <= b.opened_at + interval '5 minutes'
  AND (b.request -> 'operators') ?| ARRAY['*', f.operator]
"""


def recompute(connection: Connection) -> Recomputed:
    """States and deltas that follow from the records which this transaction sees, and from those
    that were retired into files."""
    reach_back(connection, *EVER)
    versions = read_frame(connection, _VERSIONS, state=_STATE)
    events = read_frame(connection, _EVENTS, state=_STATE, event_id=object)
    return _recomputed(versions, events)


def _recomputed(versions: pd.DataFrame, events: pd.DataFrame) -> Recomputed:
    versions = versions.sort_values(["pk", "sequence"], ignore_index=True)
    created = versions.drop_duplicates("pk").set_index("pk")
    events = events[events["pk"].isin(created.index)].reset_index(drop=True)
    winners = _winners(events)
    steps = _steps(versions, winners)
    states = steps.drop_duplicates("pk", keep="last").set_index("pk")
    states = states[["state", "event", "counted", "group_id", "load_kw", "customers"]]
    won = states.pop("event").to_numpy()
    heard = won >= 0
    observed = np.full(len(states), NEVER, np.int64)
    observed[heard] = events["observed_at"].to_numpy()[won[heard]]
    event_id = np.full(len(states), "", object)
    event_id[heard] = events["event_id"].to_numpy(object)[won[heard]]
    states = states.assign(observed_at=observed, event_id=event_id)
    return Recomputed(states, _deltas(steps))


def _winners(events: pd.DataFrame) -> pd.DataFrame:
    """Per facility and change that brought a new winner: pk, sequence, event (row of `events`),
    state (code). The winner is the greatest (observed_at, gravity, event_id) known by then."""
    gravity = events["state"].cat.codes.to_numpy().astype(np.int64)
    observed = events["observed_at"].to_numpy()
    facility = events["pk"].to_numpy()
    tie = np.zeros(len(events), np.int64)
    tied = events.assign(gravity=gravity).duplicated(["pk", "observed_at", "gravity"], keep=False)
    at = np.flatnonzero(tied)
    if len(at):  # ids are compared by code point, which is how PostgreSQL's "C" orders UTF-8
        tie[at] = np.unique(events["event_id"].to_numpy(object)[at], return_inverse=True)[1]
    order = np.lexsort((tie, gravity, observed, facility))
    rank = np.empty(len(events), np.int64)
    rank[order] = np.arange(len(events))
    best = (
        pd.DataFrame({"pk": facility, "sequence": events["sequence"].to_numpy(), "rank": rank})
        .groupby(["pk", "sequence"], as_index=False)["rank"]
        .max()
    )
    best = best[best["rank"] == best.groupby("pk")["rank"].cummax()]
    event = order[best["rank"].to_numpy()]
    return pd.DataFrame(
        {
            "pk": best["pk"].to_numpy(),
            "sequence": best["sequence"].to_numpy(),
            "event": event,
            "state": gravity[event],
        }
    )


def _steps(versions: pd.DataFrame, winners: pd.DataFrame) -> pd.DataFrame:
    """Every moment at which a facility counts differently, in order of facility and sequence.

    Columns: pk, sequence, first (created here), valid_from, and from here on group_id, load_kw,
    customers, state (code), counted, event (row of the winner, −1 for none).
    """
    first = ~versions["pk"].duplicated()
    codes = versions["state"].cat.codes.astype(np.int64)
    starts = versions[["pk", "sequence", "group_id", "load_kw", "customers", "valid_from"]].assign(
        step=0, first=first, counted=1, state=codes.where(first, -1), event=-1
    )
    starting = pd.MultiIndex.from_frame(versions[["pk", "sequence"]])
    ending = pd.MultiIndex.from_frame(versions[["pk", "until"]])
    retired = versions[(versions["until"] > 0) & ~ending.isin(starting)]
    ends = pd.DataFrame({"pk": retired["pk"], "sequence": retired["until"]}).assign(
        step=0, first=False, counted=0, state=-1, event=-1, group_id=-1, load_kw=-1, customers=-1
    )
    heard = winners.assign(step=1, first=False, counted=-1, group_id=-1, load_kw=-1, customers=-1)
    steps = pd.concat([starts, ends.assign(valid_from=NEVER), heard.assign(valid_from=NEVER)])
    # an event cannot come before its facility; if a damaged record says so, it counts from then
    since = versions[first].set_index("pk")["sequence"]
    steps["sequence"] = np.maximum(steps["sequence"], since.reindex(steps["pk"]).to_numpy())
    steps = steps.sort_values(["pk", "sequence", "step"], kind="stable", ignore_index=True)
    for name in ("group_id", "load_kw", "customers", "state", "counted", "event"):
        steps[name] = _carried(steps[name].to_numpy(), steps["first"].to_numpy(bool))
    return steps


def _carried(values: NDArray[np.int64], first: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Each −1 replaced by the value before it; what is at `first` stands as it is."""
    at = np.where((values >= 0) | first, np.arange(len(values)), 0)
    return values[np.maximum.accumulate(at)] if len(values) else values


def _deltas(steps: pd.DataFrame) -> pd.DataFrame:
    before = steps.drop(columns="first").shift(1, fill_value=0)
    after = steps[steps["counted"] == 1]
    gone = ~steps["first"] & (before["counted"] == 1)
    created = after["first"]
    arriving = _measured(after, 1).assign(valid_from=after["valid_from"].where(created, NEVER))
    leaving = _measured(before[gone], -1).assign(
        sequence=steps.loc[gone, "sequence"], valid_from=NEVER
    )
    both = pd.concat([arriving, leaving]).groupby(DELTA_KEY, as_index=False)[list(MEASURES)].sum()
    return both[(both[list(MEASURES)] != 0).any(axis=1)].reset_index(drop=True)


def _measured(rows: pd.DataFrame, sign: int) -> pd.DataFrame:
    """What facilities in these states add to their counters, times `sign`."""
    state = rows["state"]
    columns: dict[str, Any] = {"sequence": rows["sequence"], "group_id": rows["group_id"]}
    one = pd.Series(sign, index=rows.index, dtype=np.int64)
    columns["total"] = one
    for name, code in (("unknown", _UNKNOWN), ("degraded", _DEGRADED), ("down", _DOWN)):
        columns[name] = one.where(state == code, 0)
    for name in ("load_kw", "customers"):
        stem, _, suffix = name.partition("_")
        amount = rows[name] * sign
        columns[name] = amount
        for word, code in (("unknown", _UNKNOWN), ("down", _DOWN)):
            columns["_".join(p for p in (stem, word, suffix) if p)] = amount.where(state == code, 0)
    return pd.DataFrame(columns, index=rows.index)


# --- replacing what is stored -------------------------------------------------------------------

_GROUP = "placement_id, kind, operator, network, main_grid, synthetic"
_SUMS = ", ".join(f"sum({m}) AS {m}" for m in MEASURES)
_COLUMNS = ", ".join(MEASURES)


def rebuild_counters(connection: Connection) -> int:
    """Replace deltas, counters and checkpoints by what follows from the records; needs the owner.

    For after facilities were placed anew (`facility` and `facility_past` have their new
    `placement_id`): groups are made and `facility_state` is pointed at them here. The past is
    counted under the new placements too, so that every division version can be asked about every
    moment. Holds the inventory lock until the caller commits. Returns the number of deltas.
    """

    def run(statement: str, **params: Any) -> Any:
        return connection.execute(text(statement), params)

    give_time(connection)
    set_scope(connection, WHOLE_CITY)
    run(f"SELECT pg_advisory_xact_lock({INVENTORY_LOCK})")
    run("SELECT 1 FROM fold FOR UPDATE")
    run(
        f"INSERT INTO counter_group ({_GROUP})"
        f" SELECT {_GROUP} FROM facility UNION SELECT {_GROUP} FROM facility_past"
        " ORDER BY 1, 2, 3, 4, 5, 6 ON CONFLICT DO NOTHING"
    )
    # what the trigger appends for these moves goes with the old deltas below
    run(
        "UPDATE facility_state s SET group_id = g.id, load_kw = f.load_kw,"
        " customers = f.customers FROM facility f JOIN counter_group g ON"
        " (g.placement_id, g.kind, g.operator, g.network, g.main_grid, g.synthetic)"
        " = (f.placement_id, f.kind, f.operator, f.network, f.main_grid, f.synthetic)"
        " WHERE f.pk = s.facility_pk AND (s.group_id, s.load_kw, s.customers)"
        " IS DISTINCT FROM (g.id, f.load_kw, f.customers)"
    )
    deltas = recompute(connection).deltas
    for table in ("counter_delta", "counter", "counter_checkpoint"):
        run(f"DELETE FROM {table}")
    _append(connection, deltas)
    run(
        f"INSERT INTO counter (group_id, {_COLUMNS}) SELECT group_id, {_SUMS} FROM counter_delta"
        " GROUP BY group_id"
    )
    through = run("SELECT coalesce(max(sequence), 0) FROM change").scalar_one()
    run(
        f"INSERT INTO counter_checkpoint (sequence, group_id, {_COLUMNS})"
        f" SELECT :through, group_id, {_COLUMNS} FROM counter WHERE :through > 0",
        through=through,
    )
    run("UPDATE fold SET through = :through, rows_since_checkpoint = 0", through=through)
    return len(deltas)


def _append(connection: Connection, deltas: pd.DataFrame) -> None:
    connection.execute(
        text(
            "CREATE TEMP TABLE recounted (sequence bigint, group_id int, valid_from bigint,"
            f" {', '.join(f'{m} bigint' for m in MEASURES)}) ON COMMIT DROP"
        )
    )
    columns = [*DELTA_KEY, *MEASURES]
    cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
    with cursor.copy(f"COPY recounted ({', '.join(columns)}) FROM STDIN (FORMAT csv)") as sink:
        sink.write(deltas.to_csv(columns=columns, header=False, index=False))
    connection.execute(
        text(
            f"INSERT INTO counter_delta (batch_id, group_id, {_COLUMNS}, valid_from)"
            f" SELECT h.batch_id, r.group_id, {_COLUMNS}, CASE WHEN r.valid_from > :never"
            " THEN timestamptz 'epoch' + r.valid_from / 1000000 * interval '1 second'"
            " + r.valid_from % 1000000 * interval '1 microsecond' END"
            " FROM recounted r JOIN change h USING (sequence) ORDER BY h.sequence, r.group_id"
        ),
        {"never": NEVER},
    )
    connection.execute(text("DROP TABLE recounted"))
