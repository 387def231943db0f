"""What a scenario supposes: what is known, changed in memory, to be graded by the same rules.

Nothing is written. The changes are made to a copy of `geo.situation.Known`: counts of facilities,
losses and supply of power, open incidents. docs/meanings.md, "Regions and scenarios".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pandas as pd

from geo.power import Loss, Supply
from geo.situation import COUNTS, Known

Place = tuple[str, str, str | None, str | None]
"""kind, operator, adcode, unit."""


#: What `data.facilities_at.standing` selects for `Standing`, joined with its `PLACED`.
STANDING_COLUMNS = (
    "SELECT standing.pk, standing.facility_id, standing.kind, standing.operator, d.adcode, d.unit,"
    " main_grid, load_kw, customers, CAST(state AS text) AS state"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A facility in force: where it counts, and the state it is known to be in."""

    pk: int
    facility_id: str
    kind: str
    operator: str
    adcode: str | None
    unit: str | None
    main_grid: bool
    load_kw: int
    customers: int
    state: str

    @property
    def place(self) -> Place:
        return (self.kind, self.operator, self.adcode, self.unit)


@dataclass
class World:
    """What is known, and what of it a scenario has changed so far.

    `by_return`: operator and kind whose figures are a return's. `covered`: pks of supply facilities
    that count only through an outage, real or supposed.
    """

    known: Known
    by_return: frozenset[tuple[str, str]] = frozenset()
    covered: set[int] = field(default_factory=set)
    state: dict[int, str] = field(default_factory=dict)
    _moves: Counter[tuple[Place, str, str]] = field(default_factory=Counter)
    _losses: list[Loss] = field(default_factory=list)
    _unknown: dict[tuple[str | None, bool], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0])
    )
    _incidents: list[dict[str, Any]] = field(default_factory=list)

    def copy(self) -> World:
        """Another world that begins as this one is now."""
        other = World(self.known, self.by_return, set(self.covered), dict(self.state))
        other._moves = self._moves.copy()
        other._losses = list(self._losses)
        other._unknown.update({key: list(value) for key, value in self._unknown.items()})
        other._incidents = list(self._incidents)
        return other

    def state_of(self, one: Standing) -> str:
        return self.state.get(one.pk, one.state)

    def set_state(self, one: Standing, state: str, at: datetime) -> bool:
        """Suppose a facility to be in a state from `at` on; whether that is a change."""
        before = self.state_of(one)
        if before == state:
            return False
        self.state[one.pk] = state
        self._moves[one.place, before, state] += 1
        if one.kind in self.known.supply_kinds and one.pk not in self.covered:
            if before == "down":
                self._lose(one, -1, at)
            if state == "down":
                self._lose(one, 1, at)
            if self._unheard(one, before):
                self._know(one)
        return True

    def cover(self, one: Standing, at: datetime) -> None:
        """From `at` on a supply facility counts only through an outage."""
        if one.pk in self.covered:
            return
        self.covered.add(one.pk)
        state = self.state_of(one)
        if state == "down":
            self._lose(one, -1, at)
        elif one.pk not in self.state and self._unheard(one, state):
            self._know(one)

    def uncover(self, one: Standing, at: datetime) -> None:
        """From `at` on a supply facility counts by itself again."""
        if one.pk in self.covered:
            self.covered.discard(one.pk)
            if self.state_of(one) == "down":
                self._lose(one, 1, at)

    def lose(self, parts: Iterable[Mapping[str, Any]], main_grid: bool, at: datetime) -> None:
        """The parts of an outage per district, lost from `at` on."""
        for part in parts:
            load = part["load_shed_kw"] - (part.get("restored_load_kw") or 0)
            self._losses.append(Loss(part["adcode"], main_grid, load, part["customers_out"], at))

    def regain(self, parts: Iterable[Mapping[str, Any]], main_grid: bool, at: datetime) -> None:
        """The parts of an outage per district, back from `at` on."""
        for part in parts:
            load = part["load_shed_kw"] - (part.get("restored_load_kw") or 0)
            self._losses.append(Loss(part["adcode"], main_grid, -load, -part["customers_out"], at))

    def add_incident(self, incident: Mapping[str, Any]) -> None:
        self._incidents.append(dict(incident))

    def changed(self) -> dict[str, dict[str, int]]:
        """kind → {"up→down": count}, of every change made."""
        found: dict[str, dict[str, int]] = {}
        for ((kind, *_), before, after), count in sorted(self._moves.items(), key=str):
            moves = found.setdefault(kind, {})
            moves[f"{before}→{after}"] = moves.get(f"{before}→{after}", 0) + count
        return found

    def suppose(self, now: datetime | None = None) -> Known:
        """What would be known; `now` moves the clock on. Area shares are left out, as not known."""
        known = self.known
        return replace(
            known,
            now=now or known.now,
            counts=self._counts(),
            supply=self._supply(),
            losses=[*known.losses, *self._losses],
            incidents=[*known.incidents, *self._incidents],
            area_share={},
        )

    # --- pieces ---------------------------------------------------------------------------------

    def _unheard(self, one: Standing, state: str) -> bool:
        """Whether its load counts as unknown (`data.power`)."""
        return state == "unknown" or (one.operator in self.known.silent and state != "down")

    def _lose(self, one: Standing, sign: int, at: datetime) -> None:
        figures = (sign * one.load_kw, sign * one.customers)
        self._losses.append(Loss(one.adcode, one.main_grid, *figures, at))

    def _know(self, one: Standing) -> None:
        unknown = self._unknown[one.adcode, one.main_grid]
        unknown[0] += one.load_kw
        unknown[1] += one.customers

    def _supply(self) -> dict[tuple[str | None, bool], Supply]:
        supply = dict(self.known.supply)
        for key, (load_kw, customers) in self._unknown.items():
            if key in supply:
                one = supply[key]
                supply[key] = replace(
                    one,
                    load_unknown_kw=max(one.load_unknown_kw - load_kw, 0),
                    customers_unknown=max(one.customers_unknown - customers, 0),
                )
        return supply

    def _counts(self) -> pd.DataFrame:
        counts = self.known.counts.reset_index(drop=True).copy()
        keys = counts[["kind", "operator", "adcode", "unit"]].itertuples(index=False, name=None)
        position: dict[Place, int] = {}
        for row, (kind, operator, adcode, unit) in enumerate(keys):
            position.setdefault((kind, operator, _none(adcode), _none(unit)), row)
        sums = {name: counts[name].to_numpy(dtype="int64", copy=True) for name in COUNTS}
        returned: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for (place, before, after), count in self._moves.items():
            found = position.get(place)
            if found is None:
                continue
            if (place[1], place[0]) in self.by_return:
                returned[found][0] += count * ((after == "down") - (before == "down"))
                returned[found][1] += count * (after == "down")
                continue
            for state, sign in ((before, -1), (after, 1)):
                if state != "up":
                    sums[state][found] += sign * count
        for found, (more, named) in returned.items():
            _into_return(sums, found, more, named)
        for name in COUNTS:
            counts[name] = sums[name]
        return counts


def _none(value: Any) -> Any:
    return None if value is None or value != value else value


def _into_return(sums: Mapping[str, Any], row: int, more: int, named: int) -> None:
    """A return does not say which sites its `down` are. Certain is the greater of what it says and
    what is named; that none is counted twice is only possible, so the rest is unknown."""
    total, down = int(sums["total"][row]), int(sums["down"][row])
    if more <= 0:
        certain, possible = max(down + more, min(named, total), 0), max(down + more, named, 0)
    else:
        certain, possible = max(down, min(named, total)), min(total, down + more)
    certain = min(certain, total)
    left = total - certain
    unknown = min(left, max(int(sums["unknown"][row]), possible - certain))
    sums["down"][row] = certain
    sums["unknown"][row] = unknown
    sums["degraded"][row] = min(int(sums["degraded"][row]), left - unknown)


def standing_rows(rows: Sequence[Any]) -> list[Standing]:
    """From rows whose columns are the fields of `Standing`, in order."""
    return [Standing(*row) for row in rows]
