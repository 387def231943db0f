"""`yutu import incidents`: a file of incidents without HTTP, and the empty file to fill."""

from __future__ import annotations

import getpass
import json
import time
from functools import partial as partial_of
from pathlib import Path
from shutil import copyfile
from typing import Annotated, Any

import typer
from sqlalchemy import Engine

from api.commands.private_database import newest_database
from api.messages import rejected_rows
from data.accounts import Account, all_accounts
from data.attachments import FOLDER
from data.blobs import BlobFolder
from data.database import app_engine, reading
from data.file_faults import faults_of
from data.incident_import import ImportReceipt, RefusedFile, import_incidents
from data.incident_template import incident_template_csv, incident_template_xlsx
from data.readers.incident_file import parse_incident_file
from data.rulepacks import load_packs
from data.scratch import scratch_folder, sweep_scratch
from data.settings import PathsSettings
from geo.errors import Fault, InvalidInput, NotAllowed

ROWS_SHOWN = 50
ROWS_TOLD_MIN = 200
SENDS = ("field", "commander")


def incidents_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="GeoJSON, CSV, XLSX, GPX, KML, KMZ, zipped SHP, GPKG, or a photo with a position.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    plan: Annotated[
        str | None, typer.Option(help="Of rows that do not say one: its id or name.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of rows that do not say one, as elevator.")
    ] = None,
    crs: Annotated[
        str | None, typer.Option(help="WGS84, CGCS2000, GCJ-02, BD-09 or EPSG:<n>.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take the good rows although others are wrong.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and store nothing.")
    ] = False,
    account: Annotated[
        str | None,
        typer.Option(help="Whose submission it is; default: this system's user, city-wide."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The receipt as JSON.")] = False,
    template: Annotated[
        Path | None, typer.Option(help="Write an empty file (.csv or .xlsx) to fill in.")
    ] = None,
    lang: Annotated[str, typer.Option(help="Of texts and headers: en or zh.")] = "en",
) -> None:
    """Import incidents: all rows, or none and every fault listed; the same again is duplicates.

    Ends with code 1 if any row was rejected.
    """
    if lang not in ("en", "zh"):
        raise InvalidInput([Fault("must be en or zh", None, "lang")])
    if template is not None:
        _write_template(template, plan, lang)
        return
    if file is None:
        raise InvalidInput([Fault("name a file, or --template FILE", None, "FILE")])
    sweep_scratch()
    with newest_database() as (url, _), scratch_folder("import") as folder:
        engine = app_engine(url, pool_size=2)
        step = _Step()
        try:
            sender = _sender(engine, account)
            path = folder / f"upload{file.suffix.lower()[:12]}"
            copyfile(file, path)
            with faults_of(file):
                read = parse_incident_file(
                    path,
                    name=file.name,
                    crs=crs,
                    plan=plan,
                    kind=kind,
                    owner=sender.username,
                    progress=partial_of(step, "read"),
                )
            receipt = import_incidents(
                engine,
                read,
                original=path,
                account=sender,
                packs=load_packs(),
                blobs=BlobFolder(PathsSettings.load().var / FOLDER),
                lang=lang,
                dry_run=dry_run,
                partial=partial,
                request={"file": file.name, "plan": plan, "kind": kind, "crs": crs},
                progress=step,
            )
        except RefusedFile as error:
            step.end()
            rejected = rejected_rows(error.faults, lang, read.lines)
            if as_json:
                refused = {"accepted": 0, "duplicates": 0, "rejected": rejected, "incidents": []}
                typer.echo(json.dumps(refused, ensure_ascii=False))
            else:
                typer.echo("nothing was imported", err=True)
                _tell_rejected(rejected, file)
            raise typer.Exit(1) from None
        finally:
            engine.dispose()
    step.end()
    _tell(receipt, rejected_rows(receipt.rejected, lang, read.lines), file, as_json)
    if receipt.rejected:
        raise typer.Exit(1)


class _Step:
    """Progress on standard error, from the second on that it takes."""

    def __init__(self) -> None:
        self._begun = self._told = time.monotonic()
        self._any = False

    def __call__(self, stage: str, done: int, of: int) -> None:
        now = time.monotonic()
        if of < ROWS_TOLD_MIN:
            return
        if now - self._begun > 1 and now - self._told > 0.2:
            self._told, self._any = now, True
            typer.echo(f"\r{stage}: {done} of {of} rows\x1b[K", err=True, nl=False)

    def end(self) -> None:
        if self._any:
            typer.echo("", err=True)


def _sender(engine: Engine, name: str | None) -> Account:
    """The account of that name, or a commander made of the system's user for this one job."""
    if name is None:
        return Account(f"system:{getpass.getuser()}", "commander", ("*",))
    with reading(engine) as connection:
        found = next((one for one in all_accounts(connection) if one.username == name), None)
    if found is None or not found.active:
        raise InvalidInput([Fault("no active account has this name", None, "account")])
    if found.role not in SENDS:
        raise NotAllowed(f"accounts of the role {found.role} submit no incidents")
    return found


def _tell(
    receipt: ImportReceipt, rejected: list[dict[str, Any]], file: Path, as_json: bool
) -> None:
    if as_json:
        typer.echo(json.dumps(receipt.json(rejected), ensure_ascii=False))
        return
    for one in receipt.incidents[:ROWS_SHOWN]:
        if one["status"] == "conflict":
            typer.echo(f"{one['row']:>6}  {one['incident_id']}  conflict")
            continue
        place = one.get("adcode") or "-"
        level = one.get("level") or "-"
        near = len(one.get("probable_duplicates", ()))
        doubts = ", ".join(warning["code"] for warning in one.get("warnings", ()))
        typer.echo(
            f"{one['row']:>6}  {one['incident_id']}  {one['status']:<12}  {place:>6}  level {level}"
            + (f"  {near} probable duplicates" if near else "")
            + (f"  {doubts}" if doubts else "")
        )
    if len(receipt.incidents) > ROWS_SHOWN:
        typer.echo(f"and {len(receipt.incidents) - ROWS_SHOWN} more")
    _tell_rejected(rejected, file)
    if receipt.unread:
        typer.echo(f"{file.name}: unread: {', '.join(receipt.unread)}", err=True)
    if receipt.refused:
        typer.echo("nothing would be imported without --partial", err=True)
    verb = "would be accepted" if receipt.dry_run else "accepted"
    counts = f"{receipt.accepted}, duplicates {receipt.duplicates}, rejected {len(rejected)}"
    typer.echo(f"{verb} {counts}")


def _tell_rejected(rows: list[dict[str, Any]], file: Path) -> None:
    for one in rows[:ROWS_SHOWN]:
        where = [] if one["row"] is None else [f"row {one['row']}"]
        where = [f"{where[0]} (line {one['line']})"] if where and "line" in one else where
        told = ", ".join([*where, *([one["field"]] if one["field"] else [])])
        told = f"{told}: {one['reason']}" if told else one["reason"]
        typer.echo(f"rejected: {file.name}: {told}", err=True)
    if len(rows) > ROWS_SHOWN:
        typer.echo(f"{file.name}: and {len(rows) - ROWS_SHOWN} more rows", err=True)


def _write_template(path: Path, plan: str | None, lang: str) -> None:
    makers = {".csv": incident_template_csv, ".xlsx": incident_template_xlsx}
    make = makers.get(path.suffix.lower())
    if make is None:
        raise InvalidInput([Fault("must end in .csv or .xlsx", None, "template")])
    body = make(load_packs(), plan, lang)
    try:
        with path.open("xb") as file:  # a file that somebody has filled in stays
            file.write(body)
    except FileExistsError:
        raise InvalidInput([Fault(f"{path} exists already", None, "template")]) from None
    except OSError as error:
        reason = f"{path} cannot be written: {error.strerror}"
        raise InvalidInput([Fault(reason, None, "template")]) from None
    typer.echo(f"wrote {path}")
