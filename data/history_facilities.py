"""Series of facilities: shares down, what is restored of them, causes, how old reports are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from data.history_counts import Counted, CountHistory
from data.history_points import Point
from data.history_sites import CausesOfSites, NewestOfSites
from geo.counts import unheard
from geo.history import CAUSES, Share, add_causes, age_s, restored
from geo.split import split_by_weights

#: adcode (None: the city), operator where the series has one, and what the point says.
Value = tuple[str | None, str | None, dict[str, Any]]


def shared(share: Share, reason: str, **more: Any) -> dict[str, Any]:
    return {
        "value": share.value,
        "numerator": share.numerator,
        "denominator": share.denominator,
        **more,
        "reason": None if share.denominator else reason,
    }


@dataclass
class SharesDown:
    kinds: tuple[str, ...] | None

    def values(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Iterator[Value]:
        sums = _sums(counted, self.kinds)
        for adcode in there:
            total, down, unknown = sums.get(adcode, (0, 0, 0))
            yield adcode, None, shared(Share(down, total), "no_facility", unknown=unknown)


def _sums(
    counted: Counted, kinds: Collection[str] | None
) -> dict[str | None, tuple[int, int, int]]:
    """Facilities per district in all, down, and unknown, what is silent included; under None those
    of all districts together."""
    found: dict[str | None, list[int]] = defaultdict(lambda: [0, 0, 0])
    for place, count in counted.counts:
        if place.adcode is None or (kinds is not None and place.kind not in kinds):
            continue
        for key in (place.adcode, None):
            own = found[key]
            own[0] += count.total
            own[1] += count.down
            own[2] += unheard(place, count, counted.silent)
    return {key: (total, down, unknown) for key, (total, down, unknown) in found.items()}


@dataclass
class RestoredFacilities:
    """Of the greatest number down at any point of the series so far, what is back."""

    kinds: tuple[str, ...] | None
    peaks: dict[str | None, int]

    def values(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Iterator[Value]:
        sums = _sums(counted, self.kinds)
        for adcode in there:
            _, down, unknown = sums.get(adcode, (0, 0, 0))
            most = self.peaks[adcode] = max(down, self.peaks.get(adcode, 0))
            yield adcode, None, shared(restored(down, most), "nothing_lost", unknown=unknown)


@dataclass
class Causes:
    """Why those that are down are down. `by_site`: as `CauseHistory.walk`."""

    by_site: Iterator[CausesOfSites]
    kinds: tuple[str, ...] | None

    def values(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Iterator[Value]:
        by_site = next(self.by_site)
        down: dict[tuple[str, str, str | None], int] = defaultdict(int)
        told: dict[tuple[str, str, str | None], dict[str, int]] = {}
        by_zone: dict[tuple[str, str, str | None], dict[str | None, int]] = defaultdict(dict)
        for place, count in counted.counts:
            if self.kinds is None or place.kind in self.kinds:
                where = (place.operator, place.kind, place.adcode)
                down[where] += count.down
                by_zone[place.operator, place.kind, place.unit][place.adcode] = count.down
        for (operator, kind), one in counted.returns.items():
            for row in one["rows"]:
                parts = by_zone.get((operator, kind, row["code"]), {})
                for cause, number_down in (row["causes"] or {}).items():
                    for adcode, part in _parted(number_down, parts).items():
                        own = told.setdefault((operator, kind, adcode), defaultdict(int))
                        own[cause] += part
        sums: dict[str | None, dict[str, int]] = defaultdict(lambda: dict.fromkeys(CAUSES, 0))
        totals: dict[str | None, int] = defaultdict(int)
        for where, number_down in down.items():
            operator, kind, adcode = where
            if adcode is None or not number_down:
                continue
            by_return = (operator, kind) in counted.returns
            causes = (told if by_return else by_site).get(where, {})
            for key in (adcode, None):
                totals[key] += number_down
                add_causes(sums[key], causes, number_down)
        for adcode in there:
            yield adcode, None, {"value": totals[adcode], "causes": sums[adcode], "reason": None}


def _parted(number: int, parts: Mapping[str | None, int]) -> dict[str | None, int]:
    """A cause of a zone's total by its districts, in proportion to how many are down in each."""
    if len(parts) <= 1:
        return dict.fromkeys(parts, number)
    return split_by_weights(min(number, sum(parts.values())), parts, at_most=parts)


class Reports:
    """How old the newest word of each operator is, in seconds. `by_site`: as
    `ReportHistory.walk`; returns are words too."""

    def __init__(
        self,
        by_site: Iterator[NewestOfSites],
        kinds: tuple[str, ...] | None,
        counts: CountHistory,
    ) -> None:
        self._sites, self._kinds, self._counts = by_site, kinds, counts
        self._hosts = {unit["code"]: unit["adcodes"] for unit in counts.units}
        self._returned: dict[tuple[str, str | None], datetime] = {}
        self._seen: set[str] = set()

    def values(
        self, number: int, point: Point, counted: Counted, there: Collection[str | None]
    ) -> Iterator[Value]:
        by_site = next(self._sites)
        self._take_returns()
        operators: dict[str | None, set[str]] = defaultdict(set)
        for place, count in counted.counts:
            mine = self._kinds is None or place.kind in self._kinds
            if mine and place.operator and count.total:
                operators[place.adcode].add(place.operator)
                operators[None].add(place.operator)
        newest: dict[tuple[str, str | None], list[datetime]] = defaultdict(list)
        anywhere: dict[str, list[datetime]] = defaultdict(list)
        for told in (by_site, self._returned):
            for (operator, adcode), instant in told.items():
                newest[operator, adcode].append(instant)
                anywhere[operator].append(instant)
        for adcode in there:
            for operator in sorted(operators[adcode]):
                heard = anywhere[operator] if adcode is None else newest[operator, adcode]
                age = age_s(point.at, heard)
                yield (
                    adcode,
                    operator,
                    {
                        "value": age,
                        "observed_at": max(heard).isoformat() if heard else None,
                        "silent": operator in counted.silent,
                        "reason": "never_reported" if age is None else None,
                    },
                )

    def _take_returns(self) -> None:
        for (operator, kind), one in self._counts.newest_returns.items():
            if one["return_id"] in self._seen or not (self._kinds is None or kind in self._kinds):
                continue
            self._seen.add(one["return_id"])
            for row in one["rows"]:
                for adcode in self._hosts.get(row["code"], []):
                    key = (operator, adcode)
                    self._returned[key] = max(one["as_of"], self._returned.get(key, one["as_of"]))
