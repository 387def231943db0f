"""Exact area shares, computed in the background for the districts where something is out.

docs/meanings.md, "Area": the situation says a share at once from samples and again, marked
`exact`, from unions of cells (`geo.coverage.exact_area_share`). One daemon thread of the process
that builds computes what the newest situation wants, a district and kind at a time, with a lower
priority than all other threads and resting as long as it works or longer (`Background`). Nobody
waits for it: a result is there or not. It is found again by what it was computed from
(`KindInventory.key`).
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
import structlog
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from data.background import Background
from data.exact_results import ExactResults, Pair
from data.kind_inventory import KindInventory, area_digest
from geo.coverage import AreaShare, exact_area_share, service_cells

#: A district's share is computed once it has been wanted unchanged for so long, in seconds.
CALM_S = 1.0
#: While others are still wanted, what is ready is told after so long, in seconds.
TELL_S = 10.0
#: Added to the thread's niceness.
NICER = 10
#: Shares are kept to so many places: beyond, overlays in degrees say nothing.
PLACES = 12
FAILED_KEPT = 1_000
REACHED_KEPT = 4_000

Mask = NDArray[np.bool_]
Shares = dict[str, AreaShare]

log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class Wanted:
    """A district's area out of service for a kind: `down` as `KindInventory.down_in`, `areas` the
    reported ones that reach the district; `since` by the monotonic clock."""

    key: str
    kind: str
    inventory: KindInventory
    district: int
    down: Mask
    areas: tuple[BaseGeometry, ...]
    since: float = 0.0

    @property
    def adcode(self) -> str:
        return self.inventory.adcodes[self.district]


class ExactAreas(Background):
    """Exact shares by content. `revision` grows when the situation should be looked at anew."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__("exact-area")
        self._results = ExactResults(folder)
        self._wanted: dict[tuple[str, str], Wanted] = {}
        #: Keys that the last situation computed here has; those computed since and not yet told.
        self._used: frozenset[str] = frozenset()
        self._untold: dict[str, float] = {}
        self._failed: OrderedDict[str, None] = OrderedDict()
        self._reached: OrderedDict[tuple[bytes, ...], frozenset[int]] = OrderedDict()
        self.revision = 0

    @property
    def settled(self) -> bool:
        """Whether nothing the newest situation wanted is still to be computed."""
        with self._changed:
            return self._thread is None or not self._open()

    def wanted(
        self, kind: str, inventory: KindInventory, is_down: Mask, areas: Sequence[BaseGeometry]
    ) -> list[Wanted]:
        """The districts in which anything of a kind is out. `is_down` per facility of the
        inventory, `areas` valid (EPSG:4326), those that concern the kind."""
        reaching = self._reaching(inventory, areas)
        found = []
        for district in sorted({*inventory.districts_with(is_down), *reaching}):
            reported = reaching.get(district, [])
            down = inventory.down_in(district, is_down)
            key = inventory.key(district, down, tuple(digest for digest, _ in reported))
            own = tuple(area for _, area in reported)
            found.append(Wanted(key, kind, inventory, district, down, own))
        return found

    def past(self, shares: Shares, wanted: Iterable[Wanted], through: int) -> Shares:
        """A kind's sampled shares, with the exact ones in their place that a situation had shown
        by the sequence `through`. Where nothing is out, zero is exact."""
        self._results.refresh()
        return self._better(shares, wanted, through)[0]

    def live(self, asked: Mapping[str, tuple[Shares, Sequence[Wanted]]]) -> dict[str, Shares]:
        """The same for the newest situation, every kind with what it wants: with all that is known.
        The rest is begun, and what was wanted before is given up."""
        self._results.refresh()
        now = time.monotonic()
        found, used = {}, set()
        with self._changed:
            before, self._wanted = self._wanted, {}
            for kind, (shares, wanted) in asked.items():
                found[kind], keys = self._better(shares, wanted, None)
                used |= keys
                for one in wanted:
                    place = (kind, one.adcode)
                    last = before.get(place)
                    since = last.since if last is not None and last.key == one.key else now
                    self._wanted[place] = replace(one, since=since)
            self._used = frozenset(used)
            keys = {one.key for one in self._wanted.values()} - used
            self._untold = {key: t for key, t in self._untold.items() if key in keys}
            self._changed.notify_all()
        return found

    def _better(
        self, shares: Shares, wanted: Iterable[Wanted], through: int | None
    ) -> tuple[Shares, set[str]]:
        keys = {one.adcode: one.key for one in wanted}
        found, used = {}, set()
        for adcode, share in shares.items():
            if adcode not in keys:
                found[adcode] = AreaShare(0.0, 0.0, "exact")
                continue
            pair = self._results.get(keys[adcode], through)
            found[adcode] = share if pair is None else AreaShare(*pair, "exact")
            if pair is not None:
                used.add(keys[adcode])
        return found, used

    def told(self, sequence: int) -> None:
        """The situation last computed here is stored under `sequence`."""
        self._results.shown(self._used, sequence)

    def _reaching(
        self, inventory: KindInventory, areas: Sequence[BaseGeometry]
    ) -> dict[int, list[tuple[bytes, BaseGeometry]]]:
        """By district, the areas that reach it, with their digests."""
        if not areas:
            return {}
        keys = [(inventory.ground_digest, area_digest(area)) for area in areas]
        with self._changed:
            known = {key: self._reached[key] for key in keys if key in self._reached}
        new = [i for i, key in enumerate(keys) if key not in known]
        if new:
            # each ground is prepared once and asked about all the areas
            tree = shapely.STRtree([areas[i] for i in new])
            ground, area = tree.query(inventory.grounds, predicate="intersects")
            for n, i in enumerate(new):
                known[keys[i]] = frozenset(int(g) for g in ground[area == n])
        with self._changed:
            for key in keys:
                self._reached[key] = known[key]
                self._reached.move_to_end(key)
            while len(self._reached) > max(REACHED_KEPT, len(keys)):
                self._reached.popitem(last=False)
        found: dict[int, list[tuple[bytes, BaseGeometry]]] = {}
        for key, area in zip(keys, areas, strict=True):
            for district in known[key]:
                found.setdefault(district, []).append((key[1], area))
        return found

    # --- the thread ---

    def _run(self) -> None:
        _yield_to_others()
        while (one := self._await()) is not None:
            started = time.monotonic()
            try:
                pair = exact_pair(one, lambda: self._stopping)
            except Exception as error:  # outlives any fault of a geometry; the samples stay
                fault = {"error": type(error).__name__, "detail": str(error)[:300]}
                log.warning("exact_area_fails", kind=one.kind, adcode=one.adcode, **fault)
                pair = None
            took_s = time.monotonic() - started
            with self._changed:
                if self._stopping:
                    return
                self._take(one, pair)
                self._rest(took_s)

    def _await(self) -> Wanted | None:
        """The next to compute; None once stopped. Says on the way that there is something to tell,
        when nothing is left or the first has waited for long."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                still = self._open()
                oldest = min(self._untold.values(), default=now)
                if self._untold and (not still or now - oldest > TELL_S):
                    self._untold.clear()
                    self.revision += 1
                calm = [one for one in still if one.since + CALM_S <= now]
                if calm:
                    return min(calm, key=lambda one: (len(one.down), one.since))
                first = min((one.since + CALM_S for one in still), default=None)
                self._changed.wait(None if first is None else first - now)
        return None

    def _open(self) -> list[Wanted]:
        return [
            one
            for one in self._wanted.values()
            if one.key not in self._failed and self._results.get(one.key, None) is None
        ]

    def _take(self, one: Wanted, pair: Pair | None) -> None:
        if pair is None:
            self._failed[one.key] = None
            while len(self._failed) > FAILED_KEPT:
                self._failed.popitem(last=False)
            return
        self._results.add(one.key, pair)
        if any(one.key == other.key for other in self._wanted.values()):
            self._untold[one.key] = time.monotonic()


def exact_pair(one: Wanted, given_up: Callable[[], bool] = lambda: False) -> Pair | None:
    """(any, all) of a district, fractions, by unions of its cells; None when given up."""
    ground = one.inventory.ground_of(one.district)
    facilities = one.inventory.facilities_in(one.district)
    cells = service_cells(facilities, ground, {"any": one.inventory.reach_m})
    if given_up():
        return None
    down = facilities["facility_id"][one.down].tolist()
    found = exact_area_share(cells, ground, down, one.areas).iloc[0]
    any_share, all_share = (round(float(found[name]), PLACES) for name in ("any", "all"))
    return any_share, all_share


def _yield_to_others() -> None:
    """Let every other thread of the machine go first. Linux has a niceness per thread."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICER)
    except (OSError, AttributeError) as error:
        log.info("exact_area_priority", error=type(error).__name__)
