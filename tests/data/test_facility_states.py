"""Which facilities are down: brought forward, read back, and by the plain rule, always the same."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, text

from data import facility_states
from data.database import WHOLE_CITY, reading, set_scope
from data.facilities_at import FacilitiesAt
from data.facility_states import (
    FacilityStates,
    StatesNow,
    states_at,
    states_from_records,
)
from data.situation import Moment
from data.status import ingest_status
from data.tables import STATES
from tests.feeds import INSIDE, NANAN, facility, load_facilities


@pytest.fixture
def engine(divided: Engine) -> Engine:
    return divided


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


@pytest.mark.parametrize("checkpoint_after", [5, 10**9])
def test_states_are_the_same_read_forward_read_back_and_by_the_rule(
    engine: Engine, checkpoint_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facility_states, "CHECKPOINT_AFTER", checkpoint_after)
    rng = np.random.default_rng(5)
    lon, lat = INSIDE[NANAN]
    ids = [f"S-{n}" for n in range(12)]

    def rows(which: Sequence[str]) -> list[dict[str, Any]]:
        return [
            facility(one, lon, lat, state_at_import="down" if one in ("S-0", "S-8") else "up")
            for one in which
        ]

    load_facilities(engine, rows(ids[:8]))
    forward = StatesNow()
    seen: dict[int, tuple[dict[str, str], dict[str, str]]] = {}

    def look(sequence: int) -> None:
        with engine.begin() as connection:  # as the builder: it may leave checkpoints
            set_scope(connection, WHOLE_CITY)
            expected = by_rule(connection, sequence)
            seen[sequence] = (states(connection, forward.at(connection, sequence)), expected)

    base = datetime.now(UTC) - timedelta(hours=2)
    for round_number in range(40):
        if round_number == 20:
            # what waited for them is applied; they were in force all along
            load_facilities(engine, rows(ids[8:]), valid_from=datetime(2020, 1, 1, tzinfo=UTC))
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
        left = connection.execute(text("SELECT count(*) FROM state_checkpoint")).scalar_one()
        assert left > 10 if checkpoint_after == 5 else left <= 2
        for sequence, (found, expected) in seen.items():
            back = states(connection, states_at(connection, sequence))
            plain = states(connection, states_from_records(connection, sequence))
            listed = in_force(connection, sequence)
            # a facility imported later is no part of what was known, whatever is said of it here
            for one in expected:
                assert (found[one], back[one], plain[one]) == (expected[one],) * 3, (sequence, one)
            assert listed.items() >= expected.items(), sequence
            assert listed == back  # what was loaded later, but from earlier on, is as imported
    assert len({tuple(sorted(e.items())) for _, e in seen.values()}) > 5


def states(connection: Connection, found: FacilityStates) -> dict[str, str]:
    rows = connection.execute(text("SELECT pk, facility_id FROM facility")).all()
    codes = found.codes_of(np.array([r.pk for r in rows], np.int64)).tolist()
    return {r.facility_id: STATES[code] for r, code in zip(rows, codes, strict=True)}


def in_force(connection: Connection, sequence: int) -> dict[str, str]:
    """The same by SQL."""
    received = connection.execute(
        text("SELECT received_at FROM change WHERE sequence = :n"), {"n": sequence}
    ).scalar_one()
    moment = Moment(sequence, received, received, received, folded=False)
    rows = FacilitiesAt(connection, moment).select(
        "SELECT facility_id, CAST(state AS text) AS state FROM standing", "true"
    )
    return {row.facility_id: row.state for row in rows}


def by_rule(connection: Connection, sequence: int) -> dict[str, str]:
    """The state of each facility known at a sequence, from the log alone, in the plainest words."""
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
    return {one: word for one, (_, word) in state.items()}


def test_a_state_set_meanwhile_by_a_later_change_does_not_show_through(engine: Engine) -> None:
    lon, lat = INSIDE[NANAN]
    load_facilities(engine, [facility("S-1", lon, lat), facility("S-2", lon, lat)])
    now = datetime.now(UTC)
    forward = StatesNow()
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
        assert states(connection, forward.at(connection, early)) == {"S-1": "down", "S-2": "up"}
        assert states(connection, forward.at(connection, late)) == {"S-1": "up", "S-2": "down"}
        assert states(connection, forward.at(connection, early)) == {"S-1": "down", "S-2": "up"}


def test_packed_states_are_unpacked_as_they_were() -> None:
    pks = np.arange(1_003)
    codes = np.random.default_rng(3).integers(0, 4, len(pks)).astype(np.uint8)
    for count in (0, 1, 4, 5, 1_002, 1_003):
        packed = FacilityStates(codes.copy()).packed(count)
        assert len(packed) == (count + 3) // 4
        back = FacilityStates.unpacked(packed).codes_of(pks)
        assert back[:count].tolist() == codes[:count].tolist()
        assert not back[count:].any()
    assert FacilityStates().codes_of(np.array([], np.int64)).tolist() == []
    assert FacilityStates(codes).down_among(pks).tolist() == (codes == 3).tolist()
