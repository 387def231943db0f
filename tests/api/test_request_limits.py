"""No account and no key gets more than its share, whichever server process it asks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from data.accounts import create_account
from data.api_keys import draw_key, store_key
from data.database import app_engine
from data.request_limit import STRETCHES, RequestLimits, RequestLimitSettings
from geo.errors import TooMany
from tests.api.conftest import Credentials, assert_problem
from tests.api.test_kill_writers import Server

WINDOW_S = 12
PER_ACCOUNT, PER_KEY = 60, 30
SHARED_BY_S = 2.5


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = app_engine(database_url, pool_size=3)
    yield made
    made.dispose()


def limits(engine: Engine, **settings: int) -> RequestLimits:
    return RequestLimits(engine, RequestLimitSettings(**settings))


def taken(one: RequestLimits, account: str, tries: int, key: int | None = None) -> int:
    """How many of so many tries were let through."""
    through = 0
    for _ in range(tries):
        try:
            one.take(account, key)
        except TooMany:
            continue
        through += 1
    return through


def test_the_limit_is_exact_within_one_process(engine: Engine) -> None:
    one = limits(engine, requests_per_account=50)
    assert taken(one, "exact", 80) == 50
    assert taken(one, "another", 10) == 10


def test_a_key_has_a_limit_of_its_own_within_its_accounts(engine: Engine) -> None:
    one = limits(engine, requests_per_account=50, requests_per_key=20)
    assert taken(one, "owner", 30, key=1) == 20
    assert taken(one, "owner", 30, key=2) == 20
    assert taken(one, "owner", 30) == 10


def test_without_a_limit_nothing_is_counted_or_shared(engine: Engine, owner: Engine) -> None:
    one = limits(engine, requests_per_account=0, requests_per_key=0)
    assert taken(one, "free", 5000, key=77) == 5000
    one.share()
    with owner.connect() as connection:
        kept = connection.execute(text("SELECT count(*) FROM request_count WHERE subject ~ 'free'"))
        assert kept.scalar_one() == 0


def test_processes_share_what_they_counted(engine: Engine) -> None:
    a, b = (limits(engine, requests_per_account=100) for _ in range(2))
    assert taken(a, "shared", 60) == 60
    assert taken(b, "shared", 20) == 20
    a.share()
    b.share()
    assert taken(b, "shared", 60) == 20
    b.share()
    a.share()
    assert taken(a, "shared", 5) == 0


def test_what_was_told_is_counted_once_while_and_after_it_is_told(engine: Engine) -> None:
    one = limits(engine, requests_per_account=100)
    for expected in (30, 30, 30, 10):
        assert taken(one, "once", 30) == expected
        one.share()


def test_room_comes_back_when_the_window_has_passed(engine: Engine) -> None:
    one = limits(engine, requests_per_account=10, requests_window_s=2)
    assert taken(one, "comes-back", 20) == 10
    one.share()
    with pytest.raises(TooMany) as refused:
        one.take("comes-back")
    assert 1 <= refused.value.retry_after_s <= 3
    time.sleep(refused.value.retry_after_s + 2 / STRETCHES)
    assert taken(one, "comes-back", 1) == 1


def test_a_database_that_cannot_be_asked_makes_each_process_go_on_alone(
    engine: Engine, owner: Engine
) -> None:
    one = limits(engine, requests_per_account=40)
    assert taken(one, "alone", 15) == 15
    with owner.begin() as connection:
        connection.execute(text("REVOKE INSERT ON request_count FROM yutu_app"))
    try:
        one.share()
        one.share()
    finally:
        with owner.begin() as connection:
            connection.execute(text("GRANT INSERT ON request_count TO yutu_app"))
    assert taken(one, "alone", 40) == 25
    one.share()
    assert taken(one, "alone", 5) == 0


def test_counting_costs_next_to_nothing_and_no_round_trip(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = limits(engine, requests_per_account=10**6, requests_per_key=10**6)
    one.take("quick", 5)
    one.share()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a request asked the database")

    monkeypatch.setattr(engine.pool, "connect", never)
    started = time.thread_time()
    for _ in range(20_000):
        one.take("quick", 5)
    assert (time.thread_time() - started) / 20_000 < 100e-6


@pytest.fixture(scope="module")
def limited_server(
    database_url: str, credentials: Credentials, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server of two processes with small limits; its URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YUTU_REQUESTS_PER_ACCOUNT", str(PER_ACCOUNT))
        patch.setenv("YUTU_REQUESTS_PER_KEY", str(PER_KEY))
        patch.setenv("YUTU_REQUESTS_WINDOW_S", str(WINDOW_S))
        one = Server(database_url, tmp_path_factory.mktemp("server") / "log")
        one.start()
        try:
            with suppress(AssertionError):  # where many tests run at once a start takes long
                one.wait_ready()
            one.wait_ready()
            yield one.url
        finally:
            one.kill()


def statuses(url: str, headers: dict[str, str], times: int) -> list[int]:
    """Each by a connection of its own, so that now one process answers and now the other."""
    return [
        httpx.get(f"{url}/v1/session", headers=headers, timeout=30).status_code
        for _ in range(times)
    ]


def test_two_server_processes_let_through_one_limit(limited_server: str, owner: Engine) -> None:
    with owner.begin() as connection:
        made = create_account(connection, "eager", "viewer")
        beside = draw_key()
        store_key(connection, "eager", beside, label="beside")
    first, second = {"X-API-Key": made.api_key}, {"X-API-Key": beside}
    began = time.monotonic()
    assert statuses(limited_server, first, 20) == [200] * 20
    time.sleep(SHARED_BY_S)
    found = statuses(limited_server, first, 40)
    if time.monotonic() - began < WINDOW_S:  # else the first have left the window
        # each of the two knows what the other let through before, and nothing of what it lets now
        assert found.count(200) <= 2 * (PER_KEY - 20) + 2
    assert 429 in found
    refused = httpx.get(f"{limited_server}/v1/session", headers=first, timeout=30)
    while refused.status_code == 200:
        refused = httpx.get(f"{limited_server}/v1/session", headers=first, timeout=30)
    body = assert_problem(refused, 429)
    assert 1 <= int(refused.headers["retry-after"]) <= WINDOW_S + 1
    assert body["detail"] == "请求过多，请减少或稍候再试"
    assert statuses(limited_server, second, 1) == [200], "another key has its own share"
    sending: dict[str, Any] = {
        "headers": first,
        "content": b"[" + b" " * 5000 + b"]",
        "timeout": 30,
    }
    unread = httpx.post(f"{limited_server}/v1/status", **sending)
    if unread.status_code == 429:
        assert unread.headers["connection"] == "close", "its body is not read"
    time.sleep(WINDOW_S + SHARED_BY_S)
    assert statuses(limited_server, first, 5) == [200] * 5
    with owner.connect() as connection:
        row = connection.execute(
            text("SELECT account FROM audit WHERE act = 'request' AND detail ~ '429'")
        ).first()
    assert row is not None
    assert row.account == "eager"


def test_the_defaults_leave_room_for_a_feed_and_for_maps() -> None:
    settings = RequestLimitSettings.model_construct()
    minute = settings.requests_window_s / 60
    batches = 100_000 / 1_000 * 60  # of 1,000 events by 8 writers, faster than one machine ingests
    assert settings.requests_per_key >= 2 * batches * minute
    tiles = 40 * 30 + 60  # a map dragged every two seconds, forty tiles each time, and what it asks
    assert settings.requests_per_account >= 20 * tiles * minute
