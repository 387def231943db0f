"""What one wait of a request has used the next one lacks; who was given time waits on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, TimeoutError

from data.database import app_engine, owner_engine, writing
from data.patience import give_time
from data.waits import ALLOWANCE_S, CURRENT, LEAST_S, MIB, Waits, at_most

LOCK = text("SELECT pg_advisory_xact_lock(71)")
MOST_S = 2.5
LEFT_S = 0.4
#: What a busy machine may take besides; with it, less than without an allowance.
SLACK_S = 1.0


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Two connections; a lock may be waited for 2.5 s, of a request usually two."""
    made = app_engine(
        database_url,
        pool_size=2,
        acquire_timeout_s=MOST_S,
        lock_timeout_s=MOST_S,
        usual_lock_timeout_s=2,
    )
    yield made
    made.dispose()


@pytest.fixture
def owner(database_url: str) -> Iterator[Engine]:
    made = owner_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def waits() -> Iterator[Waits]:
    """Those of a request that has less than half a second left."""
    made = Waits(time.monotonic())
    made.left_s = LEFT_S
    token = CURRENT.set(made)
    yield made
    CURRENT.reset(token)


@contextmanager
def held(owner: Engine) -> Iterator[None]:
    """Someone else has the lock."""
    with owner.connect() as other:
        other.execute(LOCK)
        yield
        other.rollback()


def seconds(wait: Callable[[], object], error: type[Exception]) -> float:
    """Until it was given up."""
    began = time.monotonic()
    with pytest.raises(error):
        wait()
    return time.monotonic() - began


def ask_for_the_lock(connection: Connection) -> float:
    return seconds(lambda: connection.execute(LOCK), OperationalError)


def test_waits_add_up_and_the_last_still_has_a_moment(waits: Waits) -> None:
    assert at_most(0.3) == 0.3
    began = time.monotonic()
    with waits.drawn(), waits.drawn():  # a wait within a wait is one
        time.sleep(0.1)
    took_s = time.monotonic() - began
    assert LEFT_S - took_s <= waits.left_s <= LEFT_S - 0.1
    waits.left_s = -5
    assert at_most(10) == LEAST_S


def test_a_request_has_waited_since_it_came_and_more_for_a_large_body() -> None:
    came_at = time.monotonic() - 1
    waits = Waits(came_at)
    assert ALLOWANCE_S - (time.monotonic() - came_at) <= waits.left_s <= ALLOWANCE_S - 1
    waits.allow(10 * MIB)
    assert waits.at_most(5) == 5
    assert at_most(5) == 5  # outside of a request


def test_the_wait_for_a_connection_ends_with_the_allowance(engine: Engine, waits: Waits) -> None:
    with engine.connect(), engine.connect():
        assert LEFT_S - 0.1 < seconds(engine.connect, TimeoutError) < LEFT_S + SLACK_S
        assert waits.left_s < 0.1
        assert seconds(engine.connect, TimeoutError) < LEAST_S + SLACK_S
        CURRENT.set(None)
        assert seconds(engine.connect, TimeoutError) >= MOST_S


def test_the_wait_for_a_lock_ends_with_the_allowance(
    engine: Engine, owner: Engine, waits: Waits
) -> None:
    with held(owner):
        with engine.connect() as connection:
            assert ask_for_the_lock(connection) < LEFT_S + SLACK_S
        with engine.connect() as connection:  # another transaction of the same request
            assert ask_for_the_lock(connection) < LEAST_S + SLACK_S
        waits.left_s = 10
        with engine.connect() as connection:
            assert ask_for_the_lock(connection) >= MOST_S


def test_a_savepoint_that_is_left_forgets_no_limit(
    engine: Engine, owner: Engine, waits: Waits
) -> None:
    with held(owner), engine.connect() as connection:
        waits.left_s = 10
        connection.execute(text("SELECT 1"))
        with connection.begin_nested() as inner:
            waits.left_s = LEFT_S
            connection.execute(text("SELECT 1"))
            inner.rollback()
        assert ask_for_the_lock(connection) < LEFT_S + SLACK_S


def test_who_was_given_time_waits_for_a_lock_as_long_as_the_engine_says(
    engine: Engine, owner: Engine, waits: Waits
) -> None:
    with held(owner), engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        give_time(connection)
        assert ask_for_the_lock(connection) >= MOST_S
        connection.rollback()
        assert ask_for_the_lock(connection) < LEFT_S + SLACK_S  # and not the next transaction


def test_a_write_that_waited_too_long_leaves_nothing(
    engine: Engine, owner: Engine, waits: Waits
) -> None:
    with (
        held(owner),
        pytest.raises(OperationalError),
        writing(engine, channel="status", account="utility", body=b"waited") as write,
    ):
        write.connection.execute(LOCK)
    with owner.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM batch WHERE body = 'waited'"))
        assert found.scalar_one() == 0
