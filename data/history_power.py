"""Supply and losses of power along a series: read once, and carried from one point to the next.

At every point the same as `data.power.power_known` reads for that moment, by the same functions;
only the facilities and outages of which something came to be known are looked at again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from data.history_points import IN_SPAN, Point, Steps
from data.power import (
    Interval,
    Member,
    Told,
    covered_hours,
    earlier_supplies,
    inside_areas,
    is_unknown,
    own_losses,
    reported_losses,
    supply_versions,
)
from geo.power import Loss, Supply
from geo.power_event import Earlier, Supplies

#: Changes of the supply inventory, and instants from which facilities loaded later are in force.
_MOVED = f"""
SELECT h.sequence, NULL::timestamptz AS instant FROM change h
WHERE {IN_SPAN} AND (h.kind = 'divisions' OR (h.kind = 'facilities' AND (
    EXISTS (SELECT 1 FROM facility f WHERE f.batch_id = h.batch_id AND f.kind = ANY (:kinds))
    OR EXISTS (SELECT 1 FROM facility_past p
               WHERE h.batch_id IN (p.batch_id, p.replaced_by) AND p.kind = ANY (:kinds)))))
UNION
SELECT NULL, valid_from FROM facility
WHERE kind = ANY (:kinds) AND valid_from > :begin AND valid_from <= :end
UNION
SELECT NULL, valid_from FROM facility_past
WHERE kind = ANY (:kinds) AND valid_from > :begin AND valid_from <= :end
"""
#: As `data.power` reads observations, with the change that brought each: what came before the event
#: began matters only by how it stood then.
_TOLD = """
SELECT h.sequence, l.facility_id, l.observed_at, l.state, l.event_id
FROM status_log l JOIN change h USING (batch_id)
WHERE NOT l.future AND h.sequence <= :last AND l.facility_pk = ANY (:pks)
  AND (l.observed_at > coalesce(CAST(:since AS timestamptz), '-infinity') OR h.sequence > :first)
UNION ALL
SELECT l.sequence, l.facility_id, l.observed_at, l.state, l.event_id
FROM unnest(CAST(:pks AS int[])) AS f(pk)
CROSS JOIN LATERAL (
    SELECT h.sequence, s.facility_id, s.observed_at, s.state, s.event_id
    FROM status_log s JOIN change h USING (batch_id)
    WHERE s.facility_pk = f.pk AND s.observed_at <= CAST(:since AS timestamptz)
      AND NOT s.future AND h.sequence <= :first
    ORDER BY s.observed_at DESC, s.state DESC, s.event_id DESC LIMIT 1
) l
UNION ALL  -- sent before the facility was known, by an account that may speak for its operator
SELECT h.sequence, l.facility_id, l.observed_at, l.state, l.event_id
FROM status_log l JOIN change h USING (batch_id)
JOIN batch b ON b.id = l.batch_id
JOIN unnest(CAST(:ids AS text[]), CAST(:operators AS text[])) AS f(id, operator)
  ON f.id = l.facility_id
WHERE NOT l.future AND h.sequence <= :last AND l.facility_pk IS NULL
  AND (b.request -> 'operators') ?| ARRAY['*', f.operator]
"""
#: Every revision that counts at some point, without those over when the first event began.
_REVISIONS = """
SELECT h.sequence, h.received_at, o.outage_id, o.revision, o.load_shed_kw, o.customers_out,
       o.restored_load_kw, o.started_at, o.restored_at, o.planned, o.main_grid, o.facility_ids,
       o.split -> CAST(:version AS text) AS split
FROM outage o JOIN change h ON h.batch_id = o.batch_id JOIN batch b ON b.id = o.batch_id
WHERE h.sequence <= :last AND (o.planned OR o.started_at <= b.opened_at + interval '5 minutes')
  AND o.outage_id IN (
    SELECT n.outage_id FROM outage n JOIN change m ON m.batch_id = n.batch_id
    WHERE m.sequence <= :last AND (m.sequence > :first OR n.restored_at IS NULL
      OR n.restored_at > coalesce(CAST(:since AS timestamptz), '-infinity')))
