"""Regions and scenarios over HTTP: roles, refusals in time, nothing left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, text

from data.database import app_engine
from tests.api.conftest import assert_problem
from tests.data.test_cot import position, several
from tests.feeds import INSIDE, NANAN, SHAPINGBA, YUZHONG, facility, load_facilities

Key = Callable[[str], dict[str, str]]
QUERY, SCENARIOS = "/v1/regions/query", "/v1/scenarios"
TWO = {"changes": [{"adcodes": [YUZHONG, NANAN], "kind": "base_station", "state": "down"}]}
BOX = [[106.5, 29.5], [106.7, 29.5], [106.7, 29.6], [106.5, 29.6], [106.5, 29.5]]
POLYGON = {"type": "Polygon", "coordinates": [BOX]}


@pytest.fixture(scope="module", autouse=True)
def inventory(database_url: str) -> None:
    engine = app_engine(database_url)
    rows = [
        facility(f"B{adcode}-{i}", lon, lat, kind="base_station", operator="mobile")
        for adcode, (lon, lat) in INSIDE.items()
        for i in range(4)
    ]
    load_facilities(engine, rows)
    engine.dispose()


def levels(client: httpx.Client, key: Key, owner: Engine) -> Any:
    """How many changes someone made, ticks not among them, and the level of each plan."""
    whole = client.get("/v1/situation", headers=key("viewer")).json()
    with owner.connect() as connection:
        made = text("SELECT count(*) FROM change WHERE batch_id IS NOT NULL")
        sent = connection.execute(made).scalar_one()
    return sent, {plan: a["level"] for plan, a in whole["plans"].items()}


def test_a_region_is_answered_with_every_member_of_the_contract(
    client: httpx.Client, key: Key
) -> None:
    body = {"geometry": POLYGON, "crs": "WGS84"}
    answer = client.post(QUERY, json=body, headers=key("planner"))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["facilities"]["base_station"]["total"] == 8
    assert sum(d["area_m2"] for d in found["districts"]) + found["outside_m2"] == pytest.approx(
        found["area_m2"]
    )
    assert {"population", "load", "customers", "as_of", "sequence", "scope"} <= set(found)
    assert found["incidents"] == found["outages"] == found["resources"] == []
    own = client.post(QUERY, json=body, headers=key("field")).json()
    assert own["facilities"]["base_station"]["total"] == 4
    assert own["districts"] == found["districts"]
    past = client.post(
        QUERY, json={**body, "at": "2025-10-01T00:00:00+08:00"}, headers=key("planner")
    )
    assert past.json()["facilities"] == {}


def test_teams_inside_are_listed_as_known_then_and_within_the_scope(
    client: httpx.Client, key: Key
) -> None:
    sent = several(
        position("T-here", INSIDE[YUZHONG]),
        position("T-late", INSIDE[NANAN], 3600),
        position("T-far", INSIDE[SHAPINGBA]),
    )
    answer = client.post("/v1/cot", content=sent, headers=key("commander"))
    assert answer.json()["accepted"] == 3, answer.text

    def teams(body: dict[str, Any], name: str = "planner") -> dict[str, bool]:
        found = client.post(QUERY, json=body, headers=key(name)).json()
        assert found["resources_total"] == len(found["resources"])
        assert {one["kind"] for one in found["resources"]} <= {"team"}
        return {one["id"]: one["stale"] for one in found["resources"]}

    drawn = {"geometry": POLYGON, "crs": "WGS84"}
    assert teams(drawn) == {"T-here": False, "T-late": True}
    assert teams({"adcodes": [SHAPINGBA]}) == {"T-far": False}
    assert set(teams(drawn, "field")) == {"T-here"}
    assert teams({**drawn, "at": "2026-01-01T00:00:00+08:00"}) == {}
    now = datetime.now(UTC).isoformat()
    assert teams({**drawn, "at": now}) == {"T-here": False, "T-late": True}


@pytest.mark.parametrize("crs", ["WGS84", "GCJ-02", "BD-09", "CGCS2000"])
def test_the_outline_answered_is_the_region_that_was_counted(
    client: httpx.Client, key: Key, crs: str
) -> None:
    body = {"geometry": POLYGON, "crs": crs, "outline": True}
    found = client.post(QUERY, json=body, headers=key("planner")).json()
    outline = found["region"]["outline"]
    again = {"geometry": outline, "crs": "WGS84", "outline": False}
    other = client.post(QUERY, json=again, headers=key("planner")).json()
    assert other["area_m2"] == pytest.approx(found["area_m2"], rel=1e-6)
    assert other["facilities"] == found["facilities"]
    assert "outline" not in other["region"]
    moved = np.abs(np.array(outline["coordinates"][0][0]) - BOX[0]).max()
    assert bool(moved < 1e-6) is (crs in ("WGS84", "CGCS2000"))


def test_an_outline_of_circles_and_lines_is_an_area_and_of_districts_none(
    client: httpx.Client, key: Key
) -> None:
    circle = {"geometry": {"type": "Point", "coordinates": [106.55, 29.56]}, "radius_m": 5000}
    line = {"geometry": {"type": "LineString", "coordinates": BOX[:2]}, "buffer_m": 500}
    for body, expected in ((circle, "Polygon"), (line, "Polygon"), ({"adcodes": [YUZHONG]}, None)):
        answer = client.post(QUERY, json={**body, "outline": True}, headers=key("planner"))
        found = answer.json()["region"]["outline"]
        assert (found and found["type"]) == expected
    wrong = client.post(QUERY, json={**circle, "outline": 1}, headers=key("planner"))
    assert_problem(wrong, 422)


@pytest.mark.parametrize("vertices", [20_000, 50_000])
def test_a_spiky_region_is_refused_within_a_second(
    client: httpx.Client, key: Key, vertices: int
) -> None:
    angle = np.linspace(0, 2 * np.pi, vertices)
    far = np.where(np.arange(vertices) % 2, 2.0, 0.5)
    ring = np.column_stack([107 + far * np.cos(angle), 30 + far * np.sin(angle)]).tolist()
    body = {"geometry": {"type": "Polygon", "coordinates": [ring]}, "crs": "WGS84"}
    started = time.monotonic()
    assert_problem(client.post(QUERY, json=body, headers=key("planner")), 413)
    assert time.monotonic() - started < 1.5


BOWTIE = {**POLYGON, "coordinates": [[BOX[0], BOX[2], BOX[1], BOX[3], BOX[0]]]}
WRONG: dict[str, tuple[Any, str]] = {
    "bowtie": ({"geometry": BOWTIE}, "crosses itself"),
    "crs": ({"geometry": POLYGON, "crs": "EPSG:1"}, "not accepted"),
    "misspelt": ({"geometry": POLYGON, "radius": 5}, "no member"),
    "list": ([], "JSON object"),
    "at": ({"geometry": POLYGON, "at": "yesterday"}, "offset"),
    "future": ({"geometry": POLYGON, "at": "2999-01-01T00:00:00Z"}, "future"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_region_is_refused(client: httpx.Client, key: Key, name: str) -> None:
    body, said = WRONG[name]
    headers = {**key("planner"), "Accept-Language": "en"}
    answer = assert_problem(client.post(QUERY, json=body, headers=headers), 422)
    assert said in str(answer)
    chinese = client.post(QUERY, json=body, headers={**key("planner"), "Accept-Language": "zh"})
    assert said not in chinese.text


def test_what_if_leaves_the_situation_as_it_is(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    before = levels(client, key, owner)
    answer = client.post(f"{SCENARIOS}/evaluate", json=TWO, headers=key("planner"))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["hypothetical"]["plans"]["communications-2024"]["level"] == 2
    assert found["present"]["plans"]["communications-2024"]["level"] is None
    assert found["assumed"][0]["text"].startswith("假设")
    assert levels(client, key, owner) == before
    for role in ("viewer", "field", "utility"):
        refused = client.post(f"{SCENARIOS}/evaluate", json=TWO, headers=key(role))
        assert_problem(refused, 403)


def test_kept_scenarios_are_shared_compared_and_retired(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    before = levels(client, key, owner)
    body = {**TWO, "name": "两区基站全停"}
    first = client.post(SCENARIOS, json=body, headers=key("planner"))
    assert first.status_code == 201, first.text
    assert client.post(SCENARIOS, json=body, headers=key("planner")).status_code == 200
    other = {**body, "changes": [{**TWO["changes"][0], "adcodes": [SHAPINGBA]}]}
    assert_problem(client.post(SCENARIOS, json=other, headers=key("planner")), 409)
    second = client.post(SCENARIOS, json={**other, "name": "沙坪坝"}, headers=key("planner"))
    a, b = first.json()["scenario_id"], second.json()["scenario_id"]
    both = client.get(f"{SCENARIOS}/compare?a={a}&b={b}", headers=key("planner")).json()
    change = both["difference"]["plans"]["communications-2024"]
    assert (change["from"]["level"], change["to"]["level"]) == (2, 3)
    assert_problem(client.get(f"{SCENARIOS}/{a}", headers=key("viewer")), 404)
    edited = client.patch(f"{SCENARIOS}/{a}", json={"shared": True}, headers=key("planner"))
    assert edited.json()["shared"] is True
    seen = client.get(f"{SCENARIOS}/{a}", headers=key("viewer")).json()
    assert seen["result"]["hypothetical"]["plans"]["communications-2024"]["level"] == 2
    listed = client.get(SCENARIOS, headers=key("viewer")).json()["scenarios"]
    assert [one["name"] for one in listed] == ["两区基站全停"]
    assert_problem(client.delete(f"{SCENARIOS}/{a}", headers=key("commander")), 403)
    assert client.delete(f"{SCENARIOS}/{a}", headers=key("planner")).status_code == 204
    assert_problem(client.get(f"{SCENARIOS}/{a}", headers=key("planner")), 404)
    assert levels(client, key, owner) == before


def test_a_scenario_of_something_misspelt_is_refused(client: httpx.Client, key: Key) -> None:
    body = {**TWO, "hors": 6}
    assert_problem(client.post(f"{SCENARIOS}/evaluate", json=body, headers=key("planner")), 422)
    assert_problem(client.post(SCENARIOS, json=TWO, headers=key("planner")), 422)
    assert_problem(client.get(f"{SCENARIOS}/nothing", headers=key("planner")), 422)


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"facility_ids": ["B-1"], "state": "down"}, "facility_ids"),
        ({**TWO["changes"][0], "operater": "mobile"}, "operater"),
        ({"restore": {"outages": ["o"], "outage": "o"}}, "outage"),
        ({"restore": {"facilities": ["B-1"], "since": 3}}, "since"),
        ({"incident": {"kind": "elevator", "fact": {}}}, "fact"),
        ({"incident": {"facts": {}}, "state": "down"}, "state"),
        ({**TWO["changes"][0], "kind": "basestation"}, "kind"),
        ({**TWO["changes"][0], "operator": "china_mobil"}, "operator"),
        ({"facilities": ["B-1", "B-l"], "state": "down"}, "facilities"),
    ],
)
def test_a_change_with_something_misspelt_is_refused(
    client: httpx.Client, key: Key, change: dict[str, Any], member: str
) -> None:
    body = {"changes": [TWO["changes"][0], change]}
    answer = client.post(f"{SCENARIOS}/evaluate", json=body, headers=key("planner"))
    (error,) = assert_problem(answer, 422)["errors"]
    assert error["field"] == member
    assert error["row"] == 2
