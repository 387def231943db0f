"""What happens too often for a row each: refused requests, failed sign-ins, much that was read.

Counted in memory and told by a thread: the first of its kind within a second, then one row a
minute with how often it happened (`times`), so that a flood of them adds no flood of rows, and no
request waits. The last second before a crash is lost. Nothing of a name that someone claimed is
kept unless an account has it: people type passwords into the wrong field.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from data.audit import Origin, record
from data.background import Background

LOOK_EVERY_S = 0.5
#: Of one kind, the next row is written after so long.
QUIET_S = 60.0
#: Different ones that one process keeps apart; further ones are counted together.
KINDS_MAX = 500
#: Rows of one transaction: nobody else appends meanwhile.
ROWS_AT_ONCE = 50
#: What a process that stops takes at most to tell the rest.
LAST_WORDS_S = 2.0
SIGN_IN = "sign_in"

log = structlog.get_logger("yutu.audit")


@dataclass(frozen=True, slots=True)
class Seen:
    """One kind of thing that happened. `claimed` is a name that may be nobody's."""

    act: str
    outcome: str
    by: Origin
    account: str | None = None
    subject: str | None = None
    claimed: str | None = None
    why: str | None = None
    filters: tuple[tuple[str, str], ...] = ()

    def settled(self, names: frozenset[str]) -> Seen:
        """With the claimed name as its account if there is one of that name, else without it."""
        if self.claimed is None:
            return self
        known = self.claimed if self.claimed in names else None
        subject = f"account:{known}" if known else None
        return replace(self, account=known, subject=subject, claimed=None)


@dataclass(slots=True)
class _Count:
    since: float
    times: int = 0
    rows: int = 0
    quiet_until: float = float("-inf")


class AuditTally(Background):
    """Counts in memory and a thread that tells them; `note` costs a dictionary's entry."""

    def __init__(self, engine: Engine, *, quiet_s: float = QUIET_S) -> None:
        super().__init__("audit tally")
        self._engine = engine
        self._quiet_s = quiet_s
        self._arrived: dict[Seen, _Count] = {}
        self._known: dict[Seen, _Count] = {}
        self._failing = False

    def stop(self) -> None:
        """Wait until what is left is told."""
        super().stop()
        if self._thread is not None:
            self._thread.join(timeout=LAST_WORDS_S)

    def note(self, seen: Seen, rows: int = 0) -> None:
        """It happened once more, and showed so many rows."""
        with self._changed:
            if seen not in self._arrived and len(self._arrived) >= KINDS_MAX:
                seen = Seen(seen.act, seen.outcome, Origin(None, "many"), why="too many kinds")
            count = self._arrived.setdefault(seen, _Count(time.time()))
            count.times += 1
            count.rows += rows

    def _run(self) -> None:
        while not self._stopped_within(LOOK_EVERY_S):
            self._tell()
        self._tell(everything=True)

    def _tell(self, *, everything: bool = False) -> None:
        with self._changed:
            arrived, self._arrived = self._arrived, {}
        try:
            self._settle(arrived)
            now = time.monotonic()
            for seen, count in list(self._known.items()):
                if not count.times and count.quiet_until <= now:
                    del self._known[seen]
            due = [
                (seen, count)
                for seen, count in self._known.items()
                if count.times and (everything or count.quiet_until <= now)
            ]
            for start in range(0, len(due), ROWS_AT_ONCE):
                self._write(due[start : start + ROWS_AT_ONCE])
            self._failing = False
        except SQLAlchemyError as error:
            if not self._failing:
                log.warning("the audit trail cannot be written", error=type(error).__name__)
            self._failing = True

    def _settle(self, arrived: dict[Seen, _Count]) -> None:
        """Put what arrived to what is known; names are looked up first. Loses nothing it raises
        over."""
        claimed = {one.claimed for one in arrived if one.claimed is not None}
        try:
            names = self._accounts_among(claimed) if claimed else frozenset()
        except SQLAlchemyError:
            with self._changed:
                for seen, count in self._arrived.items():
                    _add(arrived, seen, count)
                self._arrived = arrived
            raise
        for seen, count in arrived.items():
            one = seen.settled(names)
            if one not in self._known and len(self._known) >= KINDS_MAX:
                one = Seen(one.act, one.outcome, Origin(None, "many"), why="too many kinds")
            _add(self._known, one, count)

    def _accounts_among(self, claimed: set[str]) -> frozenset[str]:
        with self._engine.connect() as connection:
            found = connection.execute(
                text("SELECT username FROM account WHERE username = ANY (CAST(:n AS text[]))"),
                {"n": sorted(claimed)},
            )
            return frozenset(found.scalars())

    def _write(self, due: list[tuple[Seen, _Count]]) -> None:
        with self._engine.begin() as connection:
            for seen, count in due:
                _record(connection, seen, count)
        quiet_until = time.monotonic() + self._quiet_s
        for _, count in due:
            count.times = count.rows = 0
            count.quiet_until = quiet_until


def _add(counts: dict[Seen, _Count], seen: Seen, more: _Count) -> None:
    count = counts.setdefault(seen, _Count(more.since))
    if not count.times:
        count.since = more.since
    count.times += more.times
    count.rows += more.rows


def _record(connection: Connection, seen: Seen, count: _Count) -> None:
    detail: dict[str, object] = dict(seen.filters)
    if seen.why is not None:
        detail["why"] = seen.why
    if count.rows:
        detail["rows"] = count.rows
    if count.times > 1:
        detail |= {
            "times": count.times,
            "since": datetime.fromtimestamp(count.since, UTC).isoformat(timespec="seconds"),
        }
    record(
        connection,
        seen.act,
        account=seen.account,
        subject=seen.subject,
        detail=detail,
        outcome=seen.outcome,
        by=seen.by,
    )
