"""Power losses over time, and the worst simultaneous moment of an event.

The losses are a step function of *world* time (`observed_at` of substations, the hours of reported
outages), whatever the order in which reports arrived. An event spans from the last confirmed close
to now; it opens at its first loss. Power is in kW, customers in accounts; no CRS is involved.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

#: The four quantities followed per district: every supplier's load and customers, and of these the
#: main grid's. City figures use the main grid only, district figures every supplier.
QUANTITIES = ("load_kw", "customers", "main_load_kw", "main_customers")
#: Instants of a timeline that are added up together.
_BLOCK = 512


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


class Timeline:
    """Losses as a step function of time: what is lost from each of `instants` to the next.

    Only the steps are held, with sums and maxima per block of instants, so that weeks of losses
    need little memory. Arrays have the shape (…, districts + 1, quantities): rows follow `adcodes`,
    the last is what lies outside the city.
    """

    def __init__(
        self,
        instants: Sequence[datetime],
        adcodes: Sequence[str],
        steps: tuple[Ints, Ints, Ints] | None = None,
    ) -> None:
        self.instants, self.adcodes = tuple(instants), tuple(adcodes)
        none = np.zeros(0, np.int64)
        at, place, amount = steps or (none, none, np.zeros((0, len(QUANTITIES)), np.int64))
        order = np.argsort(at, kind="stable")
        self._at, self._place, self._amount = at[order], place[order], amount[order]
        blocks = -(-len(self.instants) // _BLOCK)
        edges = np.minimum(np.arange(blocks + 1) * _BLOCK, len(self.instants))
        self._edges = np.searchsorted(self._at, edges)
        shape = (len(self.adcodes) + 1, len(QUANTITIES))
        self._before = np.zeros((blocks + 1, *shape), np.int64)
        self._most = np.zeros((blocks, *shape), np.int64)
        #: Of each instant: whether anything is lost, and the main grid's load lost in all, kW.
        self.losing = np.zeros(len(self.instants), dtype=bool)
        self.main_load_kw = np.zeros(len(self.instants), np.int64)
        self._kept: tuple[int, Ints] = (-1, none)
        for block in range(blocks):
            lost = self._block(block)
            own = slice(block * _BLOCK, block * _BLOCK + len(lost))
            self._before[block + 1], self._most[block] = lost[-1], lost.max(axis=0)
            self.losing[own] = lost.any(axis=(1, 2))
            self.main_load_kw[own] = lost[:, :, QUANTITIES.index("main_load_kw")].sum(axis=1)

    def _block(self, block: int) -> Ints:
        if self._kept[0] != block:
            first = block * _BLOCK
            own = slice(self._edges[block], self._edges[block + 1])
            size = min(_BLOCK, len(self.instants) - first)
            lost = np.zeros((size, len(self.adcodes) + 1, len(QUANTITIES)), np.int64)
            np.add.at(lost, (self._at[own] - first, self._place[own]), self._amount[own])
            summed: Ints = lost.cumsum(axis=0) + self._before[block]
            self._kept = (block, summed)
        return self._kept[1]

    def at_end(self) -> Ints:
        """What is lost after the last instant."""
        last: Ints = self._before[-1]
        return last

    def during(self, low: int, high: int) -> Ints:
        """What is lost at each of the instants `[low, high)`."""
        parts = [
            self._block(block)[max(0, low - block * _BLOCK) : high - block * _BLOCK]
            for block in range(low // _BLOCK, -(-high // _BLOCK))
        ]
        empty: Ints = np.zeros((0, *self._before.shape[1:]), np.int64)
        return np.concatenate(parts) if parts else empty

    def span(self, since: datetime | None, until: datetime | None) -> tuple[int, int]:
        """The instants `[low, high)` at which the losses after `since` and before `until` stand;
        what was still lost at `since` is among them."""
        low = 0 if since is None else max(bisect_right(self.instants, since) - 1, 0)
        high = len(self.instants) if until is None else bisect_left(self.instants, until)
        return low, high

    def most(self, low: int, high: int) -> Ints:
        """The maxima over the instants `[low, high)`, each quantity by itself; not empty."""
        whole = slice(-(-low // _BLOCK), high // _BLOCK)
        if whole.start >= whole.stop:
            highest: Ints = self.during(low, high).max(axis=0)
            return highest
        parts = [self._most[whole].max(axis=0)]
        for a, b in ((low, whole.start * _BLOCK), (whole.stop * _BLOCK, high)):
            if a < b:
                parts.append(self.during(a, b).max(axis=0))
        reduced: Ints = np.maximum.reduce(parts)
        return reduced


def timeline(losses: Iterable[Loss], adcodes: Sequence[str], *, until: datetime) -> Timeline:
    """Add up losses over time, up to `until` (later instants are not yet).

    The order of `losses` never matters; what is in none of `adcodes` lies outside the city.
    """
    index: Mapping[str | None, int] = {code: i for i, code in enumerate(adcodes)}
    instants: list[datetime] = []
    places: list[int] = []
    amounts: list[tuple[int, int, int, int]] = []
    for loss in losses:
        if loss.since > until or (loss.until is not None and loss.until <= loss.since):
            continue
        place, main = index.get(loss.adcode, len(adcodes)), int(loss.main_grid)
        load, customers = loss.load_kw, loss.customers
        instants.append(loss.since)
        places.append(place)
        amounts.append((load, customers, load * main, customers * main))
        if loss.until is not None and loss.until <= until:
            instants.append(loss.until)
            places.append(place)
            amounts.append((-load, -customers, -load * main, -customers * main))
    if not instants:
        return Timeline((), adcodes)
    ordered = sorted(set(instants))
    position = {instant: i for i, instant in enumerate(ordered)}
    at = np.array([position[instant] for instant in instants], np.int64)
    return Timeline(ordered, adcodes, (at, np.array(places, np.int64), np.array(amounts, np.int64)))


def down_intervals(
    observations: Sequence[tuple[datetime, str, str]], state_at_import: str, since: datetime
) -> list[tuple[datetime, datetime | None]]:
    """When a facility was down, from its observations `(observed_at, state, event_id)`.

    Among observations of one instant the graver state wins (up < unknown < degraded < down), then
    the greater `event_id`. Before the first observation it is in its state at import, from `since`,
    unless it was observed earlier.
    """
    gravity = {"up": 0, "unknown": 1, "degraded": 2, "down": 3}
    ordered = sorted(observations, key=lambda o: (o[0], gravity[o[1]], o[2]))
    intervals: list[tuple[datetime, datetime | None]] = []
    at_first = not ordered or since < ordered[0][0]
    down_since = since if state_at_import == "down" and at_first else None
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
    main_load_kw: int
    assessment: dict[str, Any]

    @property
    def rank(self) -> tuple[int, int, datetime]:
        """Less is graver: the level, then the greater loss of the main grid, then the earlier."""
        return (self.assessment["level"] or 9, -self.main_load_kw, self.at)


def worst_moment(
    line: Timeline,
    since: datetime | None,
    assess: Callable[[Ints], dict[str, Any]],
    *,
    until: datetime | None = None,
    before: WorstMoment | None = None,
) -> WorstMoment | None:
    """The gravest moment of the event that began after `since`; None while nothing was lost.

    `assess` grades one instant's losses, shape (districts + 1, quantities); more losses must never
    give a lighter level, for a span of instants is judged by all its maxima together, and divided
    only while that may be graver than any instant found. Ties go to the greater loss of the main
    grid, then to the earlier instant. Only instants before `until` count (None: all). `before` is
    the gravest moment of the same event until `since`: the answer is then that of both together.
    """
    if not line.instants:
        return before
    after = since or line.instants[0]
    # What was still lost at the close belongs to the new event from the close on.
    first, end = line.span(after, until)
    losing = line.losing[first:end]
    if not losing.any():
        return before
    first += int(losing.argmax())
    opened_at = before.opened_at if before else max(line.instants[first], after)

    def bound(low: int, high: int) -> tuple[int, int, int, int, dict[str, Any]]:
        """No instant of the span `[low, high)` comes before this; one alone is exactly this."""
        together = assess(line.most(low, high))
        main_load_kw = int(line.main_load_kw[low:high].max())
        return (together["level"] or 9, -main_load_kw, low, high, together)

    spans = [bound(first, end)]
    while True:
        level, main_load, low, high, found = heappop(spans)
        if before is not None and (level, main_load) >= before.rank[:2]:
            return before
        if high - low == 1:
            return WorstMoment(opened_at, max(line.instants[low], after), -main_load, found)
        middle = (low + high) // 2
        heappush(spans, bound(low, middle))
        heappush(spans, bound(middle, high))
