"""Whether the database answers at all, and an end to waiting for one that does not.

A database that is stopped, swapped out or behind a dead network refuses nothing: statements sent
to it simply never return, and no timeout of its own fires. So each process asks it for its pulse
on a connection of its own. While that stays unanswered, requests that wait get 503 and
`Retry-After`, and their work is left to end by itself whenever the database comes back: a write
among them may then still be stored, and its client, who was never told so, sends it again under the
same id. What needs no database is answered as ever.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import MutableMapping
from typing import Any, cast

import psycopg
import structlog

from api.credentials import Application, Receive, Scope, Send
from api.deps import Services
from api.language import language_of
from api.problems import answer_error
from data.database import libpq_url
from data.patience import connected
from geo.errors import Unavailable

ASK_EVERY_S = 0.25
#: One question unanswered for so long means the database hangs. With the pause between questions
#: and `PATIENCE_S` below, a request ends within 2.5 s.
HANGING_AFTER_S = 1.7
#: A request that came while the database already hung may still need none; it has so long.
PATIENCE_S = 0.3
RETRY_AFTER_S = 2
SILENT = "the database does not answer; send it again"

log = structlog.get_logger("yutu.pulse")


class Pulse:
    """Asks the database for its pulse in a thread; `hanging()` costs a comparison."""

    def __init__(self, url: str) -> None:
        self._url = libpq_url(url)
        self._asked_at: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=0.5)  # it may hang with the database; it is a daemon

    def hanging(self) -> bool:
        """Whether a question has been open for longer than HANGING_AFTER_S."""
        asked_at = self._asked_at
        return asked_at is not None and time.monotonic() - asked_at > HANGING_AFTER_S

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._stopping.is_set():
            self._asked_at = time.monotonic()
            try:
                if connection is None:
                    connection = connected(
                        psycopg.Connection, self._url, autocommit=True, connect_timeout=5
                    )
                connection.execute("SELECT 1")
            except psycopg.Error:  # refused or broken off is an answer: requests see it themselves
                if connection is not None:
                    connection.close()
                connection = None
            self._told(time.monotonic() - self._asked_at)
            self._asked_at = None
            self._stopping.wait(ASK_EVERY_S)
        if connection is not None:
            connection.close()

    def _told(self, waited_s: float) -> None:
        if waited_s > HANGING_AFTER_S:
            log.warning("the database answers again", waited_s=round(waited_s, 1))


def add_pulse(services: Services) -> None:
    services.add(Pulse(services.configuration.database_url))


class Patience:
    """ASGI middleware: a request whose database hangs is answered 503 and left to itself."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self._left: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        pulse = cast(Services, scope["app"].state.services).get(Pulse)
        line = _Line(receive, send)
        work = asyncio.ensure_future(self.app(scope, line.receive, line.send))
        try:
            if await self._finishes(work, line, pulse):
                await work
                return
        except asyncio.CancelledError:  # the server's own stop: the work stops with it
            work.cancel()
            raise
        line.cut = True
        self._left.add(work)
        work.add_done_callback(self._forget)
        refusal = answer_error(Unavailable(SILENT, RETRY_AFTER_S), language_of(scope))
        refusal.headers["Connection"] = "close"  # its body may be half read
        await refusal(scope, receive, send)

    async def _finishes(self, work: asyncio.Future[None], line: _Line, pulse: Pulse) -> bool:
        """Whether `work` is done or its answer began; False once the database hangs."""
        patience_s = PATIENCE_S
        while True:
            await asyncio.wait((work,), timeout=patience_s)
            if work.done() or line.begun:
                return True
            if pulse.hanging():
                return False

    def _forget(self, work: asyncio.Future[None]) -> None:
        self._left.discard(work)
        if not work.cancelled() and work.exception() is not None:
            log.info("left work ended", error=type(work.exception()).__name__)


class _Line:
    """The connection of one request, which can be cut off from the work that still uses it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.begun = False
        self.cut = False

    async def receive(self) -> MutableMapping[str, Any]:
        if self.cut:
            return {"type": "http.disconnect"}
        return await self._receive()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self.cut:
            return
        self.begun = True
        await self._send(message)
