"""A file of incidents into the store: every row or none, each once per id, in one transaction.

docs/meanings.md, "Files of incidents". What a row means is read like a submission's body, so a row
and a form say the same; the file itself is kept as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid5

import orjson
from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.attachments import ReadFile, insert_attachment, read_file
from data.blobs import BlobFolder
from data.database import Write, writing
from data.divisions import require_divisions
from data.fields import body_sha256
from data.incident_arrivals import (
    Arrival,
    PlacedArrival,
    insert_arrivals,
    keep_conflicts,
    lock_kinds,
    place_arrivals,
)
from data.incident_doubts import warning_texts
from data.incident_duplicates import IncidentSettings, probable_duplicates
from data.incident_report import read_incident
from data.patience import give_time
from data.rulepacks import RulePacks
from geo.errors import Fault, InvalidInput
from geo.grade import assess

#: Up to so many new incidents the stream tells each by itself; above, one event per district.
TOLD_ALONE_MAX = 100
#: Rows between two reports of progress, and rows placed at once.
STEP = 200
PLACED_AT_ONCE = 1_000

#: Called with the work in hand (check, place, store) and how many of how many rows are done.
Progress = Callable[[str, int, int], None]


class FileRow(Protocol):
    """A row of a read file (`data.readers.incident_file`); `body` None where it has faults."""

    @property
    def row(self) -> int: ...
    @property
    def body(self) -> dict[str, Any] | None: ...
    @property
    def faults(self) -> Sequence[Fault]: ...
    @property
    def photo(self) -> Any: ...


class FileOfIncidents(Protocol):
    """A read file; `unread` are the columns nothing was read from."""

    @property
    def format(self) -> str: ...
    @property
    def rows(self) -> Sequence[FileRow]: ...
    @property
    def unread(self) -> Sequence[str]: ...


class RefusedFile(InvalidInput):
    """Rows are wrong and only the whole file was to be taken; `faults` lists every one of them."""


@dataclass(frozen=True)
class ImportReceipt:
    """What became of a file. `accepted` are new, `duplicates` were stored before. Of a dry run:
    what would; `refused` if the file as a whole would be, for its rejected rows."""

    accepted: int
    duplicates: int
    rejected: tuple[Fault, ...]
    incidents: list[dict[str, Any]]
    format: str
    unread: tuple[str, ...]
    sequence: int | None
    dry_run: bool = False
    refused: bool = False

    def json(self, rejected: list[dict[str, Any]]) -> dict[str, Any]:
        """The answer, with the rejected rows as the caller tells them."""
        told: dict[str, Any] = {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": rejected,
            "incidents": self.incidents,
            "format": self.format,
            "unread": list(self.unread),
            "sequence": self.sequence,
        }
        return told | {"dry_run": True, "refused": self.refused} if self.dry_run else told


@dataclass
class _Rows:
    """The rows of a file as far as they are decided."""

    first: dict[UUID, tuple[int, Arrival]] = field(default_factory=dict)
    photos: dict[UUID, str] = field(default_factory=dict)
    again: list[tuple[int, UUID]] = field(default_factory=list)  # an id of this file, same body
    conflicts: list[tuple[int, Arrival]] = field(default_factory=list)
    hidden: set[UUID] = field(default_factory=set)  # taken by what the account may not see
    faults: list[Fault] = field(default_factory=list)


def import_incidents(
    engine: Engine,
    file: FileOfIncidents,
    *,
    original: Path,
    account: Account,
    packs: RulePacks,
    blobs: BlobFolder,
    settings: IncidentSettings | None = None,
    lang: str = "zh",
    dry_run: bool = False,
    partial: bool = False,
    request: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ImportReceipt:
    """Store the incidents of a read file; durable on return, the same file again changes nothing.

    `original` is the file as it came, which is kept; `request` what was said beside it. A photo is
    attached to the incident of its row. Raises RefusedFile with every fault of every row, unless
    `partial`, which takes the good rows, or `dry_run`, which stores nothing.
    """
    now = datetime.now(UTC)
    total = len(file.rows)

    def told(stage: str, done: int, of: int = total) -> None:
        if progress is not None:
            progress(stage, done, of)

    rows = _read(file, packs, now, lambda done: told("check", done))
    body = original.read_bytes()
    photo = read_file(body) if rows.photos else None
    if photo is not None and not dry_run:
        photo.keep(blobs)
    asked = (account, packs, settings or IncidentSettings.load(), now, lang)
    with writing(
        engine,
        channel="incident_file",
        account=account.username,
        body=body,
        content_type="application/octet-stream",
        request={**(request or {}), "format": file.format, "partial": partial},
    ) as write:
        connection = write.connection
        give_time(connection)
        require_divisions(connection)
        arrivals = [one for _, one in rows.first.values()]
        placed: list[PlacedArrival] = []
        for start in range(0, len(arrivals), PLACED_AT_ONCE):
            placed += place_arrivals(connection, arrivals[start : start + PLACED_AT_ONCE])
            told("place", len(placed), len(arrivals))
        told("store", 0)
        lock_kinds(connection, placed)
        new = insert_arrivals(write, placed, account)
        _tell_apart(connection, rows, new, account)
        refused = bool(rows.faults) and not partial
        if refused and not dry_run:
            raise RefusedFile(sorted(rows.faults, key=lambda f: (f.row or 0, f.field or "")))
        standing = _standings(
            connection, [one for one in rows.first if one not in new], new, *asked
        )
        if not dry_run:
            _attach(write, rows, new, photo, original.name, account)
            kept = keep_conflicts(write, [one for _, one in rows.conflicts], account)
            _announce(write, new, standing, kept)
    told("store", total)
    found = list(_outcomes(rows, new, standing, dry_run))
    return ImportReceipt(
        accepted=len(new),
        duplicates=sum(one["status"] == "duplicate" for one in found),
        rejected=tuple(sorted(rows.faults, key=lambda f: (f.row or 0, f.field or ""))),
        incidents=found,
        format=file.format,
        unread=tuple(file.unread),
        sequence=write.sequence,
        dry_run=dry_run,
        refused=refused,
    )


def _read(
    file: FileOfIncidents, packs: RulePacks, now: datetime, done: Callable[[int], None]
) -> _Rows:
    """Every row read as a submission would be; which ids stand in the file more than once."""
    rows = _Rows()
    for number, row in enumerate(file.rows, start=1):
        if number % STEP == 0 or number == len(file.rows):
            done(number)
        if row.faults or row.body is None:
            rows.faults += [Fault(f.reason, row.row, f.field) for f in row.faults]
            if not row.faults:
                rows.faults.append(Fault("holds no incident", row.row))
            continue
        try:
            arrival = Arrival(read_incident(row.body, packs, now), row.body, _digest(row.body))
        except InvalidInput as error:
            rows.faults += [Fault(f.reason, row.row, f.field) for f in error.faults]
            continue
        incident_id = arrival.reported.incident_id
        earlier = rows.first.get(incident_id)
        if earlier is None:
            rows.first[incident_id] = (row.row, arrival)
            if row.photo is not None:
                rows.photos[incident_id] = str(row.photo.get("name") or "")
        elif earlier[1].digest == arrival.digest:
            rows.again.append((row.row, incident_id))
        else:
            rows.conflicts.append((row.row, arrival))
            reason = f"conflict: row {earlier[0]} has the same incident_id and another body"
            rows.faults.append(Fault(reason, row.row, "incident_id"))
    return rows


def _digest(body: Any) -> bytes:
    """The hash of a body that the database can hold. Raises InvalidInput."""
    digest = body_sha256(body)
    if "\\u0000" in orjson.dumps(body).decode().replace("\\\\", ""):
        raise InvalidInput("a text holds the NUL character")
    return digest


def _tell_apart(connection: Connection, rows: _Rows, new: set[UUID], account: Account) -> None:
    """Which rows that were not inserted are stored already, and which differ from what is."""
    known = [one for one in rows.first if one not in new]
    if not known:
        return
    stored = connection.execute(
        text(
            "SELECT incident_id, body_sha256, account, adcode FROM incident"
            " WHERE incident_id = ANY (:ids)"
        ),
        {"ids": known},
    )
    for one in stored.all():
        number, arrival = rows.first[one.incident_id]
        same = bytes(one.body_sha256) == arrival.digest
        visible = account.sees(one.adcode) or one.account == account.username
        if same and visible:
            continue
        del rows.first[one.incident_id]
        again = [row for row, incident_id in rows.again if incident_id == one.incident_id]
        rows.again = [(row, at) for row, at in rows.again if at != one.incident_id]
        if not visible:
            rows.hidden.add(one.incident_id)
        if not same:
            rows.conflicts.append((number, arrival))
        reason = (
            "conflict: this incident_id is stored with another body"
            if visible
            else "this incident_id is taken"
        )
        rows.faults += [Fault(reason, row, "incident_id") for row in (number, *again)]


def _standings(
    connection: Connection,
    known: Sequence[UUID],
    new: set[UUID],
    account: Account,
    packs: RulePacks,
    settings: IncidentSettings,
    now: datetime,
    lang: str,
) -> dict[UUID, dict[str, Any]]:
    """Where each incident lies and how it stands now, read back from this transaction."""
    ids = [*known, *new]
    rows = connection.execute(
        text(
            "SELECT i.incident_id, i.plan, i.adcode, i.unit, i.warnings, r.facts, r.version"
            " FROM incident i JOIN LATERAL (SELECT facts, version FROM incident_revision n"
            " WHERE n.incident_id = i.incident_id ORDER BY version DESC LIMIT 1) r ON true"
            " WHERE i.incident_id = ANY (:ids)"
        ),
        {"ids": ids},
    ).all()
    near = probable_duplicates(connection, ids, account, settings)
    levels: dict[tuple[str, bytes], int | None] = {}

    def level(plan: str, facts: Mapping[str, Any]) -> int | None:
        key = plan, orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)
        if key not in levels:
            levels[key] = assess(packs.at(plan, now), facts, now=now)["level"]
        return levels[key]

    return {
        row.incident_id: {
            "plan": row.plan,
            "adcode": row.adcode,
            "unit": row.unit,
            "level": level(row.plan, row.facts),
            "version": row.version,
            "warnings": warning_texts(row.warnings, lang),
            "probable_duplicates": near[row.incident_id],
        }
        for row in rows
    }


def _attach(
    write: Write,
    rows: _Rows,
    new: set[UUID],
    photo: ReadFile | None,
    name: str,
    account: Account,
) -> None:
    if photo is None:
        return
    for incident_id, file_name in rows.photos.items():
        if incident_id in new:
            attachment_id = uuid5(incident_id, photo.sha256.hex())
            insert_attachment(
                write,
                incident_id,
                attachment_id,
                photo,
                file_name=file_name or name,
                account=account,
            )


def _announce(
    write: Write, new: set[UUID], standing: Mapping[UUID, Mapping[str, Any]], kept: int
) -> None:
    """What the change says of itself, which the stream tells: each incident, or each district."""
    if not new:
        if kept:
            write.kind, write.detail = "incident_conflict", {"kept": kept}
        return
    write.kind = "incident"
    told = [
        {
            "incident_id": str(one),
            **{name: standing[one][name] for name in ("adcode", "plan", "version")},
        }
        for one in sorted(new)
    ]
    if len(told) > TOLD_ALONE_MAX:
        groups: dict[tuple[Any, Any], list[str]] = {}
        for event in told:
            groups.setdefault((event["adcode"], event["plan"]), []).append(event["incident_id"])
        told = [
            {"adcode": adcode, "plan": plan, "count": len(ids), "incident_ids": ids}
            for (adcode, plan), ids in groups.items()
        ]
    write.detail = {"incidents": len(new), "events": told}


def _outcomes(
    rows: _Rows, new: set[UUID], standing: Mapping[UUID, Mapping[str, Any]], dry_run: bool
) -> Iterator[dict[str, Any]]:
    """An entry per row that names an incident, in the order of rows."""
    placed = [(number, one, one in new) for one, (number, _) in rows.first.items()]
    placed += [(number, one, False) for number, one in rows.again]
    conflicts = [(number, one.reported.incident_id) for number, one in rows.conflicts]
    entries = [
        {
            "row": number,
            "incident_id": str(one),
            "status": ("would_create" if dry_run else "created") if made else "duplicate",
            **{name: value for name, value in standing[one].items() if name != "plan"},
        }
        for number, one, made in placed
    ]
    entries += [
        {"row": number, "incident_id": str(one), "status": "conflict"} for number, one in conflicts
    ]
    yield from sorted(entries, key=lambda entry: int(entry["row"]))
