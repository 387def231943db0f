"""Status files: events as the server takes them, or a plain snapshot `facility_id, state`.

JSON array, NDJSON, CSV, XLSX or Parquet. The rules are those of `data.status`: of the events of a
facility the greatest `observed_at` wins, ties go to the graver state, then to `event_id`; what was
observed more than five minutes after the moment asked about is listed and not applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from data.facility_columns import WORDS
from data.readers.no_table import refuse_no_table
from data.readers.tabular import decode_text, read_table
from data.status import MAX_ID_LENGTH
from data.tables import STATES
from data.times import parse_time
from geo.errors import Fault, InvalidInput

AHEAD_MAX: Final = timedelta(minutes=5)
ACCEPTED: Final = (
    "accepted are CSV, XLSX and Parquet with the columns facility_id and state, a JSON array of"
    " events, and NDJSON"
)
_GRAVITY: Final = {state: n for n, state in enumerate(STATES)}
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "event_id": ("event_id", "事件编号"),
    "facility_id": ("facility_id", "设施编号", "设施ID"),
    "state": ("state", "状态", "运行状态"),
    "observed_at": ("observed_at", "观测时间", "发生时间"),
}
_READ: Final = frozenset((*_HEADERS, "cause"))


@dataclass(frozen=True, order=True)
class StatusEvent:
    """One observation; events compare as the winner rule wants: the greatest wins."""

    observed_at: datetime
    gravity: int
    event_id: str
    facility_id: str = field(compare=False)
    row: int = field(compare=False)

    @property
    def state(self) -> str:
        return STATES[self.gravity]


@dataclass(frozen=True)
class StatusFile:
    """The events of a file. `snapshot`: it gave no times, so each row holds at the moment asked
    about. `ahead`: events too far after that moment, kept apart. `rejected`: rows that are wrong,
    where that was allowed. `unread`: columns or members nothing was read from, once each."""

    events: list[StatusEvent]
    ahead: list[StatusEvent]
    snapshot: bool
    duplicates: int
    rejected: tuple[Fault, ...]
    unread: tuple[str, ...] = ()

    def winners(self) -> dict[str, StatusEvent]:
        """The event that says a facility's state, by facility_id."""
        found: dict[str, StatusEvent] = {}
        for event in self.events:
            known = found.get(event.facility_id)
            if known is None or event > known:
                found[event.facility_id] = event
        return found


def read_status_file(path: Path, name: str, at: datetime, *, partial: bool = False) -> StatusFile:
    """Read a status file as of `at`. `name` only stands in messages.

    Without `event_id` a row's number is its id. Raises InvalidInput with every fault and its row,
    unless `partial`, when the good rows are taken: a field missing or of another form, an
    `event_id` twice with different content, in a snapshot a facility twice with different states.
    """
    rows, faults, strict, unread = _rows(path, name)
    has_time = any(row.get("observed_at") is not None for _, row in rows)
    events: list[StatusEvent] = []
    first: dict[str, tuple[int, Any]] = {}
    duplicates = 0
    for number, row in rows:
        event = _event(number, row, at if not has_time else None, strict, faults)
        if event is None:
            continue
        # in a snapshot a facility stands for itself: it can have one state only
        key = event.facility_id if not has_time and "event_id" not in row else event.event_id
        content = (event.facility_id, event.state, event.observed_at, row.get("cause"))
        if key in first:
            before, known = first[key]
            if known == content:
                duplicates += 1
                continue
            what = "event_id" if key == event.event_id else "facility_id"
            reason = f"conflict: row {before} has this {what} with other content"
            faults.append(Fault(reason, number, what))
            continue
        first[key] = (number, content)
        events.append(event)
    faults.sort(key=lambda f: (f.row or 0, f.field or ""))
    if faults and (not partial or any(f.row is None for f in faults)):
        raise InvalidInput(faults)
    limit = at + AHEAD_MAX
    return StatusFile(
        events=[e for e in events if e.observed_at <= limit],
        ahead=[e for e in events if e.observed_at > limit],
        snapshot=not has_time,
        duplicates=duplicates,
        rejected=tuple(faults),
        unread=unread,
    )


