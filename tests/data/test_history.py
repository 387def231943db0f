"""A point of a series is what the situation answers for that time, whatever has happened."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from data.database import app_engine, reading
from data.history import Question, history
from data.plan_facts import closed_at
from data.returns import store_heartbeat
from data.rulepacks import load_packs
from data.settings import SituationSettings
from data.situation import moment_at, shown_at, situation_now
from data.status import ingest_status
from geo.errors import InvalidInput, NotFound
from geo.power_event import PowerEvent
from tests.data.test_situation import COMMS, POWER, SPECIAL, History, outage, report, send
from tests.feeds import (
    ago,
)

PACKS = load_packs()
SETTINGS = SituationSettings()
GRADED = ("base_station", "exchange")
WORDS = ["power", "市电中断", "光缆中断 (trunk)", "倒杆断缆", "人为误操作", "", "未知", "damage"]
REFORM = datetime(2025, 11, 5, 16, tzinfo=UTC)  # 2025-11-06 00:00 in the city
JIANGBEI, YUBEI = "500105", "500112"


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    made = app_engine(divided_database_url, pool_size=4)
    yield made
    made.dispose()


def ask(engine: Engine, metric: str, plan: str | None = None, **more: Any) -> dict[str, Any]:
    return history(engine, Question(metric, plan, **more), PACKS, SETTINGS)


def received(engine: Engine) -> list[datetime]:
    with reading(engine) as connection:
        rows = connection.execute(text("SELECT received_at FROM change ORDER BY sequence"))
        return list(rows.scalars())


def by_code(answer: dict[str, Any]) -> dict[str | None, list[dict[str, Any]]]:
    return {one["adcode"]: one["points"] for one in answer["series"]}


class Changes(History):
    """Every kind of change, and what a clock ahead of ours, a plan and a heartbeat add to it."""

    def steps(self, more: int) -> Iterator[None]:
        added = [self.beat, self.tell_ahead, self.plan_outage, self.tell_cause]
        for number, _ in enumerate(super().steps(more)):
            if number % 2:
                self.source.choice(added)()
            yield

    def change(self) -> None:
        with contextlib.suppress(InvalidInput):  # a state that may not follow
            super().change()

    def beat(self) -> None:
        with contextlib.suppress(NotFound):
            name = self.source.choice(["mobile", "grid"])
            store_heartbeat(self.engine, operator=name, body=b"", account="utility")

    def tell_ahead(self) -> None:
        if self.facilities:
            name = self.source.choice(list(self.facilities))
            state = self.source.choice(["up", "down"])
            ahead = timedelta(milliseconds=self.source.choice([100, 400, 60_000, 400_000]))
            report(self.engine, (name, state, (datetime.now(UTC) + ahead).isoformat()))

    def plan_outage(self) -> None:
        substations = [f for f, r in self.facilities.items() if r["kind"] == "substation"]
        name = f"P{self.source.randint(1, 2)}"
        self.outages[name] = self.outages.get(name, 0) + 1
        begins = datetime.now(UTC) + timedelta(milliseconds=self.source.choice([-900, 200, 10**8]))
        send(
            self.engine,
            outage(
                name, self.outages[name], planned=True, facility_ids=substations[-2:],
                started_at=begins.isoformat(),
            ),
        )  # fmt: skip

    def tell_cause(self) -> None:
        rows = [
            {"event_id": str(uuid.uuid4()), "facility_id": name, "state": "down",
             "observed_at": ago(seconds=self.source.randint(0, 30)), "cause": cause}
            for name, cause in zip(self.facilities, self.source.sample(WORDS, 4), strict=False)
        ]  # fmt: skip
        ingest_status(self.engine, rows, body=orjson.dumps(rows), account="utility")


class Compared:
    """Every series of the same moments, and the situation at each of them."""

    def __init__(self, engine: Engine, begin: datetime, end: datetime, every: timedelta) -> None:
        self.engine = engine
        times: dict[str, Any] = {"begin": begin, "end": end, "every": every}
        self.levels = {
            plan: (
                by_code(ask(engine, "level", plan, **times))[None],
                by_code(ask(engine, "level", plan, everywhere=True, **times)),
            )
            for plan in (COMMS, POWER, SPECIAL)
        }
        down = ask(engine, "share_down", COMMS, everywhere=True, **times)
        self.moments = down["moments"]
        self.down = by_code(down) | by_code(ask(engine, "share_down", COMMS, **times))
        self.towers = by_code(ask(engine, "share_down", kinds=("tower",), everywhere=True, **times))
        self.causes = by_code(ask(engine, "causes", COMMS, everywhere=True, **times))
        self.city_causes = by_code(ask(engine, "causes", COMMS, **times))[None]
        self.load = by_code(ask(engine, "load_share", everywhere=True, **times))
        self.city_load = by_code(ask(engine, "load_share", **times))[None]
        self.customers = by_code(ask(engine, "customers_share", everywhere=True, **times))
        self.city_customers = by_code(ask(engine, "customers_share", **times))[None]
        self.restored = by_code(ask(engine, "restored", POWER, everywhere=True, **times))
        self.city_restored = by_code(ask(engine, "restored", POWER, **times))[None]

    def check(self) -> dict[str, set[Any]]:
        """Compare all; what levels there were under each plan."""
        seen: dict[str, set[Any]] = defaultdict(set)
        for number, moment in enumerate(self.moments):
            at = datetime.fromisoformat(moment["at"])
            shown = situation_now(self.engine, PACKS, SETTINGS, at)
            assert (moment["sequence"], moment["as_of"]) == (shown["sequence"], shown["as_of"])
            silent = {s["operator"] for s in shown["sources"] if s["silent"]}
            assert set(moment["silent"]) == silent
            self._levels(number, shown, seen)
            self._facilities(number, shown)
            self._power(number, shown)
            self._restored(number, at)
        return seen

    def _levels(self, number: int, shown: dict[str, Any], seen: dict[str, set[Any]]) -> None:
        for plan, (city, districts) in self.levels.items():
            point, assessment = city[number], shown["plans"].get(plan)
            if assessment is None:
                assert (point["value"], point["reason"]) == (None, "no_plan")
                continue
            for name in ("label", "bounds"):
                assert point[name] == assessment[name]
            assert (point["value"], point["reason"]) == (assessment["level"], None)
            if plan == POWER:
                assert point["current"] == assessment["current"]["level"]
            seen[plan].add(point["value"])
            for row in shown["districts"]:
                assert districts[row["adcode"]][number]["value"] == row["plans"][plan]

    def _facilities(self, number: int, shown: dict[str, Any]) -> None:
        city = [0, 0]
        there = {row["adcode"] for row in shown["districts"]}
        for row in shown["districts"]:
            kinds = [row["facilities"][k] for k in GRADED if k in row["facilities"]]
            down, total = sum(k["down"] for k in kinds), sum(k["total"] for k in kinds)
            city = [city[0] + down, city[1] + total]
            if COMMS in shown["plans"]:
                point = self.down[row["adcode"]][number]
                assert (point["numerator"], point["denominator"]) == (down, total)
                assert point["value"] == (down / total if total else None)
                assert (point["reason"] is None) == bool(total)
                causes = self.causes[row["adcode"]][number]
                assert causes["value"] == sum(causes["causes"].values()) == down
            tower = row["facilities"].get("tower", {"down": 0, "total": 0, "share_down": None})
            point = self.towers[row["adcode"]][number]
            assert (point["numerator"], point["denominator"]) == (tower["down"], tower["total"])
            assert point["value"] == tower["share_down"]
        if COMMS in shown["plans"]:
            point = self.down[None][number]
            assert [point["numerator"], point["denominator"]] == city
            assert sum(self.city_causes[number]["causes"].values()) == city[0]
        for adcode, points in self.towers.items():
            if adcode not in there:
                assert points[number]["value"] is None
                assert points[number]["reason"] == "no_district"

    def _power(self, number: int, shown: dict[str, Any]) -> None:
        for row in shown["districts"]:
            load, customers = self.load[row["adcode"]][number], self.customers[row["adcode"]][number]
            assert load["value"] == row["load"]["share"]
            assert load["numerator"] == row["load"]["load_shed_mw"]
            assert load["denominator"] == row["load"]["load_mw"]
            assert customers["value"] == row["customers"]["share"]
            assert customers["numerator"] == row["customers"]["out"]
            assert customers["denominator"] == row["customers"]["total"]
        if POWER in shown["plans"]:
            city = shown["plans"][POWER]["current"]["facts"]["city"]
            load, customers = self.city_load[number], self.city_customers[number]
            assert load["numerator"] == city["load_shed_mw"]
            assert load["denominator"] == city["load_mw"]
            assert customers["numerator"] == city["customers_out"]
            assert customers["denominator"] == city["customers"]

    def _restored(self, number: int, at: datetime) -> None:
        """Against the greatest loss over every instant of the event, as known at that time."""
        with reading(self.engine, snapshot=True) as connection:
            shown = shown_at(connection, moment_at(connection, at), PACKS, SETTINGS)
            closed = closed_at(connection, shown.moment.sequence)
        known = shown.known
        codes = known.adcodes
        event = PowerEvent(
            codes, known.supply, known.losses, now=at, after=closed, earlier=known.supply_earlier
        )
        instants = [*event.line.instants, *([closed] if closed else [])]
        most: dict[str | None, int] = defaultdict(int)
        for instant in sorted(t for t in instants if t <= at and (closed is None or t >= closed)):
            view = next((e.supply for e in known.supply_earlier if instant < e.until), known.supply)
            then = PowerEvent(codes, view, known.losses, now=instant).view
            for i, code in enumerate(codes):
                most[code] = max(most[code], then.supply_of(i).load_shed_kw)
            most[None] = max(most[None], then.city(then.lost).load_shed_kw)
        lost = {code: event.view.supply_of(i).load_shed_kw for i, code in enumerate(codes)}
        lost[None] = event.view.city(event.view.lost).load_shed_kw
        for code in (*codes, None):
            point = (self.city_restored if code is None else self.restored[code])[number]
            back = max(most[code] - lost[code], 0)
            assert (point["numerator"], point["denominator"]) == (back / 1000, most[code] / 1000)
            assert point["value"] == (back / most[code] if most[code] else None)


# --- a point is what the situation answers --------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_a_point_of_every_series_is_what_the_situation_answers_for_that_time(
    engine: Engine, seed: int
) -> None:
    changes = Changes(engine, seed)
    changes.add()
    changes.submit()
    for _ in changes.steps(25):
        pass
    times = received(engine)
    time.sleep(0.1)  # all moments asked for are past
    source = random.Random(seed)
    seen: dict[str, set[Any]] = defaultdict(set)
    for _ in range(2):  # an odd step from an odd time, so that points fall anywhere
        begin = times[0] - timedelta(milliseconds=source.randint(1, 300))
        end = times[-1] + timedelta(milliseconds=source.randint(1, 50))
        every = (end - begin) / source.uniform(9, 23)
        for plan, levels in Compared(engine, begin, end, every).check().items():
            seen[plan] |= levels
    assert all(len(levels) > 1 for levels in seen.values()), "the changes move every plan"
