"""Faults speak of what a file of that format is made of, and list words in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from api.messages import told
from data.facility_columns import EQUIPMENT
from data.facility_file import FacilityTable
from data.facility_rows import facility_rows
from data.incident_doubts import unknown_facility, warning_texts
from data.readers.incident_file import read_incident_file
from geo.errors import InvalidInput
from tests.data.incident_files.generate import PLAN, photo

GPX = (
    '<?xml version="1.0" encoding="UTF-8"?><gpx xmlns="http://www.topografix.com/GPX/1/1" version="1.1">'
    '<wpt lat="29.563" lon="106.5516"><name>解放碑</name></wpt></gpx>'
)
KML = (
    '<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Placemark>'
    "<name>解放碑</name><Point><coordinates>106.5516,29.563</coordinates></Point></Placemark></Document></kml>"
)
CSV = "经度,纬度\n106.5516,29.563\n"


def faults(folder: Path, name: str, body: str | bytes, **said: str | None) -> dict[str | None, str]:
    path = folder / name
    path.write_bytes(body.encode() if isinstance(body, str) else body)
    given = {"crs": None, "plan": None, "kind": None} | said
    file = read_incident_file(str(path), name, given["crs"], given["plan"], given["kind"], "x")
    return {fault.field: fault.reason for row in file.rows for fault in row.faults}


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("a.gpx", GPX, {"plan": "form part `plan`", "kind": "element <type>, or the form part `kind`",
                        "occurred_at": "element <time>"}),
        ("a.kml", KML, {"plan": '<Data name="plan">, or the form part `plan`', "kind": "form part `kind`",
                        "occurred_at": "<TimeStamp> with <when>"}),
        ("a.jpg", photo("JPEG"), {"plan": "form part `plan`", "kind": "form part `kind`"}),
        ("a.csv", CSV, {"plan": "add a column 预案", "kind": "add a column 设备类型",
                        "occurred_at": "add a column 事发时间"}),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_as_the_file_would_hold_it(
    tmp_path: Path, name: str, body: str | bytes, says: dict[str, str]
) -> None:
    found = faults(tmp_path, name, body)
    for field, words in says.items():
        assert words in found[field]
        assert re.search("请[在加]", told(found[field], "zh"))
    if name != "a.csv":
        assert "column" not in " ".join(found.values())


def test_following_what_a_fault_says_mends_it(tmp_path: Path) -> None:
    gpx = GPX.replace("</name>", "</name><type>电梯</type><time>2026-11-21T00:30:00Z</time>")
    assert faults(tmp_path, "a.gpx", gpx, plan=PLAN) == {}
    more = (
        '<ExtendedData><Data name="plan"><value>特种设备</value></Data><Data name="kind"><value>电梯</value></Data>'
        "</ExtendedData><TimeStamp><when>2026-11-21T00:30:00Z</when></TimeStamp><Point>"
    )
    assert faults(tmp_path, "a.kml", KML.replace("<Point>", more)) == {}
    assert "occurred_at" in faults(tmp_path, "a.kml", KML, plan=PLAN, kind="elevator")


def test_kinds_of_equipment_are_listed_in_both_languages(tmp_path: Path) -> None:
    body = "设备类型,预案,事发时间\n扶挪梯,特种设备,2026-11-21 08:30\n"
    [reason] = faults(tmp_path, "a.csv", body).values()
    for english, chinese in EQUIPMENT.items():
        assert f"{english} ({chinese})" in reason
    assert "elevator (电梯)" in told(reason, "zh")
    row = {"facility_id": "A", "lon": "106.5", "lat": "29.5", "equipment": "扶挪梯"}
    with pytest.raises(InvalidInput, match=re.escape("elevator (电梯), crane (起重机械)")):
        facility_rows(
            FacilityTable(pd.DataFrame([row], index=[1]), "WGS84"), kind="special_equipment"
        )


@pytest.mark.parametrize(
    ("lang", "tried"), [("zh", "按救援识别码查过"), ("en", "tried as a rescue code")]
)
def test_six_digits_nobody_knows_are_said_to_have_been_tried_as_a_rescue_code(
    lang: str, tried: str
) -> None:
    [code] = warning_texts([unknown_facility("501234")], lang)
    [name] = warning_texts([unknown_facility("BS-501234")], lang)
    assert {code["code"], name["code"]} == {"facility_unknown"}
    assert tried in code["text"]
    assert tried not in name["text"]
