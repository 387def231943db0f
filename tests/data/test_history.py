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

from data.causes import cause_of
from data.database import app_engine, owner_engine, reading
from data.demo import load_demo, play
from data.facilities import retire_facilities
from data.history import POINTS_MAX, Question, history
from data.plan_facts import closed_at
from data.returns import store_heartbeat, store_return
from data.rulepacks import load_packs
from data.settings import SituationSettings
from data.situation import moment_at, shown_at, situation_now
from data.status import ingest_status
from geo.errors import InvalidInput, NotFound
from geo.power_event import PowerEvent
from tests.data.test_situation import (
    COMMS,
    POWER,
    SPECIAL,
    History,
    outage,
    report,
    send,
    stations,
)
from tests.feeds import (
    INSIDE,
    LIANGJIANG,
    NANAN,
    SHAPINGBA,
    YUZHONG,
    ago,
    facility,
    load_facilities,
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
            load, customers = (
                self.load[row["adcode"]][number],
                self.customers[row["adcode"]][number],
            )
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
        instants += [one.until for one in known.supply_earlier]  # what there was may have grown
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


def checked(engine: Engine, seed: int, begin: datetime, end: datetime) -> dict[str, set[Any]]:
    """Compare twice, by an odd step from an odd time, so that points fall anywhere."""
    source = random.Random(seed)
    seen: dict[str, set[Any]] = defaultdict(set)
    for _ in range(2):
        first = begin - (end - begin) * source.uniform(0, 0.1)
        every = (end - first) / source.uniform(9, 23)
        for plan, levels in Compared(engine, first, end, every).check().items():
            seen[plan] |= levels
    return seen


@pytest.mark.parametrize("seed", [1, 2])
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
    seen = checked(engine, seed, times[0], times[-1] + timedelta(milliseconds=50))
    assert all(len(levels) > 1 for levels in seen.values()), "the changes move every plan"


def recast(url: str, pivot: datetime, factor: float, *, only_received: bool = False) -> None:
    """Make everything that was received, observed and in force have happened `factor` times as
    slowly, the middle of it at `pivot`; or only its receipt."""
    owner = owner_engine(url)
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        middle = connection.execute(
            text("SELECT min(received_at) + (max(received_at) - min(received_at)) / 2 FROM change")
        ).scalar_one()
        columns = connection.execute(
            text(
                "SELECT table_name, column_name FROM information_schema.columns c"
                " JOIN information_schema.tables t USING (table_schema, table_name)"
                " WHERE table_schema = 'public' AND data_type = 'timestamp with time zone'"
                " AND table_type = 'BASE TABLE' AND table_name NOT LIKE 'status\\_log\\_%'"
                " AND table_name <> 'division_version'"
                " AND (table_name, column_name) <> ('status_log', 'received_at')"
            )
        ).all()
        for table, column in columns:
            if only_received and (table, column) != ("change", "received_at"):
                continue
            connection.execute(
                text(
                    f'UPDATE "{table}" SET "{column}" = CAST(:pivot AS timestamptz)'
                    f' + ("{column}" - CAST(:middle AS timestamptz)) * CAST(:factor AS float8)'
                    f' WHERE isfinite("{column}")'
                ),
                {"pivot": pivot, "middle": middle, "factor": factor},
            )
    owner.dispose()


@pytest.mark.parametrize("seed", [3, 4])
def test_it_is_so_over_hours_in_which_operators_fall_silent_and_districts_change(
    engine: Engine, divided_database_url: str, seed: int
) -> None:
    changes = Changes(engine, seed)
    changes.add()
    changes.submit()
    for _ in changes.steps(25):
        pass
    times = received(engine)
    recast(divided_database_url, REFORM, max(3_000, timedelta(hours=2) / (times[-1] - times[0])))
    times = received(engine)
    assert times[0] < REFORM - timedelta(minutes=30)
    assert times[-1] > REFORM + timedelta(minutes=30)
    seen = checked(engine, seed, times[0], times[-1] + timedelta(minutes=40))
    assert all(len(levels) > 1 for levels in seen.values()), "the changes move every plan"
    answer = ask(engine, "share_down", COMMS, begin=times[0], end=times[-1] + timedelta(hours=1))
    silent = {tuple(moment["silent"]) for moment in answer["moments"]}
    assert len(silent) > 2, "who is silent changes with the clock"


def test_a_play_of_the_demonstration_seen_as_a_series(
    engine: Engine, divided_database_url: str
) -> None:
    load_demo(engine, 10_000, 7)
    play(engine, None, seed=7, packs=PACKS)
    times = received(engine)
    played = (times[-1] - times[0]).total_seconds()
    middle = datetime.now(UTC) - timedelta(hours=4)
    recast(divided_database_url, middle, 7 * 3600 / played, only_received=True)
    begin, end = received(engine)[1], received(engine)[-1] + timedelta(minutes=1)
    seen = Compared(engine, begin, end, (end - begin) / 30).check()
    assert (seen[COMMS], seen[POWER]) == ({None, 4, 3, 2}, {None, 4, 3})
    every = (end - begin) / 100
    comms = by_code(ask(engine, "restored", COMMS, begin=begin, end=end, every=every))[None]
    shares = [point["value"] for point in comms]
    down = by_code(ask(engine, "share_down", COMMS, begin=begin, end=end, every=every))[None]
    most = 0
    for share, point in zip(shares, down, strict=True):
        most = max(most, point["numerator"])
        assert share == ((most - point["numerator"]) / most if most else None)
    assert (shares[0], shares[-1]) == (None, 1.0)
    power = by_code(ask(engine, "restored", POWER, begin=begin, end=end, every=every))[None]
    back = [point["value"] for point in power if point["value"] is not None]
    assert {0.0, 1.0} <= set(back)
    assert power[-1]["reason"] == "nothing_lost", "the event was closed"
    causes = by_code(ask(engine, "causes", COMMS, begin=begin, end=end, every=every))[None]
    met = {name for point in causes for name, number in point["causes"].items() if number}
    assert met == {"power", "damage", "transport"}


# --- districts that were not yet, or are no more --------------------------------------------------


def test_before_the_reform_there_are_38_districts_and_a_series_says_which_were_not(
    engine: Engine,
) -> None:
    load_demo(engine, 5_000, 7)
    begin, end = REFORM - timedelta(hours=3), REFORM + timedelta(hours=2)
    Compared(engine, begin, end, timedelta(minutes=50)).check()
    answer = ask(
        engine, "share_down", COMMS, everywhere=True, begin=begin, end=end, every=timedelta(hours=1)
    )
    there = [
        {one["adcode"] for one in answer["series"] if one["points"][n]["reason"] != "no_district"}
        for n in range(6)
    ]
    assert [len(codes) for codes in there] == [38, 38, 38, 37, 37, 37]
    assert there[2] - there[3] == {JIANGBEI, YUBEI}
    assert there[3] - there[2] == {LIANGJIANG}
    for code, reasons in (
        (YUBEI, [None] * 3 + ["no_district"] * 3),
        (LIANGJIANG, ["no_district"] * 3 + [None] * 3),
    ):
        points = by_code(answer)[code]
        assert [point["reason"] for point in points] == reasons
        assert all((point["value"] is None) == bool(point["reason"]) for point in points)
    first = timedelta(microseconds=1)
    edge = ask(engine, "level", POWER, begin=REFORM - first, end=REFORM, every=first)
    assert [m["divisions"] for m in edge["moments"]] == ["before-2025-11-06", "since-2025-11-06"]


def test_a_plan_not_yet_in_force_has_no_level_and_says_so(engine: Engine) -> None:
    load_demo(engine, 5_000, 7)
    begin = datetime(2024, 11, 22, 12, tzinfo=UTC)
    answer = ask(engine, "level", COMMS, begin=begin, end=begin + timedelta(days=1))
    assert answer["series"][0]["points"][0]["reason"] == "no_plan"
    assert answer["series"][0]["points"][-1]["reason"] is None
    power = ask(engine, "load_share", begin=datetime(2020, 6, 1, tzinfo=UTC), end=begin)
    reasons = {point["reason"] for point in power["series"][0]["points"]}
    assert reasons == {None, "no_supply"}, "no plan said which kinds supply before 2021"


# --- causes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (None, "unknown"), ("", "unknown"), (" 原因不明 ", "unknown"), ("Unknown", "unknown"),
        ("power", "power"), ("TRANSPORT", "transport"), ("other", "other"), ("damage", "damage"),
        ("市电中断", "power"), ("battery empty", "power"), ("中继光缆中断 (trunk cut)", "transport"),
        ("倒杆断缆 (mast or cable broken)", "damage"), ("光缆被挖断后停电", "transport"),
        ("停电后光缆受损", "power"), ("暴风雨 (storm)", "other"), ("人为误操作", "other"),
    ],
)  # fmt: skip
def test_a_cause_in_words_is_one_of_five(words: str | None, cause: str) -> None:
    assert cause_of(words) == cause


