"""Where an incident is placed when its position is typed, doubtful, or a lift's rescue code."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from data.database import app_engine
from data.incident_submission import StoredIncident, store_incident
from data.incidents import get_incident
from data.rulepacks import load_packs
from tests.feeds import (
    COMMANDER,
    INSIDE,
    NANAN,
    YUZHONG,
    ago,
    facility,
    load_divisions,
    load_facilities,
)

PACKS = load_packs()


@pytest.fixture(scope="module")
def engine(database_url: str) -> Any:
    made = app_engine(database_url, acquire_timeout_s=30)
    load_divisions(database_url)
    lift = facility("LIFT-1", *INSIDE[NANAN], kind="special_equipment", rescue_code="500123")
    load_facilities(made, [lift])
    yield made
    made.dispose()


def incident(**more: Any) -> dict[str, Any]:
    base = {
        "incident_id": str(uuid4()),
        "plan": "special-equipment-2023",
        "kind": "elevator",
        "occurred_at": ago(minutes=10),
        "position": list(INSIDE[YUZHONG]),
    }
    return base | more


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
