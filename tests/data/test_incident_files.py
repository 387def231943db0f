"""Files of incidents as people write them: every format says the same two incidents."""

from __future__ import annotations

import datetime
import json
import tomllib
import warnings
from pathlib import Path

import openpyxl
import pytest

from data.incident_report import read_incident
from data.readers.cell_values import read_amount, read_time
from data.readers.incident_columns import KIND_FACT, NAMES, column_of, names
from data.readers.incident_file import IncidentFile, parse_incident_file, read_incident_file
from data.readers.kml import plain_text
from data.rulepacks import load_packs
from geo.crs import from_wgs84
from geo.errors import CrsError, InvalidInput, TooLarge
from geo.position import read_position
from tests.data.incident_files.generate import (
    COLUMNS,
    FIRST_ID,
    GPX,
    KML,
    PLACES,
    PLAN,
    geojson,
    good,
    malformed,
    photo,
)

PACKS = load_packs()
NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
FORMATS = {
    "excel.csv": "csv", "utf8.csv": "csv", "semicolon.csv": "csv", "chinese.xlsx": "xlsx",
    "points.geojson": "geojson", "degrees.gpkg": "geopackage", "zone.gpkg": "geopackage",
    "gbk.zip": "shapefile", "google.kml": "kml", "gb.kml": "kml", "icon.kmz": "kmz",
    "track.gpx": "gpx", "phone.jpg": "jpeg", "phone.heic": "heic", "no_gps.jpg": "jpeg",
}  # fmt: skip
WHOLE = [name for name, form in FORMATS.items() if form in ("csv", "xlsx", "geojson", "geopackage", "shapefile")]  # fmt: skip
FACTS = {"deaths": 0, "serious_injuries": 1, "direct_loss_yuan": 125_000, "people_stranded": 3,
         "stranded_since": "2026-11-21T08:30:00+08:00", "exploded": False}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Shapefiles cut the names of columns, as they do for anyone
        return good(tmp_path_factory.mktemp("incident_files"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return malformed(tmp_path_factory.mktemp("broken"))


def read(path: Path, *, crs: str | None = None, owner: str = "zhang", plan: str | None = PLAN,
         kind: str | None = "elevator", name: str | None = None) -> IncidentFile:  # fmt: skip
    return read_incident_file(str(path), name or path.name, crs, plan, kind, owner)


def text_file(tmp_path: Path, text: str, name: str = "a.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def one_row(tmp_path: Path, header: str, cells: str, **said: str) -> IncidentFile:
    head = "事发时间,设备类型,预案"
    return read(
        text_file(tmp_path, f"{head},{header}\n2026-11-21 08:30,电梯,特种设备,{cells}\n"), **said
    )


def place_of(body: dict) -> tuple[float, float]:
    place = read_position(body["position"], body.get("crs", "WGS84")).place
    assert place is not None
    return place


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_in_the_child_process_as_it_is_here(files, name):
    child = parse_incident_file(
        files[name], name=name, crs=None, plan=PLAN, kind="elevator", owner="zhang"
    )
    assert child == read(files[name])
    assert child.format == FORMATS[name]


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_of_rows_says_both_incidents_whole(files, name):
    read_file = read(files[name], plan=None, kind=None)
    first, second = (row.body for row in read_file.rows)
    assert first["incident_id"] == FIRST_ID
    assert (first["plan"], first["kind"], first["facts"]) == (PLAN, "elevator", FACTS)
    assert first["occurred_at"] == "2026-11-21T08:30:00+08:00"
    assert first["reporter"] == {"name": "王工", "phone": "13800000001"}
    assert (first["address"], first["description"]) == ("渝中区解放碑", "轿厢困人")
    assert (second["kind"], second["occurred_at"]) == ("crane", "2026-11-20T17:05:10+08:00")
    assert second["facts"] == {"deaths": 1, "direct_loss_yuan": 0, "exploded": False}
    for row, place in zip((first, second), PLACES, strict=True):
        assert place_of(row) == pytest.approx(place, abs=1e-7)
    assert read_file.unread in (["天气"], ["weather"])


@pytest.mark.parametrize("name", FORMATS)
def test_every_body_is_one_that_the_form_would_take(files, name):
    rows = [row for row in read(files[name]).rows if row.body is not None]
    assert rows
    for row in rows:
        reported = read_incident(row.body, PACKS, NOW)
        assert str(reported.incident_id) == row.body["incident_id"]


@pytest.mark.parametrize("name", ["google.kml", "gb.kml", "icon.kmz"])
def test_placemarks_are_incidents_with_their_extended_data(files, name):
    kml = read(files[name], kind=None)
    first, second, line = kml.rows
    assert first.body["facts"] == FACTS
    assert first.body["description"] == "解放碑\n轿厢困人\n三人"
    assert (first.body["incident_id"], first.body["crs"]) == (FIRST_ID, "WGS84")
    assert second.body["kind"] == "crane"
    assert second.body["description"] == "塔吊\n整机倒塌 严重"
    assert second.body["occurred_at"] == "2026-11-20T09:05:10+00:00"
    assert tuple(second.body["position"]) == PLACES[1]
    assert line.body is None
    assert "one point" in line.faults[0].reason
    assert "LineString" in line.faults[0].reason
    assert {"天气", "NetworkLink"} <= set(kml.unread)


def test_waypoints_are_incidents_and_tracks_are_not(files):
    gpx = read(files["track.gpx"])
    assert len(gpx.rows) == 2
    first = gpx.rows[0].body
    assert first["occurred_at"] == "2026-11-21T00:30:00+00:00"
    assert first["description"] == "电梯困人\n三人\n轿厢困人"
    assert (tuple(first["position"]), first["crs"]) == (PLACES[0], "WGS84")
    assert "trk (1)" in gpx.unread


@pytest.mark.parametrize(
    ("name", "media"), [("phone.jpg", "image/jpeg"), ("phone.heic", "image/heic")]
)
def test_a_photo_says_where_how_exactly_and_when(files, name, media):
    (row,) = read(files[name]).rows
    assert row.photo == {"name": name, "content_type": media}
    assert place_of(row.body) == pytest.approx(PLACES[0], abs=1e-6)
    assert row.body["accuracy_m"] == 8.25
    assert row.body["occurred_at"] == "2026-11-21T08:30:00+08:00"


def test_a_photo_without_position_is_not_lost(files):
    (row,) = read(files["no_gps.jpg"]).rows
    assert row.faults == []
    assert "position" not in row.body
    assert "crs" not in row.body


@pytest.mark.parametrize(
    ("taken", "gps", "expected"),
    [
        ({0x9003: "2026:11:21 08:30:00", 0x9011: "-05:00"}, {}, "2026-11-21T08:30:00-05:00"),
        ({0x9003: "2026:11:21 08:30:00"}, {29: "2026:11:21", 7: (0.0, 29.0, 58.0)}, "2026-11-21T00:29:58+00:00"),
        ({0x9003: "2026:11:21 08:30:00"}, {}, "2026-11-21T08:30:00+08:00"),
        ({}, {29: "2026:11:21", 7: (0.0, 29.0, 58.0)}, "2026-11-21T00:29:58+00:00"),
        ({0x9003: "2026:13:41 08:30:00"}, {}, None),
        ({}, {}, None),
    ],
)  # fmt: skip
def test_the_time_of_a_photo_is_the_surest_it_states(tmp_path, taken, gps, expected):
    path = tmp_path / "a.jpg"
    path.write_bytes(photo("JPEG", taken=taken, more=gps))
    (row,) = read(path).rows
    if expected is None:
        assert row.body is None
        assert "does not say when" in row.faults[0].reason
    else:
        assert row.body["occurred_at"] == expected


@pytest.mark.parametrize("more", [{2: (29.0, 33.0, 46.8), 1: ""}, {4: (999.0, 0.0, 0.0)}, {3: "X"}, {2: (29.0,)}, {2: (91.0, 0.0, 0.0)}])  # fmt: skip
def test_a_position_in_a_photo_that_cannot_be_is_none(tmp_path, more):
    path = tmp_path / "a.jpg"
    path.write_bytes(photo("JPEG", more=more))
    (row,) = read(path).rows
    assert row.body is not None
    assert "position" not in row.body


# --- systems --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["degrees.gpkg", "track.gpx", "google.kml", "gbk.zip", "points.geojson"]
)
@pytest.mark.parametrize("crs", ["GCJ-02", "BD-09"])
def test_a_declared_datum_wins_over_a_label_in_degrees(files, name, crs):
    assert read(files[name], crs=crs).rows[0].body["crs"] == crs


@pytest.mark.parametrize("name", ["zone.gpkg", "track.gpx", "google.kml"])
def test_a_declared_zone_that_the_file_contradicts_is_an_error(files, name):
    with pytest.raises(CrsError):
        read(files[name], crs="EPSG:4544")


def test_the_file_s_own_system_is_used_when_none_is_declared(files):
    assert read(files["zone.gpkg"]).rows[0].body["crs"] == "EPSG:4545"
    assert read(files["degrees.gpkg"]).rows[0].body["crs"] == "CGCS2000"


@pytest.mark.parametrize("name", ["excel.csv", "chinese.xlsx", "points.geojson"])
def test_a_file_that_states_no_system_leaves_it_undeclared(files, name):
    assert "crs" not in read(files[name]).rows[0].body
    assert read(files[name], crs="bd09").rows[0].body["crs"] == "BD-09"


def test_a_geojson_in_a_zone_says_so_in_its_old_style_member(tmp_path):
    east, north = from_wgs84(*PLACES[0], "EPSG:4545")
    text = geojson(crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4545"}})
    path = tmp_path / "a.geojson"
    path.write_bytes(text.replace(b"106.5516, 29.563", f"{east}, {north}".encode()))
    body = read(path).rows[0].body
    assert body["crs"] == "EPSG:4545"
    assert place_of(body) == pytest.approx(PLACES[0], abs=1e-7)


def test_a_row_or_a_header_may_name_its_own_system(tmp_path):
    row = one_row(tmp_path, "经度,纬度,坐标系", "106.5,29.5,火星坐标", crs="BD-09").rows[0]
    assert row.body["crs"] == "GCJ-02"
    head = one_row(tmp_path, "经度（GCJ-02）,纬度（GCJ-02）", "106.5,29.5").rows[0]
    assert head.body["crs"] == "GCJ-02"
    odd = one_row(tmp_path, "经度（西安80）,纬度", "106.5,29.5")
    assert "经度（西安80）" in odd.unread
    assert odd.rows[0].faults[0].field == "lon"


# --- positions ------------------------------------------------------------------------------------


def test_positions_people_type_are_handed_on_as_text(tmp_path):
    row = one_row(tmp_path, "经度,纬度", "106°33′05.8″,29°33′46.8″").rows[0]
    assert place_of(row.body) == pytest.approx((106.551611, 29.563), abs=1e-6)
    row = one_row(tmp_path, "坐标", '"北纬29.563 东经106.5516"').rows[0]
    assert place_of(row.body) == pytest.approx(PLACES[0], abs=1e-9)


@pytest.mark.parametrize("cells", ["1e999,29.5", "nan,29.5", "106.5,-inf", "106.5,"])
def test_coordinates_that_are_no_numbers_are_faults_of_their_row(tmp_path, cells):
    row = one_row(tmp_path, "经度,纬度", cells).rows[0]
    assert row.body is None
    assert row.faults[0].row == 1
    assert row.faults[0].field in ("经度", "纬度", "lat")


@pytest.mark.parametrize(
    "coordinates", ["[106.5]", "[]", "[106.5, true]", '["106.5", 29.5]', "{}", "[1e300, 2]"]
)
def test_a_point_of_geojson_has_two_finite_numbers(tmp_path, coordinates):
    text = geojson().decode().replace("[106.5516, 29.563, 244.0]", coordinates)
    first, second = read(text_file(tmp_path, text, "a.geojson")).rows
    assert second.body is not None
    if coordinates == "[]":
        assert "position" not in first.body
    else:
        assert first.body is None
        assert "two finite numbers" in first.faults[0].reason


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_file_gives_the_same_ids_and_another_account_others(files, name):
    mine, again, theirs = read(files[name]), read(files[name]), read(files[name], owner="li")
    ids = [row.body["incident_id"] for row in mine.rows if row.body]
    assert mine == again
    assert len(set(ids)) == len(ids)
    for row, other in zip(mine.rows, theirs.rows, strict=True):
        if row.body is not None and row.body["incident_id"] != FIRST_ID:
            assert row.body["incident_id"] != other.body["incident_id"]


def test_equal_rows_are_different_incidents_each_the_same_again(tmp_path):
    line = "2026-11-21 08:30,电梯,特种设备,106.5,29.5\n"
    head = "事发时间,设备类型,预案,经度,纬度\n"
    two = read(text_file(tmp_path, head + line * 2)).rows
    three = read(text_file(tmp_path, head + line * 3)).rows
    assert [row.body["incident_id"] for row in two] == [row.body["incident_id"] for row in three][
        :2
    ]
    assert len({row.body["incident_id"] for row in three}) == 3


def test_a_uuid_in_capitals_is_the_same_id(tmp_path):
    assert one_row(tmp_path, "编号", FIRST_ID.upper()).rows[0].body["incident_id"] == FIRST_ID


# --- cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026年11月21日 8:30", "2026-11-21T08:30:00+08:00"),
        ("2026年11月21日8时30分", "2026-11-21T08:30:00+08:00"),
        ("2026年11月21日 8点", "2026-11-21T08:00:00+08:00"),
        ("2026年11月21日 晚上8点半", "2026-11-21T20:30:00+08:00"),
        ("2026年11月21日星期六 下午3：05", "2026-11-21T15:05:00+08:00"),
        ("2026/11/21 08:30", "2026-11-21T08:30:00+08:00"),
        ("2026.11.21 8:30:15", "2026-11-21T08:30:15+08:00"),
        ("2026-11-21T08:30:00Z", "2026-11-21T08:30:00+00:00"),
        ("2026-11-21T08:30:00.250+05:30", "2026-11-21T08:30:00.250000+05:30"),
        ("2026-11-21 12:10 AM", "2026-11-21T00:10:00+08:00"),
        ("2026-11-21 12:10 PM", "2026-11-21T12:10:00+08:00"),
        ("20261121083000", "2026-11-21T08:30:00+08:00"),
        (datetime.datetime(2026, 11, 21, 8, 29, 59, 999_995), "2026-11-21T08:30:00+08:00"),  # noqa: DTZ001
    ],
)  # fmt: skip
def test_times_as_people_write_them_are_china_time(text, expected):
    assert read_time(text) == expected


@pytest.mark.parametrize(
    "text",
    ["2026-11-21", "2026年11月21日", "11/21/2026 08:30", "26-11-21 08:30", "2026-02-30 08:30", "2026-11-21 25:00",
     "08:30", "昨天", "", 46347.354, True, datetime.date(2026, 11, 21), "2026-11-21 08:30 +99:00",
     "2026-11-21 8:3x", "9" * 10_000],
)  # fmt: skip
def test_a_time_that_could_be_another_is_refused(text):
    with pytest.raises(ValueError, match="time"):
        read_time(text)


@pytest.mark.parametrize(
    ("cell", "header_unit", "expected"),
    [("12.5", "万元", 125_000), ("12.5万元", None, 125_000), ("3元", "万元", 3), ("1,250,000", None, 1_250_000),
     (12.5, "万元", 125_000), ("１２", None, 12), ("0.1", "亿元", 10_000_000)],
)  # fmt: skip
def test_amounts_are_exact_in_the_unit_of_their_fact(cell, header_unit, expected):
    assert read_amount(cell, names().units["yuan"], header_unit) == expected


@pytest.mark.parametrize(
    "cell", ["约5", "3-5", "两", "1e", "5吨", "nan", "inf", float("inf"), True, "", "1,2,3"]
)
def test_an_amount_that_is_none_is_refused(cell):
    with pytest.raises(ValueError, match=r"number|unit"):
        read_amount(cell, names().units["yuan"])


@pytest.mark.parametrize("word", ["未知", "不详", "-", "/", "N/A", ""])
def test_what_nobody_knows_is_left_out_and_not_zero(tmp_path, word):
    body = one_row(tmp_path, "死亡人数,是否爆炸,被困人数", f"{word},{word},0").rows[0].body
    assert body["facts"] == {"people_stranded": 0}


@pytest.mark.parametrize(
    ("column", "cell"),
    [("死亡人数", "1.5"), ("死亡人数", "-1"), ("死亡人数", "很多"), ("是否爆炸", "也许"), ("场所", "月球"),
     ("精度", "一百"), ("被困起始时间", "昨晚"), ("坐标系", "北京54"), ("直接经济损失", "5吨")],
)  # fmt: skip
def test_a_cell_that_cannot_be_read_names_row_and_column_as_written(tmp_path, column, cell):
    more = ",坐标" if column == "坐标系" else ""
    value = f'{cell},"106.5,29.5"' if more else cell
    row = one_row(tmp_path, column + more, value).rows[0]
    assert row.body is None
    assert [(fault.row, fault.field) for fault in row.faults] == [(1, column)]


def test_two_columns_for_one_field_must_agree(tmp_path):
    assert one_row(tmp_path, "死亡人数,死亡", "2,2").rows[0].body["facts"] == {"deaths": 2}
    row = one_row(tmp_path, "死亡人数,死亡", "2,3").rows[0]
    assert row.body is None
    assert row.faults[0].field == "死亡"


def test_facts_of_every_plan_can_be_columns(tmp_path):
    text = "预案,类型,事发时间,国家响应,超出市级能力\n通信保障,outage,2026-11-21 08:30,Ⅱ级,是\n"
    body = read(text_file(tmp_path, text), plan=None, kind=None).rows[0].body
    assert (body["plan"], body["kind"]) == ("communications-2024", "outage")
    assert body["facts"] == {"national_response": "II", "exceeds_city_capacity": True}


def test_rows_without_plan_kind_or_time_say_what_to_add(tmp_path):
    row = read(text_file(tmp_path, "地址\n解放碑\n"), plan=None, kind=None).rows[0]
    assert [fault.field for fault in row.faults] == ["plan", "kind", "occurred_at"]
    assert all("is missing" in fault.reason for fault in row.faults)


def test_a_table_of_many_sheets_is_its_first(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["事发时间", "救援识别码", "联系电话"])
    book.active.append([datetime.datetime(2026, 11, 21, 8, 30), "001234", 13800000001])  # noqa: DTZ001
    book.create_sheet("更多").append(["x"])
    book.save(tmp_path / "a.xlsx")
    body = read(tmp_path / "a.xlsx").rows[0].body
    assert (body["facility_id"], body["reporter"]) == ("001234", {"phone": "13800000001"})


# --- names ----------------------------------------------------------------------------------------


def test_every_fact_of_every_plan_has_a_line_in_the_table_and_the_other_way_round():
    table = tomllib.loads(NAMES.read_text(encoding="utf-8"))
    assert set(table["facts"]) == set(names().facts)
    for name, fact in names().facts.items():
        if fact.type == "enum":
            assert set(table["words"][name]) == set(fact.values)
        if fact.unit:
            assert fact.unit in table["units"] or fact.unit is None
    assert set(table["words"]["plan"]) == set(PACKS.plans())


def test_titles_of_the_rule_packs_name_their_facts():
    for name, fact in names().facts.items():
        if name != KIND_FACT:
            assert {column_of(title).field for title in fact.title.values()} == {f"facts.{name}"}


@pytest.mark.parametrize(
    ("header", "field"),
    [("Direct_Loss (万元)", "facts.direct_loss_yuan"), (" 事发时间（必填）* ", "occurred_at"), ("ＬＯＮ", "lon"),
     ("facts.deaths", "facts.deaths"), ("时间(UTC)", None), ("经济损失（美元）", None), ("天气", None)],
)  # fmt: skip
def test_headers_are_recognised_or_left_unread(header, field):
    column = column_of(header)
    assert (column.field if column else None) == field


def test_the_header_of_the_generated_files_is_known_but_for_the_weather():
    assert [name for name in COLUMNS if column_of(name) is None] == ["天气"]


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<b>三</b>人", "三人"),
        ("a<script>alert(1)</script>b", "ab"),
        ("<style>x{}</style>一<br>二", "一\n二"),
        ("&lt;img src=x onerror=alert(1)&gt;", ""),
        ("死亡<5人，受伤>3人", "死亡<5人，受伤>3人"),
        ("<table><tr><td>人</td><td>3</td></tr></table>", "人 3"),
    ],
)
def test_a_description_keeps_its_words_and_loses_its_tags(given, expected):
    assert plain_text(given) == expected


