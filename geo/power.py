"""Power losses over time, and the worst simultaneous moment of an event.

The losses are a step function of *world* time (`observed_at` of substations, the hours of reported
outages), whatever the order in which reports arrived. An event spans from the last confirmed close
to now; it opens at its first loss. Power is in kW, customers in accounts; no CRS is involved.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

#: The four quantities followed per district: every supplier's load and customers, and of these the
#: main grid's. City figures use the main grid only, district figures every supplier.
QUANTITIES = ("load_kw", "customers", "main_load_kw", "main_customers")


@dataclass(frozen=True)
class Supply:
    """What a district is fed with, and what of it is lost or unknown: kW and accounts."""

    load_kw: int = 0
    load_shed_kw: int = 0
    load_unknown_kw: int = 0
    customers: int = 0
    customers_out: int = 0
    customers_unknown: int = 0

    def __add__(self, other: Supply) -> Supply:
        return Supply(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    def capped(self) -> Supply:
        """No more lost than there was: a reported outage may exceed the inventory's figures."""
        shed, out = min(self.load_shed_kw, self.load_kw), min(self.customers_out, self.customers)
        return Supply(
            self.load_kw,
            shed,
            min(self.load_unknown_kw, self.load_kw - shed),
            self.customers,
            out,
            min(self.customers_unknown, self.customers - out),
        )

    def if_unknown_is_lost(self) -> Supply:
        """The same with everything unknown counted as lost."""
        return Supply(
            self.load_kw,
            self.load_shed_kw + self.load_unknown_kw,
            0,
            self.customers,
            self.customers_out + self.customers_unknown,
            0,
        )


def _values(supply: Supply) -> tuple[int, ...]:
    return (
        supply.load_kw,
        supply.load_shed_kw,
        supply.load_unknown_kw,
        supply.customers,
        supply.customers_out,
        supply.customers_unknown,
    )


@dataclass(frozen=True)
class Loss:
    """Something lost in one district during `[since, until)` (`until` None: still)."""

    adcode: str | None
    main_grid: bool
    load_kw: int
    customers: int
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True)
class Timeline:
    """Losses as a step function: `lost[i, d, q]` holds from `instants[i]` to the next instant."""

    instants: tuple[datetime, ...]
    adcodes: tuple[str, ...]
    lost: Ints = field(repr=False)

    def at_end(self) -> Ints:
        """What is lost after the last instant, shape (districts, quantities)."""
        if not self.instants:
            return np.zeros((len(self.adcodes) + 1, len(QUANTITIES)), np.int64)
        last: Ints = self.lost[-1]
        return last


def timeline(losses: Sequence[Loss], adcodes: Sequence[str], *, until: datetime) -> Timeline:
    """Add up losses over time, up to `until` (later instants are not yet).

    Rows of the last axis but one follow `adcodes`, with one more for what lies outside the city;
    the order of `losses` never matters.
    """
    codes = tuple(adcodes)
    index: Mapping[str | None, int] = {code: i for i, code in enumerate(codes)}
    steps: list[tuple[datetime, int, int, int, bool]] = []
    for loss in losses:
        if loss.since > until or (loss.until is not None and loss.until <= loss.since):
            continue
        place = index.get(loss.adcode, len(codes))
        steps.append((loss.since, place, loss.load_kw, loss.customers, loss.main_grid))
        if loss.until is not None and loss.until <= until:
            steps.append((loss.until, place, -loss.load_kw, -loss.customers, loss.main_grid))
    instants = sorted({s[0] for s in steps})
    lost = np.zeros((len(instants), len(codes) + 1, len(QUANTITIES)), np.int64)
    position = {instant: i for i, instant in enumerate(instants)}
    for instant, place, load, customers, main in steps:
        row = lost[position[instant], place]
        row += (load, customers, load * main, customers * main)
    return Timeline(tuple(instants), codes, lost.cumsum(axis=0))


def down_intervals(
    observations: Sequence[tuple[datetime, str, str]], state_at_import: str, since: datetime
) -> list[tuple[datetime, datetime | None]]:
    """When a facility was down, from its observations `(observed_at, state, event_id)`.

    Among observations of one instant the graver state wins (up < unknown < degraded < down), then
    the greater `event_id`. Before the first observation it is in its state at import, from `since`.
    """
    gravity = {"up": 0, "unknown": 1, "degraded": 2, "down": 3}
    ordered = sorted(observations, key=lambda o: (o[0], gravity[o[1]], o[2]))
    intervals: list[tuple[datetime, datetime | None]] = []
    down_since = since if state_at_import == "down" else None
    for i, (instant, state, _) in enumerate(ordered):
        if i + 1 < len(ordered) and ordered[i + 1][0] == instant:
            continue
        if state == "down":
            down_since = down_since if down_since is not None else instant
        elif down_since is not None:
            intervals.append((down_since, instant))
            down_since = None
    if down_since is not None:
        intervals.append((down_since, None))
    return intervals


def minus(
    interval: tuple[datetime, datetime | None],
    covers: Sequence[tuple[datetime, datetime | None]],
) -> list[tuple[datetime, datetime | None]]:
    """An interval without the parts that `covers` take: a loss counted elsewhere meanwhile."""
    left = [interval]
    for start, end in covers:
        rest: list[tuple[datetime, datetime | None]] = []
        for low, high in left:
            if (high is not None and start >= high) or (end is not None and end <= low):
                rest.append((low, high))
                continue
            if start > low:
                rest.append((low, start))
            if end is not None and (high is None or end < high):
                rest.append((end, high))
        left = rest
    return left


@dataclass(frozen=True)
class WorstMoment:
    """The gravest simultaneous moment of an event, and when the event opened."""

    opened_at: datetime
    at: datetime
    assessment: dict[str, Any]


def worst_moment(
    line: Timeline,
    since: datetime | None,
    assess: Callable[[Ints], dict[str, Any]],
) -> WorstMoment | None:
    """The gravest moment of the event that began after `since`; None while nothing was lost.

    `assess` grades one instant's losses, shape (districts + 1, quantities); more losses must never
    give a lighter level, for a span of instants is judged by all its maxima together, and divided
    only while that may be graver than any instant found. Ties go to the greater loss of the main
    grid, then to the earlier instant.
    """
    if not line.instants:
        return None
    after = since or line.instants[0]
    # What was still lost at the close belongs to the new event from the close on.
    first = max(bisect_right(line.instants, after) - 1, 0)
    lost, instants = line.lost[first:], list(line.instants[first:])
    instants[0] = max(instants[0], after)
    losing = lost.any(axis=(1, 2))
    if not losing.any():
        return None
    opened = int(losing.argmax())
    lost, instants = lost[opened:], instants[opened:]
    main_load = lost[:, :, QUANTITIES.index("main_load_kw")].sum(axis=1)

    def bound(low: int, high: int) -> tuple[int, int, int, int, dict[str, Any]]:
        """No instant of the span `[low, high)` comes before this; one alone is exactly this."""
        together = assess(lost[low:high].max(axis=0))
        return (together["level"] or 9, -int(main_load[low:high].max()), low, high, together)

    spans = [bound(0, len(instants))]
    while True:
        *_, low, high, found = heappop(spans)
        if high - low == 1:
            return WorstMoment(instants[0], instants[low], found)
        middle = (low + high) // 2
        heappush(spans, bound(low, middle))
        heappush(spans, bound(middle, high))
