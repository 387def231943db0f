"""Collections as files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Query, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from api.bbox import BBoxDep
from api.deps import At, Caller, LangDep, ServicesDep
from api.export_name import disposition
from api.export_part import Exports, SituationDocument, write_wanted
from api.language import Lang
from api.parts import BuilderPart
from api.routing import make_router
from data.export_files import MEDIA
from data.export_rows import wanted_of
from data.times import parse_time
from geo.errors import Fault, InvalidInput

router = make_router("export")

#: What the header holds of the manifest: lists of columns and sources are too long for proxies.
LEFT_OUT = ("columns", "sources")


@router.get(
    "/v1/export/{collection}.{format}",
    summary="A collection as GeoJSON, GeoPackage, GeoParquet, CSV or XLSX",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in MEDIA.values()}}},
)
def export(
    services: ServicesDep,
    account: Caller,
    language: LangDep,
    collection: str,
    format: str,
    at: At,
    bbox: BBoxDep,
    crs: Annotated[
        str | None,
        Query(max_length=60, description="WGS84, CGCS2000, GCJ-02, BD-09 or EPSG:<n>"),
    ] = None,
    adcode: Annotated[
        list[str] | None,
        Query(
            max_length=200,
            description="Codes of districts, repeated or with commas between them",
            examples=["500103,500108"],
        ),
    ] = None,
    kind: Annotated[str | None, Query(max_length=100)] = None,
    operator: Annotated[str | None, Query(max_length=200)] = None,
    state: Annotated[list[str] | None, Query(max_length=10)] = None,
    plan: Annotated[str | None, Query(max_length=100)] = None,
    since: Annotated[str | None, Query(description="Occurred then or later")] = None,
    possible: bool | None = None,
    open: bool | None = None,
    reporters: Annotated[
        bool, Query(description="With reporters of incidents, for who may read them")
    ] = False,
    lang: Annotated[
        Literal["zh", "en"] | None,
        Query(description="Headers: XLSX are Chinese unless en, CSV the API's names unless zh"),
    ] = None,
) -> Response:
    """districts, facilities, incidents, outages, situation, teams, within the caller's districts; a
    row a feature, all of one moment. The file is sent once it is whole, with its manifest inside;
    the header `Yutu-Manifest` tells rows, filters, sequence and the synthetic share."""
    wanted = wanted_of(
        collection,
        account,
        crs=crs,
        at=at,
        reporters=reporters,
        bbox=bbox,
        adcode=adcode,
        kind=kind,
        operator=operator,
        state=state,
        plan=plan,
        since=_since(since),
        possible=possible,
        open=open,
    )
    configuration = services.configuration
    area = services.get(BuilderPart).area
    situation = SituationDocument(services.packs, configuration.situation, area)
    suffix = format if format in MEDIA else "part"
    with services.get(Exports).place(suffix) as path:
        manifest = write_wanted(
            services.engine, account, wanted, services.packs, situation, path, format, lang
        )
    return _sent(path, manifest, format, language)


def _sent(path: Path, manifest: dict[str, Any], suffix: str, language: Lang) -> Response:
    told = {name: value for name, value in manifest.items() if name not in LEFT_OUT}
    return FileResponse(
        path,
        media_type=MEDIA[suffix],
        headers={
            "Yutu-Manifest": _ascii(told),
            "Cache-Control": "no-store",
            "Content-Disposition": disposition(manifest, suffix, language),
        },
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def _ascii(value: Any) -> str:
    """JSON without a letter beyond ASCII, as a header must be."""
    return json.dumps(value, separators=(",", ":"))


def _since(value: str | None) -> Any:
    if value is None:
        return None
    try:
        return parse_time(re.sub(r" (?=\d{2}:\d{2}$)", "+", value))
    except ValueError as error:
        raise InvalidInput([Fault(str(error), None, "since")]) from None