# --- whole files ----------------------------------------------------------------------------------


def test_every_malformed_variant_is_refused_or_its_rows_are(broken):
    """Cut short, holed or renamed: never a row that says something else than the whole file does."""
    truth = {row.body["incident_id"]: row.body for name in FORMATS
             if name in ("excel.csv", "chinese.xlsx") for row in read(_whole(broken, name)).rows}  # fmt: skip
    outcomes = {}
    for name, path in broken.items():
        try:
            rows = read(path).rows
        except InvalidInput:
            outcomes[name] = "refused"
            continue
        outcomes[name] = "read"
        for row in rows:
            assert row.body is not None or row.faults
            if row.body is not None and row.body["incident_id"] in truth:
                whole = truth[row.body["incident_id"]]
                assert row.body["occurred_at"].startswith(whole["occurred_at"][:10])
    assert all(outcomes[name] == "refused" for name in outcomes if name.startswith("renamed_"))
    refused_cut = {
        name for name in outcomes if name.startswith("cut_") and outcomes[name] == "refused"
    }
    cut = {name for name in outcomes if name.startswith("cut_")}
    # A CSV cut at the end of a row is whole, a photo's metadata stands before its picture.
    assert cut - refused_cut <= {
        f"cut_{n}" for n in FORMATS if n.endswith((".csv", ".jpg", ".heic"))
    }