ORDER BY h.sequence
"""


@dataclass(frozen=True)
class PowerAt:
    """What is known of power at a point. `changed_from`: the first instant of the world from which
    losses are told otherwise than at the point before, None if from none; `anew`: the inventory is
    another, so that nothing of the point before holds."""

    supply: Supplies
    earlier: list[Earlier]
    losses: list[Loss]
    changed_from: datetime | None
    anew: bool


class PowerHistory:
    """Goes along the points of one division version; `at` is asked for one after another."""

    def __init__(
        self,
        connection: Connection,
        own: Sequence[Point],
        version_id: int,
        kinds: Sequence[str],
        since: datetime | None,
    ) -> None:
        """`since`: the close of the last event as known at the first point (None: none)."""
        self._connection, self._points, self._version_id = connection, own, version_id
        self._kinds, self._since = list(kinds), since
        steps = Steps(own)
        self._span = {**steps.span, "kinds": self._kinds, "since": since}
        turns = {"begin": own[0].at, "end": own[-1].at}
        self._anew = {0}
        for sequence, instant in connection.execute(text(_MOVED), {**self._span, **turns}):
            known = steps.reaching(instant) if sequence is None else steps.knowing(sequence)
            self._anew.add(known)
        rows = connection.execute(text(_REVISIONS), {**self._span, "version": str(version_id)})
        self._revisions = [
            dict(row._mapping) | {"facility_ids": list(row.facility_ids), "split": row.split or []}
            for row in rows
        ]
        self._steps = steps
        self._outages: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._reached, self._last = 0, own[0].at
        #: Facility → outage → when it counts only through that; and which facilities each concerns.
        self._covers: dict[Member, dict[str, list[Interval]]] = defaultdict(dict)
        self._concerned: dict[str, set[Member]] = {}
        self._reported: dict[str, list[Loss]] = {}

    def at(self, number: int, silent: frozenset[str]) -> PowerAt:
        """What is known at a point; `silent` operators' supply that is not down is unknown."""
        point = self._points[number]
        anew = number in self._anew
        before: list[Loss] = []
        after: list[Loss] = []
        moved = self._move_outages(number, anew, before, after)
        if anew:
            self._take_inventory(point)
            moved |= self._rows.keys()
        for facility_id, told in self._coming.pop(number, ()):
            self._told[facility_id].append(told)
            moved.add(facility_id)
        moved |= self._ahead
        for facility_id in moved:
            self._look_again(facility_id, point.at, before, after)
        self._know(silent, point.at, moved, anew)
        losses = [one for own in self._own.values() for one in own]
        losses += [one for own in self._reported.values() for one in own]
        return PowerAt(
            self._supply(),
            self._earlier,
            losses,
            first_difference(before, after),
            anew,
        )

    # --- outages ------------------------------------------------------------------------------

    def _move_outages(
        self, number: int, anew: bool, before: list[Loss], after: list[Loss]
    ) -> set[str]:
        """Take over the revisions a point knows; the facilities whose hours under outages moved."""
        point, fresh = self._points[number], set()
        while self._reached < len(self._revisions):
            one = self._revisions[self._reached]
            if one["sequence"] > point.sequence:
                break
            self._outages[one["outage_id"]].append(one)
            fresh.add(one["outage_id"])
            self._reached += 1
        if anew:
            in_force = {"at": point.at, "sequence": point.sequence, "since": self._since}
            self._members = inside_areas(
                self._connection, self._revisions, {"kinds": self._kinds, **in_force}
            )
            fresh = set(self._outages)
        else:  # one that begins within the tolerance of clocks, or is planned, moves with the clock
            fresh |= {
                name
                for name, known in self._outages.items()
                if any(one["started_at"] > self._last for one in known)
            }
        self._last = point.at
        moved: set[str] = set()
        for name in fresh:
            outage = outage_known(self._outages[name])
            covers = covered_hours([outage], self._members, point.at)
            gone = self._concerned.get(name, set()) - covers.keys()
            for member in gone:
                del self._covers[member][name]
            for member, hours in covers.items():
                self._covers[member][name] = hours
            self._concerned[name] = set(covers)
            moved |= {facility_id for facility_id, _ in gone | covers.keys()}
            before += self._reported.get(name, [])
            self._reported[name] = reported_losses([outage], point.at)
            after += self._reported[name]
        return moved

    # --- facilities ---------------------------------------------------------------------------

    def _take_inventory(self, point: Point) -> None:
        """Read the supply facilities in force, and all that is told of them along the points."""
        in_force = {"at": point.at, "sequence": point.sequence, "since": self._since}
        self._versions = supply_versions(
            self._connection, self._version_id, {"kinds": self._kinds, **in_force}
        )
        self._earlier = earlier_supplies(self._versions, self._since, point.at)
        self._rows: dict[str, list[Any]] = defaultdict(list)
        for row in self._versions:
            self._rows[row.facility_id].append(row)
        speakers = sorted({(r.facility_id, r.operator) for r in self._versions})
        key = {
            **self._span,
            "pks": sorted({r.pk for r in self._versions}),
            "ids": [facility_id for facility_id, _ in speakers],
            "operators": [operator for _, operator in speakers],
        }
        self._told: dict[str, list[Told]] = defaultdict(list)
        self._coming: dict[int, list[tuple[str, Told]]] = defaultdict(list)
        for sequence, facility_id, *told in self._connection.execute(text(_TOLD), key):
            if sequence <= point.sequence:
                self._told[facility_id].append((told[0], told[1], told[2]))
            else:
                known = self._steps.knowing(sequence)
                self._coming[known].append((facility_id, (told[0], told[1], told[2])))
        self._own: dict[str, list[Loss]] = {}
        self._ahead: set[str] = set()
        self._unknown: dict[tuple[int, int], bool] = {}
        self._silent: frozenset[str] = frozenset()
        self._by_operator: dict[str, set[str]] = defaultdict(set)
        self._sums: dict[tuple[str | None, bool], list[int]] = defaultdict(lambda: [0] * 4)
        for row in self._versions:
            if not row.ended:
                self._by_operator[row.operator].add(row.facility_id)
                sums = self._sums[row.adcode, row.main_grid]
                sums[0] += row.load_kw
                sums[2] += row.customers

    def _hours_covered(self, version: Any) -> list[Interval]:
        """As `data.power.hours_of`, over all outages."""
        members: tuple[Member, ...] = (
            (version.facility_id, None),
            (version.facility_id, version.version),
        )
        return [
            hours
            for member in members
            for own in self._covers.get(member, {}).values()
            for hours in own
        ]

    def _look_again(
        self, facility_id: str, now: datetime, before: list[Loss], after: list[Loss]
    ) -> None:
        told = self._told.get(facility_id, [])
        found: list[Loss] = []
        # what a clock ahead of ours has said holds at once, and moves until ours has come there
        ahead = any(instant > now for instant, _, _ in told)
        for row in self._rows.get(facility_id, ()):
            covers = self._hours_covered(row)
            found += own_losses(row, told, covers, now)
            ahead = ahead or any(
                start > now or (end is not None and end > now) for start, end in covers
            )
        before += self._own.pop(facility_id, [])
        if found:
            self._own[facility_id] = found
        after += found
        (self._ahead.add if ahead else self._ahead.discard)(facility_id)

    def _know(
        self, silent: frozenset[str], now: datetime, moved: Iterable[str], anew: bool
    ) -> None:
        """Bring forward whose load is unknown: of what moved, and of who fell silent or spoke."""
        turned = silent ^ self._silent
        self._silent = silent
        looked = set(self._rows) if anew else set(moved)
        for operator in turned:
            looked |= self._by_operator[operator]
        for facility_id in looked:
            told = self._told.get(facility_id, [])
            for row in self._rows.get(facility_id, ()):
                if row.ended:
                    continue
                unknown = is_unknown(row, told, self._hours_covered(row), now, silent)
                key = (row.pk, row.version)
                change = int(unknown) - int(self._unknown.get(key, False))
                self._unknown[key] = unknown
                sums = self._sums[row.adcode, row.main_grid]
                sums[1] += change * row.load_kw
                sums[3] += change * row.customers

    def _supply(self) -> dict[tuple[str | None, bool], Supply]:
        return {
            key: Supply(
                load_kw=load_kw,
                load_unknown_kw=unknown_kw,
                customers=customers,
                customers_unknown=unknown,
            )
            for key, (load_kw, unknown_kw, customers, unknown) in self._sums.items()
        }


