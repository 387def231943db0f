"""The demonstration in a real PostGIS: where it may go, played once, safe to repeat, cleared."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from data.database import app_engine, reading, sequence_at
from data.demo import check_allowed, clear_demo, load_demo, play
from data.demo_scenario import (
    COMMUNICATIONS,
    LENGTH_MINUTES,
    POWER,
    SPECIAL_EQUIPMENT,
)
from data.rulepacks import RulePacks, load_packs
from data.settings import DatabaseSettings, DemoSettings, SituationSettings
from data.situation import situation_now
from geo.errors import Conflict, InvalidInput, Unavailable
from tests.demo_levels import PLANS, changes, expected
from tests.feeds import INSIDE, YUZHONG, facility, load_facilities


class Killed(Exception):
    """Stands for a process that dies in the middle of a play."""


@pytest.fixture(scope="module")
def packs() -> RulePacks:
    return load_packs()


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    made = app_engine(divided_database_url, pool_size=4)
    yield made
    made.dispose()


# --- where it may go ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "demo", "allowed"),
    [
        (None, None, True), (None, True, True), (None, False, False),
        ("postgresql://u@h/d", None, False), ("postgresql://u@h/d", True, True), ("postgresql://u@h/d", False, False),
    ],
)  # fmt: skip
def test_it_goes_into_a_database_of_ones_own_only_when_told(
    url: Any, demo: Any, allowed: bool
) -> None:
    settings = DatabaseSettings(url=url), DemoSettings(demo=demo)
    if allowed:
        check_allowed(*settings)
    else:
        with pytest.raises(Conflict, match="YUTU_DEMO"):
            check_allowed(*settings)


def test_it_does_not_load_into_a_database_that_has_facilities(engine: Engine) -> None:
    load_facilities(engine, [facility("REAL", *INSIDE[YUZHONG])])
    with pytest.raises(Conflict, match="has facilities"):
        load_demo(engine, 2_000)
    with pytest.raises(Conflict, match="no synthetic inventory"):
        play(engine, None)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM facility")).scalar_one() == 1
        assert (
            connection.execute(
                text("SELECT count(*) FROM batch WHERE channel = 'demo'")
            ).scalar_one()
            == 0
        )


def test_it_does_not_load_without_districts(empty_database_url: str) -> None:
    made = app_engine(empty_database_url)
    with pytest.raises(InvalidInput, match="no districts"):
        load_demo(made, 2_000)
    made.dispose()


# --- playing --------------------------------------------------------------------------------------


def levels_now(engine: Engine, packs: RulePacks) -> dict[str, Any]:
    document = situation_now(engine, packs, SituationSettings())
    return {plan: document["plans"][plan]["level"] for plan in PLANS}


def counts(engine: Engine) -> dict[str, int]:
    with reading(engine) as connection:
        return {
            name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
            for name in (
                "status_log",
                "incident",
                "incident_revision",
                "outage",
                "incident_conflict",
            )
        } | {
            "down": connection.execute(
                text("SELECT count(*) FROM facility_state WHERE state <> 'up' AND counted")
            ).scalar_one()
        }


@pytest.mark.parametrize(("n", "seed"), [(20_000, 7), (100_000, 2026)])
def test_a_play_shows_exactly_the_levels_of_the_table(
    engine: Engine, packs: RulePacks, n: int, seed: int
) -> None:
    assert load_demo(engine, n, seed).created == n
    seen: list[tuple[int, dict[str, Any]]] = []
    played = play(
        engine,
        None,
        seed=seed,
        packs=packs,
        after_minute=lambda m: seen.append((m, levels_now(engine, packs))),
    )
    assert played.fresh == played.steps > 100
    assert changes(seen) == expected()
    assert counts(engine)["down"] == 0
    power = situation_now(engine, packs, SituationSettings())["plans"][POWER]
    assert (power["current"]["level"], power["event"]) == (None, None)


def test_a_second_start_replays_nothing(engine: Engine, packs: RulePacks) -> None:
    load_demo(engine, 10_000)
    play(engine, None, packs=packs)
    with reading(engine) as connection:
        before = sequence_at(connection, None)
    again = play(engine, None, packs=packs)
    assert (again.steps, again.fresh) == (0, 0)
    with reading(engine) as connection:
        assert sequence_at(connection, None) == before


@pytest.mark.parametrize("at_minute", [20, 100, 300, 470])
def test_a_killed_play_goes_on_where_it_stopped(
    engine: Engine, packs: RulePacks, at_minute: int
) -> None:
    load_demo(engine, 10_000, 7)

    def die(minute: int) -> None:
        if minute == at_minute:
            raise Killed

    with pytest.raises(Killed):
        play(engine, None, seed=7, packs=packs, after_minute=die)
    half = counts(engine)
    seen: list[tuple[int, dict[str, Any]]] = []
    waits: list[float] = []
    done = play(
        engine, 1e6, seed=99, packs=packs, sleep=waits.append,
        after_minute=lambda m: seen.append((m, levels_now(engine, packs))),
    )  # fmt: skip
    assert 0 < done.fresh < done.steps
    later = [row for row in expected() if row[0] > at_minute]
    assert [row for row in changes(seen) if row[0] > at_minute] == later
    assert len(waits) < len(seen), "what was sent before the kill is not waited for"
    whole = counts(engine)
    assert whole["down"] == 0
    assert whole["incident_conflict"] == 0
    assert whole["status_log"] > half["status_log"]
    with reading(engine) as connection:
        reports = connection.execute(
            text("SELECT count(DISTINCT event_id) FROM status_log")
        ).scalar_one()
    assert reports == whole["status_log"]


def test_every_time_of_the_play_is_past(engine: Engine, packs: RulePacks) -> None:
    load_demo(engine, 10_000)
    started = datetime.now(UTC)
    play(engine, None, packs=packs)
    with reading(engine) as connection:
        row = connection.execute(
            text(
                "SELECT min(observed_at) AS first, max(observed_at) AS last, bool_or(future) AS future FROM status_log"
            )
        ).one()
    assert started - timedelta(minutes=LENGTH_MINUTES) <= row.first < row.last <= datetime.now(UTC)
    assert row.last - row.first > timedelta(minutes=500)
    assert not row.future


def test_it_is_paced_by_the_minutes_of_the_event(engine: Engine, packs: RulePacks) -> None:
    load_demo(engine, 10_000)
    waits: list[float] = []
    play(engine, 5.0, packs=packs, sleep=waits.append)
    # Nothing really waits here, so each wait is until the minute's own time since the beginning.
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx((LENGTH_MINUTES - 20) / 5.0, abs=20)


def test_only_one_process_plays(engine: Engine, packs: RulePacks) -> None:
    load_demo(engine, 10_000)

    def another(minute: int) -> None:
        if minute == 20:
            with pytest.raises(Unavailable, match="another process"):
                play(engine, None, packs=packs)
            with pytest.raises(Unavailable, match="another process"):
                clear_demo(engine, packs)

    assert play(engine, None, packs=packs, after_minute=another).fresh > 0


# --- clearing -------------------------------------------------------------------------------------


def test_clearing_retires_what_is_synthetic_and_erases_nothing(
    engine: Engine, packs: RulePacks
) -> None:
    load_demo(engine, 10_000)
    play(engine, None, packs=packs)
    load_facilities(engine, [facility("REAL", *INSIDE[YUZHONG])])
    before = counts(engine)
    assert clear_demo(engine, packs) == 10_000
    assert clear_demo(engine, packs) == 0
    after = counts(engine)
    assert {**after, "down": 0} == before
    with reading(engine) as connection:
        in_force = connection.execute(
            text("SELECT facility_id FROM facility WHERE retired_at IS NULL")
        ).scalars()
        assert list(in_force) == ["REAL"]
        assert connection.execute(text("SELECT count(*) FROM facility")).scalar_one() == 10_001


def test_clearing_ends_what_a_killed_play_left_open_and_it_can_be_played_anew(
    engine: Engine, packs: RulePacks
) -> None:
    load_demo(engine, 20_000, 7)

    def die(minute: int) -> None:
        if minute == 200:
            raise Killed

    with pytest.raises(Killed):
        play(engine, None, seed=7, packs=packs, after_minute=die)
    assert levels_now(engine, packs) == {COMMUNICATIONS: 3, POWER: 3, SPECIAL_EQUIPMENT: 4}
    assert clear_demo(engine, packs) == 20_000
    assert levels_now(engine, packs) == dict.fromkeys(PLANS)
    load_demo(engine, 20_000, 7)
    assert levels_now(engine, packs) == dict.fromkeys(PLANS)
    seen: list[tuple[int, dict[str, Any]]] = []
    play(
        engine,
        None,
        seed=7,
        packs=packs,
        after_minute=lambda m: seen.append((m, levels_now(engine, packs))),
    )
    assert changes(seen) == expected()
