"""A file of incidents: from its bytes to bodies as `POST /v1/incidents` takes them.

`parse_incident_file` is for the server: it runs `read_incident_file` in a confined child process
(`data.sandbox`), because a stranger made the file. docs/meanings.md, "Reading files".
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from data.readers.told import told_faults, told_lines, untold_faults, untold_lines
from data.sandbox import Limits, report, run_sandboxed
from geo.errors import CrsError, Fault, InvalidInput, TooLarge

if TYPE_CHECKING:
    from data.readers.tabular import Lines

ROWS_MAX: Final = 10_000
#: Ids of incidents whose file gives none, or one that is no UUID, are made in this namespace.
NAMESPACE: Final = UUID("6f0f4f0e-5c1b-5b0e-9b53-0d6a5f2d1c77")
_PACE: Final = 200


@dataclass(frozen=True)
class IncidentRow:
    """One row, 1-based without the header. `body`: as `POST /v1/incidents` takes it, not yet
    checked against the plan's rules; None where `faults` say why. `photo`: {name, content_type}
    where the file itself is the incident's attachment."""

    row: int
    body: dict[str, Any] | None
    faults: list[Fault] = field(default_factory=list)
    photo: dict[str, str] | None = None


@dataclass(frozen=True)
class IncidentFile:
    """A read file. `columns`: a column as written → the field or `facts.<name>` it is read as;
    `unread`: columns and parts of the file nothing is read from; `lines` those the rows of a CSV or
    XLSX begin in."""

    format: str
    rows: list[IncidentRow]
    columns: dict[str, str]
    unread: list[str]
    lines: Lines | None = None


