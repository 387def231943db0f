"""Connections of the OGC API: asyncpg, read-only, as the role `yutu_reader`, in one reader's scope.

tipg takes a connection from `app.state.pool` without saying for whom, so the reader stands in a
context variable, which an async dependency sets in the task that answers the request. Each
acquisition is one transaction: what it says of the scope ends with it, and count and page see the
same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import orjson
from sqlalchemy.engine import URL, make_url

from data.database import WHOLE_CITY, Scope
from geo.errors import Unavailable

READER_ROLE = "yutu_reader"
SCHEMA = "ogc"
CLOSE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose rows are read: a scope's, and the account's own submissions."""

    scope: Scope
    account: str = ""


CITY_READER = Reader(WHOLE_CITY)
#: Unset, nothing can be acquired: a route that forgets to say who reads fails instead of leaking.
reader: ContextVar[Reader] = ContextVar("reader")


class ReaderPool:
    """A pool made at the first use, in the loop that answers requests."""

    def __init__(
        self, url: str, *, size: int, statement_timeout_ms: int, acquire_timeout_s: float
    ) -> None:
        self._place = connect_arguments(make_url(url))
        self._size = size
        self._statement_timeout_ms = statement_timeout_ms
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

        Raises Unavailable when the database does not answer or every connection is taken.
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
                    init=_read_json,
                    server_settings={
                        "application_name": "yutu ogc",
                        "default_transaction_read_only": "on",
                        "statement_timeout": str(self._statement_timeout_ms),
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
