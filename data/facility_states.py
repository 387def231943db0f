"""The state of each facility as known at a sequence: now by what changed since, or in the past.

A facility's state at a sequence is its current one where the batch that set it was known by then;
only for the others the log is asked (docs/meanings.md, "Time": the greatest `observed_at`, ties to
the graver state, then to `event_id`; without any, the state at import). An event that waited for
its facility counts from the import on.

So that the past costs what changed since the checkpoint before it, and not all that changed after
it, the builder leaves a checkpoint of all states now and then (`state_checkpoint`): two bits a
facility, in order of `facility.pk`, their value the place in `data.tables.STATES`. Who was loaded
after a moment is, then, as its import said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from data.tables import STATES

Codes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_CODE = {state: code for code, state in enumerate(STATES)}
_DOWN = _CODE["down"]
#: Facilities spoken of after which a checkpoint is left.
CHECKPOINT_AFTER = 20_000
#: Changes after which everything is read anew rather than what they spoke of.
MANY_CHANGES = 2_000

#: State of facility `a` (pk, facility_id, operator, and whether it was loaded by then) by what the
#: log had said at :sequence, null if nothing. What was received by then was observed at most five
#: minutes later.
_STATE_BY_LOG = """
    SELECT e.state FROM (
        (SELECT l.state, l.observed_at, l.event_id
        FROM status_log l JOIN change h USING (batch_id)
        WHERE l.facility_pk = a.pk AND NOT l.future AND h.sequence <= :sequence
          AND l.received_at <= (SELECT received_at FROM change WHERE sequence = :sequence)
          AND l.observed_at <= interval '5 minutes'
              + (SELECT received_at FROM change WHERE sequence = :sequence)
        ORDER BY l.observed_at DESC, l.state DESC, l.event_id DESC LIMIT 1)
        UNION ALL
        (SELECT l.state, l.observed_at, l.event_id
        FROM status_log l JOIN change h USING (batch_id) JOIN batch b ON b.id = l.batch_id
        WHERE l.facility_id = a.facility_id AND l.facility_pk IS NULL AND NOT l.future
          AND h.sequence <= :sequence
          AND (b.request -> 'operators') ?| ARRAY['*', a.operator] AND EXISTS
            (SELECT 1 FROM change k WHERE k.sequence <= :sequence AND k.batch_id IN (
                SELECT batch_id FROM facility WHERE pk = a.pk AND version = 1
                UNION ALL SELECT batch_id FROM facility_past WHERE pk = a.pk AND version = 1))
        ORDER BY l.observed_at DESC, l.state DESC, l.event_id DESC LIMIT 1)
    ) e WHERE a.loaded ORDER BY e.observed_at DESC, e.state DESC, e.event_id DESC LIMIT 1
"""
#: False for certain of a facility `f` that was loaded after :sequence and never edited.
_LOADED = """(f.version > 1 OR EXISTS
    (SELECT 1 FROM change h WHERE h.batch_id = f.batch_id AND h.sequence <= :sequence))"""
#: The nearest checkpoint before :sequence, if the inventory did not change since.
_NEAREST = """
    SELECT c.sequence, c.pks, c.states || ''::bytea AS states FROM state_checkpoint c
    WHERE c.sequence = (SELECT max(sequence) FROM state_checkpoint WHERE sequence <= :sequence)
      AND NOT EXISTS (SELECT 1 FROM change h WHERE h.kind = 'facilities'
                      AND h.sequence > c.sequence AND h.sequence <= :sequence)
"""
_STANDING = """
SELECT s.facility_pk, s.state FROM facility_state s WHERE s.state <> 'up' AND NOT EXISTS
    (SELECT 1 FROM change h WHERE h.batch_id = s.batch_id AND h.sequence > :sequence)
"""
_SET_LATER = """
SELECT s.facility_pk FROM change h JOIN facility_state s USING (batch_id)
WHERE h.sequence > :sequence
"""
#: The states of the facilities in `which` by the log.
_BY_LOG = f"""
SELECT a.pk, coalesce(w.state, a.state_at_import) AS state
FROM (SELECT f.pk, f.facility_id, f.operator, f.state_at_import, {_LOADED} AS loaded
      FROM ({{which}}) AS i (pk) JOIN facility f USING (pk)) a
LEFT JOIN LATERAL ({_STATE_BY_LOG}) w ON true
"""
_LOADED_LATER = (
    "SELECT pk, state_at_import FROM facility WHERE pk >= :pks AND state_at_import <> 'up'"
)
_INVENTORY_CHANGED = """
SELECT EXISTS (SELECT 1 FROM change
    WHERE kind = 'facilities' AND sequence > :after AND sequence <= :sequence)
"""
#: Facilities that status batches have spoken of; `later`: what they are now was not known yet.
_SPOKEN_OF = """
SELECT s.facility_pk, s.state, EXISTS
    (SELECT 1 FROM change h WHERE h.batch_id = s.batch_id AND h.sequence > :sequence) AS later
