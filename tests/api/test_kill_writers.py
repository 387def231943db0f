"""Eight writers over HTTP while the server is killed again and again: what it acknowledged stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, text

from data.accounts import first_run
from data.database import app_engine, owner_engine
from data.verify import verify
from tests.data.stored import at, bring, inventory
from tests.feeds import load_divisions
from tests.summary import Record

ROOT = Path(__file__).resolve().parents[2]
WRITERS = 8
BATCH = 1_000
FACILITIES = 20_000
LASTS_S = 20.0
KILL_EVERY_S = 2.5
STATES = ("up", "degraded", "down", "unknown")


class Server:
    """`yutu serve` with two workers as processes of their own, which may be killed."""

    def __init__(self, database_url: str, log: Path) -> None:
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._environment = os.environ | {
            "YUTU_DATABASE_URL": database_url,
            "YUTU_PORT": str(self.port),
            "YUTU_WORKERS": "2",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.started = 0

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "serve"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        self.started += 1

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text(errors="replace")[-2_000:]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self._log.read_text(errors='replace')[-2_000:]}")

    def workers(self) -> list[int]:
        """Pids of the processes that this server started."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with contextlib.suppress(OSError):
            return [int(pid) for pid in children.read_text().split()]
        return []

    def kill_worker(self) -> None:
        """SIGKILL to one of the processes that serve; the supervisor replaces it."""
        for pid in self.workers()[-1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL to all of them at once."""
        assert self._process is not None
        for pid in [self._process.pid, *self.workers()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)


class Writer(threading.Thread):
    """Sends batch after batch, each again until it is acknowledged."""

    def __init__(self, number: int, url: str, key: str, ends_at: float) -> None:
        super().__init__(name=f"writer-{number}")
        self._rng = np.random.default_rng(number)
        self._number, self._url, self._key, self._ends_at = number, url, key, ends_at
        self.acknowledged: list[str] = []
        self.failures = 0
        self.duplicates = 0
        self.fault: str | None = None

    def run(self) -> None:
        made = 0
        with httpx.Client(base_url=self._url, headers={"X-API-Key": self._key}) as client:
            while time.monotonic() < self._ends_at and self.fault is None:
                events = self._batch(made)
                made += 1
                body = b"\n".join(json.dumps(event).encode() for event in events)
                receipt = self._send(client, body)
                if receipt is None:
                    return
                if receipt["rejected"] or receipt["accepted"] + receipt["duplicates"] != BATCH:
                    self.fault = str(receipt)[:500]
                if receipt["sequence"] <= 0:
                    self.fault = "acknowledged without a sequence"
                self.acknowledged += [event["event_id"] for event in events]
                self.duplicates += receipt["duplicates"]

    def _send(self, client: httpx.Client, body: bytes) -> dict[str, Any] | None:
        """The receipt; None if there was none within half a minute after the end."""
        while time.monotonic() < self._ends_at + 30:
            try:
                answer = client.post(
                    "/v1/status",
                    content=body,
                    headers={"Content-Type": "application/x-ndjson"},
                    timeout=15,
                )
            except httpx.TransportError:
                self.failures += 1
                time.sleep(0.05)
                continue
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                return found
            self.failures += 1
            if answer.status_code < 500:
                self.fault = f"{answer.status_code} {answer.text[:500]}"
                return None
            time.sleep(0.05)
        self.fault = "never acknowledged"
        return None

    def _batch(self, number: int) -> list[dict[str, Any]]:
        facilities = self._rng.integers(0, FACILITIES, BATCH)
        facilities[: BATCH // 5] = self._rng.integers(0, 50, BATCH // 5)
        minutes, states = self._rng.integers(0, 600, BATCH), self._rng.integers(0, 4, BATCH)
        return [
            {
                "event_id": f"{self._number}-{number}-{i}",
                "facility_id": f"F{facilities[i]}",
                "state": STATES[states[i]],
                "observed_at": at(int(minutes[i])),
            }
            for i in range(BATCH)
        ]


@pytest.fixture
def prepared(empty_database_url: str, tmp_path: Path) -> Iterator[tuple[Engine, str]]:
    """The owner's engine and the utility's key, over an inventory of FACILITIES."""
    load_divisions(empty_database_url)
    engine = app_engine(empty_database_url, pool_size=2)
    bring(engine, *inventory(FACILITIES))
    engine.dispose()
    owner = owner_engine(empty_database_url)
    path = tmp_path / "credentials.json"
    assert first_run(owner, path)
    yield owner, json.loads(path.read_text())["utility"]["api_key"]
    owner.dispose()


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    prepared: tuple[Engine, str], empty_database_url: str, tmp_path: Path, record_property: Record
) -> None:
    owner, key = prepared
    server = Server(empty_database_url, tmp_path / "server.log")
    server.start()
    try:
        server.wait_ready()
        ends_at = time.monotonic() + LASTS_S
        writers = [Writer(i, server.url, key, ends_at) for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        kills = 0
        while time.monotonic() + KILL_EVERY_S < ends_at:
            time.sleep(KILL_EVERY_S)
            kills += 1
            if kills % 2:
                server.kill_worker()
            else:
                server.kill()
                server.start()
        for writer in writers:
            writer.join(60)
    finally:
        server.kill()
    acknowledged = [event_id for w in writers for event_id in w.acknowledged]
    with owner.connect() as connection:
        stored = dict(
            connection.execute(
                text("SELECT event_id, count(*) FROM status_log GROUP BY event_id")
            ).all()
        )
        deadlocks = connection.execute(
            text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        ).scalar_one()
    missing = [event_id for event_id in acknowledged if stored.get(event_id) != 1]
    told = {"kills": kills, "acknowledged": len(acknowledged), "lost": len(missing)}
    record_property("short crash run", told)
    assert [w.fault for w in writers if w.fault] == []
    assert not any(w.is_alive() for w in writers)
    assert server.started >= 3
    assert sum(w.failures for w in writers) > 0
    assert all(len(w.acknowledged) >= 2 * BATCH for w in writers)
    assert missing == []
    assert len(acknowledged) == len(set(acknowledged)) == len(stored)
    assert deadlocks == 0
    report = verify(owner, deep=True)
    assert report.clean, "\n".join(report.lines())
    print(
        f"{len(acknowledged)} events acknowledged, {kills} kills,"
        f" {sum(w.duplicates for w in writers)} duplicates of what was stored unacknowledged"
    )