def tell(engine: Engine, *events: tuple[str, str, str, str | None], **more: Any) -> None:
    """Events of (facility, state, observed_at, cause)."""
    rows = [
        {"event_id": str(uuid.uuid4()), "facility_id": f, "state": s, "observed_at": o}
        | ({} if c is None else {"cause": c})
        for f, s, o, c in events
    ]
    receipt = ingest_status(engine, rows, body=orjson.dumps(rows), account="utility", **more)
    assert not receipt.rejected


def causes_now(engine: Engine, adcode: str | None = None) -> tuple[int, dict[str, int]]:
    codes = () if adcode is None else (adcode,)
    answer = ask(engine, "causes", COMMS, adcodes=codes)
    point = answer["series"][0]["points"][-1]
    return point["value"], {cause: n for cause, n in point["causes"].items() if n}


def test_causes_sum_to_what_is_down_and_follow_what_is_told_last(engine: Engine) -> None:
    load_facilities(engine, [*stations(6, YUZHONG), *stations(2, NANAN, state_at_import="down")])
    names = [f"B{YUZHONG}-{i}" for i in range(6)]
    tell(
        engine,
        (names[0], "down", ago(minutes=9), "power"),
        (names[1], "down", ago(minutes=9), "光缆中断"),
        (names[2], "down", ago(minutes=9), "人为误操作"),
        (names[3], "down", ago(minutes=9), None),
        (names[4], "degraded", ago(minutes=9), "power"),
    )
    assert causes_now(engine, YUZHONG) == (
        4, {"power": 1, "transport": 1, "other": 1, "unknown": 1},
    )  # fmt: skip
    assert causes_now(engine, NANAN) == (2, {"unknown": 2})
    assert causes_now(engine)[0] == 6
    before = datetime.now(UTC)
    tell(engine, (names[0], "down", ago(minutes=8), "damage"), (names[1], "up", ago(minutes=8), ""))
    tell(engine, (names[2], "down", ago(minutes=10), "power"))  # late: the newer word stands
    retire_facilities(engine, [names[3]], account="planner", body=b"", reason="gone")
    load_facilities(engine, [facility(names[2], *INSIDE[SHAPINGBA], kind="exchange")])
    assert causes_now(engine, YUZHONG) == (1, {"damage": 1})
    assert causes_now(engine, SHAPINGBA) == (1, {"other": 1})
    then = ask(engine, "causes", COMMS, adcodes=(YUZHONG,), begin=before, end=before)
    assert then["series"][0]["points"][0]["value"] == 4


