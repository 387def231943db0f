"""An XLSX workbook written as a stream: a sheet of rows and one of facts, whatever the number.

A library that keeps cells as objects writes a few thousand rows a second; the sheet is plain XML,
so it is written as such, row by row, into the archive. Text is inline and therefore never a
formula; times are dates of Beijing time, which spreadsheets have no zone for.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Any, Final
from xml.sax.saxutils import escape, quoteattr

from geo.errors import InvalidInput

ROWS_MAX = 1_048_575
"""What a sheet holds below its header."""
CELL_CHARACTERS_MAX = 32_767
BEIJING: Final = timezone(timedelta(hours=8))
_DAY_ZERO: Final = datetime(1899, 12, 30, tzinfo=BEIJING)
_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_x[0-9A-Fa-f]{4}_")
_WRITE_BYTES: Final = 1 << 20
_MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_DATE_STYLE: Final = 1
_HEADER_STYLE: Final = 2


@dataclass(frozen=True, slots=True)
class SheetColumn:
    """`kind`: text, integer, number, boolean, time or json (a text)."""

    title: str
    kind: str


def write_workbook(
    path: Path,
    title: str,
    columns: Sequence[SheetColumn],
    rows: Iterable[Sequence[Any]],
    facts_title: str,
    facts: Callable[[], Iterable[tuple[str, str]]],
) -> None:
    """Write both sheets; `facts` is called once every row is written.

    Raises InvalidInput for more rows, or a longer text, than a spreadsheet can hold.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, body in _frame(title, facts_title):
            archive.writestr(name, _HEAD + body)
        try:
            with archive.open("xl/worksheets/sheet1.xml", "w") as sheet:
                _write_sheet(sheet, columns, rows)
        except RuntimeError:  # zipfile's word for more than 2 GiB of XML
            raise InvalidInput("too much for a workbook; take csv, gpkg or parquet") from None
        with archive.open("xl/worksheets/sheet2.xml", "w") as sheet:
            _write_sheet(sheet, [SheetColumn("key", "text"), SheetColumn("value", "text")], facts())


def letters(index: int) -> str:
    """The name of the column at a 0-based index: A … Z, AA …"""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(65 + rest) + name
    return name


def _write_sheet(
    sheet: IO[bytes], columns: Sequence[SheetColumn], rows: Iterable[Sequence[Any]]
) -> None:
    widths = "".join(
        f'<col min="{n}" max="{n}" width="{_width(column)}" customWidth="1"/>'
        for n, column in enumerate(columns, 1)
    )
    sheet.write(
        (
            f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
            '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/>'
            f"</sheetView></sheetViews><cols>{widths}</cols><sheetData>"
        ).encode()
    )
    names = [letters(n) for n in range(len(columns))]
    header = "".join(
        _text(f"{name}1", column.title, _HEADER_STYLE)
        for name, column in zip(names, columns, strict=True)
    )
    pending, size = [f'<row r="1">{header}</row>'], 0
    writers = [_CELLS[column.kind] for column in columns]
    for line in _numbered(rows):
        number, row = line
        cells = "".join(
            write(f"{name}{number}", value)
            for write, name, value in zip(writers, names, row, strict=True)
            if value is not None
        )
        pending.append(f'<row r="{number}">{cells}</row>')
        size += len(cells)
        if size > _WRITE_BYTES:
            sheet.write("".join(pending).encode())
            pending, size = [], 0
    sheet.write(("".join(pending) + "</sheetData></worksheet>").encode())


def _numbered(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[int, Sequence[Any]]]:
    for number, row in enumerate(rows, 2):
        if number - 1 > ROWS_MAX:
            raise InvalidInput(
                f"more than {ROWS_MAX:,} rows, which is all that a sheet of Excel holds;"
                " filter, or take csv, gpkg or parquet"
            )
        yield number, row


def _width(column: SheetColumn) -> int:
    return {"time": 20, "json": 30, "boolean": 8}.get(column.kind, 16)


def _text(place: str, value: str, style: int = 0) -> str:
    if len(value) > CELL_CHARACTERS_MAX:
        raise InvalidInput("a text is longer than a cell of Excel holds; take csv, gpkg or parquet")
    if _UNWRITABLE.search(value):
        value = _UNWRITABLE.sub(_spelled, value)
    styled = f' s="{style}"' if style else ""
    body = escape(value, {"\r": "&#13;"})
    return f'<c r="{place}"{styled} t="inlineStr"><is><t xml:space="preserve">{body}</t></is></c>'


def _spelled(match: re.Match[str]) -> str:
    """A character XML cannot hold, or a text that looks like its spelling, as OOXML spells it."""
    found = match[0]
    return f"_x005F{found}" if found.startswith("_x") else f"_x{ord(found):04X}_"


def _number(place: str, value: float) -> str:
    return f'<c r="{place}"><v>{value!r}</v></c>'


def _boolean(place: str, value: bool) -> str:
    return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'


def _time(place: str, value: datetime) -> str:
    days = (value - _DAY_ZERO) / timedelta(days=1)
    return f'<c r="{place}" s="{_DATE_STYLE}"><v>{days:.9f}</v></c>'


_CELLS: Final[dict[str, Callable[[str, Any], str]]] = {
    "text": _text,
    "json": _text,
    "integer": _number,
    "number": _number,
    "boolean": _boolean,
    "time": _time,
}


def _frame(title: str, facts_title: str) -> Iterator[tuple[str, str]]:
    """The parts around the sheets."""
    overrides = "".join(
        f'<Override PartName="/xl/{name}.xml" ContentType="{_TYPE}.{kind}+xml"/>'
        for name, kind in (
            ("workbook", "sheet.main"),
            ("styles", "styles"),
            ("worksheets/sheet1", "worksheet"),
            ("worksheets/sheet2", "worksheet"),
        )
    )
    yield (
        "[Content_Types].xml",
        f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels"'
        f' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>{overrides}'
        "</Types>",
    )
    yield (
        "_rels/.rels",
        f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1"'
        f' Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    )
    sheets = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{n}" r:id="rId{n}"/>'
        for n, name in enumerate((title, facts_title), 1)
    )
    yield (
        "xl/workbook.xml",
        f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>',
    )
    related = "".join(
        f'<Relationship Id="rId{n}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for n, kind, target in (
            (1, "worksheet", "worksheets/sheet1.xml"),
            (2, "worksheet", "worksheets/sheet2.xml"),
            (3, "styles", "styles.xml"),
        )
    )
    yield (
        "xl/_rels/workbook.xml.rels",
        f'<Relationships xmlns="{_PACKAGE}/relationships">{related}</Relationships>',
    )
    plain = '<xf numFmtId="{}" fontId="{}" fillId="0" borderId="0" xfId="0"{}/>'
    yield (
        "xl/styles.xml",
        f'<styleSheet xmlns="{_MAIN}"><numFmts count="1">'
        '<numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss"/></numFmts>'
        '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
        '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
        '<fills count="2"><fill><patternFill patternType="none"/></fill>'
        '<fill><patternFill patternType="gray125"/></fill></fills>'
        '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
        '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/>'
        '</cellStyleXfs><cellXfs count="3">'
        + plain.format(0, 0, "")
        + plain.format(164, 0, ' applyNumberFormat="1"')
        + plain.format(0, 1, ' applyFont="1"')
        + '</cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/>'
        "</cellStyles></styleSheet>",
    )
