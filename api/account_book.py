"""Every account in memory, at most a second old, so that no request waits for the database.

One thread per process re-reads the table; requests look names and keys up in a dictionary. An
account that is locked, changed or whose tokens were ended is refused everywhere within a second.
While the database does not answer, known accounts stay known for `STALE_S`, so that the commander
can go on reading; then everyone gets 503.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from data.accounts import Account, all_accounts
from geo.errors import Unavailable

REFRESH_S = 0.8
REFRESH_APART_S = 0.1
MISS_WAIT_S = 1.0
STALE_S = 60.0

log = structlog.get_logger("yutu.accounts")


@dataclass(frozen=True)
class _Snapshot:
    """The table as it was at `read_at` (monotonic seconds, taken before reading)."""

    read_at: float
    by_name: dict[str, Account] = field(default_factory=dict)
    by_key: dict[bytes, Account] = field(default_factory=dict)

    @classmethod
    def of(cls, read_at: float, accounts: Iterable[Account]) -> _Snapshot:
        active = [one for one in accounts if one.active]
        by_key = {one.api_key_sha256: one for one in active if one.api_key_sha256}
        return cls(read_at, {one.username: one for one in active}, by_key)


class AccountBook:
    """Active accounts by name and by the SHA-256 of their API key."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._snapshot = _Snapshot(float("-inf"))
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="accounts", daemon=True)

    def start(self) -> None:
        """Read once, then keep reading. Raises what the database raises."""
        self._read()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wanted.set()
        self._thread.join(timeout=2)

    def by_name(self, username: str) -> Account | None:
        """The active account of that name. Raises Unavailable when the book is too old."""
        return self._current().by_name.get(username)

    def by_key(self, sha256: bytes) -> Account | None:
        """The active account with that API key. Raises Unavailable when the book is too old."""
        return self._current().by_key.get(sha256)

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
            self._snapshot = _Snapshot.of(read_at, all_accounts(connection))

    def _keep_fresh(self) -> None:
        failing = False
        while not self._stopping.is_set():
            self._wanted.wait(REFRESH_S)
            self._wanted.clear()
            if self._stopping.is_set():
                return
            try:
                self._read()
                failing = False
            except SQLAlchemyError as error:
                if not failing:
                    log.warning("accounts cannot be read", error=type(error).__name__)
                failing = True
            self._stopping.wait(REFRESH_APART_S)
