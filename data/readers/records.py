"""What a reader finds in a file before anything of it is understood: rows of cells, and places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geo.errors import Fault


@dataclass
class FileRecord:
    """One record. `row` is 1-based without a header; `place` what a geometry says, in the file's
    own numbers, [x, y]; `faults` what makes it no incident."""

    row: int
    cells: dict[str, Any]
    place: list[float] | None = None
    faults: list[Fault] = field(default_factory=list)


@dataclass
class FileRecords:
    """The records of a file. `crs`: the canonical name of the system the file itself states, None
    where it states none; `headers` in order; `unread`: what else stands in it that is not read;
    `photo`: the media type, if the file is itself a photo of its one incident; `lines`: of a table,
    those its rows begin in (`data.readers.tabular.Lines`)."""

    format: str
    records: list[FileRecord]
    headers: list[str]
    crs: str | None = None
    unread: list[str] = field(default_factory=list)
    photo: str | None = None
    digest: str | None = None
    lines: Any = None


def headers_of(records: list[FileRecord]) -> list[str]:
    """Every name a record has a cell under, in the order of first appearance."""
    return list(dict.fromkeys(name for record in records for name in record.cells))
