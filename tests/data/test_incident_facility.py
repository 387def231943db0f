"""An incident that names a lift says where it is, who owns it and who maintains it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from data.database import app_engine
from data.facilities import import_facilities
from data.facility_file import read_facility_file
from data.facility_rows import facility_rows
from data.incident_submission import store_incident
from data.incidents import get_incident
from data.rulepacks import load_packs
from geo.errors import NotFound
from tests.data.test_incidents import incident
from tests.feeds import FIELD, FIELD_OTHER, INSIDE, NANAN, YUZHONG

PACKS = load_packs()
LIFT = {
    "facility_id": "LIFT-7",
    "name": "2 号梯",
    "kind": "special_equipment",
    "owner": "某物业公司",
    "maintainer": "某电梯维保公司",
    "rescue_code": "500777",
}


@pytest.fixture
def engine(divided_database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """With a lift in 南岸区, imported from a file under Chinese headers."""
    made = app_engine(divided_database_url)
    lon, lat = INSIDE[NANAN]
    path = tmp_path / "lifts.csv"
    path.write_text(
        "设施编号,名称,经度,纬度,设备种类,救援识别码,产权单位,维保单位\n"
        f"LIFT-7,2 号梯,{lon},{lat},电梯,500777,某物业公司,某电梯维保公司\n",
        encoding="utf-8",
    )
    table = read_facility_file(path, path.name, crs="WGS84")
    rows = facility_rows(table, kind="special_equipment")
    import_facilities(made, rows.frame, account="planner", body=path.read_bytes())
    yield made
    made.dispose()


@pytest.mark.parametrize("named", ["500777", "LIFT-7"])
def test_a_rescue_code_or_an_id_gives_place_owner_and_maintainer(
    engine: Engine, named: str
) -> None:
    body = incident(position=None, facility_id=named)
    stored = store_incident(
        engine, body, body=json.dumps(body).encode(), account=FIELD, packs=PACKS
    )
    assert (stored.json["adcode"], stored.json["facility"]) == (NANAN, LIFT)
    shown = get_incident(engine, UUID(body["incident_id"]), FIELD, PACKS)["properties"]
    assert shown["facility"] == LIFT, "whoever submitted sees it, in another district too"
    with pytest.raises(NotFound):
        get_incident(engine, UUID(body["incident_id"]), FIELD_OTHER, PACKS)


@pytest.mark.parametrize("named", [None, "unheard-of"])
def test_without_a_known_facility_there_is_none(engine: Engine, named: str | None) -> None:
    body = incident(facility_id=named)
    stored = store_incident(
        engine, body, body=json.dumps(body).encode(), account=FIELD, packs=PACKS
    )
    assert (stored.json["adcode"], stored.json["facility"]) == (YUZHONG, None)
