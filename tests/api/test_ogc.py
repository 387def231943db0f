"""OGC API at /ogc/: real PostGIS, real server; scopes under concurrency, filters, pages, garbage."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.app import create_app
from api.deps import Configuration
from data import patience
from data.database import app_engine
from tests.api.conftest import Credentials, assert_problem, served
from tests.feeds import INSIDE, NANAN, SHAPINGBA, YUZHONG, facility, load_facilities
from tests.hung_process import stopped

Key = Callable[[str], dict[str, str]]
COLLECTIONS = {"districts", "facilities", "incidents", "outages", "situation"}
PER_DISTRICT = 60
FORMULA = '=HYPERLINK("http://x","y")'


@pytest.fixture(scope="module")
def stored(owner: Engine, database_url: str) -> None:
    rows = []
    for code, (lon, lat) in INSIDE.items():
        for i in range(PER_DISTRICT):
            rows.append(
                facility(
                    f"{code}-{i:03d}",
                    lon + (i % 10) * 1e-4,
                    lat + (i // 10) * 1e-4,
                    kind="base_station" if i % 2 else "substation",
                    name=f"朝天门{i}号站",
                    load_kw=i,
                    state_at_import="down" if i % 5 == 0 else "up",
                )
            )
    rows.append(facility("a/b c?d#e", *INSIDE[YUZHONG], name=FORMULA))
    engine = app_engine(database_url)
    load_facilities(engine, rows)
    engine.dispose()


@pytest.fixture(scope="module")
def server(app: FastAPI, credentials: Credentials, stored: None) -> Iterator[str]:
    with served(app) as url:
        yield url


def get(client: httpx.Client, path: str, headers: dict[str, str], **params: Any) -> httpx.Response:
    return client.get(
        path, headers=headers, params={k.replace("_", "-"): v for k, v in params.items()}
    )


def items(
    client: httpx.Client, headers: dict[str, str], name: str = "facilities", **params: Any
) -> dict[str, Any]:
    answer = get(client, f"/ogc/collections/{name}/items", headers, **params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_five_collections_are_there_with_links_on_this_host(
    client: httpx.Client, key: Key
) -> None:
    found = get(client, "/ogc/collections", key("planner"), limit=100).json()
    assert {one["id"] for one in found["collections"]} == COLLECTIONS
    base = str(client.base_url).rstrip("/")
    for path in (
        "/ogc",
        "/ogc/",
        "/ogc/collections",
        "/ogc/collections/facilities",
        "/ogc/collections/facilities/tiles",
    ):
        answer = client.get(path, headers=key("planner")).json()
        parts = answer.get("collections", []) + answer.get("tilesets", [])
        links = answer.get("links", []) + [x for c in parts for x in c["links"]]
        assert links
        for link in links:
            assert link["href"].startswith(base), link
            if not link.get("templated") and "{" not in link["href"]:
                assert client.get(link["href"], headers=key("planner")).status_code == 200, link


def test_every_page_is_reached_by_next_and_each_feature_once(
    client: httpx.Client, key: Key
) -> None:
    seen: list[str] = []
    url: str | None = f"{client.base_url}/ogc/collections/facilities/items?limit=50"
    while url:
        page = client.get(url, headers=key("planner")).json()
        assert page["numberMatched"] == 3 * PER_DISTRICT + 1
        seen += [one["id"] for one in page["features"]]
        url = next((x["href"] for x in page["links"] if x["rel"] == "next"), None)
    assert len(seen) == len(set(seen)) == 3 * PER_DISTRICT + 1


def test_an_id_of_any_characters_is_linked_and_found(client: httpx.Client, key: Key) -> None:
    page = items(client, key("planner"), ids="a/b c?d#e")
    link = next(x["href"] for x in page["features"][0]["links"] if x["rel"] == "item")
    assert client.get(link, headers=key("planner")).json()["properties"]["name"] == FORMULA
    assert_problem(
        client.get("/ogc/collections/facilities/items/none", headers=key("planner")), 404
    )


FILTERS = [
    ("state = 'down'", lambda i: i % 5 == 0),
    ("kind = 'substation' AND load_kw > 10", lambda i: i % 2 == 0 and i > 10),
    ("name LIKE '朝天门1%'", lambda i: str(i).startswith("1")),
    ("load_kw BETWEEN 5 AND 9", lambda i: 5 <= i <= 9),
    ("kind IN ('base_station')", lambda i: i % 2 == 1),
    ("NOT synthetic AND load_kw < 3", lambda i: i < 3),
    ("valid_from > TIMESTAMP('2020-01-01T00:00:00Z') AND load_kw = 7", lambda i: i == 7),
    ("observed_at IS NULL AND load_kw = 7", lambda i: i == 7),
]


@pytest.mark.parametrize(("query", "holds"), FILTERS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("language", ["cql2-text", "cql2-json"])
def test_cql2_selects_what_it_says(
    query: str, holds: Callable[[int], bool], language: str, client: httpx.Client, key: Key
) -> None:
    from cql2 import Expr

    asked = query if language == "cql2-text" else json.dumps(Expr(query).to_json())
    page = items(client, key("planner"), filter=asked, filter_lang=language, limit=1000)
    found = {one["id"] for one in page["features"] if one["id"] != "a/b c?d#e"}
    assert found == {f"{c}-{i:03d}" for c in INSIDE for i in range(PER_DISTRICT) if holds(i)}


def test_a_box_by_parameter_and_by_filter_select_the_same(client: httpx.Client, key: Key) -> None:
    lon, lat = INSIDE[NANAN]
    box = [lon - 1e-5, lat - 1e-5, lon + 4.5e-4, lat + 1e-5]
    ring = f"{box[0]} {box[1]}, {box[2]} {box[1]}, {box[2]} {box[3]}, {box[0]} {box[3]}, {box[0]} {box[1]}"
    by_box = items(client, key("planner"), bbox=",".join(map(str, box)))
    by_filter = items(client, key("planner"), filter=f"S_INTERSECTS(geom, POLYGON(({ring})))")
    by_answer = items(client, key("planner"), filter=f"S_INTERSECTS(geometry, POLYGON(({ring})))")
    by_json = items(
        client,
        key("planner"),
        filter_lang="cql2-json",
        filter=json.dumps(
            {"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": box}]}
        ),
    )
    ids = {f"{NANAN}-{i:03d}" for i in range(5)}
    for page in (by_box, by_filter, by_answer, by_json):
        assert {one["id"] for one in page["features"]} == ids
        assert page["numberMatched"] == 5


def test_a_property_by_name_and_a_sorted_page(client: httpx.Client, key: Key) -> None:
    page = items(
        client, key("planner"), adcode=NANAN, sortby="-load_kw", limit=3, properties="load_kw,name"
    )
    assert [one["properties"]["load_kw"] for one in page["features"]] == [59, 58, 57]
    assert set(page["features"][0]["properties"]) == {"load_kw", "name"}


GARBAGE = [
    *({"bbox": v} for v in ("", "1", "a,b,c,d", "1,2,3", "nan,0,1,1", "181,0,190,1", "3,3,1,1", "1e999,0,1,1")),
    *({"limit": v} for v in ("-1", "0", "x", "1.5", "9" * 30)),
    *({"offset": v} for v in ("-1", "x", "9" * 30)),
    *({"filter": v} for v in ("(", "name =", "nosuch = 1", "pg_sleep(5) = 1", "name > 5", "'", "1", "name = 'a\x00b'")),
    *({"filter": v} for v in ("current_user = 'x'", "S_INTERSECTS(geom, POLYGON((1 1, 2 2)))", "a.b = 1", "version()", "load_kw / 0 = 1")),
    *({"filter": v, "filter-lang": "cql2-json"} for v in ("{", "[]", "{}", '{"op":"pg_read_file","args":["/etc/passwd"]}', '{"op":"="}', '{"op":"=","args":[{"property":"x\\"; drop"},1]}')),
    {"filter": "state='up'", "filter-lang": "sql"},
    {"filter-crs": "EPSG:3857"},
    {"crs": "http://www.opengis.net/def/crs/EPSG/0/4490"},
    *({"datetime": v} for v in ("x", "../..", "2026-01-02T00:00:00Z/2026-01-01T00:00:00Z", "a/b/c")),
    {"properties": "nosuch"}, {"sortby": "nosuch"}, {"sortby": ""}, {"nosuch": "1"}, {"geom-column": "x"},
    {"datetime-column": "x"}, {"simplify": "x"}, {"simplify": "-1"}, {"f": "csv"}, {"f": "exe"}, {"bbox-only": "x"},
    {"ids": "a\x00b"}, {"name": "a\x00"},
]  # fmt: skip


@pytest.mark.parametrize("params", GARBAGE, ids=str)
def test_garbage_is_a_problem_and_never_a_500(
    params: dict[str, str], client: httpx.Client, key: Key
) -> None:
    answer = client.get("/ogc/collections/facilities/items", headers=key("planner"), params=params)
    assert_problem(answer, 400)
    assert "asyncpg" not in answer.text
    assert "SELECT" not in answer.text
    told = answer.json()
    (field,) = {one["field"] for one in told["errors"]}
    assert field in params
    assert told["detail"].startswith(field)
    assert re.search("[\u4e00-\u9fff]", told["detail"])


NAMED = [
    (
        {"properties": "name,nosuch,nor_this"},
        "properties",
        ("nosuch, nor_this", "load_kw", "state"),
    ),
    ({"sortby": "-nosuch,name"}, "sortby", ("nosuch", "load_kw", "state")),
    ({"filter": "nosuch = 1"}, "filter", ("nosuch", "geometry", "load_kw", "state")),
    ({"filter": "pg_sleep(5) = 1"}, "filter", ("pg_sleep", "s_intersects", "between")),
    ({"filter": "name ="}, "filter", ("line 1, column 7",)),
    ({"filter": "load_kw > 'much'"}, "filter", ("load_kw bigint", "name text")),
    ({"load_kw": "much"}, "load_kw", ("load_kw bigint",)),
    ({"colour": "red"}, "colour", ("bbox", "filter", "load_kw", "sortby")),
    ({"bbox": "106,29,107"}, "bbox", ("west,south,east,north",)),
    ({"crs": "EPSG:4490"}, "crs", ("OGC/1.3/CRS84", "/v1/export")),
    ({"datetime": "yesterday"}, "datetime", ("time with offset",)),
]


@pytest.mark.parametrize(("params", "field", "words"), NAMED, ids=str)
def test_a_refusal_names_the_parameter_the_property_and_those_there_are(
    params: dict[str, str], field: str, words: tuple[str, ...], client: httpx.Client, key: Key
) -> None:
    path = "/ogc/collections/facilities/items"
    answer = client.get(path, headers=key("planner"), params=params | {"lang": "en"})
    assert_problem(answer, 400)
    (fault,) = answer.json()["errors"]
    assert fault["field"] == field
    for word in words:
        assert word in fault["reason"]
        assert word in answer.json()["detail"]
    in_chinese = client.get(path, headers=key("planner"), params=params).json()["detail"]
    assert re.search("[\u4e00-\u9fff]", in_chinese)


@pytest.mark.parametrize(
    "params",
    [
        {"sortby": "SECRET13800138000"},
        {"sortby": "-state,13800138000"},
        {"properties": "<script>13800138000"},
        {"geom-column": "13800138000"},
        {"filter": "SECRET13800138000 = 1"},
        {"filter": "SECRET13800138000(5) = 1"},
        {"crs": "13800138000"},
    ],
    ids=str,
)
def test_a_refusal_repeats_nothing_that_cannot_be_a_name(
    params: dict[str, str], client: httpx.Client, key: Key
) -> None:
    for lang in ("en", "zh"):
        answer = client.get(
            "/ogc/collections/facilities/items",
            headers=key("planner"),
            params=params | {"lang": lang},
        )
        assert_problem(answer, 400)
        assert "13800138000" not in answer.text


def test_garbage_on_the_list_of_collections_and_in_tiles_is_a_400(
    client: httpx.Client, key: Key
) -> None:
    for params in (
        {"bbox": "1,2"},
        {"limit": "x"},
        {"offset": "-1"},
        {"datetime": "x"},
        {"x": "1"},
    ):
        assert_problem(client.get("/ogc/collections", headers=key("planner"), params=params), 400)
    for place in ("0/1/0", "x/0/0", "99/0/0", "3/8/0", "-1/0/0"):
        path = f"/ogc/collections/facilities/tiles/WebMercatorQuad/{place}"
        assert_problem(client.get(path, headers=key("planner")), 400)
    assert_problem(client.get("/ogc/collections/nosuch/items", headers=key("planner")), 404)
    assert_problem(
        client.get("/ogc/collections/facilities/tiles/Nosuch/0/0/0", headers=key("planner")), 400
    )
    assert_problem(
        client.get(
            "/ogc/collections/facilities",
            headers={**key("planner"), "Accept": "a;b;q=x"},
            params={"zz": 1},
        ),
        400,
    )


def test_a_limit_beyond_the_largest_is_taken_as_the_largest(client: httpx.Client, key: Key) -> None:
    assert items(client, key("planner"), limit=50_000)["numberReturned"] == 3 * PER_DISTRICT + 1


def test_a_field_account_sees_its_districts_only_while_others_read_everything(
    client: httpx.Client, key: Key, credentials: Credentials
) -> None:
    field, other = credentials["field"]["districts"][0], credentials["field-other"]["districts"][0]
    assert field != other
    jobs = ["field", "planner", "field-other", "viewer", "utility"] * 30
    in_field = sum(PER_DISTRICT + (c == YUZHONG) for c in INSIDE if c == field)
    in_other = sum(PER_DISTRICT + (c == YUZHONG) for c in INSIDE if c == other)

    def read(name: str) -> tuple[str, int, set[str]]:
        with httpx.Client(base_url=client.base_url, timeout=30) as one:
            page = items(one, key(name), limit=1000)
        return name, page["numberMatched"], {f["properties"]["adcode"] for f in page["features"]}

    with ThreadPoolExecutor(12) as pool:
        for name, matched, codes in pool.map(read, jobs):
            if name == "field":
                assert (matched, codes) == (in_field, {field} if in_field else set())
            elif name == "field-other":
                assert (matched, codes) == (in_other, {other} if in_other else set())
            else:
                assert (matched, codes) == (3 * PER_DISTRICT + 1, set(INSIDE))
    answer = client.get(f"/ogc/collections/facilities/items/{NANAN}-001", headers=key("field"))
    assert_problem(answer, 404)


def test_incidents_hold_no_reporter_and_are_not_for_utilities(
    client: httpx.Client, key: Key
) -> None:
    body = {
        "incident_id": str(uuid.uuid4()), "plan": "special-equipment-2023", "kind": "elevator",
        "occurred_at": "2026-11-20T08:30:00+08:00", "position": list(INSIDE[YUZHONG]),
        "description": "电话 13912345678", "reporter": {"name": "王某某", "phone": "13800000000"},
        "facts": {"people_stranded": 2, "stranded_since": "2026-11-20T08:25:00+08:00"},
    }  # fmt: skip
    assert client.post("/v1/incidents", json=body, headers=key("commander")).status_code == 201
    answer = client.get("/ogc/collections/incidents/items", headers=key("commander"))
    assert answer.json()["numberMatched"] == 1
    assert not re.search("13800000000|13912345678|王某某", answer.text)
    assert not {"reporter", "body", "account", "description", "address"} & set(
        answer.json()["features"][0]["properties"]
    )
    assert_problem(client.get("/ogc/collections/incidents/items", headers=key("utility")), 404)
    listed = get(client, "/ogc/collections", key("utility"), limit=100).json()
    assert {one["id"] for one in listed["collections"]} == COLLECTIONS - {"incidents"}


@pytest.mark.parametrize("column", ["body", "account", "original_position"])
def test_the_reading_role_cannot_read_what_is_not_published(owner: Engine, column: str) -> None:
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL ROLE yutu_reader"))
        with pytest.raises(Exception, match="permission denied"):
            connection.execute(text(f"SELECT {column} FROM incident"))


def test_the_reading_role_uses_the_spatial_index_under_its_scope(owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(text("ANALYZE facility"))
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL ROLE yutu_reader"))
        connection.execute(
            text(
                f"SELECT set_config('app.districts', '{YUZHONG}', true), set_config('app.operators', '*', true)"
            )
        )
        box = '{"type":"Polygon","coordinates":[[[106.55,29.55],[106.5501,29.55],[106.5501,29.5501],[106.55,29.5501],[106.55,29.55]]]}'
        plan = "\n".join(
            connection.execute(
                text(
                    "EXPLAIN SELECT facility_id FROM ogc.facilities WHERE st_intersects(geom, st_geomfromgeojson(:box))"
                ),
                {"box": box},
            ).scalars()
        )
    assert "Index Cond: (geom &&" in plan
    assert "ix_facility_geom" in plan


def test_new_data_and_new_tables_appear_without_a_restart(
    client: httpx.Client, key: Key, owner: Engine, database_url: str
) -> None:
    before = items(client, key("planner"), "facilities", adcode=SHAPINGBA)["numberMatched"]
    engine = app_engine(database_url)
    load_facilities(engine, [facility("NEW-1", *INSIDE[SHAPINGBA])])
    engine.dispose()
    assert (
        items(client, key("planner"), "facilities", adcode=SHAPINGBA)["numberMatched"] == before + 1
    )
    with owner.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE ogc.sirens (id int PRIMARY KEY, name text, geom geometry(Point, 4326))"
            )
        )
        connection.execute(
            text(
                "INSERT INTO ogc.sirens VALUES (1, '警报器', ST_SetSRID(ST_MakePoint(106.5, 29.5), 4326))"
            )
        )
    try:
        for _ in range(50):
            if (
                client.get("/ogc/collections/sirens/items", headers=key("viewer")).status_code
                == 200
            ):
                break
            time.sleep(0.1)
        assert (
            items(client, key("viewer"), "sirens")["features"][0]["properties"]["name"] == "警报器"
        )
    finally:
        with owner.begin() as connection:
            connection.execute(text("DROP TABLE ogc.sirens"))


def test_the_situation_has_a_row_per_district_as_shown(client: httpx.Client, key: Key) -> None:
    shown = client.get("/v1/situation", headers=key("viewer")).json()
    page = items(client, key("field"), "situation", limit=100)
    assert page["numberMatched"] == len(shown["districts"]) == 37
    by_code = {one["properties"]["adcode"]: one["properties"] for one in page["features"]}
    for district in shown["districts"]:
        row = by_code[district["adcode"]]
        assert row["name"] == district["name"]
        assert row["level"] == district["level"]
        assert row["level_communications"] == district["plans"]["communications-2024"]
        assert row["level_power"] == district["plans"]["power-outage-2021"]
        assert row["facilities_total"] == sum(k["total"] for k in district["facilities"].values())
        assert row["facilities_down"] == sum(k["down"] for k in district["facilities"].values())
        assert row["load_share"] == district["load"]["share"]
        assert row["population_affected"] == district["population_affected"]


PAGES = ["", "/", "/conformance", "/collections", "/collections/facilities", "/collections/facilities/items", "/collections/facilities/queryables",
    f"/collections/facilities/items/{NANAN}-001", "/tileMatrixSets", "/tileMatrixSets/WebMercatorQuad", "/collections/facilities/tiles", "/collections/facilities/tiles/WebMercatorQuad"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_pages_need_nothing_from_elsewhere_and_run_no_script(
    path: str, client: httpx.Client, key: Key
) -> None:
    answer = client.get(f"/ogc{path}", headers={**key("viewer"), "Accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    assert not re.search(r"(src|<link[^>]*href)=\"https?:", answer.text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_ogc_tiles_hold_the_features_and_refuse_to_lose_any(
    client: httpx.Client, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/ogc/collections/facilities/tiles/WebMercatorQuad/0/0/0"
    tile = client.get(path, headers=key("planner"))
    assert tile.status_code == 200
    assert tile.headers["content-type"] == "application/vnd.mapbox-vector-tile"
    assert "朝天门1号站".encode() in tile.content
    refused = client.get(path, headers=key("planner"), params={"limit": 10})
    assert_problem(refused, 400)
    assert "/tiles/facilities" in refused.text


def test_connections_that_were_cut_are_made_anew(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    assert items(client, key("planner"), limit=1)["numberReturned"] == 1
    with owner.begin() as connection:
        cut = connection.execute(
            text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'yutu ogc' AND datname = current_database()"
            )
        ).scalar_one()
    assert cut > 0
    answers = [
        client.get("/ogc/collections/facilities/items", headers=key("planner")) for _ in range(8)
    ]
    assert {one.status_code for one in answers} <= {200, 503}
    assert answers[-1].status_code == 200


def test_a_session_cookie_reads_and_an_anonymous_browser_is_sent_to_sign_in(
    client: httpx.Client, credentials: Credentials
) -> None:
    anonymous = client.get("/ogc/collections", headers={"Accept": "text/html"})
    assert anonymous.status_code == 303
    assert_problem(client.get("/ogc/collections"), 401)
    form = {k: credentials["viewer"][k] for k in ("username", "password")}
    page = client.get("/login")
    token = re.search(r'name="csrf" value="([^"]*)"', page.text)
    signed = client.post("/login", data={**form, "csrf": token[1] if token else "", "next": "/"})
    assert signed.status_code == 303, signed.text
    assert client.get("/ogc/collections").status_code == 200


STATEMENT_S, GRACE_S = 2.0, 0.5
#: What a server and a client on a busy machine may take besides.
BESIDES_S = 1.5


@pytest.fixture
def hasty(
    configuration: Configuration,
    credentials: Credentials,
    stored: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[httpx.Client]:
    """The planner at a server with two connections for /ogc/, whose statements have 2 s."""
    monkeypatch.setattr(patience, "GRACE_S", GRACE_S)
    said = {"statement_timeout_ms": int(STATEMENT_S * 1000), "pool_size": 4}
    database = configuration.database.model_copy(update=said)
    headers = {"X-API-Key": credentials["planner"]["api_key"]}
    with (
        served(create_app(replace(configuration, database=database))) as url,
        httpx.Client(base_url=url, headers=headers, timeout=30) as client,
    ):
        yield client


def readers_of(owner: Engine, waiting: bool = False) -> set[int]:
    """Processes of the database that serve /ogc/, of all servers here; `waiting`: for a lock."""
    sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'yutu ogc'"
    sql += " AND datname = current_database()"
    sql += " AND wait_event_type = 'Lock'" if waiting else ""
    with owner.connect() as connection:
        return set(connection.execute(text(sql)).scalars())


def timed(client: httpx.Client) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    answer = client.get("/ogc/collections/facilities/items", params={"limit": 1})
    return answer, time.monotonic() - began


def assert_given_up(asked: tuple[httpx.Response, float], within_s: float) -> None:
    answer, took_s = asked
    assert_problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"
    assert took_s < within_s


def test_a_stopped_process_costs_the_request_it_serves_and_no_place_in_the_pool(
    hasty: httpx.Client, owner: Engine
) -> None:
    others = readers_of(owner)
    with ExitStack() as still_stopped:
        for _ in range(3):  # more than the pool has places
            assert timed(hasty)[0].status_code == 200
            (pid,) = readers_of(owner) - others
            still_stopped.enter_context(stopped(pid))
            others.add(pid)
            assert_given_up(timed(hasty), GRACE_S + BESIDES_S)
        answer, took_s = timed(hasty)
        assert answer.status_code == 200
        assert took_s < BESIDES_S


def test_a_process_that_stops_amid_a_statement_is_given_up_after_the_statements_timeout(
    hasty: httpx.Client, owner: Engine
) -> None:
    assert timed(hasty)[0].status_code == 200
    with ThreadPoolExecutor(1) as pool, owner.connect() as connection, ExitStack() as stop:
        connection.execute(text("LOCK TABLE facility IN ACCESS EXCLUSIVE MODE"))
        asked: Future[tuple[httpx.Response, float]] = pool.submit(timed, hasty)
        while not (waiting := readers_of(owner, waiting=True)):
            assert not asked.done(), "it met no lock"
            time.sleep(0.01)
        stop.enter_context(stopped(waiting.pop()))
        connection.rollback()
        answer, took_s = timed(hasty)
        assert answer.status_code == 200
        assert took_s < BESIDES_S, "it waited for the other"
        assert not asked.done()
        assert_given_up(asked.result(), STATEMENT_S + GRACE_S + BESIDES_S)
        assert timed(hasty)[0].status_code == 200


def test_behind_a_lock_it_gives_up_like_every_other_route(
    client: httpx.Client, key: Key, owner: Engine, stored: None
) -> None:
    client.headers.update(key("planner"))
    assert timed(client)[0].status_code == 200
    with owner.connect() as connection:
        connection.execute(text("LOCK TABLE facility IN ACCESS EXCLUSIVE MODE"))
        answer, took_s = timed(client)
    assert_problem(answer, 503)
    assert "Retry-After" in answer.headers
    assert took_s < 2.5
    assert timed(client)[0].status_code == 200
