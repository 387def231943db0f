"""Vector tiles: over every zoom the totals are the table's, within a scope and under a filter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pandas as pd
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from data.database import WHOLE_CITY, app_engine
from data.facility_tiles import facility_tile
from tests.api.conftest import Credentials, assert_problem, served
from tests.feeds import INSIDE, NANAN, YUZHONG, facility, load_facilities
from tests.vector_tile import features

Key = Callable[[str], dict[str, str]]
FORMULA = "朝天门 =站"


@pytest.fixture(scope="module")
def stored(database_url: str) -> int:
    random = np.random.default_rng(7)
    rows = [
        facility(
            f"T-{i}",
            float(random.uniform(105.4, 110.0)),
            float(random.uniform(28.3, 32.1)),
            kind="base_station" if i % 3 else "substation",
            state_at_import=("up", "down", "unknown", "degraded")[i % 4],
            synthetic=i % 2 == 0,
            name=FORMULA,
        )
        for i in range(1500)
    ]
    # on the very corner of tiles of every zoom from 2 up, and twice in one place
    rows += [facility(f"CORNER-{i}", 90.0, 0.0) for i in range(2)]
    rows += [facility("IN-1", *INSIDE[YUZHONG]), facility("IN-2", *INSIDE[NANAN])]
    engine = app_engine(database_url)
    load_facilities(engine, rows)
    engine.dispose()
    return len(rows)


@pytest.fixture(scope="module")
def server(app: FastAPI, credentials: Credentials, stored: int) -> Iterator[str]:
    with served(app) as url:
        yield url


def decoded(tile: bytes) -> pd.DataFrame:
    frame = pd.DataFrame(features(tile))
    assert (frame["layer"] == "facilities").all()
    assert frame["at"].map(lambda at: 0 <= at[0] < 4096 and 0 <= at[1] < 4096).all()
    return frame


def tiles_over(owner: Engine, z: int) -> set[tuple[int, int]]:
    """Tiles that hold a facility, computed here with Python's own mathematics, and those around."""
    with owner.connect() as connection:
        places = connection.execute(text("SELECT ST_X(geom), ST_Y(geom) FROM facility")).all()
    found = set()
    for lon, lat in places:
        x = math.floor((lon + 180) / 360 * 2**z)
        y = math.floor((1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**z)
        found |= {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    return {(x, y) for x, y in found if 0 <= x < 2**z and 0 <= y < 2**z}


@pytest.mark.parametrize("z", [0, 1, 2, 6, 9])
def test_no_facility_is_lost_or_repeated_at_any_zoom(
    z: int, stored: int, owner: Engine, database_url: str
) -> None:
    engine = app_engine(database_url)
    frames = []
    for x, y in sorted(tiles_over(owner, z)):
        tile = facility_tile(engine, z, x, y, scope=WHOLE_CITY)
        if tile:
            frames.append(decoded(tile))
    engine.dispose()
    every = pd.concat(frames)
    assert every["total"].sum() == stored
    with owner.connect() as connection:
        states = dict(
            connection.execute(
                text("SELECT state::text, count(*) FROM facility_state GROUP BY 1")
            ).all()
        )
    for state in ("down", "degraded", "unknown"):
        assert every[state].sum() == states[state]
    assert every["synthetic"].sum() == 750
    assert every["aggregated"].all()


@pytest.mark.parametrize("z", [14, 17])
def test_from_zoom_14_each_facility_stands_alone_once(
    z: int, stored: int, owner: Engine, database_url: str
) -> None:
    engine = app_engine(database_url)
    seen: list[str] = []
    with owner.connect() as connection:
        places = connection.execute(
            text(
                "SELECT facility_id, ST_X(geom), ST_Y(geom) FROM facility ORDER BY pk DESC LIMIT 60"
            )
        ).all()
    tiles = set()
    for _, lon, lat in places:
        x = math.floor((lon + 180) / 360 * 2**z)
        y = math.floor((1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**z)
        tiles |= {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    for x, y in tiles:
        tile = facility_tile(engine, z, x, y, scope=WHOLE_CITY)
        if tile:
            frame = decoded(tile)
            assert not frame["aggregated"].any()
            assert (frame["total"] == 1).all()
            seen += list(frame["facility_id"])
    engine.dispose()
    assert len(seen) == len(set(seen)), "on two tiles"
    assert {one[0] for one in places} <= set(seen)


def test_a_tile_is_within_scope_filtered_named_and_cached_by_etag(
    client: httpx.Client, key: Key, stored: int
) -> None:
    answer = client.get("/tiles/facilities/0/0/0.mvt", headers=key("planner"))
    assert answer.headers["content-type"] == "application/vnd.mapbox-vector-tile"
    assert decoded(answer.content)["total"].sum() == stored
    down = client.get(
        "/tiles/facilities/0/0/0.mvt?kind=substation&state=down", headers=key("planner")
    )
    frame = decoded(down.content)
    assert (
        frame["total"].sum()
        == frame["down"].sum()
        == sum(i % 3 == 0 and i % 4 == 1 for i in range(1500))
    )
    again = {**key("planner"), "If-None-Match": answer.headers["etag"]}
    assert client.get("/tiles/facilities/0/0/0.mvt", headers=again).status_code == 304
    assert down.headers["etag"] != answer.headers["etag"]
    field = client.get(
        "/tiles/facilities/0/0/0.mvt",
        headers={**key("field"), "If-None-Match": answer.headers["etag"]},
    )
    assert field.status_code == 200, "the etag of another scope"
    seen = decoded(field.content)["total"].sum() if field.content else 0
    page = client.get("/ogc/collections/facilities/items", headers=key("field"))
    assert seen == page.json()["numberMatched"] < stored


@pytest.mark.parametrize(
    "place", ["0/1/0", "0/0/1", "23/0/0", "x/0/0", "-1/0/0", "5/99/0", "1e9/0/0"]
)
def test_a_tile_outside_the_world_is_refused(place: str, client: httpx.Client, key: Key) -> None:
    answer = client.get(f"/tiles/facilities/{place}.mvt", headers=key("planner"))
    assert_problem(answer, 422)


@pytest.mark.parametrize("query", ["kind=x", "state=broken", "kind=%27%20OR%201%3D1"])
def test_an_unknown_kind_or_state_is_refused(query: str, client: httpx.Client, key: Key) -> None:
    assert_problem(client.get(f"/tiles/facilities/0/0/0.mvt?{query}", headers=key("planner")), 422)
