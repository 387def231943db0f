"""Connections of the OGC API: asyncpg, read-only, as the role `yutu_reader`, in one reader's scope.

tipg takes a connection from `app.state.pool` without saying for whom, so the reader stands in a
context variable, which an async dependency sets in the task that answers the request. Each
acquisition is one transaction: what it says of the scope ends with it, and count and page see the
same moment.

A process of the database that is stopped answers nothing, not even that a statement is cancelled.
So no wait on a connection is without an end (compare `data.patience`, for psycopg).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
import orjson
import structlog
from sqlalchemy.engine import URL, make_url

from data import patience
from data.database import WHOLE_CITY, Scope
from data.waits import ALLOWANCE_S
from geo.errors import Unavailable

READER_ROLE = "yutu_reader"
SCHEMA = "ogc"
CLOSE_WITHIN_S = 5.0
#: After its time is up an answer may still lie unread, if the event loop was held up: it is read in
#: this while.
LAST_LOOK_S = 0.1
Answer = TypeVar("Answer")

log = structlog.get_logger("yutu.ogc")


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose rows are read: a scope's, and the account's own submissions."""

    scope: Scope
    account: str = ""


CITY_READER = Reader(WHOLE_CITY)
#: Unset, nothing can be acquired: a route that forgets to say who reads fails instead of leaking.
reader: ContextVar[Reader] = ContextVar("reader")


class PatientConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection thrown away when a statement is not answered in time; nothing waits for its end.

    Whoever waited gets asyncpg's ConnectionDoesNotExistError, whoever asks further an
    InterfaceError, and its place in the pool is free. asyncpg's own timeouts would ask for the
    statement to be cancelled, and wait for that.
    """

    #: None: `patience.GRACE_S`, enough for what costs the database nothing (BEGIN, a reset).
    patience_s: float | None = None

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Each statement may meanwhile take so long."""
        self.patience_s = seconds
        try:
            yield
        finally:
            self.patience_s = None

    async def execute(self, *args: Any, **named: Any) -> Any:
        return await self._in_time(super().execute(*args, **named))

    async def fetch(self, *args: Any, **named: Any) -> Any:
        return await self._in_time(super().fetch(*args, **named))

    async def fetchrow(self, *args: Any, **named: Any) -> Any:
        return await self._in_time(super().fetchrow(*args, **named))

    async def fetchval(self, *args: Any, **named: Any) -> Any:
        return await self._in_time(super().fetchval(*args, **named))

    async def close(self, *, timeout: float | None = None) -> None:
        await super().close(timeout=patience.GRACE_S if timeout is None else timeout)

    async def _in_time(self, asking: Coroutine[Any, Any, Answer]) -> Answer:
        loop = asyncio.get_running_loop()
        seconds = patience.GRACE_S if self.patience_s is None else self.patience_s
        waiting = True

        def give_up() -> None:
            if waiting and not self.is_closed():
                log.warning("a process of the database does not answer", waited_s=seconds)
                self.terminate()

        timer = loop.call_later(seconds, loop.call_later, LAST_LOOK_S, give_up)
        try:
            return await asking
        except asyncpg.InternalClientError as error:
            # its process was ended while it lay in the pool, and that has been read only in part
            log.warning("a connection to the database broke", error=str(error))
            self.terminate()
            raise asyncpg.InterfaceError("the connection is closed") from None
        finally:
            waiting = False
            timer.cancel()


class ReaderPool:
    """A pool made at the first use, in the loop that answers requests."""

    def __init__(
        self, url: str, *, size: int, statement_timeout_ms: int, acquire_timeout_s: float
    ) -> None:
        self._place = connect_arguments(make_url(url))
        self._size = size
        self._statement_timeout_ms = statement_timeout_ms
        self._patience_s = statement_timeout_ms / 1000 + patience.GRACE_S - LAST_LOOK_S
        self._acquire_timeout_s = acquire_timeout_s
        self._pool: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = asyncio.Lock()

    def start(self) -> None:
        """Nothing: connections are made when first asked for."""

    def stop(self) -> None:
        """Close the connections; called from another thread than the loop's."""
        pool, loop = self._pool, self._loop
        if pool is None or loop is None or loop.is_closed():
            return
        try:
            asyncio.run_coroutine_threadsafe(pool.close(), loop).result(CLOSE_WITHIN_S)
        except TimeoutError:
            loop.call_soon_threadsafe(pool.terminate)

    @asynccontextmanager
    async def acquire(self, who: Reader | None = None) -> AsyncIterator[Any]:
        """A connection inside one read-only snapshot in the scope of `who`, else of the request.

        Raises Unavailable when the database does not answer or every connection is taken; a
        statement of the caller's that is not answered in time raises as `PatientConnection` says.
        """
        asking = who or reader.get()
        try:
            pool = await self._made()
            connection = await pool.acquire(timeout=self._acquire_timeout_s)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            raise Unavailable("the database does not answer; ask again") from None
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(
                    "SELECT set_config('role', $1, true), set_config('app.districts', $2, true),"
                    " set_config('app.operators', $3, true), set_config('app.account', $4, true)",
                    READER_ROLE,
                    ",".join(asking.scope.districts),
                    ",".join(asking.scope.operators),
                    asking.account,
                )
                with connection.patient(self._patience_s):
                    yield connection
        finally:
            await pool.release(connection)

    async def _made(self) -> Any:
        async with self._making:
            if self._pool is None:
                self._loop = asyncio.get_running_loop()
                self._pool = await asyncpg.create_pool(
                    **self._place,
                    min_size=0,
                    max_size=self._size,
                    timeout=self._acquire_timeout_s,
                    connection_class=PatientConnection,
                    init=_read_json,
                    server_settings={
                        "application_name": "yutu ogc",
                        "default_transaction_read_only": "on",
                        "statement_timeout": str(self._statement_timeout_ms),
                        "lock_timeout": str(round(ALLOWANCE_S * 1000)),
                        "timezone": "UTC",
                        "jit": "off",
                    },
                )
            return self._pool


def connect_arguments(url: URL) -> dict[str, Any]:
    """What asyncpg needs of a database URL; a host may be the folder of a Unix socket."""
    query = {name: value for name, value in url.query.items() if isinstance(value, str)}
    found = {
        "host": url.host or query.get("host"),
        "port": url.port or (int(query["port"]) if "port" in query else None),
        "user": url.username or query.get("user"),
        "password": None if url.password is None else str(url.password),
        "database": url.database,
        "ssl": query.get("sslmode"),
    }
    return {name: value for name, value in found.items() if value is not None}


async def _read_json(connection: Any) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=_dumps, decoder=orjson.loads
        )


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()
