"""`yutu assess`: grade what files say, or given facts, without any database or server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer

from api.commands.divisions import instant
from api.commands.facilities import _mapping
from api.strict_json import parse_json, parse_ndjson
from data.facility_columns import KINDS, field_of
from data.facility_file import read_facility_file
from data.facility_rows import FacilityRows, facility_rows
from data.file_faults import faults_of, in_file
from data.files_situation import (
    FileDivisions,
    FileKnown,
    divisions_from_files,
    incidents_from_file,
    known_from_files,
)
from data.rulepacks import RulePacks, load_packs
from data.settings import SituationSettings
from data.status_file import StatusFile, read_status_file
from geo.crs import WGS84
from geo.errors import Fault, InvalidInput, YutuError
from geo.grade import assess
from geo.rules import RulePack
from geo.situation import NoiseFloor, situation

#: What the shell gets when a file or a fact is wrong.
EXIT_WRONG_INPUT = 2
LISTED = 20

Given = TypeVar("Given")


def assess_command(
    plan: Annotated[str, typer.Argument(help="As in communications-2024.")],
    facilities: Annotated[
        Path | None,
        typer.Option(
            help="CSV, XLSX, Parquet, GeoJSON, GPKG …: facility_id, kind, lon, lat, operator, …",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    status: Annotated[
        Path | None,
        typer.Option(
            help="CSV, NDJSON, JSON …: facility_id, state, observed_at, event_id;"
            " without times a snapshot.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    districts: Annotated[
        Path | None,
        typer.Option(
            help="Divisions; the shipped ones in force at that time if absent.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    zones: Annotated[
        Path | None,
        typer.Option(help="Functional zones, units of their own.", exists=True, dir_okay=False),
    ] = None,
    facts: Annotated[
        Path | None,
        typer.Option(
            help="JSON: alone, what these facts would mean; beside files, what is declared.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    incidents: Annotated[
        Path | None,
        typer.Option(
            help="JSON array or NDJSON of open incidents: kind, facts, position.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    at: Annotated[str | None, typer.Option(help="The moment asked about; now if absent.")] = None,
    kind: Annotated[
        str | None, typer.Option(help=f"Of facilities that say none: {', '.join(KINDS)}.")
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option(help="Of facilities: WGS84 (default), CGCS2000, GCJ-02, BD-09, EPSG:<n>."),
    ] = None,
    districts_crs: Annotated[str | None, typer.Option(help="Of --districts.")] = None,
    zones_crs: Annotated[str | None, typer.Option(help="Of --zones.")] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", help="FIELD=COLUMN of --facilities, as in yutu import facilities."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take the good rows although others are wrong.")
    ] = False,
    silent_after: Annotated[
        int | None,
        typer.Option(min=1, help="Minutes without observation after which an operator is silent."),
    ] = None,
) -> None:
    """Print the assessment as JSON, with a row per district when files are graded.

    What is wrong is said on standard error with file, row and field, and the exit code is 2.
    """
    try:
        moment = datetime.now(UTC) if at is None else instant(at.replace(" ", "+"), "at")
        packs = load_packs()
        pack = packs.at(plan, moment)
        if facilities is None and incidents is None:
            for name, given in (("status", status), ("districts", districts), ("zones", zones)):
                if given is not None:
                    raise InvalidInput([Fault("needs --facilities or --incidents", None, name)])
            answer = _what_if(pack, facts, moment)
        else:
            columns = _mapping(mapping or [])
            divisions = divisions_from_files(
                districts, zones, moment, crs=districts_crs, zones_crs=zones_crs
            )
            rows = _read(facilities, lambda f: _facilities(f, kind, crs, columns, partial))
            events = _read(status, lambda f: read_status_file(f, f.name, moment, partial=partial))
            read = _Read(facilities, rows, status, events, facts, incidents)
            answer = _graded(packs, pack, divisions, read, moment, silent_after)
    except YutuError as error:
        lines = [str(f) for f in error.faults] if isinstance(error, InvalidInput) else [str(error)]
        for line in lines:
            typer.echo(f"yutu: {line}", err=True)
        raise typer.Exit(EXIT_WRONG_INPUT) from None
    sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.buffer.flush()


def _what_if(pack: RulePack, facts: Path | None, moment: datetime) -> dict[str, Any]:
    if facts is None:
        raise InvalidInput([Fault("name --facilities and --status, --incidents, or --facts")])
    with faults_of(facts):
        return assess(pack, _object(facts), now=moment)


@dataclass(frozen=True)
class _Read:
    """The files, and the two that were read as tables."""

    facilities: Path | None
    rows: FacilityRows | None
    status: Path | None
    events: StatusFile | None
    facts: Path | None
    incidents: Path | None


def _graded(
    packs: RulePacks,
    pack: RulePack,
    divisions: FileDivisions,
    read: _Read,
    moment: datetime,
    silent_after: int | None,
) -> dict[str, Any]:
    """Everything read: aggregated, graded, and what was left out told."""
    rows, events, incidents = read.rows, read.events, read.incidents
    if incidents is None and "districts" not in pack.schema.groups:
        reason = "this plan grades incidents one by one: give --incidents, or --facts alone"
        raise InvalidInput([Fault(reason)])
    opened: list[dict[str, Any]] = []
    if incidents is not None:
        with faults_of(incidents):
            values = _values(incidents)
            opened = incidents_from_file(values, pack.plan, packs, moment, divisions.locator())
        _tell_undeclared(incidents, values)
    with faults_of(read.facts):
        declared = {} if read.facts is None else _object(read.facts)
    try:
        found = known_from_files(
            pack,
            divisions,
            None if rows is None else rows.frame,
            events,
            moment,
            declared=declared,
            incidents=opened,
            silent_after_minutes=silent_after,
        )
    except InvalidInput as error:  # with a row it is a facility's, else a declared fact's
        told = ((read.facilities if f.row else read.facts, f) for f in error.faults)
        raise InvalidInput(f if file is None else in_file(file, f) for file, f in told) from None
    settings = SituationSettings.load()
    floor = NoiseFloor(settings.noise_floor_sites, settings.noise_floor_share)
    result = situation(found.known, [pack], floor)
    _tell(found, read)
    return {
        **result.plans[pack.plan],
        "as_of": moment.isoformat(),
        "divisions": {"label": divisions.label},
        "units": result.units,
        "districts": result.districts,
        "inventory": {
            "facilities": 0 if rows is None else len(rows.frame),
            "outside": found.outside,
            "rejected": 0 if rows is None else len({f.row for f in rows.rejected}),
        },
        "status": None if events is None else _status(events, found),
    }


def _status(events: StatusFile, found: FileKnown) -> dict[str, Any]:
    return {
        "events": len(events.events),
        "snapshot": events.snapshot,
        "duplicates": events.duplicates,
        "rejected": len({f.row for f in events.rejected}),
        "ahead": [
            {
                "row": e.row,
                "event_id": e.event_id,
                "facility_id": e.facility_id,
                "observed_at": e.observed_at.isoformat(),
            }
            for e in events.ahead
        ],
        "unknown_facilities": found.unknown_facilities,
    }


def _tell(found: FileKnown, read: _Read) -> None:
    """On standard error, what people would else take for granted."""
    inventory = [] if read.rows is None else _left_out(read.rows.rejected, read.rows.unread)
    if found.outside:
        inventory.append(f"{found.outside} lie outside all districts")
    _say(read.facilities, inventory)
    events, lines = read.events, []
    if events is not None:
        lines = _left_out(events.rejected, events.unread)
        if events.snapshot:
            lines.append("gives no observed_at: taken as how things are at that moment")
        lines += [
            f"row {e.row}, observed_at: more than five minutes ahead; not applied"
            for e in events.ahead[:LISTED]
        ]
        hidden = len(events.ahead) - LISTED
        lines += [f"and {hidden} more ahead"] if hidden > 0 else []
    unknown = found.unknown_facilities
    if unknown:
        more = f" and {len(unknown) - LISTED} more" if len(unknown) > LISTED else ""
        named = ", ".join(unknown[:LISTED])
        lines.append(f"{len(unknown)} ids are of no facility: {named}{more}")
    _say(read.status, lines)


def _left_out(rejected: Sequence[Fault], unread: Sequence[str]) -> list[str]:
    lines = [f"{fault}; the row is left out" for fault in rejected]
    return [*lines, f"unread: {', '.join(unread)}"] if unread else lines


def _tell_undeclared(incidents: Path, values: Sequence[Any]) -> None:
    """Positions whose system nobody said: WGS84 is assumed, and that is said."""
    mute = [
        row
        for row, value in enumerate(values, 1)
        if value.get("position") is not None and value.get("crs") is None
    ]
    if mute:
        more = f" and {len(mute) - LISTED} more" if len(mute) > LISTED else ""
        rows = ", ".join(map(str, mute[:LISTED]))
        _say(incidents, [f"no coordinate system declared in row {rows}{more}: read as WGS84"])


def _say(file: Path | None, lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(f"yutu: {file.name}: {line}" if file else f"yutu: {line}", err=True)


# --- files ------------------------------------------------------------------------------------


def _facilities(
    path: Path, kind: str | None, crs: str | None, mapping: dict[str, str], partial: bool
) -> FacilityRows:
    table = read_facility_file(path, path.name, crs=crs)
    says = any(field_of(str(c)) == "crs" for c in table.frame.columns)
    if table.crs is None and not says and "crs" not in mapping:
        table = replace(table, crs=WGS84)
        _say(path, ["no coordinate system declared: read as WGS84"])
    return facility_rows(table, kind=kind, mapping=mapping, partial=partial)


def _read(path: Path | None, read: Callable[[Path], Given]) -> Given | None:
    """What `read` makes of the file, None without one; faults get the name of the file."""
    if path is None:
        return None
    with faults_of(path):
        return read(path)


def _object(path: Path) -> dict[str, Any]:
    value = parse_json(path.read_bytes())
    if not isinstance(value, dict):
        raise InvalidInput("facts are a JSON object")
    return value


def _values(path: Path) -> list[Any]:
    body = path.read_bytes()
    if body.lstrip()[:1] == b"[":
        values = parse_json(body)
        return values if isinstance(values, list) else [values]
    return parse_ndjson(body)
