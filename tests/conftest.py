"""Every test process has a real PostGIS of its own, made here and gone at the end.

Without PostgreSQL the tests that need it fail; none is skipped. Databases are copies of a template
built once by the real migrations. Nothing here or in a test touches `var/`: YUTU_VAR is moved away.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import certifi
import psycopg
import pytest
import structlog
from psycopg import sql

from data import postmaster
from data.cluster import Cluster
from tests import summary

FOLDER = "yutu-test-"
TEMPLATE = "yutu_template"
JUST_MADE_S = 60.0
DISK, MEMORY = Path("/tmp"), Path("/dev/shm")
PLENTY = 4 * 2**30
END = "-----END CERTIFICATE-----\n"
#: Files of half a minute and more, the longest first; of the others most take a second or two.
LONG = (
    *("data/test_status", "data/test_history", "api/test_incident_import", "data/test_power"),
    *("api/test_disk_full", "test_readme", "browser/test_real_map", "api/test_incident_upload"),
    *("data/test_verify", "browser/test_planner_page", "browser/test_map_page"),
    *("browser/test_map_labels", "data/test_exact_area", "api/test_hostile_imports"),
    *("api/test_facilities_route", "api/test_policy", "browser/test_map_reading"),
    *("api/test_kill_writers", "api/test_kill_imports", "data/test_demo"),
    *("data/test_hostile_files", "browser/test_planner_regions", "data/test_incident_import"),
    *("browser/test_field_places", "browser/test_field_page", "data/test_service_area"),
    *("data/test_counters", "api/test_facility_commands", "api/test_cli_files"),
    *("api/test_border_places", "data/test_builder", "data/test_vector", "data/test_divisions"),
    *("data/test_cluster", "api/test_stream", "api/test_two_processes", "data/test_backup"),
    *("api/test_trusted_proxy", "data/test_situation", "torture/test_torture"),
    *("browser/test_map_incidents", "api/test_tls", "data/test_facility_child"),
)
# Fast instead of crash-proof, which check_durability refuses unless told that this is a test. Tests
# of durability start their own cluster without these.
QUICK = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB"}
ROOMY = {"max_connections": "120", "max_wal_size": "1GB", "min_wal_size": "80MB"}


def _only_grave(_logger: Any, level: str, event: MutableMapping[str, Any]) -> Any:
    """Below a warning nothing is printed: most of it is said between tests, by no test's server."""
    if level in ("debug", "info"):
        raise structlog.DropEvent
    return event


