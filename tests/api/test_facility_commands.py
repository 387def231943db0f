"""`yutu import facilities` and `yutu demo` as they are typed, against a real PostGIS."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.cli import app
from data.facility_columns import KINDS
from tests.feeds import load_divisions

WRI = Path(__file__).resolve().parents[3] / "shared" / "reference" / "wri_power_plants_china.csv"
HERE = "A,106.553,29.553,12\nB,104.07,30.67,5\n"


@pytest.fixture(autouse=True)
def _own_database(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("YUTU_DATABASE_URL", database_url)


def yutu(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def table(folder: Path, rows: str) -> str:
    path = folder / "stations.csv"
    path.write_text("facility_id,lon,lat,Capacity (MW)\n" + rows, encoding="utf-8")
    return str(path)


def test_a_file_is_imported_once_and_rows_outside_are_kept_and_counted(tmp_path: Path) -> None:
    words = (
        "import",
        "facilities",
        table(tmp_path, HERE),
        "--kind",
        "substation",
        "--crs",
        "WGS84",
    )
    words = (*words, "--map", "load_kw=Capacity (MW)*1000")
    first = yutu(*words)
    assert first.exit_code == 0, first.output
    assert "accepted 2 (new 2, edited 0, unchanged 0), rejected 0" in first.output
    assert "outside all districts 1 kept" in first.output
    assert "new 0, edited 0, unchanged 2" in yutu(*words).output
    assert "accepted 1" in yutu(*words, "--within-city").output


def test_one_bad_row_refuses_the_file_unless_the_good_ones_are_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path, "C,106.553,29.553,1\nC,106.553,29.553,1\nD,29.553,106.553,1\n")
    words = ("import", "facilities", path, "--kind", "shelter", "--crs", "WGS84")
    refused = yutu(*words)
    assert refused.exit_code == 1
    assert "row 2, facility_id" in refused.output
    assert "row 3" in refused.output
    taken = yutu(*words, "--partial")
    assert taken.exit_code == 0
    assert "accepted 1 (new 1" in taken.output
    assert "rejected 2" in taken.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name a file"),
        (("--template", "castle"), "must be one of base_station"),
        (("--template", "tower", "--format", "pdf"), "csv or xlsx"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words: tuple[str, ...], says: str) -> None:
    result = yutu("import", "facilities", *words)
    assert result.exit_code == 1
    assert says in result.output


def test_without_a_declared_system_the_file_is_refused(tmp_path: Path) -> None:
    result = yutu("import", "facilities", table(tmp_path, HERE), "--kind", "tower")
    assert result.exit_code == 1
    assert "never guessed" in result.output


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_template_is_written_to_standard_output(kind: str) -> None:
    result = yutu("import", "facilities", "--template", kind, "--lang", "zh")
    assert result.exit_code == 0
    assert result.stdout_bytes.startswith("\ufeff设施编号,名称".encode())
    assert b"EXAMPLE-1" in result.stdout_bytes


@pytest.mark.skipif(not WRI.exists(), reason="the reference file is not beside this checkout")
def test_a_real_third_party_file_is_imported_by_a_mapping() -> None:
    words = ["import", "facilities", str(WRI), "--kind", "power_plant", "--crs", "WGS84"]
    for one in (
        "facility_id=Power Plant ID", "name=Name", "operator=Owner",
        "attributes.fuel=Fuel", "attributes.capacity_kw=Capacity (MW)*1000",
    ):  # fmt: skip
        words += ["--map", one]
    assert "row 297, lat: is empty" in yutu(*words).output
    whole = yutu(*words, "--partial")
    assert "accepted 3113 (new 3113, edited 0, unchanged 0), rejected 24" in whole.output
    assert "outside all districts 3066 kept" in whole.output
    city = yutu(*words, "--partial", "--within-city")
    assert "accepted 47 (new 0, edited 0, unchanged 47)" in city.output
    assert "3066 left out" in city.output


def test_the_demonstration_is_refused_in_ones_own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("load", "play", "clear"):
        result = yutu("demo", command)
        assert result.exit_code == 1
        assert "YUTU_DEMO=1" in result.output
    monkeypatch.setenv("YUTU_DEMO", "1")
    result = yutu("demo", "load", "--facilities", "2000")
    assert result.exit_code == 1
    assert "has facilities" in result.output


def test_the_demonstration_is_loaded_played_once_and_cleared(
    monkeypatch: pytest.MonkeyPatch, empty_database_url: str
) -> None:
    load_divisions(empty_database_url)
    monkeypatch.setenv("YUTU_DATABASE_URL", empty_database_url)
    monkeypatch.setenv("YUTU_DEMO", "1")
    assert (
        "10000 synthetic facilities are in force"
        in yutu("demo", "load", "--facilities", "10000").output
    )
    played = yutu("demo", "play", "--at-once")
    assert played.exit_code == 0, played.output
    assert "minute 600 of 600" in played.output
    assert "nothing is repeated" in yutu("demo", "play", "--at-once").output
    assert "10000 synthetic facilities retired" in yutu("demo", "clear").output
