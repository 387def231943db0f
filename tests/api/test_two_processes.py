"""Two servers on one database say the same, and one that is told to stop finishes what it began."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from data.accounts import first_run
from data.database import app_engine, owner_engine
from data.default_divisions import ensure_default_divisions
from data.verify import verify
from tests.api.test_kill_writers import Server
from tests.data.stored import at, bring, inventory

FACILITIES = 500
WRITERS = 6


@pytest.fixture
def prepared(empty_database_url: str, tmp_path: Path) -> Iterator[tuple[Engine, dict[str, str]]]:
    """The owner's engine and the accounts' keys, over an inventory."""
    owner = owner_engine(empty_database_url)
    ensure_default_divisions(owner)
    engine = app_engine(empty_database_url, pool_size=1)
    bring(engine, *inventory(FACILITIES))
    engine.dispose()
    assert first_run(owner, tmp_path / "credentials.json")
    told = json.loads((tmp_path / "credentials.json").read_text())
    yield owner, {name: one["api_key"] for name, one in told.items()}
    owner.dispose()


def batch(prefix: str, number: int, size: int = 50) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"{prefix}-{number}-{i}",
            "facility_id": f"F{(number * 37 + i) % FACILITIES}",
            "state": ("down", "up", "degraded", "unknown")[(number + i) % 4],
            "observed_at": at(number % 600),
        }
        for i in range(size)
    ]


def wait_for(true: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_servers_on_one_database_agree(
    prepared: tuple[Engine, dict[str, str]], empty_database_url: str, tmp_path: Path
) -> None:
    owner, keys = prepared
    servers = [Server(empty_database_url, tmp_path / f"{i}.log") for i in range(2)]
    try:
        for server in servers:
            server._environment["YUTU_WORKERS"] = "1"
            server.start()
            server.wait_ready()
        writers = [
            httpx.Client(base_url=s.url, headers={"X-API-Key": keys["utility"]}) for s in servers
        ]
        readers = [
            httpx.Client(base_url=s.url, headers={"X-API-Key": keys["viewer"]}) for s in servers
        ]
        for reader in readers:
            wait_for(lambda r=reader: r.get("/ready").status_code == 200, 60)  # type: ignore[misc]

        def send(n: int) -> dict[str, Any]:
            """Every batch to both servers, in either order."""
            answers = [
                writers[(n + turn) % 2].post("/v1/status", json=batch("both", n), timeout=30)
                for turn in range(2)
            ]
            assert [one.status_code for one in answers] == [200, 200]
            return {
                "accepted": sum(one.json()["accepted"] for one in answers),
                "sequence": max(one.json()["sequence"] for one in answers),
            }

        with ThreadPoolExecutor(8) as pool:
            sent = list(pool.map(send, range(40)))
        assert all(one["accepted"] == 50 for one in sent)
        # what one acknowledged, the other shows: to the byte, under one ETag
        newest = max(one["sequence"] for one in sent)
        shown = [
            r.get("/v1/situation", params={"min_sequence": newest}, timeout=30) for r in readers
        ]
        assert [one.status_code for one in shown] == [200, 200]
        wait_for(lambda: len({r.get("/v1/situation").headers["etag"] for r in readers}) == 1, 10)
        same = readers[0].get("/v1/situation")
        other = readers[1].get("/v1/situation", headers={"If-None-Match": same.headers["etag"]})
        assert other.status_code == 304 or other.json()["sequence"] > same.json()["sequence"]
        then = same.json()["as_of"]
        past = [r.get("/v1/situation", params={"at": then}, timeout=30) for r in readers]
        assert past[0].status_code == 200
        assert past[0].json() == past[1].json()
        report = verify(owner)
        assert report.clean, "\n".join(report.lines())
    finally:
        for server in servers:
            server.kill()
    with owner.connect() as connection:
        assert (
            connection.execute(
                text("SELECT count(*) FROM status_log WHERE event_id LIKE 'both-%'")
            ).scalar_one()
            == 40 * 50
        )


def test_a_server_told_to_stop_answers_what_it_took_on_and_keeps_what_it_acknowledged(
    prepared: tuple[Engine, dict[str, str]], empty_database_url: str, tmp_path: Path
) -> None:
    owner, keys = prepared
    server = Server(empty_database_url, tmp_path / "server.log")
    server.start()
    acknowledged: list[list[str]] = [[] for _ in range(WRITERS)]
    after_stop: list[int] = []
    broken: list[str] = []
    told = threading.Event()

    def write(writer: int) -> None:
        with httpx.Client(base_url=server.url, headers={"X-API-Key": keys["utility"]}) as client:
            for number in range(10_000):
                events = batch(f"w{writer}", number)
                try:
                    answer = client.post("/v1/status", json=events, timeout=30)
                except httpx.ConnectError:
                    return  # the door is closed
                except httpx.TransportError as error:
                    broken.append(type(error).__name__)
                    return
                if told.is_set():
                    after_stop.append(answer.status_code)
                if answer.status_code != 200:
                    return
                acknowledged[writer] += [one["event_id"] for one in events]

    try:
        server.wait_ready()
        threads = [threading.Thread(target=write, args=(i,)) for i in range(WRITERS)]
        for thread in threads:
            thread.start()
        wait_for(lambda: all(len(one) >= 200 for one in acknowledged), 30)
        # one request is in the middle of its work: it waits for a lock that we give back later
        with owner.connect() as connection, ThreadPoolExecutor(1) as pool:
            connection.execute(text("LOCK TABLE incident_revision IN EXCLUSIVE MODE"))
            slow = pool.submit(
                httpx.post,
                f"{server.url}/v1/incidents",
                json=incident(),
                headers={"X-API-Key": keys["commander"]},
                timeout=30,
            )
            time.sleep(0.5)
            assert server._process is not None
            server._process.send_signal(signal.SIGTERM)
            told.set()
            time.sleep(1.0)  # with what it waited before, less than a request waits for locks
            connection.rollback()
            answer = slow.result()
        assert answer.status_code == 201
        assert server._process.wait(20) == 0
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    finally:
        server.kill()
    assert set(after_stop) <= {200, 503}
    with owner.connect() as connection:
        stored = set(connection.execute(text("SELECT event_id FROM status_log")).scalars())
        kept = connection.execute(
            text("SELECT count(*) FROM incident WHERE incident_id = :id"),
            {"id": incident()["incident_id"]},
        ).scalar_one()
    assert kept == 1
    every = {one for each in acknowledged for one in each}
    assert every - stored == set()
    # beyond that at most what was being answered when a connection ended, whole batches each
    assert len(stored - every) <= 50 * len(broken)
    assert len(stored - every) % 50 == 0
    report = verify(owner)
    assert report.clean, "\n".join(report.lines())


def incident() -> dict[str, Any]:
    return {
        "incident_id": "6f1c4f5e-52c9-4a2e-8a0e-4c9a4b1d2e3f",
        "plan": "special-equipment-2023",
        "kind": "elevator",
        "occurred_at": at(1),
        "position": [106.55, 29.56],
    }
