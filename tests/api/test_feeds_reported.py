"""Outages, returns and heartbeats over HTTP: statuses, problems, roles, formats."""

from __future__ import annotations

import functools
import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import openpyxl
import pytest
from shapely.geometry import mapping
from sqlalchemy import Engine

from api.routes.outages import EXAMPLE as OUTAGE_EXAMPLE
from api.routes.returns import EXAMPLE as RETURN_EXAMPLE
from data.accounts import create_account
from data.database import app_engine
from geo.crs import area_m2
from tests.api.conftest import assert_problem
from tests.feeds import INSIDE, NANAN, YUZHONG, ago, facility, load_facilities
from tests.geo.test_cut import ACCEPTED, REFUSED

Key = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module", autouse=True)
def _inventory(database_url: str) -> None:
    engine = app_engine(database_url)
    rows = [
        facility("S-1", *INSIDE[YUZHONG], load_kw=10),
        facility("S-2", *INSIDE[NANAN], operator="x"),
    ]
    load_facilities(engine, rows)
    engine.dispose()


@pytest.fixture(scope="module")
def grid_key(owner: Engine, server: str) -> dict[str, str]:
    """The key of a utility account that speaks for one operator."""
    with owner.begin() as connection:
        made = create_account(connection, "grid", "utility", ("*",), ("grid",))
    time.sleep(1.2)  # the account book is at most a second old
    return {"X-API-Key": made.api_key}


def outage(outage_id: str, **properties: Any) -> dict[str, Any]:
    given = OUTAGE_EXAMPLE["properties"] | {"outage_id": outage_id, "started_at": ago(hours=1)}
    return {**OUTAGE_EXAMPLE, "properties": given | properties}


def test_an_outage_is_201_then_200_then_409(client: httpx.Client, key: Key) -> None:
    feature = outage("A-1")
    first = client.post("/v1/outages", json=feature, headers=key("utility"))
    assert first.status_code == 201, first.text
    assert first.headers["content-type"].startswith("application/geo+json")
    body = first.json()
    assert sum(p["load_shed_kw"] for p in body["split"]) == 120_000
    assert sum(p["customers_out"] for p in body["split"]) == 84_210
    assert body["warnings"] == []
    assert body["properties"]["split"] == body["split"]
    again = client.post("/v1/outages", json=feature, headers=key("utility"))
    assert (again.status_code, again.json()["split"]) == (200, body["split"])
    other = client.post("/v1/outages", json=outage("A-1", cause="fire"), headers=key("utility"))
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
    found = client.get("/v1/outages?open=true", headers=key("commander")).json()
    assert [f["properties"]["cause"] for f in found["features"] if f["id"] == "A-1"] == ["storm"]


def test_faults_of_an_outage_come_together_and_repeat_no_input(
    client: httpx.Client, key: Key
) -> None:
    feature = outage("A-2", load_shed_kw=-4, started_at="CANARY", customers_out="CANARY")
    answer = client.post("/v1/outages", json=feature, headers=key("utility"))
    assert answer.status_code == 422
    assert {e["field"] for e in answer.json()["errors"]} == {
        *("load_shed_kw", "started_at", "customers_out"),
    }
    assert "CANARY" not in answer.text


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"type": "Feature"}', b'{"a": NaN}', b"\xff", b'{"a":1,"a":2}'],
)
@pytest.mark.parametrize("path", ["/v1/outages", "/v1/returns"])
def test_bad_json_is_a_422(client: httpx.Client, key: Key, path: str, body: bytes) -> None:
    headers = key("utility") | {"content-type": "application/json"}
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_twenty_thousand_vertices_are_413_at_once(client: httpx.Client, key: Key) -> None:
    spikes = [[106.5 + i * 1e-6, 29.5 + (i % 2) * 0.1] for i in range(20_000)]
    feature = outage("A-3") | {
        "geometry": {"type": "Polygon", "coordinates": [[*spikes, spikes[0]]]}
    }
    began = time.monotonic()
    answer = client.post("/v1/outages", json=feature, headers=key("utility"))
    assert answer.status_code == 413
    assert time.monotonic() - began < 5  # unlimited it is minutes


