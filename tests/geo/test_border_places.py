"""Beside real borders: what is declared lands right, what is not lands next door, this often."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from geo.position import other_readings, read_position
from tests.geo.border_places import (
    COUNT,
    MISREAD,
    as_printed,
    border_places,
    district_of,
    rates,
    statements,
)

ROOT = Path(__file__).resolve().parents[2]
#: Where the figures of `python -m tests.geo.border_places` are printed.
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "docs" / "meanings.md"]
PLACES = border_places()


def test_there_are_200_places_all_over_the_city() -> None:
    assert len(PLACES) == COUNT
    assert len({place.adcode for place in PLACES}) >= 30
    assert len({(place.adcode, place.misread["GCJ-02"]) for place in PLACES}) >= 80
    assert all(other != place.adcode for place in PLACES for other in place.misread.values())


@pytest.mark.parametrize("turn", range(6))
def test_every_place_declared_in_any_system_lands_in_its_own_district(turn: int) -> None:
    told = [one for n, place in enumerate(PLACES) for one in statements(place, n + turn)]
    read = [read_position(position, crs) for position, crs in told]
    assert all(one.place is not None for one in read)
    lon, lat = np.array([one.place for one in read]).T
    meant = np.repeat([place.adcode for place in PLACES], len(told) // COUNT)
    wrong = [told[n] for n, found in enumerate(district_of(lon, lat)) if found != meant[n]]
    assert wrong == []


@pytest.mark.parametrize("crs", MISREAD)
def test_undeclared_every_place_lands_in_the_neighbour_and_its_datum_is_named(crs: str) -> None:
    for place in PLACES:
        x, y = place.numbers(crs)
        (there,) = district_of(np.array([x]), np.array([y]))
        assert there == place.misread[crs]
        others = other_readings([x, y], "WGS84")
        assert set(others) == {"GCJ-02", "BD-09"}
        lon, lat = others[crs]
        assert district_of(np.array([lon]), np.array([lat])) == [place.adcode]


def test_the_printed_figures_are_the_computed_ones() -> None:
    computed = rates()
    assert computed["chosen"] == dict.fromkeys(MISREAD, 1.0)
    figures = [
        as_printed(computed[sample][crs])
        for crs in MISREAD
        for sample in ("near", "anywhere", "facilities")
    ]
    checked = 0
    for page in PAGES:
        blocks = re.findall(r"<!-- datums -->(.*?)<!-- /datums -->", page.read_text("utf-8"), re.S)
        for block in blocks:
            assert re.findall(r"\d+\.\d %", block) == figures, page.name
            checked += 1
    assert checked >= 1