def send_return(engine: Engine, number: int, minutes: float, rows: list[dict[str, Any]]) -> None:
    body = {"return_id": f"r{number}", "operator": "mobile", "kind": "base_station",
            "as_of": ago(minutes=minutes), "rows": rows}  # fmt: skip
    store_return(engine, body, body=orjson.dumps(body), account="mobile")


def test_causes_are_those_of_the_return_where_it_is_the_source(engine: Engine) -> None:
    load_facilities(engine, [*stations(9, YUZHONG), *stations(3, NANAN)])
    tell(engine, (f"B{YUZHONG}-0", "down", ago(minutes=30), "damage"))
    row = {"adcode": YUZHONG, "total": 9, "down": 7, "causes": {"power": 4, "other": 1}}
    send_return(engine, 1, 20, [row])
    assert causes_now(engine) == (7, {"power": 4, "other": 1, "unknown": 2})
    tell(engine, (f"B{YUZHONG}-1", "down", ago(minutes=9), "光缆"))
    assert causes_now(engine) == (2, {"damage": 1, "transport": 1})


def test_a_cause_waits_for_its_facility(engine: Engine) -> None:
    tell(engine, (f"B{YUZHONG}-0", "down", ago(minutes=9), "power"))
    before = datetime.now(UTC)
    load_facilities(engine, stations(2, YUZHONG))
    assert causes_now(engine, YUZHONG) == (1, {"power": 1})
    answer = ask(engine, "causes", COMMS, adcodes=(YUZHONG,), begin=before)
    values = [(p["value"], p["causes"]["power"]) for p in answer["series"][0]["points"]]
    assert (values[0], values[-1]) == ((0, 0), (1, 1))


# --- who reports ----------------------------------------------------------------------------------


def ages(engine: Engine, **more: Any) -> dict[tuple[str | None, str], dict[str, Any]]:
    answer = ask(engine, "report_age", COMMS, **more)
    return {(one["adcode"], one["operator"]): one["points"][-1] for one in answer["series"]}


