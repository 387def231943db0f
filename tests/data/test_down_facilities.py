"""Which facilities are down: brought forward, read back, and by the plain rule, always the same."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, text

from data.database import app_engine, reading
from data.down_facilities import DownFacilities, DownNow, down_at
from data.status import ingest_status
from tests.feeds import INSIDE, NANAN, facility, load_divisions, load_facilities


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[Engine]:
    load_divisions(empty_database_url)
    made = app_engine(empty_database_url)
    yield made
    made.dispose()


def report(engine: Engine, *events: tuple[str, str, str], operators: Sequence[str] = ("*",)) -> int:
    """Status events (facility_id, state, observed_at) in one batch; its sequence."""
    rows = [
        {"event_id": str(uuid.uuid4()), "facility_id": f, "state": s, "observed_at": t}
        for f, s, t in events
    ]
    receipt = ingest_status(
        engine, rows, body=json.dumps(rows).encode(), account="grid", operators=operators
    )
    assert receipt.accepted == len(rows), receipt.rejected
    return receipt.sequence


def test_down_facilities_are_the_same_read_forward_read_back_and_by_the_rule(
    engine: Engine,
) -> None:
    rng = np.random.default_rng(5)
    lon, lat = INSIDE[NANAN]
    ids = [f"S-{n}" for n in range(12)]

    def rows(which: Sequence[str]) -> list[dict[str, Any]]:
        return [
            facility(one, lon, lat, state_at_import="down" if one in ("S-0", "S-8") else "up")
            for one in which
        ]

    load_facilities(engine, rows(ids[:8]))
    forward = DownNow()
    seen: dict[int, tuple[dict[str, bool], dict[str, bool]]] = {}

    def look(sequence: int) -> None:
        with reading(engine) as connection:
            expected = by_rule(connection, sequence)
            seen[sequence] = (states(connection, forward.at(connection, sequence)), expected)

    base = datetime.now(UTC) - timedelta(hours=2)
    for round_number in range(40):
        if round_number == 20:
            load_facilities(engine, rows(ids[8:]))  # what waited for them is applied
        events = {}
        for _ in range(4):
            state = str(rng.choice(["up", "down", "degraded", "unknown"]))
            # few instants: many ties; minute 125 lies ahead and is never applied
            minute = 125 + 60 if rng.random() < 0.1 else int(rng.integers(0, 8))
            events[str(rng.choice(ids))] = (state, (base + timedelta(minutes=minute)).isoformat())
        operators = ("*",) if round_number % 3 else ("grid",)
        batch = [(f, *rest) for f, rest in events.items()]
        sequence = report(engine, *batch, operators=operators)
        if round_number % 2:
            look(sequence)
    with reading(engine) as connection:
        for sequence, (found, expected) in seen.items():
            back = states(connection, down_at(connection, sequence))
            # a facility imported later is no part of what was known, whatever is said of it here
            assert {one: found[one] for one in expected} == expected, sequence
            assert {one: back[one] for one in expected} == expected, sequence
    assert len({tuple(sorted(e.items())) for _, e in seen.values()}) > 5


def states(connection: Connection, down: DownFacilities) -> dict[str, bool]:
    rows = connection.execute(text("SELECT pk, facility_id FROM facility")).all()
    found = down.among(np.array([r.pk for r in rows], np.int64)).tolist()
    return {r.facility_id: is_down for r, is_down in zip(rows, found, strict=True)}


def by_rule(connection: Connection, sequence: int) -> dict[str, bool]:
    """Which facilities known at a sequence are down, from the log alone, in the plainest words."""
    gravity = {"up": 0, "unknown": 1, "degraded": 2, "down": 3}
    state = {}
    for r in connection.execute(
        text(
            "SELECT f.facility_id, f.state_at_import, h.sequence FROM facility f"
            " JOIN change h USING (batch_id) WHERE h.sequence <= :n"
        ),
        {"n": sequence},
    ):
        state[r.facility_id] = ((datetime.min.replace(tzinfo=UTC), -1, ""), r.state_at_import)
    for r in connection.execute(
        text(
            "SELECT l.facility_id, l.state, l.observed_at, l.event_id FROM status_log l"
            " JOIN change h USING (batch_id) WHERE h.sequence <= :n AND NOT l.future"
        ),
        {"n": sequence},
    ):
        key = (r.observed_at, gravity[r.state], r.event_id)
        if r.facility_id in state and key > state[r.facility_id][0]:
            state[r.facility_id] = (key, r.state)
    return {one: word == "down" for one, (_, word) in state.items()}


def test_a_state_set_meanwhile_by_a_later_change_does_not_show_through(engine: Engine) -> None:
    lon, lat = INSIDE[NANAN]
    load_facilities(engine, [facility("S-1", lon, lat), facility("S-2", lon, lat)])
    now = datetime.now(UTC)
    forward = DownNow()
    with reading(engine) as connection:
        forward.at(connection, 1)
    early = report(
        engine, ("S-1", "down", (now - timedelta(minutes=3)).isoformat()),
        ("S-2", "up", (now - timedelta(minutes=3)).isoformat()),
    )  # fmt: skip
    late = report(
        engine, ("S-1", "up", (now - timedelta(minutes=2)).isoformat()),
        ("S-2", "down", (now - timedelta(minutes=2)).isoformat()),
    )  # fmt: skip
    with reading(engine) as connection:  # the builder sees both, and stands at the first
        assert states(connection, forward.at(connection, early)) == {"S-1": True, "S-2": False}
        assert states(connection, forward.at(connection, late)) == {"S-1": False, "S-2": True}
        assert states(connection, forward.at(connection, early)) == {"S-1": True, "S-2": False}


def test_of_no_facilities_none_is_down() -> None:
    assert DownFacilities([3]).among(np.array([], np.int64)).tolist() == []
    assert DownFacilities([3]).among(np.array([2, 3, 4000], np.int64)).tolist() == [
        False,
        True,
        False,
    ]