def _event(
    number: int, row: Mapping[str, Any], moment: datetime | None, strict: bool, faults: list[Fault]
) -> StatusEvent | None:
    """The event of a row, or None after noting every fault of it; `moment`: that of a snapshot."""
    found: list[Fault] = []
    facility_id = _identifier(row.get("facility_id"), "facility_id", number, found)
    event_id: str | None = f"row-{number:09d}"
    if "event_id" in row:
        event_id = _identifier(row["event_id"], "event_id", number, found)
    state = row.get("state")
    if type(state) is str and not strict:
        state = WORDS["state"].get(state.strip().casefold())
    if type(state) is not str or state not in _GRAVITY:
        found.append(Fault("must be one of up, degraded, down, unknown", number, "state"))
    observed_at = moment
    if observed_at is None:
        try:
            observed_at = parse_time(row.get("observed_at"))
        except ValueError as error:
            found.append(Fault(str(error), number, "observed_at"))
    faults += found
    if found or facility_id is None or event_id is None or observed_at is None:
        return None
    return StatusEvent(observed_at, _GRAVITY[str(state)], event_id, facility_id, number)


def _identifier(value: Any, name: str, row: int, faults: list[Fault]) -> str | None:
    if type(value) is not str or not value:
        faults.append(Fault("is missing or no text", row, name))
    elif len(value) > MAX_ID_LENGTH:
        faults.append(Fault(f"is longer than {MAX_ID_LENGTH} characters", row, name))
    elif not value.isprintable():
        faults.append(Fault("holds a control character", row, name))
    else:
        return value
    return None


# --- formats ----------------------------------------------------------------------------------


def _rows(
    path: Path, name: str
) -> tuple[list[tuple[int, dict[str, Any]]], list[Fault], bool, tuple[str, ...]]:
    """Row numbers and members, faults of rows that are none, whether words must be exact, and the
    names of what is not read."""
    data = path.read_bytes()
    if not data.strip():
        raise InvalidInput(f"{name!r} is empty")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        events, wrong = _json_rows(decode_text(data, name)[0])
        strange = dict.fromkeys(k for _, event in events for k in event.keys() - _READ)
        return events, wrong, True, tuple(sorted(strange))
    refuse_no_table(path, name, columns_min=2, accepted=ACCEPTED)
    table = read_table(data, name)
    present = [str(c) for c in table.frame.columns]
    chosen = {
        meaning: next((h for h in known if h in present), None)
        for meaning, known in _HEADERS.items()
    }
    missing = [
        Fault(f"no column holds it; the file has {', '.join(present)[:300]}", None, meaning)
        for meaning in ("facility_id", "state")
        if chosen[meaning] is None
    ]
    if missing:
        raise InvalidInput(missing)
    rows = [
        (
            number,
            {m: _text(cells[header]) for m, header in chosen.items() if header is not None}
            | {"cause": _text(cells.get("cause"))},
        )
        for number, cells in table.records()
    ]
    used = {*chosen.values(), "cause"}
    return rows, list(table.faults), False, tuple(h for h in present if h not in used)


def _text(cell: Any) -> str | None:
    """A cell as text: an id that a spreadsheet took for a number, a time that has an offset."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, datetime):
        return cell.isoformat()
    return None if cell is None else str(cell).strip() or None


def _json_rows(text: str) -> tuple[list[tuple[int, dict[str, Any]]], list[Fault]]:
    """An array of events, one event, or one a line."""
    faults: list[Fault] = []
    values: Iterable[tuple[int, Any]]
    try:
        whole = json.loads(text, parse_constant=_no_constant)
        values = enumerate(whole if isinstance(whole, list) else [whole], start=1)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("["):
            raise InvalidInput(f"is not valid JSON: {error}") from None
        values = _lines(text, faults)
    rows = []
    for number, value in values:
        if isinstance(value, dict):
            rows.append((number, value))
        else:
            reason = "an event is an object with event_id, facility_id, state, observed_at"
            faults.append(Fault(reason, number))
    return rows, faults


def _lines(text: str, faults: list[Fault]) -> list[tuple[int, Any]]:
    values = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values.append((number, json.loads(line, parse_constant=_no_constant)))
            except (ValueError, RecursionError):
                faults.append(Fault("is not valid JSON", number))
    return values


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no number in JSON")