def test_the_age_of_the_newest_word_is_told_per_operator_and_district(engine: Engine) -> None:
    load_facilities(
        engine,
        [*stations(2, YUZHONG), *stations(2, NANAN), *stations(1, NANAN, "T", operator="telecom")],
    )
    tell(engine, (f"B{YUZHONG}-0", "up", ago(minutes=10), None))
    tell(engine, (f"B{YUZHONG}-1", "up", ago(minutes=40), None))
    found = ages(engine, adcodes=(YUZHONG, NANAN))
    assert set(found) == {(YUZHONG, "mobile"), (NANAN, "mobile"), (NANAN, "telecom")}
    assert found[YUZHONG, "mobile"]["value"] == pytest.approx(600, abs=20)
    for operator in ("mobile", "telecom"):
        assert found[NANAN, operator]["value"] is None
        assert found[NANAN, operator]["reason"] == "never_reported"
    city = ages(engine)
    assert city[None, "mobile"]["value"] == pytest.approx(600, abs=20)
    assert (city[None, "mobile"]["silent"], city[None, "telecom"]["silent"]) == (False, True)
    send_return(engine, 1, 2, [{"adcode": NANAN, "total": 2, "down": 0}])
    assert ages(engine, adcodes=(NANAN,))[NANAN, "mobile"]["value"] == pytest.approx(120, abs=20)
    earlier = datetime.now(UTC) - timedelta(minutes=1)  # as known then: nothing yet
    answer = ask(engine, "report_age", COMMS, begin=earlier, end=earlier)
    assert [p["reason"] for one in answer["series"] for p in one["points"]] == ["no_facility"]


def test_silent_and_overdue_operators_are_listed_and_never_counted_as_zero(
    engine: Engine, divided_database_url: str
) -> None:
    rows = [*stations(4, YUZHONG), *stations(2, YUZHONG, "T", operator="telecom")]
    rows.append(facility("E1", *INSIDE[YUZHONG], kind="exchange", operator="mobile"))
    load_facilities(engine, rows)
    tell(
        engine, (f"B{YUZHONG}-0", "down", ago(minutes=1), None), ("E1", "up", ago(minutes=1), None)
    )
    recast(divided_database_url, datetime.now(UTC) - timedelta(hours=2), 1)
    with app_engine(divided_database_url).connect() as connection:
        heard = connection.execute(text("SELECT max(received_at) FROM change")).scalar_one()
    limit = timedelta(minutes=SETTINGS.silent_after_minutes)
    just = timedelta(microseconds=1)
    answer = ask(
        engine, "share_down", COMMS, adcodes=(YUZHONG,),
        begin=heard + limit - just, end=heard + limit, every=just,
    )  # fmt: skip
    before, after = answer["moments"]
    assert before["silent"] == ["telecom"]
    assert before["overdue"] == [{"operator": "telecom", "kind": "base_station"}]
    assert after["silent"] == ["mobile", "telecom"]
    assert [(o["operator"], o["kind"]) for o in after["overdue"]] == [
        ("mobile", "base_station"), ("mobile", "exchange"), ("telecom", "base_station"),
    ]  # fmt: skip
    points = answer["series"][0]["points"]
    assert [(p["numerator"], p["denominator"], p["unknown"]) for p in points] == [
        (1, 7, 2), (1, 7, 6),
    ]  # fmt: skip
    told = {(r["operator"], r["kind"]): r for r in answer["reports"]}
    assert told["telecom", "base_station"]["age_s"] is None
    assert told["mobile", "exchange"]["age_s"] == limit.total_seconds()
    assert all(row["silent"] and row["overdue"] for row in told.values())
    tell(engine, ("E1", "up", ago(seconds=1), None))
    one = ask(engine, "share_down", COMMS, begin=datetime.now(UTC))["moments"][-1]
    assert one["silent"] == ["telecom"], "he spoke, of one kind"
    assert {"operator": "mobile", "kind": "base_station"} in one["overdue"]
    store_heartbeat(engine, operator="mobile", body=b"", account="utility")
    one = ask(engine, "share_down", COMMS, begin=datetime.now(UTC))["moments"][-1]
    assert one["overdue"] == [{"operator": "telecom", "kind": "base_station"}]


# --- what is asked --------------------------------------------------------------------------------


def test_more_points_or_values_than_are_answered_is_said_before_anything_is_read(
    engine: Engine,
) -> None:
    now = datetime.now(UTC)
    times = {"begin": now - timedelta(days=30), "end": now}
    with pytest.raises(InvalidInput, match=f"at most {POINTS_MAX}"):
        ask(engine, "level", COMMS, every=timedelta(minutes=1), **times)
    ok = ask(engine, "level", COMMS, every=timedelta(seconds=1298), **times)
    assert len(ok["moments"]) <= POINTS_MAX


def test_the_last_point_is_the_end_also_where_the_step_does_not_lead_there(engine: Engine) -> None:
    now = datetime.now(UTC)
    answer = ask(
        engine, "load_share", begin=now - timedelta(minutes=11), end=now, every=timedelta(minutes=5)
    )
    at = [datetime.fromisoformat(moment["at"]) for moment in answer["moments"]]
    assert [now - t for t in at] == [timedelta(minutes=m) for m in (11, 6, 1, 0)]
