"""`yutu export` as it is typed, and the workbook below it, where sizes and letters matter."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import openpyxl
import pandas as pd
import pyogrio
import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.cli import app
from data import workbook
from data.database import app_engine
from data.export_files import inert
from data.workbook import SheetColumn, letters, write_workbook
from geo.errors import InvalidInput
from tests.feeds import INSIDE, facility, load_facilities


@pytest.fixture(scope="module")
def loaded(database_url: str) -> str:
    engine = app_engine(database_url)
    load_facilities(
        engine, [facility(f"F-{i}", *place, name="重庆") for i, place in enumerate(INSIDE.values())]
    )
    engine.dispose()
    return database_url


@pytest.fixture(autouse=True)
def _own_database(monkeypatch: pytest.MonkeyPatch, loaded: str) -> None:
    monkeypatch.setenv("YUTU_DATABASE_URL", loaded)


def yutu(*words: str) -> Result:
    return CliRunner().invoke(app, ["export", *words])


def test_a_collection_is_written_with_its_manifest_beside(tmp_path: Path) -> None:
    path = tmp_path / "设施.gpkg"
    done = yutu("facilities", str(path), "--crs", "EPSG:4546")
    assert done.exit_code == 0, done.output
    assert "3 rows of facilities" in done.output
    assert len(pyogrio.read_dataframe(path, layer="facilities")) == 3
    told = json.loads((tmp_path / "设施.gpkg.manifest.json").read_text(encoding="utf-8"))
    assert (told["rows"], told["crs"], told["format"]) == (3, "EPSG:4546", "gpkg")
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "设施.gpkg",
        "设施.gpkg.manifest.json",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuch", "x.csv"), "no such collection"),
        (("facilities", "x.doc"), "must be one of geojson"),
        (("facilities", "x.gpkg", "--crs", "GCJ-02"), "has no name for GCJ-02"),
        (("facilities", "x.csv", "--at", "2026-01-01T00:00:00Z"), "as they are now"),
        (("facilities", "nowhere/x.csv"), "folder does not exist"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = yutu(*words)
    assert done.exit_code == 1
    assert said in done.output
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_halfway_keeps_the_file_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "facilities.xlsx"
    assert yutu("facilities", str(path)).exit_code == 0
    before = path.read_bytes()
    monkeypatch.setattr(workbook, "ROWS_MAX", 1)
    assert yutu("facilities", str(path)).exit_code == 1
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_letters_of_columns() -> None:
    assert [letters(n) for n in (0, 25, 26, 51, 52, 701, 702)] == [
        "A",
        "Z",
        "AA",
        "AZ",
        "BA",
        "ZZ",
        "AAA",
    ]


def test_a_workbook_holds_any_text_numbers_and_times(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    texts = ["a<b>&\"'", "line\nline", "  blanks  ", "\x01", "_x0041_", "表情😀", "tab\there", ""]
    columns = [
        SheetColumn(f"c{n}", kind)
        for n, kind in enumerate(("text", "integer", "number", "boolean", "time"))
    ]
    moment = datetime(2026, 11, 21, 0, 30, 5, tzinfo=UTC)
    rows = [(one, 2**40, 0.1, True, moment) for one in texts] + [(None,) * 5]
    write_workbook(path, "数据 & 更多", columns, rows, "说明", lambda: [("键", "值")])
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["数据 & 更多", "说明"]
    read = [[cell.value for cell in row] for row in book.worksheets[0].iter_rows(min_row=2)]
    # what XML cannot hold, and what looks like its spelling, is spelled as OOXML has it
    spelled = [*texts[:3], "_x0001_", "_x005F_x0041_", *texts[5:]]
    assert [row[0] or "" for row in read[: len(texts)]] == spelled
    assert read[0][1:4] == [2**40, 0.1, True]
    assert str(read[0][4]) == "2026-11-21 08:30:05", "Beijing time"
    frame = pd.read_excel(path, engine="calamine")
    assert frame["c0"][5] == "表情😀"
    with pytest.raises(InvalidInput, match="longer than a cell"):
        write_workbook(path, "a", columns[:1], [("x" * 40_000,)], "b", list)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_text_that_begins_like_a_formula_is_quoted(start: str) -> None:
    assert inert(f"{start}1") == f"'{start}1"
    assert inert(f"1{start}") == f"1{start}"
    assert inert("") == ""
