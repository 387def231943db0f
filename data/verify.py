"""Whether what is stored still follows from what was received: every check, in one snapshot.

`verify` changes nothing. It computes states, counters, placements and hashes again from the
original records and compares. A check that finds a difference says how many and shows some.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, Engine, text

from data.audit_chain import check_chain
from data.check import Check, compare_measures
from data.check_places import placements
from data.check_records import bodies, events, ledger, log, order, orphans, submissions
from data.check_teams import teams
from data.database import reading
from data.facility_states import FacilityStates, states_from_records
from data.patience import give_time
from data.recompute import DELTA_KEY, Recomputed, micros, read_frame, recompute
from data.retired_log import damaged
from data.tables import MEASURES, STATES

_SUMS = ", ".join(f"sum({m})::bigint AS {m}" for m in MEASURES)
_MEASURES = list(MEASURES)


@dataclass
class Report:
    """Every check, as of the newest change that the snapshot saw."""

    sequence: int
    checks: list[Check]

    @property
    def clean(self) -> bool:
        return not any(check.wrong for check in self.checks)

    def lines(self) -> list[str]:
        """For people: a line per check, then what is wrong with it."""
        shown = []
        for check in self.checks:
            verdict = f"{check.wrong} WRONG" if check.wrong else "ok"
            shown.append(f"{check.name:<12} {verdict:>9} of {check.looked_at:<10} {check.question}")
            shown += [f"    {example}" for example in check.examples]
            hidden = check.wrong - len(check.examples)
            if hidden:
                shown.append(f"    and {hidden} more")
        return shown


def verify(engine: Engine, *, deep: bool = False) -> Report:
    """Check everything as of one moment; writers are not held up.

    `deep` also reads every original body of status events again, and finds every facility's
    district by SQL too, not only some.
    """
    with reading(engine, snapshot=True) as connection:
        give_time(connection)
        sequence = int(
            connection.execute(text("SELECT coalesce(max(sequence), 0) FROM change")).scalar_one()
        )
        archive = _archive(connection)
        audit = check_chain(connection)
        if archive.wrong:  # without them nothing else can be computed again
            return Report(sequence, [archive, audit])
        again = recompute(connection)
        checks = [
            archive,
            audit,
            order(connection),
            bodies(connection),
            orphans(connection),
            ledger(connection),
            log(connection),
            _states(connection, again),
            *_counters(connection),
            _checkpoints(connection),
            _state_checkpoints(connection, deep),
            _history(connection, again),
            *placements(connection, deep),
            submissions(connection),
            teams(connection),
        ]
        if deep:
            checks.append(events(connection))
    return Report(sequence, checks)


def _archive(connection: Connection) -> Check:
    check = Check("archive", "the files of retired months are as they were written")
    check.looked_at, wrong = damaged(connection)
    for example in wrong:
        check.found(example)
    return check


def _states(connection: Connection, again: Recomputed) -> Check:
    check = Check("states", "every facility has the state that follows from its events")
    stored = read_frame(
        connection,
        "SELECT facility_pk AS pk, facility_id, state, s.counted::int AS counted, group_id,"
        f" s.load_kw, s.customers, {micros('observed_at')} AS observed_at,"
        " nullif(event_id, '') AS event_id"
        " FROM facility_state s JOIN facility f ON f.pk = s.facility_pk",
        state=object,
        facility_id=object,
        event_id=object,
    ).set_index("pk")
    check.looked_at = len(stored)
    stored["event_id"] = stored["event_id"].where(stored["event_id"].notna(), "")
    known = stored.index.isin(again.states.index)
    for facility_id in stored.loc[~known, "facility_id"]:
        check.found(f"facility {facility_id}: no version of it explains its state")
    stored = stored[known]
    expected = again.states.loc[stored.index]
    expected = expected.assign(state=np.array(STATES, object)[expected["state"].to_numpy()])
    columns = ["state", "observed_at", "event_id", "counted", "group_id", "load_kw", "customers"]
    differs = np.zeros((len(stored), len(columns)), bool)
    for j, name in enumerate(columns):
        differs[:, j] = (stored[name].to_numpy() != expected[name].to_numpy()).astype(bool)
    for i in np.flatnonzero(differs.any(axis=1)):
        said = [
            f"{name} is {stored[name].iloc[i]}, follows {expected[name].iloc[i]}"
            for j, name in enumerate(columns)
            if differs[i, j]
        ]
        check.found(f"facility {stored['facility_id'].iloc[i]}: {'; '.join(said)}")
    return check


_OF_STATES = """
SELECT group_id, count(*) AS total,
       count(*) FILTER (WHERE state = 'unknown') AS unknown,
       count(*) FILTER (WHERE state = 'degraded') AS degraded,
       count(*) FILTER (WHERE state = 'down') AS down,
       sum(load_kw) AS load_kw,
       coalesce(sum(load_kw) FILTER (WHERE state = 'unknown'), 0) AS load_unknown_kw,
       coalesce(sum(load_kw) FILTER (WHERE state = 'down'), 0) AS load_down_kw,
       sum(customers) AS customers,
       coalesce(sum(customers) FILTER (WHERE state = 'unknown'), 0) AS customers_unknown,
       coalesce(sum(customers) FILTER (WHERE state = 'down'), 0) AS customers_down
