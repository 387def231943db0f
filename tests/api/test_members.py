"""Members nothing is read from are said in every receipt, and a slip of the pen in a needed one is
named; accepted rows that are not applied are listed by number."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.members import NAME_CHARACTERS_SHOWN, NAMES_LISTED, named_meant, unread
from api.routes import incidents, outages, returns, status
from data.database import app_engine
from data.fields import Fields
from data.incident_report import read_incident
from data.outage_feature import read_outage
from data.returns import _read_row, read_return
from data.rulepacks import load_packs
from data.times import parse_time
from geo.errors import Fault, InvalidInput
from tests.api.conftest import assert_problem
from tests.feeds import INSIDE, YUZHONG, ago, facility, load_facilities

Key = Callable[[str], dict[str, str]]
EN = {"Accept-Language": "en"}


@pytest.fixture(scope="module", autouse=True)
def _inventory(database_url: str) -> None:
    engine = app_engine(database_url)
    load_facilities(engine, [facility("M0", *INSIDE[YUZHONG], load_kw=10)])
    engine.dispose()


def event(**more: Any) -> dict[str, Any]:
    fresh = {"event_id": str(uuid.uuid4()), "observed_at": ago(seconds=5)}
    return {"facility_id": "M0", "state": "up"} | fresh | more


# --- status ---------------------------------------------------------------------------------------


def test_a_status_receipt_lists_what_was_not_read_once_each_and_takes_the_event(
    client: httpx.Client, key: Key
) -> None:
    events = [event(stat="x", note=1), event(note={"state": "down"}), event()]
    for sent in (
        {"json": events},
        {"content": b"\n".join(json.dumps(e).encode() for e in events)},
    ):
        receipt = client.post("/v1/status", **sent, headers=key("utility")).json()  # type: ignore[arg-type]
        assert receipt["accepted"] + receipt["duplicates"] == 3
        assert receipt["unread"] == ["stat", "note"]
    plain = client.post("/v1/status", json=[event()], headers=key("utility")).json()
    assert set(plain) == {"accepted", "duplicates", "rejected", "sequence"}


@pytest.mark.parametrize(
    ("member", "slip"),
    [
        ("observed_at", "observedAt"), ("observed_at", "observed-at"), ("observed_at", "timestamp"),
        ("observed_at", "obsereved_at"), ("facility_id", "facilityid"), ("facility_id", "FacilityId"),
        ("state", "staus"), ("state", "status"), ("state", "State"), ("event_id", "eventid"),
    ],
)  # fmt: skip
def test_a_slip_in_a_needed_member_is_named_in_the_reason(
    client: httpx.Client, key: Key, member: str, slip: str
) -> None:
    sent = event()
    sent[slip] = sent.pop(member)
    for language, reason in (
        ("en", f"is missing; {slip} is not read, write {member}"),
        ("zh", f"缺少此项；{slip} 不会被读取，应写作 {member}"),
    ):
        headers = key("utility") | {"Accept-Language": language}
        receipt = client.post("/v1/status", json=[event(), sent], headers=headers).json()
        assert receipt["rejected"] == [{"row": 2, "field": member, "reason": reason}]
        assert receipt["unread"] == [slip]
        assert receipt["accepted"] == 1


@pytest.mark.parametrize("strange", ["colour", "x", "", "\n", "state\n", "é" * 500, "restate_it"])
def test_a_member_that_is_not_near_is_not_suggested(strange: str) -> None:
    given = {strange: "down"}
    fault = Fault("state must be one of up, degraded, down, unknown", 1, "state")
    assert named_meant([fault], [given], status.SCHEMA) == [fault]
    assert unread([given], status.SCHEMA) == [strange[:NAME_CHARACTERS_SHOWN]]


def test_a_member_that_is_there_and_wrong_keeps_its_own_reason() -> None:
    fault = Fault("state must be one of up, degraded, down, unknown", 1, "state")
    given = [{"state": "broken", "status": "down"}]
    assert named_meant([fault], given, status.SCHEMA) == [fault]


@pytest.mark.parametrize("value", [None, 5, "x", [], [5, None, [1]], {"a": [{"b": 1}]}])
def test_what_is_no_event_has_no_members(value: Any) -> None:
    assert unread(value, status.SCHEMA) == []
    assert named_meant([Fault("wrong", 9, "state"), Fault("wrong")], value, status.SCHEMA)


def test_the_names_listed_are_limited() -> None:
    events = [{f"k{n}": 1} for n in range(10_000)]
    assert unread(events, status.SCHEMA) == [f"k{n}" for n in range(NAMES_LISTED)]


def test_a_million_strange_names_take_no_time() -> None:
    events = [{f"stat{n}_{m}x": 1 for m in range(40)} for n in range(5_000)]
    faults = [Fault("state must be one of up", n + 1, "state") for n in range(5_000)]
    began = time.perf_counter()
    assert len(named_meant(faults, events, status.SCHEMA)) == 5_000
    unread(events, status.SCHEMA)
    assert time.perf_counter() - began < 5
    # the same slip in every event is named in every event
    slips = [{"staus": "down"} for _ in range(20_000)]
    told = named_meant([Fault("", n + 1, "state") for n in range(20_000)], slips, status.SCHEMA)
    assert {fault.reason for fault in told} == {"is missing; staus is not read, write state"}


def test_accepted_events_that_are_not_applied_are_listed_by_row(
    client: httpx.Client, key: Key
) -> None:
    events = [
        event(),
        event(facility_id="NOT-YET"),
        event(observed_at=ago(minutes=-30)),
        event(state="broken"),
        event(facility_id="NOT-YET-2"),
        event(facility_id="NOT-YET", observed_at=ago(minutes=-30)),
    ]
    receipt = client.post("/v1/status", json=events, headers=key("utility")).json()
    assert receipt["accepted"] == 5
    assert (receipt["waiting"], receipt["waiting_rows"]) == (2, [2, 5])
    assert (receipt["future"], receipt["future_rows"]) == (2, [3, 6])


# --- returns, heartbeats --------------------------------------------------------------------------


def a_return(**more: Any) -> dict[str, Any]:
    given = returns.EXAMPLE | {"return_id": str(uuid.uuid4()), "as_of": ago(minutes=1)}
    return given | more


def test_a_return_says_what_it_did_not_read_in_its_head_and_its_rows(
    client: httpx.Client, key: Key
) -> None:
    rows = [
        {"adcode": "500103", "total": 9, "down": 1, "load_kW": 5},
        {"adCode": "500106", "total": 9, "down": 1},
        {"adcode": "500108", "total": 9, "donw": 1},
    ]
    sent = client.post("/v1/returns", json=a_return(rows=rows, note="x"), headers=key("utility") | EN)  # fmt: skip
    assert sent.json()["accepted"] == 1
    assert sent.json()["unread"] == ["rows.load_kW", "rows.adCode", "rows.donw", "note"]
    assert sent.json()["rejected"] == [
        {"row": 2, "field": "adcode", "reason": "is missing; adCode is not read, write adcode"},
        {"row": 3, "field": "down", "reason": "is missing; donw is not read, write down"},
    ]
    head = a_return()
    head["asOf"] = head.pop("as_of")
    refused = client.post("/v1/returns", json=head, headers=key("utility") | EN)
    assert assert_problem(refused, 422)["errors"] == [
        {"row": None, "field": "as_of", "reason": "is missing; asOf is not read, write as_of"}
    ]
    plain = client.post("/v1/returns", json=a_return(), headers=key("utility")).json()
    assert set(plain) == {"accepted", "duplicates", "rejected", "sequence"}


def test_a_table_of_a_return_lists_the_columns_nothing_is_read_from(
    client: httpx.Client, key: Key
) -> None:
    at = ago(minutes=1).replace("+", "%2B")
    url = f"/v1/returns?return_id=T1&operator=telecom&kind=base_station&as_of={at}"
    table = "adcode,total,Down,power,Remark,causes.damage,causes.rain\n500103,9,2,1,x,1,0\n"
    headers = key("utility") | {"Content-Type": "text/csv"}
    sent = client.post(url, content=table.encode(), headers=headers)
    assert sent.status_code == 200, sent.text
    assert (sent.json()["accepted"], sent.json()["unread"]) == (1, ["Remark", "causes.rain"])


def test_a_return_that_speaks_of_the_future_says_so_for_all_its_rows(
    client: httpx.Client, key: Key
) -> None:
    sent = client.post("/v1/returns", json=a_return(as_of=ago(minutes=-30)), headers=key("utility"))
    assert sent.json()["accepted"] == 2
    assert (sent.json()["future"], sent.json()["future_rows"]) == (2, [1, 2])


def test_a_heartbeat_that_would_speak_for_all_by_a_slip_is_refused(
    client: httpx.Client, key: Key
) -> None:
    sent = client.post("/v1/heartbeats", json={"operater": "grid"}, headers=key("utility") | EN)
    assert assert_problem(sent, 422)["errors"] == [
        {
            "row": None,
            "field": "operater",
            "reason": "is not read; the only member is operator",
        }
    ]


# --- outages, incidents ---------------------------------------------------------------------------


def outage(**more: Any) -> dict[str, Any]:
    fresh = {"outage_id": str(uuid.uuid4()), "started_at": ago(hours=1)}
    return {**outages.EXAMPLE, "properties": outages.EXAMPLE["properties"] | fresh | more}


def test_an_outage_says_what_it_did_not_read(client: httpx.Client, key: Key) -> None:
    feature = outage(plannned=True, fid=3) | {"id": 7, "name": "x"}
    for status_code in (201, 200):
        sent = client.post("/v1/outages", json=feature, headers=key("utility"))
        assert sent.status_code == status_code, sent.text
        assert set(sent.json()["unread"]) == {"plannned", "fid", "name"}
    assert "unread" not in client.post("/v1/outages", json=outage(), headers=key("utility")).json()


def test_a_slip_in_an_outage_is_named(client: httpx.Client, key: Key) -> None:
    feature = outage()
    feature["properties"]["startedAt"] = feature["properties"].pop("started_at")
    sent = client.post("/v1/outages", json=feature, headers=key("utility") | EN)
    assert assert_problem(sent, 422)["errors"] == [
        {
            "row": None,
            "field": "started_at",
            "reason": "is missing; startedAt is not read, write started_at",
        }
    ]


def incident(**more: Any) -> dict[str, Any]:
    fresh = {"incident_id": str(uuid.uuid4()), "occurred_at": ago(minutes=20), "facts": {}}
    return incidents.EXAMPLE | fresh | more


def test_an_incident_says_what_it_did_not_read_and_keeps_it(client: httpx.Client, key: Key) -> None:
    body = incident(colour="red", hotline={"order_number": "H-1", "shade": 1})
    sent = client.post("/v1/incidents", json=body, headers=key("field"))
    assert sent.status_code == 201, sent.text
    assert sent.json()["unread"] == ["colour", "hotline.shade"]
    other = client.post("/v1/incidents", json=body | {"colour": "blue"}, headers=key("field"))
    assert other.status_code == 409  # what is not read is still part of the body
    plain = client.post("/v1/incidents", json=incident(), headers=key("field"))
    assert "unread" not in plain.json()


def test_a_slip_in_an_incident_is_named(client: httpx.Client, key: Key) -> None:
    body = incident()
    body["occuredAt"] = body.pop("occurred_at")
    sent = client.post("/v1/incidents", json=body, headers=key("field") | EN)
    assert {
        "row": None,
        "field": "occurred_at",
        "reason": "is missing; occuredAt is not read, write occurred_at",
    } in assert_problem(sent, 422)["errors"]


@pytest.mark.parametrize(
    ("path", "account", "body"),
    [
        ("/v1/plans/special-equipment-2023/assess", "viewer", {"deathz": 1}),
        ("/v1/plans/communications-2024/assess", "viewer", {"districts": [{"adcode": "500103", "downn": 1}]}),
        ("/v1/incidents", "field", {"facts": {"deathz": 1}}),
        ("/v1/regions/query", "viewer", {"adcodes": ["500103"], "att": None}),
    ],
)  # fmt: skip
def test_a_question_and_a_fact_are_refused_rather_than_half_read(
    client: httpx.Client, key: Key, path: str, account: str, body: dict[str, Any]
) -> None:
    sent = incident() | body if path == "/v1/incidents" else body
    assert_problem(client.post(path, json=sent, headers=key(account)), 422)


def test_a_declared_fact_nobody_knows_is_refused(client: httpx.Client, key: Key) -> None:
    body = {"reason": "x", "facts": {"national_respons": "II"}}
    sent = client.put("/v1/plans/communications-2024/facts", json=body, headers=key("commander"))
    assert assert_problem(sent, 422)["errors"][0]["field"] == "facts.national_respons"


# --- the schemas are what is read -----------------------------------------------------------------


def test_every_member_that_is_read_is_in_the_schema_that_openapi_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were one forgotten, it would be told as unread although it is read."""
    asked: set[str] = set()
    taken = Fields.raw

    def note(self: Fields, name: str, *, required: bool = False) -> Any:
        asked.add(self._prefix + name)
        return taken(self, name, required=required)

    monkeypatch.setattr(Fields, "raw", note)

    def members(schema: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for name, inside in schema["properties"].items():
            found |= {prefix + name} | (
                members(inside, f"{prefix}{name}.") if "properties" in inside else set()
            )
        return found

    now = parse_time(ago(seconds=0))
    whole = incident(hotline={"order_number": "1", "caller": {"name": "a"}})
    read_incident(whole, load_packs(), now)
    assert asked == members(incidents.SCHEMA)
    asked.clear()
    with pytest.raises(InvalidInput):
        read_return({})
    assert asked == members(returns.SCHEMA)
    asked.clear()
    _read_row({"adcode": "500103"}, 1, {"adcode": {"500103"}, "unit": set()}, "", [])
    assert asked | {"unit"} == members(returns.ROW_SCHEMA)
    asked.clear()
    read_outage(outage())
    assert asked | {"crs"} == members(outages.SCHEMA["properties"]["properties"])


def test_what_waits_and_what_lies_ahead_is_explained_where_the_api_is_described(
    client: httpx.Client, key: Key
) -> None:
    document = client.get("/openapi.json", headers=key("viewer")).json()
    for path in ("/v1/status", "/v1/returns", "/v1/cot"):
        answer = document["paths"][path]["post"]["responses"]["200"]["content"]
        told = answer["application/json"]["schema"]["properties"]
        for name in ("waiting", "waiting_rows", "future", "future_rows", "unread"):
            assert told[name]["description"]
