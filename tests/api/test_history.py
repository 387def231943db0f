"""Series over HTTP: the past with its own districts, what is refused, who may ask, both languages."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from data.database import app_engine
from data.status import ingest_status
from tests.api.conftest import assert_problem
from tests.feeds import INSIDE, LIANGJIANG, YUZHONG, ago, facility, load_facilities

Key = Callable[[str], dict[str, str]]
PATH = "/v1/history"
COMMS, POWER, SPECIAL = "communications-2024", "power-outage-2021", "special-equipment-2023"
JIANGBEI = "500105"
REFORM = datetime(2025, 11, 5, 16, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def inventory(database_url: str) -> None:
    engine = app_engine(database_url)
    rows = [
        facility(f"B{adcode}-{i}", lon, lat, kind="base_station", operator="mobile")
        for adcode, (lon, lat) in INSIDE.items()
        for i in range(4)
    ]
    load_facilities(engine, rows)
    events = [
        {"event_id": f"e{i}", "facility_id": f"B{YUZHONG}-{i}", "state": "down",
         "observed_at": ago(minutes=1), "cause": "市电中断"}
        for i in range(3)
    ]  # fmt: skip
    ingest_status(engine, events, body=orjson.dumps(events), account="utility")
    engine.dispose()


def read(client: httpx.Client, key: Key, who: str = "viewer", **query: Any) -> dict[str, Any]:
    answer = client.get(PATH, params=query, headers=key(who))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def last(found: dict[str, Any]) -> dict[str, Any]:
    point: dict[str, Any] = found["series"][0]["points"][-1]
    return point


def test_what_is_not_said_is_the_last_day_up_to_now_in_288_steps(
    client: httpx.Client, key: Key
) -> None:
    found = read(client, key, metric="share_down", plan=COMMS)
    begin, end = (datetime.fromisoformat(found[name]) for name in ("from", "to"))
    assert end - begin == timedelta(hours=24)
    assert (found["every_s"], len(found["moments"])) == (300.0, 289)
    assert abs(datetime.now(UTC) - end) < timedelta(seconds=20)
    assert [len(one["points"]) for one in found["series"]] == [289]
    point = last(found)
    assert (point["numerator"], point["denominator"], point["value"]) == (3, 12, 0.25)
    assert found["series"][0]["adcode"] is None
    assert found["kinds"] == ["base_station", "exchange"]
    first = found["series"][0]["points"][0]
    assert (first["value"], first["reason"]) == (None, "no_facility")
    assert found["reasons"]["no_facility"] == "当时没有这类设施"


def test_the_last_point_is_the_situation(client: httpx.Client, key: Key) -> None:
    for plan in (COMMS, POWER, SPECIAL):
        point = last(read(client, key, metric="level", plan=plan, every="12h"))
        then = client.get("/v1/situation", params={"at": point["at"]}, headers=key("viewer"))
        assessment = then.json()["plans"][plan]
        assert (point["value"], point["label"]) == (assessment["level"], assessment["label"])
        assert point["bounds"] == assessment["bounds"]
    causes = last(read(client, key, metric="causes", plan=COMMS, adcode=YUZHONG))
    assert causes["causes"] == {"power": 3, "damage": 0, "transport": 0, "other": 0, "unknown": 0}


def test_before_the_reform_a_series_has_38_districts_and_reconciles_with_the_situation(
    client: httpx.Client, key: Key
) -> None:
    begin = (REFORM - timedelta(hours=2)).isoformat()
    end = (REFORM + timedelta(hours=1)).isoformat()
    query = {"metric": "level", "plan": COMMS, "from": begin, "to": end, "every": "1h"}
    found = read(client, key, adcode="*", **query)
    assert len(found["series"]) == 39  # the 38 of before, and the one that took two's place
    districts = {one["adcode"]: one["points"] for one in found["series"]}
    reasons = {code: [p["reason"] for p in points] for code, points in districts.items()}
    assert reasons[JIANGBEI] == [None, None, "no_district", "no_district"]
    assert reasons[LIANGJIANG] == ["no_district", "no_district", None, None]
    assert {p["value"] for p in districts[LIANGJIANG][:2]} == {None}
    for number, moment in enumerate(found["moments"]):
        then = client.get("/v1/situation", params={"at": moment["at"]}, headers=key("viewer"))
        shown = {row["adcode"]: row["plans"][COMMS] for row in then.json()["districts"]}
        assert len(shown) == (38 if number < 2 else 37)
        told = {c: p[number]["value"] for c, p in districts.items() if not p[number]["reason"]}
        assert told == shown
    one = read(client, key, adcode=JIANGBEI, lang="en", **query)
    assert one["reasons"] == {"no_district": "there was no such district then"}
    assert (one["series"][0]["name"], len(one["series"])) == ("Jiangbei", 1)


def test_before_any_divisions_there_is_a_reason_and_no_zero(client: httpx.Client, key: Key) -> None:
    query = {"from": "2010-01-01T00:00:00Z", "to": "2010-01-02T00:00:00Z", "every": "PT12H"}
    found = read(client, key, metric="share_down", kind="tower", **query)
    assert [p["reason"] for p in found["series"][0]["points"]] == ["no_divisions"] * 3
    assert {p["value"] for p in found["series"][0]["points"]} == {None}


WRONG: dict[str, tuple[dict[str, str], str, str]] = {
    "no metric": ({"plan": COMMS}, "metric", ""),
    "unknown metric": ({"metric": "mood", "plan": COMMS}, "metric", "没有这个指标"),
    "unknown plan": ({"metric": "level", "plan": "flood-2020"}, "plan", "没有这个预案"),
    "level without plan": ({"metric": "level"}, "plan", "哪个预案"),
    "shares of nothing said": ({"metric": "share_down"}, "kind", "哪类设施"),
    "load of another plan": ({"metric": "load_share", "plan": COMMS}, "plan", "不按供电分级"),
    "restored incidents": ({"metric": "restored", "plan": SPECIAL}, "plan", "没有恢复比例"),
    "kind of a level": ({"metric": "level", "plan": COMMS, "kind": "tower"}, "kind", "统计对象"),
    "from after to": (
        {"metric": "load_share", "from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        "from",
        "晚于",
    ),
    "ahead": ({"metric": "load_share", "to": "2999-01-01T00:00:00Z"}, "to", "将来"),
    "no offset": ({"metric": "load_share", "from": "2026-01-01T00:00:00"}, "from", ""),
    "too many points": (
        {"metric": "load_share", "from": "2026-01-01T00:00:00Z", "every": "1s"},
        "every",
        "最多回答 2000 个",
    ),
    "no duration": ({"metric": "load_share", "every": "often"}, "every", "时长"),
    "nothing": ({"metric": "load_share", "every": "PT0S"}, "every", ""),
    "a word": ({"metric": "load_share", "adcode": "北碚区"}, "adcode", "六位数字"),
    "no such district": ({"metric": "load_share", "adcode": "509999"}, "adcode", "509999"),
    "misspelt": ({"metric": "load_share", "adcodes": "500103"}, "adcodes", "没有这个参数"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrongly_asked_is_a_problem_that_names_the_parameter(
    client: httpx.Client, key: Key, case: str
) -> None:
    query, field, words = WRONG[case]
    problem = assert_problem(client.get(PATH, params=query, headers=key("viewer")), 422)
    named = [one for one in problem["errors"] if one["field"] == field]
    assert named, problem
    assert words in named[0]["reason"]


def test_the_step_a_refusal_names_is_enough(client: httpx.Client, key: Key) -> None:
    query = {"metric": "level", "plan": COMMS, "from": "2026-01-01T00:00:00Z"}
    query["to"] = "2026-03-01T00:00:01Z"
    refused = client.get(PATH, params={**query, "every": "7s", "lang": "en"}, headers=key("viewer"))
    reason = assert_problem(refused, 422)["errors"][0]["reason"]
    every = reason.split(": ")[1].split(" ")[0]
    assert len(read(client, key, **query, every=every)["moments"]) <= 2000
    crowd = {**query, "metric": "share_down", "adcode": "*", "every": "3000s"}
    started = time.monotonic()
    assert len(read(client, key, **crowd)["series"]) == 37
    assert time.monotonic() - started < 20


def test_every_account_may_ask_and_nobody_without_one(
    client: httpx.Client, key: Key, app: FastAPI
) -> None:
    whole = read(client, key, "commander", metric="report_age", kind="base_station")
    assert [one["operator"] for one in whole["series"]] == ["mobile"]
    assert last(whole)["value"] > 0
    for who in ("viewer", "field", "utility", "planner", "admin"):
        own = read(client, key, who, metric="report_age", kind="base_station", to=whole["to"])
        assert last(own) == last(whole)
    assert client.get(PATH, params={"metric": "load_share"}).status_code == 401
    described = app.openapi()["paths"][PATH]["get"]
    named = {one["name"] for one in described["parameters"]}
    assert {"adcode", "plan", "metric", "from", "to", "every"} <= named
    assert described["responses"]["200"]["content"]["application/json"]["example"]["series"]
