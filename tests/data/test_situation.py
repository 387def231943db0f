"""The situation from a real PostGIS: the contract's fields, and the past as it was shown then."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from data.builder import Builder, localised
from data.database import app_engine, reading
from data.demo import load_demo
from data.facilities import retire_facilities
from data.incident_submission import edit_incident, read_change, store_incident
from data.incidents import IncidentSettings
from data.outages import store_outage
from data.plan_facts import Declaration, store_facts
from data.returns import store_return
from data.rulepacks import RulePacks, load_packs
from data.settings import SituationSettings
from data.situation import situation_now
from data.status import ingest_status
from tests.feeds import (
    CHENGDU,
    COMMANDER,
    INSIDE,
    NANAN,
    SHAPINGBA,
    YUZHONG,
    ago,
    facility,
    load_facilities,
)

COMMS, POWER, SPECIAL = "communications-2024", "power-outage-2021", "special-equipment-2023"
SETTINGS = SituationSettings()
PACKS = load_packs()
ASSESSMENT = {"plan", "level", "label", "severity", "colour", "findings", "next", "bounds", "facts"}
PLACES = [*INSIDE.values(), CHENGDU]


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    made = app_engine(divided_database_url, pool_size=4)
    yield made
    made.dispose()


@pytest.fixture
def builder(engine: Engine, divided_database_url: str) -> Builder:
    return Builder(engine, divided_database_url, PACKS, SETTINGS)


def now(engine: Engine, at: datetime | None = None, packs: RulePacks = PACKS) -> dict[str, Any]:
    return situation_now(engine, packs, SETTINGS, at)


def level(engine: Engine, plan: str) -> Any:
    return now(engine)["plans"][plan]["level"]


def row_of(document: dict[str, Any], adcode: str) -> dict[str, Any]:
    return next(d for d in document["districts"] if d["adcode"] == adcode)


def report(engine: Engine, *events: tuple[str, str, str], **more: Any) -> None:
    """Events of (facility, state, observed_at)."""
    rows = [
        {"event_id": str(uuid.uuid4()), "facility_id": f, "state": s, "observed_at": o}
        for f, s, o in events
    ]
    receipt = ingest_status(engine, rows, body=orjson.dumps(rows), account="utility", **more)
    assert not receipt.rejected


def declare(engine: Engine, plan: str = COMMS, close: bool = False, **facts: Any) -> None:
    store_facts(engine, plan, Declaration(facts, "told", close), body=b"{}", account="commander")


def outage(outage_id: str, revision: int, **more: Any) -> dict[str, Any]:
    properties = {
        "outage_id": outage_id,
        "revision": revision,
        "operator": "grid",
        "load_shed_kw": 5_000,
        "customers_out": 30,
        "started_at": ago(minutes=30),
        "cause": "storm",
        "planned": False,
        "main_grid": True,
    }
    return {"type": "Feature", "geometry": None, "properties": properties | more}


def send(engine: Engine, feature: dict[str, Any]) -> None:
    store_outage(engine, feature, body=orjson.dumps(feature), account="grid", crs="WGS84")


def stations(n: int, adcode: str, prefix: str = "B", **more: Any) -> list[dict[str, Any]]:
    lon, lat = INSIDE[adcode]
    more = {"kind": "base_station", "operator": "mobile"} | more
    return [facility(f"{prefix}{adcode}-{i}", lon, lat, **more) for i in range(n)]


# --- the contract -----------------------------------------------------------------------------


def test_the_document_has_the_contracts_fields(engine: Engine) -> None:
    load_facilities(
        engine,
        [
            *stations(4, YUZHONG),
            facility("S1", *INSIDE[YUZHONG], load_kw=100_000, customers=50),
            facility("OUT", *CHENGDU, load_kw=7_000, customers=3),
        ],
    )
    report(engine, (f"B{YUZHONG}-0", "down", ago(minutes=1)), ("S1", "down", ago(minutes=1)))
    document = now(engine)
    assert set(document) >= {"as_of", "sequence", "units", "plans", "districts"}
    assert document["sequence"] == 2
    assert datetime.fromisoformat(document["as_of"]).utcoffset() is not None
    assert set(document["plans"]) == {COMMS, POWER, SPECIAL}
    for plan, assessment in document["plans"].items():
        assert set(assessment) >= ASSESSMENT
        assert assessment["plan"] == plan
        assert set(assessment["bounds"]) == {"at_least", "at_most"}
        for finding in assessment["findings"]:
            assert set(finding) >= {"clause", "level", "metric", "value", "threshold", "districts"}
        for step in assessment["next"]:
            assert set(step) >= {"level", "clause", "metric", "value", "threshold", "short_by", "districts"}  # fmt: skip
    assert len(document["districts"]) == len(document["units"]) == 37
    assert {u["code"] for u in document["units"]} == {d["adcode"] for d in document["districts"]}
    for unit in document["units"]:
        assert set(unit) == {"code", "name", "kind", "adcodes"}
    for district in document["districts"]:
        assert set(district) >= {"adcode", "name", "level", "plans", "facilities", "load", "customers", "population_affected", "area_share"}  # fmt: skip
        assert set(district["plans"]) == {COMMS, POWER, SPECIAL}
        assert set(district["load"]) == {"load_mw", "load_shed_mw", "share"}
        assert set(district["customers"]) == {"total", "out", "share"}
        for count in district["facilities"].values():
            assert set(count) >= {"total", "down", "unknown", "share_down"}
    yuzhong = row_of(document, YUZHONG)
    assert yuzhong["facilities"]["base_station"]["share_down"] == 0.25
    assert yuzhong["load"] == {"load_mw": 100.0, "load_shed_mw": 100.0, "share": 1.0}
    assert yuzhong["customers"] == {"total": 50, "out": 50, "share": 1.0}
    assert document["plans"][POWER]["facts"]["city"]["load_mw"] == 107.0, "outside belongs to the sum"  # fmt: skip
    assert document["inventory"] == {"facilities": 6, "synthetic": 0}
    orjson.dumps(document)  # nothing in it that JSON has no word for


def test_an_empty_database_with_districts_shows_37_of_them_without_any_level(
    engine: Engine,
) -> None:
    document = now(engine)
    assert (document["sequence"], len(document["districts"])) == (0, 37)
    assert {p["level"] for p in document["plans"].values()} == {None}
    assert document["synthetic"] is None


# --- the past ---------------------------------------------------------------------------------


def test_before_the_reform_there_are_38_districts_the_demonstration_and_the_plans_of_then(
    engine: Engine,
) -> None:
    load_demo(engine, 5_000, 7)
    then = now(engine, datetime(2025, 11, 5, 15, 59, 59, tzinfo=UTC))  # 23:59:59 in the city
    assert len(then["districts"]) == 38
    codes = {d["adcode"] for d in then["districts"]}
    assert {"500105", "500112"} <= codes
    assert "500157" not in codes
    today = now(engine)
    assert len(today["districts"]) == 37
    assert "500157" in {d["adcode"] for d in today["districts"]}
    for document in (then, today):
        assert document["inventory"] == {"facilities": 5_000, "synthetic": 5_000}
        placed = sum(c["total"] for d in document["districts"] for c in d["facilities"].values())
        assert placed == 5_000
        assert document["synthetic"] == 1.0
        load = sum(d["load"]["load_mw"] for d in document["districts"])
        assert load == pytest.approx(30_280, abs=0.01)
    assert set(then["plans"]) == {COMMS, POWER, SPECIAL}
    assert set(now(engine, datetime(2024, 11, 22, 12, tzinfo=UTC))["plans"]) == {POWER, SPECIAL}
    assert set(now(engine, datetime(2024, 11, 23, 12, tzinfo=UTC))["plans"]) == {COMMS, POWER, SPECIAL}  # fmt: skip
    early = now(engine, datetime(2022, 1, 1, tzinfo=UTC))
    assert set(early["plans"]) == {POWER}
    assert early["inventory"]["facilities"] == 5_000
    none_yet = now(engine, datetime(2019, 12, 31, 12, tzinfo=UTC))
    assert none_yet["inventory"]["facilities"] == 0
    assert none_yet["plans"] == {}


def test_a_time_ahead_is_now(engine: Engine) -> None:
    load_facilities(engine, stations(2, YUZHONG))
    ahead, today = now(engine, datetime.now(UTC) + timedelta(days=9)), now(engine)
    for document in (ahead, today):
        document["plans"] = None
    assert ahead == today


class History:
    """Random changes of every kind, each through the function its route calls."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.source = random.Random(seed)
        self.facilities: dict[str, dict[str, Any]] = {}
        self.outages: dict[str, int] = {}
        self.incidents: dict[uuid.UUID, int] = {}
        self.returns = 0

    def steps(self, more: int) -> Iterator[None]:
        """Every kind of change in a random order, then random ones."""
        kinds = [self.add, self.status, self.status, self.edit, self.retire, self.send_return]
        kinds += [self.report_outage, self.submit, self.change, self.declare]
        self.source.shuffle(kinds)
        for one in [*kinds, *self.source.choices(kinds, k=more)]:
            yield one()

    def add(self) -> None:
        rows = []
        for _ in range(self.source.randint(1, 6)):
            name = f"F{len(self.facilities) + len(rows):03}"
            rows.append(self._row(name))
        self._load(rows)

    def _row(self, name: str) -> dict[str, Any]:
        pick = self.source.choice
        lon, lat = pick(PLACES)
        return facility(
            name, lon, lat,
            kind=pick(["base_station", "substation", "substation", "tower", "exchange"]),
            operator=pick(["mobile", "telecom", "grid"]), main_grid=pick([True, True, False]),
            load_kw=pick([0, 20_000, 90_000]), customers=pick([0, 10, 400]),
            state_at_import=pick(["up", "up", "unknown", "down"]), synthetic=pick([True, False]),
        )  # fmt: skip

    def _load(self, rows: list[dict[str, Any]]) -> None:
        self.facilities |= {r["facility_id"]: r for r in rows}
        load_facilities(self.engine, rows)

    def status(self) -> None:
        names = [*self.facilities, "NOT-YET"]
        chosen = [self.source.choice(names) for _ in range(self.source.randint(1, 5))]
        states = ["up", "down", "down", "degraded", "unknown"]
        report(
            self.engine,
            *((f, self.source.choice(states), ago(seconds=self.source.randint(1, 7_200)))
              for f in chosen),
        )  # fmt: skip

    def edit(self) -> None:
        if self.facilities:
            name = self.source.choice(list(self.facilities))
            self._load([self._row(name)])

    def retire(self) -> None:
        if self.facilities:
            name = self.source.choice(list(self.facilities))
            retire_facilities(self.engine, [name], account="planner", body=b"", reason="gone")

    def send_return(self) -> None:
        self.returns += 1
        total = self.source.randint(1, 30)
        codes = self.source.sample(list(INSIDE), 2)
        body = {
            "return_id": f"R{self.returns}",
            "operator": self.source.choice(["mobile", "telecom"]),
            "kind": "base_station",
            "as_of": ago(seconds=self.source.randint(1, 3_600)),
            "rows": [{"adcode": c, "total": total, "down": total // 2} for c in codes],
        }
        store_return(self.engine, body, body=orjson.dumps(body), account="mobile")

    def report_outage(self) -> None:
        name = f"O{self.source.randint(1, 3)}"
        self.outages[name] = self.outages.get(name, 0) + 1
        substations = [f for f, r in self.facilities.items() if r["kind"] == "substation"]
        lon, lat = self.source.choice(PLACES)
        ring = [[lon - d, lat - e] for d, e in ((0.02, 0.02), (-0.02, 0.02), (-0.02, -0.02), (0.02, 0.02))]  # fmt: skip
        feature = outage(
            name, self.outages[name],
            load_shed_kw=self.source.choice([0, 7_000, 60_000]),
            customers_out=self.source.choice([0, 33]),
            facility_ids=substations[:1] if self.source.random() < 0.4 else [],
            restored_load_kw=0 if self.source.random() < 0.5 else None,
            started_at=ago(seconds=self.source.randint(60, 5_000)),
            restored_at=ago(seconds=self.source.randint(1, 50)) if self.source.random() < 0.3 else None,
            planned=self.source.random() < 0.2,
            main_grid=self.source.random() < 0.7,
        )  # fmt: skip
        if self.source.random() < 0.6:
            feature["geometry"] = {"type": "Polygon", "coordinates": [ring]}
        send(self.engine, feature)

    def submit(self) -> None:
        incident_id = uuid.UUID(int=self.source.getrandbits(128), version=4)
        body = {
            "incident_id": str(incident_id),
            "plan": SPECIAL,
            "kind": self.source.choice(["crane", "boiler", "elevator"]),
            "occurred_at": ago(minutes=5),
            "position": list(self.source.choice(PLACES)),
            "crs": "WGS84",
            "facts": {"deaths": self.source.choice([0, 1, 3, 10])},
        }
        store_incident(
            self.engine, body, body=orjson.dumps(body), account=COMMANDER, packs=PACKS,
            settings=IncidentSettings(),
        )  # fmt: skip
        self.incidents[incident_id] = 1

    def change(self) -> None:
        if not self.incidents:
            return
        incident_id = self.source.choice(list(self.incidents))
        change: dict[str, Any] = {"reason": "seen"}
        if self.source.random() < 0.5:
            change["state"] = self.source.choice(["verified", "active", "resolved", "rejected"])
        else:
            change["facts"] = {"deaths": self.source.choice([0, 2, 4, 30])}
        edit_incident(
            self.engine, incident_id, read_change(change),
            expected_version=self.incidents[incident_id], body=orjson.dumps(change),
            account=COMMANDER, packs=PACKS, settings=IncidentSettings(),
        )  # fmt: skip
        self.incidents[incident_id] += 1

    def declare(self) -> None:
        if self.source.random() < 0.4:
            declare(self.engine, POWER, close=True)
        else:
            declare(self.engine, national_response=self.source.choice(["I", "III", "IV"]))


@pytest.mark.parametrize("seed", [1, 3])
def test_asking_about_the_past_gives_what_was_shown_then(
    engine: Engine, builder: Builder, seed: int
) -> None:
    history = History(engine, seed)
    history.add()
    builder.build_once()
    history.submit()
    for _ in history.steps(18):
        if history.source.random() < 0.8:  # else two changes are built at once
            builder.build_once()
    builder.build_once()
    with reading(engine) as connection:
        stored = connection.execute(
            text("SELECT sequence, as_of, lang, body FROM situation_bytes ORDER BY sequence, lang")
        ).all()
        received = dict(connection.execute(text("SELECT sequence, received_at FROM change")).all())
    assert len(stored) > 30
    assert {r.lang for r in stored} == {"zh", "en"}
    seen: dict[Any, set[str]] = {}
    for row in stored:
        assert row.as_of == received[row.sequence]
        shown = orjson.loads(row.body)
        if row.lang == "zh" or row.sequence % 5 == 0:
            then = localised(now(engine, row.as_of), row.lang)
            assert orjson.loads(orjson.dumps(then)) == shown
        later = received.get(row.sequence + 1)
        if later is not None and row.lang == "zh":
            just_before = now(engine, later - timedelta(microseconds=1))
            assert orjson.loads(orjson.dumps(localised(just_before, row.lang))) == shown
        for plan, found in shown["plans"].items():
            seen.setdefault(plan, set()).add(str(found["level"]))
    assert all(len(levels) > 1 for levels in seen.values()), "the history changes every plan"


# --- sources ----------------------------------------------------------------------------------


def test_the_newer_of_return_and_sites_is_the_source_never_both(engine: Engine) -> None:
    load_facilities(engine, stations(10, YUZHONG))
    report(engine, *((f"B{YUZHONG}-{i}", "down", ago(minutes=30)) for i in range(2)))

    def counted() -> tuple[int, int, str]:
        document = now(engine)
        row = row_of(document, YUZHONG)["facilities"]["base_station"]
        return row["total"], row["down"], document["sources"][0]["source"]

    def send_return(number: int, minutes: int, total: int, down: int) -> None:
        rows = [{"adcode": YUZHONG, "total": total, "down": down}]
        body = {"return_id": f"r{number}", "operator": "mobile", "kind": "base_station",
                "as_of": ago(minutes=minutes), "rows": rows}  # fmt: skip
        store_return(engine, body, body=orjson.dumps(body), account="mobile")

    assert counted() == (10, 2, "site")
    send_return(1, 40, 12, 12)  # older than the sites' word
    assert counted() == (10, 2, "site")
    send_return(2, 20, 12, 6)
    assert counted() == (12, 6, "return")
    assert level(engine, COMMS) == 3
    report(engine, (f"B{YUZHONG}-5", "down", ago(minutes=10)))
    assert counted() == (10, 3, "site")
    send_return(3, 5, 12, 0)
    assert counted() == (12, 0, "return")


def test_what_a_return_does_not_list_is_unknown(engine: Engine) -> None:
    load_facilities(engine, [*stations(10, YUZHONG), *stations(6, NANAN)])
    rows = [{"adcode": YUZHONG, "total": 10, "down": 1}]
    body = {"return_id": "r", "operator": "mobile", "kind": "base_station", "as_of": ago(minutes=1), "rows": rows}  # fmt: skip
    store_return(engine, body, body=orjson.dumps(body), account="mobile")
    document = now(engine)
    assert row_of(document, NANAN)["facilities"]["base_station"]["unknown"] == 6
    assert document["plans"][COMMS]["bounds"] == {"at_least": 4, "at_most": 3}


def test_an_operator_is_silent_until_it_is_heard(engine: Engine) -> None:
    load_facilities(engine, stations(10, YUZHONG))
    silent = now(engine)
    assert silent["sources"][0]["silent"] is True
    assert silent["plans"][COMMS]["bounds"] == {"at_least": None, "at_most": 3}
    ingest_status(engine, [], body=b"[]", account="utility", operators=("mobile",))
    heard = now(engine)
    assert heard["sources"][0]["silent"] is False
    assert heard["plans"][COMMS]["bounds"] == {"at_least": None, "at_most": None}


# --- declared ---------------------------------------------------------------------------------


def test_declared_facts_raise_the_level_until_they_are_withdrawn(engine: Engine) -> None:
    load_facilities(engine, stations(10, YUZHONG))
    report(engine, (f"B{YUZHONG}-0", "down", ago(minutes=1)))
    assert level(engine, COMMS) == 4
    for declared, expected in (("I", 1), ("II", 1), ("III", 2), ("IV", 3)):
        declare(engine, national_response=declared)
        assert level(engine, COMMS) == expected
    declare(engine)
    assert level(engine, COMMS) == 4


# --- power ------------------------------------------------------------------------------------


def test_a_substation_in_a_reported_outage_counts_only_through_it(engine: Engine) -> None:
    load_facilities(engine, [facility(f"S{i}", *INSIDE[YUZHONG], load_kw=50_000) for i in range(4)])
    report(engine, ("S0", "down", ago(minutes=20)), ("S1", "down", ago(minutes=20)))
    assert row_of(now(engine), YUZHONG)["load"]["load_shed_mw"] == 100.0
    send(engine, outage("O", 1, facility_ids=["S0"], load_shed_kw=30_000, started_at=ago(minutes=30)))  # fmt: skip
    assert row_of(now(engine), YUZHONG)["load"]["load_shed_mw"] == 80.0
    send(engine, outage("O", 2, facility_ids=["S0"], load_shed_kw=30_000, started_at=ago(minutes=30), restored_at=ago(seconds=5)))  # fmt: skip
    assert row_of(now(engine), YUZHONG)["load"]["load_shed_mw"] == 100.0, "S0 is still down"


def test_a_planned_outage_is_not_graded_and_what_it_covers_neither(engine: Engine) -> None:
    load_facilities(engine, [facility(f"S{i}", *INSIDE[YUZHONG], load_kw=50_000) for i in range(4)])
    lon, lat = INSIDE[YUZHONG]
    ring = [[lon - 0.01, lat - 0.01], [lon + 0.01, lat - 0.01], [lon, lat + 0.01], [lon - 0.01, lat - 0.01]]  # fmt: skip
    planned = outage("P", 1, planned=True, load_shed_kw=200_000, started_at=ago(hours=1))
    send(engine, planned | {"geometry": {"type": "Polygon", "coordinates": [ring]}})
    report(engine, ("S0", "down", ago(minutes=20)))
    document = now(engine)
    assert document["plans"][POWER]["level"] is None
    assert row_of(document, YUZHONG)["load"]["load_shed_mw"] == 0


def test_an_observation_a_little_ahead_of_our_clock_counts_at_once(engine: Engine) -> None:
    load_facilities(engine, [facility("S0", *INSIDE[YUZHONG], load_kw=50_000)])
    report(engine, ("S0", "down", ago(minutes=-3)))
    assert row_of(now(engine), YUZHONG)["load"]["load_shed_mw"] == 50.0
    report(engine, ("S0", "up", ago(minutes=-4)))
    assert row_of(now(engine), YUZHONG)["load"]["load_shed_mw"] == 0
    report(engine, ("S0", "down", ago(minutes=-6)))
    assert row_of(now(engine), YUZHONG)["load"]["load_shed_mw"] == 0, "more than 5 minutes ahead"


def test_what_another_operator_said_of_a_facility_before_it_was_known_is_not_applied(
    engine: Engine,
) -> None:
    report(engine, ("S0", "down", ago(minutes=9)), operators=("mobile",))
    report(engine, ("S1", "down", ago(minutes=9)), operators=("grid",))
    load_facilities(engine, [facility(f"S{i}", *INSIDE[YUZHONG], load_kw=10_000) for i in (0, 1)])
    row = row_of(now(engine), YUZHONG)
    assert row["facilities"]["substation"]["down"] == 1
    assert row["load"]["load_shed_mw"] == 10.0


def test_a_facility_retired_and_loaded_again_is_supply_once(engine: Engine) -> None:
    row = facility("S0", *INSIDE[YUZHONG], load_kw=10_000)
    load_facilities(engine, [row])
    times = [datetime.now(UTC)]
    retire_facilities(engine, ["S0"], account="planner", body=b"", reason="gone")
    times.append(datetime.now(UTC))
    load_facilities(engine, [row | {"load_kw": 20_000}])
    times.append(datetime.now(UTC))
    found = [row_of(now(engine, at), YUZHONG)["load"]["load_mw"] for at in times]
    assert found == [10.0, 0.0, 20.0]


def test_a_confirmed_close_ends_the_event_and_keeps_the_declared_facts(engine: Engine) -> None:
    load_facilities(engine, [facility(f"S{i}", *INSIDE[SHAPINGBA], load_kw=50_000) for i in range(4)])  # fmt: skip
    report(engine, ("S0", "down", ago(minutes=20)))
    report(engine, ("S0", "up", ago(minutes=10)))
    over = now(engine)["plans"][POWER]
    assert (over["level"], over["current"]["level"]) == (2, None), "25 %"
    assert over["event"] is not None
    declare(engine, POWER, close=True)
    closed = now(engine)["plans"][POWER]
    assert (closed["level"], closed["event"]) == (None, None)
    # a report that arrives after the close and speaks of before it changes nothing of the new event
    report(engine, ("S1", "down", ago(minutes=15)), ("S1", "up", ago(minutes=14)))
    assert now(engine)["plans"][POWER]["event"] is None
