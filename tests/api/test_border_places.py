"""Over HTTP into PostGIS: 200 places beside real borders, in every datum, typed and as numbers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from tests.feeds import ago
from tests.geo.border_places import MISREAD, border_places, districts, statements

Key = Callable[[str], dict[str, str]]
NAMES = dict(zip(districts()["adcode"], districts()["name"], strict=True))
PLACES = border_places()


@pytest.fixture(scope="module")
def send(server: str, key: Key) -> Iterator[Callable[..., Any]]:
    """`send(position, crs)` → the stored incident's answer."""
    with httpx.Client(base_url=server, headers=key("commander"), timeout=30) as client:

        def post(position: Any, crs: str | None, **more: Any) -> Any:
            body = {
                "incident_id": str(uuid.uuid4()),
                "plan": "communications-2024",
                "kind": "base_station",
                "occurred_at": ago(minutes=10),
                "position": position,
                **({} if crs is None else {"crs": crs}),
                **more,
            }
            answer = client.post("/v1/incidents", json=body)
            assert answer.status_code == 201, answer.text
            return answer.json()

        yield post


@pytest.mark.parametrize("turn", [0, pytest.param(1, marks=pytest.mark.bench)])
def test_every_place_is_stored_in_its_own_district(send: Callable[..., Any], turn: int) -> None:
    """Every place in every system, in turn as numbers or typed; with `-m bench` also the other."""
    wrong = []
    for n, place in enumerate(PLACES):
        for position, crs in statements(place, n)[(n + turn) % 2 :: 2]:
            told = send(position, crs)
            if (told["adcode"], told["warnings"]) != (place.adcode, []):
                wrong.append((position, crs, told["adcode"], told["warnings"]))
    assert wrong == []


@pytest.mark.parametrize("crs", MISREAD)
def test_undeclared_it_is_stored_next_door_with_a_warning_naming_both(
    send: Callable[..., Any], crs: str
) -> None:
    for place in PLACES[::4]:
        there = place.misread[crs]
        told = send(list(place.numbers(crs)), None)
        assert told["adcode"] == there, "nothing is guessed"
        (warning,) = told["warnings"]
        assert warning["code"] == "datum_undeclared_near_border"
        assert f"落在{NAMES[there]}" in warning["text"]
        assert f"若为 {crs}" in warning["text"]
        assert f"则在{NAMES[place.adcode]}" in warning["text"]


def test_the_numbers_and_the_datum_are_kept_as_given(
    send: Callable[..., Any], owner: Engine
) -> None:
    place = PLACES[0]
    position, crs = statements(place, 3)[5]
    told = send(position, crs)
    with owner.connect() as connection:
        row = connection.execute(
            text(
                "SELECT crs, original_position, ST_X(geom) AS lon, ST_Y(geom) AS lat"
                " FROM incident WHERE incident_id = :id"
            ),
            {"id": told["incident_id"]},
        ).one()
    assert (row.crs, row.original_position) == (crs, position)
    assert (row.lon, row.lat) == pytest.approx((place.lon, place.lat), abs=1e-6)
