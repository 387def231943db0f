"""A connection that gives up a server process which does not answer.

PostgreSQL ends a statement after its `statement_timeout`; a process of it that is stopped, or a
server behind a dead network, ends nothing. So every wait on a connection ends `GRACE_S` after the
timeout of its statements: the connection is closed, and whoever waited gets an OperationalError.
What had been sent may have been done all the same: a write that ends so is answered 503, and the
same id sent again tells.

A lock is waited for as long as the request may still wait (`data.waits`), and a connection of the
pool too. Whoever was given time waits for a lock as long as the engine says.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from data.waits import CURRENT, at_most, drawn

GRACE_S = 2.0
#: A limit that is as right as this is not said anew to the database.
LOCK_SLACK_S = 0.1
INTERVAL_S = 0.1  # as psycopg's own
Answer = TypeVar("Answer")
Opened = TypeVar("Opened", bound=psycopg.Connection[Any])


class PatientConnection(psycopg.Connection[Any]):
    """`patience_s`: how long one answer may take, None for ever. `lock_s`: how long a lock may be
    waited for in this transaction, None if that is to be said anew."""

    patience_s: float | None = None
    lock_s: float | None = None
    most_lock_s: float
    has_time = False

    def wait(
        self,
        gen: Generator[Any, Any, Answer],
        interval: float = INTERVAL_S,
        timeout: float | None = None,
    ) -> Answer:
        with drawn():
            return self._wait(gen, interval, timeout)

    def _wait(
        self, gen: Generator[Any, Any, Answer], interval: float, timeout: float | None
    ) -> Answer:
        if timeout is not None or self.patience_s is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience_s)
        except errors._WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError("the database process does not answer") from None


class PatientPool(QueuePool):
    """Who waits for a connection waits no longer than the request may wait for anything."""

    def _do_get(self) -> ConnectionPoolEntry:
        with drawn():
            return super()._do_get()

    @property
    def _timeout(self) -> float:
        return at_most(self._most_s)

    @_timeout.setter
    def _timeout(self, seconds: float) -> None:
        self._most_s = seconds


def connected(kind: type[Opened], *args: Any, **options: Any) -> Opened:
    """`kind.connect(…)`. Of an attempt that ran out of time psycopg leaves the socket open, in a
    cycle with its error, until the garbage is collected; after a hang of the database all of these
    would be waiting for it and take its places."""
    try:
        return kind.connect(*args, **options)
    except psycopg.Error as error:
        traceback.clear_frames(error.__traceback__)
        raise


def make_patient(engine: Engine, statement_timeout_s: float) -> None:
    """Have all connections of an engine give up after its statement timeout, and return to it
    after a transaction that had more time."""
    patience_s = statement_timeout_s + GRACE_S

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, args: Any, options: Any) -> PatientConnection:
        made = connected(PatientConnection, *args, **options)
        made.patience_s = patience_s
        return made

    @event.listens_for(engine, "checkin")
    def _as_before(raw: PatientConnection | None, _record: Any) -> None:
        if raw is not None:
            raw.patience_s = patience_s


def wait_for_locks(engine: Engine, *, most_s: float, usual_s: float) -> None:
    """Have statements of a request wait for a lock as long as it may still wait, at most `most_s`.

    `usual_s` is what new connections have: nothing is said to the database as long as that is
    about right. A limit of the database's own never ends a COMMIT.
    """

    @event.listens_for(engine, "connect")
    def _usual(raw: PatientConnection, _record: Any) -> None:
        raw.most_lock_s = most_s

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        raw = connection.connection.driver_connection
        if isinstance(raw, PatientConnection):
            raw.lock_s, raw.has_time = usual_s, False

    @event.listens_for(engine, "rollback_savepoint")
    def _back(connection: Connection, _name: str, _context: None) -> None:
        raw = connection.connection.driver_connection
        if isinstance(raw, PatientConnection) and raw.lock_s != usual_s:
            raw.lock_s = None  # whether it was said before the savepoint or after

    @event.listens_for(engine, "before_cursor_execute")
    def _limit(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("ROLLBACK TO"):  # nothing said now would stay, if it could be
            return
        waits = CURRENT.get()
        raw = connection.connection.driver_connection
        if waits is None or not isinstance(raw, PatientConnection) or raw.has_time:
            return
        may_s = waits.at_most(most_s)
        if raw.lock_s is None or abs(may_s - raw.lock_s) > LOCK_SLACK_S:
            _say(raw, may_s)


def _say(raw: PatientConnection, lock_s: float) -> None:
    raw.execute(f"SET LOCAL lock_timeout = {round(lock_s * 1000)}", prepare=False)
    raw.lock_s = lock_s


def give_time(connection: Connection, seconds: int | None = None) -> None:
    """Statements of this transaction may take so long, None: for ever, and wait for locks as long
    as the engine says."""
    raw = connection.connection.driver_connection
    if isinstance(raw, PatientConnection):
        raw.has_time = True
    connection.execute(text(f"SET LOCAL statement_timeout = '{seconds or 0}s'"))
    if isinstance(raw, PatientConnection):
        raw.patience_s = None if seconds is None else seconds + GRACE_S
        if raw.most_lock_s != raw.lock_s:
            _say(raw, raw.most_lock_s)
