"""A series of moments, and the shares that are read along it. Pure.

docs/meanings.md, "History": every moment is one of knowledge, as `at=` of the situation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

#: What a series may be of; names and meanings are those of the situation where it has them.
METRICS = (
    "level",
    "share_down",
    "load_share",
    "customers_share",
    "restored",
    "causes",
    "report_age",
)
CAUSES = ("power", "damage", "transport", "other", "unknown")


def moments(begin: datetime, end: datetime, every: timedelta) -> list[datetime]:
    """`begin`, then each `every` after it, and `end`: the last step may be shorter."""
    steps = (end - begin) // every
    found = [begin + step * every for step in range(steps + 1)]
    return found if found[-1] == end else [*found, end]


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, both given; there is no share of nothing."""

    numerator: int | float
    denominator: int | float

    @property
    def value(self) -> float | None:
        return self.numerator / self.denominator if self.denominator else None


def restored(lost: int, greatest: int) -> Share:
    """How much of the greatest loss is back. `lost` never exceeds `greatest`, which may have been
    held against an inventory that has shrunk since."""
    return Share(max(greatest - lost, 0), greatest)


def add_causes(into: dict[str, int], causes: dict[str, int], total: int) -> None:
    """Add the causes of `total` facilities that are down; of which none is given, is `unknown`."""
    given = 0
    for cause in CAUSES[:-1]:
        number = min(causes.get(cause, 0), total - given)
        into[cause] = into.get(cause, 0) + number
        given += number
    into["unknown"] = into.get("unknown", 0) + total - given


def age_s(at: datetime, observed: Sequence[datetime]) -> float | None:
    """How old the newest of these observations is at a moment, in seconds; never negative, since a
    sender's clock may be a little ahead of ours. None without any."""
    newest = max(observed, default=None)
    return None if newest is None else max((at - newest).total_seconds(), 0.0)
