"""A connection that gives up a server process which does not answer.

PostgreSQL ends a statement after its `statement_timeout`; a process of it that is stopped, or a
server behind a dead network, ends nothing. So every wait on a connection ends `GRACE_S` after the
timeout of its statements: the connection is closed, and whoever waited gets an OperationalError.
What had been sent may have been done all the same: a write that ends so is answered 503, and the
same id sent again tells.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from sqlalchemy import Connection, Engine, event, text

GRACE_S = 2.0
INTERVAL_S = 0.1  # as psycopg's own
Answer = TypeVar("Answer")
Opened = TypeVar("Opened", bound=psycopg.Connection[Any])


class PatientConnection(psycopg.Connection[Any]):
    """`patience_s`: how long one answer may take, None for ever."""

    patience_s: float | None = None

    def wait(
        self,
        gen: Generator[Any, Any, Answer],
        interval: float = INTERVAL_S,
        timeout: float | None = None,
    ) -> Answer:
        if timeout is not None or self.patience_s is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience_s)
        except errors._WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError("the database process does not answer") from None


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


def give_time(connection: Connection, seconds: int | None = None) -> None:
    """Statements of this transaction may take so long, None: for ever."""
    connection.execute(text(f"SET LOCAL statement_timeout = '{seconds or 0}s'"))
    raw = connection.connection.driver_connection
    if isinstance(raw, PatientConnection):
        raw.patience_s = None if seconds is None else seconds + GRACE_S
