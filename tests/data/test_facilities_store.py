"""What an import may not do, who may do it, and how versions follow each other."""

from __future__ import annotations

import itertools
import threading
from datetime import datetime
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from data.database import app_engine, migrate, owner_engine, reading, sequence_at, writing
from data.divisions import version_at
from data.facilities import COLUMNS, import_facilities, retire_facilities
from data.power import power_known
from data.status import INVENTORY_LOCK
from geo.errors import InvalidInput
from tests.data.stored import assert_verified, at, bring, event, inventory, send, stored_state
from tests.feeds import INSIDE, NANAN, YUZHONG, facility, load_divisions


def lift(facility_id: str, code: str | None, **more: Any) -> dict[str, Any]:
    row = facility(facility_id, *INSIDE[YUZHONG], kind="special_equipment", rescue_code=code)
    return row | more


def codes(engine: Engine) -> dict[str, str | None]:
    with reading(engine) as connection:
        rows = connection.execute(text("SELECT facility_id, rescue_code FROM facility"))
        return {row.facility_id: row.rescue_code for row in rows}


def test_a_code_of_another_lift_is_refused_by_row_and_field_and_nothing_is_stored(
    divided: Engine,
) -> None:
    bring(divided, lift("L1", "100001"), lift("L2", "100002"))
    with pytest.raises(InvalidInput) as refused:
        bring(
            divided,
            lift("L3", "100003"),
            lift("L4", "100002"),
            lift("L5", "100001"),
            lift("L6", "100006"),
        )
    assert [(f.row, f.field) for f in refused.value.faults] == [
        (2, "rescue_code"),
        (3, "rescue_code"),
    ]
    assert "100002 is the code of facility L2" in refused.value.faults[0].reason
    assert codes(divided) == {"L1": "100001", "L2": "100002"}


def test_rows_left_of_a_file_keep_their_numbers(divided: Engine) -> None:
    bring(divided, lift("L1", "100001"))
    rows = [lift("L7", "100007"), lift("L8", "100001"), lift("L9", None, unit="nowhere")]
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "lon", "lat"], index=[4, 9, 12])
    for count, row, name in ((2, 9, "rescue_code"), (3, 12, "unit")):
        with pytest.raises(InvalidInput) as refused:
            import_facilities(divided, frame[:count], account="planner", body=b"x")
        assert [(f.row, f.field) for f in refused.value.faults] == [(row, name)]


@pytest.mark.parametrize("name", ["facility_id", "rescue_code"])
def test_what_stands_twice_in_one_import_is_named(divided: Engine, name: str) -> None:
    rows = [lift("L1", "100001"), lift("L2", None), lift("L3", None), lift("L4", "100004")]
    rows[3][name] = rows[0][name]
    with pytest.raises(InvalidInput) as refused:
        bring(divided, *rows)
    assert [(f.row, f.field) for f in refused.value.faults] == [(4, name)]


def test_lifts_may_exchange_codes_and_hand_them_on(divided: Engine) -> None:
    bring(divided, lift("L1", "100001"), lift("L2", "100002"), lift("L3", "100003"))
    bring(divided, lift("L1", "100002"), lift("L2", "100003"), lift("L3", "100001"))
    assert codes(divided) == {"L1": "100002", "L2": "100003", "L3": "100001"}
    bring(divided, lift("L4", "100001"), lift("L3", None))
    assert codes(divided)["L4"] == "100001"
    retire_facilities(divided, ["L4"], account="planner", body=b"r", reason="replaced")
    bring(divided, lift("L5", "100001"))
    with pytest.raises(InvalidInput, match="code of facility L5"):
        bring(divided, lift("L4", "100001"))
    bring(divided, lift("L4", None))
    assert_verified(divided)


def test_an_import_needs_no_right_that_a_careful_server_takes_from_everyone(
    bare_database_url: str,
) -> None:
    migrate(bare_database_url)
    load_divisions(bare_database_url)
    owner = owner_engine(bare_database_url)
    with owner.begin() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC"))
        connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    owner.dispose()
    engine = app_engine(bare_database_url)
    assert bring(engine, *inventory(5)).created == 5
    assert_verified(engine)
    engine.dispose()


def test_what_was_retired_and_returned_is_past_once(divided: Engine) -> None:
    row = facility("A", *INSIDE[YUZHONG], load_kw=100)
    bring(divided, row)
    then = now(divided)
    retire_facilities(divided, ["A"], account="planner", body=b"r", reason="test")
    gone = now(divided)
    bring(divided, row)
    back = now(divided)
    with reading(divided) as connection:
        past = connection.execute(text("SELECT version, valid_from, valid_to FROM facility_past"))
        assert [p.version for p in past] == [1]
        version = version_at(connection).id
        loads = []
        for moment in (then, gone, back):
            known = power_known(
                connection,
                version_id=version,
                kinds=("substation",),
                sequence=sequence_at(connection, moment),
                at=moment,
                now=moment,
                outages=[],
            )
            loads.append(sum(s.load_kw for s in known.supply.values()))
    assert loads == [100, 0, 100]
    assert_verified(divided)


def now(engine: Engine) -> datetime:
    with engine.connect() as connection:
        found: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return found


def test_versions_follow_each_other_in_time_however_long_an_import_waited(
    divided: Engine,
) -> None:
    """Two edits wait for the lock; the one that opened its batch last may be let in first."""
    bring(divided, facility("A", *INSIDE[YUZHONG], load_kw=0))
    with writing(divided, channel="test", account="t", body=b"") as holding:
        holding.connection.execute(text(f"SELECT pg_advisory_xact_lock({INVENTORY_LOCK})"))
        waiting = [
            threading.Thread(
                target=bring, args=(divided, facility("A", *INSIDE[NANAN], load_kw=1 + i))
            )
            for i in range(4)
        ]
        for one in waiting:
            one.start()
    for one in waiting:
        one.join()
    with reading(divided) as connection:
        rows = connection.execute(
            text(
                "SELECT version, valid_from, valid_to, received_at FROM facility_past"
                " JOIN change ON change.batch_id = replaced_by"
                " UNION ALL SELECT version, valid_from, NULL, NULL FROM facility ORDER BY 1"
            )
        ).all()
    assert [r.version for r in rows] == [1, 2, 3, 4, 5]
    for earlier, later in itertools.pairwise(rows):
        assert earlier.valid_from < earlier.valid_to == later.valid_from <= earlier.received_at
    assert_verified(divided)


def test_an_edit_keeps_the_state_and_a_move_takes_it_along(divided: Engine) -> None:
    bring(divided, facility("A", *INSIDE[YUZHONG]))
    send(divided, event("e1", "A", "down", at(5)))
    bring(divided, facility("A", *INSIDE[NANAN], state_at_import="up", operator="tower"))
    assert stored_state(divided, "A") == ("down", "e1")
    assert_verified(divided)