@pytest.mark.parametrize("name", ["viewer", "field", "planner", "commander"])
@pytest.mark.parametrize("path", ["/v1/outages", "/v1/returns", "/v1/heartbeats"])
def test_only_a_utility_reports(client: httpx.Client, key: Key, name: str, path: str) -> None:
    assert client.post(path, content=b"{", headers=key(name)).status_code == 403


def test_a_utility_reports_only_for_its_operators(
    client: httpx.Client, grid_key: dict[str, str]
) -> None:
    foreign = outage("A-4", facility_ids=["S-2"])
    assert client.post("/v1/outages", json=foreign, headers=grid_key).status_code == 403
    own = outage("A-4", facility_ids=["S-1"])
    assert client.post("/v1/outages", json=own, headers=grid_key).status_code == 201
    assert client.post("/v1/returns", json=RETURN_EXAMPLE, headers=grid_key).status_code == 403
    beat = client.post("/v1/heartbeats", json={"operator": "x"}, headers=grid_key)
    assert beat.status_code == 403
    assert client.post("/v1/heartbeats", headers=grid_key).json()["operators"] == ["grid"]


@pytest.mark.parametrize(
    "query", ["bbox=1,2,3", "bbox=a,b,c,d", "bbox=2,0,1,1", "bbox=nan,0,1,1", "adcode=x", "limit=0"]
)
def test_a_query_that_makes_no_sense_is_a_422(client: httpx.Client, key: Key, query: str) -> None:
    for path in ("/v1/outages", "/v1/incidents"):
        assert client.get(f"{path}?{query}", headers=key("commander")).status_code == 422


def test_outages_are_seen_within_the_accounts_districts(client: httpx.Client, key: Key) -> None:
    point = {"type": "Point", "coordinates": list(INSIDE[NANAN])}
    feature = outage("A-5") | {"geometry": point}
    client.post("/v1/outages", json=feature, headers=key("utility"))

    def ids(name: str) -> set[str]:
        found = client.get("/v1/outages?limit=10000", headers=key(name)).json()
        return {f["id"] for f in found["features"]}

    assert "A-5" in ids("commander")
    assert "A-5" not in ids("field")


# --- returns ----------------------------------------------------------------------------------


def a_return(return_id: str) -> dict[str, Any]:
    return RETURN_EXAMPLE | {"return_id": return_id, "operator": return_id, "as_of": ago(minutes=2)}


def test_a_return_answers_as_status_does(client: httpx.Client, key: Key) -> None:
    submitted = a_return("R-1")
    submitted["rows"] = [*submitted["rows"], {"adcode": "500999", "total": 1, "down": 0}]
    answer = client.post("/v1/returns", json=submitted, headers=key("utility"))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["accepted"], body["duplicates"]) == (2, 0)
    assert body["sequence"] > 0
    assert [(r["row"], r["field"]) for r in body["rejected"]] == [(3, "adcode")]
    again = client.post("/v1/returns", json=submitted, headers=key("utility")).json()
    assert (again["accepted"], again["duplicates"]) == (0, 2)
    shown = client.get("/v1/returns", headers=key("planner")).json()["returns"]
    assert [r["return_id"] for r in shown if r["operator"] == "R-1"] == ["R-1"]


