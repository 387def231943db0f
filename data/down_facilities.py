"""Which facilities are down, as known at a sequence: now by what changed since, or in the past.

A facility's state at a sequence is its current one where the batch that set it was known by then;
only for the others the log is asked (docs/meanings.md, "Time": the greatest `observed_at`, ties to
the graver state, then to `event_id`; without any, the state at import). An event that waited for
its facility counts from the import on.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

Mask = NDArray[np.bool_]

#: Changes after which everything is read anew rather than what they spoke of.
MANY_CHANGES = 2_000

_KNOWN_DOWN = """
SELECT s.facility_pk FROM facility_state s WHERE s.state = 'down' AND NOT EXISTS
    (SELECT 1 FROM change h WHERE h.batch_id = s.batch_id AND h.sequence > :sequence)
"""
_SET_LATER = """
SELECT s.facility_pk FROM change h JOIN facility_state s USING (batch_id)
WHERE h.sequence > :sequence
"""
#: Of the facilities in `which`, those down by what the log had said until then.
_DOWN_BY_LOG = """
WITH asked AS (
    SELECT f.pk, f.facility_id, f.operator, f.state_at_import
    FROM ({which}) AS a (pk) JOIN facility f USING (pk)
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
), winner AS (
    SELECT DISTINCT ON (e.pk) e.pk, e.state
    FROM event e JOIN change h USING (batch_id) WHERE h.sequence <= :sequence
    ORDER BY e.pk, e.observed_at DESC, e.state DESC, e.event_id DESC
)
SELECT a.pk FROM asked a LEFT JOIN winner w USING (pk)
WHERE coalesce(w.state, a.state_at_import) = 'down'
"""
_INVENTORY_CHANGED = """
SELECT EXISTS (SELECT 1 FROM change
    WHERE kind = 'facilities' AND sequence > :after AND sequence <= :sequence)
"""
#: Facilities that status batches have spoken of; `later`: what they are now was not known yet.
_SPOKEN_OF = """
SELECT s.facility_pk, s.state = 'down' AS down, EXISTS
    (SELECT 1 FROM change h WHERE h.batch_id = s.batch_id AND h.sequence > :sequence) AS later
FROM (
    SELECT DISTINCT l.facility_pk FROM change h JOIN status_log l USING (batch_id)
    WHERE h.sequence > :after AND h.sequence <= :sequence
      AND l.facility_pk IS NOT NULL AND NOT l.future
) touched JOIN facility_state s USING (facility_pk)
"""


class DownFacilities:
    """The facilities down, as a set of `facility.pk`."""

    def __init__(self, pks: Iterable[int] = ()) -> None:
        self._down: Mask = np.zeros(0, dtype=bool)
        self._set(list(pks), True)

    def among(self, pks: NDArray[np.int64]) -> Mask:
        """For each facility whether it is down, shape of `pks`."""
        if not len(pks):
            return np.zeros(0, dtype=bool)
        self._reach(int(pks.max()))
        found: Mask = self._down[pks]
        return found

    def _set(self, pks: list[int], down: bool) -> None:
        if pks:
            self._reach(max(pks))
            self._down[pks] = down

    def _reach(self, pk: int) -> None:
        if pk >= len(self._down):
            grown = np.zeros(pk + 1 + pk // 8, dtype=bool)
            grown[: len(self._down)] = self._down
            self._down = grown


def down_at(connection: Connection, sequence: int) -> DownFacilities:
    """What was known to be down at a sequence."""
    key = {"sequence": sequence}
    down = connection.execute(text(_KNOWN_DOWN), key).scalars().all()
    later = connection.execute(text(_DOWN_BY_LOG.format(which=_SET_LATER)), key).scalars().all()
    return DownFacilities([*down, *later])


class DownNow:
    """The facilities down at the newest sequence, brought forward from one to the next."""

    def __init__(self) -> None:
        self._sequence: int | None = None
        self._down = DownFacilities()

    def at(self, connection: Connection, sequence: int) -> DownFacilities:
        """As `down_at`; reads only what came after the sequence asked for before."""
        after, self._sequence = self._sequence, None  # an error on the way leaves nothing half done
        if (
            after is None
            or not after <= sequence <= after + MANY_CHANGES
            or self._inventory_changed(connection, after, sequence)
        ):
            self._down = down_at(connection, sequence)
        elif sequence > after:
            self._bring_forward(connection, after, sequence)
        self._sequence = sequence
        return self._down

    def _inventory_changed(self, connection: Connection, after: int, sequence: int) -> bool:
        span = {"after": after, "sequence": sequence}
        return bool(connection.execute(text(_INVENTORY_CHANGED), span).scalar_one())

    def _bring_forward(self, connection: Connection, after: int, sequence: int) -> None:
        span = {"after": after, "sequence": sequence}
        rows = connection.execute(text(_SPOKEN_OF), span).all()
        later = [pk for pk, _, is_later in rows if is_later]
        down = [pk for pk, is_down, is_later in rows if is_down and not is_later]
        self._down._set([pk for pk, _, _ in rows], False)
        if later:
            which = "SELECT * FROM unnest(CAST(:pks AS int[]))"
            key = {"pks": later, "sequence": sequence}
            found = connection.execute(text(_DOWN_BY_LOG.format(which=which)), key)
            down += found.scalars().all()
        self._down._set(down, True)
