"""Where an incident is placed when its position is typed, doubtful, or a lift's rescue code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from data.database import app_engine
from data.incident_doubts import WARNINGS, warning_texts
from data.incident_submission import StoredIncident, store_incident
from data.incidents import get_incident
from data.rulepacks import load_packs
from geo.crs import from_wgs84
from geo.errors import InvalidInput
from tests.feeds import (
    COMMANDER,
    INSIDE,
    NANAN,
    YUZHONG,
    facility,
    incident,
    load_facilities,
)
from tests.geo.border_places import border_places

PACKS = load_packs()


@pytest.fixture(scope="module")
def engine(shared_divided_url: str) -> Any:
    made = app_engine(shared_divided_url, acquire_timeout_s=30)
    lift = facility("LIFT-1", *INSIDE[NANAN], kind="special_equipment", rescue_code="500123")
    load_facilities(made, [lift])
    yield made
    made.dispose()


def submit(engine: Engine, body: dict[str, Any]) -> StoredIncident:
    return store_incident(engine, body, body=b"{}", account=COMMANDER, packs=PACKS)


def see(engine: Engine, incident_id: str) -> dict[str, Any]:
    properties: dict[str, Any] = get_incident(engine, UUID(incident_id), COMMANDER, PACKS)[
        "properties"
    ]
    return properties


def test_a_rescue_code_stands_for_its_lift(engine: Engine) -> None:
    stored = submit(engine, incident(position=None, facility_id="500123"))
    seen = see(engine, stored.json["incident_id"])
    assert (seen["adcode"], seen["facility_id"]) == (NANAN, "LIFT-1")
    assert [w["code"] for w in seen["warnings"]] == ["placed_by_rescue_code"]


def test_a_position_typed_as_text_is_placed_and_kept_as_typed(engine: Engine) -> None:
    lon, lat = INSIDE[NANAN]
    typed = f"北纬{lat:.4f}度，东经{lon:.4f}度"
    stored = submit(engine, incident(position=typed))
    seen = see(engine, stored.json["incident_id"])
    assert (seen["adcode"], seen["original_position"], seen["warnings"]) == (NANAN, typed, [])


@pytest.mark.parametrize(
    ("more", "codes", "placed"),
    [
        ({"position": "106.63,29.51"}, ["coordinate_imprecise"], True),
        (
            {"position": "360000,3270000", "crs": "CGCS2000", "address": "南岸区"},
            ["zone_prefix_missing", "unplaced"],
            False,
        ),
        (
            {"position": "360000,3270000", "crs": "CGCS2000", "facility_id": "LIFT-1"},
            ["zone_prefix_missing", "placed_by_facility"],
            True,
        ),
    ],
)
def test_a_doubtful_position_is_kept_with_its_likely_cause(
    engine: Engine, more: dict[str, Any], codes: list[str], placed: bool
) -> None:
    stored = submit(engine, incident(**more))
    assert [w["code"] for w in stored.json["warnings"]] == codes
    assert all(w["text"] for w in stored.json["warnings"])
    assert (stored.json["adcode"] == NANAN) is placed


def test_an_address_naming_another_district_than_the_point_is_doubted(engine: Engine) -> None:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT adcode, name FROM district WHERE adcode = ANY (:codes)"),
            {"codes": [NANAN, YUZHONG]},
        )
        names = {row.adcode: row.name for row in rows}
    here, there = names[YUZHONG], names[NANAN]
    for address, codes in (
        (f"重庆市{here}民权路1号", []),
        (f"重庆市{there}南坪街道", ["far_from_named_district"]),
        (f"{there}与{here}交界", []),
        ("解放碑", []),
    ):
        stored = submit(engine, incident(address=address))
        assert [w["code"] for w in stored.json["warnings"]] == codes, address


def codes(stored: StoredIncident) -> dict[str, str]:
    return {w["code"]: w["text"] for w in stored.json["warnings"]}


def test_outside_as_declared_but_inside_in_another_datum_says_so(engine: Engine) -> None:
    """Beside the city's outer border the other reading is named, and the place is not moved."""
    lon, lat = 105.290, 29.580  # in Sichuan; from there east to the border
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT ST_X(p) AS lon, ST_Y(p) AS lat FROM"
                " (SELECT ST_SetSRID(ST_MakePoint(:lon + n * 0.001, :lat), 4326) AS p, n"
                "  FROM generate_series(0, 1000) n) s"
                " WHERE EXISTS (SELECT 1 FROM district d WHERE ST_Covers(d.geom, p))"
                " ORDER BY n LIMIT 1"
            ),
            {"lon": lon, "lat": lat},
        ).one()
    numbers = (found.lon + 0.0005, found.lat)
    # declared GCJ-02, WGS-84 numbers move north-west, out of the city
    stored = submit(engine, incident(position=list(numbers), crs="GCJ-02"))
    assert stored.json["adcode"] is None
    assert list(codes(stored)) == ["outside"]
    assert codes(stored)["outside"].count("若为") == 1
    assert "若为 WGS-84（手机、北斗），则在" in codes(stored)["outside"]
    assert see(engine, stored.json["incident_id"])["original_position"] == list(numbers)