def outage_known(revisions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An outage by the revisions known of it, all applicable, as `data.outages.open_outages` tells
    it: begin, end, grid and whether it is planned by the highest, figures while each holds."""
    ordered = sorted(revisions, key=lambda one: one["revision"])
    holding, until = [], None
    for one in reversed(ordered):
        lowest = one is ordered[0]
        if until is None or lowest or one["received_at"] < until:
            holding.append({**one, "lowest": lowest, "until": until})
        until = min((t for t in (until, one["received_at"]) if t is not None), default=None)
    return {**ordered[-1], "revisions": holding[::-1]}


def first_difference(before: Iterable[Loss], after: Iterable[Loss]) -> datetime | None:
    """The first instant from which two lists of losses may not tell the same; None if always."""
    gone, come = Counter(before), Counter(after)
    by_begin: dict[tuple[Any, ...], tuple[list[Loss], list[Loss]]] = defaultdict(lambda: ([], []))
    for side, differing in enumerate((gone - come, come - gone)):
        for one in differing.elements():
            key = (one.adcode, one.main_grid, one.load_kw, one.customers, one.since)
            by_begin[key][side].append(one)
    instants: list[datetime] = []
    for old, new in by_begin.values():
        if len(old) == len(new) == 1:  # the same loss, told to end at another time
            instants += [one.until for one in (*old, *new) if one.until is not None]
        else:
            instants.append((old or new)[0].since)
    return min(instants, default=None)
