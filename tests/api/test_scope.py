"""Another district's objects: as if they did not exist, by the policy and by the database alone."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine, text

from api.policy import DISTRICTS, OWN, POLICY, Rule
from api.situations import Situations
from data.accounts import Account
from data.database import Scope, app_engine, owner_engine, reading
from tests.api.conftest import Credentials
from tests.api.strangers_world import (
    CANARY,
    ELSEWHERE,
    HERE,
    ROLES_HERE,
    WRITES,
    World,
    strangers_world,
)
from tests.api.test_feeds_incidents import incident
from tests.feeds import INSIDE, ago
from tests.summary import Record

Key = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def world(server: str, credentials: Credentials, owner: Engine, database_url: str) -> World:
    return strangers_world(server, credentials, owner, database_url)


#: Rows that name an object; a new one must be put here, or among those below that name none.
OBJECTS = [
    row
    for row in POLICY
    if any(f"{{{name}}}" in row.path for name in ("incident_id", "order_number", "scenario_id"))
]
#: A parameter that chooses a kind of answer and no object of a district.
CHOICES = {"plan", "adcode", "path", "collection", "format", "z", "x", "y", "collectionId"}
CHOICES |= {"tileMatrixSetId", "itemId"}  # itemId: below, with the collections


def test_every_row_that_names_an_object_is_tried() -> None:
    for row in POLICY:
        names = {part.split("}")[0].split(":")[0] for part in row.path.split("{")[1:]}
        assert row in OBJECTS or names <= CHOICES, f"{row} names something: try it here"
    assert {row.scope for row in OBJECTS} == {DISTRICTS, OWN}


def asked(row: Rule, world: World, role: str, ids: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """A request that would do what the row is for, were the object one's own."""
    path = row.path.format(**ids)
    how: dict[str, Any] = {"headers": dict(world.key[role])}
    if row.path.endswith("/attachments") and row.method == "POST":
        how |= {"files": {"file": ("p.jpg", b"\xff\xd8\xff", "image/jpeg")}}
        how |= {"data": {"attachment_id": str(uuid4())}}
    elif row.method == "PATCH":
        change = (
            {"shared": True} if "scenario" in row.path else {"state": "verified", "reason": "x"}
        )
        how["json"] = change
        how["headers"]["If-Match"] = '"1"'
    elif row.path.endswith("/merge"):
        how["json"] = {"into": world.own_incident, "reason": "x"}
    elif row.path.endswith("/distinct"):
        how["json"] = {"other": world.own_incident, "reason": "x"}
    elif row.path.endswith("/told"):
        how["json"] = {"city_office_informed_at": ago(minutes=1)}
    elif row.method == "POST":
        how["json"] = {"reason": "x"}
    return path, how


def shown(answer: httpx.Response, ids: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    """Everything of an answer but the ids asked for and when it was given."""
    body = answer.content
    for name, value in ids.items():
        body = body.replace(value.encode(), name.encode())
    passing = {"date", "x-request-id", "server-timing"}
    headers = {k: v for k, v in answer.headers.items() if k.lower() not in passing}
    return answer.status_code, body, headers


@pytest.mark.parametrize(
    ("row", "role"),
    [(row, role) for row in OBJECTS for role in ROLES_HERE if role in (row.roles or ())],
    ids=str,
)
def test_another_districts_object_is_answered_as_if_it_did_not_exist(
    row: Rule, role: str, client: httpx.Client, world: World, record_property: Record
) -> None:
    record_property("matrix", {"cells tested": 1})
    theirs = {
        "incident_id": world.incident,
        "order_number": world.order,
        "attachment_id": world.attachment,
        "scenario_id": world.scenario,
    }
    nobodys = {name: str(uuid4()) for name in theirs}
    nobodys["order_number"] = f"CQ{uuid4().hex[:12]}"
    path, how = asked(row, world, role, theirs)
    hidden = client.request(row.method, path, **how)
    path, how = asked(row, world, role, nobodys)
    missing = client.request(row.method, path, **how)
    assert missing.status_code == 404, missing.text
    assert shown(hidden, theirs) == shown(missing, nobodys)


@pytest.mark.parametrize("other", ["into", "other"])
def test_a_hidden_incident_named_in_a_body_is_not_found_either(
    client: httpx.Client, world: World, other: str
) -> None:
    way = {"into": "merge", "other": "distinct"}[other]
    found = []
    for named in (world.incident, str(uuid4())):
        answer = client.post(
            f"/v1/incidents/{world.own_incident}/{way}",
            json={other: named, "reason": "x"},
            headers=world.key["commander"],
        )
        found.append(shown(answer, {"id": named}))
    assert found[0] == found[1]
    assert found[0][0] == 404


@pytest.mark.parametrize("collection", ["facilities", "incidents", "outages"])
def test_an_ogc_item_of_another_district_does_not_exist(
    client: httpx.Client, world: World, collection: str
) -> None:
    hidden = {"facilities": f"F-{ELSEWHERE}", "incidents": world.incident}.get(collection, "x")
    found = []
    for item in (hidden, str(uuid4())):
        answer = client.get(
            f"/ogc/collections/{collection}/items/{item}",
            headers=world.key["field"] | {"Accept": "application/json"},
        )
        found.append(shown(answer, {"id": item}))
    assert found[0] == found[1]
    assert found[0][0] == 404


@pytest.fixture
def no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's own filter is off: whatever is asked, the account sees and speaks for it."""
    monkeypatch.setattr(Account, "sees", lambda self, adcode: True)
    monkeypatch.setattr(Account, "speaks_for", lambda self, operator: True)


EXPORTS = [
    ("facilities", "geojson"),
    ("facilities", "csv"),
    ("incidents", "geojson"),
    ("incidents", "xlsx"),
]


@pytest.mark.usefixtures("no_filter")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/incidents",
        "/v1/outages",
        "/v1/teams",
        "/v1/cot/incidents.xml",
        "/ogc/collections/incidents/items",
        "/ogc/collections/facilities/items",
        "/tiles/facilities/0/0/0.mvt",
        "/tiles/facilities/14/13040/6796.mvt",
        *(f"/v1/export/{name}.{form}" for name, form in EXPORTS),
    ],
)
def test_row_level_security_alone_keeps_the_district(
    path: str, client: httpx.Client, world: World
) -> None:
    headers = {"Accept": "application/json"} if path.startswith("/ogc") else {}
    answer = client.get(path, headers=world.key["planner"] | headers)
    assert answer.status_code in {200, 204}, answer.text
    told = whole(answer)
    assert f"F-{ELSEWHERE}" not in told
    assert world.incident not in told
    if "incidents" in path:
        assert world.own_incident in told, "the own one shows that the answer is not simply empty"
    if path.endswith("facilities/items") or "export/facilities" in path:
        assert f"F-{HERE}" in told
        assert "numberMatched" not in told or '"numberMatched":1,' in told.replace(" ", "")