# Servers run in threads here. What structlog prints by default goes to whatever sys.stdout is just
# then, pytest exchanges that, and CPython 3.11 may write to the freed one: the process dies.
structlog.configure(
    processors=[
        _only_grave,
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(  # a rich traceback holds a server up for seconds
            exception_formatter=structlog.dev.plain_traceback
        ),
    ],
    logger_factory=structlog.WriteLoggerFactory(sys.__stderr__),
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported to collect the tests stays: nothing of it is looked through for garbage,
    then or in any test, which took a twentieth of the time."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that none of it is left to one worker at the end."""
    turn = {f"tests/{name}.py": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: turn.get(item.nodeid.partition("::")[0], len(turn)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many cells, hostile files, edits at once and kills there were, where such tests ran."""
    for line in summary.lines(one for some in terminalreporter.stats.values() for one in some):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> Iterator[None]:
    """No test reads the operator's settings or writes below the checkout's `var/`."""
    with pytest.MonkeyPatch.context() as patch, make_short_folder() as var:
        for name in [
            one for one in os.environ if one.startswith("YUTU_") or one in {"PORT", "TLS"}
        ]:
            patch.delenv(name)
        patch.setenv("YUTU_VAR", str(var))
        patch.setenv("YUTU_ALLOW_UNSAFE", "1")
        # No test asks the world, and each client reads the authorities of it, for 30 ms.
        known = Path(certifi.where()).read_text(encoding="utf-8").split(END)[0] + END
        (var / "authority.pem").write_text(known[known.index("-----BEGIN") :], encoding="ascii")
        patch.setenv("SSL_CERT_FILE", str(var / "authority.pem"))
        yield


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short name that PostgreSQL's system user may enter (tmp_path is neither)."""
    with make_short_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The PostgreSQL of this test process; quick, so not crash-proof."""
    _sweep()
    with make_short_folder() as folder:
        own = Cluster(folder / "pg", folder / "run", settings=QUICK | ROOMY)
        own.start()
        try:
            yield own
        finally:
            own.stop()


@pytest.fixture(scope="session")
def make_database(cluster: Cluster) -> Iterator[Callable[[str | None], str]]:
    """`make_database(template)` → URL of a new database; None: bare, without even PostGIS.

    `make_database("yutu_template")` copies the migrated one. Dropped at the end of the session.
    """
    made: list[str] = []

    def make(template: str | None) -> str:
        name = f"t_{uuid.uuid4().hex[:12]}"
        _administer(
            cluster,
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template or "template0")
            ),
        )
        made.append(name)
        return cluster.url(name)

    yield make
    for name in made:
        drop_database(cluster, cluster.url(name))


@pytest.fixture(scope="session")
def template_database(cluster: Cluster) -> str:
    """The name of a database brought to the newest schema by the real migrations, without rows."""
    from data.database import migrate

    cluster.create_database(TEMPLATE)
    migrate(cluster.url(TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="module")
def database_url(
    cluster: Cluster, make_database: Callable[[str | None], str], template_database: str
) -> Iterator[str]:
    """The owner's URL of a migrated database shared by the tests of one module."""
    url = make_database(template_database)
    yield url
    drop_database(cluster, url)


@pytest.fixture
def empty_database_url(
    cluster: Cluster, make_database: Callable[[str | None], str], template_database: str
) -> Iterator[str]:
    """The owner's URL of a migrated database without rows, for this test alone."""
    url = make_database(template_database)
    yield url
    drop_database(cluster, url)


@pytest.fixture(scope="session")
def divided_template(make_database: Callable[[str | None], str], template_database: str) -> str:
    """The name of a migrated database with the districts since 2025-11-06 and those before."""
    from tests.feeds import load_divisions

    url = make_database(template_database)
    load_divisions(url)
    return url.split("?")[0].rsplit("/", 1)[1]


@pytest.fixture
def divided_database_url(
    cluster: Cluster, make_database: Callable[[str | None], str], divided_template: str
) -> Iterator[str]:
    """The owner's URL of a database with districts and nothing else, for this test alone."""
    url = make_database(divided_template)
    yield url
    drop_database(cluster, url)


@pytest.fixture
def bare_database_url(
    cluster: Cluster, make_database: Callable[[str | None], str]
) -> Iterator[str]:
    """The owner's URL of a database with nothing in it, to be migrated by the test."""
    url = make_database(None)
    yield url
    drop_database(cluster, url)


def drop_database(cluster: Cluster, url: str) -> None:
    """Drop it whoever is still connected."""
    name = url.split("?")[0].rsplit("/", 1)[1]
    _administer(
        cluster, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    )


def _administer(cluster: Cluster, command: sql.Composed) -> None:
    url = cluster.url("postgres").replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(command)


@contextlib.contextmanager
def make_short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=MEMORY if _plenty() else DISK))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plenty() -> bool:
    """Whether memory may hold a test's files. What outlives a killed process is the same there as
    on a disk, no test takes the power away, and nothing waits for fsync."""
    try:
        found, told = os.statvfs(MEMORY), Path("/proc/meminfo").read_text(encoding="ascii")
        available = int(told.split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return False
    return min(found.f_bavail * found.f_frsize, available) >= PLENTY


def _sweep() -> None:
    """End the servers of test processes that were killed: nobody holds their lock any more."""
    for lock in [one for place in (DISK, MEMORY) for one in place.glob(f"{FOLDER}*/*.lock")]:
        data_dir = lock.with_suffix("")
        with contextlib.suppress(OSError), lock.open("r+") as held:
            if time.time() - lock.stat().st_mtime < JUST_MADE_S:
                continue  # perhaps by a test process that is about to hold it
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its owner lives
            pid = postmaster.pid(data_dir)
            if pid is not None:
                os.kill(pid, signal.SIGQUIT)
            postmaster.end_orphans(data_dir)
            shutil.rmtree(lock.parent, ignore_errors=True)