def test_a_return_may_be_csv_with_its_head_in_the_query(client: httpx.Client, key: Key) -> None:
    answer = client.post(
        "/v1/returns",
        params={"return_id": "R-2", "operator": "R-2", "kind": "exchange", "as_of": ago(minutes=2)},
        content=b"adcode,total,down,power\n500103,10,4,3\n500108,3,9,\n",
        headers=key("utility") | {"content-type": "text/csv; charset=utf-8"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 1
    assert [r["row"] for r in answer.json()["rejected"]] == [2]


def test_a_return_may_be_an_xlsx_part_with_form_fields(client: httpx.Client, key: Key) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["unit", "total", "down"])
    sheet.append(["500103", 10, 4])
    file = io.BytesIO()
    book.save(file)
    answer = client.post(
        "/v1/returns",
        data={"return_id": "R-3", "operator": "R-3", "kind": "exchange", "as_of": ago(minutes=2)},
        files={"file": ("return.xlsx", file.getvalue())},
        headers=key("utility"),
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 1


def test_other_kinds_of_body_are_415_and_a_missing_part_422(client: httpx.Client, key: Key) -> None:
    headers = key("utility") | {"content-type": "text/html"}
    assert client.post("/v1/returns", content=b"<p>", headers=headers).status_code == 415
    form = client.post("/v1/returns", files={"other": ("a.csv", b"x")}, headers=key("utility"))
    assert form.status_code == 422


def test_a_heartbeat_of_an_unknown_operator_is_404(client: httpx.Client, key: Key) -> None:
    answer = client.post("/v1/heartbeats", json={"operator": "nobody"}, headers=key("utility"))
    assert answer.status_code == 404
    bad = client.post("/v1/heartbeats", json={"operator": 3}, headers=key("utility"))
    assert bad.status_code == 422


def test_the_examples_of_the_description_are_valid(client: httpx.Client, key: Key) -> None:
    described = client.get("/openapi.json", headers=key("viewer")).json()["paths"]
    sent = described["/v1/outages"]["post"]["requestBody"]["content"]["application/geo+json"]
    answer = client.post(
        "/v1/outages", content=json.dumps(sent["example"]).encode(), headers=key("utility")
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("name", ["star", "level comb"])
def test_the_most_intricate_outage_that_is_taken_holds_nobody_up(
    client: httpx.Client, key: Key, name: str
) -> None:
    """Its answer, the situation with it, a question about its region and the lists of it."""
    drawn = mapping(ACCEPTED[name])
    took_s: dict[str, float] = {}

    def within(what: str, answer: Callable[[], httpx.Response]) -> httpx.Response:
        began = time.monotonic()
        found = answer()
        took_s[what] = time.monotonic() - began
        assert found.status_code in (200, 201), f"{what}: {found.text[:300]}"
        return found

    head = key("commander")
    feature = outage(f"intricate-{name}") | {"geometry": drawn}
    post = functools.partial(client.post, timeout=60)
    stored = within("post", lambda: post("/v1/outages", json=feature, headers=key("utility")))
    parts = stored.json()["split"]
    assert sum(p["load_shed_kw"] for p in parts) == 120_000
    assert sum(p["area_m2"] for p in parts) == pytest.approx(area_m2(ACCEPTED[name]), rel=1e-9)
    region = {"geometry": drawn, "crs": "WGS84"}
    found = within("region", lambda: post("/v1/regions/query", json=region, headers=head)).json()
    assert found["outages"][0]["share_inside"] == pytest.approx(1.0, abs=1e-9)
    for path in ("/v1/outages", "/ogc/collections/outages/items?limit=10", "/health"):
        within(path, functools.partial(client.get, path, headers=head))
    newest = post("/v1/heartbeats", headers=key("utility")).json()["sequence"]
    deadline = time.monotonic() + 20
    while client.get("/v1/situation", headers=head).json()["sequence"] < newest:
        assert time.monotonic() < deadline, "the situation is not built"
        time.sleep(0.1)
    over = outage(f"intricate-{name}", revision=2, restored_at=ago(minutes=1))
    assert post("/v1/outages", json=over, headers=key("utility")).status_code == 201
    # two seconds of a processor at most (tests/geo/test_cut.py), on a machine that others use
    assert max(took_s.values()) < 12, took_s


def test_a_star_of_ten_thousand_corners_is_refused_at_once(client: httpx.Client, key: Key) -> None:
    feature = outage("hostile") | {"geometry": mapping(REFUSED["star of 9 990"])}
    began = time.monotonic()
    answer = client.post("/v1/outages", json=feature, headers=key("utility"))
    assert time.monotonic() - began < 5
    assert "总长" in assert_problem(answer, 422)["detail"]
    body = {"geometry": feature["geometry"]}
    asked = client.post("/v1/regions/query", json=body, headers=key("viewer"))
    assert asked.status_code in (413, 422)