def _whole(broken: dict[str, Path], name: str) -> Path:
    return broken[f"cut_{name}"].parent / "whole" / name


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        (
            "事发时间,设备类型,预案,描述\n2026-11-21 08:30,电梯,特种设备,困人\n2026-11-21 08:40,电",
            True,
        ),
        ("事发时间,设备类型,预案,描述\r2026-11-21 08:30,电梯,特种设备", True),
        ("事发时间;设备类型;预案;描述\n2026-11-21 08:30;电梯;特种设备", True),
        ("事发时间,设备类型,预案,描述\n2026-11-21 08:30,电梯,特种设备\n", False),
        ("事发时间,设备类型,预案,描述\n2026-11-21 08:30,电梯,特种设备,困", False),
        ('事发时间,设备类型,预案,描述\n2026-11-21 08:30,电梯,特种设备,"困\n人"', False),
        ("事发时间,设备类型,预案,描述\n2026-11-21 08:30,电梯,特种设备,困人\n  ", False),
    ],
)
def test_a_table_cut_off_within_its_last_row_does_not_say_half_of_it(tmp_path, text, broken):
    rows = read(text_file(tmp_path, text)).rows
    assert ([fault.reason for fault in rows[-1].faults] != []) is broken
    if broken:
        assert rows[-1].body is None
        assert any("breaks off" in fault.reason for fault in rows[-1].faults)
        assert all(row.body for row in rows[:-1])


