"""The builder: one at a time, by notice and by the clock, everything once and in order."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from data import builder as builder_module
from data.builder import BUILDER_LOCK, Builder
from data.database import app_engine, owner_engine, publish, reading
from data.incident_submission import store_incident
from data.incidents import IncidentSettings
from data.outages import store_outage
from data.rulepacks import load_packs
from data.service_area import ServiceAreas
from data.settings import SituationSettings
from data.status import ingest_status
from tests.feeds import COMMANDER, INSIDE, SHAPINGBA, YUZHONG, ago, facility, load_facilities

COMMS, POWER, SPECIAL = "communications-2024", "power-outage-2021", "special-equipment-2023"
PACKS = load_packs()
SETTINGS = SituationSettings()


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    made = app_engine(divided_database_url, pool_size=8)
    yield made
    made.dispose()


@pytest.fixture
def owner(divided_database_url: str) -> Iterator[Engine]:
    made = owner_engine(divided_database_url)
    yield made
    made.dispose()


@pytest.fixture
def make(engine: Engine, divided_database_url: str) -> Callable[..., Builder]:
    return lambda settings=SETTINGS: Builder(engine, divided_database_url, PACKS, settings)


@contextmanager
def running(*builders: Builder) -> Iterator[None]:
    for one in builders:
        one.start()
    try:
        yield
    finally:
        for one in builders:
            one.stop()
        for one in builders:
            one.join(5)


def newest(engine: Engine, lang: str = "zh") -> dict[str, Any] | None:
    with reading(engine) as connection:
        body = connection.execute(
            text("SELECT body FROM situation_bytes WHERE lang = :l ORDER BY sequence DESC LIMIT 1"),
            {"l": lang},
        ).scalar()
    return None if body is None else dict(orjson.loads(bytes(body)))


def events(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list(
            connection.execute(
                text("SELECT id, sequence, kind, adcode, payload FROM stream_event ORDER BY id")
            )
        )


def until(what: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `what` within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def holders(owner: Engine) -> list[int]:
    with owner.connect() as connection:
        return list(
            connection.execute(
                text(
                    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :k AND granted"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                ),
                {"k": BUILDER_LOCK},
            ).scalars()
        )


def stations(n: int, adcode: str = YUZHONG) -> list[dict[str, Any]]:
    return [
        facility(f"B{adcode}-{i}", *INSIDE[adcode], kind="base_station", operator="mobile")
        for i in range(n)
    ]


def report(engine: Engine, *events: tuple[str, str]) -> int:
    rows = [
        {"event_id": str(uuid.uuid4()), "facility_id": f, "state": s, "observed_at": ago(seconds=1)}
        for f, s in events
    ]
    return ingest_status(engine, rows, body=orjson.dumps(rows), account="utility").sequence


def submit(engine: Engine, adcode: str = YUZHONG, **facts: Any) -> str:
    body = {
        "incident_id": str(uuid.uuid4()),
        "plan": SPECIAL,
        "kind": "elevator",
        "occurred_at": ago(hours=2),
        "position": list(INSIDE[adcode]),
        "crs": "WGS84",
        "facts": facts,
    }
    store_incident(
        engine, body, body=orjson.dumps(body), account=COMMANDER, packs=PACKS,
        settings=IncidentSettings(),
    )  # fmt: skip
    return str(body["incident_id"])


# --- one at a time ----------------------------------------------------------------------------


def test_of_two_only_one_builds_and_the_other_takes_over(
    engine: Engine, owner: Engine, make: Callable[..., Builder]
) -> None:
    load_facilities(engine, stations(4))
    first, second = make(), make()
    with running(first):
        until(lambda: newest(engine), 5)
        with running(second):
            time.sleep(1.2)  # the second has tried by now
            assert len(holders(owner)) == 1
            first.stop()
            first.join(5)
            sequence = report(engine, (f"B{YUZHONG}-0", "down"))
            shown = until(lambda: (s := newest(engine)) and s["sequence"] >= sequence and s, 5)
            assert shown["districts"][2]["facilities"]["base_station"]["down"] == 1
            assert len(holders(owner)) == 1
    until(lambda: holders(owner) == [], 5)  # the server ends a session after its client has gone


def test_when_the_connection_with_the_lock_dies_building_goes_on(
    engine: Engine, owner: Engine, make: Callable[..., Builder]
) -> None:
    load_facilities(engine, stations(4))
    with running(make(), make()):
        (pid,) = until(lambda: newest(engine) and holders(owner), 5)
        with owner.begin() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:p)"), {"p": pid})
        sequence = report(engine, (f"B{YUZHONG}-0", "down"))
        until(lambda: (newest(engine) or {})["sequence"] >= sequence, 6)
        (other,) = until(lambda: holders(owner), 3)
        assert other != pid


def test_a_stopped_builder_ends_at_once(engine: Engine, make: Callable[..., Builder]) -> None:
    one = make()
    with running(one):
        until(lambda: newest(engine), 5)
        time.sleep(0.3)
        started = time.monotonic()
        one.stop()
        one.join(5)
        assert time.monotonic() - started < 0.6


# --- what is stored ---------------------------------------------------------------------------


def test_a_burst_is_built_a_few_times_a_second_and_ends_complete(
    engine: Engine, make: Callable[..., Builder]
) -> None:
    load_facilities(engine, stations(60))
    with running(make()):
        first = until(lambda: newest(engine), 5)["sequence"]
        started = time.monotonic()
        for i in range(60):
            last = report(engine, (f"B{YUZHONG}-{i}", "down"))
            time.sleep(0.02)
        shown = until(lambda: (s := newest(engine)) and s["sequence"] >= last and s, 3)
        seconds = time.monotonic() - started
    assert shown["districts"][2]["facilities"]["base_station"]["down"] == 60
    built = [e.sequence for e in events(engine) if e.kind == "situation" and e.sequence > first]
    assert 2 <= len(built) <= seconds * SETTINGS.builds_per_second + 1
    assert built == sorted(set(built))


def test_every_incident_is_an_event_once_before_the_situation_that_has_it(
    engine: Engine, make: Callable[..., Builder]
) -> None:
    one, other = make(), make()
    ids = [submit(engine, deaths=1)]
    one.build_once()
    ids += [submit(engine, deaths=1), submit(engine, SHAPINGBA, deaths=3)]
    one.build_once()
    other.build_once()  # as after a change of the one that builds
    ids.append(submit(engine, deaths=1))
    other.build_once()
    one.build_once()
    found = events(engine)
    assert [e.payload["incident_id"] for e in found if e.kind == "incident"] == ids
    assert [e.adcode for e in found if e.kind == "incident"] == [YUZHONG, YUZHONG, SHAPINGBA, YUZHONG]  # fmt: skip
    assert [e.sequence for e in found] == sorted(e.sequence for e in found)
    for event in found:
        assert event.payload["sequence"] == event.sequence
    kinds = [e.kind for e in found]
    assert kinds == ["incident", "situation", "incident", "incident", "situation", "incident", "situation"]  # fmt: skip
    shown = [e for e in found if e.kind == "situation"]
    assert [e.payload["levels"][SPECIAL] for e in shown] == [4, 3, 3]


def test_both_languages_are_stored_with_their_own_etag_and_say_the_same(
    engine: Engine, make: Callable[..., Builder]
) -> None:
    load_facilities(engine, stations(4))
    make().build_once()
    zh, en = newest(engine, "zh"), newest(engine, "en")
    assert zh is not None
    assert en is not None
    assert [d["name"] for d in zh["districts"]][2] == "渝中区"
    assert [d["name"] for d in en["districts"]][2] == "Yuzhong"
    for document in (zh, en):
        for named in (*document["districts"], *document["units"]):
            named.pop("name")
    assert zh == en
    with reading(engine) as connection:
        etags = list(connection.execute(text("SELECT etag FROM situation_bytes")).scalars())
    assert len(set(etags)) == 2


def test_nothing_new_stores_nothing(engine: Engine, make: Callable[..., Builder]) -> None:
    load_facilities(engine, stations(4))
    one = make()
    assert one.build_once() == 1
    assert one.build_once() is None
    assert make().build_once() == 1
    assert len([e for e in events(engine) if e.kind == "situation"]) == 1


def sequences(engine: Engine) -> list[tuple[int, str]]:
    with reading(engine) as connection:
        rows = connection.execute(text("SELECT sequence, kind FROM change ORDER BY sequence"))
        return [(row.sequence, row.kind) for row in rows]


def test_a_restart_without_any_change_records_nothing(
    engine: Engine, divided_database_url: str, tmp_path: Path
) -> None:
    """Area shares come from files and take a moment; that is no change of the situation."""
    load_facilities(
        engine, [facility(f"S{i}", *INSIDE[a]) for i, a in enumerate([YUZHONG, SHAPINGBA])]
    )
    report(engine, ("S0", "down"))

    def run(enough: Callable[[ServiceAreas], bool]) -> None:
        area = ServiceAreas.under(engine, SETTINGS, tmp_path)
        area.start()
        try:
            with running(Builder(engine, divided_database_url, PACKS, SETTINGS, area)):
                until(lambda: enough(area), 20)
                time.sleep(2.5)  # a tick would follow within half a second, a look each second
        finally:
            area.stop()

    def share() -> Any:
        shown = newest(engine)
        return shown and next(d for d in shown["districts"] if d["adcode"] == YUZHONG)["area_share"]

    run(lambda _area: bool(share()))
    before, told = sequences(engine), newest(engine)
    assert share()["substation"]["any"] > 0.9
    for _ in range(2):
        run(lambda area: area.settled and area.revision > 0)
        assert sequences(engine) == before
        assert newest(engine) == told


def test_what_the_clock_changed_while_nobody_built_is_a_tick_of_the_next_start(
    engine: Engine, owner: Engine, make: Callable[..., Builder]
) -> None:
    load_facilities(engine, stations(4))
    submit(engine, people_stranded=1, stranded_since=ago(hours=1, minutes=59, seconds=58))
    assert make().build_once() == 2
    until(lambda: make().build_once() == 3, 10)  # after two hours: level Ⅳ
    assert sequences(engine)[-1] == (3, "tick")
    shown = newest(engine)
    assert shown is not None
    assert shown["plans"][SPECIAL]["level"] == 4
    assert make().build_once() == 3, "the next start finds it told"


def test_a_situation_stored_in_another_form_is_built_anew(
    engine: Engine, owner: Engine, make: Callable[..., Builder]
) -> None:
    load_facilities(engine, stations(4))
    assert make().build_once() == 1
    with owner.begin() as connection:
        connection.execute(text("UPDATE situation_bytes SET body = '{}'"))
    assert make().build_once() == 2
    shown = newest(engine)
    assert shown is not None
    assert shown["inventory"]["facilities"] == 4


# --- the clock --------------------------------------------------------------------------------


def test_an_operator_that_falls_silent_widens_the_bounds_without_input(
    engine: Engine, owner: Engine, make: Callable[..., Builder]
) -> None:
    load_facilities(engine, stations(4))
    report(engine, (f"B{YUZHONG}-0", "up"))
    with owner.begin() as connection:  # as if it had been heard 14 min 57 s ago
        connection.execute(
            text("UPDATE change SET received_at = received_at - interval '14 min 57 s'")
        )
    with running(make()):
        before = until(lambda: newest(engine), 5)
        assert before["plans"][COMMS]["bounds"] == {"at_least": None, "at_most": None}
        assert before["sources"][0]["silent"] is False
        after = until(lambda: (s := newest(engine)) and s["sequence"] > 2 and s, 8)
        time.sleep(0.6)
        assert newest(engine) == after, "one tick, not one a build"
    assert after["sequence"] == 3
    assert after["plans"][COMMS]["bounds"] == {"at_least": None, "at_most": 3}
    assert after["sources"][0]["silent"] is True
    with reading(engine) as connection:
        row = connection.execute(text("SELECT kind, batch_id, received_at FROM change WHERE sequence = 3")).one()  # fmt: skip
    assert (row.kind, row.batch_id) == ("tick", None)
    assert after["as_of"] == row.received_at.isoformat()


def test_a_restoration_a_moment_ahead_ends_the_loss_when_it_comes(
    engine: Engine, make: Callable[..., Builder]
) -> None:
    load_facilities(engine, [facility("S", *INSIDE[YUZHONG], load_kw=100_000)])
    properties = {
        "outage_id": "O", "revision": 1, "operator": "grid", "facility_ids": ["S"], "load_shed_kw": 40_000,
        "customers_out": 0, "started_at": ago(minutes=5), "restored_at": ago(seconds=-2.5), "planned": False,
        "main_grid": True,
    }  # fmt: skip
    feature = {"type": "Feature", "geometry": None, "properties": properties}
    store_outage(engine, feature, body=orjson.dumps(feature), account="grid", crs="WGS84")

    def shed() -> Any:
        shown = newest(engine)
        return shown and next(d for d in shown["districts"] if d["adcode"] == YUZHONG)["load"]

    with running(make()):
        assert until(shed, 5)["load_shed_mw"] == 40.0
        until(lambda: shed()["load_shed_mw"] == 0, 5)
    shown = newest(engine)
    assert shown is not None
    found = shown["plans"][POWER]
    assert (found["level"], found["current"]["level"]) == (2, None), "40 %, until it is closed"


def test_a_change_during_a_tick_is_not_lost(
    engine: Engine, make: Callable[..., Builder], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_facilities(engine, stations(4))
    since = ago(hours=1, minutes=59, seconds=58.5)
    submit(engine, people_stranded=1, stranded_since=since)
    one = make()
    one.build_once()
    assert newest(engine)["plans"][SPECIAL]["level"] is None  # type: ignore[index]
    meanwhile: list[int] = []

    def slow(connection: Any, kind: str, *more: Any) -> Any:
        if kind == "tick" and not meanwhile:
            meanwhile.append(report(engine, (f"B{YUZHONG}-0", "down"), (f"B{YUZHONG}-1", "down")))
        return publish(connection, kind, *more)

    monkeypatch.setattr(builder_module, "publish", slow)
    until(one.build_once, 5)
    shown = newest(engine)
    assert shown is not None
    assert meanwhile
    assert shown["sequence"] == meanwhile[0] + 1, "the tick came after the change"
    assert shown["plans"][SPECIAL]["level"] == 4
    assert shown["plans"][COMMS]["level"] == 3
    assert one.build_once() is None
