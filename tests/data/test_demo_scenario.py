"""The storm's script: the same levels at the same minutes for any inventory, by the plans' rules."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from shapely.geometry import Point, shape

from data.demo_scenario import (
    COMMUNICATIONS,
    DISTRICTS,
    LENGTH_MINUTES,
    POWER,
    SPECIAL_EQUIPMENT,
    EventClose,
    IncidentReport,
    IncidentUpdate,
    OutageReport,
    StatusReport,
    level_changes,
    storm,
)
from data.inventory import make_inventory
from data.readers.boundaries import default_divisions
from data.rulepacks import RulePacks, load_packs
from geo.assign import DistrictLocator
from geo.errors import InvalidInput
from geo.grade import assess
from tests.demo_levels import PLANS, changes, expected


@pytest.fixture(scope="module")
def packs() -> RulePacks:
    return load_packs()


def inventory_of(n: int, seed: int) -> pd.DataFrame:
    """A synthetic inventory as the player reads it, with the districts of now."""
    frames = [division.frame for division in default_divisions()]
    frame = make_inventory(n, seed, frames)
    locator = DistrictLocator(frames[-1])
    adcodes = pd.Series([*locator.adcodes, None], dtype=object)
    frame["adcode"] = adcodes.iloc[locator.assign(frame["lon"], frame["lat"])].to_numpy()
    frame["equipment"] = frame["attributes"].str.extract('"equipment":"([a-z_]+)"')[0]
    return frame


class Ledger:
    """Grades the steps by hand: states, losses, incidents, without any database."""

    def __init__(self, inventory: pd.DataFrame, packs: RulePacks) -> None:
        self.rows = inventory.set_index("facility_id")
        self.packs = packs
        self.state = pd.Series("up", index=self.rows.index, dtype=object)
        self.incidents: dict[str, dict[str, Any]] = {}
        self.worst: int | None = None

    def take(self, step: Any) -> None:
        if isinstance(step, StatusReport):
            self.state[list(step.facility_ids)] = step.state
        elif isinstance(step, IncidentReport | IncidentUpdate):
            self.incidents[step.key] = step.facts
            if isinstance(step, IncidentUpdate) and step.state == "resolved":
                del self.incidents[step.key]
        elif isinstance(step, EventClose):
            self.worst = None

    def levels(self) -> dict[str, int | None]:
        down = self.state == "down"
        pooled = self.rows["kind"].isin(["base_station", "exchange"])
        total = pooled.groupby(self.rows["adcode"]).sum()
        lost = (pooled & down).groupby(self.rows["adcode"]).sum()
        units = [
            {
                "adcode": code,
                "facilities_total": int(total[code]),
                "facilities_down": int(lost[code]),
            }
            for code in total.index
        ]
        power = self._graded(POWER, self._power(down))
        if self.city_share(down) >= 0.05:
            raise AssertionError("the city's own thresholds come into play")
        self.worst = min((v for v in (self.worst, power) if v is not None), default=None)
        lifts = [
            self._graded(SPECIAL_EQUIPMENT, {"equipment": "elevator", **facts})
            for facts in self.incidents.values()
        ]
        return {
            COMMUNICATIONS: self._graded(COMMUNICATIONS, {"districts": units}),
            POWER: self.worst,
            SPECIAL_EQUIPMENT: min((v for v in lifts if v is not None), default=None),
        }

    def city_share(self, down: pd.Series) -> float:
        main = self.rows["main_grid"] & (self.rows["kind"] == "substation")
        return max(
            float(self.rows.loc[main & down, column].sum() / self.rows.loc[main, column].sum())
            for column in ("load_kw", "customers")
        )

    def _power(self, down: pd.Series) -> dict[str, Any]:
        supply = self.rows[self.rows["kind"] == "substation"]
        lost = supply[down[supply.index]]
        districts = []
        for code, own in supply.groupby("adcode"):
            gone = lost[lost["adcode"] == code]
            districts.append(
                {
                    "adcode": code,
                    "load_mw": int(own["load_kw"].sum()) / 1000,
                    "load_shed_mw": int(gone["load_kw"].sum()) / 1000,
                    "customers": int(own["customers"].sum()),
                    "customers_out": int(gone["customers"].sum()),
                }
            )
        return {"districts": districts}

    def _graded(self, plan: str, facts: dict[str, Any]) -> int | None:
        level: int | None = assess(self.packs.current(plan), facts)["level"]
        return level


@pytest.mark.parametrize(("n", "seed"), [(10_000, 1), (20_000, 7), (20_000, 8), (100_000, 2026)])
def test_the_levels_change_as_the_table_says_at_any_size_and_seed(
    packs: RulePacks, n: int, seed: int
) -> None:
    inventory = inventory_of(n, seed)
    ledger = Ledger(inventory, packs)
    steps = storm(inventory, seed)
    seen = []
    for minute in sorted({step.minute for step in steps}):
        for step in steps:
            if step.minute == minute:
                ledger.take(step)
        seen.append((minute, ledger.levels()))
    assert changes(seen) == expected()
    assert (ledger.state == "up").all()
    assert not ledger.incidents


def test_the_table_rises_through_three_levels_and_ends_with_none() -> None:
    final: dict[str, int | None] = {}
    reached: dict[str, list[int | None]] = {plan: [] for plan in PLANS}
    for minute, plan, level in level_changes():
        assert 0 <= minute <= LENGTH_MINUTES
        final[plan] = level
        reached[plan].append(level)
    assert final == dict.fromkeys(PLANS)
    assert reached[COMMUNICATIONS] == [4, 3, 2, 3, 4, None]
    assert reached[POWER] == [4, 3, None]
    assert reached[SPECIAL_EQUIPMENT] == [4, None]


def test_the_same_inventory_and_seed_give_the_same_steps() -> None:
    inventory = inventory_of(20_000, 7)
    assert storm(inventory, 3) == storm(inventory.sample(frac=1, random_state=1), 3)
    assert storm(inventory, 3) != storm(inventory, 4)


def test_a_base_station_dies_after_its_battery_and_returns_after_its_power() -> None:
    inventory = inventory_of(20_000, 7).set_index("facility_id")
    went: dict[str, int] = {}
    came: dict[str, int] = {}
    for step in storm(inventory.reset_index(), 7):
        if isinstance(step, StatusReport):
            for name in step.facility_ids:
                if step.state == "down":
                    assert name not in went, "down once only"
                    went[name] = step.minute
                    if step.cause.startswith("电池"):
                        row = inventory.loc[name]
                        empty = went[row["feeds_from"]] + row["battery_hours"] * 60
                        assert empty <= step.minute < empty + 20
                elif step.state == "up" and name in went:
                    came[name] = step.minute
                    source = inventory.loc[name, "feeds_from"]
                    if inventory.loc[name, "kind"] == "base_station" and source in went:
                        assert step.minute >= came[source]
    assert went.keys() == came.keys()
    assert all(came[name] > went[name] for name in went)
    assert set(inventory.loc[list(went), "adcode"]) == set(DISTRICTS)


def test_the_reported_outage_holds_its_own_substations_and_no_other() -> None:
    inventory = inventory_of(20_000, 7)
    reports = [s for s in storm(inventory, 7) if isinstance(s, OutageReport)]
    assert [(r.revision, r.restored_minute) for r in reports] == [(0, None), (1, 420)]
    area = shape(reports[0].geometry)
    supply = inventory[inventory["kind"] == "substation"]
    inside = [
        i
        for i, x, y in zip(supply["facility_id"], supply["lon"], supply["lat"], strict=True)
        if area.covers(Point(x, y))
    ]
    assert sorted(inside) == sorted(reports[0].facility_ids)
    named = supply.set_index("facility_id").loc[inside]
    assert reports[0].load_shed_kw == named["load_kw"].sum()
    assert reports[0].customers_out == named["customers"].sum()


def test_an_inventory_without_the_places_of_the_story_is_refused() -> None:
    inventory = inventory_of(20_000, 7)
    with pytest.raises(InvalidInput, match="at least 10000"):
        storm(inventory[inventory["adcode"] != "500229"], 1)
    with pytest.raises(InvalidInput, match="at least 10000"):
        storm(inventory[inventory["equipment"] != "elevator"], 1)
