"""Builders for tests of what is stored: an inventory, events as they are sent, what is held."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pandas as pd
from sqlalchemy import Engine, text

from data.counters import counters_now, fold
from data.database import reading
from data.divisions import version_at
from data.facilities import COLUMNS, Imported, import_facilities
from data.status import Receipt, ingest_status
from data.tables import MEASURES
from data.verify import Report, verify
from tests.feeds import CHENGDU, INSIDE, facility

#: An hour that is over; tests add minutes to it.
NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=12)
OPERATORS = ("tower", "mobile", "grid")


def at(minute: float) -> str:
    """A time that many minutes after NOON, as RFC 3339."""
    return (NOON + timedelta(minutes=minute)).isoformat()


def event(
    event_id: str, facility_id: str, state: str, observed_at: str | float, **more: Any
) -> dict[str, Any]:
    """A status event; `observed_at` may be minutes after NOON."""
    when = observed_at if isinstance(observed_at, str) else at(observed_at)
    return {
        "event_id": event_id,
        "facility_id": facility_id,
        "state": state,
        "observed_at": when,
    } | more


def send(engine: Engine, *events: Any, account: str = "utility", **options: Any) -> Receipt:
    """Ingest events with the bytes they would have come in."""
    return ingest_status(
        engine, list(events), body=orjson.dumps(events), account=account, **options
    )


def bring(engine: Engine, *rows: dict[str, Any], **options: Any) -> Imported:
    """Import rows of `tests.feeds.facility`."""
    frame = pd.DataFrame(list(rows), columns=[*COLUMNS, "lon", "lat"])
    return import_facilities(engine, frame, account="planner", body=b"rows", **options)


def inventory(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Facilities F0…: three districts and one place outside, two kinds, three operators."""
    rng = np.random.default_rng(seed)
    places = [*INSIDE.values(), CHENGDU]
    return [
        facility(
            f"F{i}",
            *places[i % len(places)],
            kind="base_station" if i % 3 else "substation",
            operator=OPERATORS[i % 3],
            network=("4G", "5G")[i % 2],
            main_grid=i % 5 > 0,
            load_kw=int(rng.integers(0, 5_000)),
            customers=int(rng.integers(0, 900)),
            state_at_import=("up", "unknown", "down")[i % 7 % 3],
        )
        for i in range(count)
    ]


def stored_state(engine: Engine, facility_id: str) -> tuple[str, str]:
    """(state, event_id of the winner) of a facility."""
    with reading(engine) as connection:
        row = connection.execute(
            text(
                "SELECT s.state, s.event_id FROM facility_state s"
                " JOIN facility f ON f.pk = s.facility_pk WHERE f.facility_id = :id"
            ),
            {"id": facility_id},
        ).one()
    return row.state, row.event_id


def every_state(engine: Engine) -> dict[str, tuple[Any, ...]]:
    """facility_id → state, observed_at, event_id, counted."""
    with reading(engine) as connection:
        rows = connection.execute(
            text(
                "SELECT f.facility_id, s.state, s.observed_at::text, s.event_id, s.counted"
                " FROM facility_state s JOIN facility f ON f.pk = s.facility_pk"
            )
        )
        return {row[0]: tuple(row[1:]) for row in rows}


def measured(frame: pd.DataFrame) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """A frame of counters without its zeros, comparable: key → measures."""
    names = list(MEASURES)
    keys = [c for c in frame.columns if c not in names]
    frame = frame[(frame[names] != 0).any(axis=1)]
    keyed = frame[keys].astype(object).where(frame[keys].notna(), None)
    return {
        tuple(key): tuple(int(v) for v in values)
        for key, values in zip(keyed.to_numpy(), frame[names].to_numpy(), strict=True)
    }


def counted_now(engine: Engine) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The folded counters, folded through everything published."""
    with engine.begin() as connection:
        fold(connection)
        return measured(counters_now(connection, version_at(connection).id))


def log_of(engine: Engine, *event_ids: str) -> Sequence[Any]:
    """Rows of the log with these ids, as (event_id, facility_id, state, future)."""
    with reading(engine) as connection:
        return connection.execute(
            text(
                "SELECT event_id, facility_id, state, future FROM status_log"
                " WHERE event_id = ANY (:ids) ORDER BY event_id"
            ),
            {"ids": list(event_ids)},
        ).all()


def assert_verified(engine: Engine, *, deep: bool = True) -> Report:
    """Everything follows from what was received; says what does not."""
    report = verify(engine, deep=deep)
    assert report.clean, "\n".join(report.lines())
    return report
