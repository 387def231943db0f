"""How many requests an account or a key may make in a while, of all server processes together.

Each process counts in memory, tells its counts to the database once a second in one statement and
reads those of all; no request waits for that. So together they let through at most what they get
within that second beyond the limit. Without the database each process goes on by what it knows.
A request that was refused does not count. The window slides in steps of a twelfth of it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

import structlog
from pydantic import Field
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from data.background import Background
from data.settings import Settings
from geo.errors import TooMany

SHARE_EVERY_S = 1.0
STRETCHES = 12

_TELL = """
INSERT INTO request_count AS c (subject, stretch, requests)
SELECT s, t, n FROM unnest(CAST(:subjects AS text[]), CAST(:stretches AS bigint[]),
    CAST(:requests AS int[])) AS u (s, t, n) ORDER BY s, t
ON CONFLICT (subject, stretch) DO UPDATE
    SET requests = c.requests + excluded.requests, told_at = now()
"""
_READ = """
SELECT subject, stretch, requests FROM request_count
WHERE subject = ANY (CAST(:subjects AS text[])) AND stretch > :since
"""
_FORGET = """
DELETE FROM request_count WHERE (subject, stretch) IN (
    SELECT subject, stretch FROM request_count
    WHERE told_at < now() - make_interval(secs => 2 * :window_s)
    ORDER BY subject, stretch LIMIT 5000 FOR UPDATE SKIP LOCKED
)
"""

log = structlog.get_logger("yutu.limits")

Counts = dict[str, dict[int, int]]


class RequestLimitSettings(Settings):
    """How much of the service one account may take; 0 is without limit.

    `requests_per_account`, `requests_per_key`: requests within `requests_window_s` seconds, by all
    server processes together. Beyond them 429 with `Retry-After`.
    """

    requests_per_account: int = Field(30_000, ge=0, le=100_000_000)
    requests_per_key: int = Field(15_000, ge=0, le=100_000_000)
    requests_window_s: int = Field(60, ge=1, le=3_600)


class RequestLimits(Background):
    """`take` counts a request or refuses it, from memory; a thread shares what was counted."""

    def __init__(self, engine: Engine, settings: RequestLimitSettings) -> None:
        super().__init__("request limits")
        self._engine = engine
        self._settings = settings
        self._stretch_s = settings.requests_window_s / STRETCHES
        self._own: Counts = {}  # not told yet
        self._telling: Counts = {}
        self._shared: Counts = {}  # of all processes, as far as told
        self._failing = False

    def take(self, account: str, key_id: int | None = None) -> None:
        """Count one request. Raises TooMany, counting nothing, beyond a limit."""
        limits = {f"account {account}": self._settings.requests_per_account}
        if key_id is not None:
            limits[f"key {key_id}"] = self._settings.requests_per_key
        with self._changed:
            now = time.time()
            for subject, most in limits.items():
                if most and (wait_s := self._wait_s(subject, most, now)):
                    raise TooMany("too many requests; send fewer, or wait", retry_after_s=wait_s)
            stretch = int(now / self._stretch_s)
            for subject, most in limits.items():
                if most:
                    own = self._own.setdefault(subject, {})
                    own[stretch] = own.get(stretch, 0) + 1

    def _wait_s(self, subject: str, most: int, now: float) -> int:
        """Seconds until there is room again; 0 when there is."""
        last = int(now / self._stretch_s)
        held: dict[int, int] = defaultdict(int)
        for counts in (self._own, self._telling, self._shared):
            for stretch, requests in counts.get(subject, {}).items():
                if stretch > last - STRETCHES:
                    held[stretch] += requests
        over = sum(held.values()) - most
        if over < 0:
            return 0
        for stretch in sorted(held):  # the oldest leave first
            over -= held[stretch]
            if over < 0:
                leaves_at = (stretch + STRETCHES) * self._stretch_s
                return max(1, int(leaves_at - now) + 1)
        return self._settings.requests_window_s

    def share(self) -> None:
        """Tell the database what was counted here, and read what all counted."""
        with self._changed:
            if not self._own and not self._shared:
                return
            self._telling, self._own = self._own, {}
            subjects = sorted(self._telling.keys() | self._shared.keys())
        since = int(time.time() / self._stretch_s) - STRETCHES
        told = sorted((s, t, n) for s, counts in self._telling.items() for t, n in counts.items())
        try:
            found = self._exchange(told, subjects, since)
        except SQLAlchemyError as error:
            with self._changed:
                for subject, stretch, requests in told:
                    own = self._own.setdefault(subject, {})
                    own[stretch] = own.get(stretch, 0) + requests
                self._own = _newer(self._own, since)
                self._shared = _newer(self._shared, since)
                self._telling = {}
            if not self._failing:
                log.warning("counts are not shared", error=type(error).__name__)
            self._failing = True
            return
        self._failing = False
        with self._changed:
            self._shared, self._telling = found, {}

    def _exchange(
        self, told: Iterable[tuple[str, int, int]], subjects: list[str], since: int
    ) -> Counts:
        rows = list(told)
        with self._engine.begin() as connection:
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            if rows:
                subjects_told, stretches, requests = (list(c) for c in zip(*rows, strict=True))
                connection.execute(
                    text(_TELL),
                    {"subjects": subjects_told, "stretches": stretches, "requests": requests},
                )
            if since % STRETCHES == 0:
                connection.execute(text(_FORGET), {"window_s": self._settings.requests_window_s})
            found: Counts = {}
            for row in connection.execute(text(_READ), {"subjects": subjects, "since": since}):
                found.setdefault(row.subject, {})[row.stretch] = row.requests
            return found

    def _run(self) -> None:
        while not self._stopped_within(SHARE_EVERY_S):
            self.share()


def _newer(counts: Mapping[str, Mapping[int, int]], since: int) -> Counts:
    kept = {
        subject: {stretch: n for stretch, n in one.items() if stretch > since}
        for subject, one in counts.items()
    }
    return {subject: one for subject, one in kept.items() if one}
