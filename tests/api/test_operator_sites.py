"""Exact sites go to those who need them: an account held to operators sees no other's, at any door."""

from __future__ import annotations

import math
from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import Engine, text

from data.accounts import Account, create_account
from data.database import Scope, app_engine, reading
from tests.api.test_scope import whole
from tests.feeds import INSIDE, YUZHONG, facility, load_facilities

Key = Callable[[str], dict[str, str]]
OWN, OTHERS = "F-own", "F-others"
LON, LAT = INSIDE[YUZHONG]
AROUND = {"type": "Point", "coordinates": [LON, LAT]}


@pytest.fixture(scope="module")
def held(owner: Engine, database_url: str, server: str) -> dict[str, dict[str, str]]:
    """Keys by role of accounts of the whole city that are held to one operator."""
    engine = app_engine(database_url, pool_size=1)
    load_facilities(
        engine,
        [
            facility(OWN, LON, LAT, kind="base_station", operator="mobile"),
            facility(OTHERS, LON, LAT, kind="base_station", operator="telecom"),
        ],
    )
    engine.dispose()
    keys = {}
    with owner.begin() as connection:
        for role in ("viewer", "field", "utility", "planner", "commander"):
            made = create_account(connection, f"mobile-{role}", role, operators=["mobile"])
            keys[role] = {"X-API-Key": made.api_key}
    return keys


def tile(zoom: int) -> str:
    """The path of the tile both stand in."""
    n = 2**zoom
    lat = math.radians(LAT)
    y = int((1 - math.asinh(math.tan(lat)) / math.pi) / 2 * n)
    return f"/tiles/facilities/{zoom}/{int((LON + 180) / 360 * n)}/{y}.mvt"


LISTS = [
    *(f"/v1/export/facilities.{form}" for form in ("geojson", "csv", "xlsx", "gpkg")),
    *("/ogc/collections/facilities/items", tile(14), tile(16)),
]


@pytest.mark.parametrize("role", ["viewer", "field", "utility", "planner", "commander"])
@pytest.mark.parametrize("path", LISTS)
def test_no_list_names_another_operators_site(
    path: str, role: str, client: httpx.Client, held: dict[str, dict[str, str]]
) -> None:
    headers = held[role] | ({"Accept": "application/json"} if path.startswith("/ogc") else {})
    told = whole(client.get(path, headers=headers))
    assert OWN in told
    assert OTHERS not in told


def test_the_whole_city_sees_both(client: httpx.Client, key: Key, held: object) -> None:
    for path in LISTS:
        headers = key("planner") | ({"Accept": "application/json"} if "/ogc" in path else {})
        told = whole(client.get(path, headers=headers))
        assert OWN in told, path
        assert OTHERS in told, path


def test_an_item_of_another_operator_is_not_found(
    client: httpx.Client, held: dict[str, dict[str, str]]
) -> None:
    headers = held["planner"] | {"Accept": "application/json"}
    items = "/ogc/collections/facilities/items"
    assert client.get(f"{items}/{OWN}", headers=headers).status_code == 200
    hidden = client.get(f"{items}/{OTHERS}", headers=headers)
    missing = client.get(f"{items}/F-nobody", headers=headers)
    assert hidden.status_code == missing.status_code == 404
    assert hidden.text.replace(OTHERS, "") == missing.text.replace("F-nobody", "")


def test_low_zoom_tiles_and_regions_count_the_own_alone(
    client: httpx.Client, key: Key, held: dict[str, dict[str, str]]
) -> None:
    tiles = [client.get(tile(3), headers=h).content for h in (held["viewer"], key("viewer"))]
    assert all(tiles)
    assert tiles[0] != tiles[1]
    asked = ({"geometry": AROUND, "radius_m": 20}, {"adcodes": [YUZHONG]})
    for body in asked:
        counts = [
            client.post("/v1/regions/query", json=body, headers=h).json()["facilities"]
            for h in (held["viewer"], key("viewer"))
        ]
        assert [one["base_station"]["total"] for one in counts] == [1, 2]
        assert list(counts[0]["base_station"]["operators"]) == ["mobile"]


def test_what_is_supposed_cannot_name_another_operators_site(
    client: httpx.Client, held: dict[str, dict[str, str]]
) -> None:
    for facility_id, status in ((OWN, 200), (OTHERS, 422)):
        body = {"changes": [{"facilities": [facility_id], "state": "down"}]}
        answer = client.post("/v1/scenarios/evaluate", json=body, headers=held["planner"])
        assert answer.status_code == status, answer.text


def test_the_database_alone_keeps_them_apart(
    database_url: str,
    client: httpx.Client,
    held: dict[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Account, "speaks_for", lambda self, operator: True)
    told = whole(client.get("/v1/export/facilities.csv", headers=held["planner"]))
    assert OWN in told
    assert OTHERS not in told
    engine = app_engine(database_url, pool_size=1)
    ids = text("SELECT facility_id FROM facility WHERE facility_id = ANY (:ids) ORDER BY 1 DESC")
    both = {"ids": [OWN, OTHERS]}
    with reading(engine, Scope(operators=("mobile",))) as connection:
        assert connection.execute(ids, both).scalars().all() == [OWN]
    with reading(engine, Scope()) as connection:
        assert connection.execute(ids, both).scalars().all() == [OWN, OTHERS]
    with engine.begin() as connection:
        connection.execute(text("SELECT set_config('app.districts', '*', true)"))
        assert connection.execute(ids, both).scalars().all() == [], "no operators said, none seen"
    engine.dispose()
