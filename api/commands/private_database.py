"""The database of a command: the one of `YUTU_DATABASE_URL`, or the private one, started."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sqlalchemy import Engine

from api.commands.database_fault import NO_SCHEMA, OLD_SCHEMA
from data.cluster import Cluster
from data.database import owner_engine
from data.schema_version import has_newest_schema, has_schema
from data.settings import DatabaseSettings, PathsSettings
from geo.errors import Unavailable

NAME = "yutu"


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived; unwinds what was started."""


@contextmanager
def database(*, make: bool = False) -> Iterator[str]:
    """The owner's URL while the block runs; a private server we started is stopped after it.

    Only with `make` a folder that has no database gets one. Raises InvalidInput for settings,
    Unavailable when there is none, or when PostgreSQL cannot be started.
    """
    settings, paths = DatabaseSettings.load(), PathsSettings.load()
    url = settings.sqlalchemy_url
    if url is not None:
        yield url
        return
    if not make and not (paths.cluster / "PG_VERSION").exists():  # a mistyped YUTU_VAR
        raise Unavailable(f"there is no database in {paths.var}; yutu run makes one")
    cluster = Cluster.of(paths)
    stopping = threading.Event()
    watcher = threading.Thread(target=cluster.watch, args=(stopping,), name="postgres", daemon=True)
    try:
        cluster.start()
        cluster.create_database(NAME)
        watcher.start()
        yield cluster.url(NAME)
    finally:
        with deaf():  # a second Ctrl-C must not leave the server behind
            stopping.set()
            if watcher.is_alive():
                watcher.join()
            cluster.stop()


@contextmanager
def newest_database() -> Iterator[tuple[str, Engine]]:
    """The owner's URL and engine. Raises Unavailable also for a schema that is not the newest."""
    with database() as url:
        engine = owner_engine(url)
        try:
            with engine.connect() as connection:
                if not has_newest_schema(connection):
                    raise Unavailable(OLD_SCHEMA if has_schema(connection) else NO_SCHEMA)
            yield url, engine
        finally:
            engine.dispose()


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it SIGINT and SIGTERM raise Stopped, which ends here quietly."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Stopped

    before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Stopped:
        pass
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def deaf() -> Iterator[None]:
    """Within it SIGINT and SIGTERM are ignored."""
    before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