@pytest.mark.usefixtures("no_filter")
def test_row_level_security_alone_keeps_attachments_and_histories(
    client: httpx.Client, world: World
) -> None:
    base = f"/v1/incidents/{world.incident}"
    for way in ("", "/history", "/attachments", f"/attachments/{world.attachment}"):
        assert client.get(base + way, headers=world.key["commander"]).status_code == 404
    assert (
        client.get(f"/v1/hotline/{world.order}", headers=world.key["commander"]).status_code == 404
    )


TABLES = {
    "facility": "adcode",
    "facility_past": "adcode",
    "incident": "adcode",
    "outage": "adcodes",
    "team": "adcode",
    "team_position": "adcode",
    "incident_revision": None,
    "incident_conflict": None,
    "attachment": None,
    "hotline_order": None,
    "hotline_notice": None,
    "incident_distinct": None,
    "stream_event": "adcode",
    "operator_return": None,
}


def test_every_table_of_what_lies_somewhere_has_its_policy(database_url: str) -> None:
    engine = owner_engine(database_url)
    with engine.connect() as connection:
        walled = set(
            connection.execute(
                text("SELECT relname FROM pg_class WHERE relrowsecurity AND relkind IN ('r', 'p')")
            ).scalars()
        )
        placed = set(
            connection.execute(
                text(
                    "SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
                    " WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
                    " AND a.attname IN ('adcode', 'incident_id') AND NOT a.attisdropped"
                )
            ).scalars()
        )
    engine.dispose()
    assert walled == set(TABLES)
    public = {"district", "placement_division"}  # where districts are is no secret
    assert placed - public <= walled


def test_the_tables_show_nothing_of_elsewhere(database_url: str, world: World) -> None:
    engine = app_engine(database_url, pool_size=1)
    hidden = {
        "incident": f"incident_id = '{world.incident}'",
        "incident_revision": f"incident_id = '{world.incident}'",
        "incident_conflict": f"incident_id = '{world.incident}'",
        "attachment": f"incident_id = '{world.incident}'",
        "hotline_order": f"order_number = '{world.order}'",
        "facility": f"facility_id = 'F-{ELSEWHERE}'",
        "stream_event": f"kind = 'incident' AND payload ->> 'incident_id' = '{world.incident}'",
    }
    for table, condition in hidden.items():
        sql = text(f"SELECT count(*) FROM {table} WHERE {condition}")
        with reading(engine, Scope((HERE,))) as connection:
            assert connection.execute(sql).scalar() == 0, table
        with reading(engine, Scope((ELSEWHERE,))) as connection:
            assert connection.execute(sql).scalar(), f"{table}: its own district sees it"
        with engine.connect() as connection:
            assert connection.execute(sql).scalar() == 0, f"{table}: no scope sees nothing"
    engine.dispose()


