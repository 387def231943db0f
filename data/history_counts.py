"""Facility counts along a series: read once at its first point, then carried from one to the next.

At every point the same as `data.situation` counts for that moment: sites by their counters, an
operator's return in their place where it is the source, and who is silent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from data.counters import counters_at
from data.divisions import units
from data.history_points import IN_SPAN, POINT_OF, Point, Steps
from data.returns import returns_at
from data.sources import Source, heard_at, reports_at, silent_operators, source_of
from geo.counts import COUNTS, Count, Place, by_return

_SUMS = ", ".join(f"sum(d.{name})::bigint AS {name}" for name in COUNTS)
_PLACED = """
JOIN counter_group g ON g.id = d.group_id
JOIN placement_division p ON p.placement_id = g.placement_id AND p.version_id = :version
"""
_DELTAS = f"""
SELECT {POINT_OF} AS point, g.kind, g.operator, p.adcode, p.unit, {_SUMS}
FROM change h JOIN counter_delta d USING (batch_id) {_PLACED}
WHERE {IN_SPAN} AND d.valid_from IS NULL
GROUP BY 1, 2, 3, 4, 5
"""
#: Of what was loaded as in force from an instant on, the deltas count from that instant on.
_BACKDATED = f"""
SELECT d.valid_from, g.kind, g.operator, p.adcode, p.unit, {_SUMS}
FROM change h JOIN counter_delta d USING (batch_id) {_PLACED}
WHERE d.valid_from > :begin AND d.valid_from <= :end
GROUP BY 1, 2, 3, 4, 5
"""
_REPORTS = f"""
SELECT {POINT_OF} AS point, r.operator, r.kind,
       max(r.observed_at) FILTER (WHERE r.channel = 'site') AS site_at,
       max(r.observed_at) FILTER (WHERE r.channel = 'return') AS return_at,
       max(h.received_at) AS heard_at
