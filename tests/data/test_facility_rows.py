"""Facility files: every fault with its row and remedy, headers in two languages, four datums."""

from __future__ import annotations

import csv
import io
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import openpyxl
import pandas as pd
import pytest
import shapely

from data.facilities import COLUMNS
from data.facility_columns import (
    KINDS,
    FieldSource,
    field_of,
    read_mapping,
    template_csv,
    template_xlsx,
)
from data.facility_file import FacilityTable, read_facility_file
from data.facility_rows import facility_rows, within_city
from data.readers.boundaries import default_divisions
from geo.assign import DistrictLocator
from geo.crs import from_wgs84
from geo.errors import CrsError, InvalidInput

LON, LAT = 106.5516, 29.563
WRI = Path(__file__).resolve().parents[3] / "shared" / "reference" / "wri_power_plants_china.csv"
WRI_MAPPING = {
    "facility_id": "Power Plant ID",
    "name": "Name",
    "operator": "Owner",
    "load_kw": "Capacity (MW)*1000",
    "attributes.fuel": "Fuel",
}


def table(*rows: dict[str, Any], crs: str | None = "WGS84") -> FacilityTable:
    """Rows as text cells, as CSV gives them; a position and an id where none is said."""
    full = [
        {"facility_id": f"F{n}", "lon": LON, "lat": LAT, **row} for n, row in enumerate(rows, 1)
    ]
    frame = pd.DataFrame(full, index=pd.RangeIndex(1, len(full) + 1, name="row"), dtype=object)
    return FacilityTable(frame.map(lambda v: None if v is None or v != v else str(v)), crs)


def faults_of(
    given: FacilityTable, kind: str | None = "substation", **more: Any
) -> list[tuple[Any, Any, str]]:
    with pytest.raises(InvalidInput) as raised:
        facility_rows(given, kind=kind, **more)
    return [(fault.row, fault.field, fault.reason) for fault in raised.value.faults]


def written(folder: Path, name: str, rows: list[list[str]], encoding: str = "utf-8") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    path = folder / name
    path.write_bytes(text.getvalue().encode(encoding))
    return path


# --- what is read ---------------------------------------------------------------------------------


def test_a_row_with_an_id_and_a_position_has_defaults_for_the_rest() -> None:
    frame = facility_rows(table({}), kind="substation").frame
    assert list(frame.columns) == [*COLUMNS, "lon", "lat"]
    row = frame.iloc[0]
    assert (row["facility_id"], row["name"], row["kind"]) == ("F1", "F1", "substation")
    assert (row["operator"], row["network"], row["state_at_import"]) == ("", "", "unknown")
    assert (row["load_kw"], row["customers"], row["population"]) == (0, 0, 0)
    assert (row["main_grid"], row["synthetic"]) == (True, False)
    assert row[["unit", "feeds_from", "key_level", "rescue_code", "attributes"]].isna().all()
    assert (row["lon"], row["lat"], row["original_x"], row["original_y"]) == (LON, LAT, LON, LAT)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_chinese_headers_and_words_mean_the_same_as_english_ones(
    tmp_path: Path, encoding: str
) -> None:
    header = [
        "设施编号",
        "名称",
        "经度",
        "纬度",
        "运营商",
        "状态",
        "负荷（千瓦）",
        "用户数",
        "主网",
        "重要级别",
    ]
    path = written(
        tmp_path,
        "站点.csv",
        [
            header,
            ["A1", "城北变电站", str(LON), str(LAT), "国网", "停运", "23000", "9001", "否", "市级"],
        ],
        encoding,
    )
    row = facility_rows(
        read_facility_file(path, path.name, crs="WGS84"), kind="substation"
    ).frame.iloc[0]
    assert (row["facility_id"], row["name"], row["operator"]) == ("A1", "城北变电站", "国网")
    assert (row["load_kw"], row["customers"]) == (23_000, 9_001)
    assert (row["state_at_import"], row["main_grid"], row["key_level"]) == ("down", False, "city")


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ("Facility ID", "facility_id"), ("LONGITUDE", "lon"), ("y", "lat"), ("Battery-Hours", "battery_hours"),
        ("供电用户数（户）", "customers"), ("负荷 (kW)", "load_kw"), ("负荷(千瓦)", "load_kw"), ("负荷", None), ("负荷（兆瓦）", None), ("后备时长", None), ("救援码", "rescue_code"), ("Capacity (MW)", None),
    ],
)  # fmt: skip
def test_a_header_is_recognised_whatever_its_case_and_blanks(
    header: str, field: str | None
) -> None:
    assert field_of(header) == field


