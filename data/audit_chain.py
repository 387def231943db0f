"""Whether the audit trail is the one that was written: every hash computed again, in order.

Each row's SHA-256 is over its values and its predecessor's SHA-256, so a row that was altered,
removed, moved or put in does not fit. Rows cut off at the end leave a chain that fits; for that a
head noted elsewhere (`yutu audit head`, a backup's manifest) must be found in it. So it is with a
chain written anew from some row on, which a database's superuser can do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
from sqlalchemy import Connection, text

from data.check import Check
from geo.errors import Fault, InvalidInput

FORM = "yutu audit 1"
BEFORE_ALL = bytes(32)
BEGUN = "audit.begun"
ROWS_AT_ONCE = 5_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEAD = re.compile(r"(?:([0-9]{1,18}):)?([0-9a-f]{64})")
_ROWS = "SELECT * FROM audit ORDER BY number"
_NEWEST = "SELECT number, encode(sha256, 'hex') FROM audit ORDER BY number DESC LIMIT 1"
#: What was sent must still have the hash that the trail has of it.
_SENT = "SELECT id, body_sha256 FROM batch WHERE id = ANY (:ids)"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest row: its number, if known, and its hash. As text `number:hash`."""

    number: int | None
    sha256: str

    @classmethod
    def parse(cls, said: str) -> Head:
        """`number:hash`, or the hash alone. Raises InvalidInput."""
        found = _HEAD.fullmatch(said.strip().lower())
        if found is None:
            reason = "is NUMBER:HASH as yutu audit head prints it, or the 64 digits of the hash"
            raise InvalidInput([Fault(reason, None, "head")])
        return cls(int(found[1]) if found[1] else None, found[2])

    def __str__(self) -> str:
        return self.sha256 if self.number is None else f"{self.number}:{self.sha256}"


def head_of(connection: Connection | psycopg.Connection[Any]) -> Head | None:
    """The newest row's number and hash; None when there is no row."""
    if isinstance(connection, psycopg.Connection):
        row: Any = connection.execute(_NEWEST).fetchone()
    else:
        row = connection.execute(text(_NEWEST)).first()
    return None if row is None else Head(int(row[0]), str(row[1]))


def row_sha256(row: Any, previous_sha256: bytes) -> bytes:
    """The hash of a row (number, at, act, …, detail) that follows the one with that hash."""
    parts = [
        FORM,
        previous_sha256.hex(),
        str(row.number),
        str((row.at - _EPOCH) // timedelta(microseconds=1)),
        *(row.act, row.outcome, row.account, row.address, row.means, row.subject, row.detail),
    ]
    return hashlib.sha256(b"".join(map(_part, parts))).digest()


def _part(value: str | None) -> bytes:
    if value is None:
        return b"-,"
    coded = value.encode()
    return b"%d:%b," % (len(coded), coded)


def check_chain(connection: Connection, heads: Iterable[Head] = ()) -> Check:
    """Compute the chain again, and look for `heads` in it. Names first the first row that is wrong;
    reads in the snapshot of the caller's transaction."""
    check = Check("audit", "the audit trail is the chain that was written, and nothing is missing")
    wanted = {head.sha256: head for head in heads}
    bodies = _Bodies(connection)
    rows = connection.execute(text(_ROWS), execution_options={"yield_per": ROWS_AT_ONCE})
    for fault in _faults(_seen(rows, check, wanted, bodies)):
        check.found(fault)
    for head in wanted.values():  # those that were met are gone
        check.found(_missing(head, check.looked_at))
    for fault in bodies.compared():
        check.found(fault)
    return check


class _Bodies:
    """The hashes that rows of the trail name, compared with those of the batches."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._named: list[tuple[int, str, int, str]] = []
        self._faults: list[str] = []

    def note(self, row: Any) -> None:
        try:
            detail = orjson.loads(row.detail)
            named = (row.number, row.act, int(detail["batch"]), str(detail["body_sha256"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return  # of no batch; or altered, which its hash tells
        self._named.append(named)
        if len(self._named) >= ROWS_AT_ONCE:
            self._compare()

    def compared(self) -> list[str]:
        self._compare()
        return self._faults

    def _compare(self) -> None:
        ids = [batch for _, _, batch, _ in self._named]
        found = {
            row.id: bytes(row.body_sha256).hex()
            for row in self._connection.execute(text(_SENT), {"ids": ids})
        }
        self._faults += [
            f"row {number} ({act}): what was sent then is not what is stored now"
            for number, act, batch, sha256 in self._named
            if found.get(batch) != sha256
        ]
        self._named = []


def _seen(
    rows: Iterable[Any], check: Check, wanted: dict[str, Head], bodies: _Bodies
) -> Iterator[Any]:
    for row in rows:
        check.looked_at += 1
        bodies.note(row)
        head = wanted.get(bytes(row.sha256).hex())
        if head is not None and head.number in (None, row.number):
            del wanted[head.sha256]
        yield row


def _missing(head: Head, rows: int) -> str:
    where = f" (row {head.number})" if head.number is not None else ""
    return (
        f"the head {head.sha256[:16]}…{where} is not in the chain: rows were cut off at its end,"
        f" or it was written anew; {rows} are left"
    )


def _faults(rows: Iterator[Any]) -> Iterator[str]:
    """What is wrong, in order of rows."""
    number, sha256, at = 0, BEFORE_ALL, None
    for row in rows:
        name = f"row {row.number} ({row.act})"
        if row.number <= number:
            yield f"{name} stands twice or was put in before the first"
            continue
        if row.number != number + 1:
            yield (
                f"row {number + 1} was removed"
                if row.number == number + 2
                else f"rows {number + 1} to {row.number - 1} were removed"
            )
            sha256 = bytes(row.previous_sha256)  # told once; the rest is looked at all the same
        told, previous = bytes(row.sha256), bytes(row.previous_sha256)
        if row_sha256(row, previous) != told:
            yield f"{name} was altered, moved or put in: its hash is not that of what it says"
        elif previous != sha256 and number == 0:
            yield f"{name} is not the first that was written"
        elif previous != sha256:
            yield (
                f"row {number} was altered or put in and its hash made anew:"
                f" it is not the row that row {row.number} was appended to"
            )
        elif at is not None and row.at < at:
            yield f"{name} is older than the row before it"
        elif row.number == 1 and row.act != BEGUN:
            yield f"{name} is not the beginning of a trail"
        number, sha256, at = row.number, told, row.at
    if number == 0:
        yield "row 1 was removed, and every other: there is none"
