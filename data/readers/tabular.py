"""Tables without geometry: CSV, XLSX and Parquet, as people and their programs write them.

A table's rows are numbered from 1 without the header; blank rows are skipped but counted. `Lines`
leads from the number of a row back to the line of the text or of the sheet. Text stays text (an id
`00123` keeps its zeros, a date typed as text is not interpreted); what the file itself stores as
number, truth or date stays that.
"""

from __future__ import annotations

import bisect
import csv
import datetime
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow
import pyarrow.parquet
import python_calamine

from geo.errors import Fault, InvalidInput, TooLarge

Cell = str | int | float | bool | datetime.datetime | datetime.date | datetime.time | None

MAX_ROWS: Final = 2_000_000
MAX_COLUMNS: Final = 500
MAX_UNPACKED_BYTES: Final = 2 << 30
"""What an XLSX or Parquet file may unpack to."""
MAX_CELLS: Final = 30_000_000
"""Rows times columns between the first and the last used cell of a sheet."""

_CELL_REFERENCE: Final = re.compile(rb'<c r="([A-Z]{1,3})([0-9]{1,7})"')
_CHUNK_ROWS: Final = 50_000
_INVISIBLE: Final = "\ufeff\u200b\u200e\u200f"


@dataclass
class Lines:
    """The line of the file, or of the sheet, that a row begins in: row 1 is line 2 where nothing
    stands above the header and no cell holds a line break."""

    rows: list[int] = field(default_factory=list)
    ahead: list[int] = field(default_factory=list)

    def note(self, row: int, line: int) -> None:
        """Rows come in order; kept is only where the distance between the two changes."""
        if not self.ahead or self.ahead[-1] != line - row:
            self.rows.append(row)
            self.ahead.append(line - row)

    def of(self, row: int) -> int:
        """The line of a row, blank ones included; a row before the first noted counts from it."""
        return row + self.ahead[max(bisect.bisect_right(self.rows, row) - 1, 0)]


@dataclass(frozen=True)
class Table:
    """What a file held. `frame`: one row per record, its index named `row` (1-based without the
    header), columns named by the stripped header; missing cells are None or NaN. `faults`: rows
    that could not be read and are not in the frame. `format`: csv, xlsx or parquet; `encoding`:
    of a CSV; `lines`: of a CSV or XLSX."""

    frame: Any
    faults: tuple[Fault, ...]
    format: str
    encoding: str | None = None
    lines: Lines | None = None

    def records(self) -> Iterator[tuple[int, dict[str, Cell]]]:
        """Row number and cells by column name, missing ones None, in the order of the file."""
        names = [str(name) for name in self.frame.columns]
        for start in range(0, len(self.frame), _CHUNK_ROWS):
            part = self.frame.iloc[start : start + _CHUNK_ROWS]
            cells = [[_plain(value) for value in part[name].tolist()] for name in part.columns]
            for row, values in zip(part.index.tolist(), zip(*cells, strict=True), strict=True):
                yield row, dict(zip(names, values, strict=True))


