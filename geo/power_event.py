"""The power plan over an event: its level is that of the worst simultaneous moment, `current` now.

Every moment is held against the inventory in force at that moment, so that retiring a substation
takes nothing from what was lost with it. What is settled (`Settled`) need not be looked at again
until a report speaks of an instant before it: the answer is the same with and without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from geo.grade import assess, district_levels, level_bounds
from geo.power import QUANTITIES, Ints, Loss, Supply, WorstMoment, timeline, worst_moment
from geo.rules import RulePack

#: Supply per (adcode, main_grid).
Supplies = Mapping[tuple[str | None, bool], Supply]


@dataclass(frozen=True)
class Earlier:
    """What was supplied until an instant, by the inventory then in force."""

    until: datetime
    supply: Supplies


@dataclass(frozen=True)
class Settled:
    """The worst moment of the event, per plan, before the instant `through`."""

    through: datetime
    worst: Mapping[str, WorstMoment | None] = field(default_factory=dict)


class EventLevels(NamedTuple):
    """A plan's level over an event, its bounds, and the level of what is lost now."""

    level: int | None
    at_least: int | None
    at_most: int | None
    current: int | None


class PowerView:
    """Supply and losses per district: rows are adcodes and, last, what lies outside the city."""

    def __init__(self, adcodes: Sequence[str], supply: Supplies, lost: Ints) -> None:
        self.adcodes = list(adcodes)
        self.lost = lost
        shape = (len(self.adcodes) + 1, len(QUANTITIES))
        self.supplied = np.zeros(shape, np.int64)
        self.unknown = np.zeros(shape, np.int64)
        index = {code: i for i, code in enumerate(self.adcodes)}
        for (adcode, main), s in supply.items():
            row = index.get(adcode or "", len(self.adcodes))
            self.supplied[row] += (s.load_kw, s.customers, s.load_kw * main, s.customers * main)
            lost_kw, out = (s.load_unknown_kw, s.customers_unknown)
            self.unknown[row] += (lost_kw, out, lost_kw * main, out * main)

    def supply_of(self, i: int, lost: Ints | None = None) -> Supply:
        """Every supplier's figures of the i-th district."""
        load, customers, _, _ = (int(v) for v in self.supplied[i])
        shed, out, _, _ = (int(v) for v in (self.lost if lost is None else lost)[i])
        dark, blind, _, _ = (int(v) for v in self.unknown[i])
        return Supply(load, shed, dark, customers, out, blind).capped()

    def city(self, lost: Ints) -> Supply:
        """The main grid's figures over the whole city, what lies outside included."""
        _, _, load, customers = (int(v) for v in self.supplied.sum(axis=0))
        capped = np.minimum(lost, self.supplied) if lost.size else lost
        _, _, shed, out = (int(v) for v in capped.sum(axis=0))
        _, _, dark, blind = (int(v) for v in self.unknown.sum(axis=0))
        return Supply(load, shed, dark, customers, out, blind).capped()

    def facts(self, lost: Ints, *, worst: bool = False) -> dict[str, Any]:
        """The plan's facts for one instant's losses; with `worst`, unknown counts as lost."""

        def shown(supply: Supply) -> dict[str, Any]:
            s = supply.if_unknown_is_lost() if worst else supply
            return {
                "load_mw": s.load_kw / 1000,
                "load_shed_mw": s.load_shed_kw / 1000,
                "customers": s.customers,
                "customers_out": s.customers_out,
            }

        return {
            "city": shown(self.city(lost)),
            "districts": [
                {"adcode": code, **shown(self.supply_of(i, lost))}
                for i, code in enumerate(self.adcodes)
            ],
        }


