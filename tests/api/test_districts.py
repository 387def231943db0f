"""The divisions over HTTP: those in force now, those of before, one of them."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
import shapely
from shapely.geometry import shape

from tests.api.conftest import assert_problem

Key = Callable[[str], dict[str, str]]
BEFORE = "2025-11-05T23:59:59+08:00"
SINCE = "2025-11-06T00:00:00+08:00"


@pytest.mark.parametrize(
    ("at", "count", "has", "lacks"),
    [
        (None, 37, {"500157"}, {"500105", "500112"}),
        (SINCE, 37, {"500157"}, {"500105", "500112"}),
        (BEFORE, 38, {"500105", "500112"}, {"500157"}),
    ],
)
def test_the_districts_are_those_of_the_time(
    client: httpx.Client, key: Key, at: str | None, count: int, has: set[str], lacks: set[str]
) -> None:
    answer = client.get("/v1/districts", params={"at": at} if at else {}, headers=key("viewer"))
    assert answer.headers["content-type"].startswith("application/geo+json")
    found = answer.json()
    codes = {f["properties"]["adcode"] for f in found["features"]}
    assert len(found["features"]) == len(codes) == count
    assert has <= codes
    assert not lacks & codes
    for feature in found["features"]:
        assert feature["geometry"]["type"] == "MultiPolygon"
        assert shape(feature["geometry"]).is_valid
        properties = feature["properties"]
        assert set(properties) >= {"name", "name_en", "population", "area_m2", "source", "licence", "approximate", "valid_from", "valid_to"}  # fmt: skip
        assert properties["area_m2"] > 1e6


def test_simplified_borders_are_smaller_and_neighbours_still_meet(
    client: httpx.Client, key: Key
) -> None:
    whole = client.get("/v1/districts", headers=key("viewer"))
    thin = client.get("/v1/districts?simplify=400", headers=key("viewer"))
    assert len(thin.content) < len(whole.content) / 3
    shapes = [shape(f["geometry"]) for f in thin.json()["features"]]
    assert shapely.coverage_is_valid(shapely.from_wkb([shapely.to_wkb(s) for s in shapes]))


def test_one_district_and_what_there_is_not(client: httpx.Client, key: Key) -> None:
    one = client.get("/v1/districts/500103", headers=key("viewer")).json()
    assert (one["type"], one["properties"]["name"]) == ("Feature", "渝中区")
    assert_problem(client.get("/v1/districts/500105", headers=key("viewer")), 404)
    then = client.get("/v1/districts/500105", params={"at": BEFORE}, headers=key("viewer"))
    assert then.json()["properties"]["name"] == "江北区"
    for wrong in ("50010", "abcdef", "5001035", "%E6%B8%9D"):
        assert_problem(client.get(f"/v1/districts/{wrong}", headers=key("viewer")), 422)
    for wrong in ("0", "-5", "nan", "5001", "x"):
        assert_problem(client.get(f"/v1/districts?simplify={wrong}", headers=key("viewer")), 422)
    assert_problem(client.get("/v1/districts"), 401)
