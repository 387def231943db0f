"""`yutu import districts` and `yutu import zones`: another set of divisions from a time on."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated

import geopandas as gpd
import typer
from sqlalchemy import Engine

from api.commands.private_database import newest_database
from data.default_divisions import ensure_default_divisions
from data.division_changes import DivisionsChanged, Validity, import_districts, import_zones
from data.file_faults import faults_of
from data.readers.divisions import DISTRICT, read_divisions_file
from data.rulepacks import CITY_TIME
from data.times import parse_time
from data.zones import read_zones
from geo.errors import Fault, InvalidInput

FileArgument = Annotated[
    Path | None,
    typer.Argument(
        help="GeoJSON, GPKG, Shapefile, KML, GML, GeoParquet …", exists=True, dir_okay=False
    ),
]
ValidFrom = Annotated[
    str | None,
    typer.Option(help="A day (in the city's time) or a time with offset; not ahead of now."),
]
ValidTo = Annotated[str | None, typer.Option(help="The first moment it is not in force any more.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="MEANING=COLUMN, as in adcode=GB or name=NAME; repeatable."),
]
Crs = Annotated[
    str | None,
    typer.Option(help="WGS84, CGCS2000, GCJ-02, BD-09 or EPSG:<n>, if the file is mute."),
]
Layer = Annotated[str | None, typer.Option(help="Of a file with several.")]
End = Annotated[
    list[str] | None, typer.Option(help="Code of a zone that ends at --valid-from; repeatable.")
]


def districts_command(
    file: FileArgument = None,
    valid_from: ValidFrom = None,
    valid_to: ValidTo = None,
    label: Annotated[str | None, typer.Option(help="What people call this set.")] = None,
    source: Annotated[str | None, typer.Option(help="Who drew it; shown with the map.")] = None,
    licence: Annotated[str | None, typer.Option(help="On what terms it may be used.")] = None,
    note: Annotated[str, typer.Option(help="What a reader should know.")] = "",
    column: Columns = None,
    crs: Crs = None,
    layer: Layer = None,
    end: End = None,
    default: Annotated[
        bool, typer.Option("--default", help="The shipped sets, into a database without any.")
    ] = False,
) -> None:
    """Import districts in force from a time on; those in force before end there.

    They must cover the ground without gap or overlap. Every facility, incident and outage is placed
    again, in all divisions, now and past.
    """
    if default:
        _load_default(file)
        return
    if file is None:
        raise InvalidInput([Fault("name a file, or --default", None, "FILE")])
    missing = [
        Fault("is missing", None, name)
        for name, value in (("valid-from", valid_from), ("source", source), ("licence", licence))
        if not value
    ]
    if missing:
        raise InvalidInput(missing)
    validity = _validity(valid_from, valid_to)
    columns = _columns(column)
    with faults_of(file):
        frame = read_divisions_file(file, columns, crs=crs, layer=layer)
        districts = frame[frame["kind"] == DISTRICT].rename(columns={"code": "adcode"})
        zones = frame[frame["kind"] != DISTRICT].reset_index(drop=True)
        if districts.empty:
            raise InvalidInput("the file has no district; functional zones: yutu import zones")
    with _owner() as engine, faults_of(file):
        changed = import_districts(
            engine,
            districts.reset_index(drop=True),
            validity,
            label=label or f"since-{validity.since.astimezone(CITY_TIME).date().isoformat()}",
            source=source or "",
            licence=licence or "",
            note=note,
            account=getpass.getuser(),
            body=file.read_bytes(),
            zones=None if zones.empty else zones.assign(adcodes=None),
            ended_zones=end or [],
        )
    _tell(changed, f"{len(districts)} districts are in force from {validity.since.isoformat()}")


def zones_command(
    file: FileArgument = None,
    valid_from: ValidFrom = None,
    valid_to: ValidTo = None,
    source: Annotated[str, typer.Option(help="Who drew or named them.")] = "",
    column: Columns = None,
    crs: Crs = None,
    layer: Layer = None,
    end: End = None,
) -> None:
    """Import functional zones, which are units of their own under the communications plan.

    From polygons, or from a table with code, name and adcodes (500106;500107), so that facilities
    can declare the zone they belong to. `--end CODE` ends a zone.
    """
    if file is None and not end:
        raise InvalidInput([Fault("name a file, or zones to --end", None, "FILE")])
    if not valid_from:
        raise InvalidInput([Fault("is missing", None, "valid-from")])
    validity = _validity(valid_from, valid_to)
    zones: gpd.GeoDataFrame | None = None
    columns = _columns(column)
    if file is not None:
        with faults_of(file):
            zones = read_zones(file, file.name, columns, crs=crs, layer=layer)
    with _owner() as engine, faults_of(file):
        changed = import_zones(
            engine,
            zones,
            validity,
            source=source,
            account=getpass.getuser(),
            body=b"" if file is None else file.read_bytes(),
            ended=end or [],
        )
    begun = 0 if zones is None else len(zones)
    _tell(changed, f"{begun} zones begin and {len(end or [])} end at {validity.since.isoformat()}")


def _load_default(file: Path | None) -> None:
    if file is not None:
        raise InvalidInput([Fault("give a file or --default, not both", None, "FILE")])
    with _owner() as engine:
        loaded = ensure_default_divisions(engine)
    typer.echo(
        "loaded the districts in force since 2025-11-06 and those before"
        if loaded
        else "there are divisions already; nothing was changed"
    )


@contextmanager
def _owner() -> Iterator[Engine]:
    with newest_database() as (_url, engine):
        yield engine


def _tell(changed: DivisionsChanged, what: str) -> None:
    if changed.replaced is None:
        typer.echo("the same was imported before; nothing was changed")
        return
    placed = changed.replaced
    typer.echo(
        f"{what}; placed again: {placed.facilities} facilities and {placed.incidents} incidents"
        f" moved, {placed.outages} outages divided anew; sequence {changed.sequence}"
    )
    if changed.homeless:
        typer.echo(
            "scoped to districts that are not in force any more: " + ", ".join(changed.homeless),
            err=True,
        )


def _validity(valid_from: str | None, valid_to: str | None) -> Validity:
    since = instant(valid_from or "", "valid-from")
    return Validity(since, None if valid_to is None else instant(valid_to, "valid-to"))


def instant(given: str, name: str) -> datetime:
    """A time with offset, or a day in the city's time, at its beginning."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", given):
            return datetime.combine(date.fromisoformat(given), time(), CITY_TIME)
        return parse_time(given)
    except ValueError as error:
        reason = f"{error}, or a day such as 2025-11-06"
        raise InvalidInput([Fault(reason, None, name)]) from None


def _columns(given: list[str] | None) -> dict[str, str]:
    """Meaning → column of the file; `adcode` is the code of a district."""
    chosen: dict[str, str] = {}
    for one in given or []:
        meaning, separator, column = one.partition("=")
        if not separator:
            raise InvalidInput([Fault(f"{one!r} is not MEANING=COLUMN", None, "column")])
        meaning = "code" if meaning.strip() == "adcode" else meaning.strip()
        if meaning in chosen:
            raise InvalidInput([Fault("is given twice", None, meaning)])
        chosen[meaning] = column
    return chosen