def test_too_many_rows_are_refused_by_the_published_limit(tmp_path):
    line = "2026-11-21 08:30,电梯,特种设备\n"
    path = text_file(tmp_path, "事发时间,设备类型,预案\n" + line * 11)
    with pytest.raises(TooLarge):
        read_incident_file(str(path), "a.csv", None, None, None, "x", 10)
    for name, text in (("a.gpx", GPX), ("a.kml", KML), ("a.geojson", geojson().decode())):
        with pytest.raises(TooLarge):
            read_incident_file(str(text_file(tmp_path, text, name)), name, None, None, None, "x", 1)


@pytest.mark.parametrize("name", ["a.gpx", "a.kml", "a.csv", "a.jpg", "a.xlsx"])
def test_an_empty_file_says_that_it_is_empty(tmp_path, name):
    with pytest.raises(InvalidInput, match="empty"):
        read(text_file(tmp_path, " \n", name))


def test_a_photo_s_extension_may_be_the_other_kind_of_photo(files):
    assert read(files["phone.jpg"], name="IMG_1.HEIC").format == "jpeg"


def test_json_that_repeats_into_facts_stays_as_sent(tmp_path):
    whole = json.loads(geojson())
    whole["features"][0]["properties"]["facts"]["deaths"] = None
    body = read(text_file(tmp_path, json.dumps(whole), "a.json")).rows[0].body
    assert body["facts"]["deaths"] is None