FROM change h JOIN source_report r USING (batch_id)
WHERE {IN_SPAN}
GROUP BY 1, 2, 3
"""
_RETURNS = f"""
SELECT {POINT_OF} AS point, r.return_id, r.operator, r.kind, r.as_of, r.rows
FROM change h JOIN operator_return r USING (batch_id)
WHERE {IN_SPAN} AND NOT r.future
ORDER BY h.sequence
"""


@dataclass(frozen=True)
class Counted:
    """The counts at a point. `revision` is the same at two points where nothing of them differs.

    `counts`: one or more rows per place; `sources` and `silent` as `data.sources`; `returns`: the
    return in force where it is the source, by (operator, kind).
    """

    revision: int
    counts: list[tuple[Place, Count]]
    sources: list[Source]
    silent: frozenset[str]
    returns: Mapping[tuple[str, str], Mapping[str, Any]]

    def overdue(self, at: datetime, after_minutes: int) -> list[tuple[str, str]]:
        """(operator, kind) of which itself nothing was heard in time, by whatever channel, also
        where the operator spoke of another kind. Facilities of which nothing ever was are overdue.
        """
        limit = timedelta(minutes=after_minutes)
        heard = {(s.operator, s.kind): s.heard_at for s in self.sources}
        known = {(p.operator, p.kind) for p, count in self.counts if p.operator and count.total}
        return sorted(
            key for key in known if (last := heard.get(key)) is None or at - last >= limit
        )


class CountHistory:
    """Walks along the points of one division version."""

    def __init__(
        self, connection: Connection, own: Sequence[Point], version_id: int, after_minutes: int
    ) -> None:
        self._points = own
        self._after_minutes = after_minutes
        self.units = units(connection, version_id)
        self._hosts = {unit["code"]: unit["adcodes"] for unit in self.units}
        first, steps = own[0], Steps(own)
        span = {**steps.span, "version": version_id}
        self._sums: dict[Place, list[int]] = defaultdict(lambda: [0] * len(COUNTS))
        names = [*Place._fields, *COUNTS]
        frame = counters_at(connection, version_id, first.sequence, first.at)
        rows = frame[names].astype(object).where(frame[names].notna(), None)
        for known in rows.itertuples(index=False, name=None):
            _add(self._sums[Place(*known[:4])], known[4:])
        self._deltas: dict[int, list[tuple[Place, Sequence[int]]]] = defaultdict(list)
        for point, *row in connection.execute(text(_DELTAS), span):
            self._deltas[point].append((Place(*row[:4]), row[4:]))
        turns = {"begin": first.at, "end": own[-1].at, "version": version_id}
        for instant, *row in connection.execute(text(_BACKDATED), turns):
            self._deltas[steps.reaching(instant)].append((Place(*row[:4]), row[4:]))
        self._reports = reports_at(connection, first.sequence)
        self._reported: dict[int, list[Any]] = defaultdict(list)
        for one in connection.execute(text(_REPORTS), span):
            self._reported[one.point].append(one)
        self.newest_returns = {
            (r["operator"], r["kind"]): r for r in returns_at(connection, first.sequence)
        }
        self._returned: dict[int, list[Any]] = defaultdict(list)
        for one in connection.execute(text(_RETURNS), span):
            self._returned[one.point].append(dict(one._mapping))

    def walk(self) -> Iterator[Counted]:
        """What is counted at each point, in order; once."""
        revision, last = 0, None
        counts: list[tuple[Place, Count]] = []
        for number, point in enumerate(self._points):
            moved = self._bring_forward(number) or last is None
            sources = [source_of(*key, *told) for key, told in sorted(self._reports.items())]
            basis = frozenset((s.operator, s.kind) for s in sources if s.kind_of_source == "return")
            returns = {key: self.newest_returns[key] for key in sorted(basis)}
            if moved or basis != last:
                revision += 1
                counts = self._counts(returns)
            operators = sorted({place.operator for place, _ in counts if place.operator})
            silent, _ = silent_operators(
                operators, heard_at(sources), point.at, self._after_minutes
            )
            last = basis
            yield Counted(revision, counts, sources, silent, returns)

    def _bring_forward(self, number: int) -> bool:
        """Apply what takes effect at a point; whether the counts may have changed."""
        for place, figures in self._deltas.get(number, ()):
            _add(self._sums[place], figures)
        for one in self._reported.get(number, ()):
            told = self._reports.setdefault((one.operator, one.kind), [None, None, None])
            for i, instant in enumerate((one.site_at, one.return_at, one.heard_at)):
                told[i] = max((t for t in (told[i], instant) if t is not None), default=None)
        for one in self._returned.get(number, ()):
            key = (one["operator"], one["kind"])
            known = self.newest_returns.get(key)
            newer = (one["as_of"], one["return_id"])
            if known is None or newer > (known["as_of"], known["return_id"]):
                self.newest_returns[key] = one
        return number in self._deltas or number in self._returned

    def _counts(
        self, returns: Mapping[tuple[str, str], Mapping[str, Any]]
    ) -> list[tuple[Place, Count]]:
        """As `data.situation` has them: sites, or the return where that is the source."""
        found: list[tuple[Place, Count]] = []
        replaced: dict[tuple[str, str], list[tuple[str | None, str | None, int]]] = defaultdict(
            list
        )
        for place, sums in self._sums.items():
            if not any(sums):
                continue  # a place that all its facilities have left is none
            if (place.operator, place.kind) in returns:
                replaced[place.operator, place.kind].append((place.adcode, place.unit, sums[0]))
            else:
                found.append((place, Count(*sums)))
        for key, one in returns.items():
            found += by_return(one, replaced[key], self._hosts)
        return found

    def sites_of(self, operator: str, kind: str) -> list[tuple[str | None, str | None, int]]:
        """An operator's facilities of a kind in the inventory: adcode, unit, total."""
        return [
            (place.adcode, place.unit, sums[0])
            for place, sums in self._sums.items()
            if (place.operator, place.kind) == (operator, kind) and any(sums)
        ]


def _add(sums: list[int], figures: Sequence[Any]) -> None:
    for i, figure in enumerate(figures):
        sums[i] += int(figure)
