"""Many writers at once, on a real PostGIS: nothing lost, nothing twice, nobody deadlocked."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from data.counters import counters_now, fold
from data.database import app_engine, reading, sequence_at
from data.divisions import version_at
from data.facilities import retire_facilities
from data.status import ingest_status
from tests.data.stored import assert_verified, at, bring, inventory, log_of, send
from tests.feeds import INSIDE, NANAN, YUZHONG, facility

WRITERS = 8
BATCH = 1_000
BATCHES = 6
FACILITIES = 20_000
STATES = ("up", "degraded", "down", "unknown")


def deadlocks(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(
            connection.execute(
                text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            ).scalar_one()
        )


def batch_of(rng: np.random.Generator, writer: int, number: int) -> list[dict[str, Any]]:
    """Events over few hot and many cool facilities, some not yet known; a tenth have ids that
    other writers use too, with the same body."""
    hot = rng.integers(0, 50, BATCH // 5)
    cool = rng.integers(0, FACILITIES + 400, BATCH - len(hot))
    events = []
    for i, f in enumerate(rng.permutation(np.concatenate([hot, cool]))):
        minute, state = int(rng.integers(0, 600)), STATES[int(rng.integers(4))]
        event_id = f"{writer}-{number}-{i}"
        if i % 10 == 0:  # one of 200 shared ids; its body follows from the id
            f = int(rng.integers(200))
            event_id, minute, state = f"shared-{f}", f % 60, STATES[f % 4]
        events.append(
            {
                "event_id": event_id,
                "facility_id": f"F{f}",
                "state": state,
                "observed_at": at(minute),
            }
        )
    return events


@pytest.fixture
def engine(divided_database_url: str) -> Any:
    made = app_engine(divided_database_url, pool_size=16, acquire_timeout_s=30)
    yield made
    made.dispose()


def test_writers_importers_and_a_folder_at_once_lose_nothing(
    engine: Engine, divided_owner: Engine
) -> None:
    rows = inventory(FACILITIES + 400)
    bring(engine, *rows[:FACILITIES])
    before = deadlocks(divided_owner)
    acknowledged: list[set[str]] = [set() for _ in range(WRITERS)]
    ended = threading.Event()
    shown: list[tuple[int, int]] = []

    def write(writer: int) -> None:
        rng = np.random.default_rng(writer)
        for number in range(BATCHES):
            events = batch_of(rng, writer, number)
            for attempt in range(1 + number % 2):  # every second batch is sent twice
                receipt = ingest_status(engine, events, body=b"b", account=f"w{writer}")
                assert receipt.rejected == []
                assert receipt.accepted + receipt.duplicates == BATCH
                assert attempt == 0 or receipt.accepted == 0
            acknowledged[writer].update(e["event_id"] for e in events)

    def edit() -> None:
        rng = np.random.default_rng(99)
        places = [*INSIDE.values()]
        for step in range(10):
            some = rng.choice(FACILITIES, 200, replace=False)
            moved = [
                rows[i] | dict(zip(("lon", "lat"), places[int(rng.integers(3))], strict=True))
                for i in some
            ]
            fresh = rows[FACILITIES + 40 * step : FACILITIES + 40 * (step + 1)]
            bring(engine, *moved, *fresh)
            going = [f"F{i}" for i in rng.integers(0, FACILITIES, 20)]
            retire_facilities(engine, going, account="p", body=b"r", reason="test")

    def folding() -> None:
        while not ended.is_set():
            with engine.begin() as connection:
                through = fold(connection)
                frame = counters_now(connection, version_at(connection).id)
                shown.append((through, int(frame["total"].sum())))
            time.sleep(0.02)

    with ThreadPoolExecutor(WRITERS + 2) as pool:
        folder = pool.submit(folding)
        jobs = [pool.submit(write, i) for i in range(WRITERS)] + [pool.submit(edit)]
        try:
            for job in jobs:
                job.result()
        finally:
            ended.set()
        folder.result()

    everything = set().union(*acknowledged)
    assert len(log_of(engine, *everything)) == len(everything)
    assert deadlocks(divided_owner) == before
    with reading(engine) as connection:
        sequences = list(
            connection.execute(text("SELECT sequence FROM change ORDER BY sequence")).scalars()
        )
    assert sequences == list(range(1, len(sequences) + 1))
    assert [n for n, _ in shown] == sorted(n for n, _ in shown)
    assert len(shown) > 5
    report = assert_verified(engine, deep=False)
    assert next(c for c in report.checks if c.name == "ledger").looked_at == len(everything)


def test_a_reader_at_a_sequence_never_misses_an_earlier_change(engine: Engine) -> None:
    """Whoever has seen n sees the same set of changes up to n for ever, and none comes late."""
    bring(engine, *(facility(f"F{i}", *INSIDE[YUZHONG]) for i in range(50)))
    ended = threading.Event()
    seen: list[tuple[int, int, int]] = []

    def read() -> None:
        while not ended.is_set():
            with reading(engine, snapshot=True) as connection:
                n = sequence_at(connection, None)
                row = connection.execute(
                    text(
                        "SELECT count(*) AS changes, (SELECT count(*) FROM status_log) AS events"
                        " FROM change WHERE sequence <= :n"
                    ),
                    {"n": n},
                ).one()
            seen.append((n, row.changes, row.events))

    def write(writer: int) -> None:
        for number in range(40):
            send(
                engine,
                *(
                    {
                        "event_id": f"{writer}-{number}-{i}",
                        "facility_id": f"F{(writer * 7 + i) % 50}",
                        "state": STATES[(number + i) % 4],
                        "observed_at": at(number),
                    }
                    for i in range(5)
                ),
            )

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for job in [pool.submit(write, i) for i in range(6)]:
                job.result()
        finally:
            ended.set()
        for reader in readers:
            reader.result()
    for n, changes, events in seen:
        assert changes == n  # none below n was still on its way
        assert events == 5 * (n - 1)  # and what it brought was there with it
    assert len({n for n, _, _ in seen}) > 20
    with reading(engine) as connection:
        received = list(
            connection.execute(text("SELECT received_at FROM change ORDER BY sequence")).scalars()
        )
    assert received == sorted(received)
    assert_verified(engine)


def test_one_id_from_forty_threads_is_accepted_once(engine: Engine) -> None:
    bring(engine, facility("A", *INSIDE[YUZHONG]), facility("B", *INSIDE[NANAN]))
    bodies = [
        {"event_id": "once", "facility_id": f, "state": "down", "observed_at": at(1)}
        for f in ("A", "B")
    ]
    with ThreadPoolExecutor(10) as pool:
        receipts = list(pool.map(lambda i: send(engine, bodies[i % 2]), range(40)))
    assert sum(r.accepted for r in receipts) == 1
    assert sum(r.duplicates for r in receipts) == 19
    assert sum(len(r.rejected) for r in receipts) == 20
    assert_verified(engine)


def test_an_import_waits_for_the_writers_and_they_for_it(engine: Engine) -> None:
    """An event either finds the facility, or waits in the log and is found by the import."""
    for round_number in range(10):
        names = [f"R{round_number}-{i}" for i in range(30)]
        with ThreadPoolExecutor(6) as pool:
            jobs = [
                pool.submit(
                    send,
                    engine,
                    *(
                        {
                            "event_id": f"{writer}-{name}",
                            "facility_id": name,
                            "state": "down",
                            "observed_at": at(writer),
                        }
                        for name in names
                    ),
                )
                for writer in range(5)
            ]
            jobs.append(pool.submit(bring, engine, *(facility(n, *INSIDE[YUZHONG]) for n in names)))
            for job in jobs:
                job.result()
        with reading(engine) as connection:
            won = connection.execute(
                text(
                    "SELECT DISTINCT s.state, split_part(s.event_id, '-', 1) FROM facility_state s"
                    " JOIN facility f ON f.pk = s.facility_pk WHERE f.facility_id = ANY (:names)"
                ),
                {"names": names},
            ).all()
        assert [tuple(row) for row in won] == [("down", "4")]
    assert_verified(engine)