def test_a_workbook_gives_numbers_and_codes_as_they_were_typed(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["facility_id", "lon", "lat", "customers", "main_grid", "rescue_code"])
    book.active.append([100123, LON, LAT, 12.0, True, "012345"])
    path = tmp_path / "f.xlsx"
    book.save(path)
    row = facility_rows(
        read_facility_file(path, path.name, crs="WGS84"), kind="substation"
    ).frame.iloc[0]
    assert (row["facility_id"], row["customers"], row["main_grid"]) == ("100123", 12, True)
    assert row["rescue_code"] == "012345"


@pytest.mark.parametrize(("driver", "suffix"), [("GeoJSON", "geojson"), ("GPKG", "gpkg")])
def test_features_bring_their_positions_and_their_system(
    tmp_path: Path, driver: str, suffix: str
) -> None:
    crs = "EPSG:4326" if driver == "GeoJSON" else "EPSG:4545"
    x, y = from_wgs84(LON, LAT, "WGS84" if driver == "GeoJSON" else crs)
    points = geopandas.GeoDataFrame(
        {"facility_id": ["A", "B"], "lon": [1.0, 2.0]},
        geometry=[shapely.Point(x, y), shapely.Point(x, y)],
        crs=crs,
    )
    path = tmp_path / f"f.{suffix}"
    points.to_file(path, driver=driver)
    frame = facility_rows(read_facility_file(path, path.name), kind="shelter").frame
    assert np.allclose(frame[["lon", "lat"]], [[LON, LAT]] * 2, atol=1e-8)
    assert frame["original_x"].iloc[0] == pytest.approx(x)
    assert set(frame["crs"]) == {"WGS84" if driver == "GeoJSON" else crs}


def test_a_feature_that_is_no_point_is_a_fault_of_its_row(tmp_path: Path) -> None:
    shapes = [shapely.Point(LON, LAT), shapely.Point(LON, LAT).buffer(0.01), None]
    frame = geopandas.GeoDataFrame(
        {"facility_id": ["A", "B", "C"]}, geometry=shapes, crs="EPSG:4326"
    )
    path = tmp_path / "f.geojson"
    frame.to_file(path, driver="GeoJSON")
    given = read_facility_file(path, path.name)
    assert [(row, field) for row, field, _ in faults_of(given)] == [
        (2, "geometry"),
        (3, "geometry"),
    ]
    assert list(facility_rows(given, kind="shelter", partial=True).frame["facility_id"]) == ["A"]


# --- positions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("crs", ["WGS84", "CGCS2000", "GCJ-02", "BD-09", "EPSG:4545", "EPSG:32648"])
def test_positions_come_to_wgs84_and_the_original_is_kept(crs: str) -> None:
    x, y = from_wgs84(LON, LAT, crs)
    row = facility_rows(table({"lon": repr(x), "lat": repr(y)}, crs=crs), kind="tower").frame.iloc[
        0
    ]
    assert (row["lon"], row["lat"]) == pytest.approx((LON, LAT), abs=1e-7)
    assert (row["original_x"], row["original_y"], row["crs"]) == (x, y, crs)


