"""What the builder remembers of an open power event, so that a build does not read all of it again.

The worst moment until an instant stays what it was until something is reported about a time before
that instant, so only the time since is read anew (docs/meanings.md, "Events"). Nothing is stored:
a process that begins to build reads the whole event once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, text

from geo.power_event import Settled
from geo.rules import RulePack

#: Late reports are mostly later than this; what is older is taken as settled until one comes.
SETTLING = timedelta(minutes=30)
#: Observations between two moments remembered: what a build reads at most, beside the newest.
APART = 1_000

_INVENTORY_MOVED = """
SELECT EXISTS (
    SELECT 1 FROM change h WHERE h.sequence > :after AND h.sequence <= :sequence
      AND (h.kind = 'divisions' OR (h.kind = 'facilities' AND (
        EXISTS (SELECT 1 FROM facility f WHERE f.batch_id = h.batch_id AND f.kind = ANY (:kinds))
        OR EXISTS (SELECT 1 FROM facility_past p
                   WHERE h.batch_id IN (p.batch_id, p.replaced_by) AND p.kind = ANY (:kinds)))))
)
"""
_FIRST_OBSERVED = """
SELECT min(l.observed_at) FROM change h JOIN status_log l USING (batch_id)
JOIN facility f ON f.pk = l.facility_pk
WHERE h.sequence > :after AND h.sequence <= :sequence AND NOT l.future AND f.kind = ANY (:kinds)
"""
#: Revisions of the outages that a change spoke of.
_REVISIONS = """
SELECT o.outage_id, o.revision, h.sequence > :after AS fresh, h.received_at, o.started_at,
       o.restored_at, o.planned, o.main_grid
FROM outage o JOIN change h ON h.batch_id = o.batch_id JOIN batch b ON b.id = o.batch_id
WHERE h.sequence <= :sequence AND (o.planned OR o.started_at <= b.opened_at + interval '5 minutes')
  AND o.outage_id IN (
    SELECT n.outage_id FROM change m JOIN outage n ON n.batch_id = m.batch_id
    WHERE m.sequence > :after AND m.sequence <= :sequence)
ORDER BY o.outage_id, o.revision
"""


class PowerMemory:
    """The settled moments of the event at the newest sequence, brought forward from one to the
    next; for one builder, which asks for one sequence after another."""

    def __init__(self) -> None:
        self._sequence: int | None = None
        self._basis: bytes | None = None
        self._settled: list[Settled] = []

    def settled(
        self,
        connection: Connection,
        sequence: int,
        *,
        closed: datetime | None,
        version_id: int,
        kinds: Sequence[str],
        packs: Sequence[RulePack],
        declared: Mapping[str, Mapping[str, Any]],
    ) -> Settled | None:
        """The latest settled moment that what came until `sequence` has not unsettled. Until
        `keep` is called nothing is remembered."""
        basis = orjson.dumps(
            [
                closed,
                version_id,
                list(kinds),
                [[p.plan, p.version, declared.get(p.plan)] for p in packs],
            ],
            default=str,
            option=orjson.OPT_SORT_KEYS,
        )
        after, self._sequence = self._sequence, None  # an error on the way leaves nothing half done
        span = {"after": after, "sequence": sequence, "kinds": list(kinds)}
        if (
            after is None
            or after > sequence
            or basis != self._basis
            or connection.execute(text(_INVENTORY_MOVED), span).scalar_one()
        ):
            self._settled = []
        elif self._settled and (changed := first_changed(connection, span)) is not None:
            self._settled = [one for one in self._settled if one.through <= changed]
        self._basis = basis
        return self._settled[-1] if self._settled else None

    def keep(self, sequence: int, found: Sequence[Settled]) -> None:
        """Remember what a situation at `sequence` found to be settled."""
        self._settled += found
        self._sequence = sequence


def settle_at(
    instants: Sequence[datetime], now: datetime, after: datetime | None
) -> list[datetime]:
    """Of the instants of observations, in order, those to remember the worst moment until."""
    old = [t for t in instants if t <= now - SETTLING and (after is None or t > after)]
    return list(dict.fromkeys(old[APART - 1 :: APART]))


def first_changed(connection: Connection, span: Mapping[str, Any]) -> datetime | None:
    """The first instant of the world of which the changes of a span say anything new; None if of
    none. `span`: after, sequence, kinds (of supply facilities)."""
    observed: datetime | None = connection.execute(text(_FIRST_OBSERVED), span).scalar_one()
    instants = [observed] if observed else []
    by_outage: dict[str, list[Any]] = {}
    for row in connection.execute(text(_REVISIONS), span):
        by_outage.setdefault(row.outage_id, []).append(row)
    for revisions in by_outage.values():
        instants += _changed_by(revisions)
    return min(instants, default=None)


def _changed_by(revisions: Sequence[Any]) -> list[datetime]:
    """From when on an outage is told otherwise; `revisions` known of it, lowest first."""
    known = [r for r in revisions if not r.fresh]
    fresh = [r for r in revisions if r.fresh]
    if not known or fresh[0].revision < known[-1].revision:
        return [r.started_at for r in revisions]
    before = known[-1]
    instants = [r.received_at for r in fresh]
    after = fresh[-1]
    if (after.planned, after.main_grid) != (before.planned, before.main_grid):
        return [r.started_at for r in revisions]
    if after.started_at != before.started_at:
        instants += [after.started_at, before.started_at]
    if after.restored_at != before.restored_at:
        instants += [t for t in (after.restored_at, before.restored_at) if t is not None]
    return instants
