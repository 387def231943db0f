"""Tables (CSV, XLSX) as records: the sheet's or text's rows, under its header."""

from __future__ import annotations

import csv
from pathlib import Path

from data.readers.archive import check_members, open_archive
from data.readers.records import FileRecord, FileRecords
from data.readers.tabular import decode_text, read_table, separator_of
from geo.errors import Fault


def read_table_records(path: Path, name: str, form: str, rows_max: int) -> FileRecords:
    """The rows of a table; those that could not be read are records with their faults."""
    if form == "xlsx":
        with open_archive(path) as archive:
            check_members(archive)
    table = read_table(path, name, max_rows=rows_max)
    records = [FileRecord(row, dict(cells)) for row, cells in table.records()]
    records += [FileRecord(fault.row or 1, {}, faults=[fault]) for fault in table.faults]
    records.sort(key=lambda record: record.row)
    if form == "csv" and records and _breaks_off(path, name):
        reason = "the file breaks off in the middle of this row; send it whole"
        records[-1].faults.append(Fault(reason, records[-1].row))
    headers = [str(name) for name in table.frame.columns]
    return FileRecords(form, records, headers, lines=table.lines)


def _breaks_off(path: Path, name: str) -> bool:
    """Whether the last line has no end and fewer cells than the header: what it says may be half.

    A program that leaves empty cells out at the end of a row still ends the line.
    """
    data = path.read_bytes()
    if data.endswith((b"\n", b"\r", b"\n\0", b"\r\0")):
        return False
    text, _ = decode_text(data, name)
    separator = separator_of(text)
    header = next((line for line in text.splitlines() if line.strip(" ,;\t\ufeff")), "")
    last = text[max(text.rfind("\n"), text.rfind("\r")) + 1 :]
    if not last.strip() or last.count('"') % 2:  # or the rest of a cell of several lines
        return False
    columns, cells = (len(next(csv.reader([line], delimiter=separator))) for line in (header, last))
    return cells < columns
