"""A migrated database with the first run's accounts, the application on it, and a real server."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import Engine, text

from api.app import create_app
from api.deps import Configuration
from data import accounts
from data.accounts import first_run
from data.cluster import Cluster
from data.database import owner_engine
from tests.api.incident_rows import PATH
from tests.conftest import drop_database

Credentials = dict[str, dict[str, Any]]
#: Loading the authorities takes longer than most tests, and every test has a client.
TLS = httpx.create_ssl_context()
#: What an import of incidents may write to.
IMPORTED = ("batch", "change", "incident", "incident_revision", "incident_conflict", "attachment")


@pytest.fixture(scope="module")
def database_url(
    cluster: Cluster, make_database: Callable[[str | None], str], divided_template: str
) -> Iterator[str]:
    """Here every module's database has the districts: without them no situation is built."""
    url = make_database(divided_template)
    yield url
    drop_database(cluster, url)


@pytest.fixture(scope="module")
def owner(database_url: str) -> Iterator[Engine]:
    """The owner's engine on this module's database."""
    engine = owner_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def hashing() -> PasswordHash:
    """Makes the hashes of the first run's passwords, quickly: seven of the real kind are more than
    a second of computing, and every module has its own."""
    return PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))


@pytest.fixture(scope="module")
def credentials(owner: Engine, hashing: PasswordHash) -> Credentials:
    """The first run's accounts, as `var/credentials.json` tells them."""
    path = Path(os.environ["YUTU_VAR"]) / "credentials.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_hashing", hashing)
        assert first_run(owner, path)
    found: Credentials = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def configuration(database_url: str) -> Configuration:
    return Configuration.load(database_url)


@pytest.fixture(scope="module")
def app(configuration: Configuration) -> FastAPI:
    return create_app(configuration)


@pytest.fixture(scope="module")
def server(app: FastAPI, credentials: Credentials) -> Iterator[str]:
    """The application behind a real uvicorn; its URL."""
    with served(app) as url:
        yield url


@pytest.fixture(scope="module")
def ready(server: str) -> None:
    """Waits for the first situation: until it is built `/ready` answers 503."""
    deadline = time.monotonic() + 20
    while httpx.get(f"{server}/ready", verify=TLS).status_code != 200:
        assert time.monotonic() < deadline, "no situation is built"
        time.sleep(0.1)


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    """Without credentials and without following redirects."""
    with httpx.Client(base_url=server, timeout=10, verify=TLS) as one:
        yield one


@pytest.fixture(scope="module")
def key(credentials: Credentials) -> Callable[[str], dict[str, str]]:
    """`key("viewer")` → the header with that account's API key."""
    return lambda name: {"X-API-Key": credentials[name]["api_key"]}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this process keeps its files in passing, to look whether anything stays."""
    folder = tmp_path_factory.mktemp("scratch")
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    yield folder
    tempfile.tempdir = before


@pytest.fixture
def count_rows(owner: Engine) -> Callable[[], dict[str, int]]:
    """`count_rows()` → how many rows each table has that an import may write to."""

    def counted() -> dict[str, int]:
        with owner.connect() as connection:
            return {
                table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
                for table in IMPORTED
            }

    return counted


@pytest.fixture
def post_incidents(
    server: str, scratch: Path, key: Callable[[str], dict[str, str]]
) -> Iterator[Callable[..., httpx.Response]]:
    """`post_incidents(path or (name, bytes), "commander", partial=True, plan=…)` → the answer."""
    with httpx.Client(base_url=server, timeout=60, verify=TLS) as client:

        def posted(
            file: Path | tuple[str, bytes],
            name: str = "commander",
            headers: dict[str, str] | None = None,
            said: dict[str, str] | None = None,
            **query: Any,
        ) -> httpx.Response:
            given = (file.name, file.read_bytes()) if isinstance(file, Path) else file
            answer = client.post(
                PATH,
                params={k: str(v).lower() for k, v in query.items()},
                files={"file": given},
                data=said or {},
                headers={**key(name), "Accept-Language": "en", **(headers or {})},
            )
            return answer

        yield posted
        assert list(scratch.iterdir()) == [], "no folder stays behind"


@pytest.fixture
def post_afresh(
    post_incidents: Callable[..., httpx.Response], owner: Engine
) -> Callable[..., httpx.Response]:
    """`post_incidents`, in a store without incidents."""
    with owner.begin() as connection:
        connection.execute(text("TRUNCATE incident, incident_conflict CASCADE"))
    return post_incidents


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve in a thread of this process until the block ends."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        settings = uvicorn.Config(
            app, lifespan="on", log_config=None, access_log=False, timeout_graceful_shutdown=2
        )
        running = uvicorn.Server(settings)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while not running.started:
                assert thread.is_alive(), "the server did not start"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join(10)


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """It is an RFC 9457 problem of that status with the headers of every answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:yutu:problem:")
    assert body["title"]
    return body
