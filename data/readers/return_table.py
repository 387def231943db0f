"""A return as a table (CSV, XLSX): one row per district or unit, its head in columns or beside it.

Columns are named as in the JSON rows; a cause is a column `causes.power` or `power`, and `unknown`
alone is the number of facilities of unknown state. `return_id`, `operator`, `kind` and `as_of` may
be columns, which then say the same in every row. `parse_return_table` is for the server: it reads
in a confined child process (`data.sandbox`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from data.readers.tabular import Lines, read_table
from data.readers.told import told_faults, told_lines, untold_faults, untold_lines
from data.sandbox import Limits, run_sandboxed
from data.scratch import scratch_folder
from geo.errors import Fault, InvalidInput

HEAD = ("return_id", "operator", "kind", "as_of")
CAUSES = ("power", "damage", "transport", "other")
ROWS_MAX = 5_000

_AMOUNTS = frozenset(
    {"total", "down", "unknown", "load_kw", "load_shed_kw", "customers", "customers_out"}
)


@dataclass(frozen=True)
class ReturnTable:
    """`body`: the return as JSON would say it. `row_numbers`: of its rows in the file, 1-based
    without the header; `lines` are those they stand in. `faults`: rows that could not be read and
    are not in the body. `unread`: columns nothing is read from."""

    body: dict[str, Any]
    row_numbers: list[int]
    faults: tuple[Fault, ...]
    lines: Lines | None
    unread: tuple[str, ...] = ()


def parse_return_table(
    data: bytes, head: Mapping[str, str | None], name: str = "", *, limits: Limits | None = None
) -> ReturnTable:
    """`read_return_table` of bytes someone sent, in a child process with limits.

    Raises InvalidInput also for what the child may not do or take.
    """
    from data.parse_settings import ParseSettings  # the child needs none of it

    with scratch_folder("return") as folder:
        path = folder / "table"
        path.write_bytes(data)
        told = run_sandboxed(
            return_table_json,
            str(path.resolve()),
            {title: head.get(title) for title in HEAD},
            name,
            limits=limits or ParseSettings.load().limits,
            files=[path],
        )
    try:
        body, numbers = dict(told["body"]), [int(number) for number in told["row_numbers"]]
        if len(numbers) != len(list(body["rows"])):
            raise TypeError("a number for each row")
        return ReturnTable(
            body,
            numbers,
            tuple(untold_faults(told["faults"])),
            untold_lines(told["lines"]),
            tuple(str(title) for title in told["unread"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput("the file could not be read; save it anew and send it again") from None


def return_table_json(path: str, head: Mapping[str, str | None], name: str) -> dict[str, Any]:
    """`read_return_table` as plain JSON, the child's answer."""
    table = read_return_table(Path(path).read_bytes(), head, name)
    return {
        "body": table.body,
        "row_numbers": table.row_numbers,
        "faults": told_faults(table.faults),
        "lines": told_lines(table.lines),
        "unread": table.unread,
    }


def read_return_table(data: bytes, head: Mapping[str, str | None], name: str = "") -> ReturnTable:
    """The return in a table; `head` is what the request says beside it.

    Raises InvalidInput for bytes that are no table, without the needed columns, or whose head
    differs between rows or from the request; TooLarge above ROWS_MAX rows.
    """
    table = read_table(data, name, max_rows=ROWS_MAX)
    numbers, records = [], []
    for number, cells in table.records():
        numbers.append(number)
        records.append({title.lower(): value for title, value in cells.items()})
    columns = {title.lower() for title in map(str, table.frame.columns)}
    needed = {"total", "down"} - columns
    if needed or not columns & {"adcode", "unit"}:
        raise InvalidInput("the columns are at least: adcode or unit, total, down")
    found = {title: _one_head(title, records, head.get(title)) for title in HEAD}
    body: dict[str, Any] = {title: value for title, value in found.items() if value is not None}
    body["rows"] = [_row(record) for record in records]
    unread = tuple(title for title in map(str, table.frame.columns) if not _is_read(title.lower()))
    return ReturnTable(body, numbers, table.faults, table.lines, unread)


def _is_read(title: str) -> bool:
    cause = title.removeprefix("causes.")
    return title in (*HEAD, *_AMOUNTS, "adcode", "unit", "causes.unknown") or cause in CAUSES


def _one_head(title: str, records: Sequence[Mapping[str, Any]], beside: str | None) -> str | None:
    """What the table and the request say; both may be silent, neither may differ."""
    said = {_text(record[title]) for record in records if record.get(title) is not None}
    if beside:
        said.add(beside)
    if len(said) > 1:
        reason = "differs between rows or from the request; send one return at a time"
        raise InvalidInput([Fault(reason, None, title)])
    return said.pop() if said else None


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    causes: dict[str, Any] = {}
    for title, value in record.items():
        cause = title.removeprefix("causes.")
        if value is None:
            continue
        if title in _AMOUNTS:
            row[title] = _number(value)
        elif title in ("adcode", "unit"):
            row[title] = _text(value)
        elif cause in CAUSES or title == "causes.unknown":
            causes[cause] = _number(value)
    return {**row, "causes": causes} if causes else row


def _text(value: Any) -> str:
    """A code as text: a spreadsheet keeps 500103 as a number."""
    return value.isoformat() if isinstance(value, datetime) else str(value).strip()


def _number(value: Any) -> Any:
    """A number where the cell holds one; otherwise the cell, for the check of rows to refuse."""
    if isinstance(value, str):
        digits = value.strip().removeprefix("-")
        plain = digits.isascii() and digits.isdigit() and len(digits) <= 15
        return int(value) if plain else value
    return value if type(value) in (int, float) else str(value)
