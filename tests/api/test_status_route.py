"""Status events over HTTP: NDJSON and arrays, good rows taken, bad ones listed, operators' scope."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from data import check_records
from data.accounts import create_account
from data.cluster import Cluster
from data.database import app_engine
from tests.api.conftest import assert_problem
from tests.conftest import drop_database
from tests.feeds import INSIDE, YUZHONG, ago, facility, load_facilities

Key = Callable[[str], dict[str, str]]
URL = "/v1/status"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def database_url(
    cluster: Cluster, make_database: Callable[[str | None], str], divided_template: str
) -> Iterator[str]:
    url = make_database(divided_template)
    engine = app_engine(url)
    place = INSIDE[YUZHONG]
    rows = [facility(f"M{i}", *place, kind="base_station", operator="mobile") for i in range(4)]
    rows += [facility(f"T{i}", *place, kind="base_station", operator="telecom") for i in range(2)]
    load_facilities(engine, rows)
    engine.dispose()
    yield url
    drop_database(cluster, url)


@pytest.fixture(scope="module")
def mobile(owner: Engine, server: str) -> dict[str, str]:
    """The key of an account that speaks for one operator."""
    with owner.begin() as connection:
        made = create_account(connection, "mobile", "utility", ("*",), ("mobile",))
    time.sleep(1.2)  # the account book is at most a second old
    return {"X-API-Key": made.api_key}


def event(facility_id: str = "M0", state: str = "down", **more: Any) -> dict[str, Any]:
    fresh = {"event_id": str(uuid.uuid4()), "observed_at": ago(seconds=5)}
    return {"facility_id": facility_id, "state": state} | fresh | more


def lines(*events: Any) -> bytes:
    return b"".join(json.dumps(e, ensure_ascii=False).encode() + b"\n" for e in events)


def state(owner: Engine, facility_id: str) -> str:
    with owner.connect() as connection:
        return str(
            connection.execute(
                text("SELECT state FROM facility_state JOIN facility ON pk = facility_pk WHERE facility_id = :f"),
                {"f": facility_id},
            ).scalar_one()
        )  # fmt: skip


@pytest.mark.parametrize("form", ["array", "ndjson", "ndjson unnamed", "array unnamed", "one", "crlf"])  # fmt: skip
def test_events_come_as_an_array_or_one_a_line(
    client: httpx.Client, key: Key, owner: Engine, form: str
) -> None:
    # each form speaks of a later time, so that its word is the newest
    events = [
        event("M0", "down", observed_at=ago(seconds=0)),
        event("M1", "degraded", observed_at=ago(seconds=0), cause="power"),
    ]
    send = {
        "array": (json.dumps(events).encode(), {"Content-Type": "application/json"}),
        "ndjson": (lines(*events), NDJSON),
        "ndjson unnamed": (lines(*events), {}),
        "array unnamed": (b"  \n" + json.dumps(events).encode(), {}),
        "one": (json.dumps(events[0]).encode(), {"Content-Type": "application/json; charset=utf-8"}),
        "crlf": (lines(*events).replace(b"\n", b"\r\n") + b"\r\n", NDJSON),
    }  # fmt: skip
    body, headers = send[form]
    answer = client.post(URL, content=body, headers=key("utility") | headers)
    assert answer.status_code == 200, answer.text
    expected = 1 if form == "one" else 2
    receipt = answer.json()
    assert set(receipt) == {"accepted", "duplicates", "rejected", "sequence"}
    assert (receipt["accepted"], receipt["duplicates"], receipt["rejected"]) == (expected, 0, [])
    assert state(owner, "M0") == "down"
    again = client.post(URL, content=body, headers=key("utility") | headers).json()
    assert (again["accepted"], again["duplicates"]) == (0, expected)
    assert again["sequence"] == receipt["sequence"]
    client.post(URL, json=[event("M0", "up", observed_at=ago(seconds=0))], headers=key("utility"))


def test_good_rows_are_taken_and_bad_ones_listed_by_number(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    known = event("M2", "down")
    rows: list[Any] = [
        known,
        event("M3", "broken"),
        event("M3", "down", observed_at="yesterday"),
        event("", "down"),
        known | {"state": "up"},
        {"facility_id": "M3"},
        7,
        event("M3", "down", cause=5),
        event("M3", "degraded"),
        event("NOT-YET", "down"),
        event("M3", "down", observed_at="2026-11-21T08:00:00"),
    ]
    for body, headers in ((json.dumps(rows).encode(), {"Content-Type": "application/json"}), (lines(*rows), NDJSON)):  # fmt: skip
        receipt = client.post(URL, content=body, headers=key("utility") | headers).json()
        assert receipt["accepted"] + receipt["duplicates"] == 3
        assert [r["row"] for r in receipt["rejected"]] == [2, 3, 4, 5, 6, 7, 8, 11]
        assert all(r["reason"] for r in receipt["rejected"])
        assert "conflict" in receipt["rejected"][3]["reason"]
    assert (state(owner, "M2"), state(owner, "M3")) == ("down", "degraded")


def test_a_line_that_cannot_be_read_costs_no_other_line(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    first, last = event("M2", "degraded"), event("M3", "down", observed_at=ago(seconds=0))
    body = lines(first) + b'{"event_id": "cut-o\n\n' + b'{"a": 1, "a": 2}\n' + lines(last)
    receipt = client.post(URL, content=body, headers=key("utility") | NDJSON).json()
    assert receipt["accepted"] == 2
    assert [r["row"] for r in receipt["rejected"]] == [2, 3]
    assert all(r["reason"] for r in receipt["rejected"])
    assert state(owner, "M3") == "down"
    again = client.post(URL, content=body, headers=key("utility") | NDJSON).json()
    assert (again["accepted"], again["duplicates"], len(again["rejected"])) == (0, 2, 2)
    with owner.connect() as connection:
        for check in (check_records.events(connection), check_records.submissions(connection)):
            assert (check.wrong, check.examples) == (0, [])


def test_a_body_of_which_no_line_can_be_read_is_refused_whole(
    client: httpx.Client, key: Key
) -> None:
    answer = client.post(URL, content=b"{\n[1\n", headers=key("utility") | NDJSON)
    assert [fault["row"] for fault in assert_problem(answer, 422)["errors"]] == [1, 2]


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"{}{}", b"null", b'"x"', b"\xff\xfe", b'[{"event_id": NaN}]', b'{"a":1,"a":2}\n', b"[1]\n[2]"],
)  # fmt: skip
def test_what_is_no_list_of_events_never_is_a_500(
    client: httpx.Client, key: Key, body: bytes
) -> None:
    for headers in ({"Content-Type": "application/json"}, NDJSON, {}):
        answer = client.post(URL, content=body, headers=key("utility") | headers)
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 200:
            assert answer.json()["accepted"] == 0
        else:
            assert_problem(answer, 422)


def test_an_empty_array_says_that_one_is_alive(client: httpx.Client, key: Key, owner: Engine) -> None:  # fmt: skip
    before = client.post(URL, json=[event("M0", "up")], headers=key("utility")).json()["sequence"]
    receipt = client.post(URL, json=[], headers=key("utility")).json()
    assert receipt == {"accepted": 0, "duplicates": 0, "rejected": [], "sequence": before + 1}
    with owner.connect() as connection:
        kind = connection.execute(text("SELECT kind FROM change ORDER BY sequence DESC LIMIT 1"))
        assert kind.scalar_one() == "heartbeat"


def test_other_operators_facilities_are_rejected_and_nothing_of_them_is_changed(
    client: httpx.Client, mobile: dict[str, str], owner: Engine
) -> None:
    newest = event("M0", "degraded", observed_at=ago(seconds=0))
    rows = [event("T0", "down"), newest, event("T1", "down")]
    receipt = client.post(URL, json=rows, headers=mobile).json()
    assert receipt["accepted"] == 1
    assert [r["row"] for r in receipt["rejected"]] == [1, 3]
    assert {r["reason"] for r in receipt["rejected"]} == {"该设施属于其他运营企业"}  # fmt: skip
    assert (state(owner, "T0"), state(owner, "M0")) == ("up", "degraded")
    # the id was not used up: its owner may still send it
    assert client.post(URL, json=rows[:1], headers=mobile).json()["accepted"] == 0


@pytest.mark.parametrize("name", ["viewer", "field", "planner", "commander", "admin"])
def test_only_a_utility_sends_status(client: httpx.Client, key: Key, name: str) -> None:
    assert_problem(client.post(URL, json=[event()], headers=key(name)), 403)
    assert_problem(client.post(URL, json=[event()]), 401)


def test_a_write_is_durable_and_numbered_before_it_is_answered(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    sequences = []
    for _ in range(5):
        receipt = client.post(URL, json=[event("M1", "up")], headers=key("utility")).json()
        with owner.connect() as connection:
            newest = connection.execute(text("SELECT max(sequence) FROM change")).scalar_one()
        assert newest >= receipt["sequence"]
        sequences.append(receipt["sequence"])
    assert sequences == sorted(set(sequences))
