"""Connections, migrations and the two kinds of transaction: a scoped read, a published write.

The API works as the role `yutu_app`, which owns nothing; the owner migrates. Every transaction says
which districts it may see (`app.districts`: `*`, or adcodes joined by commas); unset sees nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url

from data.audit import record
from data.audit_acts import act_of
from data.patience import PatientPool, make_patient, wait_for_locks
from data.retired_log import reach_back

APP_ROLE = "yutu_app"
CITY = ("*",)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows a transaction sees: those of its districts, of facilities those of its operators
    alone. `CITY`: all of them."""

    districts: tuple[str, ...] = CITY
    operators: tuple[str, ...] = CITY


WHOLE_CITY = Scope()
#: Over a network: a server that is gone without a word is noticed, and its connections end.
DEAD_PEER = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
MIGRATIONS = Path(__file__).with_name("migrations")


def alembic_config(url: str) -> Config:
    """Alembic's configuration without an ini file; `url` may hold any character."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config


def migrate(url: str) -> None:
    """Bring the database at `url` (owner's credentials) to the newest schema."""
    command.upgrade(alembic_config(url), "head")


def owner_engine(url: str) -> Engine:
    """An engine with the owner's rights, for migrations and maintenance. No error of it repeats a
    parameter: those hold hashes of passwords."""
    return create_engine(
        url, pool_size=2, max_overflow=2, json_serializer=_dumps, hide_parameters=True
    )


def app_engine(
    url: str,
    *,
    pool_size: int = 12,
    pool_overflow: int = 0,
    acquire_timeout_s: float = 2.0,
    connect_timeout_s: int = 3,
    statement_timeout_s: int = 30,
    lock_timeout_s: float = 20,
    usual_lock_timeout_s: float | None = None,
) -> Engine:
    """An engine whose every connection works as `yutu_app`, with timeouts in seconds.

    A request waits for a connection and for locks no longer than `data.waits` lets it wait at all;
    `usual_lock_timeout_s` is what most of them may, if less than what they may at most.
    No error it raises repeats a parameter: those hold phone numbers.
    """
    engine = create_engine(
        url,
        poolclass=PatientPool,
        pool_size=pool_size,
        max_overflow=pool_overflow,
        pool_timeout=acquire_timeout_s,
        pool_pre_ping=True,
        json_serializer=_dumps,
        hide_parameters=True,
        connect_args={"prepare_threshold": 3, "connect_timeout": connect_timeout_s, **DEAD_PEER},
    )
    make_patient(engine, statement_timeout_s)
    usual_lock_s = min(lock_timeout_s, usual_lock_timeout_s or lock_timeout_s)
    wait_for_locks(engine, most_s=lock_timeout_s, usual_s=usual_lock_s)

    @event.listens_for(engine, "connect")
    def _become_app(raw: psycopg.Connection[Any], _record: object) -> None:
        autocommit = raw.autocommit
        raw.autocommit = True
        raw.execute(f"SET ROLE {APP_ROLE}")
        raw.execute(f"SET statement_timeout = '{statement_timeout_s}s'")
        raw.execute(f"SET lock_timeout = {round(usual_lock_s * 1000)}; SET timezone = 'UTC'")
        raw.autocommit = autocommit

    return engine


def libpq_url(url: str) -> str:
    """The same database as a libpq connection string, for psycopg's own connections."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _dumps(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def set_scope(connection: Connection, scope: Scope) -> None:
    """Say, for this transaction, what row-level security lets through."""
    connection.execute(
        text("SELECT set_config('app.districts', :d, true), set_config('app.operators', :o, true)"),
        {"d": ",".join(scope.districts), "o": ",".join(scope.operators)},
    )


@contextmanager
def reading(
    engine: Engine, scope: Scope = WHOLE_CITY, *, snapshot: bool = False
) -> Iterator[Connection]:
    """A read-only transaction in a scope; with `snapshot` every statement sees one moment."""
    level = "REPEATABLE READ" if snapshot else "READ COMMITTED"
    with engine.connect() as connection, connection.begin():
        connection.execute(text(f"SET TRANSACTION ISOLATION LEVEL {level} READ ONLY"))
        set_scope(connection, scope)
        yield connection


@dataclass
class Write:
    """One write in progress. Set `kind` once something is to be published; else it rolls back."""

    connection: Connection
    batch_id: int
    opened_at: datetime
    kind: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    sequence: int | None = None
    received_at: datetime | None = None


@contextmanager
def writing(
    engine: Engine,
    *,
    channel: str,
    account: str,
    body: bytes,
    content_type: str = "application/json",
    request: Mapping[str, Any] | None = None,
) -> Iterator[Write]:
    """One transaction from the original bytes to the published sequence.

    On a normal exit with `write.kind` set, what was done is appended to the audit trail (but for
    channels that leave no row there), and the change takes its sequence under the advisory lock as
    the last statement; then COMMIT returns after the flush to disk. With `kind` None, or on an
    error, nothing remains.
    """
    sha256 = hashlib.sha256(body).digest()
    said = dict(request or {})
    with engine.connect() as connection:
        transaction = connection.begin()
        try:
            row = connection.execute(
                text(
                    "WITH s AS (SELECT set_config('app.districts', '*', true),"
                    " set_config('app.operators', '*', true)) "
                    "INSERT INTO batch (channel, account, content_type, body, body_sha256, request)"
                    " SELECT :channel, :account, :type, :body, :sha, CAST(:request AS jsonb) FROM s"
                    " RETURNING id, opened_at"
                ),
                {
                    "channel": channel,
                    "account": account,
                    "type": content_type,
                    "body": body,
                    "sha": sha256,
                    "request": _dumps(said),
                },
            ).one()
            write = Write(connection, row.id, row.opened_at)
            yield write
            if write.kind is None:
                transaction.rollback()
                return
            act = act_of(channel, write.kind, write.detail, said, write.batch_id, sha256)
            if act is not None:
                record(
                    connection,
                    act.name,
                    account=account,
                    subject=act.subject,
                    detail=act.detail,
                    outcome=act.outcome,
                )
            published = publish(connection, write.kind, write.detail, write.batch_id)
            write.sequence, write.received_at = published
            transaction.commit()
        except BaseException:
            if transaction.is_active:
                transaction.rollback()
            raise


def publish(
    connection: Connection, kind: str, detail: Mapping[str, Any], batch_id: int | None = None
) -> tuple[int, datetime]:
    """Take the next sequence: the last statement before COMMIT. A tick has no batch."""
    row = connection.execute(
        text("SELECT * FROM publish_change(:batch, :kind, CAST(:detail AS jsonb))"),
        {"batch": batch_id, "kind": kind, "detail": _dumps(dict(detail))},
    ).one()
    return row.sequence, row.received_at


def sequence_at(connection: Connection, at: datetime | None) -> int:
    """The greatest sequence known at `at` (inclusive); the newest without `at`; 0 before any.

    The transaction then sees the log of events as of `at` whole, also where it was retired.
    """
    sql = "SELECT coalesce(max(sequence), 0) FROM change"
    if at is None:
        return int(connection.execute(text(sql)).scalar_one())
    reach_back(connection, at, at)
    # received_at never runs against sequence, so the newest row of the index range is the answer
    found = connection.execute(
        text(
            "SELECT sequence FROM change WHERE received_at <= :at"
            " ORDER BY received_at DESC, sequence DESC LIMIT 1"
        ),
        {"at": at},
    ).scalar()
    return int(found or 0)


def received_at(connection: Connection, sequence: int) -> datetime | None:
    """When a change was published; None for 0, before any."""
    found: datetime | None = connection.execute(
        text("SELECT received_at FROM change WHERE sequence = :n"), {"n": sequence}
    ).scalar()
    return found
