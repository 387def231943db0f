"""Every account in memory, at most a second old, so that no request waits for the database.

One thread per process re-reads the tables, at once when the database tells of a change and at least
each `REFRESH_S`; requests look names and keys up in a dictionary. An account or key that is locked,
revoked or changed, and a session that was signed out of, is refused everywhere within a second.
When a key was last used is written by the same thread, at most once a minute.
While the database does not answer, known accounts stay known for `STALE_S`, so that the commander
can go on reading; then everyone gets 503.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from data.accounts import Account, all_accounts
from data.api_keys import ApiKey, holding_keys, note_uses
from data.database import libpq_url
from data.ended_sessions import ended_sessions
from data.patience import connected
from geo.errors import Unavailable

REFRESH_S = 0.8
REFRESH_APART_S = 0.1
MISS_WAIT_S = 1.0
STALE_S = 60.0
USES_TOLD_S = 60.0
NOTICE_LOOK_S = 0.25
CHANNEL = "yutu_accounts"

log = structlog.get_logger("yutu.accounts")


@dataclass(frozen=True, slots=True)
class _Held:
    """A key as it opens: the account narrowed to it, until when (seconds since 1970)."""

    key_id: int
    account: Account
    ends_at: float


@dataclass(frozen=True)
class _Snapshot:
    """The tables as they were at `read_at` (monotonic seconds, taken before reading)."""

    read_at: float
    by_name: dict[str, Account] = field(default_factory=dict)
    by_key: dict[bytes, _Held] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        read_at: float,
        accounts: Iterable[Account],
        keys: Iterable[ApiKey],
        ended: Iterable[str],
    ) -> _Snapshot:
        by_name = {one.username: one for one in accounts if one.active}
        by_key = {}
        for key in keys:
            owner = by_name.get(key.username)
            account = None if owner is None else key.narrowed(owner)
            if account is not None:
                ends_at = float("inf") if key.expires_at is None else key.expires_at.timestamp()
                by_key[key.sha256] = _Held(key.id, account, ends_at)
        return cls(read_at, by_name, by_key, frozenset(ended))


class AccountBook:
    """Active accounts by name and by the SHA-256 of their API keys, and ended sessions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._url = libpq_url(engine.url.render_as_string(hide_password=False))
        self._snapshot = _Snapshot(float("-inf"))
        self._uses: dict[int, float] = {}
        self._uses_told_at = time.monotonic()
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="accounts", daemon=True)
        self._notices = threading.Thread(target=self._heed, name="account notices", daemon=True)

    def start(self) -> None:
        """Read once, then keep reading. Raises what the database raises."""
        self._read()
        self._thread.start()
        self._notices.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wanted.set()
        for thread in (self._thread, self._notices):
            if thread.ident is not None:  # else it never began
                thread.join(timeout=2)
        try:
            self._tell_uses()
        except SQLAlchemyError as error:
            log.warning("uses of keys are not told", error=type(error).__name__)

    def by_name(self, username: str) -> Account | None:
        """The active account of that name. Raises Unavailable when the book is too old."""
        return self._current().by_name.get(username)

    def by_key(self, sha256: bytes) -> Account | None:
        """The active account as that key has it. Raises Unavailable when the book is too old."""
        held = self._current().by_key.get(sha256)
        if held is None or held.ends_at <= (now := time.time()):
            return None
        self._uses[held.key_id] = now
        return held.account

    def key_id(self, sha256: bytes) -> int | None:
        """The number of that key, as `yutu account keys list` shows it."""
        held = self._snapshot.by_key.get(sha256)
        return None if held is None else held.key_id

    def has_ended(self, session_id: str) -> bool:
        """Whether that session was signed out of, as far as the book knows."""
        return session_id in self._snapshot.ended

    async def refreshed(self) -> None:
        """Wait for a reading begun after this call: someone unknown may be a minute-old account.

        Readings are `REFRESH_APART_S` apart however many ask. Raises Unavailable if none comes.
        """
        asked_at = time.monotonic()
        self._wanted.set()
        while self._snapshot.read_at < asked_at:
            if time.monotonic() - asked_at > MISS_WAIT_S:
                raise Unavailable("accounts cannot be checked now", retry_after_s=2)
            await asyncio.sleep(0.01)

    def _current(self) -> _Snapshot:
        snapshot = self._snapshot
        if time.monotonic() - snapshot.read_at > STALE_S:
            raise Unavailable("accounts cannot be checked now", retry_after_s=2)
        return snapshot

    def _read(self) -> None:
        read_at = time.monotonic()
        with self._engine.connect() as connection:
            self._snapshot = _Snapshot.of(
                read_at,
                all_accounts(connection),
                holding_keys(connection),
                ended_sessions(connection),
            )

    def _tell_uses(self) -> None:
        """Write when keys were last used here since the last time."""
        self._uses_told_at = time.monotonic()
        uses, self._uses = self._uses, {}
        if not uses:
            return
        with self._engine.begin() as connection:
            note_uses(connection, {one: datetime.fromtimestamp(t, UTC) for one, t in uses.items()})

    def _keep_fresh(self) -> None:
        failing = False
        while not self._stopping.is_set():
            self._wanted.wait(REFRESH_S)
            self._wanted.clear()
            if self._stopping.is_set():
                return
            try:
                self._read()
                if time.monotonic() - self._uses_told_at > USES_TOLD_S:
                    self._tell_uses()
                failing = False
            except SQLAlchemyError as error:
                if not failing:
                    log.warning("accounts cannot be read", error=type(error).__name__)
                failing = True
            self._stopping.wait(REFRESH_APART_S)

    def _heed(self) -> None:
        """Have the tables read anew when the database tells of a change."""
        while not self._stopping.is_set():
            try:
                with connected(
                    psycopg.Connection,
                    self._url,
                    autocommit=True,
                    connect_timeout=3,
                    application_name="yutu accounts",
                ) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._wanted.set()  # for what changed before
                    while not self._stopping.is_set():
                        for _ in connection.notifies(timeout=NOTICE_LOOK_S, stop_after=1):
                            self._wanted.set()
            except psycopg.Error:
                self._stopping.wait(1.0)