def read_table(source: Path | bytes, name: str, *, max_rows: int = MAX_ROWS) -> Table:
    """The first sheet or the only table of a file; its kind is found from its content.

    CSV may be UTF-8 (with or without mark), UTF-16 with mark, or GB18030, separated by comma,
    semicolon or tab; a row with fewer cells than the header ends in missing ones, a cell under no
    column name is a fault of its row. Dates of a workbook come without offset, as typed. `name`
    only says in messages which file is meant. Raises InvalidInput for a file that is none of the
    three, is damaged or empty, or whose header repeats or lacks a name; TooLarge beyond `max_rows`.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    if not data.strip():
        raise InvalidInput([Fault(f"{_shown(name)} is empty")])
    if data.startswith(b"PAR1"):
        return _read_parquet(data, name, max_rows)
    if data.startswith(b"PK\x03\x04"):
        return _read_xlsx(data, name, max_rows)
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise InvalidInput([Fault(f"{_shown(name)} is an old or encrypted Excel file; "
                                  "save it as XLSX without a password")])  # fmt: skip
    return _read_csv(data, name, max_rows)


# --- CSV ------------------------------------------------------------------------------------------


def decode_text(data: bytes, name: str) -> tuple[str, str]:
    """The text of a file and its encoding: utf-8, utf-16 (only with a mark) or gb18030.

    Raises InvalidInput when it is none of these or holds NUL characters.
    """
    candidates = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "gb18030")
    for encoding in candidates:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise InvalidInput([Fault(f"{_shown(name)} holds NUL characters; it is not text")])
        return text, encoding.removesuffix("-sig")
    raise InvalidInput(
        [Fault(f"{_shown(name)} is neither UTF-8 nor GB18030 text; save it as UTF-8")]
    )


def _read_csv(data: bytes, name: str, max_rows: int) -> Table:
    text, encoding = decode_text(data, name)
    # Spreadsheets may say the separator in a first line of their own.
    said = re.match(r'"?sep=(.)"?\r?\n', text, re.IGNORECASE)
    if said:
        text = text[said.end() :]
    separator = said[1] if said else separator_of(text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)

    def cells() -> Iterator[tuple[int, list[Cell]]]:
        count, begins = 0, 2 if said else 1
        try:
            for line in lines:
                count += 1
                yield begins, [cell.strip() or None for cell in line]
                begins = lines.line_num + (2 if said else 1)
        except csv.Error as error:
            reason = f"{_shown(name)} is not readable from line {lines.line_num} on: {error}"
            raise InvalidInput([Fault(reason, count or None)]) from error

    frame, faults, places = _assemble(cells(), name, max_rows, text_only=True)
    return Table(frame, faults, "csv", encoding, places)


def separator_of(text: str) -> str:
    """The one of comma, semicolon and tab found most often outside quotes in the first line."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", header)
    return max(",;\t", key=bare.count)


# --- XLSX -----------------------------------------------------------------------------------------


def _read_xlsx(data: bytes, name: str, max_rows: int) -> Table:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            if "xl/workbook.xml" not in {part.filename for part in parts}:
                raise InvalidInput([Fault(f"{_shown(name)} is an archive but no XLSX workbook")])
            if sum(part.file_size for part in parts) > MAX_UNPACKED_BYTES:
                raise TooLarge(
                    [Fault(f"{_shown(name)} unpacks to over {MAX_UNPACKED_BYTES} bytes")]
                )
            for part in parts:
                if part.filename.startswith("xl/worksheets/"):
                    _require_extent(archive, part, name)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InvalidInput([Fault(f"{_shown(name)} is damaged, encrypted or cut off")]) from error
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        # Rows above the first used one count too: the number must lead back to the sheet.
        rows = book.get_sheet_by_index(0).to_python(skip_empty_area=False)
    except (python_calamine.CalamineError, IndexError, ValueError, OSError) as error:
        raise InvalidInput([Fault(f"{_shown(name)} is damaged or not a workbook")]) from error
    numbered = enumerate(([_cell(value) for value in row] for row in rows), start=1)
    frame, faults, places = _assemble(numbered, name, max_rows, text_only=False)
    return Table(frame, faults, "xlsx", lines=places)


def _require_extent(archive: zipfile.ZipFile, part: zipfile.ZipInfo, name: str) -> None:
    """Refuse a sheet whose cells lie so far apart that the grid between them would fill memory."""
    rows = columns = 0
    tail = b""
    with archive.open(part) as stream:
        while block := stream.read(1 << 20):
            for letters, digits in _CELL_REFERENCE.findall(tail + block):
                column = 0
                for letter in letters:
                    column = column * 26 + letter - 64
                rows, columns = max(rows, int(digits)), max(columns, column)
            tail = block[-32:]
    if rows * columns > MAX_CELLS:
        reason = f"a sheet of {_shown(name)} spans {rows} rows × {columns} columns; delete the rest"
        raise TooLarge([Fault(reason)])


def _cell(value: Any) -> Cell:
    """A cell of a workbook; errors (#N/A) and formulas never calculated arrive as missing."""
    if isinstance(value, str):
        return value.strip() or None
    # A workbook stores every number as a float; 500101.0 was typed as 500101.
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds() / 3600.0
    return value  # type: ignore[no-any-return]


# --- Parquet --------------------------------------------------------------------------------------


