"""`yutu export`: a collection into a file, with the city's scope."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Annotated

import typer

from api.bbox import parse_bbox
from api.commands.private_database import newest_database
from api.export_part import SituationDocument, write_wanted
from api.language import parse_at
from data.accounts import Account
from data.database import app_engine
from data.export_collections import COLLECTIONS
from data.export_files import MEDIA
from data.export_rows import wanted_of
from data.rulepacks import load_packs
from data.settings import SituationSettings
from geo.errors import Fault, InvalidInput


def export_command(
    collection: Annotated[str, typer.Argument(help=f"One of {', '.join(COLLECTIONS)}.")],
    file: Annotated[
        Path, typer.Argument(help=f"To write; its ending is one of {', '.join(MEDIA)}.")
    ],
    crs: Annotated[
        str | None, typer.Option(help="WGS84, CGCS2000, GCJ-02, BD-09 or EPSG:<n>.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="As known at that time (RFC 3339).")] = None,
    bbox: Annotated[str | None, typer.Option(help="west,south,east,north, WGS-84.")] = None,
    adcode: Annotated[
        list[str] | None, typer.Option(help="Of this district; may be repeated, or with commas.")
    ] = None,
    kind: Annotated[str | None, typer.Option()] = None,
    operator: Annotated[str | None, typer.Option()] = None,
    state: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    plan: Annotated[str | None, typer.Option(help="Of incidents.")] = None,
    reporters: Annotated[bool, typer.Option("--reporters", help="Of incidents.")] = False,
    lang: Annotated[
        str | None, typer.Option(help="Of headers: xlsx zh unless en, csv en unless zh.")
    ] = None,
) -> None:
    """Write a collection to a file: whole or not at all, its manifest in FILE.manifest.json too."""
    suffix = file.suffix.removeprefix(".").lower()
    if lang not in (None, "en", "zh"):
        raise InvalidInput([Fault("must be en or zh", None, "lang")])
    if not file.parent.is_dir():
        raise InvalidInput([Fault("its folder does not exist", None, "FILE")])
    account = Account(getpass.getuser(), "admin", ("*",))
    wanted = wanted_of(
        collection,
        account,
        crs=crs,
        at=parse_at(at),
        reporters=reporters,
        bbox=parse_bbox(bbox),
        adcode=adcode,
        kind=kind,
        operator=operator,
        state=state,
        plan=plan,
    )
    packs = load_packs()
    situation = SituationDocument(packs, SituationSettings.load())
    with newest_database() as (url, _):
        engine = app_engine(url, pool_size=2, statement_timeout_s=600)
        try:
            manifest = write_wanted(engine, account, wanted, packs, situation, file, suffix, lang)
        finally:
            engine.dispose()
    beside = file.with_name(f"{file.name}.manifest.json")
    beside.write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    typer.echo(f"{manifest['rows']} rows of {collection} in {file}, {manifest['crs']}")