def test_each_row_may_say_its_own_system() -> None:
    x, y = from_wgs84(LON, LAT, "BD-09")
    given = table({"crs": "bd09", "lon": repr(x), "lat": repr(y)}, {"crs": "WGS84"}, crs=None)
    frame = facility_rows(given, kind="tower").frame
    assert list(frame["crs"]) == ["BD-09", "WGS84"]
    assert np.allclose(frame[["lon", "lat"]], [[LON, LAT]] * 2, atol=1e-7)
    assert faults_of(table({"crs": "BD-09"}, crs="WGS84"))[0][:2] == (1, "crs")


def test_without_a_declared_system_nothing_is_read() -> None:
    assert faults_of(table({}, crs=None)) == [
        (None, "crs", "declare the coordinate system; it is never guessed")
    ]


@pytest.mark.parametrize("crs", ["WGS84", "GCJ-02", "EPSG:4545"])
def test_exchanged_coordinates_are_a_fault_with_the_hint_and_are_not_exchanged(crs: str) -> None:
    x, y = from_wgs84(LON, LAT, crs)
    right, exchanged = {"lon": repr(x), "lat": repr(y)}, {"lon": repr(y), "lat": repr(x)}
    ((row, field, reason),) = faults_of(table(right, exchanged, crs=crs))
    assert (row, field) == (2, "position")
    assert "exchanged" in reason


def test_a_position_outside_the_city_is_kept() -> None:
    frame = facility_rows(table({"lon": "104.07", "lat": "30.67"}, {}), kind="power_plant").frame
    locator = DistrictLocator(default_divisions()[-1].frame)
    assert len(frame) == 2
    inside, left_out = within_city(frame, locator)
    assert (list(inside["facility_id"]), left_out) == (["F2"], 1)


@pytest.mark.parametrize("bad", ["", "inf", "nan", "106°33′E", "１０６", "106,55", "181", "1e400"])
def test_what_is_no_longitude_is_a_fault(bad: str) -> None:
    faults = faults_of(table({"lon": bad or None}))
    assert [row for row, _, _ in faults] == [1]
    assert faults[0][1] in ("lon", "position")


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "bad", "says"),
    [
        ("facility_id", None, "is empty"),
        ("facility_id", "x" * 129, "at most 128"),
        ("facility_id", "a\x07b", "printable"),
        ("facility_id", "EXAMPLE-1", "delete the row"),
        ("name", "n" * 201, "at most 200"),
        ("name", "a\nb", "control"),
        ("name", "safe\u202egnp.exe", "control"),
        ("operator", "o" * 129, "at most 128"),
        ("feeds_from", "\x1b[31m", "printable"),
        ("kind", "base_staton", "one of base_station"),
        ("kind", "tower", "another than substation"),
        ("load_kw", "12.5", "whole number of kW; map the column with a factor"),
        ("load_kw", "-1", "not be negative"),
        ("load_kw", "12 MW", "must be a number"),
        ("load_kw", "1,200", "without unit or separators"),
        ("load_kw", "1e13", "at most 1000000000000"),
        ("customers", "3.5", "whole number"),
        ("customers", "NaN", "must be a number"),
        ("population", "inf", "must be a number"),
        ("battery_hours", "8761", "from 0 to 8760"),
        ("battery_hours", "-0.5", "from 0 to 8760"),
        ("state", "broken", "one of up (正常), degraded (降级), down (中断), unknown (未知)"),
        ("key_level", "national", "one of district (区县级), city (市级)"),
        ("main_grid", "maybe", "one of true"),
        ("rescue_code", "12345", "six digits"),
        ("rescue_code", "１２３４５６", "six digits"),
        ("equipment", "escalatr", "elevator (电梯), crane (起重机械)"),
    ],
)
def test_a_bad_cell_is_a_fault_with_row_field_and_remedy(
    field: str, bad: str | None, says: str
) -> None:
    faults = faults_of(table({}, {field: bad}, {}))
    assert len(faults) == 1
    row, named, reason = faults[0]
    assert row == 2
    assert named == ("attributes.equipment" if field == "equipment" else field)
    assert says in reason