def _read_parquet(data: bytes, name: str, max_rows: int) -> Table:
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        meta = file.metadata
        if meta.num_rows > max_rows:
            raise TooLarge([Fault(f"{_shown(name)} has {meta.num_rows} rows, limit {max_rows}")])
        unpacked = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        if unpacked > MAX_UNPACKED_BYTES:
            raise TooLarge([Fault(f"{_shown(name)} unpacks to {unpacked} bytes")])
        header = _header([str(n) for n in file.schema_arrow.names], name)
        if None in header or len(header) < len(file.schema_arrow.names):
            raise InvalidInput([Fault(f"{_shown(name)} has a column without a name")])
        table = file.read().rename_columns(header)
        frame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InvalidInput([Fault(f"{_shown(name)} is damaged or incomplete")]) from error
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="row")
    frame = frame.dropna(how="all")
    if frame.empty:
        raise InvalidInput([Fault(f"{_shown(name)} has no rows")])
    return Table(frame, (), "parquet")


# --- what all share -------------------------------------------------------------------------------


def _assemble(
    rows: Iterable[tuple[int, list[Cell]]], name: str, max_rows: int, *, text_only: bool
) -> tuple[Any, tuple[Fault, ...], Lines]:
    """A frame from lines with their cells, of which the first that is not blank is the header."""
    stream = iter(rows)
    first = next((row for _, row in stream if any(cell is not None for cell in row)), None)
    if first is None:
        raise InvalidInput([Fault(f"{_shown(name)} has no header")])
    header = _header([None if cell is None else str(cell) for cell in first], name)
    faults: list[Fault] = []
    chunks: list[Any] = []
    numbers: list[int] = []
    kept: list[list[Cell]] = []

    def close_chunk() -> None:
        columns = list(zip(*kept, strict=True))
        data = {
            title: pd.array(columns[i], dtype="str" if text_only else object)
            for i, title in enumerate(header)
            if title is not None
        }
        chunks.append(pd.DataFrame(data, index=pd.Index(numbers, name="row", dtype="int64")))
        numbers.clear()
        kept.clear()

    lines = Lines()
    width = len(header)
    blank_titles = None in header
    for number, (line, row) in enumerate(stream, start=1):
        lines.note(number, line)
        if row.count(None) == len(row):
            continue
        if len(numbers) + _CHUNK_ROWS * len(chunks) >= max_rows:
            raise TooLarge([Fault(f"{_shown(name)} has more than {max_rows} rows")])
        if blank_titles or len(row) > width:
            extra = [i for i, cell in enumerate(row) if cell is not None and _unnamed(i, header)]
            if extra:
                reason = f"cell {extra[0] + 1} stands under no column name"
                faults.append(Fault(reason, number))
                continue
            del row[width:]
        numbers.append(number)
        kept.append(row if len(row) == width else row + [None] * (width - len(row)))
        if len(numbers) == _CHUNK_ROWS:
            close_chunk()
    if numbers:
        close_chunk()
    if not chunks:
        if faults:
            raise InvalidInput(faults)
        raise InvalidInput([Fault(f"{_shown(name)} has a header but no rows")])
    return pd.concat(chunks), tuple(faults), lines


def _unnamed(position: int, header: list[str | None]) -> bool:
    return position >= len(header) or header[position] is None


def _header(cells: list[str | None], name: str) -> list[str | None]:
    """Stripped column names; a blank one is None, and nothing may stand under it."""
    titles = [None if c is None else c.strip().strip(_INVISIBLE).strip() or None for c in cells]
    while titles and titles[-1] is None:
        titles.pop()
    named = [title for title in titles if title is not None]
    if not named:
        raise InvalidInput([Fault(f"{_shown(name)} has no header")])
    if len(titles) > MAX_COLUMNS:
        raise TooLarge([Fault(f"{_shown(name)} has more than {MAX_COLUMNS} columns")])
    repeated = sorted({title for title in named if named.count(title) > 1})
    if repeated:
        raise InvalidInput([Fault("the header names this column twice", None, t) for t in repeated])
    return titles


def _plain(value: Any) -> Cell:
    """A cell as a plain Python value."""
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    if isinstance(value, float) and value != value:
        return None
    return value  # type: ignore[no-any-return]


def _shown(name: str) -> str:
    return repr(name[-80:]) if name else "the file"
