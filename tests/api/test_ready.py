"""Every reason for which /ready says no, each by what really causes it, in both languages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from api import parts
from api.deps import Services
from api.situations import Situations
from data.database import app_engine, libpq_url
from tests.api.conftest import assert_problem


@pytest.fixture
def services(app: FastAPI, client: httpx.Client) -> Iterator[Services]:
    """Of a process that is ready, before and after."""
    until_ready(client)
    yield app.state.services
    until_ready(client)


def until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while (answer := client.get("/ready")).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    assert answer.json() == {"status": "ready"}


@contextmanager
def stopping(services: Services, url: str) -> Iterator[None]:
    services.stopping.set()
    yield
    services.stopping.clear()


@contextmanager
def no_database(services: Services, url: str) -> Iterator[None]:
    kept = services.health_engine
    services.health_engine = app_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    yield
    services.health_engine.dispose()
    services.health_engine = kept


@contextmanager
def hanging_database(services: Services, url: str) -> Iterator[None]:
    with psycopg.connect(libpq_url(url)) as other:
        other.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def older_schema(services: Services, url: str) -> Iterator[None]:
    with psycopg.connect(libpq_url(url), autocommit=True) as other:
        row = other.execute("SELECT version_num FROM alembic_version").fetchone()
        assert row is not None
        other.execute("UPDATE alembic_version SET version_num = '0001'")
        try:
            yield
        finally:
            other.execute("UPDATE alembic_version SET version_num = %s", row)


@contextmanager
def nobody_builds(services: Services, url: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "BEAT_OVERDUE_S", -1.0)
        yield


@contextmanager
def nothing_built(services: Services, url: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Situations, "latest", lambda self, lang: None)
        yield


@contextmanager
def broken_check(services: Services, url: str) -> Iterator[None]:
    services.readiness.append(lambda: str(1 // 0))
    yield
    services.readiness.pop()


CASES = [
    (stopping, {"the service is stopping"}),
    (no_database, {"the database cannot be reached"}),
    # its own timeout and ours are of the same length
    (
        hanging_database,
        {"the database does not answer in time", "the database cannot be reached"},
    ),
    (older_schema, {"the schema is not the newest; run yutu db migrate"}),
    (nobody_builds, {"the situation is not being built"}),
    (nothing_built, {"no situation has been built yet; ask again in some seconds"}),
    (broken_check, {"a readiness check failed"}),
]


@pytest.mark.parametrize(("cause", "expected"), CASES, ids=[cause.__name__ for cause, _ in CASES])
def test_not_ready_and_why(
    services: Services,
    client: httpx.Client,
    database_url: str,
    cause: type[AbstractContextManager[None]],
    expected: set[str],
) -> None:
    with cause(services, database_url):  # type: ignore[call-arg]
        started = time.monotonic()
        answer = client.get("/ready?lang=en")
        assert time.monotonic() - started < 3
        body = assert_problem(answer, 503)
        assert len(body["reasons"]) == 1
        assert set(body["reasons"]) <= expected
        assert int(answer.headers["retry-after"]) >= 1
        chinese = client.get("/ready").json()["reasons"]
        assert chinese
        assert not set(chinese) & expected
        assert client.get("/health").status_code == 200
