"""Taking old months of the log of events out of the database, into files that still answer.

In the log stay: the newest event of each facility in that month, of which the newest of all is its
state; events that wait for their facility or lay in the future; and every event of the kinds that
feed power, whose worst moment the present still computes. The rest is read back when asked for
(`data.retired_log`). Nothing of the ledger of event ids goes: an id is taken for ever.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql

from data.audit import record
from data.database import libpq_url
from data.retired_log import COLUMNS, path_of
from geo.errors import Unavailable

LOCK_WAIT_S = 3

_MONTHS = """
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'public.status_log'::regclass
  AND c.relname ~ '^status_log_[0-9]{6}$' AND NOT EXISTS (
    SELECT 1 FROM retired_month m WHERE m.title = c.relname)
ORDER BY c.relname
"""
_KEPT = """
INSERT INTO {kept} SELECT * FROM {month} l
WHERE l.facility_pk IS NULL OR l.future OR l.facility_pk IN (
    SELECT pk FROM public.facility WHERE kind = ANY (%(kinds)s)
    UNION SELECT pk FROM public.facility_past WHERE kind = ANY (%(kinds)s)
) OR (l.batch_id, l.row) IN (
    SELECT DISTINCT ON (facility_pk) batch_id, "row" FROM {month} WHERE NOT future
    ORDER BY facility_pk, observed_at DESC, state DESC, event_id DESC
)
"""
_ALL = """
COPY (SELECT {columns}, (l.batch_id, l.row) IN (SELECT batch_id, "row" FROM {kept})
      FROM {month} l ORDER BY l.batch_id, l.row) TO STDOUT (FORMAT csv)
"""


@dataclass(frozen=True)
class Retired:
    """A month that was taken out: its events, and how many of them stay in the log."""

    title: str
    events: int
    kept: int
    path: Path
    file_bytes: int


def retire_before(url: str, before: date, kinds: Sequence[str]) -> list[Retired]:
    """Retire the months that ended before a date (UTC) and are over, each in one transaction.

    `kinds`: those that feed power. Raises Unavailable when a lock cannot be had or a file cannot be
    written; what was retired until then stays so.
    """
    limit = datetime(before.year, before.month, before.day, tzinfo=UTC)
    this_month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    done = []
    try:
        with psycopg.connect(libpq_url(url), autocommit=True) as connection:
            connection.execute("SET timezone = 'UTC'")
            connection.execute(f"SET lock_timeout = '{LOCK_WAIT_S}s'")
            for title, bounds in connection.execute(_MONTHS).fetchall():
                _, from_at, _, to_at, *_ = bounds.split("'")
                if datetime.fromisoformat(to_at) <= min(limit, this_month):
                    done.append(_retire(connection, title, from_at, to_at, list(kinds)))
    except (psycopg.errors.LockNotAvailable, psycopg.OperationalError) as error:
        raise Unavailable(f"not now, the log is in use: {error}") from None
    except OSError as error:
        raise Unavailable(f"the archive cannot be written: {error.strerror}") from None
    return done


def _retire(
    connection: psycopg.Connection[Any], title: str, from_at: str, to_at: str, kinds: list[str]
) -> Retired:
    names = {
        "month": sql.Identifier("public", title),
        "kept": sql.Identifier("public", f"{title}_kept"),
        "title": sql.Identifier(title),
        "read_back": sql.Identifier("archive", title.replace("status_log", "status_row")),
        "columns": sql.SQL(COLUMNS),
        "from_at": from_at,
        "to_at": to_at,
    }

    def run(query: str, **values: Any) -> psycopg.Cursor[Any]:
        return connection.execute(sql.SQL(query).format(**names), values or None)

    run("DROP TABLE IF EXISTS {kept}")  # of a retirement that was broken off
    run("CREATE TABLE {kept} (LIKE {month} INCLUDING ALL)")
    run("ALTER TABLE {kept} ADD CHECK (received_at >= {from_at} AND received_at < {to_at})")
    run(_KEPT, kinds=kinds)
    path = path_of(title)
    with (
        _written(path) as out,
        gzip.GzipFile("", "wb", 6, out, mtime=0) as packed,
        connection.cursor().copy(sql.SQL(_ALL).format(**names)) as copy,
    ):
        for part in copy:
            packed.write(part)
    events = _rows(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").digest()
    with connection.transaction():
        run("LOCK TABLE public.status_log, {month} IN ACCESS EXCLUSIVE MODE")
        if _one(run("SELECT count(*) FROM {month}")) != events:
            raise Unavailable(f"{title}: its file is not whole, or events still arrive")
        kept = _one(run("SELECT count(*) FROM {kept}"))
        run("ALTER TABLE public.status_log DETACH PARTITION {month}")
        run("DROP TABLE {month}")
        run("ALTER TABLE {kept} RENAME TO {title}")
        run(
            "ALTER TABLE public.status_log ATTACH PARTITION {month}"
            " FOR VALUES FROM ({from_at}) TO ({to_at})"
        )
        run(
            "CREATE UNLOGGED TABLE {read_back} PARTITION OF archive.status_row"
            " FOR VALUES FROM ({from_at}) TO ({to_at})"
        )
        run(
            "INSERT INTO retired_month (title, from_at, to_at, events, kept, file_bytes,"
            " file_sha256) VALUES (%(title)s, {from_at}, {to_at}, %(events)s, %(kept)s, %(bytes)s,"
            " %(sha)s)",
            title=title,
            events=events,
            kept=kept,
            bytes=path.stat().st_size,
            sha=sha256,
        )
        record(
            connection,
            "database.retired",
            subject=f"month:{title}",
            detail={"events": events, "kept": kept, "file_sha256": sha256.hex()},
        )
    return Retired(title, events, kept, path, path.stat().st_size)


def _rows(path: Path) -> int:
    """The events in a file, read again as it lies on disk."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file))


def _one(cursor: psycopg.Cursor[Any]) -> int:
    row = cursor.fetchone()
    return int(row[0]) if row else 0


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that stands under its name only once it is whole and on disk."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
