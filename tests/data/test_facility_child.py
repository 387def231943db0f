"""What a confined child hands over of a file of facilities, or of a table of returns, says what the file says."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import openpyxl
import pandas as pd
import pytest
import shapely

from data import facility_file
from data.facility_file import (
    FAULTS_MAX,
    FacilityTable,
    hand_over_facility_file,
    parse_facility_file,
    read_facility_file,
)
from data.facility_rows import facility_rows
from data.parse_settings import INVENTORY_LIBRARIES_MIB, ParseSettings
from data.readers import return_table
from data.readers.return_table import parse_return_table, read_return_table
from data.sandbox import Limits
from geo.errors import CrsError, InvalidInput, TooLarge

ROWS: list[dict[str, Any]] = [
    {"facility_id": "007", "name": " 解放碑 站", "kind": "基站", "load_kw": 12.0, "customers": 999_999_999_999, "备注": "x"},
    {"facility_id": "B", "name": None, "kind": "tower", "load_kw": None, "customers": 3, "备注": None},
    {"facility_id": "C", "name": "渝" * 150, "kind": "变电站", "load_kw": 4, "customers": 0, "备注": "y"},
]  # fmt: skip
PLACES = [(106.5516, 29.563), (106.123456789012, 29.4), (107, 30)]


def _table() -> pd.DataFrame:
    frame = pd.DataFrame(ROWS)
    return frame.assign(lon=[x for x, _ in PLACES], lat=[y for _, y in PLACES])


def _features() -> gpd.GeoDataFrame:
    frame = pd.DataFrame(ROWS).assign(
        main_grid=[True, False, True],
        state=["正常", "down", None],
        battery_hours=[2.5, float("nan"), 8.0],
    )
    return gpd.GeoDataFrame(frame, geometry=[shapely.Point(*p) for p in PLACES], crs=4326)


def _workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in [
        ("设施编号", "经度", "纬度", "负荷（千瓦）", "主网", "attributes", "日期"),
        ("007", 106.5516, 29.563, 12.0, True, None, datetime.datetime(2026, 11, 21, 8, 30)),  # noqa: DTZ001
        (),
        (500103, "106.6", 29.6, 1e6, "否", 7, None),
    ]:
        sheet.append(row)
    book.save(path)


MAKERS: dict[str, Callable[[Path], Any]] = {
    "a.csv": lambda path: _table().to_csv(path, index=False),
    "gb.csv": lambda path: path.write_bytes(b"sep=;\r\n" + _table().to_csv(index=False, sep=";").encode("gb18030")),
    "a.xlsx": _workbook,
    "table.parquet": lambda path: _table().to_parquet(path),
    "a.geojson": lambda path: _features().to_file(path, driver="GeoJSON"),
    "a.gpkg": lambda path: _features().to_file(path, driver="GPKG"),
    "a.fgb": lambda path: _features().to_file(path, driver="FlatGeobuf"),
    "geo.parquet": lambda path: _features().to_parquet(path),
}  # fmt: skip


def assert_same(one: FacilityTable, other: FacilityTable, **options: Any) -> None:
    found, expected = facility_rows(one, **options), facility_rows(other, **options)
    pd.testing.assert_frame_equal(found.frame, expected.frame)
    assert found.rejected == expected.rejected
    assert found.unread == expected.unread
    assert (one.crs, one.lines) == (other.crs, other.lines)


@pytest.mark.parametrize("name", MAKERS)
def test_the_child_s_rows_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    MAKERS[name](path)
    options: dict[str, Any] = {"kind": "substation"} if name == "a.xlsx" else {}
    table = parse_facility_file(path, name, crs="WGS84")
    assert_same(table, read_facility_file(path, name, crs="WGS84"), **options)
    rows = facility_rows(table, **options)
    assert len(rows.frame) == (2 if name == "a.xlsx" else 3)
    assert "007" in set(rows.frame["facility_id"])
    assert ("日期" if name == "a.xlsx" else "备注") in rows.unread
    assert "备注" not in table.frame.columns


def test_parts_come_together_in_order_with_their_row_numbers(tmp_path: Path) -> None:
    count = 30_000
    lines = [
        f"F{n},106.5,29.5" if n % 7 else ("" if n % 2 else f"F{n},x,29.5") for n in range(count)
    ]
    path = tmp_path / "many.csv"
    path.write_text("id,lon,lat\n" + "\n".join(lines) + "\n,,,far\n", encoding="utf-8")
    options: dict[str, Any] = {"kind": "tower", "partial": True}
    assert_same(parse_facility_file(path, "many.csv", crs="WGS84"),
                read_facility_file(path, "many.csv", crs="WGS84"), **options)  # fmt: skip


def test_a_mapping_keeps_the_columns_it_names_and_refuses_what_the_file_lacks(
    tmp_path: Path,
) -> None:
    path = tmp_path / "wri.csv"
    path.write_text("gppd,x,y,Capacity (MW),other\nA,106.5,29.5,1.5,z\n", encoding="utf-8")
    mapping = {"facility_id": "gppd", "load_kw": "Capacity (MW)*1000", "operator": "'grid'"}
    options: dict[str, Any] = {"kind": "power_plant", "mapping": mapping}
    table = parse_facility_file(path, "wri.csv", crs="WGS84", mapping=mapping)
    assert_same(table, read_facility_file(path, "wri.csv", crs="WGS84"), **options)
    row = facility_rows(table, **options).frame.iloc[0]
    assert (row["load_kw"], row["operator"]) == (1500, "grid")
    with pytest.raises(InvalidInput, match="no column 'nope'; it has gppd, x, y, Capacity"):
        parse_facility_file(path, "wri.csv", crs="WGS84", mapping={"facility_id": "nope"})


def test_what_is_no_point_and_what_disagrees_is_told_from_the_child(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    shapes = [shapely.Point(106.5, 29.5), shapely.LineString([(106, 29), (107, 30)])]
    frame = gpd.GeoDataFrame({"facility_id": ["A", "B"]}, geometry=shapes, crs=4326)
    frame.to_file(path, driver="GPKG")
    table = parse_facility_file(path, "a.gpkg")
    assert [(f.row, f.field) for f in table.faults] == [(2, "geometry")]
    assert table.crs == "WGS84"
    with pytest.raises(CrsError):
        parse_facility_file(path, "a.gpkg", crs="EPSG:4545")


def test_a_long_cell_is_refused_as_it_would_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,lon,lat,name\nA,106.5,29.5,{'渝' * 100_000}\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="row 1, name: must be at most 200 characters"):
        facility_rows(parse_facility_file(path, "a.csv", crs="WGS84"), kind="tower")


@pytest.mark.parametrize(
    "part",
    [None, [], [[1]], [[1], [["a"], ["b"]], 3], [[1], [[1]]], [[1], [["a", "b"]]], [["x"], [["a"]]], [[1], [[["a"]]]],
     [[[1]], [["a"]]], [[2**70], [["a"]]], {"rows": 1}, [[1], [["a"]] * 501]],
)  # fmt: skip
def test_a_part_that_is_none_is_refused(part: Any) -> None:
    with pytest.raises(TypeError):
        facility_file._Gathered().add(part)


@pytest.mark.parametrize(
    "told",
    [None, {}, [], {"columns": ["a", "b"]}, {"columns": 3}, {"columns": ["a"], "crs": None, "faults": 3},
     {"columns": ["a"], "crs": None, "faults": [], "lines": [[1], []], "headers": []},
     {"columns": ["a"], "crs": None, "faults": [["x"]], "lines": None, "headers": []}],
)  # fmt: skip
def test_an_answer_of_another_form_is_a_file_that_cannot_be_read(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_over(*_: Any, parts: Callable[[Any], None], **__: Any) -> Any:
        parts([[1], [["a"]]])
        return told

    monkeypatch.setattr(facility_file, "run_sandboxed", taken_over)
    path = tmp_path / "a.csv"
    path.write_text("id,lon,lat\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="could not be read"):
        parse_facility_file(path, "a.csv")
    monkeypatch.setattr(return_table, "run_sandboxed", lambda *_, **__: told)
    with pytest.raises(InvalidInput, match="could not be read"):
        parse_return_table(b"x", {})


def test_more_faults_than_anyone_reads_refuse_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("id,lon,lat,load_kw\n" + ",x,y,z\n" * (FAULTS_MAX // 4 + 1), encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        facility_rows(read_facility_file(path, "bad.csv", crs="WGS84"), kind="tower", partial=True)
    assert caught.value.faults[0].row is None
    assert len(caught.value.faults) == FAULTS_MAX + 1
    path.write_text("id,lon,lat\n" + "A,1,2,3\n" * (FAULTS_MAX + 1) + "A,1,2\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=f"more than {FAULTS_MAX} faults"):
        hand_over_facility_file(str(path), "bad.csv", "WGS84", {})


def test_limits_grow_with_the_file_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    asked = ParseSettings.load()

    def limits(head: bytes, mib: int) -> Limits:
        with path.open("wb") as file:
            file.write(head)
            file.truncate(max(mib << 20, len(head)))
        return asked.inventory_limits(path)

    assert limits(b"id,lon", 0).cpu_seconds == asked.cpu_seconds
    assert limits(b"id,lon", 20).memory_mib == 2 * asked.memory_mib + INVENTORY_LIBRARIES_MIB
    assert limits(b"PK\3\4", 20).seconds == limits(b"PAR1", 20).seconds == 9 * asked.seconds
    assert limits(b"id,lon", 4_000).cpu_seconds == 11 * asked.cpu_seconds
    assert limits(b"id,lon", 0).lane != Limits().lane


def test_the_limits_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    _table().to_csv(path, index=False)
    with pytest.raises(TooLarge, match="over 0 MiB"):
        parse_facility_file(path, "a.csv", crs="WGS84", limits=Limits(line_mib=0))


HEAD = {"return_id": "R", "operator": "t", "kind": "tower", "as_of": "2026-11-21T08:10:00+08:00"}
RETURN = "adcode,total,down,power,remark\n500103,10,2,1,x\n\n500104,7,seven,,\n500105,1,1,1,1,1\n"


def test_a_table_of_returns_comes_back_as_it_is_read() -> None:
    child = parse_return_table(RETURN.encode("gb18030"), HEAD, "r.csv")
    assert child == read_return_table(RETURN.encode("gb18030"), HEAD, "r.csv")
    assert (child.row_numbers, child.unread) == ([1, 3], ("remark",))
    assert [f.row for f in child.faults] == [4]
    assert json.dumps(child.body)
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in [
        ("adcode", "total", "down"),
        (500103, 10, 2.5),
        ("500104", 3, datetime.date(2026, 1, 1)),
    ]:
        sheet.append(row)
    sink = io.BytesIO()
    book.save(sink)
    assert parse_return_table(sink.getvalue(), HEAD) == read_return_table(sink.getvalue(), HEAD)
    with pytest.raises(InvalidInput, match="the columns are at least"):
        parse_return_table(b"a,b\n1,2\n", HEAD)