def test_a_replayed_stream_is_read_within_the_scope(
    database_url: str, client: httpx.Client, key: Key, world: World
) -> None:
    wait_until_shown(client, key)
    engine = app_engine(database_url, pool_size=1)
    situations = Situations(engine, database_url)
    seen = {str(e.payload.get("incident_id")) for e in situations.replay(0, Scope((HERE,)))}
    everything = {str(e.payload.get("incident_id")) for e in situations.replay(0)}
    engine.dispose()
    assert world.incident not in seen
    assert world.own_incident in seen
    assert world.incident in everything


def wait_until_shown(client: httpx.Client, key: Key) -> None:
    """Until a situation has been built after the writes made so far."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        answer = client.get("/v1/situation", headers=key("viewer"))
        if answer.status_code == 200 and answer.json()["sequence"] >= WRITES:
            return
        time.sleep(0.2)
    raise AssertionError("no situation was built")


SPATIAL = {
    "facility": "ix_facility_geom",
    "incident": "ix_incident_geom",
    "outage": "ix_outage_geom",
    "team": "ix_team_geom",
}


@pytest.mark.parametrize(("table", "index"), SPATIAL.items())
@pytest.mark.parametrize("role", ["yutu_app", "yutu_reader"])
def test_spatial_questions_use_the_index_behind_the_wall(
    owner: Engine, world: World, table: str, index: str, role: str
) -> None:
    if (table, role) == ("team", "yutu_reader"):
        return  # not published
    lon, lat = INSIDE[HERE]
    box = f"ST_MakeEnvelope({lon}, {lat}, {lon + 1e-3}, {lat + 1e-3}, 4326)"
    with owner.connect() as connection:
        connection.execute(text(f"SET LOCAL ROLE {role}"))
        connection.execute(
            text(
                f"SELECT set_config('app.districts', '{HERE}', true), set_config('app.operators', '*', true)"
            )
        )
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        column = {
            "facility": "facility_id",
            "incident": "incident_id",
            "outage": "outage_id",
            "team": "uid",
        }[table]
        plan = "\n".join(
            connection.execute(
                text(f"EXPLAIN SELECT {column} FROM {table} WHERE ST_Intersects(geom, {box})")
            ).scalars()
        )
    assert index in plan
    assert "Index Cond: (geom &&" in plan


def test_a_telephone_number_is_nowhere_but_where_it_is_needed(
    client: httpx.Client, key: Key, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    readers = {
        "viewer": key("viewer"),
        "planner": key("planner"),
        "utility": key("utility"),
        "field": key("field"),
    }
    paths = [
        "/v1/incidents",
        f"/v1/incidents/{world.incident}",
        f"/v1/incidents/{world.incident}/history",
        f"/v1/incidents/{world.incident}/attachments",
        f"/v1/hotline/{world.order}",
        "/v1/cot/incidents.xml",
        "/v1/teams",
        "/v1/situation",
        "/metrics",
        "/tiles/facilities/14/13040/6796.mvt",
        "/ogc/collections/incidents/items?f=json",
        f"/ogc/collections/incidents/items/{world.incident}?f=json",
        "/ogc/collections/incidents/tiles/WebMercatorQuad/9/407/212",
        *(f"/v1/export/incidents.{form}" for form in ("geojson", "csv", "xlsx", "gpkg", "parquet")),
        "/v1/export/incidents.csv?reporters=true",
        f"/v1/incidents?bbox={CANARY}",
        f"/v1/incidents/{CANARY}",
        f"/v1/export/{CANARY}.csv",
        f"/v1/hotline/{CANARY}",
    ]
    for path in paths:
        for name, headers in readers.items():
            answer = client.get(path, headers=headers)
            assert answer.status_code < 500, (path, name)
            assert CANARY not in whole(answer), (path, name)
    wrong: list[dict[str, Any]] = [
        {"reporter": CANARY},
        {"reporter": {"phone": [CANARY]}},
        {"occurred_at": CANARY},
        {"kind": CANARY},
        {"position": CANARY},
        {CANARY: 1, "facts": {CANARY: 1}},
    ]
    for change in wrong:
        answer = client.post("/v1/incidents", json=incident(**change), headers=key("field"))
        assert answer.status_code < 500
        if not answer.is_success:
            assert CANARY not in answer.text, change
    for form in (
        {"username": CANARY, "password": CANARY},
        {"username": "field", "password": CANARY},
    ):
        assert CANARY not in client.post("/v1/token", data=form).text
    written = capfd.readouterr()
    assert CANARY not in written.out + written.err
    answer = client.get(f"/v1/incidents/{world.incident}", headers=key("commander"))
    assert answer.json()["properties"]["reporter"]["phone"] == CANARY


def whole(answer: httpx.Response) -> str:
    """The answer's text and headers, of an archive every member."""
    told = json.dumps(dict(answer.headers)) + answer.content.decode("utf-8", "replace")
    if answer.content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            told += "".join(archive.read(n).decode("utf-8", "replace") for n in archive.namelist())
    return told