def parse_incident_file(
    path: Path,
    *,
    name: str,
    crs: str | None,
    plan: str | None,
    kind: str | None,
    owner: str,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IncidentFile:
    """The incidents of a file someone sent, read in a child process with limits.

    `name` is the file's own; `crs`, `plan`, `kind` hold for rows that do not say themselves;
    `owner` is the account, so that ids made from content are its own. Raises InvalidInput, CrsError
    or TooLarge for the file as a whole; what is wrong with single rows is in their `faults`.
    """
    from data.parse_settings import ParseSettings  # the child needs none of it

    settings = ParseSettings.load()
    size = path.stat().st_size
    if size > settings.file_mib << 20:
        raise TooLarge(f"the file has {size} bytes; {settings.file_mib} MiB are taken")
    answer = run_sandboxed(
        incident_file_json,
        str(path.resolve()),
        name,
        crs,
        plan,
        kind,
        owner,
        settings.rows,
        limits=limits or settings.limits,
        progress=progress,
        files=[path],
    )
    return _from_json(answer)


def incident_file_json(
    path: str,
    name: str,
    crs: str | None,
    plan: str | None,
    kind: str | None,
    owner: str,
    rows_max: int,
) -> dict[str, Any]:
    """`read_incident_file` as plain JSON, the child's answer."""
    file = read_incident_file(path, name, crs, plan, kind, owner, rows_max)
    return {
        "format": file.format,
        "rows": [[row.row, row.body, told_faults(row.faults), row.photo] for row in file.rows],
        "columns": file.columns,
        "unread": file.unread,
        "lines": told_lines(file.lines),
    }


def read_incident_file(
    path: str,
    name: str,
    crs: str | None,
    plan: str | None,
    kind: str | None,
    owner: str,
    rows_max: int = ROWS_MAX,
) -> IncidentFile:
    """The incidents of a file, read here: call it where the file can do no harm."""
    from data.readers.incident_columns import PLACES, RowReader, column_of

    found = _read(Path(path), name, rows_max)
    placed = any(record.place is not None for record in found.records)
    columns = {
        header: column
        for header in found.headers
        if (column := column_of(header, cut=found.format == "shapefile")) is not None
        and not (placed and column.field in PLACES)
    }
    defaults = {
        "plan": _plan(plan),
        "kind": kind or None,
        "crs": _system(found.format, found.crs, crs),
    }
    reader = RowReader(columns, defaults, found.format)
    ids = _Ids(owner)
    rows = []
    for number, record in enumerate(found.records, start=1):
        if number % _PACE == 0:
            report(number, len(found.records))
        body, faults = reader.read(record.row, record.cells, record.place)
        faults = [*record.faults, *faults]
        if record.faults:
            faults = [f for f in faults if not f.reason.startswith("is missing")] or faults
        if not faults:
            try:
                body["incident_id"] = ids.of(body, found.digest)
            except InvalidInput as error:
                faults = [Fault(f.reason, record.row, f.field) for f in error.faults]
        photo = {"name": name, "content_type": found.photo} if found.photo else None
        rows.append(IncidentRow(record.row, None if faults else body, faults, photo))
    unread = [header for header in found.headers if header not in columns]
    named = {header: column.field for header, column in columns.items()}
    return IncidentFile(found.format, rows, named, [*unread, *found.unread], found.lines)


def _read(path: Path, name: str, rows_max: int) -> Any:
    """The records of the file, by the reader of its format; only that one is imported."""
    from data.readers.file_type import incident_format

    form = incident_format(path, name)
    if form == "geojson":
        from data.readers.geojson_records import read_geojson

        return read_geojson(path, rows_max)
    if form in ("csv", "xlsx"):
        from data.readers.table_records import read_table_records

        return read_table_records(path, name, form, rows_max)
    if form == "gpx":
        from data.readers.gpx import read_gpx

        return read_gpx(path, rows_max)
    if form in ("kml", "kmz"):
        from data.readers.kml import read_kml, read_kmz

        return (read_kml if form == "kml" else read_kmz)(path, rows_max)
    if form in ("jpeg", "heic"):
        from data.readers.exif import read_photo

        return read_photo(path, form)
    from data.readers.layer_records import read_layer

    return read_layer(path, form, rows_max)


def _system(form: str, stated: str | None, declared: str | None) -> str | None:
    """The system of rows that do not name one; None where neither file nor sender does."""
    from geo.crs import reconcile_crs

    if stated is None and not (declared and declared.strip()):
        if form in ("geopackage", "shapefile"):
            raise CrsError([Fault("the file states no coordinate system; declare it", None, "crs")])
        return None
    return reconcile_crs(stated, declared)


def _plan(said: str | None) -> str | None:
    """A plan by its id or a name of it; an unknown one is left to who checks plans."""
    from data.readers.cell_values import folded
    from data.readers.incident_columns import names

    if not said or not said.strip():
        return None
    return names().words["plan"].get(folded(said), said.strip())


class _Ids:
    """Ids that are the same whenever the same file is sent by the same account."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._seen: Counter[str] = Counter()

    def of(self, body: Mapping[str, Any], digest: str | None) -> str:
        """The row's own UUID; one made from its text id; else one made from what it says and from
        how many rows of the file have said just that before."""
        content = digest or _canonical_sha256(body)
        said = body.get("incident_id")
        if said is not None:
            try:
                if len(said) != 36:
                    raise ValueError
                return str(UUID(said))
            except ValueError:
                return str(uuid5(NAMESPACE, f"id\n{self._owner}\n{said}"))
        self._seen[content] += 1
        return str(uuid5(NAMESPACE, f"row\n{self._owner}\n{content}\n{self._seen[content]}"))


def _canonical_sha256(body: Mapping[str, Any]) -> str:
    import rfc8785

    try:
        return hashlib.sha256(rfc8785.dumps(dict(body))).hexdigest()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise InvalidInput("holds a whole number beyond ±2^53 or half a character") from None


def _from_json(answer: Any) -> IncidentFile:
    """The child's answer, of which nothing is taken on trust."""
    try:
        rows = [
            IncidentRow(
                int(row),
                _object(body),
                untold_faults(faults),
                None if photo is None else {str(k): str(v) for k, v in photo.items()},
            )
            for row, body, faults, photo in answer["rows"]
        ]
        return IncidentFile(
            str(answer["format"]),
            rows,
            {str(header): str(field) for header, field in answer["columns"].items()},
            [str(header) for header in answer["unread"]],
            untold_lines(answer["lines"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput("the file could not be read; save it anew and send it again") from None


def _object(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise TypeError("a body is an object")
    return value