FROM (
    SELECT DISTINCT l.facility_pk FROM change h JOIN status_log l USING (batch_id)
    WHERE h.sequence > :after AND h.sequence <= :sequence
      AND l.facility_pk IS NOT NULL AND NOT l.future
) touched JOIN facility_state s USING (facility_pk)
"""


class FacilityStates:
    """The state of each facility by `facility.pk`; of one never heard of, up."""

    def __init__(self, codes: Codes | None = None) -> None:
        self._codes: Codes = np.zeros(0, dtype=np.uint8) if codes is None else codes

    def down_among(self, pks: NDArray[np.int64]) -> Mask:
        """For each facility whether it is down, shape of `pks`."""
        found: Mask = self.codes_of(pks) == _DOWN
        return found

    def codes_of(self, pks: NDArray[np.int64]) -> Codes:
        """The place of each facility's state in `STATES`, shape of `pks`."""
        if not len(pks):
            return np.zeros(0, dtype=np.uint8)
        self._reach(int(pks.max()))
        found: Codes = self._codes[pks]
        return found

    def learn(self, rows: list[Any]) -> None:
        """Set (pk, state) pairs."""
        if rows:
            pks = np.array([row[0] for row in rows], dtype=np.int64)
            self._reach(int(pks.max()))
            self._codes[pks] = [_CODE[row[1]] for row in rows]

    def packed(self, pks: int) -> bytes:
        """Of the first `pks`, two bits each, the lowest in the lowest bits."""
        self._reach(pks)
        four = np.zeros((-(-pks // 4), 4), dtype=np.uint8)
        four.reshape(-1)[:pks] = self._codes[:pks]
        together = four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6
        return together.astype(np.uint8).tobytes()

    @classmethod
    def unpacked(cls, states: bytes) -> FacilityStates:
        """What `packed` gave."""
        together = np.frombuffer(states, dtype=np.uint8)
        codes = np.stack([together >> shift & 3 for shift in (0, 2, 4, 6)], axis=1)
        return cls(codes.reshape(-1).astype(np.uint8))

    def _reach(self, pk: int) -> None:
        if pk >= len(self._codes):
            grown = np.zeros(pk + 1 + pk // 8, dtype=np.uint8)
            grown[: len(self._codes)] = self._codes
            self._codes = grown


def states_at(connection: Connection, sequence: int) -> FacilityStates:
    """What was known at a sequence, from the checkpoint before it on."""
    nearest = connection.execute(text(_NEAREST), {"sequence": sequence}).one_or_none()
    if nearest is None:
        return states_from_records(connection, sequence)
    states = FacilityStates.unpacked(bytes(nearest.states))
    states.learn(list(connection.execute(text(_LOADED_LATER), {"pks": nearest.pks}).all()))
    _bring_forward(connection, states, nearest.sequence, sequence)
    return states


def states_from_records(connection: Connection, sequence: int) -> FacilityStates:
    """The same from current states and the log alone."""
    key = {"sequence": sequence}
    states = FacilityStates()
    states.learn(list(connection.execute(text(_STANDING), key).all()))
    later = _BY_LOG.format(which=_SET_LATER) + " WHERE coalesce(w.state, a.state_at_import) <> 'up'"
    states.learn(list(connection.execute(text(later), key).all()))
    return states


def _bring_forward(
    connection: Connection, states: FacilityStates, after: int, sequence: int
) -> int:
    """From what was known at `after` to what was at `sequence`: how many were spoken of."""
    if sequence == after:
        return 0
    span = {"after": after, "sequence": sequence}
    rows = connection.execute(text(_SPOKEN_OF), span).all()
    states.learn([row for row in rows if not row.later])
    later = [row.facility_pk for row in rows if row.later]
    if later:
        which = "SELECT * FROM unnest(CAST(:pks AS int[]))"
        key = {"pks": later, "sequence": sequence}
        states.learn(list(connection.execute(text(_BY_LOG.format(which=which)), key).all()))
    return len(rows)


class StatesNow:
    """The states at the newest sequence, brought forward from one to the next."""

    def __init__(self) -> None:
        self._sequence: int | None = None
        self._states = FacilityStates()
        self._spoken_of = 0

    def at(self, connection: Connection, sequence: int) -> FacilityStates:
        """As `states_at`; reads only what came after the sequence asked for before.

        Leaves a checkpoint where the connection may write one and one is due: by the builder.
        """
        after, self._sequence = self._sequence, None  # an error on the way leaves nothing half done
        if (
            after is None
            or not after <= sequence <= after + MANY_CHANGES
            or self._inventory_changed(connection, after, sequence)
        ):
            self._states = states_at(connection, sequence)
            self._spoken_of = CHECKPOINT_AFTER
        elif sequence > after:
            self._spoken_of += _bring_forward(connection, self._states, after, sequence)
        self._sequence = sequence
        if self._spoken_of >= CHECKPOINT_AFTER:
            self._leave_checkpoint(connection, sequence)
        return self._states

    def _inventory_changed(self, connection: Connection, after: int, sequence: int) -> bool:
        span = {"after": after, "sequence": sequence}
        return bool(connection.execute(text(_INVENTORY_CHANGED), span).scalar_one())

    def _leave_checkpoint(self, connection: Connection, sequence: int) -> None:
        if connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on":
            return
        # a later import takes higher pks, since imports wait for each other
        pks = connection.execute(
            text(
                "SELECT coalesce(max(pk), -1) + 1 FROM facility f"
                " WHERE EXISTS (SELECT 1 FROM change h"
                " WHERE h.batch_id = f.batch_id AND h.sequence <= :sequence)"
            ),
            {"sequence": sequence},
        ).scalar_one()
        connection.execute(
            text(
                "INSERT INTO state_checkpoint (sequence, pks, states)"
                " SELECT sequence, :pks, :states FROM change WHERE sequence = :sequence"
                " ON CONFLICT (sequence) DO NOTHING"
            ),
            {"sequence": sequence, "pks": pks, "states": self._states.packed(pks)},
        )
        self._spoken_of = 0
