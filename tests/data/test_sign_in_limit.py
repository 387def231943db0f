"""Guessing passwords: counted before the look, in every process, and no way to lock others out."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from data.database import app_engine, owner_engine
from data.sign_in_limit import (
    ADDRESS_FAILURES,
    BLOCK_FIRST_S,
    BLOCK_MOST_S,
    NAME_FAILURES,
    PAIR_FAILURES,
    Attempt,
    forget_failures,
)
from geo.errors import TooMany


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[Engine]:
    made = app_engine(empty_database_url, pool_size=12)
    yield made
    made.dispose()


@pytest.fixture
def owner(empty_database_url: str) -> Iterator[Engine]:
    made = owner_engine(empty_database_url)
    yield made
    made.dispose()


def later(owner: Engine, seconds: int) -> None:
    """As if so much time had passed."""
    with owner.begin() as connection:
        connection.execute(
            text(
                "UPDATE sign_in_limit SET since = since - make_interval(secs => :s),"
                " blocked_until = blocked_until - make_interval(secs => :s),"
                " succeeded_at = succeeded_at - make_interval(secs => :s)"
            ),
            {"s": seconds},
        )


def fail(engine: Engine, name: str, address: str, times: int) -> None:
    for _ in range(times):
        Attempt.of(name, address).begin(engine)


def test_after_some_failures_the_next_is_held_off_and_longer_each_time(
    engine: Engine, owner: Engine
) -> None:
    fail(engine, "a", "192.0.2.1", PAIR_FAILURES)
    waits = []
    for _ in range(9):
        with pytest.raises(TooMany) as caught:
            fail(engine, "a", "192.0.2.1", 1)
        waits.append(caught.value.retry_after_s)
        later(owner, waits[-1])
        fail(engine, "a", "192.0.2.1", 1)
    assert waits[0] in {BLOCK_FIRST_S, BLOCK_FIRST_S + 1}
    assert waits == sorted(waits)
    assert waits[-1] in {BLOCK_MOST_S, BLOCK_MOST_S + 1}
    fail(engine, "b", "192.0.2.1", 1)
    fail(engine, "a", "192.0.2.2", 1)


def test_attempts_held_off_do_not_lengthen_the_wait(engine: Engine) -> None:
    fail(engine, "a", "192.0.2.1", PAIR_FAILURES)
    for _ in range(20):
        with pytest.raises(TooMany) as caught:
            fail(engine, "a", "192.0.2.1", 1)
        assert caught.value.retry_after_s <= BLOCK_FIRST_S + 1


def test_attempts_at_once_cannot_outrun_the_count(engine: Engine) -> None:
    let_in: list[int] = []

    def guess() -> None:
        for _ in range(6):
            try:
                Attempt.of("a", "192.0.2.1").begin(engine)
                let_in.append(1)
            except TooMany:
                pass

    threads = [threading.Thread(target=guess) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(let_in) == PAIR_FAILURES


def test_successes_and_failures_at_once_neither_deadlock_nor_go_wrong(engine: Engine) -> None:
    wrong: list[BaseException] = []

    def sign_in(name: str) -> None:
        try:
            for _ in range(15):
                attempt = Attempt.of(name, "192.0.2.1")
                attempt.begin(engine)
                attempt.succeeded(engine)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=sign_in, args=(f"n{i % 3}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # several of one name at once may well be held off; nothing else may happen
    assert [one for one in wrong if not isinstance(one, TooMany)] == []


def test_the_right_password_takes_back_what_was_counted(engine: Engine, owner: Engine) -> None:
    for _ in range(4):
        fail(engine, "a", "192.0.2.1", PAIR_FAILURES - 1)
        attempt = Attempt.of("a", "192.0.2.1")
        attempt.begin(engine)
        attempt.succeeded(engine)
    with owner.connect() as connection:
        failures = connection.execute(
            text("SELECT failures FROM sign_in_limit WHERE subject = :s"), {"s": attempt.pair}
        ).scalar_one()
    assert failures == 0


def test_one_address_that_tries_many_names_is_held_off(engine: Engine) -> None:
    for n in range(ADDRESS_FAILURES):
        fail(engine, f"n{n}", "2001:db8::1", 1)
    with pytest.raises(TooMany):
        fail(engine, "fresh", "2001:db8::ffff", 1)  # the same network
    fail(engine, "fresh", "2001:db8:0:1::1", 1)


def test_many_addresses_on_one_name_are_held_off_but_not_where_it_is_at_home(
    engine: Engine,
) -> None:
    home = Attempt.of("commander", "10.0.0.5")
    home.begin(engine)
    home.succeeded(engine)
    for n in range(NAME_FAILURES):
        fail(engine, "commander", f"198.51.100.{n}", 1)
    with pytest.raises(TooMany):
        fail(engine, "commander", "203.0.113.1", 1)
    home.begin(engine)
    home.succeeded(engine)


def test_unlocking_forgets_what_is_counted_against_the_name(engine: Engine, owner: Engine) -> None:
    for n in range(NAME_FAILURES):
        fail(engine, "a", f"198.51.100.{n}", 1)
    with owner.begin() as connection:
        forget_failures(connection, "a")
    fail(engine, "a", "203.0.113.1", 1)


def test_failures_are_forgotten_after_a_while_and_no_name_is_kept(
    engine: Engine, owner: Engine
) -> None:
    fail(engine, "a-secret-name", "192.0.2.1", PAIR_FAILURES)
    with owner.connect() as connection:
        rows = str(connection.execute(text("SELECT s::text FROM sign_in_limit s")).all())
    assert "a-secret-name" not in rows
    assert "192.0.2.1" not in rows
    later(owner, 4000)
    fail(engine, "a-secret-name", "192.0.2.1", PAIR_FAILURES)
    later(owner, 4000)
    other = Attempt.of("b", "192.0.2.9")
    other.begin(engine)
    other.succeeded(engine)
    with owner.connect() as connection:
        left = connection.execute(text("SELECT count(*) FROM sign_in_limit")).scalar_one()
    assert left == 3, "those of the attempt just made"


@pytest.mark.parametrize("address", [None, "", "not an address", "\ud800", "x" * 100_000])
@pytest.mark.parametrize("name", ["", "\0", "\ud800", "名" * 1000])
def test_any_name_and_address_is_counted(engine: Engine, name: str, address: str | None) -> None:
    Attempt.of(name, address).begin(engine)


def test_an_ipv4_address_written_as_ipv6_is_the_same() -> None:
    assert Attempt.of("a", "::ffff:192.0.2.1") == Attempt.of("a", "192.0.2.1")
