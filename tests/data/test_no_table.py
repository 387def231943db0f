"""What is no table of facilities is told as what it seems to be, and every table still is one."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import openpyxl
import pytest

from api.messages import told
from data.facility_file import ACCEPTED, read_facility_file
from data.status_file import read_status_file
from data.times import parse_time
from geo.errors import InvalidInput
from tests.source_messages import CHINESE

ROOT = Path(__file__).resolve().parents[2]
NOW = parse_time("2026-11-21T08:00:00+08:00")
TABLE = "facility_id,lon,lat\nA,106.5,29.5\n"


@pytest.mark.parametrize(
    ("name", "content", "seeming"),
    [
        ("README.md", (ROOT / "README.md").read_bytes(), "a Markdown text"),
        ("说明.txt", (ROOT / "README.zh-CN.md").read_bytes(), "a Markdown text"),
        ("LICENSE", (ROOT / "LICENSE").read_bytes(), "plain text"),
        ("setup.csv", (ROOT / "pyproject.toml").read_bytes(), "plain text"),
        ("letter.txt", b"Dear all,\nplease find below, as said, the sites.\nBest\n", "plain text"),
        ("gb.txt", "各位领导：\n现将基站情况报告如下，请审阅。\n".encode("gb18030"), "plain text"),
        ("one.csv", b"facility_id\nA\n", "plain text"),
        ("page.csv", b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        ("x.xml", b"<?xml version='1.0'?><a><b/></a>", "XML of another kind"),
        ("list.json", b'[{"facility_id": "A", "lon": 106.5, "lat": 29.5}]', "JSON but no GeoJSON"),
        ("p.csv", b"facility_id|lon|lat\nA|106.5|29.5\n", "parted by | instead of commas"),
        ("p.pdf", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "a PDF"),
        ("p.png", b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG picture"),
        ("x.dat", bytes(range(1, 256)) * 300, "binary and of no known kind"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_the_file_seems_to_be_and_what_is_accepted(
    tmp_path: Path, name: str, content: bytes, seeming: str
) -> None:
    path = tmp_path / "sent"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        read_facility_file(path, name, crs="WGS84")
    assert len(refused.value.faults) == 1
    reason = refused.value.faults[0].reason
    assert reason.startswith(f"{name!r} seems to be ")
    assert seeming in reason
    assert reason.endswith(ACCEPTED)
    chinese = told(reason, "zh")
    assert chinese.startswith(f"{name!r} 不是表格，看来是：")
    assert CHINESE.search(chinese.split("：")[1])
    assert "accepted" not in chinese


@pytest.mark.parametrize(
    "content",
    [
        TABLE, TABLE.replace(",", ";"), TABLE.replace(",", "\t"), "\n\n" + TABLE,
        "sep=;\n" + TABLE.replace(",", ";"), "\ufeff" + TABLE, TABLE.replace("\n", "\r\n"),
        '"facility\nid",lon,lat\nA,106.5,29.5\n', "a,b,c\n1,2,3\n", "BM,lon,lat\nA,106.5,29.5\n",
        "MZ编号,经度,纬度\nA,106.5,29.5\n", "# id,lon,lat\nA,106.5,29.5\n",
        '"[1]",lon,lat\nA,106.5,29.5\n', TABLE + "B,106.5,29.5\n" * 20_000 + "渝,106.5,29.5\n" * 9_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_every_table_is_still_read(tmp_path: Path, content: str, encoding: str) -> None:
    path = tmp_path / "sent"
    path.write_bytes(content.encode(encoding))
    assert len(read_facility_file(path, "t.csv", crs="WGS84").frame) >= 1


def test_a_workbook_and_an_archive_are_left_to_their_readers(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["facility_id", "lon", "lat"])
    book.active.append(["A", 106.5, 29.5])
    whole = io.BytesIO()
    book.save(whole)
    path = tmp_path / "sent"
    path.write_bytes(whole.getvalue())
    assert len(read_facility_file(path, "t.xlsx", crs="WGS84").frame) == 1
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    with pytest.raises(InvalidInput, match="is an archive but no XLSX workbook"):
        read_facility_file(path, "t.docx", crs="WGS84")


def test_a_status_file_that_is_prose_is_told_so_and_its_unread_columns_are_listed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sent"
    path.write_text("# Status\n\nAll is well.\n", encoding="utf-8")
    with pytest.raises(
        InvalidInput, match=r"'s\.md' seems to be a Markdown text; accepted are CSV"
    ):
        read_status_file(path, "s.md", NOW)
    path.write_text("facility_id,state,note,cause\nA,up,x,y\n", encoding="utf-8")
    assert read_status_file(path, "s.csv", NOW).unread == ("note",)
    path.write_text('{"facility_id": "A", "state": "up", "stat": 1, "note": 2}\n', encoding="utf-8")
    assert read_status_file(path, "s.ndjson", NOW).unread == ("note", "stat")
