"""The disk fills up under a running server: nothing acknowledged is lost, reading goes on, and when
there is space again so does writing. The database and `var/` lie on a small memory file system."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from data.accounts import first_run
from data.cluster import Cluster
from data.database import app_engine, migrate, owner_engine
from data.default_divisions import ensure_default_divisions
from tests.api.test_kill_writers import Server
from tests.data.stored import at, bring, inventory
from tests.small_disk import MIB, NotMounted, fill, free_bytes, small_disk

DISK_MIB = 640
RESERVE_MIB = 96
ROOM_MIB = 40
WRITERS = 4
BATCH = 500
SMALL_WAL = {"min_wal_size": "64MB", "max_wal_size": "128MB", "shared_buffers": "64MB"}


@pytest.fixture
def disk(short_folder: Path) -> Iterator[Path]:
    with contextlib.ExitStack() as mounts:
        try:
            disk = mounts.enter_context(small_disk(short_folder / "disk", DISK_MIB))
        except NotMounted as error:
            pytest.skip(f"a small file system needs root: {error}")
        yield disk


@pytest.fixture
def own_cluster(disk: Path) -> Iterator[Cluster]:
    cluster = Cluster(disk / "pg", disk.parent / "run", settings=SMALL_WAL)
    cluster.start()
    try:
        cluster.create_database("yutu")
        yield cluster
    finally:
        cluster.stop()


class Writer(threading.Thread):
    """Sends batches, one after another, and keeps what was answered."""

    def __init__(self, number: int, url: str, key: str, ended: threading.Event) -> None:
        super().__init__()
        self._number, self._url, self._key, self._ended = number, url, key, ended
        self.acknowledged: list[str] = []
        self.statuses: list[int] = []

    def run(self) -> None:
        batch = 0
        with httpx.Client(base_url=self._url, headers={"X-API-Key": self._key}) as client:
            while not self._ended.is_set():
                events = [self._event(batch, i) for i in range(BATCH)]
                batch += 1
                answer = client.post("/v1/status", json=events, timeout=30)
                self.statuses.append(answer.status_code)
                if answer.status_code == 200:
                    assert answer.json()["accepted"] == BATCH
                    self.acknowledged += [one["event_id"] for one in events]
                else:
                    assert answer.headers["content-type"] == "application/problem+json"
                    assert int(answer.headers["Retry-After"]) >= 1
                    time.sleep(0.1)

    def _event(self, batch: int, i: int) -> dict[str, Any]:
        number = (self._number * 7919 + batch * BATCH + i) % 2_000
        return {
            "event_id": f"{self._number}-{batch}-{i}",
            "facility_id": f"F{number}",
            "state": ("up", "degraded", "down", "unknown")[batch % 4],
            "observed_at": at(batch % 600),
            "cause": os.urandom(40).hex(),
        }


@pytest.mark.parametrize("reserve_mib", [RESERVE_MIB, 0])
def test_a_full_disk_loses_nothing_acknowledged_and_reading_goes_on(
    own_cluster: Cluster,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reserve_mib: int,
) -> None:
    """With the reserve writes end in 507 and PostgreSQL never notices. Without it, it is
    PostgreSQL that fails, and what it then promised is still there."""
    url = own_cluster.url()
    migrate(url)
    owner = owner_engine(url)
    ensure_default_divisions(owner)
    engine = app_engine(url, pool_size=1, statement_timeout_s=120)
    bring(engine, *inventory(2_000))
    engine.dispose()
    assert first_run(owner, tmp_path / "credentials.json")
    keys = {
        name: one["api_key"]
        for name, one in json.loads((tmp_path / "credentials.json").read_text()).items()
    }
    monkeypatch.setenv("YUTU_VAR", str(disk / "var"))
    monkeypatch.setenv("YUTU_DISK_FREE_MIB", str(reserve_mib))
    server = Server(url, tmp_path / "server.log")
    ended = threading.Event()
    server.start()
    try:
        server.wait_ready()
        reader = httpx.Client(base_url=server.url, headers={"X-API-Key": keys["commander"]})
        wait_for(lambda: reader.get("/ready").status_code == 200, 60)
        ballast = fill(disk, free_bytes(disk) - (reserve_mib + ROOM_MIB) * MIB)
        # where crash recovery too finds the disk full, PostgreSQL ends and `yutu run` starts it
        watch = threading.Thread(target=own_cluster.watch, args=(ended,), daemon=True)
        watch.start()
        writers = [Writer(i, server.url, keys["utility"], ended) for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        wait_for(lambda: all(w.statuses and w.statuses[-1] != 200 for w in writers), 90)
        if reserve_mib:
            assert {one for w in writers for one in w.statuses} == {200, 507}
            assert free_bytes(disk) > reserve_mib * MIB / 2
            for _ in range(20):
                assert reader.get("/v1/outages", timeout=5).status_code == 200
                assert reader.get("/v1/situation", timeout=5).status_code == 200
        else:
            assert {one for w in writers for one in w.statuses} <= {200, 503}
        assert reader.get("/health", timeout=2).status_code == 200
        ballast.unlink()
        began = [len(w.acknowledged) for w in writers]
        wait_for(
            lambda: all(len(w.acknowledged) > n for w, n in zip(writers, began, strict=True)), 180
        )
        ended.set()
        for writer in writers:
            writer.join(40)
        watch.join(40)
        assert reader.get("/v1/outages", timeout=5).status_code == 200
    finally:
        ended.set()
        server.kill()
    owner.dispose()
    own_cluster.stop()
    own_cluster.start()
    owner = owner_engine(own_cluster.url())
    with owner.connect() as connection:
        stored = set(connection.execute(text("SELECT event_id FROM status_log")).scalars())
        twice = connection.execute(
            text("SELECT count(*) - count(DISTINCT event_id) FROM status_log")
        ).scalar_one()
    owner.dispose()
    acknowledged = {one for w in writers for one in w.acknowledged}
    assert len(acknowledged) > 2 * WRITERS * BATCH
    assert acknowledged - stored == set()
    assert twice == 0
    if reserve_mib:
        assert stored == acknowledged  # what was refused is not there either


def wait_for(true: Any, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
