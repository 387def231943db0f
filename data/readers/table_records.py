"""Tables (CSV, XLSX) as records: the sheet's or text's rows, under its header."""

from __future__ import annotations

from pathlib import Path

from data.readers.archive import check_members, open_archive
from data.readers.records import FileRecord, FileRecords
from data.readers.tabular import read_table


def read_table_records(path: Path, name: str, form: str, rows_max: int) -> FileRecords:
    """The rows of a table; those that could not be read are records with their faults."""
    if form == "xlsx":
        with open_archive(path) as archive:
            check_members(archive)
    table = read_table(path, name, max_rows=rows_max)
    records = [FileRecord(row, dict(cells)) for row, cells in table.records()]
    records += [FileRecord(fault.row or 1, {}, faults=[fault]) for fault in table.faults]
    records.sort(key=lambda record: record.row)
    return FileRecords(form, records, [str(name) for name in table.frame.columns])