def test_all_faults_of_a_file_come_together() -> None:
    faults = faults_of(
        table({"load_kw": "x", "state": "?"}, {}, {"facility_id": None, "customers": "-1"})
    )
    assert {(row, field) for row, field, _ in faults} == {
        (1, "load_kw"), (1, "state"), (3, "facility_id"), (3, "customers"),
    }  # fmt: skip
    assert [row for row, _, _ in faults] == sorted(row for row, _, _ in faults)


@pytest.mark.parametrize("field", ["facility_id", "rescue_code"])
def test_a_repeated_code_names_both_rows(field: str) -> None:
    faults = faults_of(table({field: "123456"}, {}, {field: "123456"}, {field: "123456"}))
    assert [(row, named) for row, named, _ in faults] == [(3, field), (4, field)]
    assert all("row 1" in reason for _, _, reason in faults)


def test_asked_for_the_good_rows_are_taken_and_the_others_listed() -> None:
    rows = facility_rows(
        table({}, {"load_kw": "x"}, {"load_kw": "5"}), kind="substation", partial=True
    )
    assert list(rows.frame["facility_id"]) == ["F1", "F3"]
    assert [(f.row, f.field) for f in rows.rejected] == [(2, "load_kw")]


def test_what_is_wrong_with_the_file_is_refused_even_if_good_rows_are_asked_for() -> None:
    given = table({"经度": "1"})
    assert faults_of(given, partial=True)[0][1] == "lon"
    without = FacilityTable(table({}).frame.drop(columns=["lat", "facility_id"]), "WGS84")
    assert {field for _, field, _ in faults_of(without, kind=None, partial=True)} == {
        "facility_id",
        "lat",
        "kind",
    }


def test_rows_may_each_have_a_kind_and_one_without_is_a_fault() -> None:
    given = table({"kind": "基站"}, {"kind": "shelter"})
    assert list(facility_rows(given).frame["kind"]) == ["base_station", "shelter"]
    assert faults_of(table({"kind": "tower"}, {"kind": None}), kind=None)[0][:2] == (2, "kind")
    assert faults_of(table({}), kind="castle")[0][1] == "kind"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "${x}",
        "'; DROP TABLE facility; --",
        "=cmd|' /C calc'!A0",
        "𠮷野家",
        "a\u3000b",
    ],
)
def test_hostile_and_rare_text_is_kept_as_text(text: str) -> None:
    row = facility_rows(table({"name": text}), kind="tower").frame.iloc[0]
    assert row["name"] == text


# --- mapping --------------------------------------------------------------------------------------


def test_a_mapped_column_is_multiplied_exactly() -> None:
    given = table({"Capacity (MW)": "1.001"}, {"Capacity (MW)": "12.5"}, {"Capacity (MW)": None})
    frame = facility_rows(given, kind="substation", mapping={"load_kw": "Capacity (MW)*1000"}).frame
    assert list(frame["load_kw"]) == [1001, 12_500, 0]
    hours = facility_rows(
        table({"min": "90"}), kind="tower", mapping={"battery_hours": "min/60"}
    ).frame
    assert hours["battery_hours"].iloc[0] == pytest.approx(1.5)
    assert "not a whole" not in str(
        faults_of(table({"MW": "1.0005"}), mapping={"load_kw": "MW*1000"})
    )


def test_a_mapping_may_give_one_value_for_all_rows_and_attributes_of_any_name() -> None:
    rows = facility_rows(
        table({"Fuel": "Hydro", "Note": "x"}, {"Fuel": None}),
        kind="power_plant",
        mapping={"operator": "'plant_owner'", "attributes.fuel": "Fuel"},
    )
    assert list(rows.frame["operator"]) == ["plant_owner"] * 2
    assert json.loads(rows.frame["attributes"].iloc[0]) == {"fuel": "Hydro"}
    assert rows.frame["attributes"].iloc[1] is None or pd.isna(rows.frame["attributes"].iloc[1])
    assert rows.unread == ("Note",)


