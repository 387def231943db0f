"""The inventory in a real PostGIS: entered, edited, retired, never erased, counted as it changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pandas as pd
import pytest
from sqlalchemy import Engine, text

from data.counters import counters_at, counters_now, fold
from data.database import reading, sequence_at
from data.divisions import version_at, versions
from data.facilities import COLUMNS, Imported, import_facilities, retire_facilities
from data.status import ingest_status
from geo.errors import InvalidInput
from tests.feeds import CHENGDU, INSIDE, LIANGJIANG, NANAN, YUZHONG, ago, facility

IN_2020 = datetime(2020, 1, 1, tzinfo=UTC)
IN_OLD_YUBEI = (106.62, 29.72)


@pytest.fixture
def engine(divided: Engine) -> Engine:
    return divided


def bring(engine: Engine, *rows: dict[str, Any], **more: Any) -> Imported:
    frame = pd.DataFrame(list(rows), columns=[*COLUMNS, "lon", "lat"])
    return import_facilities(engine, frame, account="planner", body=orjson.dumps(len(rows)), **more)


def report(
    engine: Engine,
    facility_id: str,
    state: str,
    observed_at: str,
    operators: tuple[str, ...] = ("*",),
) -> Any:
    event = {
        "event_id": f"{facility_id}-{state}-{observed_at}",
        "facility_id": facility_id,
        "state": state,
        "observed_at": observed_at,
    }
    return ingest_status(engine, [event], body=b"x", account="u", operators=operators)


def stored(engine: Engine, facility_id: str) -> Any:
    with reading(engine) as connection:
        return connection.execute(
            text(
                "SELECT f.*, s.state, s.counted FROM facility f"
                " JOIN facility_state s ON s.facility_pk = f.pk WHERE f.facility_id = :id"
            ),
            {"id": facility_id},
        ).one()


def totals(engine: Engine) -> dict[tuple[str | None, str], tuple[int, int, int]]:
    """(adcode, kind) → total, down, load_kw, from the folded counters of now."""
    with engine.begin() as connection:
        fold(connection)
        frame = counters_now(connection, version_at(connection).id)
    return {
        (row.adcode if isinstance(row.adcode, str) else None, row.kind): (
            row.total,
            row.down,
            row.load_kw,
        )
        for row in frame.itertuples()
        if row.total or row.down or row.load_kw
    }


def test_new_facilities_are_stored_placed_and_counted(engine: Engine) -> None:
    done = bring(
        engine,
        facility("A", *INSIDE[YUZHONG], load_kw=300, state_at_import="down"),
        facility("B", *INSIDE[NANAN], load_kw=100),
    )
    assert (done.created, done.edited, done.unchanged, done.applied) == (2, 0, 0, 0)
    assert done.sequence is not None
    assert stored(engine, "A").adcode == YUZHONG
    assert totals(engine) == {
        (YUZHONG, "substation"): (1, 1, 300),
        (NANAN, "substation"): (1, 0, 100),
    }


def test_the_same_again_changes_nothing_and_takes_no_sequence(engine: Engine) -> None:
    row = facility("A", *INSIDE[YUZHONG])
    bring(engine, row)
    again = bring(engine, row)
    assert (again.created, again.edited, again.unchanged, again.sequence) == (0, 0, 1, None)
    assert stored(engine, "A").version == 1


def test_an_edit_keeps_the_version_before_it_and_moves_the_counts(engine: Engine) -> None:
    bring(engine, facility("A", *INSIDE[YUZHONG], load_kw=300))
    report(engine, "A", "down", ago(minutes=10))
    lon, lat = INSIDE[NANAN]
    done = bring(engine, facility("A", lon, lat, load_kw=200))
    assert (done.created, done.edited) == (0, 1)
    now = stored(engine, "A")
    assert (now.version, now.adcode, now.load_kw, now.state) == (2, NANAN, 200, "down")
    assert totals(engine) == {(NANAN, "substation"): (1, 1, 200)}
    with reading(engine) as connection:
        past = connection.execute(
            text(
                "SELECT version, load_kw, adcode, valid_to FROM facility_past WHERE facility_id = 'A'"
            )
        ).one()
    assert (past.version, past.load_kw, past.adcode) == (1, 300, YUZHONG)
    assert past.valid_to == now.valid_from


def test_a_retired_facility_is_not_counted_but_its_history_stays(engine: Engine) -> None:
    bring(
        engine,
        facility("A", *INSIDE[YUZHONG], load_kw=5),
        facility("B", *INSIDE[YUZHONG], load_kw=7),
    )
    before = sequence(engine)
    assert retire_facilities(engine, ["A", "unheard-of"], account="p", body=b"", reason="gone") == 1
    assert retire_facilities(engine, ["A"], account="p", body=b"", reason="again") == 0
    assert totals(engine) == {(YUZHONG, "substation"): (1, 0, 7)}
    assert not stored(engine, "A").counted
    with reading(engine) as connection:
        then = counters_at(connection, version_at(connection).id, before, datetime.now(UTC))
    assert then["total"].sum() == 2


def test_a_retired_facility_comes_back_when_it_is_imported_again(engine: Engine) -> None:
    row = facility("A", *INSIDE[YUZHONG], load_kw=5)
    bring(engine, row)
    retire_facilities(engine, ["A"], account="p", body=b"", reason="gone")
    assert bring(engine, row).edited == 1
    assert stored(engine, "A").retired_at is None
    assert totals(engine) == {(YUZHONG, "substation"): (1, 0, 5)}


def test_a_place_outside_all_districts_is_kept_as_outside(engine: Engine) -> None:
    bring(engine, facility("FAR", *CHENGDU, kind="power_plant"))
    row = stored(engine, "FAR")
    assert row.adcode is None
    assert totals(engine) == {(None, "power_plant"): (1, 0, 0)}


def test_a_facility_has_the_district_of_each_version(engine: Engine) -> None:
    bring(engine, facility("Y", *IN_OLD_YUBEI), valid_from=IN_2020)
    with reading(engine) as connection:
        known = {v.id: v.label for v in versions(connection)}
        rows = connection.execute(
            text("SELECT version_id, adcode FROM facility_division WHERE facility_id = 'Y'")
        ).all()
    assert {known[v]: adcode for v, adcode in rows} == {
        "before-2025-11-06": "500112",
        "since-2025-11-06": LIANGJIANG,
    }


def test_a_backdated_inventory_counts_from_the_day_it_was_in_force(engine: Engine) -> None:
    bring(engine, facility("A", *INSIDE[YUZHONG], load_kw=9), valid_from=IN_2020)
    bring(engine, facility("B", *INSIDE[YUZHONG], load_kw=4))
    with reading(engine) as connection:
        for at, expected in (
            (IN_2020 - timedelta(days=1), 0),
            (IN_2020 + timedelta(days=1), 9),
            (datetime.now(UTC), 13),
        ):
            version = version_at(connection, max(at, datetime(2019, 1, 1, tzinfo=UTC)))
            frame = counters_at(connection, version.id, sequence_at(connection, at), at)
            assert frame["load_kw"].sum() == expected


def test_an_inventory_from_the_future_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="future"):
        bring(
            engine,
            facility("A", *INSIDE[YUZHONG]),
            valid_from=datetime.now(UTC) + timedelta(hours=1),
        )
    assert totals(engine) == {}


def test_a_unit_no_version_knows_is_refused_and_nothing_is_stored(engine: Engine) -> None:
    with pytest.raises(InvalidInput) as raised:
        bring(engine, facility("A", *INSIDE[YUZHONG]), facility("B", *INSIDE[NANAN], unit="Z-NONE"))
    assert [(fault.row, fault.field) for fault in raised.value.faults] == [(2, "unit")]
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM facility")).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM batch")).scalar_one() == 0


def test_an_event_that_waited_is_applied_when_its_facility_arrives(engine: Engine) -> None:
    assert report(engine, "LATE", "down", ago(minutes=5), operators=("grid",)).accepted == 1
    assert report(engine, "LATE", "degraded", ago(minutes=9), operators=("grid",)).accepted == 1
    done = bring(engine, facility("LATE", *INSIDE[YUZHONG], load_kw=3))
    assert done.applied == 1
    assert stored(engine, "LATE").state == "down"
    assert totals(engine) == {(YUZHONG, "substation"): (1, 1, 3)}


def test_an_event_of_a_stranger_that_waited_is_not_applied(engine: Engine) -> None:
    report(engine, "LATE", "down", ago(minutes=5), operators=("rival",))
    assert bring(engine, facility("LATE", *INSIDE[YUZHONG])).applied == 0
    assert stored(engine, "LATE").state == "up"


@pytest.mark.parametrize(
    "name", ["渝中 1 站", "a,b", 'say "hi"', "back\\slash", "\\N", "it's", "𠮷", "NaN", "null", " "]
)
def test_any_printable_name_comes_back_as_it_was(engine: Engine, name: str) -> None:
    bring(engine, facility("A", *INSIDE[YUZHONG], name=name, attributes='{"fuel": "煤"}'))
    row = stored(engine, "A")
    assert (row.name, row.attributes) == (name, {"fuel": "煤"})
    assert (row.unit, row.rescue_code, row.feeds_from, row.battery_hours) == (
        None,
        None,
        None,
        None,
    )


def sequence(engine: Engine) -> int:
    with reading(engine) as connection:
        return sequence_at(connection, None)
