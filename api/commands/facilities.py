"""`yutu import facilities`: a file of facilities into the inventory, and the empty file to fill."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine

from api.commands.private_database import newest_database
from data.database import app_engine, reading
from data.divisions import districts_frame, require_divisions, version_at
from data.facilities import import_facilities
from data.facility_columns import KINDS, template_csv, template_xlsx
from data.facility_file import parse_facility_file
from data.facility_rows import facility_rows, within_city
from data.file_faults import faults_of, in_file
from geo.assign import DistrictLocator
from geo.errors import Fault, InvalidInput

FAULTS_SHOWN = 50


def facilities_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV, XLSX, Parquet, GeoJSON, GPKG, Shapefile, KML …", exists=True, dir_okay=False
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option(help=f"One of {', '.join(KINDS)}.")] = None,
    crs: Annotated[
        str | None, typer.Option(help="WGS84, CGCS2000, GCJ-02, BD-09 or EPSG:<n>.")
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="FIELD=COLUMN, as in name=Name, load_kw='Capacity (MW)*1000',"
            " attributes.fuel=Fuel, operator=\"'china_tower'\" for one value in all rows.",
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take the good rows although others are wrong.")
    ] = False,
    only_city: Annotated[
        bool, typer.Option("--within-city", help="Leave out rows outside all districts.")
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Mark every row as made up.")
    ] = False,
    template: Annotated[
        str | None, typer.Option(help="Write an empty file for this kind to standard output.")
    ] = None,
    template_format: Annotated[str, typer.Option("--format", help="Of it: csv or xlsx.")] = "csv",
    lang: Annotated[str, typer.Option(help="Of its header: en or zh.")] = "en",
) -> None:
    """Import facilities from a file: all rows, or none and every fault listed.

    Rows outside all districts are kept and counted. The same file again changes nothing.
    """
    if template is not None:
        _write_template(template, template_format, lang)
        return
    if file is None:
        raise InvalidInput([Fault("name a file, or --template KIND", None, "FILE")])
    columns = _mapping(mapping or [])
    with faults_of(file):
        table = parse_facility_file(file, file.name, crs=crs, mapping=columns)
        rows = facility_rows(
            table, kind=kind, mapping=columns, synthetic=synthetic, partial=partial
        )
    with newest_database() as (url, _), faults_of(file):
        engine = app_engine(url, pool_size=2)
        try:
            locator = _locator(engine)
            inside, outside = within_city(rows.frame, locator)
            frame = inside if only_city else rows.frame
            if frame.empty:
                raise InvalidInput(
                    [*rows.rejected, Fault(f"no row is left to import; {outside} lie outside")]
                )
            imported = import_facilities(
                engine,
                frame,
                account=getpass.getuser(),
                body=file.read_bytes(),
                content_type="application/octet-stream",
                request={
                    "file": file.name,
                    "kind": kind,
                    "crs": crs,
                    "map": mapping or [],
                    "within_city": only_city,
                    "partial": partial,
                    "synthetic": synthetic,
                },
            )
        finally:
            engine.dispose()
    rejected = len({fault.row for fault in rows.rejected})
    for fault in rows.rejected[:FAULTS_SHOWN]:
        typer.echo(f"rejected: {in_file(file, fault)}", err=True)
    if len(rows.rejected) > FAULTS_SHOWN:
        typer.echo(f"and {len(rows.rejected) - FAULTS_SHOWN} more faults", err=True)
    if rows.unread:
        typer.echo(f"{file.name}: unread: {', '.join(rows.unread)}", err=True)
    typer.echo(
        f"accepted {len(frame)} (new {imported.created}, edited {imported.edited},"
        f" unchanged {imported.unchanged}), rejected {rejected},"
        f" outside all districts {outside} {'left out' if only_city else 'kept'}"
    )


def _write_template(kind: str, template_format: str, lang: str) -> None:
    if template_format not in ("csv", "xlsx"):
        raise InvalidInput([Fault("must be csv or xlsx", None, "format")])
    if lang not in ("en", "zh"):
        raise InvalidInput([Fault("must be en or zh", None, "lang")])
    make = template_xlsx if template_format == "xlsx" else template_csv
    sys.stdout.buffer.write(make(kind, lang))
    sys.stdout.buffer.flush()


def _mapping(given: list[str]) -> dict[str, str]:
    """Field → expression, split at the first equals sign."""
    mapping: dict[str, str] = {}
    for one in given:
        field, separator, expression = one.partition("=")
        if not separator:
            raise InvalidInput([Fault(f"{one!r} is not FIELD=COLUMN", None, "map")])
        if field.strip() in mapping:
            raise InvalidInput([Fault("is mapped twice", None, field.strip())])
        mapping[field.strip()] = expression
    return mapping


def _locator(engine: Engine) -> DistrictLocator:
    with reading(engine) as connection:
        require_divisions(connection)
        return DistrictLocator(districts_frame(connection, version_at(connection).id))
