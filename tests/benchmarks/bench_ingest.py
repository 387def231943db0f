"""How fast status events are taken over HTTP, everything kept, against bare inserts.

Eight writer processes each way, 1,000 rows a commit, durable. The baseline inserts the same events
with psycopg as multi-row VALUES into one table with a UUID key; the service also keeps the original
bytes, ledger, log, state, counters and sequence, and builds the situation meanwhile.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import random
import statistics
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg

from tests.benchmarks.bench_assign import Line
from tests.benchmarks.served import Served

WRITERS = 8
ROWS = 1_000
BATCHES = 12
ROUNDS = 5
SEED = 8

TABLE = """
CREATE TABLE bench_event (event_id uuid PRIMARY KEY, facility_id text NOT NULL, state text NOT NULL,
    observed_at timestamptz NOT NULL, cause text)
"""
INSERT = "INSERT INTO bench_event VALUES " + ", ".join(["(%s, %s, %s, %s, %s)"] * ROWS)

Rows = list[tuple[uuid.UUID, str, str, datetime, str]]


def run(served: Served) -> list[Line]:
    """The median ratio of rounds in which the two ways take turns, and the medians of each."""
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        ids = [r[0] for r in connection.execute("SELECT facility_id FROM facility ORDER BY pk")]
        connection.execute(TABLE)
    ours, theirs = [], []
    for number in range(ROUNDS):
        ours.append(_round(_post, served, ids, number * 2))
        theirs.append(_round(_insert, served, ids, number * 2 + 1))
    rate, bare = statistics.median(ours), statistics.median(theirs)
    return [
        (
            "status_ingest_http_8_writers",
            statistics.median(o / t for o, t in zip(ours, theirs, strict=True)),
            "psycopg VALUES inserts",
            rate,
            "events/s",
            bare,
            "rows/s",
        )
    ]


def _round(work: Any, served: Served, ids: list[str], number: int) -> float:
    """Events a second from the common start to the last writer's last answer."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(WRITERS + 1)
    writers = [
        context.Process(target=work, args=(served, ids, SEED + number * WRITERS + i, barrier))
        for i in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    barrier.wait()
    started = time.perf_counter()
    for writer in writers:
        writer.join()
        if writer.exitcode:
            raise AssertionError("a writer failed")
    return WRITERS * BATCHES * ROWS / (time.perf_counter() - started)


def _batches(ids: list[str], seed: int) -> list[Rows]:
    chance = random.Random(seed)
    now = datetime.now(UTC)
    return [
        [
            (
                uuid.UUID(int=chance.getrandbits(128), version=4),
                chance.choice(ids),
                chance.choice(("up", "down", "degraded", "unknown")),
                now,
                "power",
            )
            for _ in range(ROWS)
        ]
        for _ in range(BATCHES)
    ]


def _post(served: Served, ids: list[str], seed: int, barrier: Any) -> None:
    names = ("event_id", "facility_id", "state", "observed_at", "cause")
    bodies = [
        json.dumps(
            [dict(zip(names, map(str, row), strict=True)) for row in rows], separators=(",", ":")
        ).encode()
        for rows in _batches(ids, seed)
    ]
    link = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    headers = {"X-API-Key": served.keys["utility"], "Content-Type": "application/json"}
    barrier.wait()
    for body in bodies:
        link.request("POST", "/v1/status", body, headers)
        answer = link.getresponse()
        receipt = json.loads(answer.read())
        if answer.status != 200 or receipt["accepted"] != ROWS:
            raise AssertionError(f"{answer.status} {receipt}")


def _insert(served: Served, ids: list[str], seed: int, barrier: Any) -> None:
    values = [[cell for row in rows for cell in row] for rows in _batches(ids, seed)]
    with psycopg.connect(served.dsn) as connection:
        barrier.wait()
        for one in values:
            connection.execute(INSERT, one)
            connection.commit()
