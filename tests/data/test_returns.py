"""Operators' returns: good rows taken, bad ones listed, the newest applicable one in force."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import openpyxl
import pytest
from sqlalchemy import Engine, text

from data.database import Scope, app_engine, reading, sequence_at
from data.readers.return_table import read_return_table
from data.returns import list_returns, returns_at, store_heartbeat, store_return
from data.status import Receipt
from geo.errors import InvalidInput, NotAllowed, NotFound, TooLarge
from tests.feeds import (
    INSIDE,
    NANAN,
    SHAPINGBA,
    YUZHONG,
    ago,
    facility,
    load_facilities,
)


@pytest.fixture(scope="module")
def engine(shared_divided_url: str) -> Any:
    made = app_engine(shared_divided_url)
    load_facilities(
        made, [facility("B1", *INSIDE[YUZHONG], kind="base_station", operator="mobile")]
    )
    yield made
    made.dispose()


def a_return(return_id: str, rows: Any = None, /, **head: Any) -> dict[str, Any]:
    base = {
        "return_id": return_id,
        "operator": return_id,
        "kind": "base_station",
        "as_of": ago(minutes=5),
        "rows": rows if rows is not None else [{"adcode": YUZHONG, "total": 10, "down": 4}],
    }
    return base | head


def send(engine: Engine, submitted: Any, **options: Any) -> Receipt:
    body = json.dumps(submitted).encode()
    return store_return(engine, submitted, body=body, account="utility", **options)


def in_force(engine: Engine, operator: str) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        found = returns_at(connection, sequence_at(connection, None))
    return [r for r in found if r["operator"] == operator]


def test_good_rows_are_taken_and_bad_ones_listed_with_their_row(engine: Engine) -> None:
    rows = [
        {"adcode": YUZHONG, "total": 10, "down": 4, "causes": {"power": 3}},
        {"adcode": NANAN, "total": 10, "down": 11},
        {"adcode": "999999", "total": 1, "down": 0},
        {
            "unit": SHAPINGBA,
            "total": 5,
            "down": 1,
            "unknown": 2,
            "customers": 9,
            "customers_out": 9,
        },
        {"adcode": "500104", "total": 3, "down": -1},
        "nothing",
    ]
    receipt = send(engine, a_return("mixed", rows))
    assert (receipt.accepted, receipt.duplicates) == (2, 0)
    assert [f.row for f in receipt.rejected] == [2, 3, 5, 6]
    assert receipt.sequence > 0
    stored = in_force(engine, "mixed")[0]["rows"]
    assert [r["code"] for r in stored] == [YUZHONG, SHAPINGBA]
    assert stored[0]["causes"] == {
        "power": 3,
        "damage": 0,
        "transport": 0,
        "other": 0,
        "unknown": 1,
    }
    assert stored[1]["unknown"] == 2


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"total": 1, "down": 0}, "adcode"),
        ({"adcode": YUZHONG, "unit": YUZHONG, "total": 1, "down": 0}, "adcode"),
        ({"adcode": YUZHONG, "down": 0}, "total"),
        ({"adcode": YUZHONG, "total": 1.5, "down": 0}, "total"),
        ({"adcode": YUZHONG, "total": 1, "down": True}, "down"),
        ({"adcode": YUZHONG, "total": 2, "down": 1, "unknown": 2}, "unknown"),
        ({"adcode": YUZHONG, "total": 9, "down": 2, "causes": {"power": 3}}, "causes"),
        ({"adcode": YUZHONG, "total": 9, "down": 2, "causes": {"rats": 1}}, "causes"),
        ({"adcode": YUZHONG, "total": 9, "down": 2, "causes": [1]}, "causes"),
        (
            {"adcode": YUZHONG, "total": 9, "down": 2, "load_kw": 1, "load_shed_kw": 2},
            "load_shed_kw",
        ),
        ({"adcode": YUZHONG, "total": 9, "down": 2, "customers_out": -2}, "customers_out"),
    ],
)
def test_an_impossible_row_is_rejected_by_the_field_at_fault(
    engine: Engine, row: dict[str, Any], field: str
) -> None:
    receipt = send(engine, a_return("impossible", [row]))
    assert (receipt.accepted, len(receipt.rejected)) == (0, 1)
    assert (receipt.rejected[0].row, receipt.rejected[0].field) == (1, field)
    assert in_force(engine, "impossible") == []


def test_a_district_listed_twice_is_rejected_in_both_rows_naming_the_other(engine: Engine) -> None:
    row = {"total": 1, "down": 0}
    rows = [{"adcode": YUZHONG, **row}, {"adcode": NANAN, **row}, {"unit": YUZHONG, **row}]
    receipt = send(engine, a_return("twice", rows))
    assert receipt.accepted == 1
    assert [(f.row, f.reason.rsplit(" ", 1)[1]) for f in receipt.rejected] == [(1, "3"), (3, "1")]


def test_the_divisions_are_those_of_the_returns_own_time(engine: Engine) -> None:
    rows = [
        {"adcode": "500112", "total": 1, "down": 0},
        {"adcode": "500157", "total": 1, "down": 0},
    ]
    then = send(engine, a_return("then", rows, as_of="2025-06-01T00:00:00+08:00"))
    assert [f.row for f in then.rejected] == [2]
    now = send(engine, a_return("now", rows))
    assert [f.row for f in now.rejected] == [1]
    with pytest.raises(InvalidInput) as refused:
        send(engine, a_return("long-ago", as_of="2010-01-01T00:00:00Z"))
    assert refused.value.faults[0].field == "as_of"


def test_the_same_again_is_a_duplicate_and_another_body_a_conflict(engine: Engine) -> None:
    submitted = a_return("repeat")
    assert send(engine, submitted).accepted == 1
    again = send(engine, dict(reversed(submitted.items())))
    assert (again.accepted, again.duplicates, again.rejected) == (0, 1, [])
    other = submitted | {"rows": [{"adcode": YUZHONG, "total": 10, "down": 0}]}
    refused = send(engine, other)
    assert (refused.accepted, refused.duplicates) == (0, 0)
    assert refused.rejected[0].reason.startswith("conflict")
    assert in_force(engine, "repeat")[0]["rows"][0]["down"] == 4


def test_one_return_sent_by_many_threads_is_stored_once(engine: Engine) -> None:
    submitted = a_return("race")
    with ThreadPoolExecutor(10) as pool:
        found = [f.result() for f in [pool.submit(send, engine, submitted) for _ in range(30)]]
    assert sum(r.accepted for r in found) == 1
    assert sum(r.duplicates for r in found) == 29


def test_the_newest_as_of_is_in_force_then_the_greater_id(engine: Engine) -> None:
    same = ago(minutes=3)
    for return_id, as_of, down in (("n-b", same, 2), ("n-a", same, 1), ("n-0", ago(minutes=9), 3)):
        rows = [{"adcode": YUZHONG, "total": 9, "down": down}]
        send(engine, a_return(return_id, rows, operator="newest", as_of=as_of))
    assert [r["return_id"] for r in in_force(engine, "newest")] == ["n-b"]


def test_a_return_from_the_future_is_kept_and_never_applied(engine: Engine) -> None:
    send(engine, a_return("f-1", operator="ahead"))
    receipt = send(engine, a_return("f-2", operator="ahead", as_of=ago(minutes=-30)))
    assert receipt.accepted == 1
    assert [r["return_id"] for r in in_force(engine, "ahead")] == ["f-1"]
    with reading(engine) as connection:
        seen = connection.execute(
            text("SELECT observed_at FROM source_report WHERE operator = 'ahead' ORDER BY batch_id")
        ).scalars()
        assert [one is None for one in seen] == [False, True]


def test_at_answers_with_the_return_known_then(engine: Engine) -> None:
    send(engine, a_return("at-1", operator="at", as_of=ago(minutes=9)))
    with reading(engine) as connection:
        then: datetime = connection.execute(
            text("SELECT max(received_at) FROM change")
        ).scalar_one()
    send(engine, a_return("at-2", operator="at", as_of=ago(minutes=2)))
    known = [r["return_id"] for r in list_returns(engine, then) if r["operator"] == "at"]
    assert known == ["at-1"]


@pytest.mark.parametrize(
    ("head", "field"),
    [
        ({"return_id": " "}, "return_id"),
        ({"operator": None}, "operator"),
        ({"kind": 3}, "kind"),
        ({"as_of": "2026-11-21 08:00"}, "as_of"),
        ({"rows": []}, "rows"),
        ({"rows": {"adcode": YUZHONG}}, "rows"),
        ({"rows": [0] * 5001}, "rows"),
    ],
)
def test_a_wrong_head_refuses_the_whole(engine: Engine, head: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        send(engine, a_return("head") | head)
    assert [f.field for f in refused.value.faults] == [field]


def test_an_account_speaks_only_for_its_own_operators(engine: Engine) -> None:
    with pytest.raises(NotAllowed):
        send(engine, a_return("foreign", operator="rival"), operators=["mobile"])
    assert send(engine, a_return("own", operator="mobile"), operators=["mobile"]).accepted == 1


def test_whole_numbers_without_a_canonical_form_are_refused(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="canonical"):
        send(engine, a_return("big", [{"adcode": YUZHONG, "total": 2**60, "down": 0}]))


def test_a_heartbeat_is_heard_for_every_kind_of_the_operator(engine: Engine) -> None:
    send(engine, a_return("beat", operator="returns-only", kind="exchange"))
    answer = store_heartbeat(engine, operator="returns-only", body=b"{}", account="utility")
    assert answer["operators"] == ["returns-only"]
    everyone = store_heartbeat(engine, operator=None, body=b"", account="utility")
    assert {"mobile", "returns-only"} <= set(everyone["operators"])
    assert everyone["sequence"] > answer["sequence"]
    with pytest.raises(NotFound):
        store_heartbeat(engine, operator="nobody", body=b"{}", account="utility")
    with pytest.raises(NotAllowed):
        store_heartbeat(engine, operator="mobile", body=b"", account="u", operators=["other"])


# --- tables -----------------------------------------------------------------------------------

CSV = "adcode,total,down,unknown,power,causes.transport,load_kw\n500103,10,4,1,2,1,500\n\n500108,x,0,,,,\n"


def test_a_csv_says_what_the_json_would_and_rows_keep_their_numbers(engine: Engine) -> None:
    head = {"return_id": "csv", "operator": "csv", "kind": "exchange", "as_of": ago(minutes=1)}
    table = read_return_table(CSV.encode("utf-8-sig"), head)
    assert table.body["rows"][0] == {
        **{"adcode": "500103", "total": 10, "down": 4, "unknown": 1, "load_kw": 500},
        "causes": {"power": 2, "transport": 1},
    }
    receipt = send(engine, table.body, row_numbers=table.row_numbers)
    assert receipt.accepted == 1
    assert [(f.row, f.field) for f in receipt.rejected] == [(3, "total")]


def test_an_xlsx_may_carry_its_head_in_columns(engine: Engine) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    as_of = ago(minutes=1)
    sheet.append(["return_id", "operator", "kind", "as_of", "adcode", "total", "down"])
    sheet.append(["xlsx", "xlsx", "exchange", as_of, 500103, 10, 4])
    sheet.append(["xlsx", "xlsx", "exchange", as_of, 500108, 7, 0])
    file = io.BytesIO()
    book.save(file)
    table = read_return_table(file.getvalue(), {})
    assert table.body["rows"][0] == {"adcode": "500103", "total": 10, "down": 4}
    assert send(engine, table.body, row_numbers=table.row_numbers).accepted == 2


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", InvalidInput),
        (b"a,b\n1,2\n", InvalidInput),
        (b"adcode,total,down,operator\n500103,1,0,x\n500108,1,0,y\n", InvalidInput),
        (b"PK\x03\x04 not a zip", InvalidInput),
        (b"\xff\xfe\x00", InvalidInput),
        (b"adcode,total,down\n" + b"500103,1,0\n" * 5001, TooLarge),
    ],
)
def test_what_is_no_return_is_refused(data: bytes, error: type[InvalidInput]) -> None:
    with pytest.raises(error):
        read_return_table(data, {})


def test_an_account_held_to_operators_reads_their_returns_alone(engine: Engine) -> None:
    for name in ("held-own", "held-other"):
        assert send(engine, a_return(name)).accepted == 1
    everyone = {r["operator"] for r in list_returns(engine)}
    assert everyone >= {"held-own", "held-other"}
    assert [r["operator"] for r in list_returns(engine, None, Scope(operators=("held-own",)))] == [
        "held-own"
    ]
    assert list_returns(engine, None, Scope(operators=())) == []