def test_far_outside_in_every_datum_no_cause_is_made_up(engine: Engine) -> None:
    stored = submit(engine, incident(position=[104.07, 30.67], crs="GCJ-02"))
    assert codes(stored) == {"outside": "位置在重庆市以外，请核对坐标和坐标系"}
    undeclared = submit(engine, incident(position=[104.07, 30.67]))
    assert list(codes(undeclared)) == ["outside"]


def test_the_zone_that_would_fit_is_named(engine: Engine) -> None:
    east, north = (round(n, 1) for n in from_wgs84(*INSIDE[NANAN], "EPSG:4544"))
    stored = submit(engine, incident(position=[east, north], crs="EPSG:4546"))
    assert stored.json["adcode"] is None
    assert "若为 EPSG:4544，则在南岸区" in codes(stored)["outside"]
    bare = submit(engine, incident(position=[east, north], crs="CGCS2000"))
    assert list(codes(bare)) == ["zone_prefix_missing", "unplaced"]


def test_the_datum_that_fits_the_address_is_named(engine: Engine) -> None:
    place = next(p for p in border_places() if p.misread["GCJ-02"] == p.misread["BD-09"])
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT adcode, name FROM district"))
        names = {row.adcode: row.name for row in rows}
    numbers = list(place.numbers("GCJ-02"))
    address = f"重庆市{names[place.adcode]}某路1号"
    declared = submit(engine, incident(position=numbers, crs="WGS84", address=address))
    assert declared.json["adcode"] == place.misread["GCJ-02"]
    (said,) = codes(declared).values()
    assert f"若为 GCJ-02（高德、腾讯、微信），则在{names[place.adcode]}" in said
    undeclared = submit(engine, incident(position=numbers, address=address))
    assert list(codes(undeclared)) == ["far_from_named_district", "datum_undeclared_near_border"]
    right = submit(engine, incident(position=numbers, crs="GCJ-02", address=address))
    assert (right.json["adcode"], codes(right)) == (place.adcode, {})


def test_undeclared_well_inside_a_district_needs_no_warning(engine: Engine) -> None:
    for adcode in (YUZHONG, NANAN):
        stored = submit(engine, incident(position=list(INSIDE[adcode])))
        assert (stored.json["adcode"], codes(stored)) == (adcode, {})


def test_the_same_warning_reads_in_english(engine: Engine) -> None:
    place = border_places()[0]
    body = incident(position=list(place.numbers("BD-09")))
    stored = store_incident(engine, body, body=b"{}", account=COMMANDER, packs=PACKS, lang="en")
    (said,) = codes(stored).values()
    assert re.search("[⺀-鿿]", said) is None
    assert "in BD-09 (Baidu) it would be in " in said


@pytest.mark.parametrize(
    ("position", "crs"),
    [([29.553, 106.553], "WGS84"), ("29.553，106.553", "GCJ-02"), ([29.553, 106.553], None),
     ([3271000.0, 36360000.0], "EPSG:4524")],
)  # fmt: skip
def test_exchanged_axes_are_refused_with_that_hint(
    engine: Engine, position: Any, crs: str | None
) -> None:
    with pytest.raises(InvalidInput, match=r"exchanged|north before east") as refused:
        submit(engine, incident(position=position, crs=crs))
    assert [fault.field for fault in refused.value.faults] == ["position"]


def test_every_warning_has_both_languages_and_is_explained() -> None:
    explained = (Path(__file__).resolve().parents[2] / "docs" / "meanings.md").read_text("utf-8")
    for code in WARNINGS:
        assert f"`{code}`" in explained
        for lang in ("zh", "en"):
            (told,) = warning_texts([code], lang)
            assert told["code"] == code
            assert bool(re.search("[⺀-鿿]", told["text"])) is (lang == "zh")
            assert "{" not in told["text"]
