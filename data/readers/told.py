"""What a confined child tells of a file beside its rows, as JSON, and back again.

What is read back was said by a process that a stranger's file may have taken over: it is checked,
and what is not of the form raises TypeError or ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from geo.errors import Fault

if TYPE_CHECKING:
    from data.readers.tabular import Lines

_REASON_CHARACTERS_MAX = 2_000


def told_faults(faults: Iterable[Fault]) -> list[Any]:
    return [[fault.reason, fault.row, fault.field] for fault in faults]


def untold_faults(told: Any) -> list[Fault]:
    return [
        Fault(
            str(reason)[:_REASON_CHARACTERS_MAX],
            None if row is None else int(row),
            None if field is None else str(field),
        )
        for reason, row, field in told
    ]


def told_lines(lines: Lines | None) -> Any:
    return None if lines is None else [lines.rows, lines.ahead]


def untold_lines(told: Any) -> Lines | None:
    from data.readers.tabular import Lines  # here, since a child that reads no table needs none

    if told is None:
        return None
    rows, ahead = ([int(number) for number in numbers] for numbers in told)
    if len(rows) != len(ahead):
        raise ValueError("a line for each row that begins a stretch")
    return Lines(rows, ahead) if rows else None