FROM facility_state WHERE counted GROUP BY group_id
"""
_COLUMNS = ", ".join(MEASURES)
_OF_DELTAS = f"SELECT group_id, {_SUMS} FROM counter_delta GROUP BY group_id"
_OF_COUNTERS = f"""
SELECT group_id, {_SUMS} FROM (
    SELECT group_id, {_COLUMNS} FROM counter
    UNION ALL
    SELECT group_id, {_COLUMNS} FROM counter_delta JOIN change h USING (batch_id)
    WHERE h.sequence > (SELECT through FROM fold)
) c GROUP BY group_id
"""


def _counters(connection: Connection) -> list[Check]:
    of_states = read_frame(connection, _OF_STATES)
    folded = Check("counters", "counters and what is not folded yet add up to the states")
    deltas = Check("deltas", "all deltas together add up to the states")
    for check, query in ((folded, _OF_COUNTERS), (deltas, _OF_DELTAS)):
        compare_measures(check, read_frame(connection, query), of_states, ["group_id"])
    return [folded, deltas]


def _checkpoints(connection: Connection) -> Check:
    check = Check("checkpoints", "every checkpoint is the sum of the deltas up to it")
    stored = read_frame(
        connection, f"SELECT sequence, group_id, {_COLUMNS} FROM counter_checkpoint"
    )
    deltas = read_frame(
        connection,
        f"SELECT h.sequence, group_id, {_SUMS} FROM counter_delta JOIN change h USING (batch_id)"
        " GROUP BY 1, 2",
    )
    for sequence, rows in stored.groupby("sequence"):
        upto = deltas[deltas["sequence"] <= sequence].groupby("group_id", as_index=False)[_MEASURES]
        compare_measures(
            check, rows, upto.sum().assign(sequence=sequence), ["sequence", "group_id"]
        )
    return check


def _state_checkpoints(connection: Connection, deep: bool) -> Check:
    """All of them, or the newest."""
    check = Check("remembered", "a checkpoint of states is what followed from the records by then")
    stored = connection.execute(
        text(
            "SELECT sequence, pks, states FROM state_checkpoint ORDER BY sequence DESC LIMIT :most"
        ),
        {"most": None if deep else 1},
    ).all()
    for one in stored:
        pks = np.arange(one.pks)
        found = FacilityStates.unpacked(bytes(one.states)).codes_of(pks)
        expected = states_from_records(connection, one.sequence).codes_of(pks)
        check.looked_at += one.pks
        for pk in np.flatnonzero(found != expected).tolist():
            check.found(f"sequence {one.sequence}: facility {pk} is {STATES[found[pk]]}")
    return check


def _history(connection: Connection, again: Recomputed) -> Check:
    check = Check("history", "what each change did to each counter follows from the records")
    stored = read_frame(
        connection,
        f"SELECT h.sequence, d.group_id, {micros('d.valid_from')} AS valid_from, {_SUMS}"
        " FROM counter_delta d JOIN change h USING (batch_id) GROUP BY 1, 2, 3",
    )
    compare_measures(check, stored, again.deltas, DELTA_KEY)
    return check
