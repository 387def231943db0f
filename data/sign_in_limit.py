"""Limits on guessing passwords, shared by every process through the database.

An attempt counts before the password is looked at and is taken back when it was right, so that
attempts at once cannot outrun the count. Counted are failures per name and address together, per
address, and per name. The last does not hold where the same name has signed in from the same
address before: a stranger's guesses must not lock the commander out of the own desk.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, text

from geo.errors import TooMany

PAIR_FAILURES, NAME_FAILURES, ADDRESS_FAILURES = 5, 30, 60
#: Of a name at an address, failures further apart than this are not added up. It outlasts a block.
MEMORY = timedelta(hours=1)
#: Of an address and of a name, those within so long from the first are.
WINDOW = timedelta(minutes=15)
BLOCK_FIRST_S, BLOCK_MOST_S = 15, 900
KNOWN_FOR = timedelta(days=30)

_COUNT = """
INSERT INTO sign_in_limit AS l (subject, failures, since)
SELECT subject, 1, now() FROM unnest(CAST(:subjects AS text[])) AS subject ORDER BY subject
ON CONFLICT (subject) DO UPDATE SET
    failures = CASE WHEN {over} THEN 1 ELSE l.failures + 1 END,
    since = CASE WHEN {over} OR l.subject = :pair THEN now() ELSE l.since END
RETURNING subject, failures, blocked_until, succeeded_at, now() AS now
""".format(
    over="l.since < now() - CASE WHEN l.subject = :pair"
    " THEN CAST(:memory AS interval) ELSE CAST(:window AS interval) END"
)
_RIGHT = """
INSERT INTO sign_in_limit AS l (subject, failures, since, succeeded_at)
VALUES (:pair, 0, now(), now())
ON CONFLICT (subject) DO UPDATE SET
    failures = 0, since = now(), blocked_until = NULL, succeeded_at = now()
"""
#: Of an address and a name only this one attempt is taken back: others may be guessing beside.
_TAKE_BACK = """
UPDATE sign_in_limit SET failures = greatest(failures - 1, 0),
    blocked_until = CASE WHEN failures <= :most THEN NULL ELSE blocked_until END
WHERE subject = :subject
"""
_FORGET = """
DELETE FROM sign_in_limit WHERE subject IN (
    SELECT subject FROM sign_in_limit WHERE since < now() - CAST(:memory AS interval)
        AND coalesce(blocked_until, '-infinity') < now()
        AND coalesce(succeeded_at, '-infinity') < now() - CAST(:known AS interval)
    ORDER BY since LIMIT 1000 FOR UPDATE SKIP LOCKED
)
"""
#: In the order of `_COUNT`, so that attempts at once wait for each other in a row.
_LOCK = """
SELECT 1 FROM sign_in_limit WHERE subject = ANY (CAST(:subjects AS text[]))
ORDER BY subject FOR UPDATE
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to sign in, counted; call `succeeded` when the password was right."""

    pair: str
    address: str
    name: str

    @classmethod
    def of(cls, username: str, address: str | None) -> Attempt:
        """By whom, from where. Of IPv6 the network of 64 bits counts: one home has all of it."""
        network = _network(address)
        return cls(
            _subject("pair", username, network),
            _subject("address", network),
            _subject("name", username),
        )

    def begin(self, engine: Engine) -> None:
        """Count it. Raises TooMany, counting nothing, while one of the limits holds it off."""
        with engine.connect() as connection, connection.begin() as transaction:
            _quickly(connection)
            rows = connection.execute(
                text(_COUNT),
                {
                    "subjects": sorted([self.pair, self.address, self.name]),
                    "pair": self.pair,
                    "memory": MEMORY,
                    "window": WINDOW,
                },
            ).all()
            found = {row.subject: row for row in rows}
            known_at: datetime | None = found[self.pair].succeeded_at
            counted = {self.pair: PAIR_FAILURES, self.address: ADDRESS_FAILURES}
            if known_at is None or known_at < found[self.pair].now - KNOWN_FOR:
                counted[self.name] = NAME_FAILURES
            wait_s = max(_seconds_left(found[one]) for one in counted)
            if wait_s > 0:
                transaction.rollback()
                raise TooMany("too many failed attempts to sign in; wait", retry_after_s=wait_s)
            for subject, most in sorted({**counted, self.name: NAME_FAILURES}.items()):
                self._block(connection, subject, found[subject].failures - most)

    def succeeded(self, engine: Engine) -> None:
        """The password was right: take this attempt back and remember the address."""
        with engine.begin() as connection:
            _quickly(connection)
            connection.execute(text(_LOCK), {"subjects": [self.pair, self.address, self.name]})
            connection.execute(text(_FORGET), {"memory": MEMORY, "known": KNOWN_FOR})
            limits = [(self.address, ADDRESS_FAILURES), (self.name, NAME_FAILURES)]
            for subject, most in sorted(limits):
                connection.execute(text(_TAKE_BACK), {"subject": subject, "most": most})
            connection.execute(text(_RIGHT), {"pair": self.pair})

    @staticmethod
    def _block(connection: Connection, subject: str, beyond: int) -> None:
        if beyond < 0:
            return
        connection.execute(
            text(
                "UPDATE sign_in_limit SET blocked_until = now() + make_interval(secs => :s)"
                " WHERE subject = :subject"
            ),
            {"subject": subject, "s": min(BLOCK_FIRST_S * 2 ** min(beyond, 10), BLOCK_MOST_S)},
        )


def forget_failures(connection: Connection, username: str) -> None:
    """Take away what is counted against a name everywhere; those of its addresses pass by."""
    connection.execute(
        text("DELETE FROM sign_in_limit WHERE subject = :subject"),
        {"subject": _subject("name", username)},
    )


def _quickly(connection: Connection) -> None:
    """Nobody waits for the disk here: a crash may forget the last attempts."""
    connection.execute(text("SET LOCAL synchronous_commit = off"))


def _seconds_left(row: object) -> int:
    until, now = row.blocked_until, row.now  # type: ignore[attr-defined]
    return 0 if until is None or until <= now else int((until - now).total_seconds()) + 1


def _network(address: str | None) -> str:
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def _subject(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
