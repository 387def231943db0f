"""An empty file to fill, of a header and an example row, as a spreadsheet program opens it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

#: So many rows of a sheet are formatted ahead of being filled.
ROWS_READY = 1000


def csv_file(rows: Iterable[Sequence[str]]) -> bytes:
    """As CSV, UTF-8 with the mark by which Excel knows it."""
    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator="\r\n").writerows(rows)
    return sink.getvalue().encode("utf-8-sig")


def xlsx_file(title: str, rows: Iterable[Sequence[str]]) -> bytes:
    """As a workbook; every cell is text, so that codes and ids keep their zeros."""
    import openpyxl  # takes a tenth of a second, which no start of a process is to wait for

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = title
    for row in rows:
        sheet.append([cell or None for cell in row])
    for column in sheet.iter_cols(max_row=ROWS_READY):
        for cell in column:
            cell.number_format = "@"
    sheet.freeze_panes = "A2"
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()
