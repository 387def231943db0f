"""The points of a series: moments of knowledge, each with what was in force then."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, text

from data.divisions import DivisionVersion, versions
from data.retired_log import reach_back
from data.rulepacks import RulePacks
from geo.rules import RulePack

_SEQUENCES = """
SELECT t.at, coalesce(c.sequence, 0) AS sequence, coalesce(c.received_at, t.at) AS as_of
FROM unnest(CAST(:times AS timestamptz[])) WITH ORDINALITY AS t(at, n)
LEFT JOIN LATERAL (
    SELECT sequence, received_at FROM change WHERE received_at <= t.at
    ORDER BY received_at DESC, sequence DESC LIMIT 1
) c ON true
ORDER BY t.n
"""


@dataclass(frozen=True)
class Point:
    """A moment as `data.situation.moment_at` knows it; `version` None before any divisions."""

    at: datetime
    sequence: int
    as_of: datetime
    version: DivisionVersion | None
    packs: dict[str, RulePack]

    @property
    def version_id(self) -> int:
        """For SQL; 0, which no version has, before any divisions."""
        return self.version.id if self.version else 0


def points(connection: Connection, times: Sequence[datetime], packs: RulePacks) -> list[Point]:
    """A point for each of these times, which are in order and not ahead of now."""
    reach_back(connection, times[0], times[-1])
    known = versions(connection)
    rows = connection.execute(text(_SEQUENCES), {"times": list(times)}).all()
    found = []
    for at, row in zip(times, rows, strict=True):
        version = next(
            (v for v in known if v.valid_from <= at and (v.valid_to is None or at < v.valid_to)),
            None,
        )
        in_force = {pack.plan: pack for pack in packs.in_force(at)}
        found.append(Point(at, row.sequence, row.as_of, version, in_force))
    return found


def segments(every: Sequence[Point]) -> list[list[Point]]:
    """The points parted where the divisions or the rules in force change."""

    def basis(point: Point) -> Any:
        rules = [(plan, pack.version) for plan, pack in sorted(point.packs.items())]
        return (point.version and point.version.id, rules)

    return [list(own) for _, own in groupby(every, key=basis)]


class Steps:
    """Where along some points things take effect: a change at the first point that knows it."""

    def __init__(self, own: Sequence[Point]) -> None:
        self.sequences = [point.sequence for point in own]
        self.times = [point.at for point in own]

    @property
    def span(self) -> dict[str, Any]:
        """For SQL: the changes after the first point and until the last (`POINT_OF`)."""
        first, last = self.sequences[0], self.sequences[-1]
        return {"first": first, "last": last, "sequences": self.sequences}

    def knowing(self, sequence: int) -> int:
        """The first point that knows a change; beyond the last if none does."""
        return bisect_left(self.sequences, sequence)

    def reaching(self, instant: datetime) -> int:
        """The first point at or after an instant."""
        return bisect_left(self.times, instant)


#: SQL: `Steps.knowing` of a change `h`.
POINT_OF = "width_bucket(h.sequence - 1, CAST(:sequences AS bigint[]))"
#: SQL: the changes `h` that some point knows and the first does not.
IN_SPAN = "h.sequence > :first AND h.sequence <= :last"
