"""`yutu assess` and `yutu import districts|zones` as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import pytest
from click.testing import Result
from shapely import box
from typer.testing import CliRunner

from api.cli import app

ROOT = Path(__file__).resolve().parents[2]
COMMS, POWER, SPECIAL = "communications-2024", "power-outage-2021", "special-equipment-2023"
FACILITIES = """facility_id,kind,operator,lon,lat,state,load_kw,customers
A,base_station,mobile,106.553,29.553,up,,
B,base_station,mobile,106.40,29.62,up,,
C,base_station,tower,106.63,29.51,up,,
D,base_station,tower,104.07,30.67,up,,
S,substation,grid,106.553,29.553,up,500000,9000
T,substation,grid,106.40,29.62,up,9500000,990000
"""
STATUS = """event_id,facility_id,state,observed_at
e1,A,down,2026-07-01T08:00:00+08:00
e2,B,down,2026-07-01T08:00:00+08:00
e3,B,up,2026-07-01T07:00:00+08:00
e4,Q,down,2026-07-01T07:00:00+08:00
e5,S,down,2026-07-01T07:00:00+08:00
e6,S,up,2026-07-01T09:00:00+08:00
"""
AT = "2026-07-01T08:30:00+08:00"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the files above; no database can be reached from it."""
    (tmp_path / "f.csv").write_text(FACILITIES, encoding="utf-8")
    (tmp_path / "s.csv").write_text(STATUS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YUTU_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    return tmp_path


def yutu(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def assess(*words: str) -> Result:
    return yutu("assess", *words)


# --- assess -----------------------------------------------------------------------------------


def test_files_are_graded_without_any_database(folder: Path) -> None:
    result = assess(COMMS, "--facilities", "f.csv", "--status", "s.csv", "--at", AT)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["plan"], answer["level"], answer["label"], answer["colour"]) == (
        COMMS, 2, "Ⅱ", "orange",
    )  # fmt: skip
    assert answer["findings"][0]["districts"] == ["500103", "500106"]
    assert answer["bounds"] == {"at_least": 2, "at_most": 2}
    rows = {d["adcode"]: d for d in answer["districts"]}
    assert len(rows) == 37
    assert rows["500103"]["facilities"]["base_station"] == {
        "total": 1, "down": 1, "degraded": 0, "unknown": 0, "share_down": 1.0,
    }  # fmt: skip
    assert rows["500103"]["level"] == 3
    assert answer["inventory"] == {"facilities": 6, "outside": 1, "rejected": 0}
    assert answer["status"]["unknown_facilities"] == ["Q"]
    assert [e["event_id"] for e in answer["status"]["ahead"]] == ["e6"]
    assert "yutu: f.csv: 1 lie outside all districts" in result.stderr
    assert "yutu: f.csv: no coordinate system declared: read as WGS84\n" in result.stderr
    declared = assess(
        COMMS, "--facilities", "f.csv", "--status", "s.csv", "--at", AT, "--crs", "WGS84"
    )
    assert declared.exit_code == 0
    assert "coordinate system" not in declared.stderr
    assert "yutu: s.csv: row 6, observed_at: more than five minutes ahead" in result.stderr
    assert "yutu: s.csv: 1 ids are of no facility: Q" in result.stderr


def test_power_is_graded_by_load_and_customers(folder: Path) -> None:
    result = assess(POWER, "--facilities", "f.csv", "--status", "s.csv", "--at", AT)
    answer = json.loads(result.stdout)
    city = answer["facts"]["city"]
    assert (city["load_mw"], city["load_shed_mw"], city["customers_out"]) == (10_000, 500, 9000)
    assert answer["event"]["opened_at"] == "2026-07-01T07:00:00+08:00"


def test_the_divisions_are_those_of_the_time_asked_about(folder: Path) -> None:
    for at, count in (("2025-11-05T12:00:00+08:00", 38), ("2025-11-06", 37)):
        result = assess(COMMS, "--facilities", "f.csv", "--at", at)
        assert len(json.loads(result.stdout)["districts"]) == count


def test_facts_alone_are_a_what_if(folder: Path) -> None:
    (folder / "facts.json").write_text(
        '{"equipment": "elevator", "people_stranded": 6, "stranded_hours": 2.5}', encoding="utf-8"
    )
    answer = json.loads(assess(SPECIAL, "--facts", "facts.json").stdout)
    assert (answer["level"], answer["label"], answer["severity"]) == (4, "Ⅳ", "一般")


def test_incidents_of_a_file_are_graded_one_by_one(folder: Path) -> None:
    lines = [
        {"incident_id": "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b", "kind": "boiler",
         "facts": {"deaths": 3}, "position": [106.553, 29.553]},
        {"kind": "elevator", "facts": {"deaths": 9}},
    ]  # fmt: skip
    (folder / "i.ndjson").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    result = assess(SPECIAL, "--incidents", "i.ndjson")
    answer = json.loads(result.stdout)
    assert (answer["level"], answer["incidents"]) == (3, 2)  # never 12 deaths together
    assert {f["incident_id"] for f in answer["findings"]} == {lines[0]["incident_id"], "row 2"}
    said = "yutu: i.ndjson: no coordinate system declared in row 1: read as WGS84\n"
    assert result.stderr == said


def test_columns_are_mapped_and_a_kind_declared_as_in_the_import(folder: Path) -> None:
    (folder / "own.csv").write_text("Nr,E,N,MW\n1,106.553,29.553,2.5\n", encoding="utf-8")
    words = [POWER, "--facilities", "own.csv", "--kind", "substation"]
    for one in ("facility_id=Nr", "lon=E", "lat=N", "load_kw=MW*1000"):
        words += ["--map", one]
    answer = json.loads(assess(*words).stdout)
    assert answer["facts"]["city"]["load_mw"] == 2.5


@pytest.mark.parametrize(
    ("name", "content", "words", "says"),
    [
        ("f.csv", "facility_id,kind,lon,lat\nA,castle,106.5,29.5\nA,tower,29.5,106.5\n",
         ["--facilities", "f.csv"],
         ["f.csv: row 1, kind: must be one of", "f.csv: row 2, facility_id", "row 2, position"]),
        ("s.csv", "facility_id,state,observed_at\nA,broken,2026-07-01 08:00\n",
         ["--facilities", "f.csv", "--status", "s.csv"],
         ["s.csv: row 1, observed_at: must be a time", "s.csv: row 1, state: must be one of"]),
        ("facts.json", '{"districts": [{"adcode": "500103", "facilities_total": 1,'
         ' "facilities_down": 2}]}', ["--facts", "facts.json"], ["facts.json: "]),
        ("facts.json", '{"a": NaN}', ["--facts", "facts.json"], ["facts.json: "]),
        ("d.geojson", "{}", ["--facilities", "f.csv", "--districts", "d.geojson"], ["d.geojson: "]),
        ("z.csv", "code,name,adcodes\nZ,z,999999\n", ["--facilities", "f.csv", "--zones", "z.csv"],
         ["z.csv: adcodes: zone Z names 999999"]),
        ("f.csv", "facility_id,kind,lon,lat,unit\nA,tower,106.5,29.5,NOWHERE\n",
         ["--facilities", "f.csv"], ["f.csv: row 1, unit: "]),
        ("facts.json", '{"districts": []}', ["--facilities", "f.csv", "--facts", "facts.json"],
         ["facts.json: districts: follows from the files"]),
        ("f.csv", "", ["--facilities", "f.csv"], ["yutu: f.csv: is empty\n"]),
        ("f.md", "# Title\n\ntext\n", ["--facilities", "f.md"],
         ["yutu: f.md: seems to be a Markdown text; accepted are CSV"]),
        ("z.csv", "code,name\n", ["--facilities", "f.csv", "--zones", "z.csv"], ["z.csv: "]),
        ("s.csv", STATUS, ["--status", "s.csv"], ["status: needs --facilities"]),
        ("s.csv", STATUS, [], ["name --facilities and --status"]),
        ("s.csv", STATUS, ["--facilities", "f.csv", "--at", "noon"], ["at: must be a time"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_file_row_and_field_and_the_code_is_2(
    folder: Path, name: str, content: str, words: list[str], says: list[str]
) -> None:
    (folder / name).write_text(content, encoding="utf-8")
    result = assess(COMMS, *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    for one in says:
        assert one in result.stderr
    assert "Traceback" not in result.stderr


def test_what_partial_leaves_out_and_what_is_not_read_is_told_with_the_file(folder: Path) -> None:
    table = "facility_id,kind,lon,lat,colour\nA,tower,106.55,29.55,red\nB,tower,,29.5,red\n"
    (folder / "p.csv").write_text(table, encoding="utf-8")
    (folder / "q.csv").write_text("facility_id,state,by\nA,up,me\nB,off,me\n", encoding="utf-8")
    words = ("--facilities", "p.csv", "--status", "q.csv", "--crs", "WGS84", "--partial")
    result = assess(COMMS, *words)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [
        "yutu: p.csv: row 2, lon: is empty; a facility needs a position; the row is left out",
        "yutu: p.csv: unread: colour",
        "yutu: q.csv: row 2, state: must be one of up, degraded, down, unknown; the row is left out",
        "yutu: q.csv: unread: by",
        "yutu: q.csv: gives no observed_at: taken as how things are at that moment",
    ]


def test_an_unknown_plan_and_a_missing_incident_file_are_told_too(folder: Path) -> None:
    unknown = assess("floods-2020", "--facilities", "f.csv")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "no plan 'floods-2020'" in unknown.stderr
    special = assess(SPECIAL, "--facilities", "f.csv")
    assert special.exit_code == 2
    assert "give --incidents" in special.stderr


def test_the_command_is_a_filter_in_a_shell(folder: Path) -> None:
    words = ["assess", COMMS, "--facilities", "f.csv", "--status", "s.csv"]
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["level"] == 2


# --- import districts and zones ---------------------------------------------------------------


@pytest.fixture
def own_database(folder: Path, monkeypatch: pytest.MonkeyPatch, empty_database_url: str) -> Path:
    monkeypatch.setenv("YUTU_DATABASE_URL", empty_database_url)
    return folder


def own_districts(path: Path, middle: float) -> str:
    gpd.GeoDataFrame(
        {"GB": ["156500901", "156500902"], "NAME": ["西区", "东区"]},
        geometry=[box(106, 29, middle, 30), box(middle, 29, 107, 30)],
        crs="EPSG:4490",
    ).to_file(path)
    return path.name


TOLD = ("--source", "city survey", "--licence", "internal", "--column", "adcode=GB")


def test_districts_facilities_and_zones_are_imported_one_after_another(own_database: Path) -> None:
    first = own_districts(own_database / "one.gpkg", 106.3)
    second = own_districts(own_database / "two.geojson", 106.5)
    done = yutu("import", "districts", first, "--valid-from", "2020-01-01", *TOLD)
    assert done.exit_code == 0, done.output
    assert "2 districts are in force from 2020-01-01T00:00:00+08:00" in done.output
    assert yutu("import", "facilities", "f.csv", "--crs", "WGS84").exit_code == 0
    moved = yutu("import", "districts", second, "--valid-from", "2026-01-01", *TOLD)
    assert moved.exit_code == 0, moved.output
    assert "placed again: 2 facilities and 0 incidents moved" in moved.output
    again = yutu("import", "districts", second, "--valid-from", "2026-01-01", *TOLD)
    assert "imported before; nothing was changed" in again.output
    (own_database / "z.csv").write_text("code,name,adcodes\nZ-A,甲,500901\n", encoding="utf-8")
    begun = yutu("import", "zones", "z.csv", "--valid-from", "2026-02-01", "--source", "notice")
    assert begun.exit_code == 0, begun.output
    assert "1 zones begin and 0 end" in begun.output
    ended = yutu("import", "zones", "--end", "Z-A", "--valid-from", "2026-03-01")
    assert "0 zones begin and 1 end" in ended.output
    verified = yutu("db", "verify", "--deep")
    assert verified.exit_code == 0, verified.output


def test_the_shipped_districts_are_loaded_once(own_database: Path) -> None:
    assert "loaded the districts" in yutu("import", "districts", "--default").output
    assert "there are divisions already" in yutu("import", "districts", "--default").output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name a file, or --default"),
        (("d.gpkg",), "valid-from: is missing"),
        (("d.gpkg", "--valid-from", "2020-01-01"), "source: is missing"),
        (("d.gpkg", "--valid-from", "last year", *TOLD), "or a day such as 2025-11-06"),
        (
            ("d.gpkg", "--valid-from", "2020-01-01", *TOLD[:4], "--column", "adcode=NR"),
            "column 'NR'",
        ),
        (("d.gpkg", "--valid-from", "2020-01-01", *TOLD, "--column", "x"), "MEANING=COLUMN"),
        (("d.gpkg", "--valid-from", "2199-01-01", *TOLD), "lies ahead"),
    ],
)
def test_what_cannot_be_imported_is_said_in_a_line(
    own_database: Path, words: tuple[str, ...], says: str
) -> None:
    gpd.GeoDataFrame(
        {"GB": ["500901"], "NAME": ["区"]}, geometry=[box(106, 29, 107, 30)], crs=4326
    ).to_file(own_database / "d.gpkg")
    result = yutu("import", "districts", *words)
    assert result.exit_code == 1
    assert says in result.output
    assert "Traceback" not in result.output


def test_zones_without_districts_have_no_place(own_database: Path) -> None:
    (own_database / "z.csv").write_text("code,name,adcodes\nZ-A,甲,500901\n", encoding="utf-8")
    result = yutu("import", "zones", "z.csv", "--valid-from", "2026-02-01")
    assert result.exit_code == 1
    assert "no districts are loaded" in result.output
    assert "name a file, or zones to --end" in yutu("import", "zones").output


def test_faults_of_an_imported_file_are_told_with_its_name(own_database: Path) -> None:
    assert "loaded" in yutu("import", "districts", "--default").output
    bad = "facility_id,kind,lon,lat,unit\nA,tower,,29.55,\nB,castle,106.55,29.55,\n"
    (own_database / "bad.csv").write_text(bad, encoding="utf-8")
    refused = yutu("import", "facilities", "bad.csv", "--crs", "WGS84")
    assert refused.exit_code == 1
    assert [line[:26] for line in refused.stderr.splitlines()] == [
        "yutu: bad.csv: row 1, lon:",
        "yutu: bad.csv: row 2, kind",
    ]
    partly = yutu("import", "facilities", "bad.csv", "--crs", "WGS84", "--partial")
    assert "name" not in partly.stdout  # no row is left
    assert "yutu: bad.csv: row 1, lon: " in partly.stderr
    # what only the database knows
    (own_database / "unit.csv").write_text(
        "facility_id,kind,lon,lat,unit\nA,tower,106.55,29.55,NOWHERE\n", encoding="utf-8"
    )
    unknown = yutu("import", "facilities", "unit.csv", "--crs", "WGS84")
    assert unknown.stderr.startswith("yutu: unit.csv: row 1, unit: ")
    mute = yutu("import", "facilities", "unit.csv")
    assert mute.stderr.startswith("yutu: unit.csv: crs: declare the coordinate system")
    (own_database / "empty.geojson").write_text("{}", encoding="utf-8")
    for noun in ("districts", "zones"):
        result = yutu("import", noun, "empty.geojson", "--valid-from", "2020-01-01", *(TOLD if noun == "districts" else ()))  # fmt: skip
        assert result.exit_code == 1
        assert result.stderr.startswith("yutu: empty.geojson: ")