class PowerEvent:
    """The losses since the last confirmed close, and what stood against them at each instant.

    `after`: since when `losses` are complete, the close or, with `settled`, its `through`.
    `earlier`: inventories no longer in force, in order. `settle_at`: instants, in order and after
    `after`, before which nothing is expected to change, so that the worst until then may be kept.
    """

    def __init__(
        self,
        adcodes: Sequence[str],
        supply: Supplies,
        losses: Sequence[Loss],
        *,
        now: datetime,
        after: datetime | None = None,
        earlier: Sequence[Earlier] = (),
        settled: Settled | None = None,
        settle_at: Sequence[datetime] = (),
    ) -> None:
        self.now, self.after = now, after
        self.line = timeline(losses, adcodes, until=now)
        self.view = PowerView(adcodes, supply, self.line.at_end())
        self._earlier = [
            (one.until, PowerView(adcodes, one.supply, self.line.at_end())) for one in earlier
        ]
        self._settled = settled
        self._settle_at = settle_at
        #: What `graded` found to be settled, per instant of `settle_at`.
        self.found: dict[datetime, dict[str, WorstMoment | None]] = {}

    def settled(self) -> list[Settled]:
        """The worst moments that need not be looked for again, in order of time."""
        return [Settled(instant, worst) for instant, worst in sorted(self.found.items())]

    def graded(
        self, pack: RulePack, declared: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, int | None]]:
        """The plan's assessment, and the level of each district by its facts alone, now."""

        def by(view: PowerView) -> Callable[[Ints], dict[str, Any]]:
            return lambda lost: assess(pack, {**declared, **view.facts(lost)}, now=self.now)

        lost = self.view.lost
        current = by(self.view)(lost)
        at_most = assess(pack, {**declared, **self.view.facts(lost, worst=True)}, now=self.now)
        worst = self._worst(pack, by)
        assessment = dict(worst.assessment if worst else current)
        assessment["bounds"] = {
            "at_least": assessment["level"],
            "at_most": graver(assessment["level"], at_most["bounds"]["at_most"]),
        }
        assessment["current"] = {
            k: current[k] for k in ("level", "label", "severity", "colour", "facts")
        }
        assessment["event"] = self._told(worst)
        return assessment, district_levels(pack, current["facts"], self.now)

    def levels(
        self,
        pack: RulePack,
        declared: Mapping[str, Any],
        known: dict[tuple[bytes, bytes], int | None] | None = None,
    ) -> EventLevels:
        """The levels of `graded` without its reasons, and without the districts. What it finds
        settled (`settled`) is for `levels` alone. `known`: levels by what there was and what was
        lost, kept by the caller for as long as pack and declarations stay."""
        before = {} if known is None else known

        def by(view: PowerView) -> Callable[[Ints], dict[str, Any]]:
            there = view.supplied.tobytes()

            def level(lost: Ints) -> dict[str, Any]:
                key = (there, lost.tobytes())
                if key not in before:
                    facts = {**declared, **view.facts(lost)}
                    before[key] = level_bounds(pack, facts, self.now)[0]
                return {"level": before[key]}

            return level

        lost = self.view.lost
        current = by(self.view)(lost)["level"]
        unknown_lost = {**declared, **self.view.facts(lost, worst=True)}
        worst = self._worst(pack, by)
        level = worst.assessment["level"] if worst else current
        at_most = graver(level, level_bounds(pack, unknown_lost, self.now)[1])
        return EventLevels(level, level, at_most, current)

    def _worst(
        self, pack: RulePack, by: Callable[[PowerView], Callable[[Ints], dict[str, Any]]]
    ) -> WorstMoment | None:
        worst = self._settled.worst.get(pack.plan) if self._settled else None
        for since, until, view in self._spans():
            worst = worst_moment(self.line, since, by(view), until=until, before=worst)
            if until is not None and until in self._settle_at:
                self.found.setdefault(until, {})[pack.plan] = worst
        return worst

    def greatest(self) -> Ints:
        """The greatest loss of each quantity in the event, shape (districts + 2, quantities): rows
        as in `PowerView`, then the city as a whole at one instant. Each instant is capped at what
        there was then. Complete only where `losses` are, since the event's beginning."""
        most = np.zeros((len(self.view.adcodes) + 2, len(QUANTITIES)), np.int64)
        for since, until, view in self._spans():
            low, high = self.line.span(since, until)
            if low < high:
                capped = np.minimum(self.line.during(low, high), view.supplied)
                most[:-1] = np.maximum(most[:-1], capped.max(axis=0))
                most[-1] = np.maximum(most[-1], capped.sum(axis=1).max(axis=0))
        return most

    def _spans(self) -> Iterator[tuple[datetime | None, datetime | None, PowerView]]:
        """The event cut where the inventory changed and where it is to be settled."""
        since = self.after
        ends = sorted({*self._settle_at, *(until for until, _ in self._earlier)})
        for until in (*ends, None):
            if until is not None and since is not None and until <= since:
                continue
            view = next((v for u, v in self._earlier if until is not None and until <= u), None)
            yield since, until, view or self.view
            since = until

    def _told(self, worst: WorstMoment | None) -> dict[str, Any] | None:
        if worst is None:
            return None
        city = self.view.city(self.view.lost)
        return {
            "opened_at": worst.opened_at.isoformat(),
            "worst_at": worst.at.isoformat(),
            "basis": {
                "load": "sum of the load of supply facilities in force",
                "city": "main grid",
                "districts": "every supplier",
                "load_mw": city.load_kw / 1000,
                "customers": city.customers,
            },
        }


def graver(a: int | None, b: int | None) -> int | None:
    """The graver of two levels, 1 being the gravest; null is none."""
    levels = [v for v in (a, b) if v is not None]
    return min(levels) if levels else None
