"""The power event from a real PostGIS: what a build remembers, revisions, retired substations."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from shapely.geometry import Point, box, mapping
from sqlalchemy import Engine, text

import data.power_memory as power_memory
from data.database import app_engine, reading, sequence_at
from data.facilities import retire_facilities
from data.outages import store_outage
from data.plan_facts import Declaration, store_facts
from data.power import inside_areas
from data.power_memory import PowerMemory
from data.rulepacks import load_packs
from data.settings import SituationSettings
from data.situation import Moment, shown_at, situation_now
from data.status import ingest_status
from geo.errors import Conflict
from tests.feeds import INSIDE, NANAN, SHAPINGBA, YUZHONG, ago, facility, load_facilities

POWER = "power-outage-2021"
PACKS = load_packs()
SETTINGS = SituationSettings()
PLACES = (YUZHONG, NANAN, SHAPINGBA)
#: A square about the place in each district where `substation` puts its own.
AROUND = {
    adcode: mapping(box(lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01))
    for adcode, (lon, lat) in INSIDE.items()
}


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    made = app_engine(divided_database_url, pool_size=4)
    yield made
    made.dispose()


def substation(name: str, adcode: str, load_kw: int = 30_000, **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "kind": "substation",
        "load_kw": load_kw,
        "customers": 100,
        "state_at_import": "up",
    }
    return facility(name, *INSIDE[adcode], **(base | more))


def report(engine: Engine, *events: tuple[str, str, str]) -> None:
    rows = [
        {"event_id": str(uuid.uuid4()), "facility_id": f, "state": s, "observed_at": o}
        for f, s, o in events
    ]
    assert not ingest_status(engine, rows, body=orjson.dumps(rows), account="grid").rejected


def outage(
    engine: Engine, outage_id: str, revision: int, area: Any = None, **properties: Any
) -> None:
    given = {
        "outage_id": outage_id,
        "revision": revision,
        "load_shed_kw": 30_000,
        "customers_out": 0,
        "started_at": ago(hours=2),
        "cause": "wind",
        "planned": False,
        "main_grid": True,
        "facility_ids": ["S0"],
    } | properties
    body = orjson.dumps({"type": "Feature", "geometry": area, "properties": given})
    store_outage(engine, orjson.loads(body), body=body, account="grid", crs="WGS84")


def power(engine: Engine, at: datetime | None = None) -> Any:
    return situation_now(engine, PACKS, SETTINGS, at)["plans"][POWER]


def shed_mw(assessment: Any) -> float:
    return float(assessment["facts"]["city"]["load_shed_mw"])


def received(engine: Engine) -> list[datetime]:
    with reading(engine) as connection:
        query = text("SELECT received_at FROM change ORDER BY sequence")
        return list(connection.execute(query).scalars())


def remembered(
    engine: Engine, memory: PowerMemory | None, sequence: int, now: datetime
) -> dict[str, Any]:
    """The power plan as a builder would grade it at a sequence."""
    with reading(engine, snapshot=True) as connection:
        moment = Moment(sequence, now, None, now, folded=False)
        return shown_at(connection, moment, PACKS, SETTINGS, None, memory).result.plans[POWER]


# --- remembering is the same as reading everything ------------------------------------------------


class Past:
    """A random history of one grid: late observations, edits, outages revised, confirmed ends."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine, self.source = engine, random.Random(seed)
        self.names: list[str] = []
        self.revisions: dict[str, int] = {}

    def step(self) -> None:
        do = [self.observe] * 20 + [self.report_outage] * 6 + [self.edit, self.retire]
        do += [self.close] if self.source.random() < 0.3 else []
        self.source.choice(do)()

    def add(self) -> None:
        for i in range(6):
            self.names.append(f"S{i}")
            row = substation(
                f"S{i}", PLACES[i % 3], state_at_import=self.source.choice(["up", "down"])
            )
            load_facilities(self.engine, [row])

    def observe(self) -> None:
        report(
            self.engine,
            *(
                (
                    self.source.choice([*self.names, "NOT-YET"]),
                    self.source.choice(["up", "up", "down", "down", "degraded"]),
                    ago(seconds=self.source.choice([self.source.randint(0, 900)] * 24 + [5_000])),
                )
                for _ in range(self.source.randint(1, 6))
            ),
        )

    def report_outage(self) -> None:
        name = self.source.choice(["O1", "O2"])
        revision = self.revisions.get(name, 0) + self.source.choice([1, 1, 2])
        if self.source.random() < 0.2 and revision > 3:
            revision -= 2  # overtaken on its way, or one that was sent before
        shed = self.source.choice([10_000, 40_000, 90_000])
        with suppress(Conflict):
            outage(
                self.engine, name, revision,
                load_shed_kw=shed,
                restored_load_kw=self.source.choice([None, None, shed // 2]),
                facility_ids=self.source.sample(self.names, self.source.randint(1, 2)),
                started_at=ago(seconds=self.source.choice([600, 3_000])),
                restored_at=ago(seconds=300) if self.source.random() < 0.2 else None,
                planned=self.source.random() < 0.1,
            )  # fmt: skip
        self.revisions[name] = max(revision, self.revisions.get(name, 0))

    def edit(self) -> None:
        name = self.source.choice([*self.names, "NOT-YET"])
        row = substation(name, self.source.choice(PLACES), self.source.choice([5_000, 60_000]))
        load_facilities(self.engine, [row])

    def retire(self) -> None:
        name = self.source.choice(self.names)
        with reading(self.engine) as connection:
            query = text("SELECT retired_at IS NULL FROM facility WHERE facility_id = :id")
            if not connection.execute(query, {"id": name}).scalar_one():
                return
        retire_facilities(self.engine, [name], account="planner", body=b"", reason="gone")

    def close(self) -> None:
        store_facts(
            self.engine, POWER, Declaration({}, "over", True), body=b"{}", account="commander"
        )


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_build_that_remembers_tells_what_one_that_reads_everything_tells(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(power_memory, "APART", 2)
    monkeypatch.setattr(power_memory, "SETTLING", timedelta(seconds=120))
    past = Past(engine, seed)
    past.add()
    memory, used, moments = PowerMemory(), 0, set()
    for step in range(50):
        past.step()
        if step % 23 == 22:
            memory = PowerMemory()  # another process took over
        if past.source.random() < 0.3:
            continue  # several changes are built at once
        with reading(engine) as connection:
            sequence, now = sequence_at(connection, None), datetime.now(UTC)
        found = remembered(engine, memory, sequence, now)
        used += bool(memory._settled)
        assert found == remembered(engine, None, sequence, now), f"step {step}"
        moments.add(found["event"] and found["event"]["worst_at"])
    assert used > 3
    assert len(moments) > 3


def test_a_late_report_of_what_was_settled_changes_the_worst_moment(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_memory, "APART", 1)
    load_facilities(engine, [substation(f"S{i}", YUZHONG) for i in range(3)])
    report(engine, ("S0", "down", ago(minutes=300)), ("S0", "up", ago(minutes=200)))
    report(engine, ("S1", "down", ago(minutes=100)), ("S1", "up", ago(minutes=90)))
    memory = PowerMemory()

    def build() -> dict[str, Any]:
        with reading(engine) as connection:
            sequence = sequence_at(connection, None)
        return remembered(engine, memory, sequence, datetime.now(UTC))

    assert shed_mw(build()) == 30
    assert len(memory._settled) == 4
    report(engine, ("S2", "down", ago(minutes=250)), ("S2", "up", ago(minutes=240)))
    assert shed_mw(build()) == 60
    again = build()
    assert (again["level"], shed_mw(again)) == (1, 60)


def test_a_build_in_a_long_event_reads_only_what_came_since(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_memory, "APART", 100)
    load_facilities(engine, [substation(f"S{i}", PLACES[i % 3]) for i in range(10)])
    for hour in range(30, 0, -1):
        states = ("down", "up") * 10
        report(
            engine,
            *((f"S{n % 10}", s, ago(hours=hour + 1, minutes=-n)) for n, s in enumerate(states)),
        )
    memory, read = PowerMemory(), []
    original = power_memory.settle_at

    def count(instants: Any, *more: Any) -> Any:
        read.append(len(instants))
        return original(instants, *more)

    monkeypatch.setattr("data.situation.settle_at", count)
    for minutes in (3, 2, 1):
        report(engine, ("S1", "down", ago(minutes=minutes)))
        with reading(engine) as connection:
            sequence = sequence_at(connection, None)
        remembered(engine, memory, sequence, datetime.now(UTC))
    assert read[0] == 601
    assert max(read[1:]) <= 100 + 10 + 3


# --- revisions of an outage -----------------------------------------------------------------------


def test_each_revision_holds_from_its_receipt_and_the_first_from_the_beginning(
    engine: Engine,
) -> None:
    load_facilities(engine, [substation(f"S{i}", YUZHONG, 100_000) for i in range(4)])
    outage(engine, "O", 1, load_shed_kw=80_000)
    assert shed_mw(power(engine)["current"]) == 80
    time.sleep(0.01)
    outage(engine, "O", 2, load_shed_kw=80_000, restored_load_kw=50_000)
    found = power(engine)
    assert (shed_mw(found["current"]), shed_mw(found)) == (30, 80)
    outage(engine, "O", 3, load_shed_kw=120_000, restored_load_kw=50_000)
    found = power(engine)
    assert (shed_mw(found["current"]), shed_mw(found)) == (70, 80)
    outage(engine, "O", 4, load_shed_kw=120_000)
    outage(engine, "O", 5, load_shed_kw=10_000)
    found = power(engine)
    assert (shed_mw(found["current"]), shed_mw(found)) == (10, 120)
    times = received(engine)[-5:]
    assert datetime.fromisoformat(found["event"]["worst_at"]) == times[3]
    then = [power(engine, t)["current"]["facts"]["city"]["load_shed_mw"] for t in times]
    assert then == [80, 30, 70, 120, 10]


def test_a_revision_that_grows_does_not_reach_back_to_another_outage(engine: Engine) -> None:
    load_facilities(engine, [substation(f"S{i}", YUZHONG, 100_000) for i in range(4)])
    outage(engine, "O", 1, load_shed_kw=50_000, started_at=ago(hours=5))
    outage(engine, "P", 1, load_shed_kw=60_000, started_at=ago(hours=4), restored_at=ago(hours=3))
    outage(engine, "O", 2, load_shed_kw=90_000, started_at=ago(hours=5))
    found = power(engine)
    assert (shed_mw(found["current"]), shed_mw(found)) == (90, 110)


def test_a_revision_that_was_overtaken_never_holds(engine: Engine) -> None:
    load_facilities(engine, [substation(f"S{i}", YUZHONG, 100_000) for i in range(4)])
    outage(engine, "O", 1, load_shed_kw=20_000)
    outage(engine, "O", 3, load_shed_kw=30_000)
    outage(engine, "O", 2, load_shed_kw=300_000)
    found = power(engine)
    assert (shed_mw(found["current"]), shed_mw(found)) == (30, 30)


def test_an_outage_ended_at_its_own_beginning_never_was(engine: Engine) -> None:
    load_facilities(engine, [substation("S0", YUZHONG, 100_000)])
    outage(engine, "O", 1, load_shed_kw=90_000, started_at="2026-06-01T00:00:00+08:00")
    times = {"started_at": "2026-06-01T00:00:00+08:00", "restored_at": "2026-06-01T00:00:00+08:00"}
    assert power(engine)["level"] == 1
    outage(engine, "O", 2, load_shed_kw=0, **times)
    assert (power(engine)["level"], power(engine)["event"]) == (None, None)


# --- the inventory of that moment -----------------------------------------------------------------


def test_retiring_a_substation_takes_nothing_from_what_was_lost_with_it(engine: Engine) -> None:
    load_facilities(engine, [substation(f"S{i}", YUZHONG) for i in range(4)])
    report(engine, ("S0", "down", ago(minutes=60)), ("S1", "down", ago(minutes=50)))
    before = power(engine)
    assert shed_mw(before) == 60
    retire_facilities(engine, ["S0", "S1"], account="planner", body=b"", reason="scrapped")
    after = power(engine)
    assert {k: after[k] for k in ("level", "facts", "findings")} == {
        k: before[k] for k in ("level", "facts", "findings")
    }
    assert after["event"]["worst_at"] == before["event"]["worst_at"]
    assert (after["current"]["level"], shed_mw(after["current"])) == (None, 0)
    assert after["current"]["facts"]["city"]["load_mw"] == 60
    assert power(engine, received(engine)[-2])["level"] == before["level"]


def test_what_grew_or_shrank_since_is_held_against_what_there_was(engine: Engine) -> None:
    load_facilities(engine, [substation("S0", YUZHONG, 10_000), substation("S1", YUZHONG, 90_000)])
    report(engine, ("S0", "down", ago(minutes=60)), ("S0", "up", ago(minutes=30)))
    grave = power(engine)["level"]  # a tenth of the city
    assert grave is not None
    load_facilities(engine, [substation("S1", YUZHONG, 990_000)])
    assert power(engine)["level"] == grave  # not a hundredth
    load_facilities(engine, [substation("S0", YUZHONG, 90_000)])
    found = power(engine)
    assert (found["level"], shed_mw(found)) == (grave, 10)


def test_a_substation_taken_up_again_was_not_lost_meanwhile(engine: Engine) -> None:
    rows = [substation("S0", YUZHONG), substation("S1", YUZHONG, 270_000)]
    load_facilities(engine, rows)
    retire_facilities(engine, ["S0"], account="planner", body=b"", reason="gone")
    gone = datetime.now(UTC)
    time.sleep(0.05)
    report(engine, ("S1", "down", gone.isoformat()), ("S1", "up", (gone + timedelta(milliseconds=20)).isoformat()))  # fmt: skip
    load_facilities(engine, rows)
    report(engine, ("S0", "down", (gone - timedelta(minutes=1)).isoformat()))
    found = power(engine)
    assert shed_mw(found["current"]) == 30
    assert shed_mw(found) == 270  # without the 30 MW that were in no inventory then


def test_a_planned_outage_to_come_restores_nothing_before_it_begins(engine: Engine) -> None:
    load_facilities(engine, [substation("S0", YUZHONG), substation("S1", YUZHONG)])
    report(engine, ("S0", "down", ago(minutes=60)))
    outage(engine, "P", 1, load_shed_kw=0, planned=True, facility_ids=["S0"], started_at=ago(hours=-20))  # fmt: skip
    assert shed_mw(power(engine)["current"]) == 30
    outage(engine, "P", 2, load_shed_kw=0, planned=True, facility_ids=["S0"], started_at=ago(minutes=9))  # fmt: skip
    found = power(engine)
    assert (shed_mw(found["current"]), shed_mw(found)) == (0, 30)


def test_a_substation_that_was_moved_is_inside_an_outage_only_where_it_stands(
    engine: Engine,
) -> None:
    load_facilities(
        engine, [substation("S0", NANAN), substation("S1", YUZHONG), substation("S2", NANAN)]
    )
    report(engine, ("S0", "down", ago(minutes=60)))
    outage(engine, "O", 1, AROUND[NANAN], load_shed_kw=1_000, facility_ids=[])
    assert shed_mw(power(engine)["current"]) == 1, "it counts through the outage alone"
    load_facilities(engine, [substation("S0", YUZHONG)])
    assert shed_mw(power(engine)["current"]) == 31, "it is down where the outage does not reach"


def test_revisions_and_outages_of_one_area_each_contain_what_stands_in_it(engine: Engine) -> None:
    load_facilities(engine, [substation(f"S{i}", adcode) for i, adcode in enumerate(PLACES)])
    asked = [("A", 1, YUZHONG), ("A", 2, YUZHONG), ("A", 3, NANAN), ("B", 1, YUZHONG)]
    for outage_id, revision, adcode in asked:
        outage(engine, outage_id, revision, AROUND[adcode], facility_ids=[])
    outage(engine, "POINT", 1, mapping(Point(INSIDE[NANAN])), facility_ids=[])
    outage(engine, "EMPTY", 1, mapping(box(108.0, 30.0, 108.1, 30.1)), facility_ids=[])
    revisions = [{"outage_id": name, "revision": number} for name, number, _ in asked]
    revisions += [{"outage_id": name, "revision": 1} for name in ("POINT", "EMPTY")]
    with reading(engine) as connection:
        in_force = {"kinds": ["substation"], "at": None, "sequence": 10**6, "since": None}
        members = inside_areas(connection, revisions, in_force)
    assert members == {
        (name, number): {(f"S{PLACES.index(adcode)}", 1)} for name, number, adcode in asked
    }
