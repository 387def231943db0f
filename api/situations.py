"""The situation in this process: the newest stored bytes, and who is listening for the next.

One thread holds one LISTEN connection; it loads what the builder (here or in another process)
stored, on announcement and at least each second, and hands stream events to the listeners' bounded
queues: to each what row-level security lets through for its districts, read once for all that have
the same. A listener that cannot keep up is dropped and reconnects with its Last-Event-ID.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection, Engine, text

from data.builder import await_notice
from data.database import WHOLE_CITY, Scope, libpq_url, reading, set_scope

POLL_S = 1.0
QUEUE_EVENTS = 500
REPLAY_EVENTS = 500
#: Events handed over at once, and a pause for the listeners to send them: fewer than a queue holds,
#: so that only who does not read is dropped.
LOAD_EVENTS = 100
LOAD_PAUSE_S = 0.05

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stored:
    """Situation bytes as the builder stored them, of one language."""

    sequence: int
    etag: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the stream; `id` orders them, `sequence` is what a client resumes from."""

    id: int
    sequence: int
    kind: str
    adcode: str | None
    payload: dict[str, Any]


class Listener:
    """A bounded queue on one event loop, of events in a scope. `dropped` once it overflowed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, scope: Scope) -> None:
        self._loop = loop
        self.scope = scope
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE_EVENTS)
        self.dropped = asyncio.Event()

    def offer(self, events: Iterable[Event | None]) -> None:
        """From any thread: put events in order; None ends the stream."""
        self._loop.call_soon_threadsafe(self._put, list(events))

    def _put(self, events: list[Event | None]) -> None:
        for event in events:
            try:
                self.queue.put_nowait(event)
            except asyncio.QueueFull:
                self.dropped.set()
                return


class Situations:
    """A background part of the services: `latest(lang)`, `wait_for`, `listen`."""

    def __init__(self, engine: Engine, url: str) -> None:
        self._engine = engine
        self._url = libpq_url(url)
        self._latest: dict[str, Stored] = {}
        self._last_event: int | None = None
        self._listeners: set[Listener] = set()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="situations", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.end_streams()
        if self._thread.ident is not None:  # not where the start-up failed before it
            self._thread.join(timeout=3)

    def end_streams(self) -> None:
        """End every stream, and have none begin: the process stops. Safe in a signal handler."""
        self._stopping.set()
        for listener in list(self._listeners):
            listener.offer([None])

    @property
    def ending(self) -> bool:
        return self._stopping.is_set()

    def latest(self, lang: str) -> Stored | None:
        """The newest situation loaded here; None before the first."""
        return self._latest.get(lang)

    def wait_for(self, lang: str, min_sequence: int, timeout_s: float) -> Stored | None:
        """The newest situation once it has reached a sequence; None when time runs out. Blocks."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = self._latest.get(lang)
                if found is not None and found.sequence >= min_sequence:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return None

    def listen(self, listener: Listener) -> None:
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def replay(self, after_sequence: int | None, scope: Scope = WHOLE_CITY) -> list[Event]:
        """Events a client has missed since a sequence, the newest of too many; else the newest
        situation alone. The last situation is always among them; incidents are those in the
        scope's districts."""
        with reading(self._engine, scope) as connection:
            newest = _events(connection, "kind = 'situation' ORDER BY id DESC LIMIT 1", {})
            if after_sequence is None:
                return newest
            missed = _events(
                connection,
                "sequence > :after ORDER BY id DESC LIMIT :most",
                {"after": after_sequence, "most": REPLAY_EVENTS},
            )[::-1]
        return missed if any(e.kind == "situation" for e in missed) else [*missed, *newest]

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True) as connection:
                    connection.execute("LISTEN yutu_shown")
                    while not self._stopping.is_set():
                        while self._load() and not self._stopping.wait(LOAD_PAUSE_S):
                            pass
                        await_notice(connection, POLL_S, self._stopping)
            except Exception as error:  # outlives any database fault; clients keep what is loaded
                log.warning("situations_retry", error=type(error).__name__)
                self._stopping.wait(1.0)

    def _load(self) -> bool:
        """Take over what is new; whether there may be more."""
        with reading(self._engine) as connection:
            rows = connection.execute(
                text(
                    "SELECT lang, sequence, etag, body FROM situation_bytes"
                    " WHERE sequence = (SELECT max(sequence) FROM situation_bytes)"
                    " AND sequence > :have"
                ),
                {"have": min((s.sequence for s in self._latest.values()), default=-1)},
            ).all()
            if self._last_event is None:  # what was before this process is replayed on asking
                self._last_event = _newest_id(connection)
            ids = list(
                connection.execute(
                    text("SELECT id FROM stream_event WHERE id > :last ORDER BY id LIMIT :most"),
                    {"last": self._last_event, "most": LOAD_EVENTS},
                ).scalars()
            )
            news = self._news(connection, self._last_event, ids[-1]) if ids else []
        if rows:
            with self._changed:
                self._latest = {r.lang: Stored(r.sequence, r.etag, bytes(r.body)) for r in rows}
                self._changed.notify_all()
        if ids:
            self._last_event = ids[-1]
        for listener, events in news:
            listener.offer(events)
        return len(ids) == LOAD_EVENTS

    def _news(
        self, connection: Connection, after: int, upto: int
    ) -> list[tuple[Listener, list[Event]]]:
        """To each listener the events `(after, upto]` that the database lets through for it."""
        of_scope: dict[Scope, list[Event]] = {}
        listeners = list(self._listeners)
        for scope in {listener.scope for listener in listeners}:
            set_scope(connection, scope)
            of_scope[scope] = _events(
                connection,
                "id > :after AND id <= :upto ORDER BY id",
                {"after": after, "upto": upto},
            )
        return [(listener, of_scope[listener.scope]) for listener in listeners]


def _newest_id(connection: Connection) -> int:
    newest = connection.execute(text("SELECT coalesce(max(id), 0) FROM stream_event"))
    return int(newest.scalar_one())


def _events(connection: Connection, where: str, params: dict[str, Any]) -> list[Event]:
    rows = connection.execute(
        text(f"SELECT id, sequence, kind, adcode, payload FROM stream_event WHERE {where}"), params
    )
    return [Event(r.id, r.sequence, r.kind, r.adcode, r.payload) for r in rows]
