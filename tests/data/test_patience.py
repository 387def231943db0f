"""A process of the database that stops, and not the database, costs the requests it serves."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from data import patience
from data.database import app_engine, reading
from data.patience import give_time
from tests.hung_process import stopped

GRACE_S = 0.5


@pytest.fixture
def engine(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """One connection, statements of a second."""
    monkeypatch.setattr(patience, "GRACE_S", GRACE_S)
    made = app_engine(database_url, pool_size=1, statement_timeout_s=1)
    yield made
    made.dispose()


def pid_of(connection: Connection) -> int:
    pid: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return pid


def test_a_statement_to_a_stopped_process_ends_and_another_takes_its_place(engine: Engine) -> None:
    with reading(engine) as connection:
        pid = pid_of(connection)
    with stopped(pid):
        started = time.monotonic()
        with pytest.raises(OperationalError, match="does not answer"):
            ask_on_the_same(engine)
        assert 1 <= time.monotonic() - started < 1 + GRACE_S + 1
        with reading(engine) as other:  # the pool of one has room again
            assert pid_of(other) != pid


def ask_on_the_same(engine: Engine) -> None:
    """Without the pool's own look whether the connection lives."""
    engine.pool._pre_ping = False
    try:
        with reading(engine) as connection:
            connection.execute(text("SELECT 1"))
    finally:
        engine.pool._pre_ping = True


def test_a_commit_to_a_stopped_process_is_no_success(engine: Engine) -> None:
    with engine.connect() as connection, stopped(pid_of(connection)):
        with pytest.raises(OperationalError, match="does not answer"):
            connection.commit()
        connection.invalidate()


def test_a_connection_that_was_stopped_in_the_pool_is_replaced(engine: Engine) -> None:
    with reading(engine) as connection:
        pid = pid_of(connection)
    with stopped(pid), reading(engine) as connection:
        assert pid_of(connection) != pid


def test_time_that_was_given_is_waited_for_and_ends_with_the_transaction(engine: Engine) -> None:
    long = text("SELECT pg_sleep(2)")
    with reading(engine) as connection:
        give_time(connection)
        connection.execute(long)
        pid = pid_of(connection)
    with stopped(pid), pytest.raises(OperationalError, match="does not answer"):
        ask_on_the_same(engine)
    with pytest.raises(OperationalError, match="statement timeout"), reading(engine) as connection:
        connection.execute(long)


def test_an_attempt_to_connect_that_ran_out_of_time_leaves_no_socket(
    short_folder: Path,
) -> None:
    """Else each is a place taken in the database when it comes back."""
    address = short_folder / ".s.PGSQL.5432"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(address))
        silent.listen()
        engine = app_engine(
            f"postgresql+psycopg://app@/db?host={short_folder}", connect_timeout_s=2
        )
        gc.collect()
        gc.disable()  # a server collects seldom
        try:
            before = open_files()
            with pytest.raises(OperationalError, match="timeout expired"), engine.connect():
                raise AssertionError("nobody is there")
            assert open_files() == before
        finally:
            gc.enable()
            engine.dispose()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
