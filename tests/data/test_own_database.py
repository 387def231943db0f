"""The page's way to back up a database of one's own, run as it is printed, to a moment and back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from data.cluster import Cluster
from data.database import owner_engine
from data.postgresql import programs
from data.verify import verify
from tests.data.place import SMALL, Place, content, report_down

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
ROLE = "CREATE ROLE yutu_backup LOGIN REPLICATION"


def printed(program: str) -> list[str]:
    """The lines of the section that begin with a program."""
    page = PAGE.read_text(encoding="utf-8")
    section = page.split("### A database of your own")[1].split("\n## ")[0]
    return [line.strip() for line in section.splitlines() if line.startswith(f"    {program} ")]


class Keeper:
    """The machine that keeps the backup: runs the page's lines as PostgreSQL's own user."""

    def __init__(self, folder: Path, server: Cluster) -> None:
        self._folder, self._server = folder, server
        folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder, server.os_user)

    def _command(self, line: str) -> list[str]:
        line = line.replace("db.example", str(self._server.runtime_dir))
        line = line.replace("/backup", f"{self._folder}/backup")
        line = line.replace("/srv/postgres", f"{self._folder}/restored")
        shell = ["env", f"PATH={programs()}:{os.environ['PATH']}", "sh", "-euc", line]
        return ["runuser", "-u", self._server.os_user, "--", *shell] if os.geteuid() == 0 else shell

    def run(self, line: str) -> None:
        done = subprocess.run(
            self._command(line), cwd="/", capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"

    def start(self, line: str) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            self._command(f"exec {line}"), cwd="/", stdin=quiet, stdout=quiet, stderr=quiet
        )


@pytest.fixture
def server(furnished: Place, short_folder: Path) -> Iterator[Place]:
    """Somebody's PostgreSQL, which is not ours to set up."""
    made = Place(short_folder / "theirs", short_folder / "run")
    try:
        made.start_as(furnished)
        yield made
    finally:
        made.cluster.stop()


def test_the_pages_lines_bring_a_database_of_ones_own_back_to_a_moment(
    server: Place, short_folder: Path
) -> None:
    keeper = Keeper(short_folder / "keeper", server.cluster)
    assert any(ROLE in line for line in printed("psql"))
    with psycopg.connect(server.cluster.url().replace("+psycopg", "", 1), autocommit=True) as one:
        one.execute(ROLE)  # its password, and pg_hba.conf, are theirs
    for line in printed("mkdir"):
        keeper.run(line)
    make_slot, receive = printed("pg_receivewal")
    keeper.run(make_slot)
    receiver = keeper.start(receive)
    try:
        (take,) = printed("pg_basebackup")
        keeper.run(take)
        engine = server.engine()
        report_down(engine, "before", range(10, 30))
        exactly = content(server.cluster)
        time.sleep(0.05)
        moment = datetime.now(UTC)
        time.sleep(0.05)
        report_down(engine, "after", range(30, 50))
        engine.dispose()
        with psycopg.connect(server.cluster.url().replace("+psycopg", "", 1)) as one:
            row = one.execute("SELECT pg_current_wal_lsn()").fetchone()
            assert row is not None
            deadline = time.monotonic() + 20
            had = (
                "SELECT flush_lsn >= %s FROM pg_stat_replication"
                " WHERE application_name = 'pg_receivewal'"
            )
            while one.execute(had, row).fetchone() != (True,):
                assert receiver.poll() is None, "pg_receivewal ended"
                assert time.monotonic() < deadline, "the log does not arrive"
                time.sleep(0.05)
                one.rollback()
    finally:
        receiver.terminate()
        receiver.wait(20)
    server.cluster.stop()  # that machine is gone; what was received is all there is

    (until,) = [line for line in printed("echo") if "recovery_target_time" in line]
    lines = [
        line for program in ("pg_verifybackup", "cp", "echo", "touch") for line in printed(program)
    ]
    lines = [line for line in lines if "/backup/photos" not in line]
    assert len(lines) == 6
    for line in lines:
        keeper.run(
            re.sub(r"'2026[^']*'", f"'{moment.isoformat()}'", line) if line == until else line
        )
    (start,) = printed("pg_ctl")
    assert start.endswith("/srv/postgres")
    # as it is printed, but listening where this test may
    restored = Cluster(short_folder / "keeper" / "restored", short_folder / "run2", settings=SMALL)
    restored.start()
    try:
        assert content(restored) == exactly
        owner = owner_engine(restored.url())
        report = verify(owner)
        owner.dispose()
        assert report.clean, "\n".join(report.lines())
    finally:
        restored.stop()
