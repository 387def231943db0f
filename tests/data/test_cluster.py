"""The private cluster is started, killed and broken for real."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from data import postmaster
from data.cluster import Cluster
from data.postgresql import check_durability, programs, tuned
from geo.errors import Unavailable
from tests.conftest import make_short_folder
from tests.small_disk import NotMounted, small_disk

SMALL = {"shared_buffers": "64MB", "max_connections": "20"}
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="root changes to the system user postgres")


@pytest.fixture
def unmade(short_folder: Path) -> Iterator[Cluster]:
    """A cluster with every durability setting on, of which nothing is there."""
    cluster = Cluster(short_folder / "pg", short_folder / "run", settings=SMALL)
    yield cluster
    if cluster.is_running():
        cluster.start()  # adopts what a killed owner left
        cluster.stop()


@pytest.fixture(scope="module")
def once_started() -> Iterator[Path]:
    """The data folder of one that was started and stopped, to be copied: making one takes long."""
    with make_short_folder() as folder:
        cluster = Cluster(folder / "pg", folder / "run", settings=SMALL)
        cluster.start()
        cluster.stop()
        yield cluster.data_dir


@pytest.fixture
def durable(unmade: Cluster, once_started: Path) -> Cluster:
    """A cluster with every durability setting on, stopped."""
    subprocess.run(["cp", "-a", str(once_started), str(unmade.data_dir)], check=True)
    return unmade


def connect(cluster: Cluster, dbname: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(cluster.url(dbname).replace("+psycopg", ""), autocommit=True)


def one(cluster: Cluster, query: str) -> object:
    with connect(cluster) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def kill_server(cluster: Cluster) -> int:
    pid = postmaster.pid(cluster.data_dir)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while cluster.is_running() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not cluster.is_running()
    return pid


@contextmanager
def other_process(cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    """A living process of the same system user: what PostgreSQL itself takes for a server."""
    command = ["sleep", "300"]
    if os.geteuid() == 0:
        command = ["setpriv", f"--reuid={cluster.os_user}", "--clear-groups", *command]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# -- the plain life --------------------------------------------------------------------------------


def test_it_starts_from_nothing_stops_in_order_and_keeps_what_it_held(unmade: Cluster) -> None:
    unmade.start()
    assert unmade.owned
    assert unmade.create_database("yutu")
    assert not unmade.create_database("yutu")
    with connect(unmade, "yutu") as connection:
        connection.execute("CREATE EXTENSION postgis")
        connection.execute("CREATE TABLE kept AS SELECT ST_Point(106.55, 29.56) AS place")
    unmade.stop()
    assert not unmade.is_running()
    assert not unmade.runtime_dir.exists()
    unmade.start()
    with connect(unmade, "yutu") as connection:
        row = connection.execute("SELECT ST_X(place) FROM kept").fetchone()
    assert row == (106.55,)


def test_it_can_be_reached_by_its_private_socket_only(durable: Cluster) -> None:
    durable.start()
    folder = durable.runtime_dir.stat()
    assert stat.S_IMODE(folder.st_mode) == 0o700
    assert pwd.getpwuid(folder.st_uid).pw_name == durable.os_user
    assert one(durable, "SHOW listen_addresses") == ""
    assert one(durable, "SELECT count(*) FROM pg_hba_file_rules WHERE type <> 'local'") == 0
    assert one(durable, "SHOW data_checksums") == "on"
    assert one(durable, "SHOW server_encoding") == "UTF8"


def test_our_settings_leave_every_durability_setting_on_and_rows_out_of_the_log(
    unmade: Cluster,
) -> None:
    unmade.start()
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        assert one(unmade, f"SHOW {name}") == "on"
    with connect(unmade) as connection:
        connection.execute("CREATE TABLE reporter (phone text PRIMARY KEY)")
        connection.execute("INSERT INTO reporter VALUES ('13800138000')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO reporter VALUES ('13800138000')")
    written = unmade.log_file.read_text()
    assert "duplicate key" in written
    assert "13800138000" not in written


@pytest.mark.parametrize(("gib", "buffers"), [(0.5, "128MB"), (4, "512MB"), (24, "1024MB")])
def test_buffers_follow_the_memory_within_bounds(gib: float, buffers: str) -> None:
    assert tuned(int(gib * 2**30))["shared_buffers"] == buffers
    assert not {"fsync", "full_page_writes", "synchronous_commit"} & set(tuned(2**30))


# -- recovery --------------------------------------------------------------------------------------


def test_after_kill_9_of_the_server_every_committed_row_is_back(durable: Cluster) -> None:
    durable.start()
    with connect(durable) as connection:
        connection.execute("CREATE TABLE ledger (id int)")
        for number in range(50):
            connection.execute("INSERT INTO ledger VALUES (%s)", [number])
        kill_server(durable)
    assert (durable.data_dir / "postmaster.pid").exists()
    durable.start()
    assert one(durable, "SELECT count(*) FROM ledger") == 50


def test_a_watched_server_that_is_killed_comes_back_by_itself(durable: Cluster) -> None:
    durable.start()
    stopping = threading.Event()
    thread = threading.Thread(target=durable.watch, args=(stopping, 0.05))
    thread.start()
    try:
        for _ in range(3):
            killed = kill_server(durable)
            deadline = time.monotonic() + 20
            while not durable.is_ready() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert one(durable, "SELECT 1") == 1
            assert postmaster.pid(durable.data_dir) != killed
    finally:
        stopping.set()
        thread.join()


def test_a_backend_that_outlives_its_killed_server_does_not_block_the_next_start(
    durable: Cluster,
) -> None:
    durable.start()
    connection = connect(durable)
    backend = connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)  # as if deep in a computation: it notices nothing
    kill_server(durable)
    assert backend in postmaster.processes(durable.data_dir)
    durable.start()
    assert one(durable, "SELECT 1") == 1
    assert backend not in postmaster.processes(durable.data_dir)
    connection.close()


def test_a_pid_file_whose_pid_is_another_process_now_is_stale(durable: Cluster) -> None:
    durable.start()
    pid_file = durable.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    durable.stop()
    with other_process(durable) as other:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:], ""]))
        shutil.chown(pid_file, durable.os_user)
        assert not durable.is_running()
        durable.start()
        assert one(durable, "SELECT 1") == 1
        assert other.poll() is None


@pytest.mark.parametrize("content", ["", "999999999\n", "not a pid\n", "-1\n\n\n"])
def test_a_pid_file_cut_short_or_garbled_is_stale(durable: Cluster, content: str) -> None:
    durable.start()
    durable.stop()
    (durable.data_dir / "postmaster.pid").write_text(content)
    shutil.chown(durable.data_dir / "postmaster.pid", durable.os_user)
    durable.start()
    assert one(durable, "SELECT 1") == 1


def test_a_socket_and_lock_left_behind_do_not_block_the_next_start(durable: Cluster) -> None:
    durable.start()
    kill_server(durable)
    lock = durable.runtime_dir / ".s.PGSQL.5432.lock"
    lines = lock.read_text().splitlines()
    with other_process(durable) as other:
        lock.write_text("\n".join([str(other.pid), *lines[1:], ""]))
        durable.start()
        assert one(durable, "SELECT 1") == 1
        assert other.poll() is None


def test_the_socket_of_another_living_server_is_not_taken_away(
    durable: Cluster, short_folder: Path
) -> None:
    durable.start()
    second = Cluster(short_folder / "second", durable.runtime_dir, settings=SMALL)
    with pytest.raises(Unavailable, match="YUTU_RUNTIME"):
        second.start()
    assert one(durable, "SHOW data_directory") == str(durable.data_dir)


def test_a_half_made_data_folder_is_made_again(unmade: Cluster) -> None:
    draft = unmade.data_dir.with_name("pg.initdb")
    (draft / "base").mkdir(parents=True)
    (draft / "PG_VERSION").write_text("15\n")
    unmade.start()
    assert one(unmade, "SELECT 1") == 1
    assert not draft.exists()


def test_a_folder_with_other_things_in_it_is_never_overwritten(short_folder: Path) -> None:
    (short_folder / "pg").mkdir()
    (short_folder / "pg" / "thesis.txt").write_text("mine")
    with pytest.raises(Unavailable, match="YUTU_VAR"):
        Cluster(short_folder / "pg", short_folder / "run").start()
    assert (short_folder / "pg" / "thesis.txt").read_text() == "mine"


# -- one owner -------------------------------------------------------------------------------------

OWNER = """
import signal, sys, time
from pathlib import Path
from data.cluster import Cluster
folder = Path(sys.argv[1])
cluster = Cluster(folder / "pg", folder / "run", settings={"shared_buffers": "64MB"})
cluster.start()
print("owner" if cluster.owned else "guest", flush=True)
signal.signal(signal.SIGTERM, lambda *_: (cluster.stop(), sys.exit(0)))
time.sleep(120)
"""


@pytest.fixture
def start_owner(short_folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(short_folder)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_server_of_a_killed_owner_is_adopted_and_then_stopped(
    durable: Cluster, start_owner: Callable[[], subprocess.Popen[str]]
) -> None:
    owner = start_owner()
    assert said(owner) == "owner"
    owner.kill()
    owner.wait()
    orphan = postmaster.pid(durable.data_dir)
    assert orphan is not None
    durable.start()
    assert postmaster.pid(durable.data_dir) == orphan
    assert durable.owned
    durable.stop()
    assert not durable.is_running()


def test_a_guest_uses_the_server_and_never_stops_it(
    durable: Cluster, start_owner: Callable[[], subprocess.Popen[str]]
) -> None:
    owner = start_owner()
    assert said(owner) == "owner"
    durable.start()
    assert not durable.owned
    assert one(durable, "SELECT 1") == 1
    durable.stop()
    assert durable.is_ready()
    owner.terminate()
    assert owner.wait(timeout=30) == 0
    assert not durable.is_running()


def test_of_starts_at_the_same_time_one_owns_and_all_can_connect(
    unmade: Cluster, start_owner: Callable[[], subprocess.Popen[str]]
) -> None:
    processes = [start_owner() for _ in range(4)]
    assert sorted(said(process) for process in processes) == ["guest", "guest", "guest", "owner"]
    assert one(unmade, "SELECT 1") == 1


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(durable: Cluster) -> None:
    durable.start()
    pid = postmaster.pid(durable.data_dir)
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)


# -- what a person must be told --------------------------------------------------------------------


@root_only
def test_a_folder_postgres_cannot_enter_is_named_with_the_remedies(short_folder: Path) -> None:
    home = short_folder / "home"
    (home / "clone" / "var").mkdir(parents=True)
    home.chmod(0o700)
    with pytest.raises(Unavailable) as refused:
        Cluster(home / "clone" / "var" / "postgres", short_folder / "run").start()
    assert f"may not enter {home}." in str(refused.value)
    assert "YUTU_VAR=" in str(refused.value)
    assert f"chmod o+x {home}" in str(refused.value)
    home.chmod(0o711)
    cluster = Cluster(home / "clone" / "var" / "postgres", short_folder / "run", settings=SMALL)
    cluster.start()
    cluster.stop()


@pytest.mark.parametrize("beneath", ["file", "file/deeper", None])
def test_a_place_where_no_folder_can_be_is_named_with_the_remedy(
    short_folder: Path, beneath: str | None
) -> None:
    (short_folder / "file").write_text("not a folder")
    place = Path("/proc/nowhere") if beneath is None else short_folder / beneath
    with pytest.raises(Unavailable, match="YUTU_VAR") as refused:
        Cluster(place / "postgres", short_folder / "run").start()
    assert str(place) in str(refused.value)
    assert (short_folder / "file").read_text() == "not a folder"


@root_only
def test_a_full_disk_is_told_and_leaves_nothing_that_hinders_the_next_start(
    short_folder: Path,
) -> None:
    with ExitStack() as ending:
        try:
            disk = ending.enter_context(small_disk(short_folder / "disk", 8))
        except NotMounted as error:
            pytest.skip(f"a small file system needs root: {error}")
        cluster = Cluster(disk / "pg", short_folder / "run", settings=SMALL)
        ending.callback(cluster.stop)
        with pytest.raises(Unavailable, match="initdb failed"):
            cluster.start()
        assert not (disk / "pg").exists()
        subprocess.run(["mount", "-o", "remount,size=512m", str(disk)], check=True)
        cluster.start()
        assert one(cluster, "SELECT 1") == 1


@root_only
def test_a_strict_umask_does_not_lock_postgres_out_of_folders_we_make(short_folder: Path) -> None:
    cluster = Cluster(
        short_folder / "var" / "postgres",
        short_folder / "run",
        short_folder / "var" / "log" / "postgres.log",
        settings=SMALL,
    )
    before = os.umask(0o077)
    try:
        cluster.start()
    finally:
        os.umask(before)
    assert cluster.is_ready()
    cluster.stop()


@root_only
def test_a_socket_folder_of_somebody_else_is_refused(short_folder: Path) -> None:
    folder = short_folder / "run"
    folder.mkdir()
    shutil.chown(folder, "nobody")
    with pytest.raises(Unavailable, match="YUTU_RUNTIME"):
        Cluster(short_folder / "pg", folder).start()


def test_a_socket_folder_that_is_a_link_is_refused(short_folder: Path) -> None:
    (short_folder / "elsewhere").mkdir()
    (short_folder / "run").symlink_to(short_folder / "elsewhere")
    with pytest.raises(Unavailable, match="not trusted"):
        Cluster(short_folder / "pg", short_folder / "run").start()


def test_a_socket_path_that_is_too_long_is_refused_before_anything_starts(
    short_folder: Path,
) -> None:
    cluster = Cluster(short_folder / "pg", short_folder / ("r" * 100))
    with pytest.raises(Unavailable, match="107 bytes; set YUTU_RUNTIME"):
        cluster.start()
    assert not cluster.is_running()
    assert not cluster.owned


def test_the_usual_socket_folder_is_short_however_deep_the_checkout(short_folder: Path) -> None:
    deep = Cluster(short_folder.joinpath(*["数据" * 10] * 6) / "postgres")
    assert len(os.fsencode(deep.runtime_dir / ".s.PGSQL.5432")) < 60
    assert deep.runtime_dir != Cluster(short_folder / "postgres").runtime_dir


def test_a_server_that_cannot_start_says_where_its_log_is(durable: Cluster) -> None:
    broken = Cluster(durable.data_dir, durable.runtime_dir, settings={"work_mem": "lots"})
    with pytest.raises(Unavailable, match=r"pg\.log"):
        broken.start()
    assert not broken.owned
    durable.start()  # the next start, with usable settings, is not hindered
    assert one(durable, "SELECT 1") == 1


def test_a_missing_postgresql_is_named_with_its_packages(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="apt-get install postgresql-15 postgresql-15-postgis-3"):
        programs(installed=tmp_path, extensions=tmp_path)


def test_the_newest_postgresql_with_postgis_is_chosen(tmp_path: Path) -> None:
    for major, postgis in (("14", True), ("15", True), ("16", True), ("17", False)):
        (tmp_path / major / "bin").mkdir(parents=True)
        (tmp_path / major / "bin" / "postgres").touch()
        (tmp_path / major / "extension").mkdir()
        if postgis:
            (tmp_path / major / "extension" / "postgis.control").touch()
    assert programs(installed=tmp_path, extensions=tmp_path) == tmp_path / "16" / "bin"
    assert programs("15", tmp_path, tmp_path) == tmp_path / "15" / "bin"
    with pytest.raises(Unavailable, match="postgresql-18"):
        programs("18", tmp_path, tmp_path)


# -- settings that lie -----------------------------------------------------------------------------


def refused_settings(cluster: Cluster, dbname: str = "postgres") -> str | None:
    engine = create_engine(cluster.url(dbname))
    try:
        with engine.connect() as connection:
            check_durability(connection)
    except Unavailable as error:
        return str(error)
    finally:
        engine.dispose()
    return None


@pytest.fixture
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YUTU_ALLOW_UNSAFE")


@pytest.mark.usefixtures("_strict")
def test_a_durable_cluster_is_served(durable: Cluster) -> None:
    durable.start()
    assert refused_settings(durable) is None


@pytest.mark.usefixtures("_strict")
@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_cluster_that_may_lose_what_it_acknowledged_is_refused(
    durable: Cluster, name: str
) -> None:
    durable.start()
    with connect(durable) as connection:
        connection.execute(f"ALTER SYSTEM SET {name} = off".encode())
        connection.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while one(durable, f"SHOW {name}") != "off" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert name in (refused_settings(durable) or "")
    with connect(durable) as connection:
        connection.execute(f"ALTER SYSTEM RESET {name}".encode())


@pytest.mark.usefixtures("_strict")
def test_synchronous_commit_off_for_one_role_or_database_is_found(durable: Cluster) -> None:
    durable.start()
    with connect(durable) as connection:
        connection.execute("CREATE ROLE writer")
        connection.execute("ALTER ROLE writer SET synchronous_commit = off")
    assert "synchronous_commit is off for writer" in (refused_settings(durable) or "")
    with connect(durable) as connection:
        connection.execute("ALTER ROLE writer RESET synchronous_commit")
        connection.execute("CREATE DATABASE other")
        connection.execute("ALTER DATABASE other SET synchronous_commit = off")
    assert refused_settings(durable) is None  # another database is not ours to judge
    assert "synchronous_commit" in (refused_settings(durable, "other") or "")


def test_unsafe_settings_are_let_through_only_under_pytest(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(cluster, "SHOW fsync") == "off"
    assert refused_settings(cluster) is None
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert "fsync" in (refused_settings(cluster) or "")


# -- the databases of the tests --------------------------------------------------------------------


def test_a_test_database_has_the_schema_of_the_real_migrations(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
        assert connection.execute(text("SELECT postgis_lib_version()")).scalar_one()
    engine.dispose()
