"""Reading retired months of the log of events back from their files, for questions about the past.

A retired month lies in a compressed file, `var/archive/status_log_YYYYMM.csv.gz`, whose SHA-256
stands in `retired_month`. In the log stay the events that the present rests on. A transaction that
asks about a moment of that month has the file's other events put back, beside the log, into tables
that are no record (`archive.status_row`), and from then on sees both as `status_log`. What nobody
asked for in an hour is dropped again.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import structlog
from sqlalchemy import Connection, Engine, text

from data.patience import give_time
from data.settings import PathsSettings
from geo.errors import Unavailable

FOLDER = "archive"
COLUMNS = (
    'received_at, batch_id, "row", event_id, facility_id, facility_pk, state, observed_at, cause,'
    " future"
)
#: A batch is received when it is opened and known when it is published; no longer apart than this.
PUBLISHED_WITHIN = timedelta(hours=1)
KEPT_FOR_S = 3600
LOCK_KEY = 7_205_006
CHUNK_BYTES = 1 << 20
#: What a transaction may have said of itself (`data.database`, `data.incidents`).
SCOPE = ("app.districts", "app.operators", "app.account")
EVER = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))

_WANTED = """
SELECT m.title, m.file_sha256, l.title IS NOT NULL AS loaded,
       coalesce(l.read_at < now() - interval '10 minutes', false) AS stale
FROM retired_month m LEFT JOIN archive.loaded l USING (title)
WHERE m.from_at <= :latest AND m.to_at > :earliest ORDER BY m.from_at
"""

log = structlog.get_logger("yutu.retired")


def path_of(title: str) -> Path:
    """The file of a retired month in this installation."""
    return PathsSettings.load().var / FOLDER / f"{title}.csv.gz"


def reach_back(connection: Connection, earliest: datetime, latest: datetime) -> None:
    """Let the rest of this transaction see the log between two moments, retired or not.

    A REPEATABLE READ transaction, which must be read only, is begun anew if something had to be
    read first. Raises Unavailable when a file is missing or damaged.
    """
    span = {"earliest": earliest, "latest": latest}
    if earliest > EVER[0]:
        span["earliest"] = earliest - PUBLISHED_WITHIN
    months = connection.execute(text(_WANTED), span).all()
    if not months:
        return
    absent = [month for month in months if not month.loaded]
    for month in absent:
        _read_back(connection.engine, month.title, bytes(month.file_sha256))
    for month in months:
        if month.stale:
            _mark(connection.engine, month.title)
    if absent:
        _begin_anew(connection)
    connection.execute(text("SELECT set_config('search_path', 'archive, public', true)"))


def damaged(connection: Connection) -> tuple[int, list[str]]:
    """How many months are retired, and what is wrong with which file."""
    rows = connection.execute(text("SELECT title, file_sha256 FROM retired_month ORDER BY title"))
    wrong, looked_at = [], 0
    for row in rows:
        looked_at += 1
        found = _sha256(path_of(row.title))
        if found is None:
            wrong.append(f"{row.title}: {path_of(row.title)} cannot be read")
        elif found != bytes(row.file_sha256):
            wrong.append(f"{row.title}: {path_of(row.title)} is not as it was written")
    return looked_at, wrong


def forget_unread(engine: Engine, kept_for_s: float = KEPT_FOR_S) -> int:
    """Drop what was read back and not asked for since; how many months."""
    with engine.begin() as connection:
        key = {"kept": kept_for_s}
        titles = list(
            connection.execute(
                text(
                    "DELETE FROM archive.loaded"
                    " WHERE read_at < now() - make_interval(secs => :kept) RETURNING title"
                ),
                key,
            ).scalars()
        )
        for title in titles:
            connection.execute(
                text(
                    "DELETE FROM archive.status_row r USING retired_month m WHERE m.title = :title"
                    " AND r.received_at >= m.from_at AND r.received_at < m.to_at"
                ),
                {"title": title},
            )
    return len(titles)


def _read_back(engine: Engine, title: str, sha256: bytes) -> None:
    """Put a month's file beside the log and say so, in one transaction; once if asked at once."""
    path = path_of(title)
    if _sha256(path) != sha256:
        raise Unavailable(
            f"the archive of {title} is missing or damaged; restore it from a backup", 60
        )
    with engine.begin() as other:
        give_time(other)
        other.execute(text("SET LOCAL lock_timeout = 0"))
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        marked = other.execute(
            text("INSERT INTO archive.loaded (title) VALUES (:t) ON CONFLICT DO NOTHING"),
            {"t": title},
        )
        if marked.rowcount == 0:
            return  # by another request meanwhile
        raw = other.connection.driver_connection
        if not isinstance(raw, psycopg.Connection):
            raise TypeError("the driver is not psycopg")
        with (
            raw.cursor() as cursor,
            cursor.copy(
                f"COPY archive.status_row ({COLUMNS}, kept) FROM STDIN (FORMAT csv) WHERE NOT kept"
            ) as copy,
            _unpacked(path) as parts,
        ):
            for part in parts:
                copy.write(part)
    log.info("a retired month was read back", title=title)


@contextmanager
def _unpacked(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        with gzip.open(path, "rb") as file:
            yield iter(lambda: file.read(CHUNK_BYTES), b"")
    except (OSError, EOFError, zlib.error):
        raise Unavailable(f"{path.name} cannot be unpacked; restore it from a backup", 60) from None


def _mark(engine: Engine, title: str) -> None:
    with engine.begin() as other:
        other.execute(
            text("UPDATE archive.loaded SET read_at = now() WHERE title = :t"), {"t": title}
        )


def _begin_anew(connection: Connection) -> None:
    """End a read-only snapshot and take another under the same level, scope and limits."""
    names = [*SCOPE, "transaction_isolation", "transaction_read_only", "statement_timeout"]
    rows = connection.execute(
        text(
            "SELECT name, current_setting(name, true) AS value"
            " FROM unnest(CAST(:names AS text[])) AS n (name)"
        ),
        {"names": names},
    )
    kept = {row.name: row.value for row in rows if row.value is not None}
    level, read_only = kept.pop("transaction_isolation"), kept.pop("transaction_read_only")
    if level == "read committed":
        return  # its next statement sees what was committed meanwhile
    if read_only != "on":
        raise RuntimeError("a transaction that writes cannot be begun anew")
    connection.exec_driver_sql("COMMIT")
    connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL {level} READ ONLY")
    for name, value in kept.items():
        connection.execute(
            text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value}
        )


def _sha256(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