def test_a_column_whose_own_name_holds_an_operator_is_found_first() -> None:
    assert read_mapping({"name": "a*2"}, ["a*2", "a"]) == {"name": FieldSource("a*2")}
    assert read_mapping({"load_kw": "a*2"}, ["a"]) == {"load_kw": FieldSource("a", Decimal(2))}


@pytest.mark.parametrize(
    ("mapping", "field"),
    [
        ({"nonsense": "a"}, "nonsense"),
        ({"name": "b"}, "name"),
        ({"load_kw": "a*0"}, "load_kw"),
        ({"load_kw": "a*__import__('os')"}, "load_kw"),
        ({"attributes.Bad Name": "a"}, "attributes.Bad Name"),
        ({"name": "a", "名称": "a"}, "name"),
    ],
)
def test_a_mapping_that_makes_no_sense_names_its_field(mapping: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_mapping(mapping, ["a"])
    assert [fault.field for fault in raised.value.faults] == [field]


# --- templates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_template_reads_back_and_only_its_example_is_refused(
    tmp_path: Path, kind: str, lang: str
) -> None:
    for name, content in (
        ("t.csv", template_csv(kind, lang)),
        ("t.xlsx", template_xlsx(kind, lang)),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        given = read_facility_file(path, name, crs="WGS84")
        assert faults_of(given, kind) == [
            (1, "facility_id", "this is the template's example; delete the row")
        ]
        filled = FacilityTable(given.frame.replace("EXAMPLE-1", "REAL-1"), "WGS84")
        rows = facility_rows(filled, kind=kind)
        assert rows.unread == ()
        assert rows.frame["facility_id"].iloc[0] == "REAL-1"


# --- a real file, and a large one -----------------------------------------------------------------


@pytest.mark.skipif(not WRI.exists(), reason="the reference file is not beside this checkout")
def test_the_worlds_power_plant_table_is_read_and_its_own_faults_are_named() -> None:
    given = read_facility_file(WRI, WRI.name, crs="WGS84")
    faults = faults_of(given, "power_plant", mapping=WRI_MAPPING)
    assert {field for _, field, _ in faults} == {"lon", "lat", "facility_id"}
    rows = facility_rows(given, kind="power_plant", mapping=WRI_MAPPING, partial=True)
    assert len(given.frame) == 3137
    assert len(rows.frame) == 3113
    assert len({fault.row for fault in rows.rejected}) == 24
    assert sum("already that of row" in fault.reason for fault in rows.rejected) == 13
    first = rows.frame.iloc[0]
    assert (first["facility_id"], first["name"], first["load_kw"]) == (
        "1000453",
        "Xiluodu",
        12_600_000,
    )
    inside, left_out = within_city(rows.frame, DistrictLocator(default_divisions()[-1].frame))
    assert (len(inside), left_out) == (47, 3066)


def test_a_hundred_thousand_rows_are_read_within_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = 100_000
    lon, lat = 106.5 + rng.random(n) / 10, 29.5 + rng.random(n) / 10
    frame = pd.DataFrame(
        {"facility_id": [f"S{i}" for i in range(n)], "name": "站", "lon": lon, "lat": lat,
         "operator": "o", "load_kw": rng.integers(0, 9999, n), "customers": 3, "state": "正常"}
    )  # fmt: skip
    path = tmp_path / "many.csv"
    frame.to_csv(path, index=False)
    started = time.monotonic()
    rows = facility_rows(read_facility_file(path, path.name, crs="GCJ-02"), kind="substation")
    assert time.monotonic() - started < 10
    assert len(rows.frame) == n
    assert rows.frame["load_kw"].sum() == frame["load_kw"].sum()


def test_an_unknown_system_is_said_once() -> None:
    with pytest.raises(CrsError, match="not accepted"):
        facility_rows(table({}, {}, crs="Xian80"), kind="tower")
